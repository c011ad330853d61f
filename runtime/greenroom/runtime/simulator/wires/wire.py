"""What a wire format is to the simulator: a way to read requests, and the bytes of answers and errors."""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from greenroom.actors.events import ToolCall
from greenroom.runtime.simulator.engine import Answer, Likely, Model, Question, likelihoods
from greenroom.runtime.simulator.traffic.advice import RetryAfterForm
from greenroom.runtime.simulator.traffic.limits import Limits
from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.reading import Head

SSE = "text/event-stream; charset=utf-8"
JSON = "application/json"


class Asked(msgspec.Struct, frozen=True):
    """A request that is well formed.

    `prompt_sha256` is the hexadecimal SHA-256 of the messages as compact JSON in UTF-8 with sorted keys; `form` what else the
    wire wants to know about the body of the answer.
    """

    question: Question
    prompt_sha256: str
    stream: bool = False
    include_usage: bool = False
    custom_id: str | None = None
    form: str = ""


def called_with(call: ToolCall) -> object:
    """A call's arguments, for wires that send them as an object; of arguments that were cut off nothing is left."""
    try:
        return msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        return {}


def token_logprobs(question: Question, tokens: Iterable[str]) -> list[dict[str, object]] | None:
    """Log probabilities as OpenAI's two wires and Ollama's write them; None where nobody wants them."""
    if question.logprobs is None:
        return None
    return [
        {**_likely(each), "top_logprobs": [_likely(other) for other in each.others]}
        for each in likelihoods(tokens, question.logprobs)
    ]


def _likely(likely: Likely) -> dict[str, object]:
    return {"token": likely.token, "logprob": likely.logprob, "bytes": [*likely.token.encode()]}


def sealed(thoughts: str) -> str:
    """What stands for thoughts where a provider wants them back: signed or encrypted, and nothing to read."""
    return base64.b64encode(hashlib.sha256(thoughts.encode()).digest()).decode()


class Wire(Protocol):
    """One wire format. It knows bytes only: no clock, no socket."""

    @property
    def stream_type(self) -> str:
        """The content type of a stream."""
        ...

    @property
    def filler(self) -> bytes:
        """What a stream may carry for ever without saying anything."""
        ...

    @property
    def advice(self) -> RetryAfterForm | None:
        """How this wire's providers tell a client to wait; None: in the body of the error."""
        ...

    def wrong_key(self, *, missing: bool) -> WireError:
        """What is said to a client without a key, or with a wrong one."""
        ...

    def parse(self, body: bytes, head: Head) -> Asked:
        """Reads a request for an answer; `WireError` where it is not well formed."""
        ...

    def whole(self, asked: Asked, answer: Answer) -> bytes:
        """The body of an answer in one piece."""
        ...

    def events(self, asked: Asked, answer: Answer, sizes: Iterator[int]) -> Iterator[tuple[bytes, int]]:
        """The same answer as a stream: each event with the tokens it delivers, at most `sizes` of them in each."""
        ...

    def error(self, error: WireError, request_id: str) -> bytes:
        """The body of an error."""
        ...

    def error_headers(self, error: WireError) -> dict[str, str]:
        """What the headers of an error tell about it."""
        ...

    def headers(self, request_id: str) -> dict[str, str]:
        """What every answer carries, error or not."""
        ...

    def limit_headers(self, limits: Limits, now_s: float, time_s: float) -> dict[str, str]:
        """What answers tell about limits, at the monotonic time `now_s` and the Unix time `time_s`."""
        ...

    def models(self, models: Iterable[Model]) -> bytes:
        """The body of a list of models."""
        ...

    def model(self, model: Model) -> bytes:
        """The body of one model."""
        ...
