"""Errors as OpenAI words them: `{"error": {"message", "type", "param", "code"}}` and an HTTP status."""

import re

import msgspec

INVALID_REQUEST = "invalid_request_error"
_MISSING = re.compile(r"missing required field `(\w+)`")
_PLACE = re.compile(r" - at `\$\.?(.*)`$")


class _Detail(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class _Body(msgspec.Struct):
    error: _Detail


class WireError(Exception):
    """The request is answered with an error body and nothing else.

    Attributes:
        status: The HTTP status.
        message: What is wrong and, where that can be said, what would be right.
        kind: OpenAI's `type`, such as "invalid_request_error".
        param: The field of the request that is to blame, or None.
        code: OpenAI's `code`, such as "model_not_found", or None.
        headers: Headers that belong to this error, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID_REQUEST,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = headers or {}

    def body(self) -> bytes:
        """The error as JSON."""
        return msgspec.json.encode(_Body(_Detail(self.message, self.kind, self.param, self.code)))


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
