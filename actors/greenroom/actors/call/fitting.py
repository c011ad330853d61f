"""A request in the words of one model's wire: what the model cannot take is refused by its name, or dropped.

Two tables say what it cannot take: what is known of models (`providers.capabilities`), and each codec for its wire.
"""

from msgspec import structs

from greenroom.actors.catalog import Route
from greenroom.actors.events import ProviderFailed
from greenroom.actors.providers import ChatRequest, ImagePart, Message, WireRequest
from greenroom.actors.providers.capabilities import DROPPABLE, drop_unsupported, refuse_unsupported, without

_IN_MESSAGES = frozenset({"name", "detail"})
"""What may be dropped and stands in the messages: the names of speakers, and how closely an image is looked at."""
_REMEDY = '; leave it out, or say unsupported="drop"'


def encoded(request: ChatRequest, route: Route, *, stream: bool) -> WireRequest:
    """The request for a model, with all that it asks.

    Raises:
        ProviderFailed: with kind `unsupported_capability`, naming what the model cannot take and what would be right;
            with `invalid_request`, naming what makes no sense on any wire.
    """
    try:
        if route.lacks:
            refuse_unsupported(request, route.lacks, route.provider, route.model)
        return route.codec.encode(request, route.model, stream=stream)
    except ProviderFailed as failure:
        error = failure.error
        can_drop = error.kind == "unsupported_capability" and may_drop(request, error.param)
        failure.error = structs.replace(
            error,
            message=error.message + _REMEDY * can_drop,
            provider=route.provider,
            model=route.model,
            attempts=0,
        )
        raise


def fitted(
    request: ChatRequest, route: Route, *, stream: bool, but: tuple[str, ...] = ()
) -> tuple[ChatRequest, tuple[str, ...], WireRequest]:
    """The request for a model, without the options `but` and those that it cannot take, and the names of all these.

    Raises:
        ProviderFailed: as `encoded`, for what is never dropped: the messages, tools, the form and the length of an answer.
    """
    dropped = but
    for name in but:
        request = _without(request, name)
    if route.lacks:
        request, lacking = drop_unsupported(request, route.lacks, route.provider, route.model)
        dropped += lacking
    while True:
        try:
            return request, dropped, encoded(request, route, stream=stream)
        except ProviderFailed as failure:
            error = failure.error
            param = error.param
            # Each is dropped once, so this ends; one that is refused even so is the codec's to explain.
            if error.kind != "unsupported_capability" or param in dropped or not may_drop(request, param):
                raise
        assert param is not None
        request = _without(request, param)
        dropped += (param,)


def may_drop(request: ChatRequest, param: str | None) -> bool:
    """Whether there is still an answer to the question without an option."""
    return param in DROPPABLE or param in _IN_MESSAGES or param in request.extra


def _without(request: ChatRequest, param: str) -> ChatRequest:
    if param not in _IN_MESSAGES or param in request.extra:
        return without(request, (param,))
    return structs.replace(request, messages=tuple(_bare(message, param) for message in request.messages))


def _bare(message: Message, param: str) -> Message:
    if param == "name":
        return structs.replace(message, name=None)
    if not isinstance(message.content, tuple):
        return message
    parts = tuple(
        ImagePart(structs.replace(part.image_url, detail=None)) if isinstance(part, ImagePart) else part
        for part in message.content
    )
    return structs.replace(message, content=parts)
