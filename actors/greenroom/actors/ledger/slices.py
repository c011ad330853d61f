"""Durable slices: holds granted at once, without waiting for the disk, that a `kill -9` cannot take back.

A slice is a sum that stands on disk beside the rows, set aside for one account on one day. A hold whose bound still
fits into it is granted at once, in memory; its row follows with the next commit. A hold that does not fit waits for
its own commit, as every hold would without slices.

The invariants, for every slice and every budget that binds it, at every instant, as long as providers charge no more
than the bound (what they do charge beyond it is recorded and told):

    (1) unconfirmed <= slice        what was granted without a row on disk is within what the disk says of the slice
    (2) settled + settling + open + slices <= cap        with every amount as `balances` counts it

Why nothing is ever overspent. After a crash at any instant the next runtime charges: each settled row its cost, each
held row its bound (`interrupted`), each slice its whole size (`unconfirmed`). A granted attempt either has a row and
is charged at least what (2) counted on disk for it, or has none, and then (1) says that the slice covers it. What is
charged so is at most the left side of (2): a row on disk is counted there at its bound until the disk itself holds
its settlement, and every slice is counted there at its whole size though (1) says that `open` and `settling` count the
unconfirmed a second time. So the sum stays within the cap, and no attempt in flight goes uncharged.

What a caller was told is covered the same way. A reply states its cost before its settlement is on disk: killed in
between, the attempt is charged at its bound by its held row, or by the slice: more than was told, never less.

Why (1) survives the disk's delay: `floor_pusd` is the smaller of what the disk is known to say and what it was last
told; only within it a hold is granted. Why (2) does: `top_pusd` is the larger of the two; only it is counted. A slice
shrinks in the same commit that writes the rows it stood for, and never below what rows in other commits need.

Why no false refusal stays. The loss of a crash is the size of the slices then. A slice is opened only when a hold had
to wait, at twice of what was just asked for; is at most a hundredth of what remains of every budget that binds it
(1 dollar where none does); shrinks as the budget does; is given up after a second or two without calls and when the
runtime is left; and while somebody waits for room in a budget, all slices in it are given up first. So a budget can be used
to its last pico-dollar; within it, each kill costs at most a hundredth of what remains, charged as estimated.
"""

SHARE = 100
"""A slice is at most one part in so many of what remains of a budget."""

UNBOUND_PUSD = 10**12
"""What a slice may be where no budget binds: one dollar."""


class Slice:
    """What the disk says of one slice, and what is granted on it, in pico-dollars.

    `quiet_ticks` counts how often the ledger has looked since something was last asked of it.
    """

    __slots__ = ("confirmed_pusd", "id", "pending_pusd", "quiet_ticks", "top_pusd", "used_pusd")

    def __init__(self, slice_id: int) -> None:
        self.id = slice_id
        self.used_pusd = 0
        self.confirmed_pusd = 0
        self.pending_pusd: int | None = None
        self.top_pusd = 0
        self.quiet_ticks = 0

    @property
    def floor_pusd(self) -> int:
        """What the disk says at least, whether or not a change that is under way has reached it."""
        pending = self.pending_pusd
        return self.confirmed_pusd if pending is None else min(self.confirmed_pusd, pending)

    @property
    def resting(self) -> bool:
        """Whether nothing was asked of it for a whole tick or longer."""
        return self.quiet_ticks > 1

    def take(self, bound_pusd: int) -> bool:
        """Grant a hold on it, if it has room."""
        self.quiet_ticks = 0
        if self.used_pusd + bound_pusd > self.floor_pusd:
            return False
        self.used_pusd += bound_pusd
        return True

    def give_back(self, bound_pusd: int) -> None:
        """The row of a hold that was granted on it is on disk."""
        self.used_pusd -= bound_pusd

    def change(self, to_pusd: int) -> None:
        """It is about to be written at this size. One change at a time."""
        assert self.pending_pusd is None
        self.pending_pusd = to_pusd
        self.top_pusd = max(self.top_pusd, to_pusd)

    def changed(self, *, on_disk: bool) -> None:
        """What became of the change. One that failed may have reached the disk all the same: the larger is counted."""
        assert self.pending_pusd is not None
        if on_disk:
            self.confirmed_pusd = self.top_pusd = self.pending_pusd
        else:
            self.confirmed_pusd = min(self.confirmed_pusd, self.pending_pusd)
        self.pending_pusd = None

    def size_for(self, asked_pusd: int, largest_pusd: int, left_pusd: int | None) -> int | None:
        """The size that it should be of, where a change is worth a write; None: as it is.

        Args:
            asked_pusd: what did not fit into it just now, in all; 0: nothing.
            largest_pusd: the largest bound among that.
            left_pusd: what remains of the tightest budget that binds it; None: none does.
        """
        most_pusd = UNBOUND_PUSD if left_pusd is None else max(0, (left_pusd + self.top_pusd) // SHARE)
        if self.confirmed_pusd > most_pusd:
            # Half, so that a budget that runs out slowly does not cost a write at every turn.
            return most_pusd // 2
        wanted_pusd = min(most_pusd, 2 * (self.used_pusd + asked_pusd))
        if asked_pusd and wanted_pusd > self.confirmed_pusd and largest_pusd <= wanted_pusd:
            return wanted_pusd
        return None
