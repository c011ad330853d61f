"""How each provider words each class of failure: status, headers and body, as its reference or its server has them."""

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from greenroom.actors.events import ErrorKind
from greenroom.runtime.testing import WireName

Json = dict[str, Any]
SAID = "So it is."
"""What stands where a provider's own words would: they decide nothing."""


class Failure(Struct, frozen=True):
    """One answer that is none. In mid-stream, where there is no status, its code says `mid_stream`."""

    kind: ErrorKind
    status: int
    body: Json
    headers: Mapping[str, str] = {}
    code: str | None = None
    retry_after_s: float | None = None
    by_status: bool = False

    @property
    def mid_stream(self) -> ErrorKind:
        return "server" if self.by_status else self.kind

    def worded(self, words: str) -> bytes:
        """The body with other words in it."""
        return json.dumps(self.body).replace(json.dumps(SAID), json.dumps(words)).encode()


def _openai(kind: ErrorKind, status: int, said: str, code: str | None, *, by_status: bool = False) -> Failure:
    body = {"error": {"message": SAID, "type": said, "param": None, "code": code}}
    return Failure(kind, status, body, code=code or said, by_status=by_status)


_INVALID = "invalid_request_error"
_OPENAI = [
    _openai("authentication", 401, _INVALID, "invalid_api_key"),
    _openai("permission", 403, _INVALID, "unsupported_country_region_territory", by_status=True),
    _openai("permission", 429, "insufficient_quota", "insufficient_quota"),
    _openai("permission", 429, "billing_not_active", "billing_not_active"),
    _openai("permission", 403, _INVALID, "data_residency_mismatch"),
    _openai("authentication", 401, "authentication_error", None),
    _openai("permission", 402, _INVALID, None, by_status=True),
    _openai("not_found", 404, _INVALID, "model_not_found"),
    _openai("not_found", 400, _INVALID, "model_not_found"),
    _openai("invalid_request", 400, _INVALID, None, by_status=True),
    *(
        _openai("invalid_request", 400, _INVALID, code)
        for code in (
            "invalid_prompt",
            "invalid_image",
            "invalid_image_format",
            "invalid_base64_image",
            "invalid_image_url",
            "invalid_image_mode",
            "image_too_large",
            "image_too_small",
            "image_parse_error",
            "image_file_too_large",
            "image_file_not_found",
            "empty_image_file",
            "unsupported_image_media_type",
            "failed_to_download_image",
        )
    ),
    _openai("invalid_request", 413, _INVALID, "request_too_large", by_status=True),
    _openai("invalid_request", 422, _INVALID, "unprocessable", by_status=True),
    _openai("context_length", 400, _INVALID, "context_length_exceeded"),
    _openai("context_length", 400, _INVALID, "string_above_max_length"),
    _openai("context_length", 400, "exceed_context_size_error", None),
    _openai("rate_limited", 429, "requests", "rate_limit_exceeded"),
    _openai("rate_limited", 429, "tokens", "rate_limit_exceeded"),
    _openai("overloaded", 503, "server_error", None, by_status=True),
    _openai("overloaded", 503, "service_unavailable_error", "server_overloaded"),
    _openai("overloaded", 500, "overloaded_error", None),
    _openai("timeout", 400, _INVALID, "vector_store_timeout"),
    _openai("server", 500, "server_error", None),
    _openai("server", 500, "server_error", "server_error"),
    _openai("server", 502, "server_error", "bad_gateway"),
    _openai("server", 409, _INVALID, None, by_status=True),
    _openai("overloaded", 425, _INVALID, None, by_status=True),
    _openai("timeout", 408, "timeout_error", "timeout", by_status=True),
    _openai("timeout", 504, "server_error", None, by_status=True),
    _openai("content_filter", 400, _INVALID, "content_policy_violation"),
    *(
        _openai("content_filter", 400, _INVALID, code)
        for code in (
            "content_filter",
            "bio_policy",
            "misalignment_policy_violation",
            "image_content_policy_violation",
        )
    ),
    _openai("unsupported_capability", 400, _INVALID, "unsupported_parameter"),
    _openai("unsupported_capability", 400, _INVALID, "unsupported_value"),
]


