"""Answers of a type, over real sockets: what is asked, what is decoded, asked again, charged and told."""

from dataclasses import dataclass
from decimal import Decimal

import msgspec
import pydantic
import pytest
from msgspec import Struct

from greenroom.actors.asks.structured import form_of_type
from greenroom.actors.ledger import BudgetExceeded
from greenroom.actors.settings import PriceSettings, Retries
from greenroom.runtime import AnswerInvalid, ParsedReply, ProviderFailed
from greenroom.runtime.testing import Fails, Raw, Received, Says, WireName, runtime_with

pytestmark = pytest.mark.anyio
PRICES = {"*": PriceSettings(input="1", output="2")}
GOOD = '{"city": "Paris", "people": 2100000}'
BAD = '{"city": "Paris", "people": "many"}'
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer", "minimum": 1}},
    "required": ["city", "people"],
}


class Place(Struct):
    city: str
    people: int


@dataclass
class PlaceData:
    city: str
    people: int


class PlaceModel(pydantic.BaseModel):
    city: str
    people: int


class TripModel(pydantic.BaseModel):
    stops: list[PlaceModel]
    note: str | None = None


class Trip(Struct):
    stops: list[Place]
    note: str = "none"


def says(text: str, *, finish: str = "stop") -> Says:
    return Says(text, prompt_tokens=10, completion_tokens=5, finish="length" if finish == "length" else None)


def roles(asked: Received) -> list[object]:
    messages = msgspec.convert(asked.body["messages"], list[dict[str, object]])
    return [message["role"] for message in messages]


class TestDecoded:
    @pytest.mark.parametrize("kind", [Place, PlaceData, PlaceModel])
    async def test_is_a_value_of_the_type(self, kind: type[Place | PlaceData | PlaceModel]) -> None:
        async with runtime_with(GOOD) as (rt, provider):
            reply = await rt.chat(None, "Where?", response_type=kind)
        assert isinstance(reply, ParsedReply)
        assert reply.parsed == kind(city="Paris", people=2100000)
        assert (reply.text, reply.attempts, reply.rejected) == (GOOD, 1, ())
        (asked,) = provider.received
        assert asked.prompt == "Where?"

    @pytest.mark.parametrize("kind", [Place, PlaceData, PlaceModel])
    async def test_strictly(self, kind: type[Place | PlaceData | PlaceModel]) -> None:
        text = '{"city": "Paris", "people": "2100000"}'
        async with runtime_with(text, GOOD) as (rt, _provider):
            reply = await rt.chat(None, "Where?", response_type=kind)
        assert [rejected.text for rejected in reply.rejected] == [text]

    async def test_is_json_by_a_schema(self) -> None:
        async with runtime_with('{"city": "Paris", "people": 0}', GOOD) as (rt, provider):
            reply = await rt.chat(None, "Where?", response_type=SCHEMA)
        assert reply.parsed == {"city": "Paris", "people": 2100000}
        assert reply.rejected[0].why == "0 at $.people must be at least 1"
        said = msgspec.convert(provider.received[0].body["response_format"], dict[str, object])
        assert said["json_schema"] == {"name": "answer", "schema": SCHEMA}

    @pytest.mark.parametrize(
        "wire",
        ["openai-chat", "openai-responses", "anthropic-messages", "gemini", "ollama", "bedrock-converse"],
    )
    async def test_every_wire_is_asked_in_its_own_mode(self, wire: WireName) -> None:
        async with runtime_with(BAD, GOOD, wire=wire) as (rt, provider):
            reply = await rt.chat(None, "Where?", response_type=Place)
        assert reply.parsed == Place("Paris", 2100000)
        for asked in provider.received:
            body = msgspec.json.encode(asked.body).decode().replace("\\", "")
            assert '"additionalProperties":false' in body.replace(" ", "")
        assert "Expected `int`, got `str`" in provider.received[1].prompt


