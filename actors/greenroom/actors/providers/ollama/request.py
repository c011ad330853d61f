"""A request in Ollama's shapes: messages with images beside their text, and everything about sampling in `options`.

Shapes: Ollama's API documentation, "Generate a chat message"; its options are those of a Modelfile's PARAMETER.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from greenroom.actors.providers.chat import ImagePart, Message, RefusalPart
from greenroom.actors.providers.options import JsonSchema, RequestReader

WIRE = "ollama"

_NO_SUCH_OPTIONS = ("user",)
_IN_OPTIONS = frozenset(
    {
        "num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "low_vram", "use_mmap",
        "use_mlock", "top_k", "min_p", "tfs_z", "typical_p", "repeat_last_n", "repeat_penalty", "mirostat",
        "mirostat_tau", "mirostat_eta", "penalize_newline",
    }
)  # fmt: skip
"""Options of Ollama's own that stand in `options`; all others stand beside it."""

_THINK: dict[str, bool | str] = {"none": False, "low": "low", "medium": "medium", "high": "high"}


class _Function(Struct, frozen=True):
    name: str
    arguments: Raw


class _ToolCall(Struct, frozen=True):
    id: str
    function: _Function


class _Message(Struct, frozen=True, omit_defaults=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str
    thinking: str | None = None
    images: list[str] = []
    tool_calls: tuple[_ToolCall, ...] = ()
    tool_name: str | None = None
    tool_call_id: str | None = None


class _Options(Struct, frozen=True, kw_only=True, omit_defaults=True):
    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class _Body(Struct, frozen=True, kw_only=True, omit_defaults=True):
    model: str
    messages: list[_Message]
    stream: bool | UnsetType = UNSET
    options: Raw | UnsetType = UNSET
    format: Raw | Literal["json"] | UnsetType = UNSET
    tools: Raw | UnsetType = UNSET
    think: bool | str | UnsetType = UNSET
    logprobs: bool | None = None
    top_logprobs: int | None = None


def body_of(reader: RequestReader, model: str, *, stream: bool) -> bytes:
    """The body of one request.

    Raises:
        ProviderFailed: as `Codec.encode`.
    """
    request = reader.request
    reader.refuse(_NO_SUCH_OPTIONS)
    reader.no_names()
    options = reader.nested(
        _Options(
            num_predict=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            stop=reader.stop(),
            seed=request.seed,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
        ),
        _IN_OPTIONS,
    )
    form = reader.response_format()
    return reader.body(
        _Body(
            model=model,
            messages=_messages(reader),
            stream=stream,  # said either way, since Ollama streams unless told not to
            options=UNSET if bytes(options) == b"{}" else options,
            format=form.schema if isinstance(form, JsonSchema) else "json" if form else UNSET,
            tools=_tools(reader),
            think=_think(reader),
            logprobs=request.logprobs or None,
            top_logprobs=request.top_logprobs if request.logprobs else None,
        ),
        but=_IN_OPTIONS,
    )


def _messages(reader: RequestReader) -> list[_Message]:
    names: dict[str, str] = {}
    messages: list[_Message] = []
    for message in reader.request.messages:
        calls = message.tool_calls or ()
        names.update((call.id, call.function.name) for call in calls)
        text, images = _content(reader, message)
        tool = message.role == "tool"
        messages.append(
            _Message(
                role="system" if message.role == "developer" else message.role,
                content=text,
                thinking=_thinking(reader, message),
                images=images,
                tool_calls=tuple(
                    _ToolCall(call.id, _Function(call.function.name, reader.arguments(call)))
                    for call in calls
                ),
                tool_name=(message.name or names.get(reader.tool_call_id(message))) if tool else None,
                tool_call_id=reader.tool_call_id(message) if tool else None,
            )
        )
    return messages


def _thinking(reader: RequestReader, message: Message) -> str | None:
    """What the model thought before an earlier message: some lose their thread among tools without."""
    try:
        return "".join(msgspec.json.decode(item, type=str) for item in reader.thoughts(message, WIRE)) or None
    except msgspec.DecodeError as error:
        raise reader.invalid("reasoning_state", f"not what this provider gave: {error}") from None


def _content(reader: RequestReader, message: Message) -> tuple[str, list[str]]:
    content = message.content
    if content is None or isinstance(content, str):
        return content or message.refusal or "", []
    texts: list[str] = []
    images: list[str] = []
    for part in content:
        if isinstance(part, ImagePart):
            image = reader.image(part.image_url)
            if isinstance(image, str):
                raise reader.unsupported(
                    "image_url", "this provider fetches no images; give its bytes in a data URL"
                )
            images.append(image.data)
        else:
            texts.append(part.refusal if isinstance(part, RefusalPart) else part.text)
    return "".join(texts), images


def _tools(reader: RequestReader) -> Raw | UnsetType:
    """The tools as they are, since Ollama takes OpenAI's shape. It has no choice among them but all or none."""
    functions, choice = reader.tools(), reader.tool_choice()
    if not functions or (choice is not None and choice.mode == "none"):
        return UNSET
    if choice is not None and choice.mode != "auto":
        raise reader.unsupported("tool_choice", "the models of this provider decide by themselves")
    reader.refuse(("parallel_tool_calls",), "the models of this provider decide by themselves")
    if any(function.strict for function in functions):
        raise reader.unsupported("strict", "this provider does not hold arguments to a schema")
    return reader.request.tools


def _think(reader: RequestReader) -> bool | str | UnsetType:
    effort = reader.request.reasoning_effort
    if effort is None:
        return UNSET
    if effort not in _THINK:
        raise reader.unsupported("reasoning_effort", f"{effort!r} is none of {', '.join(_THINK)}")
    return _THINK[effort]
