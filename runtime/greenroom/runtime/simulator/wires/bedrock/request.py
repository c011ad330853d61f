"""POST /model/{id}/converse as it arrives: bytes to a `Question`, or a `WireError` that names the field."""

from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

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

STREAMING = "converse-stream"
COUNTING = "count-tokens"


class _Camel(msgspec.Struct, rename="camel"):
    pass


class _ToolUse(_Camel):
    tool_use_id: str
    name: str
    input: dict[str, Any]


class _Result(_Camel):
    text: str | None = None
    json: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    document: dict[str, Any] | None = None


class _ToolResult(_Camel):
    tool_use_id: str
    content: list[_Result]
    status: Literal["success", "error"] | None = None


class _Block(_Camel):
    """One block of a message: exactly one of its fields is there."""

    text: str | None = None
    image: dict[str, Any] | None = None
    document: dict[str, Any] | None = None
    tool_use: _ToolUse | None = None
    tool_result: _ToolResult | None = None
    reasoning_content: dict[str, Any] | None = None
    cache_point: dict[str, Any] | None = None

    def words(self) -> str:
        if self.tool_use is not None:
            return self.tool_use.name + msgspec.json.encode(self.tool_use.input).decode()
        return self.text or ""


class _Message(_Camel):
    role: Literal["user", "assistant"]
    content: Annotated[list[_Block], Meta(min_length=1)]


class _System(_Camel):
    text: str | None = None
    cache_point: dict[str, Any] | None = None


class _Inference(_Camel):
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=2_500)] | None = None


class _InputSchema(_Camel):
    json: dict[str, Any]


class _Spec(_Camel):
    name: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
    input_schema: _InputSchema
    description: str | None = None
    strict: bool | None = None


class _Tool(_Camel):
    tool_spec: _Spec | None = None
    cache_point: dict[str, Any] | None = None


class _Named(_Camel):
    name: str


class _Choice(_Camel):
    auto: dict[str, Any] | None = None
    any: dict[str, Any] | None = None
    tool: _Named | None = None


class _ToolConfig(_Camel):
    tools: Annotated[list[_Tool], Meta(min_length=1)]
    tool_choice: _Choice | None = None


class _JsonSchema(_Camel):
    schema: str
    name: str | None = None
    description: str | None = None


class _Structure(_Camel):
    json_schema: _JsonSchema


class _TextFormat(_Camel):
    type: Literal["json_schema"]
    structure: _Structure


class _Output(_Camel):
    text_format: _TextFormat | None = None
    effort: str | None = None


class _Body(_Camel, kw_only=True):
    KNOWN: ClassVar[frozenset[str]] = frozenset({
        "messages", "system", "inferenceConfig", "toolConfig", "outputConfig", "requestMetadata",
    })  # fmt: skip
    messages: Annotated[list[_Message], Meta(min_length=1)]
    system: list[_System] | None = None
    inference_config: _Inference | None = None
    tool_config: _ToolConfig | None = None
    output_config: _Output | None = None
    request_metadata: dict[str, str] | None = None


# Part of the published request, without effect on what is simulated.
_LEFT_ASIDE = frozenset({
    "additionalModelRequestFields", "additionalModelResponseFieldPaths", "guardrailConfig", "performanceConfig",
    "promptVariables", "serviceTier",
})  # fmt: skip


def parse_converse(body: bytes, head: Head) -> Asked:
    """Decodes and checks a request for a turn of a conversation, or for the count of its tokens; model and kind of
    answer stand in the path.

    Raises:
        WireError: With status 400 and, wherever one field is to blame, its name in `param`.
    """
    model, _, verb = head.path.removeprefix("/model/").rpartition("/")
    stream = verb == STREAMING
    fields = json_object(body)
    if verb == COUNTING:
        fields = _converse_input(fields)
    refuse_unknown(fields, _Body.KNOWN | _LEFT_ASIDE)
    asked = convert(fields, _Body)
    _refuse_combinations(asked)
    framed = frame_bytes(fields, ("toolConfig", "outputConfig"))
    prompt_sha256, key = digests(fields | {"model": model}, "messages", ("requestMetadata", *_LEFT_ASIDE))
    return Asked(
        question=_question(model, asked, key, framed),
        prompt_sha256=prompt_sha256,
        stream=stream,
        custom_id=(asked.request_metadata or {}).get("custom_id"),
    )


def _converse_input(fields: dict[str, Json]) -> dict[str, Json]:
    given = fields.get("input")
    converse = given.get("converse") if isinstance(given, dict) else None
    if not isinstance(converse, dict):
        raise WireError(400, "The simulator counts the input of a conversation.", param="input.converse")
    return converse


def _specs(asked: _Body) -> list[_Spec]:
    tools = asked.tool_config.tools if asked.tool_config else []
    return [tool.tool_spec for tool in tools if tool.tool_spec is not None]


def _refuse_combinations(asked: _Body) -> None:
    roles = [message.role for message in asked.messages]
    if roles[0] != "user" or any(one == other for one, other in pairwise(roles)):
        message = "A conversation must alternate between user and assistant roles, and begin with the user."
        raise WireError(400, message, param="messages")
    choice = asked.tool_config.tool_choice if asked.tool_config else None
    if choice and choice.tool and choice.tool.name not in {spec.name for spec in _specs(asked)}:
        message = f"toolChoice names {choice.tool.name!r}, which is none of the tools."
        raise WireError(400, message, param="toolConfig.toolChoice.tool.name")


def _question(model: str, asked: _Body, key: bytes, framed: int) -> Question:
    config = asked.inference_config or _Inference()
    choice = (asked.tool_config and asked.tool_config.tool_choice) or _Choice()
    turns = [Turn("system", block.text) for block in asked.system or () if block.text]
    turns += [turn for message in asked.messages for turn in _turns(message)]
    must_call = choice.tool.name if choice.tool else "" if choice.any is not None else None
    tools = [Tool(spec.name, spec.description or "", spec.input_schema.json) for spec in _specs(asked)]
    return Question(
        model=model,
        turns=tuple(turns),
        key=key,
        max_tokens=config.max_tokens,
        stop=tuple(config.stop_sequences or ()),
        schema=_wanted(asked.output_config),
        tools=tuple(tools),
        must_call=must_call,
        frame_bytes=framed,
        thinks=asked.output_config is not None and asked.output_config.effort is not None,
    )


def _wanted(output: _Output | None) -> Schema | None:
    if output is None or output.text_format is None:
        return None
    text = output.text_format.structure.json_schema.schema
    return json_object(text.encode(errors="surrogatepass"))


def _turns(message: _Message) -> list[Turn]:
    """A message as turns: results of tools stand within a user's message, but speak for themselves."""
    results = [block.tool_result for block in message.content if block.tool_result is not None]
    turns = [Turn("tool", "".join(map(_result_words, result.content))) for result in results]
    others = [block for block in message.content if block.tool_result is None]
    if others:
        images = sum(block.image is not None for block in others)
        turns.append(Turn(message.role, "".join([block.words() for block in others]), images))
    return turns


def _result_words(result: _Result) -> str:
    return (result.text or "") if result.json is None else msgspec.json.encode(result.json).decode()
