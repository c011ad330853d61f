"""A request in Gemini's shapes: contents of parts, the system apart, and everything else in a generation config.

Shapes: Google's Gemini API reference, "generateContent", "GenerationConfig", "FunctionDeclaration".
"""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from greenroom.actors.providers.chat import ImagePart, Message, RefusalPart
from greenroom.actors.providers.gemini.answer import WIRE, Signature
from greenroom.actors.providers.options import JsonSchema, RequestReader

_NO_SUCH_OPTIONS = ("user",)
_IN_CONFIG = frozenset(
    {
        "topK", "candidateCount", "thinkingConfig", "mediaResolution", "responseModalities", "speechConfig",
        "imageConfig", "responseSchema", "responseMimeType", "enableEnhancedCivicAnswers",
    }
)  # fmt: skip
"""Options of Gemini's own that stand in the generation config; all others stand beside it."""

_LEVELS = ("minimal", "low", "medium", "high", "xhigh")
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""Thinking budgets of models that know no levels: Google's "OpenAI compatibility", Thinking."""

_INLINE_TYPES = ("image/heic", "image/heif", "image/jpeg", "image/png", "image/webp")
_MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
}


class _Wire(Struct, frozen=True, omit_defaults=True, rename="camel"):
    pass


class _Blob(_Wire, frozen=True):
    mime_type: str
    data: str


class _File(_Wire, frozen=True):
    file_uri: str
    mime_type: str | None = None


class _FunctionCall(_Wire, frozen=True):
    name: str
    args: Raw
    id: str | None = None


class _FunctionResponse(_Wire, frozen=True):
    name: str
    response: Raw
    id: str | None = None


class _Part(_Wire, frozen=True):
    text: str | None = None
    inline_data: _Blob | None = None
    file_data: _File | None = None
    function_call: _FunctionCall | None = None
    function_response: _FunctionResponse | None = None
    thought_signature: str | None = None


class _Content(_Wire, frozen=True):
    parts: list[_Part]
    role: Literal["user", "model"] | None = None


class _Function(_Wire, frozen=True):
    name: str
    description: str | None = None
    parameters_json_schema: Raw | UnsetType = UNSET


class _Tools(_Wire, frozen=True):
    function_declarations: tuple[_Function, ...]


class _CallingConfig(_Wire, frozen=True):
    mode: Literal["AUTO", "ANY", "NONE", "VALIDATED"]
    allowed_function_names: tuple[str, ...] = ()


class _ToolConfig(_Wire, frozen=True):
    function_calling_config: _CallingConfig


class _Thinking(_Wire, frozen=True):
    include_thoughts: bool = False
    thinking_level: str | None = None
    thinking_budget: int | None = None


class _Config(_Wire, frozen=True, kw_only=True):
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    response_mime_type: str | None = None
    response_json_schema: Raw | UnsetType = UNSET
    thinking_config: _Thinking | None = None


class _Body(_Wire, frozen=True, kw_only=True):
    contents: list[_Content]
    system_instruction: _Content | None = None
    tools: tuple[_Tools, ...] = ()
    tool_config: _ToolConfig | None = None
    generation_config: Raw | UnsetType = UNSET


_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_signatures = msgspec.json.Decoder(Signature).decode


def body_of(reader: RequestReader, model: str) -> bytes:
    """The body of one request; the model and whether to stream stand in its path.

    Raises:
        ProviderFailed: as `Codec.encode`.
    """
    reader.refuse(_NO_SUCH_OPTIONS)
    reader.no_names()
    functions = reader.tools()
    if functions:
        reader.refuse(("parallel_tool_calls",), "Gemini decides by itself how many tools it calls at once")
    system, contents = _conversation(reader)
    config = reader.nested(_config(reader, model), _IN_CONFIG)
    return reader.body(
        _Body(
            contents=contents,
            system_instruction=_Content([_Part(text=text) for text in system]) if system else None,
            tools=(_Tools(tuple(_Function(f.name, f.description, f.parameters) for f in functions)),)
            if functions
            else (),
            tool_config=_tool_config(reader, strict=any(f.strict for f in functions)) if functions else None,
            generation_config=UNSET if bytes(config) == b"{}" else config,
        ),
        but=_IN_CONFIG,
    )


