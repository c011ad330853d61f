"""A request in Anthropic's shapes: turns of content blocks, the system apart, tools, and how to think and answer.

Shapes: Anthropic's API reference, "Create a Message".
"""

from collections.abc import Sequence
from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from greenroom.actors.providers.anthropic.shapes import WIRE
from greenroom.actors.providers.chat import ImagePart, Message, RefusalPart
from greenroom.actors.providers.options import (
    ASSUMED_OUTPUT_TOKENS,
    NO_PARAMETERS,
    Function,
    RequestReader,
)

_NO_SUCH_OPTIONS = ("seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs")
_NO_LONGER = ("temperature", "top_p", "top_k")
_MEDIA_TYPES = ("image/gif", "image/jpeg", "image/png", "image/webp")
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_MODES: dict[str, Literal["auto", "any", "none", "tool"]] = {
    "auto": "auto",
    "required": "any",
    "none": "none",
    "function": "tool",
}


class _Text(Struct, frozen=True, tag="text", tag_field="type"):
    text: str


class _Base64(Struct, frozen=True, tag="base64", tag_field="type"):
    media_type: str
    data: str


class _Url(Struct, frozen=True, tag="url", tag_field="type"):
    url: str


class _Image(Struct, frozen=True, tag="image", tag_field="type"):
    source: _Base64 | _Url


class _ToolUse(Struct, frozen=True, tag="tool_use", tag_field="type"):
    id: str
    name: str
    input: Raw


class _ToolResult(Struct, frozen=True, tag="tool_result", tag_field="type"):
    tool_use_id: str
    content: str | list[_Text | _Image]


# A Raw is a thought that came from Anthropic and goes back unread.
_Block = _Text | _Image | _ToolUse | _ToolResult | Raw


class _Turn(Struct, frozen=True):
    role: Literal["user", "assistant", "system"]
    content: str | Sequence[_Block]


class _Tool(Struct, frozen=True, omit_defaults=True):
    name: str
    input_schema: Raw
    description: str | None = None
    strict: bool | None = None


class _ToolChoice(Struct, frozen=True, omit_defaults=True):
    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class _Thinking(Struct, frozen=True):
    type: Literal["adaptive", "disabled"]


class _Schema(Struct, frozen=True, tag="json_schema", tag_field="type"):
    schema: Raw


class _OutputConfig(Struct, frozen=True, omit_defaults=True):
    effort: str | None = None
    format: _Schema | None = None


class _Metadata(Struct, frozen=True):
    user_id: str


class _Body(Struct, frozen=True, kw_only=True, omit_defaults=True):
    model: str
    max_tokens: int
    messages: list[_Turn]
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: tuple[str, ...] = ()
    tools: tuple[_Tool, ...] = ()
    tool_choice: _ToolChoice | None = None
    thinking: _Thinking | UnsetType = UNSET
    output_config: _OutputConfig | None = None
    metadata: _Metadata | None = None
    stream: bool = False


def body_of(reader: RequestReader, model: str, *, old: bool, stream: bool) -> bytes:
    """The body of one request.

    Args:
        reader: the request.
        model: Anthropic's name of the model.
        old: whether the first generation of the API is spoken.
        stream: whether the answer is to be streamed.

    Raises:
        ProviderFailed: as `Codec.encode`.
    """
    request = reader.request
    reader.refuse(_NO_SUCH_OPTIONS)
    if not old:
        reader.refuse(_NO_LONGER, "rejected by this version of the API")
    reader.no_names()
    system, turns = _conversation(reader, hoist=old)
    tools = reader.tools()
    return reader.body(
        _Body(
            model=model,
            max_tokens=request.max_tokens or ASSUMED_OUTPUT_TOKENS,
            messages=turns,
            system=system,
            temperature=request.temperature,
            top_p=request.top_p,
            stop_sequences=reader.stop(),
            tools=tuple(_tool(tool) for tool in tools),
            tool_choice=_tool_choice(reader) if tools else None,
            thinking=_thinking(reader),
            output_config=_output_config(reader),
            metadata=_Metadata(request.user) if request.user else None,
            stream=stream,
        )
    )


