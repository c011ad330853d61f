"""What a request looks like on Gemini's wire. The expected JSON is written out by hand, after Google's reference."""

from typing import Any

import pytest
from msgspec import Raw
from tests.providers.asking import (
    IMAGE,
    IMAGE_BY_URL,
    LOOKED,
    PARAMETERS,
    PIXEL,
    QUESTION,
    SCHEMA,
    body_of,
    raw,
    refusal,
    schema_format,
    tool,
)
from tests.providers.oracles import needs, official

from greenroom.actors.events import ReasoningState
from greenroom.actors.providers import (
    ChatRequest,
    FunctionCall,
    Gemini,
    ImagePart,
    ImageUrl,
    Message,
    RequestedTool,
    TextPart,
)
from greenroom.actors.settings import Secret

Json = dict[str, Any]
CODEC = Gemini("gemini")
BARE: Json = {"contents": [{"parts": [{"text": "Why?"}], "role": "user"}]}
TOOLS = [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": PARAMETERS}]}]


def config(**fields: Any) -> Json:
    return {"generationConfig": fields}


def calling(**fields: Any) -> Json:
    return {"tools": TOOLS, "toolConfig": {"functionCallingConfig": fields}}


OPTIONS: list[tuple[Json, Json]] = [
    ({}, {}),
    ({"max_tokens": 7}, config(maxOutputTokens=7)),
    ({"temperature": 0.0, "top_p": 0.5}, config(temperature=0.0, topP=0.5)),
    ({"stop": "END"}, config(stopSequences=["END"])),
    ({"stop": ("a", "b")}, config(stopSequences=["a", "b"])),
    ({"seed": 0}, config(seed=0)),
    (
        {"presence_penalty": -1.0, "frequency_penalty": 0.5},
        config(presencePenalty=-1.0, frequencyPenalty=0.5),
    ),
    ({"logprobs": True, "top_logprobs": 3}, config(responseLogprobs=True, logprobs=3)),
    ({"logprobs": False, "top_logprobs": 0}, {}),
    (
        {"reasoning_effort": "high"},
        config(thinkingConfig={"includeThoughts": True, "thinkingLevel": "HIGH"}),
    ),
    ({"reasoning_effort": "none"}, config(thinkingConfig={"thinkingBudget": 0})),
    ({"response_format": raw({"type": "json_object"})}, config(responseMimeType="application/json")),
    (
        {"response_format": schema_format(strict=True)},
        config(responseMimeType="application/json", responseJsonSchema=SCHEMA),
    ),
    ({"tools": raw([tool()])}, {"tools": TOOLS}),
    (
        {"tools": raw([{"type": "function", "function": {"name": "now", "description": "Tells."}}])},
        {"tools": [{"functionDeclarations": [{"name": "now", "description": "Tells."}]}]},
    ),
    ({"tools": raw([tool()]), "tool_choice": raw("auto")}, calling(mode="AUTO")),
    ({"tools": raw([tool()]), "tool_choice": raw("none")}, calling(mode="NONE")),
    ({"tools": raw([tool()]), "tool_choice": raw("required")}, calling(mode="ANY")),
    (
        {"tools": raw([tool()]), "tool_choice": raw({"type": "function", "function": {"name": "weather"}})},
        calling(mode="ANY", allowedFunctionNames=["weather"]),
    ),
    ({"tools": raw([tool(strict=True)])}, calling(mode="VALIDATED")),
    ({"parallel_tool_calls": False}, {}),
    (
        {"max_tokens": 5, "extra": {"topK": Raw(b"40"), "safetySettings": Raw(b"[]"), "n": Raw(b"1")}},
        config(maxOutputTokens=5, topK=40) | {"safetySettings": []},
    ),
    ({"extra": {"topK": Raw(b"40")}}, config(topK=40)),
    ({"extra": {"generationConfig": raw({"topK": 2})}}, config(topK=2)),
]


@pytest.mark.parametrize(("options", "expected"), OPTIONS)
def test_each_option_has_its_place(options: Json, expected: Json) -> None:
    assert body_of(CODEC, ChatRequest(model="p/m", messages=QUESTION, **options)) == BARE | expected


def test_models_that_know_no_thinking_levels_get_budgets() -> None:
    request = ChatRequest(model="p/m", messages=QUESTION, reasoning_effort="medium")
    assert (
        b'"thinkingConfig":{"includeThoughts":true,"thinkingBudget":8192}'
        in CODEC.encode(request, "gemini-2.5-flash").body
    )
    assert b'"thinkingLevel":"MEDIUM"' in CODEC.encode(request, "gemini-3.8-flash").body


@pytest.mark.parametrize(
    ("kind", "param", "options"),
    [
        ("unsupported_capability", "user", {"user": "u-1"}),
        (
            "unsupported_capability",
            "parallel_tool_calls",
            {"tools": raw([tool()]), "parallel_tool_calls": False},
        ),
        ("unsupported_capability", "reasoning_effort", {"reasoning_effort": "max"}),
        ("unsupported_capability", "n", {"extra": {"n": Raw(b"2")}}),
        ("unsupported_capability", "name", {"messages": (Message("user", "hi", name="ann"),)}),
        (
            "unsupported_capability",
            "detail",
            {"messages": (Message("user", (ImagePart(ImageUrl(IMAGE.image_url.url, "low")),)),)},
        ),
        (
            "unsupported_capability",
            "messages",
            {"messages": (Message("tool", (IMAGE,), tool_call_id="c", name="f"),)},
        ),
        ("invalid_request", "messages", {"messages": (Message("tool", "42", tool_call_id="nobody"),)}),
        ("invalid_request", "tools", {"tools": raw([{"type": "web_search"}])}),
        (
            "invalid_request",
            "thinkingConfig",
            {"reasoning_effort": "low", "extra": {"thinkingConfig": Raw(b"{}")}},
        ),
        ("invalid_request", "generationConfig", {"seed": 1, "extra": {"generationConfig": Raw(b"{}")}}),
        (
            "invalid_request",
            "reasoning_state",
            {"messages": (Message("assistant", "x", reasoning_state=ReasoningState("gemini", Raw(b"[7]"))),)},
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(kind: str, param: str, options: Json) -> None:
    assert refusal(CODEC, **options) == (kind, param)


def test_a_conversation_with_parallel_tools() -> None:
    body = body_of(CODEC, ChatRequest(model="p/m", messages=LOOKED))
    assert body["systemInstruction"] == {"parts": [{"text": "Be short."}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "How warm is it "}, {"text": "in Oslo and in Rome?"}]},
        {
            "role": "model",
            "parts": [
                {"text": "I look."},
                {"functionCall": {"name": "weather", "args": {"city": "Oslo"}, "id": "call_1"}},
                {"functionCall": {"name": "weather", "args": {}, "id": "call_2"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "weather", "response": {"output": "-3"}, "id": "call_1"}},
                {"functionResponse": {"name": "weather", "response": {"output": "17"}, "id": "call_2"}},
            ],
        },
        {"role": "user", "parts": [{"text": "And now?"}]},
    ]


def test_a_tools_json_object_is_its_response() -> None:
    for text, response in [('{"c": -3}', {"c": -3}), ("[1]", {"output": "[1]"}), ("", {"output": ""})]:
        message = Message("tool", text, tool_call_id="c", name="f")
        (content,) = body_of(CODEC, ChatRequest(model="p/m", messages=(message,)))["contents"]
        assert content["parts"][0]["functionResponse"]["response"] == response


def test_images_by_bytes_and_by_url() -> None:
    bare_url = ImagePart(ImageUrl("https://h.example/image?id=7.png"))
    message = Message("user", (TextPart("What is it?"), IMAGE, IMAGE_BY_URL, bare_url))
    (content,) = body_of(CODEC, ChatRequest(model="p/m", messages=(message,)))["contents"]
    assert content["parts"] == [
        {"text": "What is it?"},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        {"fileData": {"fileUri": "https://h.example/x.png", "mimeType": "image/png"}},
        {"fileData": {"fileUri": "https://h.example/image?id=7.png"}},
    ]


def test_signatures_go_back_to_their_parts() -> None:
    state = raw([{"signature": "c2ln", "call": 1}, {"signature": "dGV4dA==", "call": None}])
    calls = tuple(RequestedTool(id_, FunctionCall("f", "{}")) for id_ in ("a", "b"))

    def parts(wire: str, content: str | None = "hm") -> Any:
        message = Message("assistant", content, tool_calls=calls, reasoning_state=ReasoningState(wire, state))
        return body_of(CODEC, ChatRequest(model="p/m", messages=(message,)))["contents"][0]["parts"]

    assert [part.get("thoughtSignature") for part in parts("gemini")] == ["dGV4dA==", None, "c2ln"]
    assert [part.get("thoughtSignature") for part in parts("gemini", None)] == ["dGV4dA==", None, "c2ln"]
    assert [part.get("thoughtSignature") for part in parts("anthropic-messages")] == [None, None, None]


def test_paths_and_headers() -> None:
    request = ChatRequest(model="p/m", messages=QUESTION)
    assert CODEC.encode(request, "gemini-x").path == "/models/gemini-x:generateContent"
    assert CODEC.encode(request, "tunedModels/x").path == "/tunedModels/x:generateContent"
    assert CODEC.encode(request, "a?b#ü").path == "/models/a%3Fb%23%C3%BC:generateContent"
    streamed = CODEC.encode(request, "gemini-x", stream=True)
    assert streamed.path == "/models/gemini-x:streamGenerateContent?alt=sse"
    assert streamed.body == CODEC.encode(request, "gemini-x").body
    assert CODEC.session_headers(Secret("k")) == {"x-goog-api-key": "k"}
    assert CODEC.session_headers(None) == {}


def one_by_one(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType] - any JSON


@needs("google.genai")
def test_the_official_clients_types_take_every_body() -> None:
    types = official("google.genai.types")
    places = {
        "contents": types.Content,
        "systemInstruction": types.Content,
        "tools": types.Tool,
        "toolConfig": types.ToolConfig,
        "generationConfig": types.GenerationConfig,
        "safetySettings": types.SafetySetting,
    }
    signed = Message(
        "assistant",
        "x",
        tool_calls=(RequestedTool("a", FunctionCall("f", "{}")),),
        reasoning_state=ReasoningState("gemini", raw([{"signature": "c2ln", "call": 0}])),
    )
    requests = [ChatRequest(model="m", messages=QUESTION, **options) for options, _ in OPTIONS]
    requests += [
        ChatRequest(model="m", messages=m)
        for m in (LOOKED, (signed,), (Message("user", (IMAGE, IMAGE_BY_URL)),))
    ]
    for request in requests:
        for name, value in body_of(CODEC, request).items():
            for one in one_by_one(value):
                taken = places[name].model_validate(one)
                assert taken.model_dump(mode="json", by_alias=True, exclude_unset=True) == one
