"""POST /v1/messages as it arrives: bytes to a `Question`, or a `WireError` that names the field."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from greenroom.runtime.simulator.engine import Question, Tool, Turn
from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.reading import (
    Head,
    Part,
    Text,
    convert,
    digests,
    frame_bytes,
    json_object,
    refuse_unknown,
)
from greenroom.runtime.simulator.wires.wire import Asked

# From this version on, sampling is the model's own affair (Anthropic's notes on API versions).
NO_SAMPLING_SINCE = "2026-10-21"
_SAMPLING = ("temperature", "top_p", "top_k")


class _Text(Text, tag="text"):
    pass


class _Image(Part, tag="image"):
    images: ClassVar[int] = 1
    source: dict[str, Any]


class _Document(Part, tag="document"):
    source: dict[str, Any]


class _Thinking(Part, tag="thinking"):
    thinking: str
    signature: str


class _RedactedThinking(Part, tag="redacted_thinking"):
    data: str


class _ToolUse(Part, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]

    def words(self) -> str:
        return self.name + msgspec.json.encode(self.input).decode()


class _ToolResult(Part, tag="tool_result"):
    tool_use_id: str
    content: str | list[_Text | _Image | _Document] | None = None
    is_error: bool | None = None

    def words(self) -> str:
        content = self.content or ""
        return content if isinstance(content, str) else "".join([block.words() for block in content])


_Blocks = Annotated[
    list[_Text | _Image | _Document | _Thinking | _RedactedThinking | _ToolUse | _ToolResult],
    Meta(min_length=1),
]


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | _Blocks


class _Tool(msgspec.Struct):
    name: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,128}$")]
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None


class _ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Format(msgspec.Struct):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class _OutputConfig(msgspec.Struct):
    format: _Format | None = None
    effort: str | None = None


class _Thought(msgspec.Struct):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Annotated[int, Meta(ge=1024)] | None = None
    display: str | None = None


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Body(msgspec.Struct, kw_only=True):
    """The fields that the simulator reads. What it accepts and leaves aside stands in `_LEFT_ASIDE`."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[_Message], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    system: str | list[_Text] | None = None
    stop_sequences: list[Annotated[str, Meta(min_length=1)]] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    output_config: _OutputConfig | None = None
    metadata: _Metadata | None = None
    thinking: _Thought | None = None


# Part of the published request, without effect on what is simulated.
_LEFT_ASIDE = frozenset({
    "cache_control", "container", "diagnostics", "inference_geo", "service_tier", "speed",
    "user_profile_id", "workspace_id",
})  # fmt: skip
_KNOWN = frozenset(_Body.__struct_fields__) | _LEFT_ASIDE
_NO_PART_OF_THE_QUESTION = ("stream", "metadata", *_LEFT_ASIDE)
_FRAME = ("tools", "output_config")


def parse_messages(body: bytes, head: Head) -> Asked:
    """Decodes and checks a request for a message, or for the count of its tokens.

    Raises:
        WireError: With status 400 and, wherever one field is to blame, its name in `param`.
    """
    version = head.headers.get("anthropic-version")
    if version is None:
        raise WireError(400, "anthropic-version: header is required", param="anthropic-version")
    fields = json_object(body)
    refuse_unknown(fields, _KNOWN)
    asked = convert(fields, _Body)
    _refuse_combinations(asked, version, counting=head.path.endswith("/count_tokens"))
    framed = frame_bytes(fields, _FRAME)
    prompt_sha256, key = digests(fields, "messages", _NO_PART_OF_THE_QUESTION)
    return Asked(
        question=_question(asked, key, framed),
        prompt_sha256=prompt_sha256,
        stream=bool(asked.stream),
        custom_id=asked.metadata.user_id if asked.metadata else None,
    )


def _refuse_combinations(asked: _Body, version: str, *, counting: bool) -> None:
    if asked.max_tokens is None and not counting:
        raise WireError(400, "max_tokens: Field required", param="max_tokens")
    for name in _SAMPLING:
        if version >= NO_SAMPLING_SINCE and getattr(asked, name) is not None:
            raise WireError(400, f"{name}: not supported by version {version}", param=name)
    choice = asked.tool_choice
    names = {tool.name for tool in asked.tools or ()}
    if choice is not None and choice.type in {"any", "tool"} and not names:
        raise WireError(400, "tool_choice: is for requests with tools", param="tool_choice")
    if choice is not None and choice.type == "tool" and choice.name not in names:
        message = f"tool_choice.name: {choice.name!r} is none of the tools"
        raise WireError(400, message, param="tool_choice.name")


def _question(asked: _Body, key: bytes, framed: int) -> Question:
    choice = asked.tool_choice
    turns = [turn for message in asked.messages for turn in _turns(message)]
    if asked.system:
        system = asked.system if isinstance(asked.system, str) else "".join([b.text for b in asked.system])
        turns.insert(0, Turn("system", system))
    must_call = None
    if choice is not None and choice.type in {"any", "tool"}:
        must_call = choice.name or ""
    output = asked.output_config.format if asked.output_config else None
    tools = () if choice is not None and choice.type == "none" else tuple(asked.tools or ())
    return Question(
        model=asked.model,
        turns=tuple(turns),
        key=key,
        max_tokens=asked.max_tokens,
        stop=tuple(asked.stop_sequences or ()),
        schema=output.schema if output else None,
        tools=tuple([Tool(tool.name, tool.description or "", tool.input_schema) for tool in tools]),
        must_call=must_call,
        parallel_calls=not (choice and choice.disable_parallel_tool_use),
        frame_bytes=framed,
        thinks=asked.thinking is not None and asked.thinking.type != "disabled",
    )


def _turns(message: _Message) -> list[Turn]:
    """A message as turns: results of tools stand within a user's message, but speak for themselves."""
    if isinstance(message.content, str):
        return [Turn(message.role, message.content)]
    results = [block for block in message.content if isinstance(block, _ToolResult)]
    others = [block for block in message.content if not isinstance(block, _ToolResult)]
    turns: list[Turn] = [Turn("tool", block.words()) for block in results]
    if others:
        words = "".join([block.words() for block in others])
        turns.append(Turn(message.role, words, sum(block.images for block in others)))
    return turns
