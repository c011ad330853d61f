"""A chat request in greenroom's one vocabulary, which is OpenAI's where OpenAI has a word for it."""

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from greenroom.actors.events import ReasoningState


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

    role: Literal["system", "developer", "user", "assistant", "tool"]
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

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | tuple[str, ...] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
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
