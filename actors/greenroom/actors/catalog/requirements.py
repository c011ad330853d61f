"""What a call demands of a model, and what is said of the choice: the words of `model="AUTO"`."""

from typing import Literal, get_args

from msgspec import Struct, structs

from greenroom.actors.kernel import Call, Refused
from greenroom.actors.prices import pico_usd
from greenroom.actors.settings import Usd

AUTO = "AUTO"
"""The name of a model that stands for: choose one."""


def is_auto(model: str) -> bool:
    """Whether a model's name leaves the choice to us."""
    return model.upper() == AUTO


Strategy = Literal["cheapest", "fastest", "best", "balanced", "round_robin", "least_busy"]
"""Which of the models that meet all requirements is taken.

- `cheapest`: what the call is likely to cost, by how much each model has written of late;
- `fastest`: the time to whole answers, as measured, with that of failures;
- `best`: the highest configured `quality`; among equals the dearest output, a vendor's own word for its better model;
- `balanced`: the mean of the places by the three above;
- `round_robin`: the one whose turn is longest ago;
- `least_busy`: the smallest share of what its provider has in flight at most.

Under each of them, models that mostly failed of late come last, and those of a provider whose breaker is open.
"""


class Requirements(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Hard limits: no strategy breaks one, and what is not known of a model is not assumed.

    Args:
        context_tokens: the context window that it has at least.
        max_output_tokens: the longest answer that it gives at least, where its provider says.
        vision: it takes images.
        tools: it calls functions.
        json_schema: it holds its answers to a JSON Schema.
        reasoning: it thinks before it answers.
        max_input_usd_per_mtok: the most that a million tokens in may cost.
        max_output_usd_per_mtok: the most that a million tokens out may cost.
        max_usd: the most that the call may cost by its upper bound.
        max_latency_s: the longest that half of its late answers may have taken. One that was not measured yet passes.
        free_only: it costs nothing.
        providers: the only providers allowed; empty: all in use.
        models: the only models allowed, as names or patterns: `openai/gpt-5*`, `*-mini`.
        exclude: models not allowed, likewise.

    Raises:
        ValueError: one of them is no number that makes sense; the message names it.
    """

    context_tokens: int | None = None
    max_output_tokens: int | None = None
    vision: bool = False
    tools: bool = False
    json_schema: bool = False
    reasoning: bool = False
    max_input_usd_per_mtok: Usd | None = None
    max_output_usd_per_mtok: Usd | None = None
    max_usd: Usd | None = None
    max_latency_s: float | None = None
    free_only: bool = False
    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("context_tokens", "max_output_tokens"):
            count: object = getattr(self, name)
            if count is not None and (type(count) is not int or count < 1):
                raise ValueError(f"{name}={count!r}: a number of tokens, 1 or more")
        for name in ("max_input_usd_per_mtok", "max_output_usd_per_mtok", "max_usd"):
            value: Usd | None = getattr(self, name)
            try:
                _ = None if value is None else pico_usd(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if self.max_latency_s is not None and not self.max_latency_s > 0:
            raise ValueError(f"max_latency_s={self.max_latency_s!r}: a number of seconds above 0")
        for name in ("providers", "models", "exclude"):
            if isinstance(names := getattr(self, name), str):
                raise ValueError(f"{name}={names!r}: several names, such as ({names!r},)")  # noqa: TRY004 - as all others here
            structs.force_setattr(self, name, tuple(names))


class ScoredModel(Struct, frozen=True, gc=False):
    """A model that meets all requirements: what its strategy makes of it, the lower the better, and why in words."""

    model: str
    score: float
    why: str


class RejectedModel(Struct, frozen=True, gc=False):
    """A model that does not, and the first requirement that it breaks."""

    model: str
    why: str


class Choice(Struct, frozen=True, kw_only=True):
    """A choice, and its explanation: winner, runners-up and rejected are all the candidates there were.

    `reason` is for people; `unreachable` says of which providers no models are known now, and why.
    """

    model: str
    strategy: Strategy
    reason: str
    winner: ScoredModel
    runners_up: tuple[ScoredModel, ...] = ()
    rejected: tuple[RejectedModel, ...] = ()
    unreachable: tuple[RejectedModel, ...] = ()


class NothingEligible(Refused):
    """No model meets all requirements; the message says what rejected how many, and what would help.

    Attributes:
        rejected: every candidate, with the first requirement that it breaks.
    """

    def __init__(self, message: str, rejected: tuple[RejectedModel, ...] = ()) -> None:
        super().__init__(message)
        self.rejected = rejected


class Choose(Call[Choice], frozen=True, kw_only=True, resend=True):
    """Choose a model for one call.

    Args:
        requirements: what it must have.
        strategy: which of those that have it.
        input_tokens: how many are likely to go in, which must fit the context window; 0: not known.
        input_bound: the most that can go in, which limits of price are held to; 0: `input_tokens`.
        output_tokens: the most that can come out; 0: not known.

    Raises:
        ValueError: there is no such strategy, or a number of tokens is none.

    Raises, at the caller:
        NothingEligible: no model meets the requirements.
    """

    requirements: Requirements = Requirements()
    strategy: Strategy = "balanced"
    input_tokens: int = 0
    input_bound: int = 0
    output_tokens: int = 0

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            known = ", ".join(get_args(Strategy))
            raise ValueError(f"strategy={self.strategy!r}: there is no such one; there are: {known}")
        for name in ("input_tokens", "input_bound", "output_tokens"):
            count: object = getattr(self, name)
            if type(count) is not int or count < 0:
                raise ValueError(f"{name}={count!r}: a number of tokens, 0 or more")

    @property
    def most_input_tokens(self) -> int:
        """What limits of price are held to."""
        return max(self.input_tokens, self.input_bound)
