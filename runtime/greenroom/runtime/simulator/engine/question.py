"""What the simulator is asked and what it answers, free of any wire format."""

from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from greenroom.actors.events import FinishReason, ToolCall

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Schema: TypeAlias = dict[str, "Json"]

# OpenAI's guide to counting tokens for chat: three for each message's frame, three that open the reply.
TOKENS_PER_MESSAGE = 3
TOKENS_PER_REPLY = 3
# The base price of one image at low detail in OpenAI's vision guide.
TOKENS_PER_IMAGE = 85
BYTES_PER_TOKEN = 4


class Turn(msgspec.Struct, frozen=True):
    """One message of the conversation. Parts that are no text are counted (images) or left out (audio, files)."""

    role: str
    text: str
    images: int = 0


class Tool(msgspec.Struct, frozen=True):
    """A function that the caller offers: its name and the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: Schema


class Question(msgspec.Struct, frozen=True):
    """One request as the engine sees it.

    `key` is a digest of everything that may shape the answer: requests with the same key and seed get the same
    answer. `schema` is None for plain text, an empty mapping for "any JSON object", else a JSON Schema.
    `must_call` is the name of the tool to call, "" for any one, None where the model may choose.
    `frame_bytes` is the size of what the model reads beside the messages: schemas and tools.
    `embed` is None where words are wanted; else each turn's embedding is, of so many numbers (0: as many as usual).
    `thinks` is whether the model is to think before it answers; `logprobs` is None, or how many tokens are wanted at
    each token's place beside its log probability.
    """

    model: str
    turns: tuple[Turn, ...]
    key: bytes
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    choices: int = 1
    schema: Schema | None = None
    tools: tuple[Tool, ...] = ()
    must_call: str | None = None
    parallel_calls: bool = True
    frame_bytes: int = 0
    embed: int | None = None
    thinks: bool = False
    logprobs: int | None = None


class Choice(msgspec.Struct, frozen=True):
    """One of the alternatives of an answer: what the model thought, and what it said in `tokens` tokens after that.

    `stopped_by` is the stop sequence that ended it, if one did.
    """

    text: str
    finish: FinishReason
    tokens: int
    tool_calls: tuple[ToolCall, ...] = ()
    stopped_by: str | None = None
    thoughts: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What the model says, and what it counts, its thoughts among the completion; or the embeddings of the turns."""

    choices: tuple[Choice, ...]
    prompt_tokens: int
    completion_tokens: int
    vectors: tuple[list[float], ...] = ()

    @property
    def reasoning_tokens(self) -> int:
        """Those of the completion that were thoughts."""
        return min(self.completion_tokens, sum(count_tokens(choice.thoughts) for choice in self.choices))


class CannotAnswer(Exception):
    """The request is well formed, but asks for what no model or not this one can do. The caller's to mend.

    Attributes:
        message: What is wrong, in words.
        param: The request's field that is to blame, "" when none is.
        code: A short word for programs, in the sense of OpenAI's error codes.
    """

    def __init__(self, message: str, *, param: str, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


def count_tokens(text: str) -> int:
    """The simulator's token rule: one token for every four bytes of UTF-8, the last one perhaps shorter."""
    size = len(text) if text.isascii() else len(text.encode())
    return (size + BYTES_PER_TOKEN - 1) // BYTES_PER_TOKEN


def count_prompt(question: Question) -> int:
    """Tokens of the whole prompt: every message with its frame, images, schema and tools, and the reply's opening."""
    total = TOKENS_PER_REPLY + (question.frame_bytes + BYTES_PER_TOKEN - 1) // BYTES_PER_TOKEN
    for turn in question.turns:
        total += TOKENS_PER_MESSAGE + count_tokens(turn.text) + TOKENS_PER_IMAGE * turn.images
    return total


def cut(text: str, max_tokens: int | None) -> tuple[str, bool]:
    """At most `max_tokens` of `text`, and whether anything was cut away. Characters are never halved."""
    if max_tokens is None or count_tokens(text) <= max_tokens:
        return text, False
    return text.encode()[: max_tokens * BYTES_PER_TOKEN].decode(errors="ignore"), True


def token_chunks(text: str, sizes: Iterator[int]) -> Iterator[list[str]]:
    """The tokens of `text` in chunks of so many each as `sizes` says."""
    tokens = pieces(text)
    at = 0
    while at < len(tokens):
        chunk = tokens[at : at + next(sizes)]
        yield chunk
        at += len(chunk)


def chunks(text: str, sizes: Iterator[int]) -> Iterator[tuple[str, int]]:
    """`text` in chunks of so many tokens each as `sizes` says, with the tokens that each one really has."""
    for chunk in token_chunks(text, sizes):
        yield "".join(chunk), len(chunk)


def pieces(text: str) -> list[str]:
    """`text` in pieces of one token each, as a stream delivers it: joined they are `text` again.

    A character belongs to the piece in which its last byte falls; none is longer than a piece, so no piece is empty.
    """
    if text.isascii():
        return [text[at : at + BYTES_PER_TOKEN] for at in range(0, len(text), BYTES_PER_TOKEN)]
    out: list[str] = []
    start = size = 0
    for at, char in enumerate(text):
        before = size
        size += len(char.encode())
        if before and (size - 1) // BYTES_PER_TOKEN != (before - 1) // BYTES_PER_TOKEN:
            out.append(text[start:at])
            start = at
    out.append(text[start:])
    return out
