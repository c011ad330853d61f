"""POST /v1/chat/completions as it arrives: bytes to a `Question`, or a `WireError` that names the field."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from greenroom.runtime.simulator.engine import Json, Question, Tool, Turn
from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.reading import (
    Part,
    Refusal,
    Text,
    convert,
    digests,
    frame_bytes,
    json_object,
    refuse_unknown,
)
from greenroom.runtime.simulator.wires.wire import Asked


class _Text(Text, tag="text"):
    pass


class _ImageUrl(msgspec.Struct):
    url: str


class _Image(Part, tag="image_url"):
    images: ClassVar[int] = 1
    image_url: _ImageUrl


class _InputAudio(msgspec.Struct):
    data: str
    format: Literal["wav", "mp3"]


class _Audio(Part, tag="input_audio"):
    input_audio: _InputAudio


class _File(Part, tag="file"):
    file: dict[str, str]


_Parts = Annotated[list[_Text | _Image | _Audio | _File | Refusal], Meta(min_length=1)]


class _Message(msgspec.Struct, tag_field="role"):
    role: ClassVar[str] = ""
    content: str | _Parts


class _System(_Message, tag="system"):
    role: ClassVar[str] = "system"


class _Developer(_Message, tag="developer"):
    role: ClassVar[str] = "developer"


class _User(_Message, tag="user"):
    role: ClassVar[str] = "user"


class _CalledFunction(msgspec.Struct):
    name: str
    arguments: str


class _CalledTool(msgspec.Struct):
    id: str
    type: Literal["function"]
    function: _CalledFunction


class _Assistant(msgspec.Struct, tag_field="role", tag="assistant"):
    role: ClassVar[str] = "assistant"
    content: str | _Parts | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[_CalledTool], Meta(min_length=1)] | None = None


class _ToolResult(_Message, tag="tool"):
    role: ClassVar[str] = "tool"
    tool_call_id: str


_AnyMessage = _System | _Developer | _User | _Assistant | _ToolResult


class _JsonSchema(msgspec.Struct):
    name: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class _TextFormat(msgspec.Struct, tag_field="type", tag="text"):
    pass


class _ObjectFormat(msgspec.Struct, tag_field="type", tag="json_object"):
    pass


class _SchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema"):
    json_schema: _JsonSchema


class _Function(msgspec.Struct):
    name: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _FunctionTool(msgspec.Struct):
    type: Literal["function"]
    function: _Function


class _FunctionName(msgspec.Struct):
    name: str


class _ToolChoice(msgspec.Struct):
    type: Literal["function"]
    function: _FunctionName


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _ChatBody(msgspec.Struct, kw_only=True):
    """The fields that the simulator reads. What it accepts and leaves aside stands in `_LEFT_ASIDE`."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[_AnyMessage], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Meta(min_length=1, max_length=4)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    response_format: _TextFormat | _ObjectFormat | _SchemaFormat | None = None
    tools: Annotated[list[_FunctionTool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | _ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    modalities: list[Literal["text"]] | None = None


# Part of the published request, without effect on what is simulated.
_LEFT_ASIDE = frozenset({
    "logit_bias", "moderation", "prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "safety_identifier", "service_tier", "store", "user", "verbosity",
})  # fmt: skip
# Part of the published request; the simulator would have to make up what they ask for.
_NOT_SIMULATED = frozenset({"audio", "functions", "function_call", "web_search_options"})
_KNOWN = frozenset(_ChatBody.__struct_fields__) | _LEFT_ASIDE | _NOT_SIMULATED
# The same question whole or streamed, tagged or not, gets the same answer.
_NO_PART_OF_THE_QUESTION = (
    "stream", "stream_options", "metadata", "store", "user", "safety_identifier", "service_tier",
    "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
)  # fmt: skip


def parse_chat(body: bytes) -> Asked:
    """Decodes and checks a chat completion request.

    Raises:
        WireError: With status 400 and, wherever one field is to blame, its name in `param`.
    """
    fields = json_object(body)
    refuse_unknown(fields, _KNOWN)
    _refuse_not_simulated(fields)
    asked = convert(fields, _ChatBody)
    _refuse_combinations(asked)
    framed = frame_bytes(fields, ("tools", "response_format"))
    prompt_sha256, key = digests(fields, "messages", _NO_PART_OF_THE_QUESTION)
    options = asked.stream_options
    return Asked(
        question=_question(asked, key, framed),
        prompt_sha256=prompt_sha256,
        stream=bool(asked.stream),
        include_usage=bool(options and options.include_usage),
        custom_id=(asked.metadata or {}).get("custom_id"),
    )


def _refuse_not_simulated(fields: dict[str, Json]) -> None:
    for name in sorted(_NOT_SIMULATED.intersection(fields)):
        if fields[name] is not None:
            raise WireError(
                400,
                f"Unsupported parameter: the simulator has no '{name}'.",
                param=name,
                code="unsupported_parameter",
            )


def _refuse_combinations(asked: _ChatBody) -> None:
    if asked.max_tokens is not None and asked.max_completion_tokens is not None:
        raise WireError(
            400,
            "Set either 'max_tokens' or 'max_completion_tokens', not both.",
            param="max_tokens",
            code="invalid_parameter_combination",
        )
    if asked.stream_options is not None and not asked.stream:
        raise WireError(400, "'stream_options' is for requests with 'stream': true.", param="stream_options")
    if asked.top_logprobs is not None and not asked.logprobs:
        raise WireError(400, "'top_logprobs' is for requests with 'logprobs': true.", param="top_logprobs")
    for at, message in enumerate(asked.messages):
        if isinstance(message, _Assistant) and not (message.content or message.tool_calls or message.refusal):
            place = f"messages[{at}].content"
            raise WireError(
                400,
                f"Invalid '{place}': an assistant message has content or tool_calls.",
                param=place,
                code="invalid_value",
            )
    names = {tool.function.name for tool in asked.tools or ()}
    if asked.tool_choice is not None and not names and asked.tool_choice != "none":
        raise WireError(400, "'tool_choice' is for requests with 'tools'.", param="tool_choice")
    if isinstance(asked.tool_choice, _ToolChoice) and asked.tool_choice.function.name not in names:
        raise WireError(
            400,
            f"'tool_choice' names {asked.tool_choice.function.name!r}, which is none of the tools.",
            param="tool_choice",
            code="invalid_value",
        )


def _question(asked: _ChatBody, key: bytes, framed: int) -> Question:
    wanted = asked.response_format
    schema = None
    if isinstance(wanted, _SchemaFormat):
        schema = wanted.json_schema.schema or {}
    elif isinstance(wanted, _ObjectFormat):
        schema = {}
    stop = asked.stop
    choice = asked.tool_choice
    return Question(
        model=asked.model,
        turns=tuple([_turn(message) for message in asked.messages]),
        key=key,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        choices=asked.n or 1,
        schema=schema,
        tools=() if choice == "none" else tuple([_tool(tool.function) for tool in asked.tools or ()]),
        must_call=choice.function.name
        if isinstance(choice, _ToolChoice)
        else ""
        if choice == "required"
        else None,
        parallel_calls=asked.parallel_tool_calls is not False,
        frame_bytes=framed,
        thinks=asked.reasoning_effort not in {None, "none"},
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
    )


def _tool(function: _Function) -> Tool:
    return Tool(function.name, function.description or "", function.parameters or {})


def _turn(message: _AnyMessage) -> Turn:
    content = message.content
    if isinstance(content, str):
        return Turn(message.role, content)
    calls = message.tool_calls or () if isinstance(message, _Assistant) else ()
    words = [f"{call.function.name}{call.function.arguments}" for call in calls]
    parts = content or ()
    return Turn(
        message.role, "".join([*(part.words() for part in parts), *words]), sum(part.images for part in parts)
    )
