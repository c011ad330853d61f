"""What a request costs, exactly.

A rate is kept in micro-pico-dollars a token (1e-18 dollars), which holds any published rate per million tokens with
up to twelve decimals exactly; a charge is summed in that unit and rounded once, upwards, to pico-dollars.
"""

from decimal import ROUND_CEILING, Decimal

from msgspec import Struct, structs

from greenroom.actors.events import Usage
from greenroom.actors.prices.money import PICO

_SCALE = 10**6
_ALWAYS = -1
"""A start that every input is larger than."""
BATCH = "batch"
"""The service tier of what a provider's own batches answer."""


class Rates(Struct, frozen=True, gc=False):
    """Micro-pico-dollars for one of each class of `Usage`, in the order of its fields."""

    input: int
    output: int
    cached: int
    cache_write_5m: int
    cache_write_1h: int
    reasoning: int
    audio_input: int
    audio_output: int
    cached_audio: int
    image_input: int
    image_output: int
    video_input: int
    video_output: int
    citation: int
    web_search: int
    file_search: int

    @property
    def dearest(self) -> tuple[int, int]:
        """The dearest class of token in, and out."""
        return (
            max(
                self.input,
                self.cached,
                self.cache_write_5m,
                self.cache_write_1h,
                self.audio_input,
                self.cached_audio,
                self.image_input,
                self.video_input,
            ),
            max(
                self.output,
                self.reasoning,
                self.audio_output,
                self.image_output,
                self.video_output,
                self.citation,
            ),
        )


def rates(
    input: int,  # noqa: A002 - the name of the class
    output: int,
    *,
    cached: int | None = None,
    cache_write: int | None = None,
    cache_write_1h: int | None = None,
    reasoning: int | None = None,
    audio_input: int | None = None,
    audio_output: int | None = None,
    cached_audio: int | None = None,
    image_input: int | None = None,
    image_output: int | None = None,
    video_input: int | None = None,
    video_output: int | None = None,
    citation: int | None = None,
    web_search: int | None = None,
    file_search: int | None = None,
) -> Rates:
    """Rates of which some are not known: a class without one of its own costs what the class it belongs to costs.

    A search without a rate costs nothing beside its tokens.
    """

    def first(*known: int | None) -> int:
        return next(rate for rate in known if rate is not None)

    return Rates(
        input=input,
        output=output,
        cached=first(cached, input),
        cache_write_5m=first(cache_write, input),
        cache_write_1h=first(cache_write_1h, cache_write, input),
        reasoning=first(reasoning, output),
        audio_input=first(audio_input, input),
        audio_output=first(audio_output, output),
        cached_audio=first(cached_audio, audio_input, cached, input),
        image_input=first(image_input, input),
        image_output=first(image_output, output),
        video_input=first(video_input, input),
        video_output=first(video_output, output),
        citation=first(citation, output),
        web_search=web_search or 0,
        file_search=file_search or 0,
    )


class Price(Struct, frozen=True, gc=False):
    """A model's price: base rates, dearer ones above a size of input, and a fee per request in pico-dollars.

    A tier applies to all tokens of a request whose input is larger than its start, as providers bill it. `served` are
    the prices of service tiers (`priority`, `flex`, `batch`), by what the answer says that it was served by; a tier
    that is not among them is charged as the standard one.
    """

    base: Rates
    tiers: tuple[tuple[int, Rates], ...] = ()
    request_pusd: int = 0
    served: dict[str, "Price"] = {}
    _dearest: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        # Once, as every hold reckons with it.
        structs.force_setattr(self, "_dearest", self.base.dearest)

    def cost_pusd(self, usage: Usage) -> int:
        """What `usage`, of one request, is charged: pico-dollars, rounded up once."""
        if usage.service_tier and (tier := self.served.get(usage.service_tier)) is not None:
            return tier.cost_pusd(usage)
        rates = self.base
        for start, dearer in self.tiers:
            if usage.total_input_tokens > start:
                rates = dearer
        total = (
            usage.input_tokens * rates.input
            + usage.output_tokens * rates.output
            + usage.cached_tokens * rates.cached
            + usage.cache_write_5m_tokens * rates.cache_write_5m
            + usage.cache_write_1h_tokens * rates.cache_write_1h
            + usage.reasoning_tokens * rates.reasoning
            + usage.audio_input_tokens * rates.audio_input
            + usage.audio_output_tokens * rates.audio_output
            + usage.cached_audio_tokens * rates.cached_audio
            + usage.image_input_tokens * rates.image_input
            + usage.image_output_tokens * rates.image_output
            + usage.video_input_tokens * rates.video_input
            + usage.video_output_tokens * rates.video_output
            + usage.citation_tokens * rates.citation
            + usage.web_searches * rates.web_search
            + usage.file_searches * rates.file_search
        )
        return -(-total // _SCALE) + self.request_pusd

    @property
    def charges_searches(self) -> bool:
        """Whether searches that the provider makes cost something beside their tokens."""
        return self.base.web_search > 0 or self.base.file_search > 0

    @property
    def searches_unasked(self) -> bool:
        """Whether the model searches whatever it is asked: who charges for citations does."""
        return self.charges_searches and self.base.citation != self.base.output

    def asked(self, service_tier: str = "", searches: int = 0) -> "Price":
        """The price that a request is held at, for bounds alone: in the tier that it asks for or the standard one, which
        a provider may fall back to, whichever is dearer, and with the fees of so many searches.
        """
        held, tier = self, self.served.get(service_tier)
        if tier is not None:
            held = structs.replace(
                tier,
                tiers=((_ALWAYS, self.base), *self.tiers, *tier.tiers),
                request_pusd=max(self.request_pusd, tier.request_pusd),
            )
        every = (held.base, *(dearer for _, dearer in held.tiers))
        fee = max(max(rates.web_search, rates.file_search) for rates in every)
        if not searches or not fee:
            return held
        return structs.replace(held, request_pusd=held.request_pusd - (-searches * fee // _SCALE))

    def bound_pusd(self, input_tokens: int, output_tokens: int) -> int:
        """The most that a request of up to so many tokens can be charged, whatever class and tier they fall in."""
        return self.bound_of_many_pusd(1, input_tokens, output_tokens, largest_input=input_tokens)

    def bound_of_many_pusd(
        self, requests: int, input_tokens: int, output_tokens: int, *, largest_input: int
    ) -> int:
        """The same for many requests: of so many tokens together, the largest of them of so many input tokens."""
        dearest_in, dearest_out = self._dearest
        for start, rates in self.tiers:
            if largest_input > start:
                tier_in, tier_out = rates.dearest
                dearest_in, dearest_out = max(dearest_in, tier_in), max(dearest_out, tier_out)
        tokens_pusd = -(-(input_tokens * dearest_in + output_tokens * dearest_out) // _SCALE)
        # Each charge is rounded up by itself.
        return tokens_pusd + (requests - 1) * bool(tokens_pusd) + requests * self.request_pusd


FREE = Price(rates(0, 0))


def per_mtok(usd_per_mtok: Decimal) -> int:
    """A rate out of dollars per million tokens, rounded up."""
    return int((usd_per_mtok * _SCALE * _SCALE).to_integral_value(ROUND_CEILING))


def each(usd: Decimal) -> int:
    """A rate out of dollars for one."""
    return per_mtok(usd * _SCALE)


def fee_pusd(usd: Decimal) -> int:
    """A fee per request out of dollars, in pico-dollars, rounded up."""
    return int((usd * PICO).to_integral_value(ROUND_CEILING))
