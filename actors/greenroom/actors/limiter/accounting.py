"""When a server counts tokens: on arrival or at the end."""

from msgspec import Struct

from greenroom.actors.limiter.gcra import NOTHING, Amounts, Counted
from greenroom.actors.settings import TokensCounted

_IDLE_S = 60.0
"""After so long every window of a minute is whole again, whichever way it is kept."""
_VOTES = 3
_DOUBTS = 6.0
_DOUBT_ALLAYED = 0.02


class Standing(Struct, gc=False):
    """How the account stood when a request went out: what was `sent`, it included, and `used` by those that had ended."""

    at_s: float
    sent: Amounts
    used: Amounts


class Accounting:
    """Finds out from what the server says is left.

    Some servers charge the prompt and `max_tokens` when a request arrives, for good; others what was used when it ends.
    Giving unused tokens back to the first kind brings refusals, not giving them back leaves the allowance of the second kind
    unused. So each is taken for the first kind until it shows. What is said to be left is as of a request's arrival.
    Counted from a moment when the server's account was whole, under the first kind at least what was sent is gone, less
    what a minute's bucket has got back meanwhile, and always the request itself; under the second at most what was used. Where these two lie apart, an
    answer votes for the nearer one. Refusals take the second verdict back.

    Args:
        now_s: by the clock's `monotonic`.
        tokens_counted: the verdict, where it is known beforehand.

    Attributes:
        at_end: the verdict.
        sent: what was sent, ever.
        used: what was used by requests that have ended, ever.
    """

    __slots__ = (
        "_active_s",
        "_doubts",
        "_is_open",
        "_sent_then",
        "_used_then",
        "_votes",
        "_votes_needed",
        "_whole_s",
        "at_end",
        "sent",
        "used",
    )

    def __init__(self, now_s: float, tokens_counted: TokensCounted | None = None) -> None:
        self.at_end = tokens_counted == "end"
        self._is_open = tokens_counted is None
        self.sent = self._sent_then = NOTHING
        self.used = self._used_then = NOTHING
        self._whole_s = self._active_s = now_s
        self._votes = 0
        self._votes_needed = _VOTES
        self._doubts = 0.0

    @property
    def sent_since_whole(self) -> tuple[Amounts, float]:
        """What was sent since the account was whole, and when that was."""
        return _less(self.sent, self._sent_then), self._whole_s

    @property
    def used_since_whole(self) -> tuple[Amounts, float]:
        """What was used since then by requests that have ended, and when that was."""
        return _less(self.used, self._used_then), self._whole_s

    def send(self, amounts: Amounts, now_s: float, *, idle: bool) -> None:
        """A request goes out; `idle`: no other is in flight."""
        if idle and now_s - self._active_s > _IDLE_S:
            self._whole_s = now_s
            self._sent_then, self._used_then = self.sent, self.used
        self._active_s = now_s
        self.sent = _sum(self.sent, amounts)

    def end(self, amounts: Amounts, now_s: float) -> None:
        """A request has ended, which took so much."""
        self._active_s = now_s
        self._doubts = max(0.0, self._doubts - _DOUBT_ALLAYED)
        self.used = _sum(self.used, amounts)

    def told(self, counted: Counted, limit: float, gone: float, own: float, then: Standing) -> None:
        """The server's word: so much of a limit was gone when a request arrived.

        Args:
            counted: what the limit counts.
            limit: a minute's.
            gone: of it.
            own: what the request itself was reckoned at.
            then: how the account stood at that moment.
        """
        if self.at_end or not self._is_open:
            return
        if gone + 1.0 < own / 2:  # it is not in it, and it would be, had it been charged
            self._vote(at_end=True)
            return
        most = then.sent[counted] - self._sent_then[counted]
        by_arrival = most - limit / 60 * (then.at_s - self._whole_s)
        by_end = then.used[counted] - self._used_then[counted]
        if by_arrival <= 0.0 or by_arrival - by_end < 0.2 * by_arrival:
            return
        self._vote(at_end=gone * 2 < by_arrival + by_end)

    def _vote(self, *, at_end: bool) -> None:
        self._votes = self._votes + 1 if at_end else 0
        self.at_end = self._votes >= self._votes_needed

    def refused(self) -> None:
        """The server refused a request although the pace was kept."""
        if not self.at_end or not self._is_open:
            return
        self._doubts += 1.0
        if self._doubts >= _DOUBTS:
            self.at_end = False
            self._doubts = 0.0
            self._votes_needed *= 4
            self._votes = 0
            self._whole_s = float("-inf")  # it is not known any more since when the account was whole


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3])


def _less(one: Amounts, other: Amounts) -> Amounts:
    return (one[0] - other[0], one[1] - other[1], one[2] - other[2], one[3] - other[3])