class TestAskedAgain:
    async def test_shows_the_answer_and_what_is_wrong_and_adds_up(self) -> None:
        async with runtime_with(says(BAD), says("I think Paris"), says(GOOD), prices=PRICES) as (
            rt,
            provider,
        ):
            reply = await rt.chat(None, "Where?", response_type=Place)
        assert [roles(asked) for asked in provider.received] == [
            ["user"],
            ["user", "assistant", "user"],
            ["user", "assistant", "user", "assistant", "user"],
        ]
        assert "Expected `int`, got `str` - at `$.people`" in provider.received[1].prompt
        assert [rejected.text for rejected in reply.rejected] == [BAD, "I think Paris"]
        assert reply.attempts == 3
        assert (reply.usage.input_tokens, reply.usage.output_tokens) == (30, 15)
        assert reply.cost_usd == Decimal(3 * (10 * 1 + 5 * 2)) / 10**6

    async def test_gives_up_with_all_of_it(self) -> None:
        async with runtime_with(then=says(BAD), prices=PRICES) as (rt, provider):
            with pytest.raises(AnswerInvalid, match=r"3 times: Expected `int`, got `str`") as caught:
                await rt.chat(None, "Where?", response_type=Place)
        assert len(provider.received) == len(caught.value.rejected) == caught.value.error.attempts == 3
        assert caught.value.usage.output_tokens == 15
        assert caught.value.cost_pusd == 60 * 10**6
        assert caught.value.error.kind == "protocol"

    async def test_not_at_all_when_told_so(self) -> None:
        async with runtime_with(BAD, GOOD) as (rt, provider):
            with pytest.raises(AnswerInvalid, match="not of the type asked for: Expected"):
                await rt.chat(None, "Where?", response_type=Place, reasks=0)
            assert provider.left == 1

    async def test_not_for_an_answer_that_was_cut_off(self) -> None:
        async with runtime_with(says('{"city": "Par', finish="length"), GOOD) as (rt, provider):
            with pytest.raises(AnswerInvalid, match="cut off at max_tokens"):
                await rt.chat(None, "Where?", response_type=Place)
            assert provider.left == 1

    async def test_not_for_a_refusal(self) -> None:
        answer = {"message": {"role": "assistant", "refusal": "No."}, "finish_reason": "stop", "index": 0}
        body = msgspec.json.encode({"id": "x", "model": "any", "choices": [answer]})
        async with runtime_with(Raw(body), GOOD) as (rt, provider):
            with pytest.raises(AnswerInvalid, match=r"the model refused: No\.") as caught:
                await rt.chat(None, "Where?", response_type=Place)
            assert provider.left == 1
        assert caught.value.error.kind == "content_filter"

    async def test_counts_failed_attempts_between(self) -> None:
        async with runtime_with(Fails(503), says(BAD), Fails(503), says(GOOD)) as (rt, _provider):
            reply = await rt.chat(None, "Where?", response_type=Place)
        assert reply.attempts == 4

    async def test_a_failure_tells_what_all_asks_cost(self) -> None:
        once = Retries(attempts=1)
        async with runtime_with(says(BAD), Fails(401), prices=PRICES, retries=once) as (rt, _provider):
            with pytest.raises(ProviderFailed, match="authentication") as caught:
                await rt.chat(None, "Where?", response_type=Place)
        assert caught.value.cost_pusd == 20 * 10**6
        assert caught.value.error.attempts == 2


