"""What the simulator sends for /v1/responses: whole responses, and streams of typed events."""

from collections.abc import Iterator

import msgspec

from greenroom.actors.events import ToolCall
from greenroom.runtime.simulator.engine import Answer, Choice, chunks, count_tokens
from greenroom.runtime.simulator.wires.openai.wire import OpenAIWire
from greenroom.runtime.simulator.wires.reading import Head
from greenroom.runtime.simulator.wires.responses.request import parse_response
from greenroom.runtime.simulator.wires.wire import Asked

# As with completions: fixed by the request, so that equal requests get equal bodies.
_EPOCH_S = 1_767_225_600
_WEEK_S = 604_800
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_Fields = dict[str, object]
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
    for index, item in enumerate(output):
        empty: _Fields = {"arguments": ""} if choice.tool_calls else {"content": []}
        opened = {**item, "status": "in_progress", **empty}
        yield {"type": "response.output_item.added", "output_index": index, "item": opened}, 0
        place: _Fields = {"item_id": item["id"], "output_index": index}
        if choice.tool_calls:
            yield from _call_steps(choice.tool_calls[index], place, sizes)
        else:
            yield from _text_steps(choice.text, place, sizes)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}, 0
    ended = _response(asked, answer, output)
    yield {"type": f"response.{ended['status']}", "response": ended}, 0


def _text_steps(text: str, place: _Fields, sizes: Iterator[int]) -> Iterator[_Step]:
    place = {**place, "content_index": 0}
    yield {"type": "response.content_part.added", **place, "part": _text_part("")}, 0
    for delta, tokens in chunks(text, sizes):
        yield {"type": "response.output_text.delta", **place, "delta": delta, "logprobs": []}, tokens
    yield {"type": "response.output_text.done", **place, "text": text, "logprobs": []}, 0
    yield {"type": "response.content_part.done", **place, "part": _text_part(text)}, 0


def _call_steps(call: ToolCall, place: _Fields, sizes: Iterator[int]) -> Iterator[_Step]:
    kind = "response.function_call_arguments"
    yield {"type": f"{kind}.delta", **place, "delta": ""}, count_tokens(call.name)
    for delta, tokens in chunks(call.arguments, sizes):
        yield {"type": f"{kind}.delta", **place, "delta": delta}, tokens
    yield {"type": f"{kind}.done", **place, "name": call.name, "arguments": call.arguments}, 0


def _output(asked: Asked, choice: Choice) -> list[_Fields]:
    mark = asked.question.key[:12].hex()
    status = "incomplete" if choice.finish in _INCOMPLETE else "completed"
    if not choice.tool_calls:
        content = [_text_part(choice.text)]
        message = {"id": f"msg_{mark}", "type": "message", "role": "assistant"}
        return [{**message, "status": status, "content": content}]
    return [
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


def _text_part(text: str) -> _Fields:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


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
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }
