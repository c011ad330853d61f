"""A client for each wire that the simulator speaks, as small as one can be: to ask the same question on all of them."""

import binascii
import struct
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from tests.simulator.conftest import Client, Reply

Json = dict[str, Any]
SCHEMA: Json = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Heard(msgspec.Struct):
    """An answer in no wire's words."""

    text: str
    finish: str
    tokens_in: int
    tokens_out: int
    calls: list[tuple[str, Json]]


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """A question in no wire's words; what is empty is not asked for."""

    prompt: str
    model: str
    stream: bool
    max_tokens: int = 0
    stop: str = ""
    tool: str = ""
    schema: Json | None = None


class Speaker(msgspec.Struct, frozen=True):
    """How one wire asks and answers.

    `paths` are those of whole and streamed answers; `finishes` its words for stop, length and a wish for tools;
    `worded` puts a question as a request's body, `error` gives the message and the word for programs of an error's body.
    """

    name: str
    paths: tuple[str, str]
    worded: Callable[[Asking], Json]
    whole: Callable[[Json], Heard]
    streamed: Callable[[bytes], Heard]
    headers: dict[str, str]
    finishes: tuple[str, str, str]
    error: Callable[[Json], tuple[str, str]]

    def path(self, model: str = "fast", *, stream: bool = False) -> str:
        return self.paths[stream].format(model=model)

    def body(self, prompt: str, *, model: str, stream: bool, **options: Any) -> Json:
        return self.worded(Asking(prompt=prompt, model=model, stream=stream, **options))

    async def send(
        self, client: Client, prompt: str, *, model: str = "fast", stream: bool = False, **options: Any
    ) -> Reply:
        body = self.body(prompt, model=model, stream=stream, **options)
        return await client.send("POST", self.path(model, stream=stream), json=body, headers=self.headers)

    async def ask(self, client: Client, prompt: str, *, stream: bool = False, **options: Any) -> Heard:
        reply = await self.send(client, prompt, stream=stream, **options)
        assert reply.status == 200, reply.body
        return self.streamed(reply.body) if stream else self.whole(reply.json)


def sse(body: bytes) -> list[Json]:
    """The JSON of a stream's data lines."""
    lines = body.decode().replace("\r\n", "\n").split("\n")
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [msgspec.json.decode(text) for text in data if text != "[DONE]"]


def limits(asked: Asking, max_tokens: str, stop: str) -> Json:
    """Where the answer shall end, in a wire's two words; what is not asked for is left out."""
    wanted: Json = {max_tokens: asked.max_tokens, stop: [asked.stop] if asked.stop else []}
    return {name: value for name, value in wanted.items() if value}


