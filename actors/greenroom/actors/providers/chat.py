"""A chat request in greenroom's one vocabulary, which is OpenAI's where OpenAI has a word for it."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from greenroom.actors.events import ReasoningState

Role = Literal["system", "developer", "user", "assistant", "tool"]

# Wide enough for any provider, which knows its own limits; narrow enough that JSON and a hold can carry the number.
MaxTokens = Annotated[int, Meta(ge=1, le=10**9)]
_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Temperature = Annotated[float, Meta(ge=0, le=100)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Penalty = Annotated[float, Meta(ge=-100, le=100)]
_FewOrNone = Annotated[int, Meta(ge=0, le=1000)]


class TextPart(Struct, frozen=True, tag="text", tag_field="type", forbid_unknown_fields=True):
    """Text within a message of several parts."""

    text: str


class ImageUrl(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An image by http(s) or data URL; `detail` is `low`, `high` or `auto`."""

    url: str
    detail: str | None = None


class ImagePart(Struct, frozen=True, tag="image_url", tag_field="type", forbid_unknown_fields=True):
    """An image within a message."""

    image_url: ImageUrl


class RefusalPart(Struct, frozen=True, tag="refusal", tag_field="type", forbid_unknown_fields=True):
    """A refusal that an assistant gave earlier in the conversation."""

    refusal: str


Part = TextPart | ImagePart | RefusalPart


class FunctionCall(Struct, frozen=True, forbid_unknown_fields=True):
    """The function an assistant asked for earlier; `arguments` is JSON text."""

    name: str
    arguments: str


class RequestedTool(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool call within an assistant's earlier message."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class Message(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One message of a conversation.

    `reasoning_state` is of an assistant's message: what came with the answer, to be given back to the same provider.
    """

    role: Role
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    tool_calls: tuple[RequestedTool, ...] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_state: ReasoningState | None = None


class ChatOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The options of a chat request, by OpenAI's names. `max_tokens` bounds the output, reasoning included;
    `response_format`, `tools` and `tool_choice` are JSON in OpenAI's shape.
    """

    max_tokens: MaxTokens | None = None
    temperature: _Temperature | None = None
    top_p: _Share | None = None
    stop: str | tuple[str, ...] | None = None
    seed: _Int64 | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    logprobs: bool | None = None
    top_logprobs: _FewOrNone | None = None
    parallel_tool_calls: bool | None = None
    response_format: Raw | UnsetType = UNSET
    tools: Raw | UnsetType = UNSET
    tool_choice: Raw | UnsetType = UNSET


class ChatRequest(ChatOptions, frozen=True, kw_only=True, omit_defaults=True):
    """What to ask a model for.

    `model` is `provider/model`, or an alias the catalogue knows. `extra` holds options that only some providers know,
    by their wire names; they are sent as they are.
    """

    model: str
    messages: tuple[Message, ...]
    extra: dict[str, Raw] = {}
