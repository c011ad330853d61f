"""The streamed answer on OpenAI's Responses wire: server-sent events, each a change of the response object.

Shapes: OpenAI's API reference, "Streaming events". Of some sixty kinds those are listened to that bring content, items,
and the end; all others only repeat or announce these. `response.completed`, `.incomplete`, `.failed` or `error` is last.
"""

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, structs

from greenroom.actors.events import (
    Finished,
    ProviderError,
    ProviderFailed,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
)
from greenroom.actors.providers.decoder import FrameDecoder
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.openai.errors import OpenAIError, as_error
from greenroom.actors.providers.responses.answer import (
    BETWEEN_THOUGHTS,
    Item,
    Response,
    decode_item,
    finish_reason,
    reasoning_state,
    usage_of,
)
from greenroom.actors.providers.sse import ServerSentEvent, SseSplitter
from greenroom.actors.providers.wire import RejectedAnswer

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_THOUGHTS = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})


class _Event(Struct, gc=False):
    type: str
    response: Response | None = None
    item: Raw | UnsetType = UNSET
    output_index: int = -1
    content_index: int = -1
    summary_index: int = -1
    delta: str | UnsetType = UNSET
    arguments: str = ""
    logprobs: list[TokenLogprob] | None = None
    error: OpenAIError | None = None
    code: Raw | UnsetType = UNSET
    message: Raw | UnsetType = UNSET
    param: Raw | UnsetType = UNSET


class _Call(Struct):
    """A function call under way."""

    number: int
    argued: bool = False


_decode_event = msgspec.json.Decoder(_Event).decode


class ResponseStreamDecoder(FrameDecoder[ServerSentEvent]):
    """A `StreamDecoder`."""

    def __init__(self) -> None:
        super().__init__(SseSplitter())
        self._started = False
        self._calls: dict[int, _Call] = {}
        self._thinking_at: tuple[int, int, int] | None = None
        self._reasoning: list[Raw] = []

    def take(self, frame: ServerSentEvent) -> None:
        """See `FrameDecoder.take`."""
        if not frame.data:
            return
        try:
            event = _decode_event(frame.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedAnswer(f"{error}; the event begins {excerpt(frame.data)!r}") from None
        if event.type == "error":
            error_object = event.error or OpenAIError(event.message, param=event.param, code=event.code)
            found = as_error(error_object)
            self.close(found if found.message else structs.replace(found, message=excerpt(frame.data)))
            return
        if event.response is not None and not self._started:
            self._started = True
            response = event.response
            self.tell(Started(response.id, response.model, int(response.created_at)))
        if not self._started:
            raise RejectedAnswer(f"{event.type} before the response was created")
        if event.delta is not UNSET:
            self._take_delta(event, event.delta)
        elif event.item is not UNSET:
            self._take_item(event, event.item)
        elif event.type == "response.function_call_arguments.done":
            self._take_arguments(event)
        elif event.type in _ENDS:
            self._end(event.response or Response())

    def ending(self) -> Finished | ProviderError:
        """See `FrameDecoder.ending`."""
        return self.truncated("the event that ends the response")

    def _take_delta(self, event: _Event, delta: str) -> None:
        kind = event.type
        if kind == "response.output_text.delta":
            if delta or event.logprobs:
                self.tell(TextDelta(delta, tuple(event.logprobs or ())))
        elif not delta:
            return
        elif kind == "response.function_call_arguments.delta":
            call = self._call(event)
            call.argued = True
            self.tell(ToolCallDelta(call.number, delta))
        elif kind in _THOUGHTS:
            where = (event.output_index, event.summary_index, event.content_index)
            if self._thinking_at not in {None, where}:
                delta = BETWEEN_THOUGHTS + delta
            self._thinking_at = where
            self.tell(ReasoningDelta(delta))
        elif kind == "response.refusal.delta":
            self.tell(RefusalDelta(delta))

    def _take_item(self, event: _Event, raw: Raw) -> None:
        item = decode_item(raw)
        if event.type == "response.output_item.added" and item.type == "function_call":
            self._open_call(event, item)
        elif event.type == "response.output_item.done" and item.type == "reasoning":
            # The one that is added may lack the end of what is encrypted.
            self._reasoning.append(Raw(bytes(raw)))

    def _open_call(self, event: _Event, item: Item) -> None:
        if not item.name:
            raise RejectedAnswer("a function call without a name")
        call = self._calls[event.output_index] = _Call(len(self._calls), argued=bool(item.arguments))
        self.tell(ToolCallDelta(call.number, item.arguments, item.call_id, item.name))

    def _take_arguments(self, event: _Event) -> None:
        call = self._call(event)
        if not call.argued and event.arguments:
            call.argued = True
            self.tell(ToolCallDelta(call.number, event.arguments))

    def _call(self, event: _Event) -> _Call:
        call = self._calls.get(event.output_index)
        if call is None:
            raise RejectedAnswer(f"arguments of output item {event.output_index}, which is no function call")
        return call

    def _end(self, response: Response) -> None:
        usage = usage_of(response)
        if usage is not None:
            self.tell(usage)
        try:
            reason = finish_reason(response, len(self._calls))
        except ProviderFailed as failure:
            self.close(failure.error)
            return
        state = reasoning_state(self._reasoning)
        if state is not None:
            self.tell(state)
        self.close(Finished(reason))