def openai_body(asked: Asking) -> Json:
    body: Json = {"model": asked.model, "messages": [{"role": "user", "content": asked.prompt}]}
    body |= limits(asked, "max_tokens", "stop")
    if asked.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if asked.tool:
        body["tools"] = [{"type": "function", "function": {"name": asked.tool, "parameters": SCHEMA}}]
    if asked.schema:
        form = {"name": "s", "schema": asked.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body


def openai_whole(answer: Json) -> Heard:
    (choice,) = answer["choices"]
    calls = [call["function"] for call in choice["message"].get("tool_calls", [])]
    return Heard(
        choice["message"]["content"] or "",
        choice["finish_reason"],
        answer["usage"]["prompt_tokens"],
        answer["usage"]["completion_tokens"],
        [(call["name"], msgspec.json.decode(call["arguments"])) for call in calls],
    )


def openai_streamed(body: bytes) -> Heard:
    *chunks, last = sse(body)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        for call in delta.get("tool_calls", []):
            name = call["function"].get("name", "")
            known = calls.setdefault(call["index"], [name, ""])
            known[1] += call["function"]["arguments"]
    return Heard(
        "".join(delta.get("content") or "" for delta in deltas),
        chunks[-1]["choices"][0]["finish_reason"],
        last["usage"]["prompt_tokens"],
        last["usage"]["completion_tokens"],
        [(name, msgspec.json.decode(arguments)) for name, arguments in calls.values()],
    )


def responses_body(asked: Asking) -> Json:
    assert not asked.stop, "this wire has no stop sequences"
    body: Json = {"model": asked.model, "input": [{"role": "user", "content": asked.prompt}]}
    if asked.stream:
        body["stream"] = True
    if asked.max_tokens:
        body["max_output_tokens"] = asked.max_tokens
    if asked.tool:
        body["tools"] = [{"type": "function", "name": asked.tool, "parameters": SCHEMA, "strict": True}]
    if asked.schema:
        body["text"] = {"format": {"type": "json_schema", "name": "s", "schema": asked.schema}}
    return body


def responses_whole(answer: Json) -> Heard:
    assert answer["object"] == "response"
    items: list[Json] = answer["output"]
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    calls = [item for item in items if item["type"] == "function_call"]
    return Heard(
        "".join(part["text"] for part in parts),
        (answer["incomplete_details"] or {"reason": answer["status"]})["reason"],
        answer["usage"]["input_tokens"],
        answer["usage"]["output_tokens"],
        [(call["name"], msgspec.json.decode(call["arguments"])) for call in calls],
    )


def responses_streamed(body: bytes) -> Heard:
    """Adds the deltas up, and holds every word of the closing events against them."""
    created, started, *events, ended = sse(body)
    assert [created["type"], started["type"]] == ["response.created", "response.in_progress"]
    numbered = [event["sequence_number"] for event in (created, started, *events, ended)]
    assert numbered == list(range(len(events) + 3))
    items: list[Json] = []
    said = ""
    for event in events:
        match event["type"].removeprefix("response."):
            case "output_item.added":
                assert (event["output_index"], event["item"]["status"]) == (len(items), "in_progress")
                said = ""
            case "output_text.delta" | "function_call_arguments.delta":
                said += event["delta"]
            case "output_text.done":
                assert event["text"] == said
            case "function_call_arguments.done":
                assert event["arguments"] == said
            case "output_item.done":
                items.append(event["item"])
            case kind:
                assert kind in {"content_part.added", "content_part.done"}
    assert ended["type"] == f"response.{ended['response']['status']}"
    assert ended["response"]["output"] == items
    return responses_whole(ended["response"])


def anthropic_body(asked: Asking) -> Json:
    body: Json = {
        "model": asked.model,
        "max_tokens": 4_096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": asked.prompt}]}],
    }
    body |= limits(asked, "max_tokens", "stop_sequences")
    if asked.stream:
        body["stream"] = True
    if asked.tool:
        body["tools"] = [{"name": asked.tool, "input_schema": SCHEMA}]
    if asked.schema:
        body["output_config"] = {"format": {"type": "json_schema", "schema": asked.schema}}
    return body


def anthropic_whole(answer: Json) -> Heard:
    assert (answer["type"], answer["role"]) == ("message", "assistant")
    blocks: list[Json] = answer["content"]
    return Heard(
        "".join(block["text"] for block in blocks if block["type"] == "text"),
        answer["stop_reason"],
        answer["usage"]["input_tokens"],
        answer["usage"]["output_tokens"],
        [(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"],
    )


def anthropic_streamed(body: bytes) -> Heard:
    """Follows the order of events that the reference gives, and adds up what they carry."""
    start, *events, ended, stop = sse(body)
    assert (start["type"], ended["type"], stop["type"]) == ("message_start", "message_delta", "message_stop")
    message: Json = start["message"]
    assert (message["content"], message["stop_reason"]) == ([], None)
    arguments = ""
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
                arguments = ""
            case "content_block_delta":
                delta, block = event["delta"], message["content"][event["index"]]
                if delta["type"] == "text_delta":
                    block["text"] += delta["text"]
                else:
                    arguments += delta["partial_json"]
            case "content_block_stop":
                if arguments:
                    message["content"][event["index"]]["input"] = msgspec.json.decode(arguments)
            case kind:
                assert kind == "ping"
    message["stop_reason"] = ended["delta"]["stop_reason"]
    message["usage"] |= ended["usage"]
    return anthropic_whole(message)


def gemini_body(asked: Asking) -> Json:
    config = limits(asked, "maxOutputTokens", "stopSequences")
    if asked.schema:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": asked.schema}
    body: Json = {
        "contents": [{"role": "user", "parts": [{"text": asked.prompt}]}],
        "generationConfig": config,
    }
    if asked.tool:
        shouted = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}
        body["tools"] = [{"functionDeclarations": [{"name": asked.tool, "parameters": shouted}]}]
    return body


def gemini_whole(answer: Json) -> Heard:
    return gemini_heard([answer])


def gemini_streamed(body: bytes) -> Heard:
    return gemini_heard(sse(body))


def gemini_heard(answers: Iterable[Json]) -> Heard:
    parts: list[Json] = []
    finish, usage = "", dict[str, int]()
    for answer in answers:
        assert not finish, "an event after the one with the finish reason"
        (candidate,) = answer["candidates"]
        parts += candidate["content"]["parts"]
        finish, usage = candidate.get("finishReason", ""), answer["usageMetadata"]
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]
    return Heard(
        "".join(part.get("text", "") for part in parts),
        finish,
        usage["promptTokenCount"],
        usage["candidatesTokenCount"],
        [(call["name"], call["args"]) for call in calls],
    )


def ollama_body(asked: Asking) -> Json:
    body: Json = {"model": asked.model, "messages": [{"role": "user", "content": asked.prompt}]}
    body["options"] = {"num_predict": -1, "num_ctx": 4096} | limits(asked, "num_predict", "stop")
    if not asked.stream:
        body["stream"] = False
    if asked.tool:
        body["tools"] = [{"type": "function", "function": {"name": asked.tool, "parameters": SCHEMA}}]
    if asked.schema:
        body["format"] = asked.schema
    return body


def ollama_whole(answer: Json) -> Heard:
    return ollama_heard([answer])


def ollama_streamed(body: bytes) -> Heard:
    assert body.endswith(b"\n")
    return ollama_heard([msgspec.json.decode(line) for line in body.splitlines()])


def ollama_heard(lines: list[Json]) -> Heard:
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    calls = [call["function"] for line in lines for call in line["message"].get("tool_calls", [])]
    last = lines[-1]
    return Heard(
        "".join(line["message"]["content"] for line in lines),
        last["done_reason"],
        last["prompt_eval_count"],
        last["eval_count"],
        [(call["name"], call["arguments"]) for call in calls],
    )


def bedrock_body(asked: Asking) -> Json:
    body: Json = {
        "messages": [{"role": "user", "content": [{"text": asked.prompt}]}],
        "inferenceConfig": limits(asked, "maxTokens", "stopSequences"),
    }
    if asked.tool:
        body["toolConfig"] = {"tools": [{"toolSpec": {"name": asked.tool, "inputSchema": {"json": SCHEMA}}}]}
    if asked.schema:
        wanted = {"jsonSchema": {"schema": msgspec.json.encode(asked.schema).decode()}}
        body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": wanted}}
    return body


def bedrock_whole(answer: Json) -> Heard:
    assert answer["output"]["message"]["role"] == "assistant"
    blocks: list[Json] = answer["output"]["message"]["content"]
    calls = [block["toolUse"] for block in blocks if "toolUse" in block]
    return Heard(
        "".join(block.get("text", "") for block in blocks),
        answer["stopReason"],
        answer["usage"]["inputTokens"],
        answer["usage"]["outputTokens"],
        [(call["name"], call["input"]) for call in calls],
    )


def bedrock_frames(body: bytes) -> list[tuple[str, Json]]:
    """The messages of an event stream: kind and payload, with both checksums looked at."""
    found: list[tuple[str, Json]] = []
    while body:
        total, headers_size, prelude_sum = struct.unpack_from(">III", body)
        message, body = body[:total], body[total:]
        assert binascii.crc32(message[:8]) == prelude_sum
        assert binascii.crc32(message[:-4]) == struct.unpack(">I", message[-4:])[0]
        headers, at = dict[str, str](), 12
        while at < 12 + headers_size:
            size = message[at]
            name = message[at + 1 : at + 1 + size].decode()
            kind, length = struct.unpack_from(">BH", message, at + 1 + size)
            assert kind == 7
            at += size + 4
            headers[name] = message[at : at + length].decode()
            at += length
        assert headers[":message-type"] == "event"
        found.append((headers[":event-type"], msgspec.json.decode(message[12 + headers_size : -4])))
    return found


def bedrock_streamed(body: bytes) -> Heard:
    start, *events, stop, metadata = bedrock_frames(body)
    assert [start[0], stop[0], metadata[0]] == ["messageStart", "messageStop", "metadata"]
    text, calls = "", list[list[str]]()
    for kind, event in events:
        match kind:
            case "contentBlockStart":
                calls.append([event["start"]["toolUse"]["name"], ""])
            case "contentBlockDelta":
                delta = event["delta"]
                text += delta.get("text", "")
                if "toolUse" in delta:
                    calls[event["contentBlockIndex"]][1] += delta["toolUse"]["input"]
            case _:
                assert kind == "contentBlockStop"
    return Heard(
        text,
        stop[1]["stopReason"],
        metadata[1]["usage"]["inputTokens"],
        metadata[1]["usage"]["outputTokens"],
        [(name, msgspec.json.decode(arguments)) for name, arguments in calls],
    )


OPENAI = Speaker(
    "openai",
    ("/v1/chat/completions", "/v1/chat/completions"),
    openai_body,
    openai_whole,
    openai_streamed,
    {},
    ("stop", "length", "tool_calls"),
    lambda body: (body["error"]["message"], body["error"]["type"]),
)
ANTHROPIC = Speaker(
    "anthropic",
    ("/v1/messages", "/v1/messages"),
    anthropic_body,
    anthropic_whole,
    anthropic_streamed,
    {"anthropic-version": "2026-10-21"},
    ("end_turn", "max_tokens", "tool_use"),
    lambda body: (body["error"]["message"], body["error"]["type"]),
)
GEMINI = Speaker(
    "gemini",
    (
        "/v1beta/models/{model}:generateContent",
        "/v1beta/models/{model}:streamGenerateContent?alt=sse",
    ),
    gemini_body,
    gemini_whole,
    gemini_streamed,
    {},
    ("STOP", "MAX_TOKENS", "STOP"),
    lambda body: (body["error"]["message"], body["error"]["status"]),
)
OLLAMA = Speaker(
    "ollama",
    ("/api/chat", "/api/chat"),
    ollama_body,
    ollama_whole,
    ollama_streamed,
    {},
    ("stop", "length", "stop"),
    lambda body: (body["error"], ""),
)
RESPONSES = Speaker(
    "responses",
    ("/v1/responses", "/v1/responses"),
    responses_body,
    responses_whole,
    responses_streamed,
    {},
    ("completed", "max_output_tokens", "completed"),
    OPENAI.error,
)
BEDROCK = Speaker(
    "bedrock",
    ("/model/{model}/converse", "/model/{model}/converse-stream"),
    bedrock_body,
    bedrock_whole,
    bedrock_streamed,
    {},
    ("end_turn", "max_tokens", "tool_use"),
    lambda body: (body["message"], ""),
)
SPEAKERS = [OPENAI, RESPONSES, ANTHROPIC, GEMINI, OLLAMA, BEDROCK]
