"""How many in flight a server bears is found out, on a clock of its own; the servers are models with a knee."""

import heapq
import random
from collections import deque
from collections.abc import Callable

import pytest
from msgspec import Struct

from greenroom.actors.events import Usage
from greenroom.actors.limiter.concurrency import AdaptiveSlots, Slots, slots_of
from greenroom.actors.settings import Limits

MOST = 256
TOKEN_S = 0.02
SIZES = (20, 50, 100, 400)


class Knee(Struct):
    """A server that works at `knee` requests at once, each as fast as if alone, and lets the others wait.

    `bears`: in flight beyond it are refused as too many; None: none are.
    """

    knee: int
    bears: int | None = None
    now_s: float = 0.0
    tokens: int = 0
    refused: int = 0

    def serve(
        self,
        slots: Slots,
        until_s: float,
        sizes: tuple[int, ...] = SIZES,
        callers: int = 300,
        pause_s: float = 0.0,
    ) -> list[int]:
        """Callers that always have another question, or after a pause; the limit after each answer."""
        dice = random.Random(1)
        limits = [slots.limit]
        arriving = [(self.now_s, number) for number in range(callers)]
        working: list[tuple[float, int, float, int]] = []
        at_door: deque[int] = deque()
        queued: deque[tuple[int, float, int]] = deque()
        in_flight = 0
        while True:
            self.now_s = min(
                arriving[0][0] if arriving else until_s, working[0][0] if working else until_s, until_s
            )
            if self.now_s >= until_s:
                return limits
            while arriving and arriving[0][0] <= self.now_s:
                at_door.append(heapq.heappop(arriving)[1])
            while working and working[0][0] <= self.now_s:
                _, caller, began_s, tokens = heapq.heappop(working)
                usage = Usage(input_tokens=100, output_tokens=tokens) if tokens else None
                slots.ended(began_s, self.now_s, usage, "ok" if tokens else "overloaded", in_flight)
                in_flight -= 1
                self.tokens += tokens
                self.refused += not tokens
                limits.append(slots.limit)
                heapq.heappush(arriving, (self.now_s + pause_s, caller))
            while at_door and in_flight < slots.limit:
                slots.began(self.now_s, in_flight)
                in_flight += 1
                if self.bears is not None and in_flight > self.bears:
                    heapq.heappush(working, (self.now_s + 0.01, at_door.popleft(), self.now_s, 0))
                else:
                    queued.append((at_door.popleft(), self.now_s, dice.choice(sizes)))
            while queued and len(working) < self.knee:
                caller, began_s, tokens = queued.popleft()
                heapq.heappush(working, (self.now_s + 0.05 + tokens * TOKEN_S, caller, began_s, tokens))


def settled(limits: list[int]) -> float:
    later = limits[len(limits) // 2 :]
    return sum(later) / len(later)


@pytest.mark.parametrize("knee", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("sizes", [(100,), SIZES], ids=["alike", "mixed"])
def test_the_limit_settles_beyond_the_knee_and_near_it(knee: int, sizes: tuple[int, ...]) -> None:
    server, slots = Knee(knee), AdaptiveSlots(MOST, 0.0)
    server.serve(slots, 400.0, sizes)
    warm = server.tokens
    limits = server.serve(slots, 1_000.0, sizes)
    assert knee <= settled(limits) <= 3 * knee + 2
    whole = Knee(knee)
    whole.serve(Slots(2 * knee), 600.0, sizes)
    assert server.tokens - warm >= 0.95 * whole.tokens


def test_a_server_without_a_knee_is_asked_as_much_as_allowed() -> None:
    slots = AdaptiveSlots(100, 0.0)
    limits = Knee(1_000).serve(slots, 400.0)
    assert max(limits) == 100
    assert settled(limits) > 90


def test_a_server_that_says_it_is_overloaded_is_asked_less() -> None:
    server, slots = Knee(1_000, bears=20), AdaptiveSlots(MOST, 0.0)
    limits = server.serve(slots, 600.0)
    assert 8 <= settled(limits) <= 21
    assert server.refused < len(limits) / 20


@pytest.mark.parametrize(("before", "after"), [(32, 4), (4, 32)])
def test_a_server_that_changes_is_followed(before: int, after: int) -> None:
    server, slots = Knee(before), AdaptiveSlots(MOST, 0.0)
    assert before <= settled(server.serve(slots, 400.0, (100,))) <= 3 * before
    server.knee = after
    server.serve(slots, 2_000.0, (100,))
    assert after <= settled(server.serve(slots, 2_500.0, (100,))) <= 3 * after


def test_idle_callers_say_nothing_against_the_server() -> None:
    """Time that nobody asks in is not time that the server takes."""
    slots = AdaptiveSlots(MOST, 0.0)
    server = Knee(16)
    busy = settled(server.serve(slots, 300.0))
    server.serve(slots, 2_000.0, callers=2, pause_s=30.0)
    assert slots.limit >= busy / 2


@pytest.mark.parametrize("outcome", ["overloaded", "rate_limited", "timeout", "stalled"])
def test_it_is_never_below_one(outcome: str) -> None:
    slots = AdaptiveSlots(MOST, 0.0)
    for now_s in range(1, 100):
        slots.began(now_s, 0)
        slots.ended(now_s, now_s + 0.5, None, outcome, 1)
    assert slots.limit == 1


def test_what_was_sent_under_a_higher_limit_has_to_end_first() -> None:
    slots = AdaptiveSlots(MOST, 0.0)
    for now_s in range(1, 10):
        slots.ended(now_s, now_s + 0.5, None, "overloaded", 10)
    for now_s in range(10, 100):
        slots.ended(now_s - 1.0, now_s, Usage(10, 10), "ok", 10)
    assert slots.limit == 1


def test_failures_that_are_not_the_load_s_say_nothing() -> None:
    slots = AdaptiveSlots(MOST, 0.0)
    for now_s in range(1, 100):
        slots.ended(now_s, now_s + 0.5, None, "invalid_request", 1)
    assert slots.limit == AdaptiveSlots(MOST, 0.0).limit


def test_answers_that_take_no_time_and_state_no_usage_are_borne() -> None:
    slots = AdaptiveSlots(MOST, 0.0)
    for _ in range(1_000):
        slots.began(1.0, slots.limit - 1)
        slots.ended(1.0, 1.0, None, "ok", slots.limit)
    assert slots.limit == MOST


def test_a_number_is_a_number() -> None:
    slots: Slots = slots_of(Limits(concurrency=7), 0.0)
    ask: Callable[[], None] = lambda: slots.ended(0.0, 1.0, None, "overloaded", 7)  # noqa: E731
    ask()
    assert slots.limit == 7
    assert isinstance(slots_of(Limits(concurrency="auto"), 0.0), AdaptiveSlots)
