"""HTTP headers that providers share: when to try again."""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds to wait by the answer's own advice; None where it gives none that can be read.

    `retry-after-ms` (OpenAI) is finer and wins; `retry-after` is seconds or a date (RFC 9110, 10.2.3), a date
    being compared with `now_s`, unix time; one without a zone is in GMT, as that standard has all of them. Never
    negative, and however large: what is too long to wait is the caller's to decide.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    if (seconds := _number(value)) is not None:
        return seconds
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - now_s)
    except (ValueError, OverflowError):
        # Not a date; or one beyond the calendar, with a zone that no clock has.
        return None


def _number(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    # NaN compares false, so it is refused together with what is negative or endless.
    return number if 0 <= number < float("inf") else None
