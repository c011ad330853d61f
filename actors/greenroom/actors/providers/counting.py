"""How many tokens a request has, before it is asked: the wires that count it, and an estimate for those that do not.

What is counted is the input: options that say nothing to the model are left out of the question.
"""

from collections.abc import Collection
from typing import Protocol, runtime_checkable

import msgspec
from msgspec import Raw, Struct, structs

from greenroom.actors.events import Usage
from greenroom.actors.providers.chat import ChatRequest, ImagePart
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.wire import Codec, RejectedAnswer, TokenCount, WireRequest

_BYTES_PER_TOKEN = 4
_TOKENS_PER_IMAGE = 1_000
"""A fair guess at a picture of a thousand pixels by a thousand, which providers put at 765 to 1 600."""
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class CountedInput(Struct, frozen=True):
    """The tokens of a request's input.

    `estimated`: the provider counts none for others, so they were reckoned from the request's bytes, some way off
    either side. A bound is `bounds.input_tokens_bound`, which is what a hold is made of.
    """

    input_tokens: int
    provider: str
    model: str
    estimated: bool = False


class Counted(Struct, frozen=True):
    """What an endpoint counted. Counting uses no tokens, and no provider charges for it."""

    input_tokens: int
    usage: Usage = Usage()
    usage_reported: bool = True


@runtime_checkable
class TokenCounter(Protocol):
    """The part of a wire that counts. Wires without it are estimated."""

    def encode_count(self, request: ChatRequest, model: str) -> WireRequest:
        """The bytes that ask how many tokens the request's input has.

        Raises:
            ProviderFailed: with kind `unsupported_capability`, naming an option the wire cannot express.
        """
        ...

    def decode_count(self, body: bytes) -> Counted:
        """A 2xx body as a number of tokens.

        Raises:
            RejectedAnswer: it is no JSON, or not of the dialect's shape.
        """
        ...


def token_counter(codec: Codec) -> TokenCounter | None:
    """The counting part of a codec, or None where it has none."""
    return codec if isinstance(codec, TokenCounter) else None


def input_of(request: ChatRequest) -> ChatRequest:
    """The request without options that only shape the answer: an endpoint that counts may not know them."""
    return structs.replace(
        request,
        max_tokens=None,
        temperature=None,
        top_p=None,
        stop=None,
        seed=None,
        presence_penalty=None,
        frequency_penalty=None,
        user=None,
        logprobs=None,
        top_logprobs=None,
        extra={name: value for name, value in request.extra.items() if name != "n"},
    )


class _Answer(Struct, gc=False):
    """What says it on each wire: OpenAI's and Anthropic's, Bedrock's, Gemini's."""

    input_tokens: TokenCount | None = None
    inputTokens: TokenCount | None = None  # noqa: N815 - Bedrock's name
    totalTokens: TokenCount | None = None  # noqa: N815 - Gemini's name


_decode_answer = msgspec.json.Decoder(_Answer).decode


class Counting:
    """What all wires that count have in common: an answer that is hardly more than a number."""

    def decode_count(self, body: bytes) -> Counted:
        """See `TokenCounter.decode_count`."""
        try:
            said = _decode_answer(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedAnswer(f"{error}; the body begins {excerpt(body)!r}") from None
        for count in (said.input_tokens, said.inputTokens, said.totalTokens):
            if count is not None:
                return Counted(count)
        raise RejectedAnswer(f"no number of tokens; the body begins {excerpt(body)!r}")


def kept(body: bytes, names: Collection[str]) -> bytes:
    """The fields of a body that a narrower endpoint takes."""
    return _encode({name: value for name, value in _decode_fields(body).items() if name in names})


def estimate_tokens(request: ChatRequest, body: bytes) -> int:
    """A guess at the input tokens of a request whose encoded body this is."""
    pictures = [
        part.image_url.url
        for message in request.messages
        if isinstance(message.content, tuple)
        for part in message.content
        if isinstance(part, ImagePart)
    ]
    text_bytes = max(0, len(body) - sum(map(len, pictures)))
    return -(-text_bytes // _BYTES_PER_TOKEN) + _TOKENS_PER_IMAGE * len(pictures)
