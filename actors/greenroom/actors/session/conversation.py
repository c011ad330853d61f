"""A turn of a session, on the task of whoever speaks: ask for the floor, ask the model, have it recorded.

    Begin -> what is shown -> flow -> Said -> the floor is given back

The actor may be killed at any of these arrows: each message is sent again to the next incarnation, which knows from
`Memory` who has the floor and from the rows what was recorded.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from msgspec import Struct, structs

from greenroom.actors.asks import Asker
from greenroom.actors.catalog import Resolve, is_auto
from greenroom.actors.events import CallEvent, Finished, ProviderFailed
from greenroom.actors.flow import Flow, Reply, Terms
from greenroom.actors.flow.event_stream import EventStream
from greenroom.actors.kernel import ActorRef, Call, Overloaded
from greenroom.actors.ledger import Account, Budget
from greenroom.actors.providers import ChatRequest, Message
from greenroom.actors.providers.options import ASSUMED_OUTPUT_TOKENS
from greenroom.actors.session.messages import Begin, Next, Said
from greenroom.actors.session.state import (
    Entry,
    Granted,
    Memory,
    SessionRefused,
    SessionSettings,
    TooLong,
)
from greenroom.actors.session.window import SUMMARY_PREFIX, Shown, room_bytes, size_of, tokens_per_byte

Before = Callable[[Asker], Asker]
"""What is put before who asks, such as tools or kept answers."""
_T = TypeVar("_T")
_SHRINK = 0.7
_SHRINKS = 3
"""How often less is shown after a provider said that it was too long; our sizes are reckoned, its are counted."""
_SUMMARY_TOKENS = 1_000
_TIMEOUT_S = 120.0
_WITHOUT_LIMIT = 10**9


class _AskActor(Protocol):
    def __call__(self, message: Call[_T], /) -> Coroutine[Any, Any, _T]: ...


def _unchanged(asker: Asker) -> Asker:
    return asker


class Awake(Struct, frozen=True):
    """A session's actor by name, and what outlives it."""

    ref: ActorRef
    memory: Memory


class _Ask(Struct, frozen=True):
    """What is to be said: the request with nothing but the newest messages, and who pays."""

    request: ChatRequest
    terms: Terms


