"""POST models/{model}:generateContent as it arrives: bytes to a `Question`, or a `WireError` that names the field."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from greenroom.runtime.simulator.engine import Json, Question, Schema, Tool, Turn
from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.reading import (
    Head,
    convert,
    digests,
    frame_bytes,
    json_object,
    refuse_unknown,
)
from greenroom.runtime.simulator.wires.wire import Asked

STREAMING = "streamGenerateContent"
THOUGHTS_SHOWN = "thoughts shown"
COUNTING = "countTokens"


class _Camel(msgspec.Struct, rename="camel"):
    pass


class _Blob(_Camel):
    mime_type: str
    data: str


class _FunctionCall(_Camel):
    name: str
    args: dict[str, Any] | None = None
    id: str | None = None


class _FunctionResponse(_Camel):
    name: str
    response: dict[str, Any]
    id: str | None = None


class _Part(_Camel):
    text: str | None = None
    inline_data: _Blob | None = None
    file_data: dict[str, str] | None = None
    function_call: _FunctionCall | None = None
    function_response: _FunctionResponse | None = None
    thought: bool | None = None

    def words(self) -> str:
        if self.function_call is not None:
            return self.function_call.name + msgspec.json.encode(self.function_call.args or {}).decode()
        if self.function_response is not None:
            return msgspec.json.encode(self.function_response.response).decode()
        return "" if self.thought else self.text or ""

    @property
    def is_image(self) -> bool:
        return self.inline_data is not None and self.inline_data.mime_type.startswith("image/")


class _Content(_Camel):
    parts: Annotated[list[_Part], Meta(min_length=1)]
    role: Literal["user", "model", "function", "tool", "system"] | None = None


class _Declaration(_Camel):
    name: Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_.:-]{0,127}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None


class _Tools(_Camel, forbid_unknown_fields=True):
    function_declarations: list[_Declaration] | None = None


class _Calling(_Camel):
    mode: Literal["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"] | None = None
    allowed_function_names: list[str] | None = None


class _ToolConfig(_Camel):
    function_calling_config: _Calling | None = None


class _ThinkingConfig(_Camel):
    """Google takes either spelling of a name, and its own client sends these as they were written."""

    include_thoughts: bool = False
    thinking_budget: int | None = None
    thinking_level: str | None = None
    shown: bool = msgspec.field(name="include_thoughts", default=False)
    budget: int | None = msgspec.field(name="thinking_budget", default=None)
    level: str | None = msgspec.field(name="thinking_level", default=None)

    @property
    def thoughts_shown(self) -> bool:
        return self.include_thoughts or self.shown

    @property
    def thinks(self) -> bool:
        return 0 not in (self.thinking_budget, self.budget)


class _Config(_Camel):
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=5)] | None = None
    candidate_count: Annotated[int, Meta(ge=1, le=8)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[float, Meta(ge=0)] | None = None
    seed: int | None = None
    response_mime_type: Literal["text/plain", "application/json", "text/x.enum"] | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    response_logprobs: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    thinking_config: _ThinkingConfig | None = None


class _Body(_Camel, kw_only=True):
    contents: Annotated[list[_Content], Meta(min_length=1)]
    system_instruction: _Content | None = None
    tools: list[_Tools] | None = None
    tool_config: _ToolConfig | None = None
    generation_config: _Config | None = None


# Part of the published request, without effect on what is simulated.
_LEFT_ASIDE = frozenset({"cachedContent", "labels", "safetySettings", "serviceTier", "store", "model"})
_KNOWN = frozenset({"contents", "systemInstruction", "tools", "toolConfig", "generationConfig"}) | _LEFT_ASIDE


def parse_contents(body: bytes, head: Head) -> Asked:
    """Decodes and checks a request for content, or for the count of its tokens.

    Raises:
        WireError: With status 400 and, wherever one field is to blame, its name in `param`.
    """
    model, _, verb = head.path.partition("/models/")[2].rpartition(":")
    if verb == STREAMING and head.query.get("alt") != "sse":
        raise WireError(400, "The simulator streams server-sent events only: add ?alt=sse.", param="alt")
    fields = json_object(body)
    if verb == COUNTING and isinstance(whole := fields.get("generateContentRequest"), dict):
        fields = whole
    refuse_unknown(fields, _KNOWN)
    asked = convert(fields, _Body)
    _refuse_combinations(asked)
    config = fields.get("generationConfig")
    read = {**config, **fields} if isinstance(config, dict) else fields
    framed = frame_bytes(read, ("tools", "responseSchema", "responseJsonSchema"))
    prompt_sha256, key = digests(fields | {"model": model}, "contents", _LEFT_ASIDE.difference({"model"}))
    return Asked(
        question=_question(model, asked, key, framed),
        prompt_sha256=prompt_sha256,
        stream=verb == STREAMING,
        form=THOUGHTS_SHOWN if _thinking(asked).thoughts_shown else "",
    )


def _thinking(asked: _Body) -> _ThinkingConfig:
    config = asked.generation_config
    return (config and config.thinking_config) or _ThinkingConfig(thinking_budget=0)


def _declarations(asked: _Body) -> list[_Declaration]:
    return [found for tools in asked.tools or () for found in tools.function_declarations or ()]


def _refuse_combinations(asked: _Body) -> None:
    calling = asked.tool_config.function_calling_config if asked.tool_config else None
    names = {declared.name for declared in _declarations(asked)}
    for name in (calling and calling.allowed_function_names) or ():
        if name not in names:
            message = f"allowed_function_names: {name!r} is none of the function declarations."
            raise WireError(400, message, param="tool_config.function_calling_config.allowed_function_names")
    config = asked.generation_config
    if config is not None and config.response_schema and config.response_json_schema:
        message = "Set either response_schema or response_json_schema, not both."
        raise WireError(400, message, param="generation_config.response_json_schema")


def _question(model: str, asked: _Body, key: bytes, framed: int) -> Question:
    config = asked.generation_config or _Config()
    calling = (asked.tool_config and asked.tool_config.function_calling_config) or _Calling()
    turns = [_turn(content) for content in asked.contents]
    if asked.system_instruction is not None:
        turns.insert(0, Turn("system", _turn(asked.system_instruction).text))
    must_call = None
    if calling.mode == "ANY":
        names = calling.allowed_function_names or []
        must_call = names[0] if len(names) == 1 else ""
    declared = [] if calling.mode == "NONE" else _declarations(asked)
    return Question(
        model=model,
        turns=tuple(turns),
        key=key,
        max_tokens=config.max_output_tokens,
        stop=tuple(config.stop_sequences or ()),
        choices=config.candidate_count or 1,
        schema=_wanted(config),
        tools=tuple([_tool(function) for function in declared]),
        must_call=must_call,
        frame_bytes=framed,
        thinks=_thinking(asked).thinks,
        logprobs=(config.logprobs or 0) if config.response_logprobs else None,
    )


def _wanted(config: _Config) -> Schema | None:
    if config.response_json_schema is not None:
        return config.response_json_schema
    if config.response_schema is not None:
        return _json_schema(config.response_schema)
    return {} if config.response_mime_type == "application/json" else None


def _tool(function: _Declaration) -> Tool:
    schema = function.parameters_json_schema or _json_schema(function.parameters or {})
    return Tool(function.name, function.description or "", schema)


def _turn(content: _Content) -> Turn:
    results = any(part.function_response is not None for part in content.parts)
    role = "tool" if results else "assistant" if content.role == "model" else "user"
    words = "".join([part.words() for part in content.parts])
    return Turn(role, words, sum(part.is_image for part in content.parts))


def _json_schema(schema: dict[str, Json]) -> Schema:
    """Gemini's Schema, a part of OpenAPI 3.0 with types in capitals, as JSON Schema."""
    found: Schema = {}
    for name, value in schema.items():
        if name == "type" and isinstance(value, str):
            found["type"] = value.lower()
        elif name == "properties" and isinstance(value, dict):
            found[name] = {key: _inner(inner) for key, inner in value.items()}
        elif name == "anyOf" and isinstance(value, list):
            found[name] = [_inner(inner) for inner in value]
        elif name == "items":
            found[name] = _inner(value)
        elif name in {"minItems", "maxItems", "minLength", "maxLength"} and str(value).isdecimal():
            # 64-bit numbers are strings in the JSON form of protocol buffers.
            found[name] = int(str(value))
        elif name not in {"nullable", "propertyOrdering", "example"}:
            found[name] = value
    return found


def _inner(value: Json) -> Json:
    return _json_schema(value) if isinstance(value, dict) else value
