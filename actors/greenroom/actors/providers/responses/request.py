"""A request in the shapes of OpenAI's Responses: a list of input items, tools without a wrapper, `text.format`.

Shapes: OpenAI's API reference, "Create a model response".
"""

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from greenroom.actors.providers.chat import ImagePart, Message, RefusalPart
from greenroom.actors.providers.options import Function, JsonSchema, RequestReader

WIRE = "openai-responses"

_NO_SUCH_OPTIONS = ("stop", "seed", "presence_penalty", "frequency_penalty")
_LOGPROBS = ("message.output_text.logprobs",)


class _Text(Struct, frozen=True, tag="input_text", tag_field="type"):
    text: str


class _Image(Struct, frozen=True, tag="input_image", tag_field="type"):
    image_url: str
    detail: str = "auto"


class _Message(Struct, frozen=True):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Text | _Image]


class _FunctionCall(Struct, frozen=True, tag="function_call", tag_field="type"):
    call_id: str
    name: str
    arguments: str


class _CallOutput(Struct, frozen=True, tag="function_call_output", tag_field="type"):
    call_id: str
    output: str | list[_Text | _Image]


class _Tool(Struct, frozen=True, tag="function", tag_field="type"):
    name: str
    parameters: Raw | None
    strict: bool
    description: str | UnsetType = UNSET


class _NamedTool(Struct, frozen=True, tag="function", tag_field="type"):
    name: str


class _Schema(Struct, frozen=True, tag="json_schema", tag_field="type", omit_defaults=True):
    name: str
    schema: Raw
    description: str | None = None
    strict: bool | None = None


class _JsonObject(Struct, frozen=True, tag="json_object", tag_field="type"):
    pass


class _TextConfig(Struct, frozen=True):
    format: _Schema | _JsonObject


class _Reasoning(Struct, frozen=True):
    effort: str


# A Raw is a reasoning item that came from OpenAI and goes back unread.
_Item = _Message | _FunctionCall | _CallOutput | Raw


class _Body(Struct, frozen=True, kw_only=True, omit_defaults=True):
    model: str
    input: list[_Item]
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    include: tuple[str, ...] = ()
    tools: tuple[_Tool, ...] = ()
    tool_choice: str | _NamedTool | None = None
    parallel_tool_calls: bool | None = None
    text: _TextConfig | None = None
    reasoning: _Reasoning | None = None
    user: str | None = None
    store: bool | UnsetType = UNSET
    stream: bool = False


def body_of(reader: RequestReader, model: str, *, stream: bool) -> bytes:
    """The body of one request. Unless the caller asks for it, OpenAI is asked to store nothing.

    Raises:
        ProviderFailed: as `Codec.encode`.
    """
    request = reader.request
    reader.refuse(_NO_SUCH_OPTIONS)
    reader.no_names()
    instructions, items = _items(reader)
    return reader.body(
        _Body(
            model=model,
            input=items,
            instructions=instructions,
            max_output_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            top_logprobs=request.top_logprobs if request.logprobs else None,
            include=_LOGPROBS if request.logprobs else (),
            tools=tuple(_tool(function) for function in reader.tools()),
            tool_choice=_tool_choice(reader),
            parallel_tool_calls=request.parallel_tool_calls,
            text=_text(reader),
            reasoning=_Reasoning(request.reasoning_effort) if request.reasoning_effort else None,
            user=request.user,
            store=UNSET if "store" in request.extra else False,
            stream=stream,
        )
    )


def _items(reader: RequestReader) -> tuple[str | None, list[_Item]]:
    """The instructions, which are the system messages at the beginning, and everything after them."""
    instructions: list[str] = []
    items: list[_Item] = []
    for message in reader.request.messages:
        role = message.role
        if role == "tool":
            items.append(_CallOutput(reader.tool_call_id(message), _content(message)))
        elif role == "assistant":
            items += _answer(reader, message)
        elif role == "user":
            items.append(_Message("user", _content(message)))
        elif items:
            items.append(_Message(role, reader.text(message)))
        else:
            instructions.append(reader.text(message))
    return "\n\n".join(instructions) or None, items


def _content(message: Message) -> str | list[_Text | _Image]:
    content = message.content
    if content is None or isinstance(content, str):
        return content or ""
    return [
        _Image(part.image_url.url, part.image_url.detail or "auto")
        if isinstance(part, ImagePart)
        else _Text(part.refusal if isinstance(part, RefusalPart) else part.text)
        for part in content
    ]


def _answer(reader: RequestReader, message: Message) -> list[_Item]:
    """An earlier answer: its reasoning as it came, what it said, what it asked for."""
    items: list[_Item] = [*reader.thoughts(message, WIRE)]
    text = reader.text(message)
    calls = message.tool_calls or ()
    if text or not calls:
        items.append(_Message("assistant", text))
    items += [_FunctionCall(call.id, call.function.name, call.function.arguments) for call in calls]
    return items


def _tool(function: Function) -> _Tool:
    """A tool. Not said, `strict` would be true here, where chat completions take it as false."""
    parameters = None if function.parameters is UNSET else function.parameters
    return _Tool(function.name, parameters, bool(function.strict), function.description or UNSET)


def _tool_choice(reader: RequestReader) -> str | _NamedTool | None:
    choice = reader.tool_choice()
    if choice is None:
        return None
    return _NamedTool(choice.name) if choice.mode == "function" else choice.mode


def _text(reader: RequestReader) -> _TextConfig | None:
    form = reader.response_format()
    if isinstance(form, JsonSchema):
        return _TextConfig(_Schema(form.name, form.schema, form.description, form.strict))
    return _TextConfig(_JsonObject()) if form else None
