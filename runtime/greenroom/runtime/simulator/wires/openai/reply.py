"""What the simulator sends on OpenAI's wire: whole completions, streams of chunks, lists of models."""

from collections.abc import Iterable, Iterator
from itertools import zip_longest

import msgspec
from msgspec import UNSET, UnsetType

from greenroom.actors.events import ToolCall
from greenroom.runtime.simulator.engine import (
    Answer,
    Choice,
    Model,
    Question,
    chunks,
    count_tokens,
    pieces,
    token_chunks,
)
from greenroom.runtime.simulator.wires.wire import token_logprobs

# `created` is a fixed second of this week, chosen by the request, so that equal requests get equal bodies. A real
# clock would make every comparison of two runs leave the field out; nothing on the wire promises that it is now.
_EPOCH_S = 1_767_225_600
_WEEK_S = 604_800
_FINGERPRINT = "fp_greenroom"


class _Called(msgspec.Struct):
    name: str
    arguments: str


class _Call(msgspec.Struct):
    id: str
    function: _Called
    type: str = "function"


class _Message(msgspec.Struct):
    """OpenAI keeps thoughts to itself; `reasoning_content` is how DeepSeek shows them, and most compatible hosts."""

    role: str
    content: str | None
    refusal: None = None
    annotations: tuple[()] = ()
    tool_calls: list[_Call] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET


class _Logprobs(msgspec.Struct):
    content: list[dict[str, object]]
    refusal: None = None


class _WholeChoice(msgspec.Struct):
    index: int
    message: _Message
    finish_reason: str
    logprobs: _Logprobs | None = None


class _PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: int = 0
    audio_tokens: int = 0


class _CompletionDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetails = _PromptDetails()
    completion_tokens_details: _CompletionDetails = _CompletionDetails()


class _Completion(msgspec.Struct):
    id: str
    created: int
    model: str
    choices: list[_WholeChoice]
    usage: _Usage
    object: str = "chat.completion"
    service_tier: str = "default"
    system_fingerprint: str = _FINGERPRINT


class _CallDelta(msgspec.Struct):
    index: int
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: dict[str, str] | UnsetType = UNSET


class _Delta(msgspec.Struct):
    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    refusal: UnsetType | None = UNSET
    tool_calls: list[_CallDelta] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET


class _ChunkChoice(msgspec.Struct):
    index: int
    delta: _Delta
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    id: str
    created: int
    model: str
    choices: list[_ChunkChoice]
    usage: _Usage | UnsetType | None = UNSET
    object: str = "chat.completion.chunk"
    service_tier: str = "default"
    system_fingerprint: str = _FINGERPRINT


class _ModelRow(msgspec.Struct):
    id: str
    created: int
    object: str = "model"
    owned_by: str = "greenroom"


class _ModelList(msgspec.Struct):
    data: list[_ModelRow]
    object: str = "list"


_encode = msgspec.json.Encoder().encode


def whole_body(question: Question, answer: Answer) -> bytes:
    """The body of a completion that is answered in one piece. Equal questions give equal bytes, `id` included."""
    mark, created = _identity(question)
    choices = [
        _WholeChoice(at, _message(choice), choice.finish, _logprobs(question, pieces(choice.text)))
        for at, choice in enumerate(answer.choices)
    ]
    return _encode(_Completion(mark, created, question.model, choices, _usage(answer)))


def stream_events(
    question: Question, answer: Answer, sizes: Iterator[int], *, include_usage: bool
) -> Iterator[tuple[bytes, int]]:
    """The same completion as server-sent events, `data: [DONE]` included.

    Args:
        question: The request.
        answer: What is delivered.
        sizes: How many tokens each chunk holds.
        include_usage: Whether a last chunk without choices carries the usage, and all others `"usage": null`.

    Yields:
        Each event's bytes, and how many tokens it delivers.
    """
    mark, created = _identity(question)
    no_usage = None if include_usage else UNSET

    def event(choices: list[_ChunkChoice], usage: _Usage | UnsetType | None = no_usage) -> bytes:
        return b"data: " + _encode(_Chunk(mark, created, question.model, choices, usage)) + b"\n\n"

    for at, choice in enumerate(answer.choices):
        opening = _Delta(role="assistant", content=None if choice.tool_calls else "", refusal=None)
        yield event([_ChunkChoice(at, opening)]), 0
    numbered = [
        [(at, *step) for step in _deltas(question, choice, sizes)] for at, choice in enumerate(answer.choices)
    ]
    for together in zip_longest(*numbered):
        for step in together:
            if step is not None:
                at, delta, tokens, logprobs = step
                yield event([_ChunkChoice(at, delta, logprobs)]), tokens
    for at, choice in enumerate(answer.choices):
        yield event([_ChunkChoice(at, _Delta(), finish_reason=choice.finish)]), 0
    if include_usage:
        yield event([], _usage(answer)), 0
    yield b"data: [DONE]\n\n", 0


def models_body(models: Iterable[Model]) -> bytes:
    """The body of GET /v1/models."""
    return _encode(_ModelList([_ModelRow(model.id, model.created) for model in models]))


def one_model_body(model: Model) -> bytes:
    """The body of GET /v1/models/{id}."""
    return _encode(_ModelRow(model.id, model.created))


def _identity(question: Question) -> tuple[str, int]:
    """The completion's id and second, both made from the request's digest."""
    key = question.key
    return f"chatcmpl-{key[:12].hex()}", _EPOCH_S + int.from_bytes(key[12:16], "big") % _WEEK_S


def _message(choice: Choice) -> _Message:
    thoughts = choice.thoughts or UNSET
    if not choice.tool_calls:
        return _Message("assistant", choice.text, reasoning_content=thoughts)
    calls = [_Call(call.id, _Called(call.name, call.arguments)) for call in choice.tool_calls]
    return _Message("assistant", None, tool_calls=calls, reasoning_content=thoughts)


def _logprobs(question: Question, tokens: list[str]) -> _Logprobs | None:
    found = token_logprobs(question, tokens)
    return None if found is None else _Logprobs(found)


def _usage(answer: Answer) -> _Usage:
    prompt, completion = answer.prompt_tokens, answer.completion_tokens
    details = _CompletionDetails(answer.reasoning_tokens)
    return _Usage(prompt, completion, prompt + completion, completion_tokens_details=details)


def _deltas(
    question: Question, choice: Choice, sizes: Iterator[int]
) -> Iterator[tuple[_Delta, int, _Logprobs | None]]:
    for text, tokens in chunks(choice.thoughts, sizes):
        yield _Delta(reasoning_content=text), tokens, None
    if not choice.tool_calls:
        for chunk in token_chunks(choice.text, sizes):
            yield _Delta(content="".join(chunk)), len(chunk), _logprobs(question, chunk)
    for index, call in enumerate(choice.tool_calls):
        yield _Delta(tool_calls=[_opening(index, call)]), count_tokens(call.name), None
        for text, tokens in chunks(call.arguments, sizes):
            yield _Delta(tool_calls=[_CallDelta(index, function={"arguments": text})]), tokens, None


def _opening(index: int, call: ToolCall) -> _CallDelta:
    return _CallDelta(index, call.id, "function", {"name": call.name, "arguments": ""})
