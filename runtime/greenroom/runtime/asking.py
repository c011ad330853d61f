"""What a `Runtime` is asked: one question, one answer."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeVar, Unpack, overload

import anyio

from greenroom.actors.asks.cache import ResponseCache
from greenroom.actors.asks.structured import ParsedReply, chat_parsed, form_of_schema, form_of_type
from greenroom.actors.catalog import Choice, Choose, ListModels, ProviderModels, Requirements, Strategy
from greenroom.actors.flow import Reply
from greenroom.actors.flow.embedding import Embeddings
from greenroom.actors.flow.event_stream import EventStream
from greenroom.actors.ledger import GetSpend, Spend
from greenroom.actors.providers.counting import CountedInput
from greenroom.runtime.askers import Askers
from greenroom.runtime.discovery import Chosen
from greenroom.runtime.job import unless_failed
from greenroom.runtime.life import Life
from greenroom.runtime.options import (
    Asked,
    Messages,
    OptionInvalid,
    Options,
    TermsOptions,
    read_embedding,
    read_only_terms,
    read_options,
    read_terms,
)
from greenroom.supervisors.tree import Tree

_T = TypeVar("_T")
_SETTLE_TIMEOUT_S = 5.0


class Asking:
    """The part of `Runtime` that asks models."""

    chosen: Chosen
    _life: Life
    _askers: Askers

    @property
    def cache(self) -> ResponseCache:
        """The answers that are kept; see `cache=` in `Options`."""
        self._running()
        return self._askers.cache

    @overload
    async def chat(
        self,
        model: str | None,
        messages: Messages,
        *,
        response_type: None = None,
        reasks: int = ...,
        **options: Unpack[Options],
    ) -> Reply: ...

    @overload
    async def chat(
        self,
        model: str | None,
        messages: Messages,
        *,
        response_type: type[_T],
        reasks: int = ...,
        **options: Unpack[Options],
    ) -> ParsedReply[_T]: ...

    @overload
    async def chat(
        self,
        model: str | None,
        messages: Messages,
        *,
        response_type: Mapping[str, object],
        reasks: int = ...,
        **options: Unpack[Options],
    ) -> ParsedReply[object]: ...

    async def chat(
        self,
        model: str | None,
        messages: Messages,
        *,
        response_type: type[_T] | Mapping[str, object] | None = None,
        reasks: int = 2,
        **options: Unpack[Options],
    ) -> Reply | ParsedReply[_T] | ParsedReply[object]:
        """Ask a model, and wait for its whole answer.

            reply = await rt.chat(None, "Where is the Eiffel tower?", response_type=Place)
            print(reply.parsed.city)

        Args:
            model: `provider/model`; None: the default model.
            messages: the conversation, as `Message`s or dicts in OpenAI's shape, or one user message's text.
            response_type: what the answer is to be, in `reply.parsed`: a `msgspec.Struct`, a dataclass, a pydantic
                model, or a JSON Schema as a dict. It is asked for as JSON, and decoded strictly.
            reasks: how often an answer that is not of `response_type` is shown to the model with what is wrong.
            **options: see `Options`.

        Where a budget applies and `max_tokens` is None, one is set, and told as `reply.max_tokens_set`.

        Raises:
            Refused: before anything is sent: an unknown or unpriced model, a budget without room
                (`BudgetExceeded`), a database that cannot be written, limits that do not let it start in time
                (`CannotStart`).
            ProviderFailed: no attempt succeeded; `AnswerInvalid`: no answer was of `response_type`.
            OptionInvalid: an option or a message is wrong; it is named.
            TypeError: JSON cannot hold `response_type`, or it is no object there.
            ValueError: the JSON Schema makes no sense or has a word that is not checked, or `reasks` is not 0 to 20.

        Cancelling closes the connection and settles what was used; see `Flow.chat`.
        """
        asked = self._read(model, messages, options)
        asker = self._askers.before(self._running().flow, asked)
        if response_type is None:
            return await asker.chat(asked.request, asked.terms)
        ask = partial(
            chat_parsed, asker, self._life.system.clock, asked.request, reasks=reasks, terms=asked.terms
        )
        if isinstance(response_type, Mapping):
            return await ask(form_of_schema(response_type))
        return await ask(form_of_type(response_type))

    def stream(self, model: str | None, messages: Messages, **options: Unpack[Options]) -> EventStream:
        """Ask a model, and be told its answer as it comes.

            async with rt.stream("openai/gpt-5.4-mini", "Why is the sky blue?") as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        print(event.text, end="")
            print(events.reply.cost_usd)

        Takes what `chat` takes. Nothing is asked before the block is entered; what is raised there and in the
        iteration stands at `EventStream`. Leaving the block early closes the connection and settles what came.

        Raises:
            OptionInvalid: an option or a message is wrong; it is named.
        """
        asked = self._read(model, messages, options)
        return self._askers.before(self._running().flow, asked).stream(asked.request, asked.terms)

    async def embed(
        self,
        model: str,
        texts: str | Sequence[str],
        *,
        dimensions: int | None = None,
        **options: Unpack[TermsOptions],
    ) -> Embeddings:
        """Turn texts into vectors, arrays of 32-bit floats in the order of the texts.

            vectors = await rt.embed("openai/text-embedding-3-small", ["a", "b"])
            print(len(vectors), len(vectors[0]), vectors.cost_usd)

        Args:
            model: `provider/model`.
            texts: one or many; more than a request may hold are asked for one request after another.
            dimensions: shortens the vectors, where the model can.
            **options: see `TermsOptions`; of all requests together.

        Raises:
            OptionInvalid: the model, a text or an option is wrong; it is named.
            ProviderFailed: a text is empty or there is none, the provider has no embeddings, or no attempt succeeded.
            Refused: as `chat`.
        """
        return await self._running().flow.embed(
            read_embedding(model, texts, dimensions), read_only_terms(options)
        )

    async def count_tokens(
        self, model: str | None, messages: Messages, **options: Unpack[Options]
    ) -> CountedInput:
        """How many tokens a conversation has as the input of a model; tools and a response format count along.

            counted = await rt.count_tokens("anthropic/claude-opus-5", "Why is the sky blue?")
            print(counted.input_tokens, counted.estimated)

        Takes what `chat` takes, but for `response_type`. OpenAI, Anthropic, Gemini and Bedrock count, for nothing;
        for others it is estimated from the bytes of the request.

        Raises:
            OptionInvalid: an option or a message is wrong; it is named.
            UnknownModel, Unpriced: as `chat`.
            ProviderFailed: the provider has no words for the request, or no attempt succeeded.
        """
        asked = self._read(model, messages, options)
        return await self._running().flow.count_tokens(asked.request, asked.terms)

    async def models(self, *providers: str, refresh: bool = False) -> tuple[ProviderModels, ...]:
        """What models there are: those that hosts list and those that the configuration names, by provider.

            for found in await rt.models():
                print(found.provider, found.unreachable or [card.model for card in found.models])

        Args:
            *providers: which; none: all in use.
            refresh: whether to ask the hosts anew; else what they said is kept for an hour, a failure for a minute.

        Raises:
            UnknownModel: one of the providers is not in use.
            OptionInvalid: one of them is no name.
        """
        for name in providers:
            if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers need not be typed
                raise OptionInvalid("providers", f"{name!r:.80}; it must be a provider's name")
        asked = self._running().catalog.call(ListModels(providers, refresh=refresh), timeout=None)
        return await unless_failed(asked, self._life.failure)

    async def choose(
        self,
        requirements: Requirements | Mapping[str, object] | None = None,
        *,
        strategy: Strategy = "balanced",
        input_tokens: int = 0,
        output_tokens: int = 0,
    ) -> Choice:
        """Choose a model as `model="AUTO"` would, and explain it; nothing is asked.

            choice = await rt.choose(Requirements(vision=True, max_output_usd_per_mtok=5), strategy="best")
            print(choice.model, choice.reason, [(one.model, one.why) for one in choice.rejected])

        Args:
            requirements: what it must have; no strategy breaks one of them.
            strategy: which of those that have it.
            input_tokens: how many go in, for what the call would cost; 0: not known.
            output_tokens: the most that come out; 0: not known.

        Raises:
            NothingEligible: no model meets the requirements; it says what rejected each, and what would help.
            OptionInvalid: a requirement is wrong; it is named.
        """
        asked = Choose(
            requirements=read_terms({"requirements": requirements}).requirements or Requirements(),
            strategy=strategy,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )
        return await unless_failed(self._running().catalog.call(asked, timeout=None), self._life.failure)

    async def spend(self) -> Spend:
        """What this runtime was charged since it was entered, and what it holds for calls in flight.

        What has ended is counted once it is on disk, which is waited for up to 5 s.
        """
        with anyio.move_on_after(_SETTLE_TIMEOUT_S):
            await self._running().outbox.wait_empty()
        return await unless_failed(self._running().ledger.call(GetSpend()), self._life.failure)

    def _read(self, model: str | None, messages: Messages, options: Options) -> Asked:
        self._running()
        return read_options(model or self.chosen.default_model or "", messages, options)

    def _running(self) -> Tree:
        return self._life.running()
