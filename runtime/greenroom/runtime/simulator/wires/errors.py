"""Errors that end a request, in words of no wire in particular; each wire has its own body for them."""

import re

import msgspec

from greenroom.runtime.simulator.traffic.limits import Exceeded

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"
RATE_LIMITED = "rate_limit_exceeded"
_STATUS_FAULTS: dict[int, tuple[str, str, str | None]] = {
    400: (INVALID_REQUEST, "This request is refused.", "invalid_value"),
    401: (INVALID_REQUEST, "Incorrect API key provided.", "invalid_api_key"),
    403: (INVALID_REQUEST, "This key may not use this model.", "model_not_allowed"),
    404: (INVALID_REQUEST, "The model does not exist.", "model_not_found"),
    408: ("timeout_error", "The request took too long.", "timeout"),
    409: (INVALID_REQUEST, "The request is in conflict with another one.", "conflict"),
    413: (INVALID_REQUEST, "The request is too large.", "request_too_large"),
    422: (INVALID_REQUEST, "The request cannot be processed.", "unprocessable"),
    429: ("requests", "Rate limit reached.", RATE_LIMITED),
    500: (SERVER_ERROR, "The server had an error while processing the request.", None),
    502: (SERVER_ERROR, "Bad gateway.", "bad_gateway"),
    503: ("service_unavailable_error", "The model is overloaded.", "overloaded"),
    504: (SERVER_ERROR, "The gateway timed out.", "gateway_timeout"),
    529: ("overloaded_error", "The server is overloaded.", "overloaded"),
}
_MISSING = re.compile(r"missing required field `(\w+)`")
_PLACE = re.compile(r" - at `\$\.?(.*)`$")


class WireError(Exception):
    """The request is answered with an error body and nothing else.

    Attributes:
        status: The HTTP status.
        message: What is wrong and, where that can be said, what would be right.
        kind: OpenAI's `type`, such as "invalid_request_error".
        param: The field of the request that is to blame, or None.
        code: OpenAI's `code`, such as "model_not_found", or None.
        retry_after_s: When to come back, in seconds; None where nothing is said.
        headers: Further headers that belong to this error.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID_REQUEST,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s
        self.headers = headers or {}


def fault_error(status: int, retry_after_s: float) -> WireError:
    """An error that a fault has ordered; 429 and 503 say when to come back."""
    usual = 400 if status < 500 else 500
    kind, message, code = _STATUS_FAULTS.get(status, _STATUS_FAULTS[usual])
    advice_s = retry_after_s if status in {429, 503} else None
    return WireError(status, f"{message} (A simulated fault.)", kind=kind, code=code, retry_after_s=advice_s)


def limit_error(exceeded: Exceeded) -> WireError:
    """The 429 of a limit: which one, how much of it is left, and when to come back if waiting helps."""
    what, wait_s = exceeded.what, exceeded.retry_after_s
    told = (
        f"{exceeded.allowance} {what} in {exceeded.window_s:g} s are allowed, {exceeded.left} are left, "
        f"this request takes {exceeded.wanted}."
    )
    if wait_s is None:
        message = f"Request too large: {told} Make it smaller; waiting does not help."
    else:
        message = f"Rate limit reached for {what}: {told} Try again in {wait_s:.3f}s."
    return WireError(429, message, kind=what, code=RATE_LIMITED, retry_after_s=wait_s)


def bad_field(error: msgspec.ValidationError) -> WireError:
    """A complaint of msgspec about a field as a 400 that names the field the way OpenAI does, `messages[0].content`."""
    text = str(error)
    place = _PLACE.search(text)
    where = place.group(1) if place else ""
    what = text[: place.start()] if place else text
    if missing := _MISSING.search(what):
        param = f"{where}.{missing.group(1)}" if where else missing.group(1)
        return WireError(
            400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
        )
    return WireError(400, f"Invalid '{where}': {what}.", param=where or None, code=_code_for(what))


def _code_for(what: str) -> str:
    for sign, side in ((">=", "below_min_value"), ("<=", "above_max_value")):
        if sign in what and "length" not in what:
            return f"{'integer' if '`int`' in what else 'decimal'}_{side}"
    if "of length >= 1" in what:
        return "empty_array"
    return "invalid_type" if "got" in what else "invalid_value"
