"""What `chat`, `stream` and `embed` may be told: what reaches the provider, and what is refused before anything is held."""

from collections.abc import Awaitable, Callable
from typing import get_type_hints

import msgspec
import pytest
from msgspec import structs
from tests.inside import NOTHING, granted

from greenroom.actors.asks.tools import ToolTerms
from greenroom.actors.limiter import BATCH, INTERACTIVE
from greenroom.actors.providers import ChatRequest, ImagePart, ImageUrl, TextPart
from greenroom.actors.settings import PriceSettings
from greenroom.runtime import Message, OptionInvalid, Options, Runtime
from greenroom.runtime.options import (
    Messages,
    ModelOptions,
    TermsOptions,
    ToolOptions,
    read_only_terms,
    read_options,
    read_terms,
)
from greenroom.runtime.testing import Fails, runtime_with

pytestmark = pytest.mark.anyio
EVERY: Options = {
    "max_tokens": 50,
    "temperature": 1,
    "top_p": 0.9,
    "stop": ["END", "STOP"],
    "seed": 7,
    "presence_penalty": 0.1,
    "frequency_penalty": -0.1,
    "reasoning_effort": "low",
    "user": "u-1",
    "logprobs": True,
    "top_logprobs": 2,
    "parallel_tool_calls": False,
    "response_format": {"type": "json_object"},
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    "tool_choice": "auto",
    "extra": {"prompt_cache_key": "k"},
}


def read(options: Options) -> None:
    read_options("a/b", "x", options)


def test_the_table_for_checkers_and_the_one_for_msgspec_have_the_same_names() -> None:
    request = {field.name for field in structs.fields(ChatRequest)} - {"model", "messages"}
    assert EVERY.keys() == request
    assert get_type_hints(ToolOptions).keys() == {"tools", *ToolTerms.__struct_fields__}
    known = {
        *request,
        *get_type_hints(TermsOptions),
        *get_type_hints(ModelOptions),
        *ToolTerms.__struct_fields__,
    }
    assert get_type_hints(Options).keys() == known


async def test_every_option_reaches_the_provider() -> None:
    sent = EVERY.copy()
    del sent["logprobs"], sent["top_logprobs"]  # the simulator knows no probabilities
    async with runtime_with(then="{}") as (rt, provider):
        await rt.chat(None, "x", **sent)
        async with rt.stream(None, "x", **sent) as events:
            await events.finish()
    del sent["extra"]
    for asked in provider.received:
        assert sent.items() <= asked.body.items()
        assert asked.body["prompt_cache_key"] == "k"
    request = read_options("a/b", "x", EVERY).request
    assert (request.logprobs, request.top_logprobs) == (True, 2)


async def test_messages_may_be_dicts_in_openais_shape() -> None:
    conversation: list[Message | dict[str, object]] = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "low"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
        Message("user", "Sure?"),
    ]
    request = read_options("a/b", conversation, {}).request
    assert request.messages[1].content == (
        TextPart("What is it?"),
        ImagePart(ImageUrl("https://x.example/a.png", "low")),
    )
    async with runtime_with("Yes.") as (rt, provider):
        await rt.chat(None, conversation)
    sent = msgspec.convert(provider.received[0].body["messages"], list[dict[str, object]])
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool", "user"]


