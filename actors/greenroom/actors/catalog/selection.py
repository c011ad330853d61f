"""Which model suits a call: hard limits first, then one strategy, and the explanation of both. Pure.

Every candidate ends up in exactly one place of the `Choice`: winner, runners-up or rejected.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date

from msgspec import Struct

from greenroom.actors.catalog.limits import Candidate, Limit, limits, rates_of
from greenroom.actors.catalog.requirements import (
    Choice,
    Choose,
    NothingEligible,
    RejectedModel,
    ScoredModel,
    Strategy,
)
from greenroom.actors.events import Usage
from greenroom.actors.prices import dollars

_FAILING = 0.5
"""A model of which more of the late attempts failed comes after all that did better, whatever the strategy, and so do
those of a provider whose breaker is open. They are eligible all the same: a job may wait for one, where there is no other.
"""
_MEASURED_FIRST = 5
"""So many models are tried before `fastest` keeps to those that it has measured."""
_USUAL_INPUT_TOKENS, _USUAL_OUTPUT_TOKENS = 1000, 500
"""What costs are compared by where nobody says how long a call will be."""


class _Weighed(Struct, gc=False):
    """An eligible model, and what the strategies look at. `tie` decides between equal scores, `last` before them."""

    candidate: Candidate
    cost_pusd: int
    output_tokens: int
    last: bool = False
    score: float = 0.0
    tie: float = 0.0
    why: str = ""


def choose(
    candidates: Sequence[Candidate], asked: Choose, today: date, unreachable: tuple[RejectedModel, ...] = ()
) -> Choice:
    """Choose one of the candidates.

    Args:
        candidates: all that could be chosen.
        asked: the requirements, the strategy and the size of the call.
        today: the date; a model whose retirement has come is rejected.
        unreachable: providers of which no models are known now, for the explanation.

    Raises:
        NothingEligible: none of them meets the requirements.
    """
    checks = limits(asked, today)
    eligible: list[Candidate] = []
    rejected: list[RejectedModel] = []
    for candidate in candidates:
        for _, check in checks:
            why = check(candidate)
            if why is not None:
                rejected.append(RejectedModel(candidate.card.name, why))
                break
        else:
            eligible.append(candidate)
    if not eligible:
        raise NothingEligible(_what_helps(candidates, checks, rejected, unreachable), tuple(rejected))
    weighed = _weighed(eligible, asked)
    _SCORES[asked.strategy](weighed)
    weighed.sort(key=_order)
    scored = tuple(ScoredModel(one.candidate.card.name, one.score, one.why + _fault(one)) for one in weighed)
    return Choice(
        model=scored[0].model,
        strategy=asked.strategy,
        reason=_reason(asked.strategy, scored, len(rejected)),
        winner=scored[0],
        runners_up=scored[1:],
        rejected=tuple(rejected),
        unreachable=unreachable,
    )


def _order(one: _Weighed) -> tuple[bool, bool, float, float, int, str]:
    return _is_failing(one.candidate), one.last, one.score, one.tie, one.cost_pusd, one.candidate.card.name


def _is_failing(candidate: Candidate) -> bool:
    return candidate.is_broken or candidate.measured.failure_share > _FAILING


def _fault(one: _Weighed) -> str:
    """What puts a model last."""
    if one.candidate.is_broken:
        return "; its provider's breaker is open"
    return "; most of its late attempts failed" if _is_failing(one.candidate) else ""


def _weighed(eligible: Sequence[Candidate], asked: Choose) -> list[_Weighed]:
    """What each would cost. A model that writes more than others, as those that think do, costs more by it."""
    tokens_in = asked.input_tokens or _USUAL_INPUT_TOKENS
    seen = [c.measured.output_tokens for c in eligible if c.measured.output_tokens is not None]
    usual = sum(seen) / len(seen) if seen else asked.output_tokens or _USUAL_OUTPUT_TOKENS
    weighed: list[_Weighed] = []
    for candidate in eligible:
        price, known = candidate.card.price, candidate.measured.output_tokens
        assert price is not None, "what has no price was rejected"
        tokens_out = round(usual if known is None else known)
        if asked.output_tokens:
            tokens_out = min(tokens_out, asked.output_tokens)
        cost_pusd = price.cost_pusd(Usage(input_tokens=tokens_in, output_tokens=tokens_out))
        weighed.append(_Weighed(candidate, cost_pusd, tokens_out))
    return weighed


def _cheapest(weighed: list[_Weighed]) -> None:
    for one in weighed:
        one.score = one.cost_pusd / 1e12
        one.tie = one.candidate.measured.failure_share
        one.why = f"{dollars(one.cost_pusd)} for an answer of some {one.output_tokens:,} tokens"


def _fastest(weighed: list[_Weighed]) -> None:
    """By time to a whole answer. A few that nobody has measured go first, the cheapest of them, as small models are."""
    explores = sum(_speed(one) is not None for one in weighed) < _MEASURED_FIRST
    for one in weighed:
        speed = _speed(one)
        if speed is None:
            one.last, one.tie = not explores, float(one.cost_pusd)
            one.why = "not measured yet" + ("; tried, so that it is" if explores else "")
        else:
            one.score = speed[0]
            one.why = f"{one.candidate.measured.latency_s:.2g} s at the median of its late answers"


def _best(weighed: list[_Weighed]) -> None:
    for one in weighed:
        one.score, one.tie = _quality(one)
        one.why = f"quality {-one.score:g}, {dollars(int(-one.tie))} per million tokens out"


def _balanced(weighed: list[_Weighed]) -> None:
    """By the mean of three places among all, each from 0, the first, to 1; in the middle by speed until measured."""
    costs = _places([(float(one.cost_pusd), 0.0) for one in weighed])
    speeds = _places([_speed(one) for one in weighed])
    qualities = _places([_quality(one) for one in weighed])
    for one, cost, speed, quality in zip(weighed, costs, speeds, qualities, strict=True):
        one.score = (cost + speed + quality) / 3
        unmeasured = "" if _speed(one) else " (not measured yet)"
        one.why = f"place by cost {cost:.2f}, by speed {speed:.2f}{unmeasured}, by quality {quality:.2f}"


def _speed(one: _Weighed) -> tuple[float, float] | None:
    """Seconds to a whole answer, those of failures and their repetition reckoned in; None: not measured."""
    found = one.candidate.measured
    return None if found.latency_s is None else (found.latency_s / (1 - min(found.failure_share, 0.99)), 0.0)


def _quality(one: _Weighed) -> tuple[float, float]:
    """What is configured, and among equals the rate of the output; the smaller the better."""
    card = one.candidate.card
    return -card.quality, -float(max(rates.output for rates in rates_of(card.price, 0)))


def _places(keys: Sequence[tuple[float, float] | None]) -> list[float]:
    """Where each stands among all, from 0 to 1; equals stand together, what is not known in the middle."""
    ordered = sorted(key for key in keys if key is not None)
    last = max(1, len(ordered) - 1)
    return [0.5 if key is None else bisect_left(ordered, key) / last for key in keys]


def _round_robin(weighed: list[_Weighed]) -> None:
    for one in weighed:
        turn = one.candidate.turn
        one.score = float(turn)
        one.why = f"its last turn was number {turn}" if turn else "has had no turn"


def _least_busy(weighed: list[_Weighed]) -> None:
    for one in weighed:
        one.score, one.tie = one.candidate.load, float(one.candidate.measured.in_flight)
        one.why = f"{one.candidate.load:.0%} of its provider's concurrency in flight"


_SCORES: dict[Strategy, Callable[[list[_Weighed]], None]] = {
    "cheapest": _cheapest,
    "fastest": _fastest,
    "best": _best,
    "balanced": _balanced,
    "round_robin": _round_robin,
    "least_busy": _least_busy,
}
"""Each sets score, tie and reason of all; the smallest wins."""


def _reason(strategy: Strategy, scored: Sequence[ScoredModel], rejected: int) -> str:
    winner = scored[0]
    beaten = f", before {scored[1].model} ({scored[1].why})" if len(scored) > 1 else ", the only one eligible"
    others = f"; {rejected} rejected" if rejected else ""
    return f"{winner.model} is {strategy}: {winner.why}{beaten}{others}"


def _what_helps(
    candidates: Sequence[Candidate],
    checks: Sequence[Limit],
    rejected: Sequence[RejectedModel],
    unreachable: Sequence[RejectedModel],
) -> str:
    """Why there is nothing, and what to give up for something: requirements that alone stand in a model's way."""
    counts = Counter(one.why for one in rejected).most_common(5)
    said = [f"{why} ({count} model{'s' if count > 1 else ''})" for why, count in counts]
    said += [f"{one.model}: {one.why}" for one in unreachable]
    alone: dict[str, list[str]] = {}
    for candidate in candidates:
        broken = _broken(candidate, checks)
        if len(broken) == 1 and broken[0]:
            alone.setdefault(broken[0], []).append(candidate.card.name)
    helps = [f"without {name}: {', '.join(sorted(models)[:3])}" for name, models in alone.items()]
    why = "; ".join(said) or "no provider has any"
    return f"no model meets the requirements: {why}" + (
        f". What would help: {'; '.join(helps)}" if helps else ""
    )


def _broken(candidate: Candidate, checks: Sequence[Limit]) -> list[str]:
    """The names of all requirements that a model breaks, up to what no requirement can change."""
    broken: list[str] = []
    for name, check in checks:
        if check(candidate) is not None:
            broken.append(name)
            if not name:
                break
    return broken
