"""The catalogue as an actor: what hosts list is asked for once, kept for an hour, and chosen from."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio.to_thread
import pytest
import structlog.testing
from genai_prices.data_snapshot import DataSnapshot
from msgspec import structs

from greenroom.actors import ActorRef, ActorSystem
from greenroom.actors.catalog import (
    Catalog,
    Choose,
    ListModels,
    Near,
    NothingEligible,
    ProviderModels,
    Records,
    Requirements,
    Resolve,
)
from greenroom.actors.catalog.aliases import flattened
from greenroom.actors.kernel.contract.clock import FakeClock
from greenroom.actors.prices import PriceTable
from greenroom.actors.prices.keeper import UsePrices
from greenroom.actors.providers.listing import ListedModel, Listing
from greenroom.actors.settings import (
    AliasSettings,
    Capabilities,
    Limits,
    ModelSettings,
    PriceSettings,
    ProviderSettings,
)
from greenroom.supervisors import ChildSpec, Supervisor

pytestmark = pytest.mark.anyio
URL = "http://127.0.0.1:9/v1"
PRICED = ProviderSettings(base_url=URL, prices={"*": PriceSettings(input="1", output="2")})
FREE = ProviderSettings(base_url=URL, free=True, limits=Limits(concurrency=4))


class Hosts:
    """What hosts would list; `held` ones answer when they are let go."""

    def __init__(self, **listings: Listing) -> None:
        self.listings = dict(listings)
        self.asked: list[str] = []
        self._more = asyncio.Event()
        self.held: dict[str, asyncio.Event] = {}

    async def ask(self, provider: str) -> Listing:
        self.asked.append(provider)
        self._more.set()
        if provider in self.held:
            await self.held[provider].wait()
        return self.listings[provider]

    async def until_asked(self, times: int) -> None:
        while len(self.asked) < times:
            self._more.clear()
            await self._more.wait()


def listing(*names: str, vision: bool | None = None) -> Listing:
    known = Capabilities(vision=vision)
    return Listing(models=tuple(ListedModel(name, 100_000, capabilities=known) for name in names))


@asynccontextmanager
async def catalogue(
    hosts: Hosts,
    clock: FakeClock | None = None,
    records: Records | None = None,
    **providers: ProviderSettings,
) -> AsyncGenerator[ActorRef]:
    async with ActorSystem(clock=clock) as system:
        yield await system.start(Catalog, providers, records or Records(), hosts.ask, name="catalog")


def names(found: tuple[ProviderModels, ...]) -> list[str]:
    return [card.name for provider in found for card in provider.models]


async def test_a_list_is_asked_for_once_and_kept_for_an_hour() -> None:
    clock, hosts = FakeClock(), Hosts(acme=listing("a", "b"))
    async with catalogue(hosts, clock, acme=PRICED) as catalog:
        assert hosts.asked == []
        assert names(await catalog.call(ListModels())) == ["acme/a", "acme/b"]
        hosts.listings["acme"] = listing("c")
        await clock.advance(3599)
        (known,) = await catalog.call(ListModels())
        assert (names((known,)), known.age_s) == (["acme/a", "acme/b"], 3599)
        assert hosts.asked == ["acme"]
        await clock.advance(1)
        assert names(await catalog.call(ListModels())) == ["acme/c"]
        hosts.listings["acme"] = listing("d")
        assert names(await catalog.call(ListModels(refresh=True))) == ["acme/d"]
        assert hosts.asked == ["acme"] * 3


async def test_who_cannot_be_asked_is_asked_again_in_a_minute() -> None:
    clock, hosts = FakeClock(), Hosts(acme=Listing(unreachable="nobody answers"))
    settings = ProviderSettings(base_url=URL, free=True, models={"own": ModelSettings()})
    async with catalogue(hosts, clock, acme=settings) as catalog:
        (known,) = await catalog.call(ListModels())
        assert (known.unreachable, names((known,))) == ("nobody answers", ["acme/own"])
        with pytest.raises(NothingEligible, match="acme: nobody answers"):
            await catalog.call(Choose())
        hosts.listings["acme"] = listing("a")
        await clock.advance(59)
        await catalog.call(ListModels())
        assert hosts.asked == ["acme"]
        await clock.advance(1)
        assert names(await catalog.call(ListModels())) == ["acme/a", "acme/own"]


async def test_a_list_that_was_known_is_remembered_while_its_host_is_away() -> None:
    clock, hosts = FakeClock(), Hosts(acme=listing("a"))
    async with catalogue(hosts, clock, acme=PRICED) as catalog:
        assert (await catalog.call(Choose())).model == "acme/a"
        hosts.listings["acme"] = Listing(unreachable="gone")
        (known,) = await catalog.call(ListModels(refresh=True))
        assert (known.unreachable, names((known,))) == ("gone", ["acme/a"])
        with pytest.raises(NothingEligible) as refused:
            await catalog.call(Choose())
        assert [(one.model, one.why) for one in refused.value.rejected] == [("acme/a", "gone")]


async def test_a_thousand_callers_share_one_question() -> None:
    hosts = Hosts(acme=listing("a"))
    hosts.held["acme"] = asyncio.Event()
    async with catalogue(hosts, acme=PRICED) as catalog:
        calls = [asyncio.create_task(catalog.call(Choose())) for _ in range(1000)]
        await hosts.until_asked(1)
        for call in calls[:500]:
            call.cancel()
        hosts.held["acme"].set()
        found = await asyncio.gather(*calls[500:])
        assert {choice.model for choice in found} == {"acme/a"}
        assert hosts.asked == ["acme"]


async def test_a_choice_waits_for_a_host_once_and_takes_an_aged_list_after_that() -> None:
    clock, hosts = FakeClock(), Hosts(acme=listing("a"))
    async with catalogue(hosts, clock, acme=PRICED) as catalog:
        await catalog.call(Choose())
        hosts.listings["acme"] = listing("b")
        hosts.held["acme"] = asyncio.Event()
        await clock.advance(3600)
        assert (await catalog.call(Choose())).model == "acme/a"
        await hosts.until_asked(2)
        hosts.held["acme"].set()
        assert names(await catalog.call(ListModels())) == ["acme/b"]
        assert (await catalog.call(Choose())).model == "acme/b"


async def test_an_endless_list_is_cut_and_said_to_be() -> None:
    hosts = Hosts(acme=listing(*[f"m{number}" for number in range(2_001)]))
    settings = structs.replace(FREE, models={"m2000": ModelSettings()})
    async with catalogue(hosts, acme=settings) as catalog:
        with structlog.testing.capture_logs() as logs:
            (known,) = await catalog.call(ListModels())
        assert [card.model for card in known.models] == [f"m{number}" for number in range(2_001)]
        assert [card.model for card in known.models if not card.listed] == ["m2000"]
        assert [(log["event"], log["listed"], log["kept"]) for log in logs] == [
            ("too many models listed", 2_001, 2_000)
        ]


async def test_only_providers_that_matter_are_asked() -> None:
    hosts = Hosts(acme=listing("a"), other=listing("o"))
    async with catalogue(hosts, acme=PRICED, other=PRICED) as catalog:
        assert (await catalog.call(Choose(requirements=Requirements(providers=("acme",))))).model == "acme/a"
        assert hosts.asked == ["acme"]
        await catalog.call(ListModels(("other",)))
        assert hosts.asked == ["acme", "other"]


async def test_a_host_without_a_list_has_the_models_that_the_configuration_names() -> None:
    hosts = Hosts(acme=Listing())
    settings = ProviderSettings(
        base_url=URL,
        default_model="usual",
        prices={
            "priced": PriceSettings(input="1", output="2"),
            "usual": PriceSettings(input="3", output="4"),
        },
        models={"*": ModelSettings(vision=True), "told": ModelSettings(vision=False)},
    )
    async with catalogue(hosts, acme=settings) as catalog:
        found = await catalog.call(Choose(requirements=Requirements(vision=True), strategy="cheapest"))
        assert (found.model, [one.model for one in found.runners_up]) == ("acme/priced", ["acme/usual"])
        assert [(one.model, one.why) for one in found.rejected] == [("acme/told", "no price is known")]


async def test_a_question_that_fails_in_an_unforeseen_way_leaves_the_catalogue_alive() -> None:
    hosts = Hosts()  # asked for acme, it raises KeyError
    async with catalogue(hosts, acme=PRICED) as catalog:
        (known,) = await catalog.call(ListModels())
        assert "KeyError" in str(known.unreachable)
        assert catalog.alive


async def test_who_waits_for_a_list_waits_out_a_restart() -> None:
    hosts = Hosts(acme=listing("a"))
    hosts.held["acme"] = asyncio.Event()
    spec = ChildSpec("catalog", Catalog, args=({"acme": PRICED}, Records(), hosts.ask), name="catalog")
    async with ActorSystem() as system:
        await system.start(Supervisor, [spec])
        waiting = asyncio.create_task(system.named("catalog").call(Choose()))
        await hosts.until_asked(1)
        first = system.whereis("catalog")
        assert first is not None
        system.kill(first)
        hosts.held["acme"].set()
        assert (await waiting).model == "acme/a"
        assert hosts.asked == ["acme"] * 2


async def test_what_calls_show_is_what_the_next_choice_goes_by() -> None:
    records, hosts = Records(), Hosts(acme=listing("slow", "quick"))
    for name, duration_s in (("slow", 3.0), ("quick", 1.0)):
        record = records.of("acme", name)
        record.began()
        record.ended(0.0, ok=True, duration_s=duration_s, output_tokens=10)
    async with catalogue(hosts, FakeClock(), records, acme=PRICED) as catalog:
        fastest = Choose(strategy="fastest")
        assert (await catalog.call(fastest)).model == "acme/quick"
        for _ in range(6):
            records.of("acme", "quick").began()
            records.of("acme", "quick").ended(1000.0, ok=False)
        assert (await catalog.call(fastest)).model == "acme/slow"


async def test_a_provider_whose_breaker_is_open_comes_last() -> None:
    hosts, broken = Hosts(acme=listing("a"), local=listing("l")), {"local"}
    async with ActorSystem() as system:
        providers = {"acme": PRICED, "local": FREE}
        catalog = await system.start(
            Catalog, providers, Records(), hosts.ask, is_broken=broken.__contains__, name="catalog"
        )
        choice = await catalog.call(Choose(strategy="cheapest"))
        assert choice.model == "acme/a"
        assert choice.runners_up[0].why.endswith("; its provider's breaker is open")
        only = Requirements(providers=("local",))
        assert (await catalog.call(Choose(requirements=only))).model == "local/l"
        broken.clear()
        assert (await catalog.call(Choose(strategy="cheapest"))).model == "local/l"


async def test_turns_go_round_and_the_least_busy_is_taken() -> None:
    records, hosts = Records(), Hosts(acme=listing("a"), local=listing("l"))
    async with catalogue(hosts, None, records, acme=PRICED, local=FREE) as catalog:
        turns = [(await catalog.call(Choose(strategy="round_robin"))).model for _ in range(4)]
        assert turns in (["acme/a", "local/l"] * 2, ["local/l", "acme/a"] * 2)
        records.of("local", "l").began()
        # One of 4 is busier than one of 256.
        records.of("acme", "a").began()
        assert (await catalog.call(Choose(strategy="least_busy"))).model == "acme/a"


async def test_the_winner_is_held_to_its_price_of_this_hour() -> None:
    """DeepSeek's chat model is cheaper by night, UTC; what was known at night must not be chosen by day."""
    night, day = 1_772_323_200.0 - 6 * 3600, 1_772_323_200.0 + 12 * 3600  # about 2026-03-01 00:00 UTC
    clock, hosts = FakeClock(epoch_s=night), Hosts(deepseek=listing("deepseek-chat"))
    async with catalogue(hosts, clock, deepseek=ProviderSettings(base_url=URL)) as catalog:
        cheap = (await catalog.call(ListModels()))[0].models[0].price
        assert cheap is not None
        bound = cheap.bound_pusd(10_000, 1000)
        asked = Choose(
            requirements=Requirements(max_usd=bound / 1e12), input_tokens=10_000, output_tokens=1000
        )
        assert (await catalog.call(asked)).model == "deepseek/deepseek-chat"
        hosts.held["deepseek"] = asyncio.Event()  # the list is not asked for anew meanwhile
        await clock.advance(day - night)
        with pytest.raises(NothingEligible, match=r"up to .* for this call, more than"):
            await catalog.call(asked)