class Conversation:
    """One session, from the outside.

    Args:
        session_id: its name.
        wake: has its actor awake.
        flow: the way of a call.
        next_ticket: a number never given before, in any process.
        catalog: the catalogue, by name.
        default_model: who is asked where neither the session nor the request says.
    """

    def __init__(
        self,
        session_id: str,
        *,
        wake: Callable[[str], Awaitable[Awake]],
        flow: Flow,
        next_ticket: Callable[[], int],
        catalog: ActorRef,
        default_model: str | None,
    ) -> None:
        self.id = session_id
        self._wake = wake
        self._flow = flow
        self._unless_closed = flow.unless_closed
        self.next_ticket = next_ticket
        self._catalog = catalog
        self._default_model = default_model

    async def ask(self, message: Call[_T]) -> _T:
        """Ask the actor, awake or not."""
        async with self._awake() as awake:
            return await self._unless_closed(partial(awake.ref.call, message, timeout=_TIMEOUT_S))

    @asynccontextmanager
    async def floor(self, *, for_turn: bool = True) -> AsyncGenerator["Floor"]:
        """Have the floor: nobody else says or changes anything in this session meanwhile.

        Args:
            for_turn: something is to be said, for which there must be room.

        Raises:
            SessionRefused: there is no such session, too many wait, or a limit is reached.
        """
        ticket = self.next_ticket()
        async with self._awake() as awake:
            try:
                granted = await self._unless_closed(
                    partial(awake.ref.call, Begin(ticket, for_turn), timeout=None)
                )
                yield Floor(self.ask, ticket, granted)
            finally:
                awake.memory.give_back(ticket)
                with suppress(Overloaded):  # then so many wait that each of them will look who is next
                    awake.ref.cast(Next(ticket))

    async def say(self, request: ChatRequest, terms: Terms, before: Before = _unchanged) -> Reply:
        """Say something, and wait for the whole answer; both are on disk when this returns.

        Args:
            request: its messages are what is said now; its `model` may be empty: the session's.
            terms: as for any call; the session's account and budget are added.
            before: what stands before the flow, such as tools.

        Raises:
            SessionRefused, StorageFailed: see `SessionRefused`'s subclasses.
            Refused, ProviderFailed: as `Flow.chat`; nothing is recorded then, and the next turn is as if this one had
                not been tried.

        Cancelling records nothing; what was used is settled as with any call.
        """
        async with self.floor() as floor:
            ask = self._ask(floor.granted.settings, request, terms)
            for shrunk in range(_SHRINKS + 1):
                whole = await self._whole(floor, ask, _SHRINK**shrunk)
                try:
                    reply = await before(self._flow).chat(whole, ask.terms)
                except ProviderFailed as failure:
                    if failure.error.kind != "context_length" or shrunk == _SHRINKS:
                        raise
                    continue
                await self._record(floor, ask, whole, reply)
                return reply
        raise AssertionError("the last try returns or raises")

    def stream(self, request: ChatRequest, terms: Terms, before: Before = _unchanged) -> "SessionStream":
        """Say something, and be told the answer as it comes. Arguments as `say`; see `SessionStream`."""
        return SessionStream(self._streamed(request, terms, before))

    @asynccontextmanager
    async def _streamed(
        self, request: ChatRequest, terms: Terms, before: Before
    ) -> AsyncGenerator["_Speaking"]:
        async with self.floor() as floor:
            ask = self._ask(floor.granted.settings, request, terms)
            whole = await self._whole(floor, ask, 1.0)
            async with before(self._flow).stream(whole, ask.terms) as events:
                yield _Speaking(events, partial(self._record, floor, ask, whole))

    @asynccontextmanager
    async def _awake(self) -> AsyncGenerator[Awake]:
        wake = partial(self._wake, self.id)
        awake = await self._unless_closed(wake)
        awake.memory.users += 1
        try:
            # It may have fallen asleep between being awake and our word that it is needed.
            yield await self._unless_closed(wake)
        finally:
            awake.memory.users -= 1

    def _ask(self, settings: SessionSettings, request: ChatRequest, terms: Terms) -> _Ask:
        budgets = terms.account.budgets
        if settings.budget_pusd is not None:
            budgets = (*budgets, Budget("session", settings.budget_pusd))
        account = Account(
            job_id=terms.account.job_id,
            session_id=self.id,
            key_id=terms.account.key_id,
            tag=terms.account.tag or settings.tag,
            budgets=budgets,
        )
        model = request.model or settings.model or self._default_model or ""
        return _Ask(structs.replace(request, model=model), structs.replace(terms, account=account))

    async def _whole(self, floor: "Floor", ask: _Ask, share: float) -> ChatRequest:
        """The request with as much of the conversation as fits, a summary made first where there has to be one."""
        while True:
            granted = floor.granted
            room = await self._room(granted, ask, share)
            shown = Shown(
                granted.settings.window, granted.settings.system, granted.entries, ask.request.messages, room
            )
            if not shown.to_summarise:
                return structs.replace(ask.request, messages=shown.messages)
            await self._summarise(floor, ask, shown.to_summarise, room)

    async def _room(self, granted: Granted, ask: _Ask, share: float) -> int:
        window = granted.settings.window
        tokens = window.max_tokens or await self._context_tokens(ask.request.model)
        if tokens is None:
            # Nobody knows: all is shown, and less where the provider says that it was too much.
            told = size_of(tuple(m for entry in granted.entries for m in entry.messages))
            return _WITHOUT_LIMIT if share == 1 else int(told * share) + size_of(ask.request.messages)
        answer = ask.request.max_tokens or min(ASSUMED_OUTPUT_TOKENS, tokens // 4)
        if answer >= tokens:
            raise TooLong(f"an answer of {answer} tokens leaves no room in a context of {tokens}")
        beside = len(ask.request.tools) if isinstance(ask.request.tools, bytes) else 0
        return max(room_bytes(int((tokens - answer) * share), tokens_per_byte(granted.entries)) - beside, 0)

    async def _context_tokens(self, model: str) -> int | None:
        if is_auto(model):
            return None  # a model is chosen that has room for what is sent
        route = await self._catalog.call(Resolve(model))
        return route.context_tokens

    async def _summarise(self, floor: "Floor", ask: _Ask, entries: tuple[Entry, ...], room: int) -> None:
        """Have what no longer fits summarised, record that, and go on with it in its place."""
        settings = floor.granted.settings
        first = floor.granted.entries[0]
        before = first.messages if first.kind == "summary" else ()
        told = _transcript((*before, *(m for entry in entries for m in entry.messages)))
        demand = (
            "Summarise the conversation below for the assistant who will go on with it: facts, names, numbers, "
            "decisions, open questions and what the user wants. Nothing but the summary.\n\n"
        )
        request = ChatRequest(
            model=settings.window.summary_model or ask.request.model,
            messages=(Message("user", demand + _end_of(told, max(room - len(demand), 1_000))),),
            max_tokens=_SUMMARY_TOKENS,
        )
        reply = await self._flow.chat(request, ask.terms)
        if not reply.text.strip():
            raise SessionRefused(
                f"{request.model} was to summarise session {self.id!r} and said nothing ({reply.finish_reason}); "
                "give its window another summary_model"
            )
        said = Said(
            ticket=floor.ticket,
            id=self.next_ticket(),
            messages=(Message("system", SUMMARY_PREFIX + reply.text),),
            covers_seq=entries[-1].seq,
            model=reply.model,
            cost_pusd=reply.cost_pusd,
            input_tokens=reply.usage.total_input_tokens,
            output_tokens=reply.usage.total_output_tokens,
        )
        entry = await floor.ask(said)
        rest = tuple(one for one in floor.granted.entries if one.kind == "turn" and one.seq > entries[-1].seq)
        floor.granted = structs.replace(floor.granted, entries=(entry, *rest), head_seq=entry.seq)

    async def _record(self, floor: "Floor", ask: _Ask, whole: ChatRequest, reply: Reply) -> None:
        said = Said(
            ticket=floor.ticket,
            id=self.next_ticket(),
            messages=(*ask.request.messages, *reply.new_messages),
            model=f"{reply.provider}/{reply.model}",
            cost_pusd=reply.cost_pusd,
            input_tokens=reply.usage.total_input_tokens,
            output_tokens=reply.usage.total_output_tokens,
            sent_bytes=size_of(whole.messages),
        )
        await floor.ask(said)


class Floor:
    """The floor of a session.

    Attributes:
        ask: asks the actor, such as to record something.
        ticket: by which it was granted.
        granted: what was said before.
    """

    def __init__(self, ask: "_AskActor", ticket: int, granted: Granted) -> None:
        self.ask = ask
        self.ticket = ticket
        self.granted = granted


class SessionStream:
    """The events of one answer in a session: `async with session.stream(...) as events`, then `async for`.

    As `EventStream`, and: the floor is had from entering the block to leaving it, and the turn is on disk before
    `Finished` is told. A stream that is left early, or fails, records nothing.
    """

    def __init__(self, opening: AbstractAsyncContextManager["_Speaking"]) -> None:
        self._opening = opening
        self._speaking: _Speaking | None = None

    async def __aenter__(self) -> Self:
        """Wait for the floor, then for the first content. Raises as `Conversation.say`, except for a provider's failure."""
        self._speaking = await self._opening.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opening.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CallEvent:
        """The next event. Raises as `EventStream`, and what `Conversation.say` raises where the turn is not recorded."""
        speaking = self._entered()
        event = await anext(speaking.events)
        if type(event) is Finished:
            await speaking.finished(speaking.events.reply)
        return event

    @property
    def reply(self) -> Reply:
        """The whole answer. Raises as `EventStream.reply`."""
        return self._entered().events.reply

    async def finish(self) -> Reply:
        """Take the rest of the events, and return the whole answer. Raises as the iteration does."""
        async for _ in self:
            pass
        return self.reply

    def _entered(self) -> "_Speaking":
        if self._speaking is None:
            raise RuntimeError("a stream is read within `async with ... as events:`")
        return self._speaking


class _Speaking(Struct, frozen=True):
    """An answer that comes, and what is to be done when it has come."""

    events: EventStream
    finished: Callable[[Reply], Awaitable[None]]


def _transcript(messages: tuple[Message, ...]) -> str:
    lines: list[str] = []
    for message in messages:
        content = message.content
        if isinstance(content, tuple):
            content = " ".join(getattr(part, "text", "(an image)") for part in content)
        calls = "".join(
            f" [calls {tool.function.name}({tool.function.arguments})]" for tool in message.tool_calls or ()
        )
        lines.append(f"{message.role}: {content or ''}{calls}")
    return "\n".join(lines)


def _end_of(text: str, most_bytes: int) -> str:
    return text.encode()[-most_bytes:].decode(errors="ignore")
