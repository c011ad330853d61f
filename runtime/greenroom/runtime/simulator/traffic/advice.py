"""How a refused client is told to wait: Retry-After in seconds or as a date, and OpenAI's retry-after-ms.

Source: RFC 9110, 10.2.3 (delay-seconds or HTTP-date); OpenAI's clients read retry-after-ms before both.
"""

import math
from email.utils import formatdate
from typing import Literal, TypeAlias

RetryAfterForm: TypeAlias = Literal["ms", "seconds", "date"]
# About thirty years: as absurd as a server may be, and still a date.
MAX_ADVICE_S = 1e9


def retry_after(wait_s: float, form: RetryAfterForm, now_s: float) -> tuple[dict[str, str], float]:
    """Headers that tell a client to wait, never shorter than `wait_s`.

    Args:
        wait_s: How long, in seconds.
        form: "ms": whole seconds and exact milliseconds, as OpenAI does; "seconds": only those; "date": an HTTP date.
        now_s: Unix time.

    Returns:
        The headers, and how many seconds a client waits that obeys them.
    """
    if form == "date":
        moment_s = math.ceil(now_s + wait_s)
        return {"retry-after": formatdate(moment_s, usegmt=True)}, max(0.0, moment_s - now_s)
    whole_s = math.ceil(wait_s)
    headers = {"retry-after": str(whole_s)}
    if form == "seconds":
        return headers, float(whole_s)
    whole_ms = math.ceil(wait_s * 1_000)
    headers["retry-after-ms"] = str(whole_ms)
    return headers, whole_ms / 1_000