async def test_new_prices_are_those_of_the_next_lists() -> None:
    hosts = Hosts(openai=listing("gpt-4o"))
    table = await anyio.to_thread.run_sync(PriceTable.load)
    none = PriceTable(DataSnapshot(providers=[], from_auto_update=False))
    async with ActorSystem() as system:
        providers = {"openai": ProviderSettings(base_url=URL)}
        catalog = await system.start(Catalog, providers, Records(), hosts.ask, load_prices=lambda: none)
        with pytest.raises(NothingEligible, match="no price is known"):
            await catalog.call(Choose())
        catalog.cast(UsePrices(table))
        (known,) = await catalog.call(ListModels())
        assert (hosts.asked, known.models[0].price is None) == (["openai"] * 2, False)
        assert (await catalog.call(Choose())).model == "openai/gpt-4o"
        # A list that is under way when prices change has the old ones.
        hosts.held["openai"] = asyncio.Event()
        waiting = asyncio.create_task(catalog.call(ListModels(refresh=True)))
        await hosts.until_asked(3)
        catalog.cast(UsePrices(table))
        hosts.held["openai"].set()
        await waiting
        await catalog.call(ListModels())
        assert hosts.asked == ["openai"] * 4


async def test_an_alias_leads_to_its_first_model_and_names_the_others() -> None:
    aliases = flattened({"fast": AliasSettings(models=("acme/a", "acme/b"), free_to_paid=True), "f": "fast"})
    async with ActorSystem() as system:
        catalog = await system.start(Catalog, {"acme": PRICED}, Records(), Hosts().ask, aliases)
        for name in ("fast", "f"):
            route = await catalog.call(Resolve(name))
            assert (route.provider, route.model, route.fallbacks, route.free_to_paid) == (
                "acme",
                "a",
                ("acme/b",),
                True,
            )
        assert (await catalog.call(Resolve("acme/b"))).fallbacks == ()


