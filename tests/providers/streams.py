"""Ways to feed a decoder, and ways to look at what it told."""

from collections.abc import Iterable, Iterator

from greenroom.actors.events import (
    ReasoningDelta,
    RefusalDelta,
    StreamEvent,
    StreamOrder,
    TextDelta,
    ToolCallDelta,
)
from greenroom.actors.providers import NEED_DATA, StreamDecoder


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