def _conversation(reader: RequestReader, *, hoist: bool) -> tuple[str | None, list[_Turn]]:
    """The system prompt and the turns. The first generation of the API knows no system message among the turns, so
    all of them are hoisted there. Results of tools that stand in a row are one turn, as Anthropic demands.
    """
    system: list[str] = []
    turns: list[_Turn] = []
    results: list[_ToolResult] = []
    for message in reader.request.messages:
        role = message.role
        if role == "tool":
            if not results:
                turns.append(_Turn("user", results))
            results.append(_ToolResult(reader.tool_call_id(message), _parts(reader, message)))
            continue
        results = []
        if role == "user":
            turns.append(_Turn("user", _parts(reader, message)))
        elif role == "assistant":
            turns.append(_Turn("assistant", _answer(reader, message)))
        elif hoist or not turns:
            system.append(reader.text(message))
        else:
            turns.append(_Turn("system", reader.text(message)))
    return "\n\n".join(system) or None, turns


def _parts(reader: RequestReader, message: Message) -> str | list[_Text | _Image]:
    content = message.content
    if content is None or isinstance(content, str):
        return content or ""
    return [
        _image(reader, part)
        if isinstance(part, ImagePart)
        else _Text(part.refusal if isinstance(part, RefusalPart) else part.text)
        for part in content
    ]


def _image(reader: RequestReader, part: ImagePart) -> _Image:
    image = reader.image(part.image_url, _MEDIA_TYPES)
    return _Image(_Url(image) if isinstance(image, str) else _Base64(image.media_type, image.data))


def _answer(reader: RequestReader, message: Message) -> str | list[_Block]:
    """An assistant's earlier message: its thoughts as they came, what it said, what it asked for."""
    text = reader.text(message)
    thoughts = reader.thoughts(message, WIRE)
    if not thoughts and not message.tool_calls:
        return text
    content: list[_Block] = [*thoughts]
    if text:
        content.append(_Text(text))  # an empty block is refused
    content += [
        _ToolUse(call.id, call.function.name, reader.arguments(call)) for call in message.tool_calls or ()
    ]
    return content


def _tool(function: Function) -> _Tool:
    parameters = function.parameters
    return _Tool(
        function.name,
        NO_PARAMETERS if parameters is UNSET else parameters,
        function.description,
        function.strict,
    )


def _tool_choice(reader: RequestReader) -> _ToolChoice | None:
    choice = reader.tool_choice()
    one_at_a_time = reader.request.parallel_tool_calls is False
    if choice is None:
        return _ToolChoice("auto", disable_parallel_tool_use=True) if one_at_a_time else None
    return _ToolChoice(_MODES[choice.mode], choice.name or None, one_at_a_time and choice.mode != "none")


def _thinking(reader: RequestReader) -> _Thinking | UnsetType:
    """An effort asks for thoughts, as many as the model sees fit, unless the caller says how to think."""
    effort = reader.request.reasoning_effort
    if effort is None or "thinking" in reader.request.extra:
        return UNSET
    return _Thinking("disabled" if effort == "none" else "adaptive")


def _output_config(reader: RequestReader) -> _OutputConfig | None:
    effort = reader.request.reasoning_effort
    if effort is not None and effort not in {*_EFFORTS, "none"}:
        raise reader.unsupported("reasoning_effort", f"{effort!r} is none of none, {', '.join(_EFFORTS)}")
    form = reader.response_format()
    if form == "json_object":
        raise reader.unsupported("response_format", "json_object: this provider wants a json_schema")
    if effort in {None, "none"} and form is None:
        return None
    return _OutputConfig(None if effort == "none" else effort, _Schema(form.schema) if form else None)
