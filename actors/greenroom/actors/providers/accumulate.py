"""A whole answer out of a stream's events, whatever the provider."""

from collections import deque
from collections.abc import Iterator
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from greenroom.actors.events import (
    Finished,
    FinishReason,
    ReasoningDelta,
    ReasoningState,
    RefusalDelta,
    Started,
    StreamEvent,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from greenroom.actors.providers.wire import NEED_DATA, Completion, NeedData


class Accumulator:
    """Takes the events of one stream in their order; after `Finished` it has the answer that they tell."""

    def __init__(self) -> None:
        self._started = Started()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls: list[tuple[str, str, list[str]]] = []
        self._logprobs: list[TokenLogprob] = []
        self._reason: FinishReason | None = None
        self._state: ReasoningState | None = None
        self.usage: Usage | None = None

    @property
    def content_bytes(self) -> int:
        """How much content came: text, reasoning, refusal, tool calls. No token is less than a byte of it."""
        calls = (text for _, name, pieces in self._calls for text in (name, *pieces))
        return sum(len(text.encode()) for text in (*self._text, *self._reasoning, *self._refusal, *calls))

    def add(self, event: StreamEvent) -> None:
        """Take the next event."""
        if isinstance(event, TextDelta):
            self._text.append(event.text)
            self._logprobs.extend(event.logprobs)
        elif isinstance(event, ReasoningDelta):
            self._reasoning.append(event.text)
        elif isinstance(event, ToolCallDelta):
            self._add_call(event)
        elif isinstance(event, RefusalDelta):
            self._refusal.append(event.text)
        elif isinstance(event, Usage):
            self.usage = event
        elif isinstance(event, ReasoningState):
            self._state = event
        elif isinstance(event, Started):
            self._started = event
        elif isinstance(event, Finished):
            self._reason = event.finish_reason

    def completion(self) -> Completion:
        """The whole answer, its `raw` in OpenAI's `chat.completion` shape. Asked for after `Finished` only."""
        assert self._reason is not None, "the stream has not finished"
        parts = Completion(
            id=self._started.id,
            model=self._started.model,
            text="".join(self._text),
            finish_reason=self._reason,
            usage=self.usage or Usage(),
            usage_reported=self.usage is not None,
            raw=Raw(),
            reasoning="".join(self._reasoning),
            refusal="".join(self._refusal) or None,
            tool_calls=tuple(ToolCall(id_, name, "".join(pieces)) for id_, name, pieces in self._calls),
            logprobs=tuple(self._logprobs),
            reasoning_state=self._state,
        )
        return msgspec.structs.replace(parts, raw=chat_completion(parts, self._started.created_s))

    def _add_call(self, event: ToolCallDelta) -> None:
        if event.index == len(self._calls):
            self._calls.append((event.id, event.name, []))
        self._calls[event.index][2].append(event.arguments)


class Replay:
    """A `StreamDecoder` that tells the events of an answer that came whole."""

    def __init__(self, completion: Completion) -> None:
        self._events = deque(_story(completion))

    def receive(self, data: bytes) -> None:
        """Nothing more is needed."""

    def next_event(self) -> StreamEvent | Literal[NeedData.NEED_DATA]:
        """See `StreamDecoder.next_event`."""
        return self._events.popleft() if self._events else NEED_DATA

    def end(self) -> None:
        """Nothing is missing."""


def _story(completion: Completion) -> Iterator[StreamEvent]:
    yield Started(completion.id, completion.model)
    if completion.reasoning:
        yield ReasoningDelta(completion.reasoning)
    if completion.text or completion.logprobs:
        yield TextDelta(completion.text, completion.logprobs)
    if completion.refusal:
        yield RefusalDelta(completion.refusal)
    for index, call in enumerate(completion.tool_calls):
        yield ToolCallDelta(index, call.arguments, call.id, call.name)
    if completion.usage_reported:
        yield completion.usage
    if completion.reasoning_state is not None:
        yield completion.reasoning_state
    yield Finished(completion.finish_reason)


class _Function(Struct, frozen=True):
    name: str
    arguments: str


class _ToolCall(Struct, frozen=True, tag="function", tag_field="type"):
    id: str
    function: _Function


class _Message(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="assistant", tag_field="role"):
    content: str | None
    refusal: str | None
    reasoning_content: str = ""
    tool_calls: tuple[_ToolCall, ...] = ()


class _Logprobs(Struct, frozen=True):
    content: tuple[TokenLogprob, ...]
    refusal: None = None


class _Choice(Struct, frozen=True):
    message: _Message
    finish_reason: FinishReason
    logprobs: _Logprobs | None
    index: int = 0


class _PromptDetails(Struct, frozen=True):
    cached_tokens: int
    audio_tokens: int


class _CompletionDetails(Struct, frozen=True):
    reasoning_tokens: int
    audio_tokens: int


class _Usage(Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetails
    completion_tokens_details: _CompletionDetails


class _ChatCompletion(Struct, frozen=True, omit_defaults=True, tag="chat.completion", tag_field="object"):
    id: str
    created: int
    model: str
    choices: tuple[_Choice]
    usage: _Usage | None = None


def chat_completion(completion: Completion, created_s: int = 0) -> Raw:
    """An answer as one line of OpenAI's `chat.completion` JSON; its own `raw` is not looked at.

    Reasoning goes by DeepSeek's name, `reasoning_content`, which most compatible servers took over. Usage is left out
    where the provider reported none.
    """
    said = completion.text or not (completion.tool_calls or completion.refusal)
    body = _ChatCompletion(
        id=completion.id,
        created=created_s,
        model=completion.model,
        choices=(
            _Choice(
                _Message(
                    content=completion.text if said else None,
                    refusal=completion.refusal,
                    reasoning_content=completion.reasoning,
                    tool_calls=tuple(
                        _ToolCall(call.id, _Function(call.name, call.arguments))
                        for call in completion.tool_calls
                    ),
                ),
                completion.finish_reason,
                _Logprobs(completion.logprobs) if completion.logprobs else None,
            ),
        ),
        usage=_usage(completion.usage) if completion.usage_reported else None,
    )
    return Raw(msgspec.json.encode(body))


def _usage(usage: Usage) -> _Usage:
    prompt, completion = usage.total_input_tokens, usage.total_output_tokens
    return _Usage(
        prompt,
        completion,
        prompt + completion,
        _PromptDetails(usage.cached_tokens, usage.audio_input_tokens),
        _CompletionDetails(usage.reasoning_tokens, usage.audio_output_tokens),
    )
