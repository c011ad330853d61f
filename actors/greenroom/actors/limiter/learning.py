"""What is learned of one model from its answers: when its tokens count, and how large requests and answers turn out."""

from msgspec import Struct

from greenroom.actors.events import Usage
from greenroom.actors.limiter.gcra import NOTHING, Amounts, Counted
from greenroom.actors.settings import TokensCounted

_IDLE_S = 60.0
"""After so long every window of a minute is whole again, whichever way it is kept."""
_VOTES = 3
"""So many answers in a row, and tokens are taken to count at the end."""
_DOUBTS = 6.0
_DOUBT_ALLAYED = 0.02
"""So many refusals take that back; each answer allays a fiftieth of one."""
_WINDOW = 50
"""So many answers back reach the means."""


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
    what a minute's bucket has got back meanwhile, and always the request itself; under the second at most what was used.
    Where these two lie apart, an answer votes for the nearer one. Refusals take the second verdict back.

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


class Sizes(Struct, gc=False):
    """Running estimates: how a guess at the input compares with what is counted, and the mean of what is answered.

    `cached_count` is whether tokens read from a cache count towards the provider's limits.
    """

    cached_count: bool = True
    answers: int = 0
    output_mean: float = 0.0
    _guessed: float = 0.0
    _counted: float = 0.0

    def input_tokens(self, guess: int) -> float:
        """The guess, mended by what earlier guesses came to."""
        return guess * self._counted / self._guessed if self._guessed else float(guess)

    def output_tokens(self, most: int) -> float:
        """What is likely to be answered; the most that may be, while nothing is known."""
        return min(most, self.output_mean) if self.answers else float(most)

    @property
    def input_mean(self) -> float:
        """Of requests that were answered."""
        return self._counted

    def counted(self, usage: Usage) -> tuple[int, int]:
        """Input and output tokens of an answer, as limits count them."""
        tokens_in = (
            usage.input_tokens
            + usage.cache_write_5m_tokens
            + usage.cache_write_1h_tokens
            + usage.audio_input_tokens
        )
        if self.cached_count:
            tokens_in += usage.cached_tokens
        return tokens_in, usage.output_tokens + usage.reasoning_tokens + usage.audio_output_tokens

    def learn(self, guess: int, tokens_in: int, tokens_out: int) -> None:
        """One more answer, and what its input had been guessed at."""
        self.answers = min(self.answers + 1, _WINDOW)
        weight = 1 / self.answers
        self.output_mean += weight * (tokens_out - self.output_mean)
        if guess and tokens_in:
            # Means of both, not the mean of their ratios: large requests matter more.
            self._guessed += weight * (guess - self._guessed)
            self._counted += weight * (tokens_in - self._counted)


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3])


def _less(one: Amounts, other: Amounts) -> Amounts:
    return (one[0] - other[0], one[1] - other[1], one[2] - other[2], one[3] - other[3])
