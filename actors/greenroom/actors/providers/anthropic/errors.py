"""What failures mean on Anthropic's wire.

Shapes: Anthropic's API reference, "Errors" (`{"type": "error", "error": {"type", "message", "details"},
"request_id"}`). The type is the broad class; `details.error_code`, where there is one, names the cause and wins.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from greenroom.actors.events import ErrorKind, ProviderError
from greenroom.actors.providers.faults import excerpt, kind_of_status, shortened
from greenroom.actors.providers.headers import retry_after_s

_KIND_BY_CODE: dict[str, ErrorKind] = {
    # A spent account answers 429, but no waiting helps.
    "contract_spend_limit_reached": "permission",
    "enforced_spend_limit_reached": "permission",
    "ramp_limit_exceeded": "rate_limited",
}

_KIND_BY_TYPE: dict[str, ErrorKind] = {
    "invalid_request_error": "invalid_request",
    "authentication_error": "authentication",
    "billing_error": "permission",
    "permission_error": "permission",
    "not_found_error": "not_found",
    "request_too_large": "invalid_request",
    "exceed_context_size_error": "context_length",  # llama.cpp
    "rate_limit_error": "rate_limited",
    "timeout_error": "timeout",
    "overloaded_error": "overloaded",
}


class _Details(Struct, gc=False):
    error_code: str | None = None


class AnthropicError(Struct, gc=False):
    """An error object."""

    type: str = ""
    message: str = ""
    details: _Details | None = None


class _Failure(Struct, gc=False):
    error: AnthropicError | None = None
    request_id: str | None = None


_decode_failure = msgspec.json.Decoder(_Failure).decode


def failure(
    provider: str, status: int, headers: Mapping[str, str], body: bytes, now_s: float
) -> ProviderError:
    """A non-2xx answer as an error; see `Codec.failure`."""
    try:
        found = _decode_failure(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _Failure()
    error = found.error or AnthropicError()
    return ProviderError(
        kind=_kind(error) or kind_of_status(status),
        message=shortened(error.message) or f"HTTP {status}: {excerpt(body)}",
        provider=provider,
        status=status,
        code=_code(error),
        request_id=found.request_id or headers.get("request-id"),
        retry_after_s=retry_after_s(headers, now_s),
    )


def in_mid_stream(error: AnthropicError, request_id: str | None, data: bytes) -> ProviderError:
    """An `error` event, which has no status of its own."""
    return ProviderError(
        kind=_kind(error) or "server",
        message=shortened(error.message) or excerpt(data),
        code=_code(error),
        request_id=request_id,
    )


def _kind(error: AnthropicError) -> ErrorKind | None:
    code = error.details.error_code if error.details else None
    return _KIND_BY_CODE.get(code or "") or _KIND_BY_TYPE.get(error.type)


def _code(error: AnthropicError) -> str | None:
    return (error.details.error_code if error.details else None) or error.type or None
