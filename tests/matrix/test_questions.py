"""The same questions to every provider, whole and streamed: the same answers, usage and finish reasons."""

import json
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest
from tests.inside import given_back
from tests.matrix.asking import ask
from tests.matrix.providers import PROVIDERS, settings_of
from tests.matrix.questions import QUESTIONS, TOOLS, Question

from greenroom.actors.events import ProviderFailed
from greenroom.actors.providers import FunctionCall, Message, RequestedTool
from greenroom.runtime import Reply, Runtime, ToolCall
from greenroom.runtime.testing import Says, Simulator, SimulatorSettings, WireName, runtime_with

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


class House:
    """A runtime and the simulator that all its providers are."""

    def __init__(self, rt: Runtime, simulator: Simulator) -> None:
        self.simulator = simulator
        self._rt = rt

    async def ask(self, question: Question, provider: str, *, streamed: bool, **more: Any) -> Reply:
        options = question.options | more
        return await ask(
            self._rt, f"{provider}/{question.model}", question.messages, streamed=streamed, **options
        )


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    directory = tmp_path_factory.mktemp("house")
    async with (
        Simulator(SimulatorSettings(seed=7)) as simulator,
        Runtime(settings_of(simulator.url, directory), environ={}) as rt,
    ):
        yield House(rt, simulator)
        for provider in PROVIDERS:
            await given_back(rt, provider)


@BOTH
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", QUESTIONS)
async def test_question(house: House, name: str, provider: str, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    question = QUESTIONS[name]
    asked_before = house.simulator.statistics().requests
    param = question.unsupported.get(provider)
    if param is not None:
        with pytest.raises(ProviderFailed) as failed:
            await house.ask(question, provider, streamed=streamed)
        error = failed.value.error
        assert (error.kind, error.param, error.provider) == ("unsupported_capability", param, provider)
        assert house.simulator.statistics().requests == asked_before
        return
    reply = await house.ask(question, provider, streamed=streamed)
    assert house.simulator.statistics().requests == asked_before + 1
    assert (reply.provider, reply.finish_reason, reply.attempts) == (provider, question.finish, 1)
    if question.text is not None:
        assert reply.text == question.text
    if question.usage is not None:
        assert reply.usage == question.usage
    if question.check is not None:
        question.check(reply)
    if streamed:
        assert put_together(reply) == put_together(await house.ask(question, provider, streamed=False))


GIVEN_BACK = {
    "openai-responses": "encrypted_content",
    "anthropic-messages": "signature",
    "gemini": "thoughtSignature",
    "ollama": "thinking",
    "bedrock-converse": "signature",
}
"""By what name thoughts go back to those who want them."""


@BOTH
@pytest.mark.parametrize("wire", get_args(WireName))
async def test_thoughts_go_back_with_the_results_of_tools(wire: WireName, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    call = ToolCall("call_1", "get_time", "{}")
    first = Says(reasoning="I had better look.", tool_calls=(call,))
    async with runtime_with(first, "Noon.", wire=wire) as (rt, provider):
        options: dict[str, Any] = {"reasoning_effort": "low", "tools": TOOLS}
        asked = Message("user", "What time is it?")
        reply = await ask(rt, None, (asked,), streamed=streamed, **options)
        (called,) = reply.tool_calls
        said = Message(
            "assistant",
            reply.text,
            tool_calls=(RequestedTool(called.id, FunctionCall(called.name, called.arguments)),),
            reasoning_state=reply.reasoning_state,
        )
        messages = (asked, said, Message("tool", "12:00", tool_call_id=called.id))
        assert (await ask(rt, None, messages, streamed=streamed, **options)).text == "Noon."
        sent = json.dumps(provider.received[-1].body)
    name = GIVEN_BACK.get(wire)
    if name is None:
        assert reply.reasoning_state is None
    else:
        assert f'"{name}": "' in sent


LACKING = [
    pytest.param(name, provider, param, id=f"{name}-{provider}")
    for name, question in QUESTIONS.items()
    for provider, param in question.unsupported.items()
]
NEVER_DROPPED = {"response_format", "image_url", "tool_choice"}
"""Without them the answer would be another one than was asked for."""


@BOTH
@pytest.mark.parametrize(("name", "provider", "param"), LACKING)
async def test_what_a_provider_lacks_is_dropped_when_told_to(
    house: House,
    name: str,
    provider: str,
    param: str,
    streamed: bool,  # noqa: FBT001  # a parameter
) -> None:
    ask = house.ask(QUESTIONS[name], provider, streamed=streamed, unsupported="drop")
    if param not in NEVER_DROPPED:
        assert param in (await ask).dropped
        return
    with pytest.raises(ProviderFailed) as failed:
        await ask
    assert (failed.value.error.kind, failed.value.error.param) == ("unsupported_capability", param)


def put_together(reply: Reply) -> tuple[object, ...]:
    """What an answer says, however it came."""
    said = (
        reply.text,
        reply.reasoning,
        reply.refusal,
        reply.tool_calls,
        reply.logprobs,
        reply.reasoning_state,
    )
    return (*said, reply.model, reply.finish_reason, reply.usage, reply.cost_pusd)
