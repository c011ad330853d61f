"""A request in the shapes of Bedrock's Converse: messages that alternate, content blocks named by their key.

Shapes: Amazon Bedrock API reference, "Converse".
"""

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from greenroom.actors.providers.chat import ImagePart, Message, RefusalPart
from greenroom.actors.providers.options import NO_PARAMETERS, Function, RequestReader

WIRE = "bedrock-converse"

_NO_SUCH_OPTIONS = ("seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "user")
_IMAGE_FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}


class _Wire(Struct, frozen=True, omit_defaults=True, rename="camel"):
    pass


class _Bytes(_Wire, frozen=True):
    bytes: str


class _Image(_Wire, frozen=True):
    format: str
    source: _Bytes


class _ToolUse(_Wire, frozen=True):
    tool_use_id: str
    name: str
    input: Raw


class _ToolResult(_Wire, frozen=True):
    tool_use_id: str
    content: "list[_Block | Raw]"


class _Block(_Wire, frozen=True):
    text: str | None = None
    image: _Image | None = None
    tool_use: _ToolUse | None = None
    tool_result: _ToolResult | None = None


class _Message(_Wire, frozen=True):
    role: Literal["user", "assistant"]
    # A Raw is a thought that came from Bedrock and goes back unread.
    content: list[_Block | Raw]


class _Inference(_Wire, frozen=True):
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: tuple[str, ...] = ()


class _Schema(_Wire, frozen=True):
    json: Raw


class _Spec(_Wire, frozen=True):
    name: str
    input_schema: _Schema
    description: str | None = None
    strict: bool | None = None


class _Tool(_Wire, frozen=True):
    tool_spec: _Spec


class _Nothing(_Wire, frozen=True):
    pass


class _Named(_Wire, frozen=True):
    name: str


class _ToolChoice(_Wire, frozen=True):
    auto: _Nothing | None = None
    any: _Nothing | None = None
    tool: _Named | None = None


class _ToolConfig(_Wire, frozen=True):
    tools: tuple[_Tool, ...]
    tool_choice: _ToolChoice | None = None


class _JsonSchema(_Wire, frozen=True):
    schema: str
    name: str = ""
    description: str | None = None


class _Structure(_Wire, frozen=True):
    json_schema: _JsonSchema


class _TextFormat(_Wire, frozen=True):
    type: Literal["json_schema"]
    structure: _Structure


class _Output(_Wire, frozen=True):
    text_format: _TextFormat | None = None
    effort: str | None = None


class _Body(_Wire, frozen=True, kw_only=True):
    messages: list[_Message]
    system: list[_Block] = []
    inference_config: _Inference | UnsetType = UNSET
    tool_config: _ToolConfig | None = None
    output_config: _Output | UnsetType = UNSET


def body_of(reader: RequestReader) -> bytes:
    """The body of one request; the model and whether to stream stand in its path.

    Raises:
        ProviderFailed: as `Codec.encode`.
    """
    request = reader.request
    reader.refuse(_NO_SUCH_OPTIONS)
    reader.no_names()
    system, messages = _conversation(reader)
    inference = _Inference(request.max_tokens, request.temperature, request.top_p, reader.stop())
    output = _output(reader)
    return reader.body(
        _Body(
            messages=messages,
            system=system,
            inference_config=UNSET if inference == _Inference() else inference,
            tool_config=_tool_config(reader),
            output_config=UNSET if output == _Output() else output,
        )
    )


def _conversation(reader: RequestReader) -> tuple[list[_Block], list[_Message]]:
    """The system prompt and the messages, those of a role that stand in a row joined: Bedrock wants them to alternate."""
    system: list[_Block] = []
    messages: list[_Message] = []
    for message in reader.request.messages:
        role: Literal["user", "assistant"] = "user"
        blocks: list[_Block | Raw]
        if message.role == "assistant":
            role, blocks = "assistant", _answer(reader, message)
        elif message.role == "tool":
            result = _ToolResult(reader.tool_call_id(message), _blocks(reader, message))
            blocks = [_Block(tool_result=result)]
        elif message.role == "user":
            blocks = _blocks(reader, message)
        else:
            system.append(_Block(text=reader.text(message)))
            continue
        if messages and messages[-1].role == role:
            messages[-1].content.extend(blocks)
        else:
            messages.append(_Message(role, blocks))
    return system, messages


def _blocks(reader: RequestReader, message: Message) -> list[_Block | Raw]:
    content = message.content
    if content is None or isinstance(content, str):
        return [_Block(text=content or "")]
    return [
        _image(reader, part)
        if isinstance(part, ImagePart)
        else _Block(text=part.refusal if isinstance(part, RefusalPart) else part.text)
        for part in content
    ]


def _image(reader: RequestReader, part: ImagePart) -> _Block:
    image = reader.image(part.image_url, _IMAGE_FORMATS)
    if isinstance(image, str):
        raise reader.unsupported("image_url", "this provider fetches no images; give its bytes in a data URL")
    return _Block(image=_Image(_IMAGE_FORMATS[image.media_type], _Bytes(image.data)))


def _answer(reader: RequestReader, message: Message) -> list[_Block | Raw]:
    blocks: list[_Block | Raw] = [*reader.thoughts(message, WIRE)]
    text = reader.text(message)
    calls = message.tool_calls or ()
    if text or not (blocks or calls):
        blocks.append(_Block(text=text))  # beside others an empty one is refused
    blocks += [
        _Block(tool_use=_ToolUse(call.id, call.function.name, reader.arguments(call))) for call in calls
    ]
    return blocks


def _tool_config(reader: RequestReader) -> _ToolConfig | None:
    functions = reader.tools()
    if not functions:
        return None
    reader.refuse(("parallel_tool_calls",), "the models of this provider decide by themselves")
    choice = reader.tool_choice()
    picked: _ToolChoice | None = None
    if choice is not None:
        if choice.mode == "none":
            raise reader.unsupported(
                "tool_choice", "none: this provider's models may use what they are offered"
            )
        picked = {
            "auto": _ToolChoice(auto=_Nothing()),
            "required": _ToolChoice(any=_Nothing()),
            "function": _ToolChoice(tool=_Named(choice.name)),
        }[choice.mode]
    return _ToolConfig(tuple(_Tool(_spec(function)) for function in functions), picked)


def _spec(function: Function) -> _Spec:
    parameters = NO_PARAMETERS if function.parameters is UNSET else function.parameters
    return _Spec(function.name, _Schema(parameters), function.description or None, function.strict)


def _output(reader: RequestReader) -> _Output:
    effort = reader.request.reasoning_effort
    if effort == "none":
        raise reader.unsupported(
            "reasoning_effort", "none: this provider's models cannot be told not to think"
        )
    form = reader.response_format()
    if form is None:
        return _Output(effort=effort)
    if form == "json_object":
        raise reader.unsupported("response_format", "json_object: this provider wants a json_schema")
    schema = _JsonSchema(bytes(form.schema).decode(), form.name, form.description)
    return _Output(_TextFormat("json_schema", _Structure(schema)), effort)