def _conversation(reader: RequestReader) -> tuple[list[str], list[_Content]]:
    """The system's texts and the contents. Results of tools that stand in a row are one content, as Gemini demands."""
    system: list[str] = []
    contents: list[_Content] = []
    results: list[_Part] = []
    names: dict[str, str] = {}
    for message in reader.request.messages:
        role = message.role
        if role == "tool":
            if not results:
                contents.append(_Content(results, "user"))
            results.append(_result(reader, message, names))
            continue
        results = []
        if role == "user":
            contents.append(_Content(_parts(reader, message), "user"))
        elif role == "assistant":
            names.update((call.id, call.function.name) for call in message.tool_calls or ())
            contents.append(_Content(_answer(reader, message), "model"))
        else:
            system.append(reader.text(message))
    return system, contents


def _parts(reader: RequestReader, message: Message) -> list[_Part]:
    content = message.content
    if content is None or isinstance(content, str):
        return [_Part(text=content or "")]
    return [
        _image(reader, part)
        if isinstance(part, ImagePart)
        else _Part(text=part.refusal if isinstance(part, RefusalPart) else part.text)
        for part in content
    ]


def _image(reader: RequestReader, part: ImagePart) -> _Part:
    image = reader.image(part.image_url, _INLINE_TYPES)
    if isinstance(image, str):
        ending = image.partition("?")[0].rpartition(".")[2].lower()
        return _Part(file_data=_File(image, _MEDIA_TYPES.get(ending)))
    return _Part(inline_data=_Blob(image.media_type, image.data))


def _answer(reader: RequestReader, message: Message) -> list[_Part]:
    """A model's earlier message, each part with the signature that it came with."""
    signatures = _signatures(reader, message)
    text = reader.text(message)
    calls = message.tool_calls or ()
    parts = [
        _Part(
            function_call=_FunctionCall(call.function.name, reader.arguments(call), call.id or None),
            thought_signature=signatures.get(number),
        )
        for number, call in enumerate(calls)
    ]
    if text or None in signatures or not calls:
        parts.insert(0, _Part(text=text, thought_signature=signatures.get(None)))
    return parts


def _signatures(reader: RequestReader, message: Message) -> dict[int | None, str]:
    try:
        found = [_decode_signatures(item) for item in reader.thoughts(message, WIRE)]
    except msgspec.DecodeError as error:
        raise reader.invalid("reasoning_state", f"not what this provider gave: {error}") from None
    return {signed.call: signed.signature for signed in found}


def _result(reader: RequestReader, message: Message, names: dict[str, str]) -> _Part:
    """What a tool answered: a JSON object as it is, anything else as the `output` of one."""
    id_ = reader.tool_call_id(message)
    name = message.name or names.get(id_)
    if name is None:
        raise reader.invalid(
            "messages", f"tool_call_id {id_!r} is of no earlier call, so its function has no name"
        )
    text = reader.text(message)
    try:
        _decode_object(text)
    except (msgspec.DecodeError, RecursionError):
        text = msgspec.json.encode({"output": text}).decode()
    return _Part(function_response=_FunctionResponse(name, Raw(text.encode()), id_))


def _tool_config(reader: RequestReader, *, strict: bool) -> _ToolConfig | None:
    choice = reader.tool_choice()
    mode = choice.mode if choice else None
    if choice is not None and mode == "function":
        return _ToolConfig(_CallingConfig("ANY", (choice.name,)))
    if mode == "required":
        return _ToolConfig(_CallingConfig("ANY"))
    if mode == "none":
        return _ToolConfig(_CallingConfig("NONE"))
    if strict:
        return _ToolConfig(_CallingConfig("VALIDATED"))  # what is called, keeps its schema
    return _ToolConfig(_CallingConfig("AUTO")) if mode == "auto" else None


def _config(reader: RequestReader, model: str) -> _Config:
    request = reader.request
    form = reader.response_format()
    return _Config(
        max_output_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        stop_sequences=reader.stop(),
        seed=request.seed,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        response_logprobs=request.logprobs or None,
        logprobs=request.top_logprobs if request.logprobs else None,
        response_mime_type="application/json" if form else None,
        response_json_schema=form.schema if isinstance(form, JsonSchema) else UNSET,
        thinking_config=_thinking(reader, model),
    )


def _thinking(reader: RequestReader, model: str) -> _Thinking | None:
    effort = reader.request.reasoning_effort
    if effort is None:
        return None
    if model.startswith("gemini-2.5") or effort == "none":
        budget = _BUDGETS.get(effort)
        if budget is None:
            raise reader.unsupported("reasoning_effort", f"{effort!r} is none of {', '.join(_BUDGETS)}")
        return _Thinking(include_thoughts=budget > 0, thinking_budget=budget)
    if effort not in _LEVELS:
        raise reader.unsupported("reasoning_effort", f"{effort!r} is none of none, {', '.join(_LEVELS)}")
    return _Thinking(include_thoughts=True, thinking_level=effort.upper())
