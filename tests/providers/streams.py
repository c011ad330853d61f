"""Ways to feed a decoder, and ways to look at what it told."""

from collections.abc import Iterable, Iterator, Sequence

from greenroom.actors.events import (
    ProviderError,
    ReasoningDelta,
    RefusalDelta,
    StreamEvent,
    StreamOrder,
    TextDelta,
    ToolCallDelta,
)
from greenroom.actors.providers import NEED_DATA, Accumulator, Codec, Completion, StreamDecoder


def drain(decoder: StreamDecoder) -> Iterator[StreamEvent]:
    while (event := decoder.next_event()) is not NEED_DATA:
        yield event


def events_of(decoder: StreamDecoder, chunks: Iterable[bytes]) -> list[StreamEvent]:
    """All events of a body that comes in `chunks` and then ends; their order is checked."""
    events: list[StreamEvent] = []
    for chunk in chunks:
        decoder.receive(chunk)
        events += drain(decoder)
    decoder.end()
    events += drain(decoder)
    order = StreamOrder()
    for event in events:
        order.check(event)
    assert order.state == "closed"
    return events


def byte_by_byte(body: bytes) -> list[bytes]:
    return [body[i : i + 1] for i in range(len(body))]


def merged(events: Iterable[StreamEvent]) -> list[StreamEvent]:
    """The same story with neighbouring deltas of a kind joined: where a piece was cut says nothing."""
    told: list[StreamEvent] = []
    for event in events:
        last = told[-1] if told else None
        match last, event:
            case TextDelta(), TextDelta():
                told[-1] = TextDelta(last.text + event.text, last.logprobs + event.logprobs)
            case ReasoningDelta(), ReasoningDelta():
                told[-1] = ReasoningDelta(last.text + event.text)
            case RefusalDelta(), RefusalDelta():
                told[-1] = RefusalDelta(last.text + event.text)
            case ToolCallDelta(), ToolCallDelta() if last.index == event.index:
                told[-1] = ToolCallDelta(last.index, last.arguments + event.arguments, last.id, last.name)
            case _:
                told.append(event)
    return told


def answer_of(codec: Codec, body: bytes) -> Completion:
    """The answer that a streamed body tells."""
    accumulator = Accumulator()
    for event in events_of(codec.stream_decoder(), [body]):
        accumulator.add(event)
    return accumulator.completion()


def assert_told_however_cut(
    codec: Codec,
    body: bytes,
    story: Sequence[StreamEvent],
    after_it: Sequence[bytes] = (b"\n\n", b"data: rubbish\n\n", b"\x00\xff{"),
) -> None:
    """A body tells `story` whole, one byte at a time, cut in two at every offset, and with more behind it."""
    assert merged(events_of(codec.stream_decoder(), [body])) == story
    assert merged(events_of(codec.stream_decoder(), byte_by_byte(body))) == story
    for at in range(1, len(body)):
        assert merged(events_of(codec.stream_decoder(), [body[:at], body[at:]])) == story, at
    for rubbish in after_it:
        assert merged(events_of(codec.stream_decoder(), [body, rubbish])) == story
        assert merged(events_of(codec.stream_decoder(), [body + rubbish])) == story


def assert_truncated_before(codec: Codec, body: bytes, end: int, story: Sequence[StreamEvent]) -> None:
    """A body that ends before offset `end` is told as far as it goes, and then as truncated."""
    for at in range(end):
        events = events_of(codec.stream_decoder(), [body[:at]])
        last = events[-1]
        assert isinstance(last, ProviderError), at
        assert (last.kind, "truncated" in last.message) == ("connection", True), at
        told = merged(events[:-1])
        assert [type(event) for event in told] == [type(event) for event in story[: len(told)]], at
