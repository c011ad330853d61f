"""Which budgets bind an account, which attempts a balance counts, and how sums of dollars are read."""

import pytest

from greenroom.actors.ledger import Account, Budget, Budgets
from greenroom.actors.ledger.balances import DAY_MS, Balance, Key, Room, span_of
from greenroom.actors.ledger.slices import UNBOUND_PUSD, Slice
from greenroom.actors.prices import dollars, pico_usd
from greenroom.actors.settings import BudgetSettings, Caps

NEW_YEAR_2028_MS = 1_830_297_600_000


def test_configured_budgets_bind_whom_they_name() -> None:
    budgets = Budgets(
        BudgetSettings(
            total_usd="5", keys={"k": Caps(day_usd=0.1)}, tags={"t": Caps(month_usd="1.5", total_usd=2)}
        )
    )
    total = Budget("all", 5 * 10**12)
    assert budgets.bind(Account()) == (total,)
    assert budgets.bind(Account(key_id="k")) == (total, Budget("key", 10**11, "day"))
    assert budgets.bind(Account(tag="t", key_id="other")) == (
        total,
        Budget("tag", 2 * 10**12),
        Budget("tag", 15 * 10**11, "month"),
    )
    assert Budgets().bind(Account(key_id="k", tag="t")) == ()


def test_a_budget_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="names none"):
        Account(tag="t", budgets=(Budget("job", 1),))


@pytest.mark.parametrize(
    ("at_ms", "month"),
    [
        (NEW_YEAR_2028_MS - 1, (NEW_YEAR_2028_MS - 31 * DAY_MS, NEW_YEAR_2028_MS)),
        (NEW_YEAR_2028_MS, (NEW_YEAR_2028_MS, NEW_YEAR_2028_MS + 31 * DAY_MS)),
        # February of a leap year.
        (
            NEW_YEAR_2028_MS + 59 * DAY_MS,
            (NEW_YEAR_2028_MS + 31 * DAY_MS, NEW_YEAR_2028_MS + 60 * DAY_MS),
        ),
    ],
)
def test_periods_are_utc(at_ms: int, month: tuple[int, int]) -> None:
    assert span_of("month", at_ms) == month
    start = at_ms // DAY_MS * DAY_MS
    assert span_of("day", at_ms) == (start, start + DAY_MS)
    assert span_of("ever", at_ms) == (None, None)


def test_a_key_covers_its_scope_and_period() -> None:
    account = Account(job_id="j", tag="t")
    assert Key("all").covers(account, 5)
    assert Key("job", "j").covers(account, 5)
    assert not Key("job", "i").covers(account, 5)
    assert not Key("session", "j").covers(account, 5)
    assert Key("tag", "t", 5, 6).covers(account, 5)
    assert not Key("tag", "t", 5, 6).covers(account, 6)


def balance(
    *, settled: int = 0, due: int = 0, settling: int = 0, opened: int = 0, reserved: int = 0
) -> Balance:
    made = Balance(Key("all"))
    made.settled_pusd, made.due_pusd, made.settling_pusd = settled, due, settling
    made.open_pusd, made.reserved_pusd = opened, reserved
    return made


@pytest.mark.parametrize(
    ("made", "bound_pusd", "room"),
    [
        (balance(), 100, Room.FITS),
        (balance(), 101, Room.NEVER),
        (balance(settled=60, opened=20, settling=10, due=1, reserved=9), 1, Room.FITS),
        (balance(settled=60, opened=20, settling=10, due=1, reserved=10), 1, Room.SOON),
        (balance(settled=60, opened=20, settling=10, due=1), 19, Room.SOON),
        (balance(settled=60, opened=20, settling=10, due=1), 20, Room.LATER),
        (balance(settled=60, opened=20, settling=10, due=1), 39, Room.LATER),
        (balance(settled=60, opened=20, settling=10, due=1), 40, Room.NEVER),
        (balance(settled=200), 1, Room.NEVER),
    ],
)
def test_room(made: Balance, bound_pusd: int, room: Room) -> None:
    assert made.room(100, bound_pusd) is room


class TestSlice:
    def test_only_what_the_disk_says_for_certain_is_granted(self) -> None:
        made = Slice(1)
        assert not made.take(1)
        made.change(100)
        assert (made.floor_pusd, made.top_pusd) == (0, 100)
        made.changed(on_disk=True)
        assert made.take(60)
        assert not made.take(41)
        made.change(70)
        assert (made.floor_pusd, made.top_pusd) == (70, 100)
        assert not made.take(11)
        made.changed(on_disk=False)
        # It may have got there, or not.
        assert (made.floor_pusd, made.top_pusd) == (70, 100)
        made.give_back(60)
        assert made.take(70)

    def test_its_size(self) -> None:
        made = Slice(1)
        assert made.size_for(0, 0, None) is None
        assert made.size_for(300, 100, None) == 600
        assert made.size_for(UNBOUND_PUSD, 100, None) == UNBOUND_PUSD
        assert made.size_for(300, 100, 20_000) == 200
        # A slice that none of what is asked would fit into is of no use.
        assert made.size_for(300, 201, 20_000) is None
        made.change(600)
        made.changed(on_disk=True)
        assert made.size_for(0, 0, 60_000 - 600) is None
        assert made.size_for(0, 0, 59_000 - 600) == 295
        assert made.size_for(0, 0, -5_000) == 0


@pytest.mark.parametrize(
    ("written", "read"),
    [("0.50", 5 * 10**11), (5, 5 * 10**12), (0.1, 10**11), ("0.0000000000019", 1), (0, 0)],
)
def test_sums_of_dollars(written: str | float, read: int) -> None:
    assert pico_usd(written) == read


@pytest.mark.parametrize("written", ["", "five", "-1", "NaN", "inf", float("nan"), 1_000_001, "1e9"])
def test_what_is_no_sum_of_dollars(written: str | float) -> None:
    with pytest.raises(ValueError, match="no sum of dollars"):
        pico_usd(written)


def test_dollars_in_words_are_exact() -> None:
    assert [dollars(n) for n in (0, 1, 10**12, 12_500_000_000, 10**18)] == [
        "$0",
        "$0.000000000001",
        "$1",
        "$0.0125",
        "$1000000",
    ]
