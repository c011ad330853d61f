"""What is said to a limiter."""

from msgspec import Struct

from greenroom.actors.kernel import Call, Cast, Refused

INTERACTIVE = 0
BATCH = 1


class Permit(Struct, frozen=True, gc=False):
    """The answer to `Admit`: go ahead, and give the ticket back when done."""

    ticket: int


class Admit(Call[Permit], frozen=True, resend=True, gc=False):
    """Ask to send one request; answered when it may go.

    The caller gives its ticket back in `finally`, granted or not; asking twice with one ticket counts once.

    `input_tokens` is a guess, which is mended by what the model's requests turn out to be; `output_tokens` is the most
    that may be answered. `tenant` is whom the others' requests are not to wait for longer than for anybody else.
    `priority` is `INTERACTIVE` or `BATCH`. `deadline_s` is by the clock's `monotonic`: who cannot be admitted by then is
    refused with `CannotStart` as soon as that is certain.
    """

    ticket: int
    input_tokens: int
    output_tokens: int = 0
    model: str = ""
    tenant: str = ""
    priority: int = INTERACTIVE
    deadline_s: float | None = None


class Release(Cast, frozen=True):
    """The ticket's request is over, or was never made.

    Who gave its own permit back to the `Allowance` need not say so while nobody waits.
    """

    ticket: int


class ModelLimits(Struct, frozen=True, kw_only=True):
    """What is known of one model's limits, by the provider's own answers. None: not told.

    `counts_at_end` is whether tokens seem to count when an answer ends, by what was used; else by the most that it may
    be, when a request arrives. `output_tokens` is the mean of its answers.
    """

    model: str
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    input_tokens_per_min: float | None = None
    output_tokens_per_min: float | None = None
    counts_at_end: bool = False
    output_tokens: float | None = None
    frozen_s: float = 0.0


class LimiterStatus(Struct, frozen=True, kw_only=True):
    """How full the limiter is, and what it goes by.

    `concurrency` is how many may be in flight now, which changes where it is adaptive. `frozen_s` is the longest of its
    models'.
    """

    provider: str
    in_flight: int
    waiting: int
    concurrency: int
    frozen_s: float
    models: tuple[ModelLimits, ...] = ()


class GetLimiterStatus(Call[LimiterStatus], frozen=True, resend=True):
    """Ask how full it is."""


class TooManyWaiting(Refused):
    """So many calls wait for admission that another one would wait hopelessly."""


class CannotStart(Refused):
    """The provider's limits do not let the request start before its deadline. Nothing was sent.

    Attributes:
        provider: whose limits.
        wait_s: the least that it would have waited.
        left_s: until the deadline.
    """

    def __init__(self, provider: str, wait_s: float, left_s: float) -> None:
        super().__init__(
            f"cannot start in time: {provider}'s limits admit it in {wait_s:.1f} s at the earliest, "
            f"and its deadline is in {max(0.0, left_s):.1f} s; allow it more time, or ask another provider"
        )
        self.provider = provider
        self.wait_s = wait_s
        self.left_s = left_s
