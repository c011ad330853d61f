"""What the simulator thinks before it answers, and how likely it says each token was."""

import pytest
from tests.simulator.conftest import Client

from greenroom.runtime.simulator.engine import likelihoods

pytestmark = pytest.mark.anyio
PROMPT = "How do bees find their way home from distant meadows?"


async def test_thoughts_are_fixed_by_the_request_and_beside_the_answer(client: Client) -> None:
    plain = await client.chat(PROMPT, model="echo")
    assert "reasoning_content" not in plain.json["choices"][0]["message"]
    assert plain.json["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    first = await client.chat(PROMPT, model="echo", reasoning_effort="low")
    assert (first.text, (await client.chat(PROMPT, model="echo", reasoning_effort="low")).body) == (
        PROMPT,
        first.body,
    )
    usage = first.json["usage"]
    thoughts = usage["completion_tokens_details"]["reasoning_tokens"]
    assert 0 < thoughts == usage["completion_tokens"] - plain.json["usage"]["completion_tokens"]
    assert (await client.chat(PROMPT, model="echo", reasoning_effort="none")).text == PROMPT


async def test_whoever_thinks_too_long_says_nothing(client: Client) -> None:
    reply = await client.chat(PROMPT, model="echo", reasoning_effort="high", max_tokens=3)
    (choice,) = reply.json["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "length")
    assert len(choice["message"]["reasoning_content"]) == 12
    assert reply.json["usage"]["completion_tokens"] == 3


async def test_more_alternatives_than_there_may_be_are_refused(client: Client) -> None:
    for wrong in ({"logprobs": True, "top_logprobs": 21}, {"top_logprobs": 1}, {"reasoning_effort": "lots"}):
        reply = await client.chat(PROMPT, **wrong)
        assert (reply.status, reply.error["param"]) == (400, next(reversed(wrong)))


@pytest.mark.parametrize("top", [0, 1, 5])
def test_no_other_token_is_likelier_than_the_one_that_was_said(top: int) -> None:
    found = likelihoods(["a", "Grüß", "世"], top)
    assert [each.token for each in found] == ["a", "Grüß", "世"]
    for each in found:
        assert each.logprob < 0
        assert [other.logprob for other in each.others] == sorted(
            (other.logprob for other in each.others), reverse=True
        )
        assert len({other.token for other in each.others}) == len(each.others) == top
        if top:
            assert (each.others[0].token, each.others[0].logprob) == (each.token, each.logprob)