async def test_a_route_knows_what_its_host_has_listed_by_then() -> None:
    hosts = Hosts(acme=listing("blind", vision=False))
    clock = FakeClock()
    async with catalogue(hosts, clock, acme=PRICED) as catalog:
        assert (await catalog.call(Resolve("acme/blind"))).lacks == ()
        await catalog.call(ListModels())
        await clock.advance(60)
        route = await catalog.call(Resolve("acme/blind"))
        assert (route.lacks, route.capabilities.vision, route.context_tokens) == (("vision",), False, 100_000)


async def test_a_model_past_its_date_is_warned_of_once_and_never_chosen() -> None:
    clock = FakeClock(epoch_s=1_797_033_600.0)  # 2026-12-12
    hosts = Hosts(openai=listing("gpt-5-mini"))
    async with catalogue(hosts, clock, openai=ProviderSettings(base_url=URL)) as catalog:
        with structlog.testing.capture_logs() as logs:
            await catalog.call(Resolve("openai/gpt-5-mini"))
            await catalog.call(Resolve("openai/gpt-6.1-sol"))
            await clock.advance(61)
            await catalog.call(Resolve("openai/gpt-5-mini"))
        assert [(log["event"], log["model"], log["retired"]) for log in logs] == [
            ("model retired", "openai/gpt-5-mini", "2026-12-11")
        ]
        with pytest.raises(NothingEligible, match="retired on 2026-12-11"):
            await catalog.call(Choose())


