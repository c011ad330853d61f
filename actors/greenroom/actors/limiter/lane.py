"""What is known of one model's allowance, by what its answers tell."""

from collections.abc import Mapping

from greenroom.actors.events import Usage
from greenroom.actors.limiter.gcra import Amounts, Counted, Rate
from greenroom.actors.limiter.learning import Accounting, Sizes, Standing
from greenroom.actors.limiter.messages import Admit, ModelLimits
from greenroom.actors.providers.limits import LimitHeaders
from greenroom.actors.settings import TokensCounted

_MOST = 1e12
"""A minute's limit beyond which a header is no limit."""
_EARLY = 8
"""How many may be in flight before the first answer; doubled each second, should it be long in coming."""
_TOKENS = frozenset({Counted.TOKENS, Counted.OUTPUT})


class Grant(Standing, gc=False):
    """A permit: what it was reckoned at, and how the account stood when it was given.

    `by_sizes`: it was reckoned at what earlier requests turned out to be, not at a guess and the most that may be.
    """

    admit: Admit
    lane: "Lane"
    amounts: Amounts
    by_sizes: bool


class Lane:
    """One model's allowance. Owned by the `Allowance`.

    Args:
        model: as the provider is asked for it.
        headers: in which the provider tells its limits.
        now_s: by the clock's `monotonic`.
        cached_count: whether tokens read from a cache count towards limits.
        tokens_counted: as configured.
        limited: whether there are configured limits besides.

    Attributes:
        heard: whether it is known if answers tell of limits.
    """

    def __init__(
        self,
        model: str,
        headers: LimitHeaders,
        now_s: float,
        *,
        cached_count: bool,
        tokens_counted: TokensCounted | None,
        limited: bool,
    ) -> None:
        self.model = model
        self.frozen_until_s = 0.0
        self.rates: list[Rate] = []
        self._headers = [(Counted[what.upper()], limit, left) for what, limit, left in headers]
        self._rate_of: dict[Counted, Rate] = {}
        self._text_of: dict[Counted, str] = {}
        self._accounting = Accounting(now_s, tokens_counted)
        self._sizes = Sizes(cached_count=cached_count)
        self._in_flight = 0
        self.heard = not headers
        self._limited = limited
        self._begun_s = now_s
        self._cut_s = now_s

    def amounts(self, admit: Admit) -> Amounts:
        """What a request is reckoned to take."""
        sizes, most = self._sizes, admit.output_tokens
        tokens_in = sizes.input_tokens(admit.input_tokens)
        tokens_out = sizes.output_tokens(most) if self._accounting.at_end else most
        return 1, tokens_in + tokens_out, tokens_in, tokens_out

    def wait_s(self, amounts: Amounts, now_s: float) -> float:
        """Seconds until time alone admits a request, as far as this model's limits go."""
        wait_s = self.frozen_until_s - now_s
        for rate in self.rates:
            if (rate_s := rate.wait_s(amounts, now_s)) > wait_s:
                wait_s = rate_s
        return max(0.0, wait_s)

    def early_s(self, now_s: float) -> float:
        """Seconds until one more may be in flight while no answer has told whether there are limits."""
        passed_s = now_s - self._begun_s
        return 0.0 if self._in_flight < _EARLY * 2 ** min(int(passed_s), 20) else 1.0 - passed_s % 1.0

    def send(self, admit: Admit, amounts: Amounts, now_s: float) -> Grant:
        """Count a request that goes out now."""
        accounting = self._accounting
        if self.rates or self._limited or not self.heard:
            accounting.send(amounts, now_s, idle=not self._in_flight)
            if not self._in_flight:
                self._begun_s = now_s
        self._in_flight += 1
        for rate in self.rates:
            rate.take(amounts, now_s)
        return Grant(now_s, accounting.sent, accounting.used, admit, self, amounts, self._sizes.answers > 0)

    def end(self, grant: Grant, usage: Usage | None, now_s: float) -> Amounts | None:
        """Count what a request took as its answer tells it; None: it tells nothing.

        Returns:
            What that is beyond what was reckoned, as far as the server counts it.
        """
        self._in_flight -= 1
        if usage is None or not (self.rates or self._limited):
            return None
        tokens_in, tokens_out = self._sizes.counted(usage)
        if not tokens_in and not tokens_out:  # a server that states none
            return None
        self._sizes.learn(grant.admit.input_tokens, tokens_in, tokens_out)
        self._accounting.end((1, tokens_in + tokens_out, tokens_in, tokens_out), now_s)
        _, _, reckoned_in, reckoned_out = grant.amounts
        more_in = tokens_in - reckoned_in
        more_out = tokens_out - reckoned_out if self._accounting.at_end else 0.0
        if not grant.by_sizes:
            # What was never charged is not given back: later requests are reckoned at less already, and what was left
            # over in one window is not there in the next.
            more_in, more_out = max(0.0, more_in), max(0.0, more_out)
        more = (0, more_in + more_out, more_in, more_out)
        for rate in self.rates:
            rate.correct(more, now_s)
        return more

    def told(self, grant: Grant, headers: Mapping[str, str], now_s: float) -> None:
        """Learn from an answer's headers. What is no number, or no limit that could be, is not learned from."""
        self.heard = True
        for counted, limit_header, left_header in self._headers:
            limit_text = headers.get(limit_header)
            if limit_text is None:
                continue
            if limit_text != self._text_of.get(counted):
                self._limit(counted, limit_text, now_s)
            rate, left_text = self._rate_of.get(counted), headers.get(left_header)
            if rate is not None and left_text is not None:
                self._left(rate, left_text, grant, now_s)

    def _limit(self, counted: Counted, text: str, now_s: float) -> None:
        self._text_of[counted] = text
        limit = _number(text)
        if limit is None or not 1.0 <= limit <= _MOST:
            return
        rate = self._rate_of.get(counted)
        if rate is None:
            rate = self._rate_of[counted] = Rate(counted, limit, now_s)
            self.rates.append(rate)
            sent, since_s = self._accounting.sent_since_whole
            rate.owe(sent[counted], since_s, now_s)
        else:
            rate.change(limit, now_s)

    def _left(self, rate: Rate, text: str, grant: Grant, now_s: float) -> None:
        left = _number(text)
        if left is None:
            return
        rate.recover(now_s)
        counted, accounting = rate.counted, self._accounting
        gone = min(max(0.0, rate.limit_per_min - left), rate.limit_per_min)
        if counted in _TOKENS:
            before = accounting.at_end
            accounting.told(counted, rate.limit_per_min, gone, grant.amounts[counted], grant)
            if accounting.at_end and not before:
                self._reckon_anew(now_s)
        rate.told(gone, accounting.sent[counted] - grant.sent[counted], grant.at_s)

    def _reckon_anew(self, now_s: float) -> None:
        """Tokens turn out to count at the end: what was sent is owed at what it used, or is likely to use."""
        used, since_s = self._accounting.used_since_whole
        tokens_in, tokens_out = self._sizes.input_mean, self._sizes.output_mean
        likely = (1.0, tokens_in + tokens_out, tokens_in, tokens_out)
        for rate in self.rates:
            if rate.counted in _TOKENS and self._sizes.answers:
                rate.owe(used[rate.counted] + self._in_flight * likely[rate.counted], since_s, now_s)

    def freeze(self, until_s: float) -> None:
        """Send nothing before a moment, nor before one that was said earlier."""
        self.frozen_until_s = max(self.frozen_until_s, until_s)

    def refused(self, grant: Grant, now_s: float) -> bool:
        """The server refused a request for its limits' sake.

        Returns:
            Whether it is news: requests that were sent before the last cut tell nothing new.
        """
        if grant.at_s < self._cut_s:
            return False
        self._cut_s = now_s
        self._accounting.refused()
        for rate in self.rates:
            rate.cut(now_s)
        return True

    def status(self, now_s: float) -> ModelLimits:
        """What is known."""
        limits = {counted: rate.limit_per_min for counted, rate in self._rate_of.items()}
        return ModelLimits(
            model=self.model,
            requests_per_min=limits.get(Counted.REQUESTS),
            tokens_per_min=limits.get(Counted.TOKENS),
            input_tokens_per_min=limits.get(Counted.INPUT),
            output_tokens_per_min=limits.get(Counted.OUTPUT),
            counts_at_end=self._accounting.at_end,
            output_tokens=self._sizes.output_mean if self._sizes.answers else None,
            frozen_s=max(0.0, self.frozen_until_s - now_s),
        )


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number == number else None  # noqa: PLR0124  # NaN is no number
