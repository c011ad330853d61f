"""The splitters: every line end, every cut, every limit."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.providers.oracles import needs, official

from greenroom.actors.providers import RejectedAnswer
from greenroom.actors.providers.sse import JsonLinesSplitter, ServerSentEvent, SseSplitter

BOM = b"\xef\xbb\xbf"
TABLE: list[tuple[bytes, list[tuple[bytes, bytes]], int]] = [
    (b"", [], 0),
    (b"data: a\n\n", [(b"a", b"")], 0),
    (b"data:a\n\n", [(b"a", b"")], 0),
    (b"data:  a \n\n", [(b" a ", b"")], 0),
    (b"data\n\n", [(b"", b"")], 0),
    (b"data: a\ndata: b\n\n", [(b"a\nb", b"")], 0),
    (b"data: a\ndata\ndata: b\n\n", [(b"a\n\nb", b"")], 0),
    (b"event: ping\ndata: {}\n\n", [(b"{}", b"ping")], 0),
    (b"data: {}\nevent: ping\nid: 7\nretry: 10\nunknown: x\n\n", [(b"{}", b"ping")], 0),
    (b"data: a\n\n\n\n\ndata: b\n\n", [(b"a", b""), (b"b", b"")], 0),
    (b"\n\n\ndata: a\n\n", [(b"a", b"")], 0),
    (b": hello\n\n", [], 1),
    (b": PROCESSING\n\ndata: a\n\n:\n\n", [(b"a", b"")], 2),
    (b": with data\ndata: a\n\n", [(b"a", b"")], 0),
    (b"event: ping\n\n", [], 1),
    (BOM + b"data: a\n\n", [(b"a", b"")], 0),
    (b"data: " + BOM + b"\n\n", [(BOM, b"")], 0),
    ("data: größe 😀\n\n".encode(), [("größe 😀".encode(), b"")], 0),
    (b"data: a:b: c\n\n", [(b"a:b: c", b"")], 0),
    (b"data: whole\n\ndata: cut\n", [(b"whole", b"")], 0),
    (b"data: cut", [], 0),
]
ENDS = [b"\n", b"\r\n", b"\r"]


def split(chunks: list[bytes], splitter: SseSplitter | None = None) -> list[tuple[bytes, bytes]]:
    splitter = splitter or SseSplitter()
    return [(event.data, event.name) for chunk in chunks for event in splitter.receive(chunk)]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("body", "events", "keep_alives"), TABLE)
def test_every_shape_by_every_line_end(
    body: bytes, events: list[tuple[bytes, bytes]], keep_alives: int, end: bytes
) -> None:
    body = body.replace(b"\n", end)
    for chunks in (
        [body],
        [body[i : i + 1] for i in range(len(body))],
        *([body[:at], body[at:]] for at in range(len(body))),
        *([body[:at], b"", body[at:]] for at in range(len(body))),
    ):
        splitter = SseSplitter()
        assert split(chunks, splitter) == events
        assert splitter.keep_alives == keep_alives


@pytest.mark.parametrize(("body", "events", "keep_alives"), TABLE)
def test_what_comes_behind_the_first_event(
    body: bytes, events: list[tuple[bytes, bytes]], keep_alives: int
) -> None:
    """A byte order mark is one at the beginning only."""
    splitter = SseSplitter()
    told = split([b"data: first\n\n", body, b"\n\n"], splitter)
    unfinished = [] if body.endswith(b"\n\n") or not body else split([body + b"\n\n"])[len(events) :]
    expected = [] if body.startswith(BOM) else [*events, *unfinished]
    assert told == [(b"first", b""), *expected]
    assert splitter.keep_alives == keep_alives + body.startswith(BOM)


def test_one_event_a_read_is_bounded_too() -> None:
    splitter = SseSplitter(max_bytes=20)
    splitter.receive(b"data: first\n\n")
    assert splitter.receive(b"data: " + b"x" * 12 + b"\n\n") == [ServerSentEvent(b"x" * 12)]
    with pytest.raises(RejectedAnswer):
        splitter.receive(b"data: " + b"x" * 20 + b"\n\n")


def test_line_ends_may_differ_within_one_stream() -> None:
    assert split([b"data: a\r", b"\n\r\ndata: b\r\rdata: c\n\r", b"\ndata: d\n\n"]) == [
        (b"a", b""),
        (b"b", b""),
        (b"c", b""),
        (b"d", b""),
    ]


def test_an_event_comes_with_the_byte_that_completes_it() -> None:
    splitter = SseSplitter()
    assert splitter.receive(b"data: a\r\n") == []
    assert splitter.receive(b"\r") == [ServerSentEvent(b"a")]
    assert splitter.receive(b"\n") == []


@pytest.mark.parametrize(
    ("body", "cut"),
    [(b"", False), (b"data: a\n\n", False), (b"data: a\n\n\n", False), (b"data: a\n", True), (b"d", True)],
)
def test_whether_a_body_ends_in_the_middle_of_an_event(body: bytes, cut: bool) -> None:  # noqa: FBT001 - a table
    splitter = SseSplitter()
    splitter.receive(body)
    assert splitter.cut is cut


@pytest.mark.parametrize("step", [1, 7, 100, 1000])
def test_an_event_beyond_the_limit_is_refused_however_it_comes(step: int) -> None:
    within = b"data: " + b"x" * 93  # and its first line end
    splitter = SseSplitter(max_bytes=100)
    body = within + b"\n\n"
    assert split([body[i : i + step] for i in range(0, len(body), step)], splitter) == [(b"x" * 93, b"")]
    beyond = b"data: a\n" * 20 + b"\n"
    with pytest.raises(RejectedAnswer, match="an event of the stream is larger than 100 bytes"):
        split([beyond[i : i + step] for i in range(0, len(beyond), step)], splitter)


def test_a_line_without_an_end_is_not_gathered_for_ever() -> None:
    with pytest.raises(RejectedAnswer):
        split([b"x" * 100] * 11, SseSplitter(max_bytes=1000))


def framed(payload: bytes) -> bytes:
    return b"".join(b"data: " + line + b"\n" for line in payload.split(b"\n")) + b"\n"


def cut_at(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[a:b] for a, b in pairwise(edges)]


PAYLOADS = st.lists(
    st.text(st.characters(blacklist_characters="\r", blacklist_categories=["Cs"]), min_size=1), max_size=8
)
PLACES = st.lists(st.integers(min_value=0, max_value=4000), max_size=12)


@given(PAYLOADS, PLACES, st.sampled_from(ENDS), st.lists(st.sampled_from([b": x\n\n", b"\n", b"id: 1\n"])))
def test_whatever_is_framed_comes_out_whole(
    payloads: list[str], places: list[int], end: bytes, between: list[bytes]
) -> None:
    padding = b"".join(between)
    body = b"".join(padding + framed(payload.encode()) for payload in payloads).replace(b"\n", end)
    assert [data for data, _ in split(cut_at(body, places))] == [payload.encode() for payload in payloads]


@given(st.binary(max_size=400), PLACES)
def test_rubbish_means_the_same_however_it_is_cut(body: bytes, places: list[int]) -> None:
    assert split(cut_at(body, places)) == split([body])


FRAGMENTS = [
    b"", b"", b"", b"data", b"data:", b"data: ", b"data: x", b"data:  y ", b"data: a:b", b":", b": comment", b"event: e",
    b"event", b"event:f", b"id: 1", b"retry: 30", b"retry: soon", b"xdata: z", b"data : z", b" data: z", b"\x00", b"\xff",
    BOM + b"data: b", "data: größe\u2028😀\x85".encode(), b"data: \x0b\x0c\x1c",
]  # fmt: skip


def ended(lines: list[tuple[bytes, bytes]], mark: bytes) -> bytes:
    return mark + b"".join(line + end for line, end in lines)


BODIES = st.builds(
    ended,
    st.lists(st.tuples(st.sampled_from(FRAGMENTS), st.sampled_from(ENDS)), max_size=30),
    st.sampled_from([b"", BOM]),
)


def by_the_letter(body: bytes) -> list[tuple[bytes, bytes]]:
    """The standard's own steps, one line after the other, over the whole body at once."""
    lines = re.split(rb"\r\n|\n|\r", body.removeprefix(BOM))
    events: list[tuple[bytes, bytes]] = []
    data, name = b"", b""
    for line in lines[:-1]:  # what stands behind the last line end is no line
        if not line:
            if data:
                events.append((data.removesuffix(b"\n"), name))
            data, name = b"", b""
        elif not line.startswith(b":"):
            field, _, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if field == b"data":
                data += value + b"\n"
            elif field == b"event":
                name = value
    return events


