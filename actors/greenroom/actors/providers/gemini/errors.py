"""What failures mean on Gemini's wire.

Shapes: Google's API design guide, "Errors" (google.rpc.Status as JSON): `status` is the class; among `details`,
ErrorInfo tells a reason and RetryInfo how long to wait.
"""

from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct, field

from greenroom.actors.events import ErrorKind, ProviderError
from greenroom.actors.providers.faults import excerpt, kind_of_status, shortened
from greenroom.actors.providers.headers import retry_after_s

_KIND_BY_STATUS: dict[str, ErrorKind] = {
    "INVALID_ARGUMENT": "invalid_request",
    "OUT_OF_RANGE": "invalid_request",
    "ALREADY_EXISTS": "invalid_request",
    # Google answers so where billing is off or the region is not served: no waiting helps.
    "FAILED_PRECONDITION": "permission",
    "UNAUTHENTICATED": "authentication",
    "PERMISSION_DENIED": "permission",
    "NOT_FOUND": "not_found",
    "RESOURCE_EXHAUSTED": "rate_limited",
    "UNIMPLEMENTED": "unsupported_capability",
    "CANCELLED": "server",
    "ABORTED": "server",
    "DATA_LOSS": "server",
    "UNKNOWN": "server",
    "INTERNAL": "server",
    "UNAVAILABLE": "overloaded",
    "DEADLINE_EXCEEDED": "timeout",
}

_KIND_BY_REASON: dict[str, ErrorKind] = {
    # A wrong key comes as INVALID_ARGUMENT.
    "API_KEY_INVALID": "authentication",
    "API_KEY_EXPIRED": "authentication",
    "API_KEY_SERVICE_BLOCKED": "permission",
    "SERVICE_DISABLED": "permission",
    "BILLING_DISABLED": "permission",
}


class _Detail(Struct, gc=False):
    type: str = field(name="@type", default="")
    reason: str = ""
    retry_delay: str = field(name="retryDelay", default="")


class GoogleError(Struct, gc=False):
    """An error object."""

    code: int = 0
    message: str = ""
    status: str = ""
    details: list[_Detail] = []


class _Failure(Struct, gc=False):
    error: GoogleError | None = None


# A stream that fails before its first event is answered with a list of one.
_decode_failure: Callable[[bytes], _Failure | list[_Failure]] = msgspec.json.Decoder(
    _Failure | list[_Failure]
).decode


def failure(
    provider: str, status: int, headers: Mapping[str, str], body: bytes, now_s: float
) -> ProviderError:
    """A non-2xx answer as an error; see `Codec.failure`."""
    try:
        answer = _decode_failure(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = _Failure()
    found = next(iter(answer), _Failure()) if isinstance(answer, list) else answer
    error = as_error(found.error or GoogleError(), status)
    return msgspec.structs.replace(
        error,
        message=error.message or f"HTTP {status}: {excerpt(body)}",
        provider=provider,
        status=status,
        retry_after_s=_first(error.retry_after_s, retry_after_s(headers, now_s)),
    )


def as_error(error: GoogleError, status: int | None = None) -> ProviderError:
    """An error object as an error. In mid-stream there is no HTTP status; the object's own code stands in for it."""
    reason = next((detail.reason for detail in error.details if detail.reason), "")
    kind = _KIND_BY_REASON.get(reason) or _KIND_BY_STATUS.get(error.status)
    return ProviderError(
        kind=kind or kind_of_status(status or error.code or 500),
        message=shortened(error.message),
        code=reason or error.status or None,
        retry_after_s=next(
            (_seconds(detail.retry_delay) for detail in error.details if detail.retry_delay), None
        ),
    )


def _seconds(duration: str) -> float | None:
    """A google.protobuf.Duration in JSON: seconds with a fraction, and an `s`."""
    try:
        seconds = float(duration.removesuffix("s"))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _first(one: float | None, other: float | None) -> float | None:
    return other if one is None else one
