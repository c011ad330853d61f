"""The table that Erlang/OTP and greenroom both have to agree with: `outcomes.txt`."""

from pathlib import Path
from typing import cast

from greenroom.actors import (
    ActorRef,
    BadReturn,
    Crashed,
    Down,
    Exit,
    ExitReason,
    Killed,
    NoProcess,
    Normal,
    Shutdown,
)

FOLDER = Path(__file__).parent


def _rows() -> dict[str, list[str]]:
    lines = (FOLDER / "outcomes.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert len({case for case, _ in rows}) == len(rows), "a case stands there twice"
    return {case: seen.split(" | ") for case, seen in rows}


_ROWS = _rows()
OTP = {case: columns[0] for case, columns in _ROWS.items()}
"""What an Erlang/OTP does, by case."""
OURS = {case: columns[-1] for case, columns in _ROWS.items()}
"""What greenroom does."""


def expect(case: str, *seen: object) -> None:
    """Compare what greenroom was seen to do in `case` with the table.

    Args:
        case: its name there.
        seen: words, exit reasons, `Exit` and `Down` messages, and pairs of a label and one of these.
    """
    assert (" ".join(map(text, seen)) or "-") == OURS[case]


def text(item: object) -> str:
    """One thing seen, in the table's words."""
    if isinstance(item, ExitReason):
        return _reason(item)
    if isinstance(item, Exit):
        return f"exit:{_reason(item.reason)}"
    if isinstance(item, Down):
        return f"down:{_reason(item.reason)}"
    if isinstance(item, tuple):
        label, what = cast("tuple[object, object]", item)
        return f"{text(label)}:{text(what)}"
    return str(item).replace(" ", ":")


def _reason(reason: ExitReason) -> str:
    match reason:
        case Normal():
            return "normal"
        case Shutdown(detail=None):
            return "shutdown"
        case Shutdown(detail=detail):
            return f"shutdown:{detail}"
        case Killed():
            return "killed"
        case NoProcess():
            return "noproc"
        case Crashed(exception=BadReturn()):
            return "bad_return"
        case _:
            return "crash"


def lives(ref: ActorRef) -> str:
    """Whether an actor lives, in the table's words."""
    return "lives" if ref.alive else "dead"