@given(BODIES, PLACES)
def test_events_are_those_of_the_standards_own_steps(body: bytes, places: list[int]) -> None:
    assert split(cut_at(body, places)) == by_the_letter(body)


@needs("openai")
@settings(deadline=None)  # the first of them imports it
@given(BODIES, PLACES)
def test_the_official_clients_decoder_tells_the_same_events(body: bytes, places: list[int]) -> None:
    body = body.replace(b"\xff", b"").replace(BOM, b"")  # it decodes every line, and knows no mark
    theirs = official("openai._streaming").SSEDecoder().iter_bytes(iter(cut_at(body, places)))
    told = [(sse.data.encode(), (sse.event or "").encode()) for sse in theirs if sse.data]
    assert [event for event in split(cut_at(body, places)) if event[0]] == told


JSON_LINES: list[tuple[bytes, list[bytes]]] = [
    (b"", []),
    (b"{}\n", [b"{}"]),
    (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
    (b"{}\r\n\r\n\n {} \n", [b"{}", b"{}"]),
    (BOM + b"{}\n", [b"{}"]),
    ('{"a":"größe"}\n'.encode(), ['{"a":"größe"}'.encode()]),
    (b'{}\n{"cut":', [b"{}"]),
]


@pytest.mark.parametrize(("body", "lines"), JSON_LINES)
def test_json_lines_cut_anywhere(body: bytes, lines: list[bytes]) -> None:
    for chunks in (
        [body],
        [body[i : i + 1] for i in range(len(body))],
        *([body[:at], body[at:]] for at in range(len(body))),
    ):
        splitter = JsonLinesSplitter()
        assert [line for chunk in chunks for line in splitter.receive(chunk)] == lines
        assert splitter.cut is (not body.endswith(b"\n") and body != b"")


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_json_line_beyond_the_limit_is_refused_however_it_comes(step: int) -> None:
    splitter = JsonLinesSplitter(max_bytes=100)

    def receive(body: bytes) -> list[bytes]:
        return [line for i in range(0, len(body), step) for line in splitter.receive(body[i : i + step])]

    assert receive(b"x" * 100 + b"\n") == [b"x" * 100]
    with pytest.raises(RejectedAnswer, match="a line of the stream is larger than 100 bytes"):
        receive(b"y" * 101 + b"\n")


@given(st.lists(st.text(min_size=1).map(lambda text: text.encode(errors="replace"))), PLACES)
def test_json_lines_come_out_whole(texts: list[bytes], places: list[int]) -> None:
    lines = [line for text in texts if (line := b" ".join(text.split()))]
    body = b"".join(line + b"\n" for line in lines)
    splitter = JsonLinesSplitter()
    assert [line for chunk in cut_at(body, places) for line in splitter.receive(chunk)] == lines


@given(
    st.lists(st.sampled_from([b"{}", b"\n", b"\r\n", b" ", b"\t", b"[1]", b"\r", BOM, b"x"]), max_size=30),
    PLACES,
)
def test_json_lines_are_those_of_a_body_read_whole(pieces: list[bytes], places: list[int]) -> None:
    body = b"".join(pieces)
    whole = body.removeprefix(BOM).split(b"\n")[:-1]
    splitter = JsonLinesSplitter()
    told = [line for chunk in cut_at(body, places) for line in splitter.receive(chunk)]
    assert told == [line for each in whole if (line := each.strip(b"\r \t"))]
