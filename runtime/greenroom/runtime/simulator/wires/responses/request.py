"""POST /v1/responses as it arrives: bytes to a `Question`, or a `WireError` that names the field."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from greenroom.runtime.simulator.engine import Json, Question, Schema, Tool, Turn
from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.reading import (
    Head,
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


class _InputText(Text, tag="input_text"):
    pass


class _OutputText(Text, tag="output_text"):
    pass


class _InputImage(Part, tag="input_image"):
    images: ClassVar[int] = 1
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None


class _InputFile(Part, tag="input_file"):
    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None


_Parts = list[_InputText | _OutputText | Refusal | _InputImage | _InputFile]


def _words(content: str | _Parts) -> str:
    return content if isinstance(content, str) else "".join([part.words() for part in content])


def _images(content: str | _Parts) -> int:
    return 0 if isinstance(content, str) else sum(part.images for part in content)


class _Item(msgspec.Struct, tag_field="type"):
    """One item of the input."""


class _Message(_Item, tag="message"):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | _Parts

    def turn(self) -> Turn:
        return Turn(self.role, _words(self.content), _images(self.content))


class _Call(_Item, tag="function_call"):
    call_id: str
    name: str
    arguments: str

    def turn(self) -> Turn:
        return Turn("assistant", self.name + self.arguments)


class _Output(_Item, tag="function_call_output"):
    call_id: str
    output: str | _Parts

    def turn(self) -> Turn:
        return Turn("tool", _words(self.output), _images(self.output))


class _Reasoning(_Item, tag="reasoning"):
    """What a model thought goes back unread, and is counted by nobody."""

    def turn(self) -> None:
        return None


class _Tool(msgspec.Struct):
    type: Literal["function"]
    name: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,128}$")]
    parameters: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class _ToolChoice(msgspec.Struct, frozen=True):
    type: Literal["function"]
    name: str


class _Plain(msgspec.Struct, tag_field="type", tag="text"):
    pass


class _AnyObject(msgspec.Struct, tag_field="type", tag="json_object"):
    pass


class _ToSchema(msgspec.Struct, tag_field="type", tag="json_schema"):
    name: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class _TextConfig(msgspec.Struct):
    format: _Plain | _AnyObject | _ToSchema | None = None
    verbosity: str | None = None


class _ReasoningConfig(msgspec.Struct):
    effort: str | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class _Body(msgspec.Struct, kw_only=True):
    """The fields that the simulator reads. What it accepts and leaves aside stands in `_LEFT_ASIDE`."""

    model: Annotated[str, Meta(min_length=1)]
    input: Annotated[list[_Message | _Call | _Output | _Reasoning], Meta(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Meta(ge=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stream: bool | None = None
    text: _TextConfig | None = None
    tools: Annotated[list[_Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | _ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    reasoning: _ReasoningConfig | None = None
    include: list[str] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


# Part of the published request, without effect on what is simulated.
_LEFT_ASIDE = frozenset({
    "access_programs", "context_management", "image", "max_tool_calls", "moderation", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "service_tier", "store", "stream_options",
    "truncation", "user",
})  # fmt: skip
# Part of the published request; the simulator keeps nothing from one request to the next.
_NOT_SIMULATED = frozenset(
    {"background", "background_options", "conversation", "previous_response_id", "prompt"}
)
_KNOWN = frozenset(_Body.__struct_fields__) | _LEFT_ASIDE | _NOT_SIMULATED
_NO_PART_OF_THE_QUESTION = ("stream", "metadata", "include", "top_logprobs", *_LEFT_ASIDE)
_WITH_LOGPROBS = "message.output_text.logprobs"
THOUGHTS_SHOWN = "thoughts shown"


def parse_response(body: bytes, head: Head) -> Asked:
    """Decodes and checks a request for a response.

    Raises:
        WireError: With status 400 and, wherever one field is to blame, its name in `param`.
    """
    fields = json_object(body)
    refuse_unknown(fields, _KNOWN)
    for name in sorted(_NOT_SIMULATED.intersection(fields)):
        if fields[name]:
            message = f"Unsupported parameter: the simulator has no '{name}'."
            raise WireError(400, message, param=name, code="unsupported_parameter")
    fields["input"] = _items(fields.get("input"))
    asked = convert(fields, _Body)
    _refuse_combinations(asked)
    framed = frame_bytes(fields, ("tools", "text"))
    prompt_sha256, key = digests(fields, "input", _NO_PART_OF_THE_QUESTION)
    return Asked(
        question=_question(asked, key, framed),
        prompt_sha256=prompt_sha256,
        stream=bool(asked.stream),
        custom_id=(asked.metadata or {}).get("custom_id"),
        form=THOUGHTS_SHOWN if asked.reasoning and asked.reasoning.summary else "",
    )


def _items(given: Json) -> Json:
    """The input with every item's type, which messages may leave out; a text is a user's message."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    if not isinstance(given, list):
        return given
    return [
        {"type": "message", **item} if isinstance(item, dict) and "role" in item else item for item in given
    ]


def _refuse_combinations(asked: _Body) -> None:
    names = {tool.name for tool in asked.tools or ()}
    choice = asked.tool_choice
    if choice not in {None, "none", "auto"} and not names:
        raise WireError(400, "'tool_choice' is for requests with 'tools'.", param="tool_choice")
    if isinstance(choice, _ToolChoice) and choice.name not in names:
        message = f"'tool_choice' names {choice.name!r}, which is none of the tools."
        raise WireError(400, message, param="tool_choice", code="invalid_value")


def _question(asked: _Body, key: bytes, framed: int) -> Question:
    choice = asked.tool_choice
    turns = [turn for item in asked.input if (turn := item.turn()) is not None]
    if asked.instructions:
        turns.insert(0, Turn("system", asked.instructions))
    tools = () if choice == "none" else asked.tools or ()
    named = choice.name if isinstance(choice, _ToolChoice) else None
    return Question(
        model=asked.model,
        turns=tuple(turns) or (Turn("user", ""),),
        key=key,
        max_tokens=asked.max_output_tokens,
        schema=_wanted(asked.text),
        tools=tuple([Tool(tool.name, tool.description or "", tool.parameters or {}) for tool in tools]),
        must_call="" if choice == "required" else named,
        parallel_calls=asked.parallel_tool_calls is not False,
        frame_bytes=framed,
        thinks=asked.reasoning is not None and asked.reasoning.effort not in {None, "none"},
        logprobs=(asked.top_logprobs or 0) if _WITH_LOGPROBS in (asked.include or ()) else None,
    )


def _wanted(text: _TextConfig | None) -> Schema | None:
    form = text.format if text else None
    if isinstance(form, _ToSchema):
        return form.schema
    return {} if isinstance(form, _AnyObject) else None
