"""What goes wrong, to order: which request and attempt meets which fault, fixed by the seed.

Grammar, items joined by commas: a fault, perhaps `=` and the byte at which it breaks the answer, perhaps `:` and its share
of the requests, perhaps `@` and the attempts that it strikes. Without a share it strikes one in a hundred, or, where
attempts are named, all of them:

    429:0.05,500:0.02,drop        5 % get 429, 2 % get 500, 1 % lose the connection
    503@1                         every request's first attempt fails, the second one gets through
    stall:0.5@2-3                 half of all second and third attempts stall
    truncate=120@1                every first answer is cut after 120 bytes of its body

Whether an attempt is struck depends on the seed, the request and how often it has come: a job that is run again meets
the same faults, and a retry draws anew.
"""

import difflib
import re
from collections import OrderedDict
from typing import Literal, TypeAlias, get_args

import msgspec

from greenroom.runtime.simulator.engine import uniform

WireFault: TypeAlias = Literal[
    "drop", "hang", "truncate", "end_early", "no_done", "stall", "drip", "keepalive", "garbage", "endless"
]
WIRE_FAULTS: dict[WireFault, str] = {
    "drop": "the connection is reset before any answer",
    "hang": "accepted, and never a byte of an answer",
    "truncate": "the connection closes in the middle of the answer",
    "end_early": "the answer ends in the middle as if it were whole",
    "no_done": "a stream ends without its last event",
    "stall": "the answer stops in the middle and the connection stays open",
    "drip": "the answer comes one byte at a time",
    "keepalive": "a stream sends comments for ever and no content",
    "garbage": "200, and a body that is no answer",
    "endless": "200, and a body without end",
}
# Those that break an answer at a byte, which an order may name.
_AT_A_BYTE = frozenset({"truncate", "end_early", "stall"})
STATUS_FAULTS = (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)
DEFAULT_SHARE = 0.01
# So many requests are remembered for counting their attempts; an older one starts again at 1.
REMEMBERED_REQUESTS = 20_000
_ITEM = re.compile(r"([a-z0-9_]+)(?:=([0-9]+))?(?::([^@]*))?(?:@([0-9]+)(?:-([0-9]+))?)?$")
assert set(WIRE_FAULTS) == set(get_args(WireFault))


class Fault(msgspec.Struct, frozen=True):
    """One item: an HTTP status or something that happens to the bytes, its share, and the attempts it strikes.

    `at_byte` is how much of the body is sent before it breaks; None: drawn for each request.
    """

    kind: int | WireFault
    share: float
    first_attempt: int = 1
    last_attempt: int | None = None
    at_byte: int | None = None

    @property
    def name(self) -> str:
        """The word that orders it, and the one in the journal."""
        return str(self.kind)

    def strikes(self, attempt: int) -> bool:
        """Whether this attempt is among those it may strike."""
        return self.first_attempt <= attempt and (self.last_attempt is None or attempt <= self.last_attempt)


class Faults:
    """A parsed order of faults, and the attempts seen so far."""

    def __init__(self, order: tuple[Fault, ...], *, seed: int) -> None:
        self._order = order
        self._seed = seed
        self._attempts: OrderedDict[bytes, int] = OrderedDict()

    def next_attempt(self, identity: bytes) -> int:
        """Counts an attempt of what `identity` names, 1 for the first one; the oldest of too many are forgotten."""
        attempt = self._attempts.pop(identity, 0) + 1
        self._attempts[identity] = attempt
        if len(self._attempts) > REMEMBERED_REQUESTS:
            self._attempts.popitem(last=False)
        return attempt

    def draw(self, key: bytes, attempt: int, occurrence: int | None = None) -> Fault | None:
        """The fault that strikes this attempt, if any.

        Args:
            key: The request's digest.
            attempt: Which attempts of it came before, plus one.
            occurrence: The same for all requests with this digest, where clients tell equal ones apart: each of them
                meets a fate of its own. None: the attempt.
        """
        if not self._order:
            return None
        drawn = uniform(self._seed, "fault", key, occurrence or attempt)
        for fault in self._order:
            if fault.strikes(attempt):
                if drawn < fault.share:
                    return fault
                drawn -= fault.share
        return None


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Reads an order of faults such as "429:0.05,500:0.02,drop"; an empty text orders none.

    Raises:
        ValueError: An item is unknown or out of range, or the shares of one attempt add up to more than 1.
    """
    order = tuple([_item(part.strip(), text) for part in text.split(",") if part.strip()])
    for attempt in {fault.first_attempt for fault in order}:
        total = sum(fault.share for fault in order if fault.strikes(attempt))
        if total > 1 + 1e-9:
            raise ValueError(f"faults {text!r}: the shares on attempt {attempt} add up to {total:g}, above 1")
    return order


def _item(part: str, text: str) -> Fault:
    found = _ITEM.match(part)
    if found is None:
        raise ValueError(
            f"faults {text!r}: cannot read {part!r}; write 429:0.05, drop, or 503@1 for first attempts"
        )
    name, byte, share_text, first, last = found.groups()
    kind = _kind(name, text)
    if byte is not None and kind not in _AT_A_BYTE:
        at_a_byte = ", ".join(sorted(_AT_A_BYTE))
        raise ValueError(f"faults {text!r}: {name} has no byte to break at; those have: {at_a_byte}")
    share = (
        (DEFAULT_SHARE if first is None else 1.0) if share_text is None else _share(share_text, part, text)
    )
    first_attempt = int(first or 1)
    last_attempt = int(last) if last else first_attempt if first else None
    if first_attempt < 1 or (last_attempt is not None and last_attempt < first_attempt):
        raise ValueError(f"faults {text!r}: {part!r} names no attempt; they count from 1, as in 500@1-2")
    return Fault(kind, share, first_attempt, last_attempt, None if byte is None else int(byte))


def _share(share_text: str, part: str, text: str) -> float:
    try:
        share = float(share_text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(
            f"faults {text!r}: {share_text!r} in {part!r} is no share; write 0.05 for 5 in 100, at most 1 for all"
        )
    return share


def _kind(name: str, text: str) -> int | WireFault:
    if name.isdigit() and int(name) in STATUS_FAULTS:
        return int(name)
    if name in WIRE_FAULTS:
        return name
    known = [*map(str, STATUS_FAULTS), *WIRE_FAULTS]
    near = difflib.get_close_matches(name, known, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise ValueError(f"faults {text!r}: there is no fault {name!r}.{meant} There are {', '.join(known)}")
