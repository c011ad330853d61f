"""An answer on Gemini's wire, whole or one piece of a stream: both are a GenerateContentResponse.

Shapes: Google's Gemini API reference, "GenerateContentResponse", "UsageMetadata", "FinishReason". In a stream every
piece tells the usage so far, the last one why the model stopped, and nothing marks the end.
"""

from collections.abc import Callable

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from greenroom.actors.events import (
    FinishReason,
    ReasoningDelta,
    ReasoningState,
    RefusalDelta,
    Started,
    StreamEvent,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from greenroom.actors.providers.gemini.errors import GoogleError
from greenroom.actors.providers.gemini.usage import UsageMetadata, usage_of
from greenroom.actors.providers.wire import RejectedAnswer

WIRE = "gemini"

FINISH_REASONS: dict[str, FinishReason] = {
    "STOP": "stop",
    "OTHER": "stop",
    "NO_IMAGE": "stop",
    "IMAGE_OTHER": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
    "PUP_LIMITED_DISABLED": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
"""What is left out here (MALFORMED_FUNCTION_CALL and its like) says that the model came to no answer."""


class _Wire(Struct, rename="camel", gc=False):
    pass


class _FunctionCall(_Wire):
    name: str = ""
    id: str = ""
    args: Raw | UnsetType = UNSET


class _Part(_Wire):
    text: str = ""
    thought: bool = False
    thought_signature: str = ""
    function_call: _FunctionCall | None = None


class _Content(_Wire):
    parts: list[_Part] = []


class _Logprob(_Wire):
    token: str = ""
    log_probability: float = 0.0


class _TopLogprobs(_Wire):
    candidates: list[_Logprob] = []


class _Logprobs(_Wire):
    chosen_candidates: list[_Logprob] = []
    top_candidates: list[_TopLogprobs] = []


class _Grounding(_Wire):
    web_search_queries: list[str] = []


class _Candidate(_Wire):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str = ""
    index: int = 0
    logprobs_result: _Logprobs | None = None
    grounding_metadata: _Grounding | None = None


class _Feedback(_Wire):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Response(_Wire):
    candidates: list[_Candidate] = []
    prompt_feedback: _Feedback | None = None
    usage_metadata: UsageMetadata | None = None
    model_version: str = ""
    response_id: str = ""
    error: GoogleError | None = None


class Signature(Struct, frozen=True, gc=False):
    """A signed thought: of the answer's `call`-th function call, or of its text where that is None."""

    signature: str
    call: int | None = None


_CHARGED_BY_REQUEST = ("gemini-1.", "gemini-2.")
"""Models whose searches are charged once a request, and not each: Google's "Gemini Developer API pricing", Grounding."""

decode_response = msgspec.json.Decoder(_Response).decode


class AnswerReader:
    """Tells what one response after another means, which is a single one where the answer came whole.

    Args:
        tell: takes the events.

    `reason` is why the model stopped, None as long as it has not said so.
    """

    def __init__(self, tell: Callable[[StreamEvent], None]) -> None:
        self._tell = tell
        self._started: Started | None = None
        self._calls = 0
        self._searches = 0
        self._signatures: list[Signature] = []
        self._usage: Usage | None = None
        self.reason: FinishReason | None = None

    def take(self, response: _Response) -> None:
        """Tell of the next response.

        Raises:
            RejectedAnswer: it holds nothing that an answer may hold, or the model came to no answer.
        """
        if self._started is None:
            if (
                not response.candidates
                and response.prompt_feedback is None
                and response.usage_metadata is None
            ):
                raise RejectedAnswer("a response without candidates, feedback and usage")
            self._started = Started(response.response_id, response.model_version)
            self._tell(self._started)
        for candidate in response.candidates:
            if candidate.index == 0:
                self._take_candidate(candidate)
        feedback = response.prompt_feedback
        if feedback is not None and feedback.block_reason is not None:
            self._tell(RefusalDelta(feedback.block_reason_message or feedback.block_reason))
            self.reason = "content_filter"
        if response.usage_metadata is not None:
            self._take_usage(response.usage_metadata)

    def state(self) -> ReasoningState | None:
        """What Gemini wants back of its thoughts; told last."""
        return ReasoningState(WIRE, Raw(msgspec.json.encode(self._signatures))) if self._signatures else None

    def _take_candidate(self, candidate: _Candidate) -> None:
        if candidate.logprobs_result is not None:
            self._tell(TextDelta("", _logprobs(candidate.logprobs_result)))
        for part in candidate.content.parts if candidate.content else ():
            self._take_part(part)
        if candidate.grounding_metadata is not None:
            self._searches = max(self._searches, self._searches_of(candidate.grounding_metadata))
        said = candidate.finish_reason
        if said is None:
            return
        reason = FINISH_REASONS.get(said)
        if reason is None:
            raise RejectedAnswer(f"the model came to no answer: {said} {candidate.finish_message}".rstrip())
        self.reason = "tool_calls" if reason == "stop" and self._calls else reason

    def _searches_of(self, grounding: _Grounding) -> int:
        queries = sum(1 for query in grounding.web_search_queries if query)
        once = self._started is not None and self._started.model.startswith(_CHARGED_BY_REQUEST)
        return min(queries, 1) if once else queries

    def _take_part(self, part: _Part) -> None:
        call = part.function_call
        if call is not None:
            if not call.name:
                raise RejectedAnswer("a function call without a name")
            if part.thought_signature:
                self._signatures.append(Signature(part.thought_signature, self._calls))
            self._take_call(call)
            return
        if part.thought_signature:
            self._signatures = [signed for signed in self._signatures if signed.call is not None]
            self._signatures.append(Signature(part.thought_signature))
        if part.text:
            self._tell(ReasoningDelta(part.text) if part.thought else TextDelta(part.text))

    def _take_call(self, call: _FunctionCall) -> None:
        assert self._started is not None, "take() tells it first"
        arguments = "{}" if call.args is UNSET else bytes(call.args).decode()
        # Older models give no ids. Whoever answers the call needs one, and another one in every round.
        id_ = call.id or "_".join(filter(None, ("call", self._started.id, str(self._calls))))
        self._tell(ToolCallDelta(self._calls, arguments, id_, call.name))
        self._calls += 1

    def _take_usage(self, said: UsageMetadata) -> None:
        usage = usage_of(said, self._searches)
        if usage is not None and usage != self._usage:
            self._usage = usage
            self._tell(usage)


def _logprobs(found: _Logprobs) -> tuple[TokenLogprob, ...]:
    tops = found.top_candidates
    return tuple(
        TokenLogprob(
            chosen.token,
            chosen.log_probability,
            top_logprobs=tuple(TokenLogprob(top.token, top.log_probability) for top in tops[place].candidates)
            if place < len(tops)
            else (),
        )
        for place, chosen in enumerate(found.chosen_candidates)
    )