@pytest.mark.parametrize(
    ("options", "option", "why"),
    [
        ({"max_token": 5}, "max_token", "did you mean max_tokens?"),
        ({"temprature": 0}, "temprature", "did you mean temperature?"),
        ({"timeout": 5}, "timeout", "did you mean timeout_s?"),
        ({"budget": 5}, "budget", "did you mean budget_usd?"),
        ({"zebra": 5}, "zebra", r"goes in extra=\{'zebra': \.\.\.\}"),
        ({"stream": True}, "stream", r"rt\.stream"),
        ({"max_completion_tokens": 5}, "max_completion_tokens", "is max_tokens here"),
        ({"max_tokens": -1}, "max_tokens", "Expected `int` >= 1"),
        ({"max_tokens": 0}, "max_tokens", "Expected `int` >= 1"),
        ({"max_tokens": "many"}, "max_tokens", "Expected `int | null`, got `str`"),
        ({"max_tokens": True}, "max_tokens", "got `bool`"),
        ({"max_tokens": 10**30}, "max_tokens", "Expected"),
        ({"temperature": float("nan")}, "temperature", "Expected"),
        ({"temperature": float("inf")}, "temperature", "Expected `float` <= 100"),
        ({"top_p": 1.1}, "top_p", "Expected `float` <= 1"),
        ({"seed": 2**63}, "seed", "Expected"),
        ({"seed": 0.5}, "seed", "got `float`"),
        ({"stop": [1]}, "stop", r"at stop\[0\]"),
        ({"logprobs": "yes"}, "logprobs", "got `str`"),
        ({"response_format": "json"}, "response_format", "'json': Expected `object`"),
        ({"response_format": {"type": object}}, "response_format", "type"),
        ({"tools": {"name": "x"}}, "tools", "must be a list of functions"),
        ({"tool_choice": 5}, "tool_choice", "5: Expected"),
        ({"extra": [1]}, "extra", "must be a dict"),
        ({"extra": {"x": object()}}, "extra", "x cannot be written as JSON"),
        ({"extra": {"temperature": 1}}, "extra", "temperature is an option by itself"),
        ({"extra": {"stream": True}}, "extra", "stream is how greenroom asks"),
        ({"max_rounds": 0}, "max_rounds", "Expected `int` >= 1"),
        ({"tool_errors": "hide"}, "tool_errors", "'hide'"),
        ({"tool_timeout_s": 0}, "tool_timeout_s", "Expected `float` > 0"),
        ({"timeout_s": 0}, "timeout_s", "more than 0"),
        ({"timeout_s": -1.0}, "timeout_s", "more than 0"),
        ({"timeout_s": float("inf")}, "timeout_s", "at most 2592000"),
        ({"timeout_s": float("nan")}, "timeout_s", "more than 0"),
        ({"timeout_s": "5"}, "timeout_s", "must be a number"),
        ({"timeout_s": True}, "timeout_s", "must be a number"),
        ({"budget_usd": "much"}, "budget_usd", "no sum of dollars"),
        ({"budget_usd": -1}, "budget_usd", "no sum of dollars"),
        ({"tag": 5}, "tag", "must be text"),
        ({"fallbacks": [5]}, "fallbacks", r"got `int`, at fallbacks\[0\]"),
        ({"fallbacks": "a/b"}, "fallbacks", "Expected `array`"),
        ({"unsupported": "ignore"}, "unsupported", "'ignore'"),
        ({"hedge": -1}, "hedge", "must be True, False or seconds"),
        ({"hedge": "soon"}, "hedge", "must be a number"),
        ({"strategy": "dearest"}, "strategy", "'dearest'"),
        ({"requirements": {"visions": True}}, "requirements", "unknown field `visions`"),
        ({"requirements": {"context_tokens": -1}}, "requirements", "context_tokens"),
        ({"priority": ["batch"]}, "priority", "one of interactive, batch"),
        ({"priority": "high"}, "priority", "one of interactive, batch"),
    ],
)
def test_a_wrong_option_is_named(options: Options, option: str, why: str) -> None:
    with pytest.raises(OptionInvalid, match=f"^{option}: .*{why}") as caught:
        read(options)
    assert caught.value.option == option
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([], "empty"),
        ((), "empty"),
        (b"hello", "must be text, or a list of messages"),
        ({"role": "user", "content": "x"}, "must be text, or a list of messages"),
        (None, "must be text, or a list of messages"),
        ([5], r"Expected `object`, got `int`, at messages\[0\]"),
        ([{"role": "robot", "content": "x"}], r"'robot', at messages\[0\]\.role"),
        ([{"content": "x"}], r"missing required field `role`, at messages\[0\]"),
        ([{"role": "user", "contents": "x"}], r"unknown field `contents`, at messages\[0\]"),
        (
            [{"role": "user", "content": [{"type": "audio"}]}],
            r"'audio', at messages\[0\]\.content\[0\]\.type",
        ),
        ([{"role": "tool", "content": "x"}], r"messages\[0\] is of role tool and has no tool_call_id"),
        ([Message("user", "x"), Message("robot", "x")], r"messages\[1\]\.role is 'robot'"),  # type: ignore[arg-type]
        ([Message("user", 5)], r"messages\[0\]\.content is 5"),  # type: ignore[arg-type]
        ([Message("user", [TextPart("x")])], r"messages\[0\]\.content is \["),  # type: ignore[arg-type]
        ([Message("user", ("x",))], r"messages\[0\]\.content is \('x',\)"),  # type: ignore[arg-type]
        ("half \ud83d of it", r"messages\[0\]\.content has half a surrogate pair"),
        ([{"role": "user", "content": [{"type": "text", "text": "\ud83d"}]}], "half a surrogate pair"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_place(messages: Messages, why: str) -> None:
    with pytest.raises(OptionInvalid, match=f"^messages: .*{why}"):
        read_options("a/b", messages, {})


async def test_nothing_is_held_or_sent_for_what_is_wrong() -> None:
    wrong: Options = {"max_tokens": -1}
    async with runtime_with(prices={"*": PriceSettings(input="1", output="1")}) as (rt, provider):
        with pytest.raises(OptionInvalid, match="max_tokens"):
            await rt.chat(None, "x", **wrong)
        with pytest.raises(OptionInvalid, match="max_tokens"):
            rt.stream(None, "x", **wrong)
        with pytest.raises(OptionInvalid, match="tme"):
            await rt.embed("scripted/any", "x", tme=5)  # type: ignore[call-arg]
        assert await granted(rt, "scripted") == NOTHING
    assert provider.received == ()


WRONGLY_ASKED: list[tuple[str, Callable[[Runtime], Awaitable[object]]]] = [
    ("model: Expected `str`, got `null`", lambda rt: rt.embed(None, "x")),  # type: ignore[arg-type]
    ("model: Expected `str`, got `int`", lambda rt: rt.embed(3, "x")),  # type: ignore[arg-type]
    ("model: .* printable characters", lambda rt: rt.embed("a/\ud83d", "x")),
    ("model: .* printable characters", lambda rt: rt.chat("a/\ud83d", "x")),
    ("model: .* printable characters", lambda rt: rt.chat("a/b\0", "x")),
    ("model: .* at most 4096", lambda rt: rt.chat("a/" + "b" * 4095, "x")),
    ("texts: None; it must be text, or a list of texts", lambda rt: rt.embed("a/b", None)),  # type: ignore[arg-type]
    (r"texts: texts\[1\] is 5; it must be text", lambda rt: rt.embed("a/b", ["x", 5])),  # type: ignore[list-item]
    (r"texts: texts\[0\] has half a surrogate pair", lambda rt: rt.embed("a/b", "\ud83d")),
    ("dimensions: Expected `int | null`", lambda rt: rt.embed("a/b", "x", dimensions="9")),  # type: ignore[arg-type]
    ("requirements: Expected `object | null`, got `int`", lambda rt: rt.choose(3)),  # type: ignore[arg-type]
    (r"requirements: .*unknown field `sees`", lambda rt: rt.choose({"sees": True})),
    ("sessions_days: Expected `int` >= 1", lambda rt: rt.purge(sessions_days=-1)),
    ("jobs_days: Expected `int` >= 1", lambda rt: rt.purge(jobs_days=0)),
    ("concurrency: Expected `int` >= 1", lambda rt: rt.batch(["x"], concurrency=0)),
    ("fallbacks: Expected `array`, got `str`", lambda rt: rt.batch(["x"], fallbacks="a/b")),
    (r"fallbacks: .*, at fallbacks\[0\]", lambda rt: rt.batch(["x"], fallbacks=[3])),  # type: ignore[list-item]
    ("max_tokens: Expected `int` >= 1", lambda rt: rt.batch(["x"], max_tokens=-1)),
    (r"model: Expected `str \| null`", lambda rt: rt.batch(["x"], model=3)),  # type: ignore[arg-type]
    (r"tag: Expected `str \| null`", lambda rt: rt.batch(["x"], tag=3)),  # type: ignore[arg-type]
    (r"providers: \[\]; it must be a provider's name", lambda rt: rt.models([])),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("why", "ask"), WRONGLY_ASKED)
async def test_what_is_wrongly_asked_reaches_no_actor(
    why: str, ask: Callable[[Runtime], Awaitable[object]]
) -> None:
    async with runtime_with("Fine.") as (rt, provider):
        with pytest.raises(OptionInvalid, match=f"^{why}"):
            await ask(rt)
        assert (await rt.chat(None, "Are you well?")).text == "Fine."
        assert len(provider.received) == 1


def test_a_call_without_other_options_names_those_it_has() -> None:
    with pytest.raises(OptionInvalid, match="did you mean timeout_s"):
        read_only_terms({"timeout": 5})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(OptionInvalid, match="there are budget_usd, priority, tag, timeout_s"):
        read_only_terms({"temperature": 1})  # type: ignore[typeddict-unknown-key]


async def test_who_else_is_asked_and_what_may_be_left_out() -> None:
    async with runtime_with(Fails(404), "x", wire="anthropic-messages") as (rt, provider):
        reply = await rt.chat("scripted/one", "x", fallbacks=["scripted/two"], unsupported="drop", seed=5)
    assert [asked.model for asked in provider.received] == ["one", "two"]
    assert reply.dropped == ("seed",)


async def test_the_model_may_be_chosen() -> None:
    async with runtime_with("x") as (rt, provider):
        wanted = {"free_only": True, "models": ["*/fast"]}
        reply = await rt.chat("AUTO", "x", requirements=wanted, strategy="cheapest", hedge=5)
    assert reply.choice is not None
    assert reply.choice.model == "scripted/fast"
    assert [asked.model for asked in provider.received] == ["fast"]


async def test_priority_batch_goes_behind_others() -> None:
    assert (read_terms({}).priority, read_terms({"priority": "batch"}).priority) == (INTERACTIVE, BATCH)
    async with runtime_with("x") as (rt, _provider):
        assert (await rt.chat(None, "x", priority="batch")).text == "x"
