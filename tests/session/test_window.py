"""What of a conversation is shown: never more than fits, never a call without its result, always what is said now."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.providers import Message, RequestedTool
from greenroom.actors.providers.chat import FunctionCall
from greenroom.actors.session import TooLong, Window
from greenroom.actors.session.actor import shown
from greenroom.actors.session.records import encode_messages
from greenroom.actors.session.state import Entry
from greenroom.actors.session.window import Shown, room_bytes, size_of, tokens_per_byte

NEWEST = (Message("user", "And now?"),)


def entry(seq: int, *messages: Message, covers: int | None = None, tokens: int = 0, sent: int = 0) -> Entry:
    return Entry(
        id=seq,
        seq=seq,
        kind="turn" if covers is None else "summary",
        parent_seq=seq - 1 or None,
        covers_seq=covers,
        messages=messages,
        bytes_=len(encode_messages(messages)),
        created_at_ms=0,
        input_tokens=tokens,
        sent_bytes=sent,
    )


def talk(seq: int, text: str) -> Entry:
    return entry(seq, Message("user", text), Message("assistant", text.upper()))


def tool_call(seq: int) -> Entry:
    call = RequestedTool(f"call_{seq}", FunctionCall("weather", "{}"))
    return entry(seq, Message("user", "rain?"), Message("assistant", tool_calls=(call,)))


def tool_result(seq: int) -> Entry:
    return entry(
        seq, Message("tool", "yes", tool_call_id=f"call_{seq - 1}"), Message("assistant", f"rain {seq}")
    )


def is_paired(messages: tuple[Message, ...]) -> bool:
    """Whether every tool call is followed by its result, and every result follows its call."""
    open_calls: set[str] = set()
    for message in messages:
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                return False
            open_calls.discard(message.tool_call_id)
        elif open_calls:
            return False
        open_calls |= {call.id for call in message.tool_calls or ()}
    return not open_calls


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    for _ in range(draw(st.integers(0, 12))):
        seq = len(entries) + 1
        if draw(st.booleans()):
            entries += [tool_call(seq), tool_result(seq + 1)]
        else:
            entries.append(talk(seq, draw(st.text(st.characters(codec="utf-8"), max_size=60))))
    return tuple(entries)


WINDOWS = st.builds(
    Window,
    strategy=st.sampled_from(("sliding", "keep_system_and_last", "summarise")),
    keep_last=st.integers(1, 6),
)


@given(conversations(), WINDOWS, st.none() | st.text(max_size=30), st.integers(0, 4_000))
def test_what_is_shown_fits_is_paired_and_ends_with_what_is_said_now(
    entries: tuple[Entry, ...], window: Window, system: str | None, room: int
) -> None:
    try:
        cut = Shown(window, system, entries, NEWEST, room)
    except TooLong:
        head = () if system is None else (Message("system", system),)
        assert size_of((*head, *NEWEST)) > room - 2 * len("[]")
        return
    assert size_of(cut.messages) <= room
    assert cut.messages[-1:] == NEWEST
    assert is_paired(cut.messages[: -len(NEWEST)])
    if system is not None:
        assert cut.messages[0] == Message("system", system)
    told = cut.messages[system is not None : -1]
    everything = tuple(message for one in entries for message in one.messages)
    assert told == everything[len(everything) - len(told) :]  # the newest, without a gap
    if window.strategy == "summarise":
        left_out = tuple(message for one in cut.to_summarise for message in one.messages)
        assert left_out + told == everything


@given(conversations())
def test_all_is_shown_where_there_is_room(entries: tuple[Entry, ...]) -> None:
    cut = Shown(Window(), None, entries, NEWEST, 10**9)
    assert cut.messages == (*(m for one in entries for m in one.messages), *NEWEST)
    assert not cut.to_summarise


def test_only_the_last_turns_are_kept_where_so_many_are_asked_for() -> None:
    entries = tuple(talk(seq, f"t{seq}") for seq in range(1, 8))
    cut = Shown(Window(strategy="keep_system_and_last", keep_last=2), "Be brief.", entries, NEWEST, 10**9)
    assert [m.content for m in cut.messages] == ["Be brief.", "t6", "T6", "t7", "T7", "And now?"]


def test_a_result_that_is_said_now_keeps_its_call() -> None:
    newest = (Message("tool", "yes", tool_call_id="call_2"),)
    entries = (talk(1, "x" * 500), tool_call(2))
    cut = Shown(Window(), None, entries, newest, 450)
    assert cut.messages == (*entries[1].messages, *newest)
    with pytest.raises(TooLong):
        Shown(Window(), None, entries, newest, 100)


def test_a_summary_stands_for_what_it_covers() -> None:
    summary = entry(4, Message("system", "They talked."), covers=2)
    assert shown([talk(1, "a"), talk(2, "b"), talk(3, "c"), summary, talk(5, "d")]) == (
        summary,
        talk(3, "c"),
        talk(5, "d"),
    )


def test_a_summary_is_always_shown() -> None:
    summary = entry(4, Message("system", "They talked."), covers=2)
    entries = (summary, talk(3, "c" * 300), talk(5, "d"))
    cut = Shown(Window(), None, entries, NEWEST, 500)
    assert [m.content for m in cut.messages] == ["They talked.", "d", "D", "And now?"]


class TestSizes:
    def test_bytes_become_tokens_as_the_provider_last_counted_them(self) -> None:
        entries = (talk(1, "a"), entry(2, *NEWEST, tokens=250, sent=1_000))
        assert tokens_per_byte(entries) == pytest.approx(0.275)
        assert room_bytes(1_000, tokens_per_byte(entries)) == 3_636

    def test_a_token_is_never_less_than_a_byte(self) -> None:
        assert tokens_per_byte((entry(1, *NEWEST, tokens=5_000, sent=1_000),)) == 1.0
        assert room_bytes(1_000, 1.0) == 1_000

    def test_nothing_said_yet_is_reckoned_with_half_a_token_a_byte(self) -> None:
        assert room_bytes(1_000, tokens_per_byte(())) == 2_000
