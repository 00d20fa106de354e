"""The absolute grid of a periodic loop: which slot comes next, and what one cycle was like.

    epoch        +1P        +2P        +3P        +4P
      |-----------|----------|----------|----------|
                  ^ body ........... ^              next slot is +4P: the first one after now,
                  served             now            +2P and +3P were skipped, and are counted

A body that ends exactly on a slot has missed it: on a real clock it always has, by a little.
"""

from msgspec import Struct


class Cycle(Struct, frozen=True):
    """One cycle of a periodic loop as it really went. What was not measured is None, never 0."""

    index: int
    period_ns: int
    due_ns: int
    started_ns: int
    took_ns: int
    lateness_ns: int
    skipped_slots: int
    actual_period_ns: int | None = None
    jitter_ns: int | None = None


def next_slot(epoch_ns: int, period_ns: int, served: int, now_ns: int) -> int:
    """The number of the slot to serve after slot `served`: the first after `now_ns`, and never an older one."""
    return max(served + 1, (now_ns - epoch_ns) // period_ns + 1)


def cycle(
    *, index: int, period_ns: int, due_ns: int, started_ns: int, ended_ns: int, skipped: int, previous_ns: int | None
) -> Cycle:
    """What a finished cycle was like, given when its predecessor started (None for the first)."""
    actual_ns = None if previous_ns is None else started_ns - previous_ns
    return Cycle(
        index=index,
        period_ns=period_ns,
        due_ns=due_ns,
        started_ns=started_ns,
        took_ns=ended_ns - started_ns,
        lateness_ns=started_ns - due_ns,
        skipped_slots=skipped,
        actual_period_ns=actual_ns,
        jitter_ns=None if actual_ns is None else abs(actual_ns - period_ns),
    )
