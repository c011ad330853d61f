"""One accumulator for all providers: the whole answer out of a stream's events, and its JSON."""

import json
from itertools import permutations

import pytest

from greenroom.actors.events import (
    Finished,
    OutOfOrder,
    ProviderError,
    ReasoningDelta,
    RefusalDelta,
    Started,
    StreamEvent,
    StreamOrder,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from greenroom.actors.providers import Accumulator, Completion, OpenAIChat

ERROR = ProviderError(kind="server", message="no")


def accumulated(*events: StreamEvent) -> Completion:
    accumulator, order = Accumulator(), StreamOrder()
    for event in events:
        order.check(event)
        accumulator.add(event)
    return accumulator.completion()


STORIES: list[tuple[StreamEvent, ...]] = [
    (Started("i", "m", 7), Finished("stop")),
    (Started("i", "m", 7), TextDelta("grö"), TextDelta("ße"), Usage(3, 4), Finished("length")),
    (Started("i", "m"), RefusalDelta("I "), RefusalDelta("won't"), Usage(1, 2), Finished("stop")),
    (
        Started("i", "m"),
        ReasoningDelta("hm"),
        ReasoningDelta("m"),
        TextDelta("4"),
        Usage(1, 1),
        Usage(10, 20, cached_tokens=5, reasoning_tokens=6, audio_input_tokens=2, audio_output_tokens=1),
        Finished("content_filter"),
    ),
    (
        Started("i", "m"),
        TextDelta("Let me see."),
        ToolCallDelta(0, "", "c0", "add"),
        ToolCallDelta(1, '{"b', "c1", "now"),
        ToolCallDelta(0, '{"a":'),
        ToolCallDelta(1, '":2}'),
        ToolCallDelta(0, "1}"),
        Finished("tool_calls"),
    ),
    (
        Started("i", "m"),
        TextDelta("a", (TokenLogprob("a", -0.5, (97,), (TokenLogprob("b", -1.5),)),)),
        TextDelta("b", (TokenLogprob("b", -0.25),)),
        Finished("stop"),
    ),
]


def test_pieces_become_wholes() -> None:
    got = accumulated(*STORIES[4])
    assert got.text == "Let me see."
    assert got.tool_calls == (ToolCall("c0", "add", '{"a":1}'), ToolCall("c1", "now", '{"b":2}'))
    assert not got.usage_reported
    thought = accumulated(*STORIES[3])
    assert (thought.reasoning, thought.text, thought.refusal) == ("hmm", "4", None)
    assert thought.usage.input_tokens == 10, "the later usage replaces the earlier"
    assert accumulated(*STORIES[2]).refusal == "I won't"


@pytest.mark.parametrize("story", STORIES)
def test_its_json_is_an_answer_that_the_codec_reads_as_the_same(story: tuple[StreamEvent, ...]) -> None:
    got = accumulated(*story)
    assert OpenAIChat("p").decode(bytes(got.raw)) == got


def test_its_json_has_what_openais_specification_requires() -> None:
    body = json.loads(bytes(accumulated(*STORIES[1]).raw))
    assert body == {
        "id": "i",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "größe", "refusal": None},
                "logprobs": None,
                "finish_reason": "length",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
    }


def test_content_is_null_only_beside_tool_calls_or_a_refusal() -> None:
    contents = [
        json.loads(bytes(accumulated(*story).raw))["choices"][0]["message"]["content"] for story in STORIES
    ]
    assert contents == ["", "größe", None, "4", "Let me see.", "ab"]


LEGAL = [
    [Started(), Finished("stop")],
    [Started(), TextDelta("a"), Usage(), TextDelta("b"), ReasoningDelta("c"), RefusalDelta("d"), ERROR],
    [ERROR],
    [Started(), ERROR],
    [
        Started(),
        ToolCallDelta(0, name="f"),
        ToolCallDelta(1, name="g"),
        ToolCallDelta(0, "{}"),
        Finished("stop"),
    ],
]
ILLEGAL: list[tuple[list[StreamEvent], str]] = [
    ([TextDelta("a")], "TextDelta in a stream that is new"),
    ([Usage()], "Usage in a stream that is new"),
    ([Finished("stop")], "Finished in a stream that is new"),
    ([Started(), Started()], "Started in a stream that is open"),
    ([Started(), ToolCallDelta(1, name="f")], "tool call 1 after 0 calls"),
    ([Started(), ToolCallDelta(-1, name="f")], "tool call -1 after 0 calls"),
    ([Started(), ToolCallDelta(0, "{}")], "tool call 0 begins without a name"),
    ([Started(), ToolCallDelta(0, name="f"), ToolCallDelta(0, name="f")], "tool call 0 is named twice"),
]
LAST: list[StreamEvent] = [Finished("stop"), ERROR]
ANY: list[StreamEvent] = [
    Started(),
    TextDelta("a"),
    ReasoningDelta("a"),
    RefusalDelta("a"),
    ToolCallDelta(0, name="f"),
    Usage(),
    *LAST,
]
AFTER_THE_LAST = [
    ([Started(), last, after], f"{type(after).__name__} in a stream that is closed")
    for last in LAST
    for after in ANY
]


@pytest.mark.parametrize("events", LEGAL)
def test_legal_orders_end_closed(events: list[StreamEvent]) -> None:
    order = StreamOrder()
    for event in events:
        assert order.state != "closed"
        order.check(event)
    assert order.state == "closed"


@pytest.mark.parametrize(("events", "why"), ILLEGAL + AFTER_THE_LAST)
def test_what_comes_out_of_order_is_told(events: list[StreamEvent], why: str) -> None:
    order = StreamOrder()
    for event in events[:-1]:
        order.check(event)
    with pytest.raises(OutOfOrder, match=why):
        order.check(events[-1])


def test_pieces_of_several_calls_may_be_mixed_anyhow() -> None:
    pieces = [ToolCallDelta(0, "a"), ToolCallDelta(1, "b"), ToolCallDelta(2, "c")]
    for mixed in permutations(pieces):
        got = accumulated(
            Started(), *(ToolCallDelta(i, name=f"f{i}") for i in range(3)), *mixed, Finished("tool_calls")
        )
        assert [call.arguments for call in got.tool_calls] == ["a", "b", "c"]
