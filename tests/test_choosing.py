"""`model="AUTO"`, aliases and windows: which model a call is asked of, who takes its place, and what is told of that."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
import pytest
from aiohttp import web
from msgspec import Raw, structs
from tests.inside import database, given_back, granted, hear, settings, tree
from tests.integration.evidence import ledger
from tests.integration.upstream import Answering, Asked, Upstream, answer_well, good, refusal

from greenroom.actors.call import Terms
from greenroom.actors.call.choosing import runners_up, wanted
from greenroom.actors.catalog import Choice, NothingEligible, Requirements, ScoredModel
from greenroom.actors.events import Event, FailedOver, ProviderFailed
from greenroom.actors.providers import ChatRequest, ImagePart, ImageUrl, Message
from greenroom.actors.settings import AliasSettings, ModelSettings, PriceSettings, ProviderSettings
from greenroom.runtime import Runtime
from greenroom.runtime.testing import HastyClock

pytestmark = pytest.mark.anyio
TOOLS = Raw(
    b'[{"type":"function","function":{"name":"look","parameters":{"type":"object","properties":{}}}}]'
)
SCHEMA = Raw(b'{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","properties":{}}}}')
PIXEL = Message("user", (ImagePart(ImageUrl("data:image/png;base64,aGVsbG8=")),))
HELLO = Message("user", "hello")
CHEAP, DEAR = PriceSettings(input="0.10", output="0.10"), PriceSettings(input="5", output="5")
ABLE = ModelSettings(vision=True, tools=True, json_schema=True, context_tokens=100_000)
AT_ANY_PRICE = Terms(strategy="cheapest")


def auto(*messages: Message, max_tokens: int | None = 50) -> ChatRequest:
    return ChatRequest(model="AUTO", messages=messages or (HELLO,), max_tokens=max_tokens)


@asynccontextmanager
async def house(
    folder: Path,
    providers: Mapping[str, ProviderSettings],
    answers: Mapping[str, Answering] | None = None,
    *,
    aliases: Mapping[str, str | AliasSettings] | None = None,
) -> AsyncGenerator[tuple[Runtime, list[str], list[Event]]]:
    """A runtime with some providers, each below a path of its own; who is asked, in order; and what is told."""
    asked_of: list[str] = []

    async def answer(asked: Asked) -> web.StreamResponse:
        model = f"{asked.request.path.split('/')[1]}/{asked.body['model']}"
        asked_of.append(model)
        return await (answers or {}).get(model, answer_well)(asked)

    async with Upstream(answer) as upstream:
        root = upstream.base_url.removesuffix("/v1")
        made = structs.replace(
            settings(upstream.base_url, folder),
            providers={
                name: structs.replace(one, base_url=f"{root}/{name}/v1") for name, one in providers.items()
            },
            aliases=dict(aliases or {}),
        )
        async with Runtime(made, environ={}, clock=HastyClock()) as rt:
            told: list[Event] = []
            hear(rt, told.append)
            yield rt, asked_of, told


def provider(
    price: PriceSettings | None = None,
    *,
    free: bool = False,
    models: dict[str, ModelSettings] | None = None,
) -> ProviderSettings:
    return ProviderSettings(
        base_url="", prices={"*": price} if price else {}, free=free, models=models or {"fast": ABLE}
    )


async def busy(asked: Asked) -> web.StreamResponse:
    return refusal(503)


async def too_long(asked: Asked) -> web.StreamResponse:
    return refusal(400, "context_length_exceeded")


def moves(told: list[Event]) -> list[str]:
    return [event.to_model for event in told if isinstance(event, FailedOver)]


class TestAuto:
    async def test_a_model_is_chosen_once_and_the_choice_is_told(self, tmp_path: Path) -> None:
        async with house(tmp_path, {"acme": provider(DEAR), "other": provider(CHEAP)}) as (rt, asked_of, _):
            reply = await tree(rt).flow.chat(auto(), AT_ANY_PRICE)
        assert asked_of == ["other/fast"]
        assert (reply.provider, reply.text) == ("other", "fine")
        choice = reply.choice
        assert choice is not None
        assert (choice.model, choice.strategy) == ("other/fast", "cheapest")
        assert [one.model for one in choice.runners_up] == ["acme/fast"]
        assert choice.reason

    async def test_streamed_too(self, tmp_path: Path) -> None:
        async with house(tmp_path, {"acme": provider(DEAR), "other": provider(CHEAP)}) as (rt, asked_of, _):
            stream = tree(rt).flow.stream(auto(), AT_ANY_PRICE)
            async with stream as events:
                reply = await events.finish()
        assert asked_of == ["other/fast"]
        assert reply.choice is not None

    async def test_a_named_model_has_no_choice(self, tmp_path: Path) -> None:
        async with house(tmp_path, {"acme": provider(DEAR)}) as (rt, _, _):
            reply = await tree(rt).flow.chat(structs.replace(auto(), model="acme/fast"))
            assert reply.choice is None
            with pytest.raises(ValueError, match="requirements are for model='AUTO'"):
                await tree(rt).flow.chat(
                    structs.replace(auto(), model="acme/fast"), Terms(requirements=Requirements(vision=True))
                )

    @pytest.mark.parametrize(
        ("request_", "lacking"),
        [
            (auto(PIXEL), ModelSettings(vision=False, tools=True, json_schema=True)),
            (structs.replace(auto(), tools=TOOLS), ModelSettings(vision=True, tools=False, json_schema=True)),
            (structs.replace(auto(), response_format=SCHEMA), ModelSettings(json_schema=False)),
            (auto(Message("user", "x" * 40_000)), ModelSettings(context_tokens=8_000)),
            (auto(max_tokens=20_000), ModelSettings(context_tokens=8_000)),
        ],
        ids=["image", "tools", "schema", "input", "output"],
    )
    async def test_what_the_request_needs_is_required(
        self, request_: ChatRequest, lacking: ModelSettings, tmp_path: Path
    ) -> None:
        houses = {"acme": provider(DEAR), "other": provider(CHEAP, models={"fast": lacking})}
        async with house(tmp_path, houses) as (rt, asked_of, _):
            reply = await tree(rt).flow.chat(request_, AT_ANY_PRICE)
        assert asked_of == ["acme/fast"]
        assert reply.choice is not None
        assert [one.model for one in reply.choice.rejected] == ["other/fast"]

    async def test_a_long_text_fits_a_window_of_fewer_tokens_than_it_has_bytes(self, tmp_path: Path) -> None:
        async with house(tmp_path, {"acme": provider(CHEAP)}) as (rt, asked_of, _):
            await tree(rt).flow.chat(auto(Message("user", "word " * 30_000)), AT_ANY_PRICE)
        assert asked_of == ["acme/fast"]

    async def test_nothing_eligible_is_an_error_before_anything_is_held(self, tmp_path: Path) -> None:
        async with house(tmp_path, {"acme": provider(DEAR)}) as (rt, asked_of, _):
            with pytest.raises(NothingEligible, match="max_output_usd_per_mtok"):
                await tree(rt).flow.chat(
                    auto(), Terms(requirements=Requirements(max_output_usd_per_mtok="0.01"))
                )
            assert (await granted(rt)).open_holds == 0
        assert asked_of == []
        assert await anyio.to_thread.run_sync(ledger, database(tmp_path)) == []

    async def test_the_call_s_own_budget_is_a_hard_limit_of_the_choice(self, tmp_path: Path) -> None:
        async with house(tmp_path, {"acme": provider(DEAR), "other": provider(CHEAP)}) as (rt, asked_of, _):
            reply = await tree(rt).flow.chat(auto(), Terms(strategy="best", budget_pusd=50_000_000))
            assert asked_of == ["other/fast"]
            assert reply.choice is not None
            assert "max" in reply.choice.rejected[0].why or "more than" in reply.choice.rejected[0].why

    async def test_a_runner_up_takes_the_winner_s_place(self, tmp_path: Path) -> None:
        houses = {"acme": provider(DEAR), "other": provider(CHEAP)}
        async with house(tmp_path, houses, {"other/fast": busy}) as (rt, asked_of, told):
            reply = await tree(rt).flow.chat(auto(), AT_ANY_PRICE)
            assert asked_of == ["other/fast", "acme/fast"]
            assert moves(told) == ["acme/fast"]
            assert (reply.provider, reply.attempts) == ("acme", 2)
            assert [one.outcome for one in reply.tried] == ["overloaded", "ok"]

    async def test_never_from_a_free_model_to_a_paid_one(self, tmp_path: Path) -> None:
        houses = {"acme": provider(DEAR), "local": provider(free=True)}
        async with house(tmp_path, houses, {"local/fast": busy}) as (rt, asked_of, told):
            with pytest.raises(ProviderFailed, match="acme/fast was passed over: it costs money") as caught:
                await tree(rt).flow.chat(auto(), AT_ANY_PRICE)
            assert caught.value.error.kind == "overloaded"
            assert set(asked_of) == {"local/fast"}
            assert moves(told) == []
            named = structs.replace(AT_ANY_PRICE, fallbacks=("acme/fast",))
            assert (await tree(rt).flow.chat(auto(), named)).provider == "acme"
            await given_back(rt)


class TestAliases:
    async def test_the_models_of_an_alias_are_asked_in_their_order(self, tmp_path: Path) -> None:
        aliases = {"quick": AliasSettings(models=("acme/fast", "other/fast"))}
        houses = {"acme": provider(DEAR), "other": provider(CHEAP)}
        async with house(tmp_path, houses, {"acme/fast": busy}, aliases=aliases) as (rt, asked_of, told):
            reply = await rt.chat("quick", "hello", max_tokens=9)
        assert asked_of == ["acme/fast", "other/fast"]
        assert moves(told) == ["other/fast"]
        assert reply.provider == "other"

    @pytest.mark.parametrize("free_to_paid", [False, True])
    async def test_an_alias_goes_from_free_to_paid_only_if_it_says_so(
        self,
        free_to_paid: bool,  # noqa: FBT001 - a table
        tmp_path: Path,
    ) -> None:
        aliases = {"quick": AliasSettings(models=("local/fast", "acme/fast"), free_to_paid=free_to_paid)}
        houses = {"acme": provider(DEAR), "local": provider(free=True)}
        async with house(tmp_path, houses, {"local/fast": busy}, aliases=aliases) as (rt, asked_of, _):
            if free_to_paid:
                assert (await rt.chat("quick", "hello", max_tokens=9)).provider == "acme"
            else:
                with pytest.raises(ProviderFailed, match="nobody agreed to pay"):
                    await rt.chat("quick", "hello", max_tokens=9)
                assert set(asked_of) == {"local/fast"}

    async def test_an_alias_among_the_fallbacks_brings_its_models_along(self, tmp_path: Path) -> None:
        aliases = {"spares": AliasSettings(models=("other/one", "other/two"))}
        houses = {"acme": provider(DEAR), "other": provider(CHEAP)}
        answers = {"acme/fast": busy, "other/one": busy}
        async with house(tmp_path, houses, answers, aliases=aliases) as (rt, asked_of, _):
            request = structs.replace(auto(), model="acme/fast")
            await tree(rt).flow.chat(request, Terms(fallbacks=("spares",)))
        assert asked_of == ["acme/fast", "other/one", "other/two"]


class TestContextLength:
    """A request too long for a model goes on to one with a larger window, and to no other."""

    async def test_a_larger_window_is_looked_for(self, tmp_path: Path) -> None:
        windows = {
            "small": ModelSettings(context_tokens=8_000),
            "unknown": ModelSettings(),
            "same": ModelSettings(context_tokens=8_000),
            "large": ModelSettings(context_tokens=16_000),
        }
        async with house(tmp_path, {"acme": provider(CHEAP, models=windows)}, {"acme/small": too_long}) as (
            rt,
            asked_of,
            told,
        ):
            terms = Terms(fallbacks=("acme/unknown", "acme/same", "acme/large"))
            reply = await tree(rt).flow.chat(structs.replace(auto(), model="acme/small"), terms)
        assert asked_of == ["acme/small", "acme/large"]
        assert reply.attempts == 2
        (moved,) = [event for event in told if isinstance(event, FailedOver)]
        assert [why.partition(" ")[0] for why in moved.passed_over] == ["acme/unknown", "acme/same"]


def scored(*names: str) -> tuple[ScoredModel, ...]:
    return tuple(ScoredModel(name, float(at), "") for at, name in enumerate(names))


def test_runners_up_of_other_providers_come_first_and_are_few() -> None:
    choice = Choice(
        model="a/1",
        strategy="cheapest",
        reason="",
        winner=ScoredModel("a/1", 0.0, ""),
        runners_up=scored("a/2", "a/3", "b/1", "b/2", "c/1", "d/1"),
    )
    found = runners_up(choice)
    assert [fallback.model for fallback in found] == ["b/1", "c/1", "d/1"]
    assert not any(fallback.asked for fallback in found)
    few = structs.replace(choice, runners_up=scored("a/2", "b/1"))
    assert [fallback.model for fallback in runners_up(few)] == ["b/1", "a/2"]


def test_requirements_of_the_caller_are_kept_and_the_tighter_sum_holds() -> None:
    own = Requirements(vision=True, max_usd="0.5", exclude=("x/*",))
    assert wanted(auto(), own, "best", None).requirements.max_usd == "0.5"
    tighter = wanted(auto(), own, "best", 10**11).requirements
    assert (tighter.max_usd, tighter.vision, tighter.exclude) == ("0.1", True, ("x/*",))
    assert wanted(auto(), own, "best", 10**12).requirements.max_usd == "0.5"


def test_images_are_no_text() -> None:
    """Their bytes would drown the estimate; the bound counts them all the same."""
    image = Message("user", (ImagePart(ImageUrl("data:image/png;base64," + "A" * 300_000)),))
    asked = wanted(auto(image), None, "balanced", None)
    assert asked.input_tokens < 3_000
    assert asked.input_bound > 300_000


def test_senseless_tools_are_refused_by_name() -> None:
    with pytest.raises(ProviderFailed, match="tools") as caught:
        wanted(structs.replace(auto(), tools=Raw(b'"look"')), None, "balanced", None)
    assert caught.value.error.kind == "invalid_request"


async def test_auto_in_small_letters(tmp_path: Path) -> None:
    async def answer(asked: Asked) -> web.StreamResponse:
        return good("small")

    async with house(tmp_path, {"acme": provider(CHEAP)}, {"acme/fast": answer}) as (rt, _, _):
        assert (await rt.chat("auto", "hello", max_tokens=9)).text == "small"
