"""What a request itself demands of the model that `AUTO` stands for, and who comes after the one that is chosen."""

import msgspec
from msgspec import structs

from greenroom.actors.call.bounds import ASSUMED_OUTPUT_TOKENS, input_tokens_bound, output_tokens_bound
from greenroom.actors.call.failover import Fallback
from greenroom.actors.catalog import AUTO, Choice, Choose, Requirements, Strategy
from greenroom.actors.prices import pico_usd, usd
from greenroom.actors.providers import ChatRequest, ImagePart
from greenroom.actors.providers.options import JsonSchema, RequestReader

_BYTES_PER_TOKEN = 3
"""Fewer than of most texts, so that what is likely to fit does."""
_IMAGE_TOKENS = 1_500
_FALLBACKS = 3
"""So many of the runners-up take the winner's place, one after another. What none of these can do, time must mend."""
_encode = msgspec.json.Encoder().encode


def wanted(
    request: ChatRequest, requirements: Requirements | None, strategy: Strategy, budget_pusd: int | None
) -> Choose:
    """What to ask the catalogue for: what the caller demands, and what the request cannot do without.

    Args:
        request: what is asked.
        requirements: the caller's own.
        strategy: which of the models that meet them all.
        budget_pusd: the most that the call may be charged, if it has a budget of its own.

    Raises:
        ProviderFailed: with kind `invalid_request`: the request's tools or the form of the answer make no sense.
    """
    needs = requirements or Requirements()
    reader = RequestReader(request, AUTO, AUTO)
    images = [
        part
        for message in request.messages
        if type(message.content) is tuple
        for part in message.content
        if isinstance(part, ImagePart)
    ]
    own_pusd = None if needs.max_usd is None else pico_usd(needs.max_usd)
    most_pusd = min((sum_ for sum_ in (own_pusd, budget_pusd) if sum_ is not None), default=None)
    needs = structs.replace(
        needs,
        vision=needs.vision or bool(images),
        tools=needs.tools or bool(reader.tools()),
        json_schema=needs.json_schema or isinstance(reader.response_format(), JsonSchema),
        max_usd=None if most_pusd is None else f"{usd(most_pusd):f}",
    )
    body_bytes = len(_encode(request))
    image_bytes = sum(len(image.image_url.url) for image in images)
    return Choose(
        requirements=needs,
        strategy=strategy,
        input_tokens=(body_bytes - image_bytes) // _BYTES_PER_TOKEN + len(images) * _IMAGE_TOKENS,
        input_bound=input_tokens_bound(request, body_bytes, ""),
        output_tokens=output_tokens_bound(request) if request.max_tokens else ASSUMED_OUTPUT_TOKENS,
    )


def runners_up(choice: Choice) -> tuple[Fallback, ...]:
    """Who takes the winner's place: the best of each other provider first, since what fails is often all of one."""
    providers = {_provider(choice.model)}
    others: list[str] = []
    kin: list[str] = []
    for one in choice.runners_up:
        provider = _provider(one.model)
        (kin if provider in providers else others).append(one.model)
        providers.add(provider)
    return tuple(Fallback(model, asked=False) for model in (*others, *kin)[:_FALLBACKS])


def _provider(model: str) -> str:
    return model.partition("/")[0]
