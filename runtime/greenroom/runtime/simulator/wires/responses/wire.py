"""What the simulator sends for /v1/responses: whole responses, and streams of typed events."""

from collections.abc import Iterator

import msgspec

from greenroom.actors.events import ToolCall
from greenroom.runtime.simulator.engine import (
    Answer,
    Choice,
    chunks,
    count_tokens,
    pieces,
    token_chunks,
)
from greenroom.runtime.simulator.wires.openai.wire import OpenAIWire
from greenroom.runtime.simulator.wires.reading import Head
from greenroom.runtime.simulator.wires.responses.request import THOUGHTS_SHOWN, parse_response
from greenroom.runtime.simulator.wires.wire import Asked, sealed, token_logprobs

# As with completions: fixed by the request, so that equal requests get equal bodies.
_EPOCH_S = 1_767_225_600
_WEEK_S = 604_800
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_Fields = dict[str, object]
_EMPTY: dict[str, _Fields] = {
    "message": {"content": []},
    "function_call": {"arguments": ""},
    "reasoning": {"summary": []},
}
"""What an item that is only announced lacks."""
_Step = tuple[_Fields, int]
_encode = msgspec.json.Encoder().encode


class ResponsesWire(OpenAIWire):
    """See `Wire`."""

    def parse(self, body: bytes, head: Head) -> Asked:
        return parse_response(body, head)

    def counted(self, tokens: int) -> bytes:
        """The answer to a request for the count of its tokens."""
        return _encode({"object": "response.input_tokens", "input_tokens": tokens})

    def whole(self, asked: Asked, answer: Answer) -> bytes:
        return _encode(_response(asked, answer, _output(asked, answer.choices[0])))

    def events(self, asked: Asked, answer: Answer, sizes: Iterator[int]) -> Iterator[tuple[bytes, int]]:
        for number, (fields, tokens) in enumerate(_steps(asked, answer, sizes)):
            event = {"type": fields["type"], "sequence_number": number, **fields}
            yield b"event: %s\ndata: %s\n\n" % (str(fields["type"]).encode(), _encode(event)), tokens


def _steps(asked: Asked, answer: Answer, sizes: Iterator[int]) -> Iterator[_Step]:
    choice = answer.choices[0]
    begun = _response(asked, None, [])
    yield {"type": "response.created", "response": begun}, 0
    yield {"type": "response.in_progress", "response": begun}, 0
    output = _output(asked, choice)
    calls = iter(choice.tool_calls)
    for index, item in enumerate(output):
        opened = {**item, "status": "in_progress", **_EMPTY[str(item["type"])]}
        yield {"type": "response.output_item.added", "output_index": index, "item": opened}, 0
        place: _Fields = {"item_id": item["id"], "output_index": index}
        if item["type"] == "function_call":
            yield from _call_steps(next(calls), place, sizes)
        elif item["type"] == "message":
            yield from _text_steps(asked, choice.text, place, sizes)
        elif asked.form == THOUGHTS_SHOWN:
            yield from _thought_steps(choice.thoughts, place, sizes)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}, 0
    ended = _response(asked, answer, output)
    yield {"type": f"response.{ended['status']}", "response": ended}, 0


def _thought_steps(thoughts: str, place: _Fields, sizes: Iterator[int]) -> Iterator[_Step]:
    place = {**place, "summary_index": 0}
    kind = "response.reasoning_summary"
    yield {"type": f"{kind}_part.added", **place, "part": _summary_part("")}, 0
    for delta, tokens in chunks(thoughts, sizes):
        yield {"type": f"{kind}_text.delta", **place, "delta": delta}, tokens
    yield {"type": f"{kind}_text.done", **place, "text": thoughts}, 0
    yield {"type": f"{kind}_part.done", **place, "part": _summary_part(thoughts)}, 0


def _text_steps(asked: Asked, text: str, place: _Fields, sizes: Iterator[int]) -> Iterator[_Step]:
    place = {**place, "content_index": 0}
    yield {"type": "response.content_part.added", **place, "part": _text_part("", [])}, 0
    for chunk in token_chunks(text, sizes):
        delta, logprobs = "".join(chunk), _logprobs(asked, chunk)
        yield (
            {"type": "response.output_text.delta", **place, "delta": delta, "logprobs": logprobs},
            len(chunk),
        )
    logprobs = _logprobs(asked, pieces(text))
    yield {"type": "response.output_text.done", **place, "text": text, "logprobs": logprobs}, 0
    yield {"type": "response.content_part.done", **place, "part": _text_part(text, logprobs)}, 0


def _call_steps(call: ToolCall, place: _Fields, sizes: Iterator[int]) -> Iterator[_Step]:
    kind = "response.function_call_arguments"
    yield {"type": f"{kind}.delta", **place, "delta": ""}, count_tokens(call.name)
    for delta, tokens in chunks(call.arguments, sizes):
        yield {"type": f"{kind}.delta", **place, "delta": delta}, tokens
    yield {"type": f"{kind}.done", **place, "name": call.name, "arguments": call.arguments}, 0


def _output(asked: Asked, choice: Choice) -> list[_Fields]:
    mark = asked.question.key[:12].hex()
    status = "incomplete" if choice.finish in _INCOMPLETE else "completed"
    thoughts: list[_Fields] = []
    if choice.thoughts:
        summary = [_summary_part(choice.thoughts)] if asked.form == THOUGHTS_SHOWN else []
        thought: _Fields = {"id": f"rs_{mark}", "type": "reasoning", "summary": summary}
        thoughts.append({**thought, "encrypted_content": sealed(choice.thoughts)})
    if not choice.tool_calls:
        content = [_text_part(choice.text, _logprobs(asked, pieces(choice.text)))]
        message: _Fields = {"id": f"msg_{mark}", "type": "message", "role": "assistant"}
        return [*thoughts, {**message, "status": status, "content": content}]
    return thoughts + [
        {
            "id": f"fc_{mark}{index}",
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            "status": status,
        }
        for index, call in enumerate(choice.tool_calls)
    ]


def _text_part(text: str, logprobs: list[_Fields]) -> _Fields:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _summary_part(text: str) -> _Fields:
    return {"type": "summary_text", "text": text}


def _logprobs(asked: Asked, tokens: list[str]) -> list[_Fields]:
    return token_logprobs(asked.question, tokens) or []


def _response(asked: Asked, answer: Answer | None, output: list[_Fields]) -> _Fields:
    """A response; without an answer yet, one in progress."""
    key, reason = asked.question.key, None
    if answer is not None:
        reason = _INCOMPLETE.get(answer.choices[0].finish)
    return {
        "id": f"resp_{key[:12].hex()}",
        "object": "response",
        "created_at": _EPOCH_S + int.from_bytes(key[12:16], "big") % _WEEK_S,
        "status": "in_progress" if answer is None else "incomplete" if reason else "completed",
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": None,
        "max_output_tokens": asked.question.max_tokens,
        "metadata": {},
        "model": asked.question.model,
        "output": output,
        "parallel_tool_calls": asked.question.parallel_calls,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None if answer is None else _usage(answer),
    }


def _usage(answer: Answer) -> _Fields:
    return {
        "input_tokens": answer.prompt_tokens,
        "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0},
        "output_tokens": answer.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }
