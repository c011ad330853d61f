"""What every provider is asked, and what every provider must have said then."""

import json
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field
from tests.providers.asking import IMAGE, IMAGE_BY_URL, LOOKED, PARAMETERS, SCHEMA, tool

from greenroom.actors.asks.json_schema import problem
from greenroom.actors.events import FinishReason, Usage
from greenroom.actors.providers import ImagePart, Message, TextPart
from greenroom.runtime import Reply

STRANGE = 'Grüß 世界 👩‍👩‍👧‍👦 e\u0301 \u2028\u2029 \r\n\t "quoted" \\back \u0085 data: [DONE]\n\n{"done":true} \u202eabc 𝄞'
LONG = "".join(f"{number} bottles of beer, " for number in range(5_000))
TOOLS = [tool("get_weather"), tool("get_time")]
ANSWER = {"name": "answer", "schema": SCHEMA, "strict": True}
OLD = {"anthropic-2023-06-01"}
ANTHROPIC = {"anthropic", *OLD}
GEMINI = {"gemini", "gemini-v1beta"}


class Question(Struct, frozen=True, kw_only=True):
    """One row of the matrix.

    Args:
        messages: what is said; one text is a user's message.
        options: of `Runtime.chat`.
        model: the simulator's model that is asked.
        text: what is answered; None: `check` looks.
        finish: why it ended.
        usage: what was used; None: what tools and schemas weigh differs from wire to wire.
        check: looks at what else there is to see.
        unsupported: those who cannot be asked so, and the option by whose name it is refused.
    """

    messages: str | tuple[Message, ...]
    options: dict[str, Any] = {}
    model: str = "echo"
    text: str | None = None
    finish: FinishReason = "stop"
    usage: Usage | None = None
    check: Callable[[Reply], None] | None = None
    unsupported: dict[str, str] = field(default_factory=dict[str, str])


def _lacking(option: str, *providers: str | set[str]) -> dict[str, str]:
    """Those that have no such option."""
    names = [{name} if isinstance(name, str) else name for name in providers]
    return dict.fromkeys(set[str]().union(*names), option)


def _is_an_object(reply: Reply) -> None:
    assert isinstance(json.loads(reply.text), dict)


def _is_of_the_schema(reply: Reply) -> None:
    assert problem(SCHEMA, json.loads(reply.text)) is None


def _calls(*names: str) -> Callable[[Reply], None]:
    def check(reply: Reply) -> None:
        calls = reply.tool_calls
        assert [call.name for call in calls] == list(names)
        assert len({call.id for call in calls if call.id}) == len(names)
        for call in calls:
            assert problem(PARAMETERS, json.loads(call.arguments)) is None

    return check


def _tells_of_the_results(reply: Reply) -> None:
    assert "-3" in reply.text
    assert "17" in reply.text
    assert not reply.tool_calls


def _thought(reply: Reply) -> None:
    shown = reply.provider != "openai-responses"  # which shows no more than a summary, to who asks for one
    assert bool(reply.reasoning) == shown
    tokens = len(reply.text) // 4 + -(-len(reply.reasoning) // 4)
    assert reply.usage.total_output_tokens == tokens or not shown
    counted_apart = reply.provider not in {"ollama", "bedrock"}
    assert (reply.usage.reasoning_tokens > 0) == counted_apart
    assert (reply.reasoning_state is None) == (reply.provider in {"openai", "huggingface"})


def _tells_how_likely(reply: Reply) -> None:
    assert "".join(each.token for each in reply.logprobs) == reply.text
    for each in reply.logprobs:
        likeliest, second = each.top_logprobs
        assert (likeliest.token, likeliest.logprob) == (each.token, each.logprob)
        assert 0 > likeliest.logprob > second.logprob


def _seen(*parts: ImagePart) -> tuple[Message, ...]:
    return (Message("user", (TextPart("What is this?"), *parts)),)


WEATHER = "What is the weather in Oslo?"
WEATHER_AND_TIME = "What are the weather and the time in Oslo?"
QUESTIONS: dict[str, Question] = {
    "plain": Question(messages="Why is it dark?", text="Why is it dark?", usage=Usage(10, 4)),
    "system": Question(
        messages=(Message("system", "Be short, and be kind."), Message("user", "Why?")),
        text="Why?",
        usage=Usage(3 + 3 + 6 + 3 + 1, 1),
    ),
    "turns": Question(
        messages=(
            Message("user", "My name is Ada."),
            Message("assistant", "Hello Ada."),
            Message("user", "What is my name?"),
        ),
        text="What is my name?",
        usage=Usage(3 + 3 + 4 + 3 + 3 + 3 + 4, 4),
    ),
    "stop": Question(
        messages="one two STOP three",
        options={"stop": ("never", "STOP")},
        text="one two ",
        usage=Usage(11, 2),
        unsupported=_lacking("stop", "openai-responses"),
    ),
    "max_tokens": Question(
        messages="abcdefgh" * 20,
        options={"max_tokens": 16},
        text="abcdefgh" * 8,
        finish="length",
        usage=Usage(46, 16),
    ),
    "json": Question(
        messages="Tell me the name and the city as JSON.",
        model="fast",
        options={"response_format": {"type": "json_object"}},
        check=_is_an_object,
        unsupported=_lacking("response_format", ANTHROPIC, "bedrock"),
    ),
    "schema": Question(
        messages="How many are there?",
        model="fast",
        options={"response_format": {"type": "json_schema", "json_schema": ANSWER}},
        check=_is_of_the_schema,
    ),
    "tool": Question(
        messages=WEATHER,
        model="fast",
        options={"tools": TOOLS},
        finish="tool_calls",
        check=_calls("get_weather"),
    ),
    "parallel tools": Question(
        messages=WEATHER_AND_TIME,
        model="fast",
        options={"tools": TOOLS},
        finish="tool_calls",
        check=_calls("get_weather", "get_time"),
    ),
    "one tool at a time": Question(
        messages=WEATHER_AND_TIME,
        model="fast",
        options={"tools": TOOLS, "parallel_tool_calls": False},
        finish="tool_calls",
        check=_calls("get_weather"),
        unsupported=_lacking("parallel_tool_calls", GEMINI, "ollama", "bedrock"),
    ),
    "results of tools": Question(
        messages=LOOKED[:-1],
        model="fast",
        options={"tools": [tool()]},
        check=_tells_of_the_results,
    ),
    "tool_choice of one": Question(
        messages=WEATHER,
        model="fast",
        options={"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "get_time"}}},
        finish="tool_calls",
        check=_calls("get_time"),
        unsupported=_lacking("tool_choice", "ollama"),
    ),
    "tool_choice required": Question(
        messages="Good morning.",
        model="fast",
        options={"tools": [tool("get_weather")], "tool_choice": "required"},
        finish="tool_calls",
        check=_calls("get_weather"),
        unsupported=_lacking("tool_choice", "ollama"),
    ),
    "tool_choice none": Question(
        messages=WEATHER_AND_TIME,
        model="fast",
        options={"tools": TOOLS, "tool_choice": "none"},
        check=_calls(),
        unsupported=_lacking("tool_choice", "bedrock"),
    ),
    # An image is 85 tokens to the simulator, so one that was lost on the way would show.
    "image": Question(messages=_seen(IMAGE), text="What is this?", usage=Usage(95, 4)),
    "two images": Question(messages=_seen(IMAGE, IMAGE), text="What is this?", usage=Usage(180, 4)),
    "image by URL": Question(
        messages=_seen(IMAGE_BY_URL),
        text="What is this?",
        unsupported=_lacking("image_url", "ollama", "bedrock"),
    ),
    "seed": Question(
        messages="Anything.",
        options={"seed": 7},
        text="Anything.",
        usage=Usage(9, 3),
        unsupported=_lacking("seed", "openai-responses", ANTHROPIC, "bedrock"),
    ),
    "temperature": Question(
        messages="Anything.",
        options={"temperature": 0.5},
        text="Anything.",
        usage=Usage(9, 3),
        unsupported=_lacking("temperature", "anthropic"),
    ),
    "top_p": Question(
        messages="Anything.",
        options={"top_p": 0.5},
        text="Anything.",
        usage=Usage(9, 3),
        unsupported=_lacking("top_p", "anthropic"),
    ),
    "penalties": Question(
        messages="Anything.",
        options={"presence_penalty": 0.5, "frequency_penalty": 0.5},
        text="Anything.",
        usage=Usage(9, 3),
        unsupported=_lacking("presence_penalty", "openai-responses", ANTHROPIC, "bedrock"),
    ),
    "thoughts": Question(
        messages="How deep is the sea at its deepest place?   ",
        options={"reasoning_effort": "low"},
        text="How deep is the sea at its deepest place?   ",
        check=_thought,
    ),
    "log probabilities": Question(
        messages="Grüß 世界, and all else.",
        options={"logprobs": True, "top_logprobs": 2},
        text="Grüß 世界, and all else.",
        usage=Usage(13, 7),
        check=_tells_how_likely,
        unsupported=_lacking("logprobs", ANTHROPIC, "bedrock"),
    ),
    "strange characters": Question(messages=STRANGE, text=STRANGE),
    "very long": Question(messages=LONG, options={"max_tokens": 100_000}, text=LONG),
}