def _tgi(kind: ErrorKind, status: int, said: str) -> Failure:
    return Failure(kind, status, {"error": SAID, "error_type": said}, code=said)


_TGI = [
    _tgi("overloaded", 429, "overloaded"),
    _tgi("invalid_request", 422, "validation"),
    _tgi("server", 424, "generation"),
    _tgi("server", 500, "incomplete_generation"),
]


def _anthropic(kind: ErrorKind, status: int, said: str, cause: str | None = None) -> Failure:
    error: Json = {"type": said, "message": SAID}
    if cause is not None:
        error["details"] = {"error_code": cause}
    body = {"type": "error", "error": error, "request_id": "req_1"}
    return Failure(kind, status, body, code=cause or said)


_ANTHROPIC = [
    _anthropic("authentication", 401, "authentication_error"),
    _anthropic("permission", 402, "billing_error"),
    _anthropic("permission", 403, "permission_error"),
    _anthropic("permission", 429, "rate_limit_error", "contract_spend_limit_reached"),
    _anthropic("permission", 429, "rate_limit_error", "enforced_spend_limit_reached"),
    _anthropic("not_found", 404, "not_found_error"),
    _anthropic("invalid_request", 400, "invalid_request_error"),
    _anthropic("invalid_request", 413, "request_too_large"),
    _anthropic("context_length", 400, "exceed_context_size_error"),
    _anthropic("rate_limited", 429, "rate_limit_error"),
    _anthropic("rate_limited", 429, "rate_limit_error", "ramp_limit_exceeded"),
    _anthropic("overloaded", 529, "overloaded_error"),
    _anthropic("overloaded", 500, "overloaded_error"),
    _anthropic("server", 500, "api_error"),
    _anthropic("timeout", 504, "timeout_error"),
]


def _gemini(kind: ErrorKind, code: int, status: str, *details: Json) -> Failure:
    body = {"error": {"code": code, "message": SAID, "status": status, "details": list(details)}}
    reason = next((str(detail["reason"]) for detail in details if "reason" in detail), status)
    delay = next((float(detail["retryDelay"][:-1]) for detail in details if "retryDelay" in detail), None)
    return Failure(kind, code, body, code=reason, retry_after_s=delay)


def _reason(reason: str) -> Json:
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return {"@type": kind, "reason": reason, "domain": "googleapis.com"}


_DELAY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"}
_QUOTA: Json = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}
_GEMINI = [
    _gemini("authentication", 400, "INVALID_ARGUMENT", _reason("API_KEY_INVALID")),
    _gemini("authentication", 400, "INVALID_ARGUMENT", _reason("API_KEY_EXPIRED")),
    _gemini("authentication", 401, "UNAUTHENTICATED"),
    _gemini("permission", 403, "PERMISSION_DENIED"),
    _gemini("permission", 403, "PERMISSION_DENIED", _reason("SERVICE_DISABLED")),
    _gemini("permission", 403, "PERMISSION_DENIED", _reason("API_KEY_SERVICE_BLOCKED")),
    _gemini("permission", 429, "RESOURCE_EXHAUSTED", _reason("BILLING_DISABLED")),
    _gemini("permission", 400, "FAILED_PRECONDITION"),
    _gemini("not_found", 404, "NOT_FOUND"),
    _gemini("invalid_request", 400, "INVALID_ARGUMENT"),
    _gemini("invalid_request", 400, "OUT_OF_RANGE"),
    _gemini("invalid_request", 409, "ALREADY_EXISTS"),
    _gemini("rate_limited", 429, "RESOURCE_EXHAUSTED", _QUOTA, _DELAY),
    _gemini("overloaded", 503, "UNAVAILABLE"),
    _gemini("server", 500, "INTERNAL"),
    _gemini("server", 500, "UNKNOWN"),
    _gemini("server", 500, "DATA_LOSS"),
    _gemini("server", 409, "ABORTED"),
    _gemini("server", 499, "CANCELLED"),
    _gemini("timeout", 504, "DEADLINE_EXCEEDED"),
    _gemini("unsupported_capability", 501, "UNIMPLEMENTED"),
]


