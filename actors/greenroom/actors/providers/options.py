"""What a ChatRequest says in OpenAI's shapes, as values, for the wires that have shapes of their own.

Tools, the choice among them and the format of the answer are JSON in a request (`chat.ChatOptions`); a wire that only
passes them on never looks inside. The others read them here, once, and here is the one place where an option that a
wire cannot express is refused by its name.
"""

from collections.abc import Collection, Iterable
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from greenroom.actors.events import ProviderError, ProviderFailed
from greenroom.actors.providers.chat import (
    ChatRequest,
    ImagePart,
    ImageUrl,
    Message,
    RefusalPart,
    RequestedTool,
)

ASSUMED_OUTPUT_TOKENS = 4096
"""Output that is reckoned with where the caller sets no `max_tokens`. Under a budget it is demanded, and so it is on a
wire that cannot do without a bound.
"""

MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""The largest image within a request: as much as a whole request to Gemini may hold, and more than others take."""
_MAX_IMAGE_CHARS = MAX_IMAGE_BYTES * 4 // 3 + 4

_SET_BY_GREENROOM = frozenset({"stream", "stream_options", "n"})
_NOT_ASKED_FOR: dict[str, object] = {
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logprobs": False,
    "top_logprobs": 0,
    "parallel_tool_calls": True,
}
"""Values that say no more than leaving the option out."""


class Function(Struct, frozen=True):
    """A function that the model may ask for; `parameters` is a JSON Schema."""

    name: str
    description: str | None = None
    parameters: Raw | UnsetType = UNSET
    strict: bool | None = None


class _Tool(Struct, frozen=True, tag="function", tag_field="type"):
    function: Function


class _NamedFunction(Struct, frozen=True):
    name: str


class _NamedTool(Struct, frozen=True, tag="function", tag_field="type"):
    function: _NamedFunction


class ToolChoice(Struct, frozen=True):
    """Whether and which tools are to be used; `name` only with the mode `function`."""

    mode: Literal["auto", "none", "required", "function"]
    name: str = ""


class JsonSchema(Struct, frozen=True):
    """The JSON Schema that an answer is to have."""

    schema: Raw
    name: str = ""
    description: str | None = None
    strict: bool | None = None


class _TextFormat(Struct, frozen=True, tag="text", tag_field="type"):
    pass


class _JsonFormat(Struct, frozen=True, tag="json_object", tag_field="type"):
    pass


class _SchemaFormat(Struct, frozen=True, tag="json_schema", tag_field="type"):
    json_schema: JsonSchema


class InlineImage(Struct, frozen=True):
    """An image within the request: its media type, and its bytes as base64."""

    media_type: str
    data: str


_encode = msgspec.json.Encoder().encode
_decode_tools = msgspec.json.Decoder(tuple[_Tool, ...] | None).decode
_decode_choice = msgspec.json.Decoder(Literal["auto", "none", "required"] | _NamedTool | None).decode
_decode_format = msgspec.json.Decoder(_TextFormat | _JsonFormat | _SchemaFormat | None).decode
_decode_items = msgspec.json.Decoder(list[Raw]).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_EMPTY_OBJECT = Raw(b"{}")
NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')
"""The schema of a function that takes nothing, for wires that demand a schema."""


class RequestReader:
    """One request, read for one wire.

    Args:
        request: what is asked.
        provider: the host's name, for errors.
        model: the upstream model, for errors.
    """

    def __init__(self, request: ChatRequest, provider: str, model: str) -> None:
        self.request = request
        self._provider = provider
        self._model = model

    def unsupported(self, param: str, why: str) -> ProviderFailed:
        """The refusal of an option that the wire cannot express."""
        return self._failed("unsupported_capability", param, why)

    def invalid(self, param: str, why: str) -> ProviderFailed:
        """The refusal of an option that is wrong on any wire."""
        return self._failed("invalid_request", param, why)

    def refuse(self, names: Iterable[str], why: str = "this provider has no such option") -> None:
        """Refuse the first of the options that is set to anything that would make a difference.

        Raises:
            ProviderFailed: with kind `unsupported_capability`, naming the option.
        """
        for name in names:
            if name in self.request.extra:
                raise self.unsupported(name, why)
            value: object = getattr(self.request, name, None)
            if value is not None and value is not UNSET and value != _NOT_ASKED_FOR.get(name):
                raise self.unsupported(name, why)

    def tools(self) -> tuple[Function, ...]:
        """The functions offered, in their order."""
        raw = self.request.tools
        if raw is UNSET:
            return ()
        try:
            return tuple(tool.function for tool in _decode_tools(raw) or ())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self.invalid("tools", f"not functions in OpenAI's shape: {error}") from None

    def tool_choice(self) -> ToolChoice | None:
        """The choice among tools, or None where nothing is said."""
        raw = self.request.tool_choice
        if raw is UNSET:
            return None
        try:
            said = _decode_choice(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self.invalid(
                "tool_choice", f"neither auto, none, required nor one function: {error}"
            ) from None
        if isinstance(said, _NamedTool):
            return ToolChoice("function", said.function.name)
        return ToolChoice(said) if said is not None else None

    def response_format(self) -> JsonSchema | Literal["json_object"] | None:
        """The format asked for; None is plain text."""
        raw = self.request.response_format
        if raw is UNSET:
            return None
        try:
            said = _decode_format(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self.invalid(
                "response_format", f"neither text, json_object nor json_schema: {error}"
            ) from None
        if isinstance(said, _SchemaFormat):
            return said.json_schema
        return "json_object" if isinstance(said, _JsonFormat) else None

    def stop(self) -> tuple[str, ...]:
        """The stop sequences."""
        said = self.request.stop
        if said is None:
            return ()
        return (said,) if isinstance(said, str) else said

    def arguments(self, call: RequestedTool) -> Raw:
        """The arguments of an earlier call as a JSON object; none at all are an empty one."""
        text = call.function.arguments
        if not text.strip():
            return _EMPTY_OBJECT
        try:
            _decode_fields(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self.invalid(
                "messages", f"the arguments of tool call {call.id!r} are no JSON object: {error}"
            ) from None
        return Raw(text.encode())

    def thoughts(self, message: Message, wire: str) -> list[Raw]:
        """What of an earlier answer's reasoning goes back to `wire`; nothing of another's."""
        state = message.reasoning_state
        if state is None or state.wire != wire:
            return []
        try:
            return _decode_items(state.items)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self.invalid("reasoning_state", f"not what this provider gave: {error}") from None

    def text(self, message: Message) -> str:
        """The content of a message that may hold nothing but text."""
        content = message.content
        if content is None or isinstance(content, str):
            return content or message.refusal or ""
        texts: list[str] = []
        for part in content:
            if isinstance(part, ImagePart):
                raise self.unsupported("messages", f"an image in a message of role {message.role}")
            texts.append(part.refusal if isinstance(part, RefusalPart) else part.text)
        return "".join(texts)

    def no_names(self) -> None:
        """Refuse names of speakers. A tool's own name says nothing new, so it is let pass."""
        if any(message.name for message in self.request.messages if message.role != "tool"):
            raise self.unsupported("name", "this provider has no names of speakers")

    def tool_call_id(self, message: Message) -> str:
        """The call that a tool's message answers."""
        if not message.tool_call_id:
            raise self.invalid("messages", "a message of role tool without tool_call_id")
        return message.tool_call_id

    def image(self, image: ImageUrl, media_types: Collection[str] = ()) -> InlineImage | str:
        """An image out of a data URL, or the http(s) URL that it is at.

        Args:
            image: the image.
            media_types: those that the provider takes; none: whatever is an image.

        Raises:
            ProviderFailed: it is no image, too large, or of a kind that the provider does not take.
        """
        url = image.url
        if image.detail not in {None, "auto"}:
            raise self.unsupported("detail", "this provider has no detail of images")
        if url.startswith(("https://", "http://")):
            return url
        head, comma, data = url.partition(",")
        scheme, _, media_type = head.partition(":")
        if scheme != "data" or not comma or not media_type.endswith(";base64") or not data:
            raise self.invalid("image_url", f"neither http(s) nor data:MEDIA/TYPE;base64,...: {url[:40]!r}")
        kind = media_type.partition(";")[0].lower()
        if not kind.startswith("image/"):
            raise self.invalid("image_url", f"{kind or 'a data URL without a media type'} is no image")
        if len(data) > _MAX_IMAGE_CHARS:
            raise self.invalid(
                "image_url", f"an image of some {len(data) * 3 // 4} bytes, more than {MAX_IMAGE_BYTES}"
            )
        if media_types and kind not in media_types:
            raise self.unsupported("image_url", f"{kind} is none of {', '.join(sorted(media_types))}")
        return InlineImage(kind, data)

    def body(self, fields: Struct, but: Collection[str] = ()) -> bytes:
        """The body's JSON, with the options that only this provider knows behind what greenroom set itself.

        Args:
            fields: what greenroom sets.
            but: options that stand elsewhere in the body (see `nested`).

        Raises:
            ProviderFailed: one of them was set already, by another option.
        """
        if bytes(self.request.extra.get("n", b"1")) not in {b"1", b"null"}:
            raise self.unsupported("n", "one answer is all that this provider gives")
        elsewhere = {*_SET_BY_GREENROOM, *but}
        extra = {name: value for name, value in self.request.extra.items() if name not in elsewhere}
        return self._joined(_encode(fields), extra)

    def nested(self, fields: Struct, names: Collection[str]) -> Raw:
        """A part of the body, with those of the provider's own options that belong in it by their `names`.

        Raises:
            ProviderFailed: one of them was set already, by another option.
        """
        extra = {name: value for name, value in self.request.extra.items() if name in names}
        return Raw(self._joined(_encode(fields), extra))

    def _joined(self, encoded: bytes, extra: dict[str, Raw]) -> bytes:
        if not extra:
            return encoded
        twice = sorted(extra.keys() & _decode_fields(encoded).keys())
        if twice:
            raise self.invalid(
                twice[0], "another option of the request sets this already; give one of the two"
            )
        more = _encode(extra)
        return more if encoded == b"{}" else b"%s,%s" % (encoded[:-1], more[1:])

    def _failed(
        self, kind: Literal["unsupported_capability", "invalid_request"], param: str, why: str
    ) -> ProviderFailed:
        return ProviderFailed(
            ProviderError(
                kind=kind,
                message=f"{param}: {why}",
                provider=self._provider,
                model=self._model,
                param=param,
            )
        )