class TestShared:
    async def test_the_budget_is_of_all_asks_together(self) -> None:
        answer = Says(BAD, prompt_tokens=10, completion_tokens=500)
        async with runtime_with(then=answer, prices=PRICES) as (rt, provider):
            with pytest.raises(BudgetExceeded) as caught:
                await rt.chat(
                    None, "Where?", response_type=Place, max_tokens=500, reasks=20, budget_usd="0.004"
                )
        assert 2 <= len(provider.received) <= 3
        assert caught.value.settled_pusd == len(provider.received) * 1010 * 10**6
        assert caught.value.settled_pusd <= caught.value.budget.cap_pusd == 4000 * 10**6

    async def test_the_deadline_is_of_all_asks_together(self) -> None:
        async def slow(asked: Received) -> str:
            await rt_clock.sleep(30.0)
            return BAD

        async with runtime_with(then=slow) as (rt, provider):
            rt_clock = rt._life.system.clock  # pyright: ignore[reportPrivateUsage] - time that passes when told
            with pytest.raises(AnswerInvalid, match="no time was left to ask again"):
                await rt.chat(None, "Where?", response_type=Place, reasks=20, timeout_s=50)
        assert len(provider.received) == 2

    async def test_what_an_earlier_ask_took_is_not_there_for_retries(self) -> None:
        async def slow(asked: Received) -> str:
            await rt_clock.sleep(30.0)
            return BAD

        async with runtime_with(slow, Fails(503, retry_after_s=30), GOOD) as (rt, provider):
            rt_clock = rt._life.system.clock  # pyright: ignore[reportPrivateUsage] - as above
            with pytest.raises(ProviderFailed, match="503"):
                await rt.chat(None, "Where?", response_type=Place, timeout_s=50)
            assert provider.left == 1


class TestWithoutAMode:
    async def test_the_schema_is_said_in_words(self) -> None:
        error = {
            "error": {
                "message": "no such option",
                "type": "invalid_request_error",
                "param": "response_format",
            }
        }
        refusal = Raw(msgspec.json.encode(error), status=400)
        async with runtime_with(refusal, BAD, GOOD) as (rt, provider):
            reply = await rt.chat(None, "Where?", response_type=Place)
        assert reply.parsed.city == "Paris"
        assert reply.attempts == 3
        assert [("response_format" in asked.body, roles(asked)[0]) for asked in provider.received] == [
            (True, "user"),
            (False, "system"),
            (False, "system"),
        ]

    async def test_a_provider_that_refuses_either_way_has_failed(self) -> None:
        error = {"error": {"message": "never", "type": "invalid_request_error", "param": "response_format"}}
        async with runtime_with(then=Raw(msgspec.json.encode(error), status=400)) as (rt, provider):
            with pytest.raises(ProviderFailed, match="never"):
                await rt.chat(None, "Where?", response_type=Place)
        assert len(provider.received) == 2


class TestForms:
    def test_a_nested_type_is_closed_complete_and_strict(self) -> None:
        wanted = msgspec.json.decode(form_of_type(Trip).response_format)
        assert wanted["json_schema"]["name"] == "Trip"
        assert wanted["json_schema"]["strict"] is True
        schema = wanted["json_schema"]["schema"]
        assert schema["required"] == ["stops", "note"]
        assert schema["properties"]["note"] == {"type": "string"}
        assert schema["$defs"]["Place"]["additionalProperties"] is False

    def test_a_models_schema_is_what_openais_own_sdk_makes_of_it(self) -> None:
        sdk = pytest.importorskip("openai.lib._pydantic", reason="openai is not installed")
        wanted = msgspec.json.decode(form_of_type(TripModel).response_format)["json_schema"]
        assert wanted == {"name": "TripModel", "strict": True, "schema": sdk.to_strict_json_schema(TripModel)}

    def test_what_strict_mode_cannot_have_is_not_called_strict(self) -> None:
        class Loose(Struct):
            counts: dict[str, int]

        assert "strict" not in msgspec.json.decode(form_of_type(Loose).response_format)["json_schema"]

    @pytest.mark.parametrize("kind", [int, list[int], complex])
    async def test_what_is_no_object_is_refused_before_it_is_asked(self, kind: type[object]) -> None:
        async with runtime_with(GOOD) as (rt, provider):
            with pytest.raises(TypeError):
                await rt.chat(None, "Where?", response_type=kind)
            with pytest.raises(ValueError, match="'if' is not among what is checked"):
                await rt.chat(None, "Where?", response_type={"type": "object", "if": {}})
            with pytest.raises(ValueError, match="reasks must be 0 to 20, not 21"):
                await rt.chat(None, "Where?", response_type=Place, reasks=21)
        assert provider.received == ()