def _ollama(kind: ErrorKind, status: int) -> Failure:
    return Failure(kind, status, {"error": SAID}, by_status=True)


_OLLAMA = [
    _ollama("authentication", 401),
    _ollama("permission", 403),
    _ollama("not_found", 404),
    _ollama("invalid_request", 400),
    _ollama("rate_limited", 429),
    _ollama("overloaded", 503),
    _ollama("server", 500),
    _ollama("timeout", 504),
]


def _bedrock(kind: ErrorKind, status: int, name: str) -> Failure:
    return Failure(kind, status, {"message": SAID}, {"x-amzn-errortype": f"{name}:http://amazon.com/"}, name)


_BEDROCK = [
    _bedrock("authentication", 403, "UnrecognizedClientException"),
    _bedrock("authentication", 403, "InvalidSignatureException"),
    _bedrock("authentication", 403, "ExpiredTokenException"),
    _bedrock("authentication", 403, "MissingAuthenticationTokenException"),
    _bedrock("authentication", 403, "InvalidClientTokenId"),
    _bedrock("authentication", 400, "IncompleteSignature"),
    _bedrock("permission", 403, "AccessDeniedException"),
    _bedrock("permission", 400, "NotAuthorized"),
    _bedrock("permission", 400, "OptInRequired"),
    _bedrock("not_found", 404, "ResourceNotFoundException"),
    _bedrock("invalid_request", 400, "ValidationException"),
    _bedrock("invalid_request", 400, "ValidationError"),
    _bedrock("rate_limited", 429, "ThrottlingException"),
    _bedrock("rate_limited", 400, "ServiceQuotaExceededException"),
    _bedrock("overloaded", 429, "ModelNotReadyException"),
    _bedrock("overloaded", 503, "ServiceUnavailableException"),
    _bedrock("overloaded", 503, "ServiceUnavailable"),
    _bedrock("server", 500, "InternalServerException"),
    _bedrock("server", 500, "InternalFailure"),
    _bedrock("server", 424, "ModelErrorException"),
    _bedrock("server", 424, "ModelStreamErrorException"),
    _bedrock("timeout", 408, "ModelTimeoutException"),
    Failure(
        "rate_limited",
        400,
        {"__type": "com.amazon.coral.availability#ThrottlingException", "Message": SAID},
        code="ThrottlingException",
    ),
]
FAILURES: dict[WireName, list[Failure]] = {
    "openai-chat": _OPENAI + _TGI,
    "openai-responses": _OPENAI,
    "anthropic-messages": _ANTHROPIC,
    "gemini": _GEMINI,
    "ollama": _OLLAMA,
    "bedrock-converse": _BEDROCK,
}
TOLD_BY_PROVIDERS: frozenset[ErrorKind] = frozenset({
    "authentication", "permission", "not_found", "invalid_request", "context_length", "rate_limited", "overloaded",
    "server", "timeout", "content_filter", "unsupported_capability",
})  # fmt: skip
NOT_TOLD: dict[WireName, frozenset[ErrorKind]] = {
    # All three are an invalid_request_error, and only its words would say which. A filter is a stop reason.
    "anthropic-messages": frozenset({"content_filter", "unsupported_capability"}),
    # A prompt that is too long is an INVALID_ARGUMENT like any other; a filter is a finish or block reason.
    "gemini": frozenset({"context_length", "content_filter"}),
    "ollama": frozenset({"context_length", "content_filter", "unsupported_capability"}),
    "bedrock-converse": frozenset({"context_length", "content_filter", "unsupported_capability"}),
}
"""What a provider has no code for: it tells it as one of the other classes, or in no error at all."""