async def test_names_that_look_like_one_that_was_not_found() -> None:
    hosts = Hosts(acme=listing("small-chat", "large-chat", "embedder"))
    aliases = flattened({"smal": "acme/small-chat"})
    providers = {"acme": PRICED, "openai": ProviderSettings(base_url=URL)}
    async with ActorSystem() as system:
        catalog = await system.start(Catalog, providers, Records(), hosts.ask, aliases)
        assert await catalog.call(Near("acme/smal-chat")) == ()
        await catalog.call(ListModels(("acme",)))
        assert await catalog.call(Near("acme/smal-chat")) == ("acme/small-chat", "acme/large-chat")
        assert await catalog.call(Near("acme/zzz")) == ()
        assert await catalog.call(Near("acme/large-chat")) == ("acme/small-chat",)
        assert await catalog.call(Near("small")) == ("smal",)
        assert "openai/gpt-4o-mini" in await catalog.call(Near("openai/gpt-4o-mni"))
        assert hosts.asked == ["acme"]


async def test_many_who_waited_are_answered_one_at_a_time() -> None:
    """A choice among many models takes milliseconds: all at once would hold the loop for seconds."""
    hosts = Hosts(acme=listing(*[f"m{number}" for number in range(300)]))
    hosts.held["acme"] = asyncio.Event()
    async with catalogue(hosts, acme=PRICED) as catalog:
        calls = [asyncio.create_task(catalog.call(Choose())) for _ in range(50)]
        await hosts.until_asked(1)
        hosts.held["acme"].set()
        turns, loop = 0, asyncio.get_running_loop()

        def turn() -> None:
            nonlocal turns
            turns += 1
            if not all(call.done() for call in calls):
                loop.call_soon(turn)

        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        loop.call_soon(turn)
        await asyncio.gather(*calls)
        assert turns >= 40
