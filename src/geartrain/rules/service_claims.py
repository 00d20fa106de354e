"""Whose turn it is to run a periodic service, when every replica asks that by itself and nobody arbitrates.

The cycle is cut into as many equal slots as there are runners, in the order in which they are given. Each may start in
its own slot only, and not in the last `spread_s` of it, which is left for clocks that disagree:

    cycle                                                    next cycle
      |---- r0 -----.......|---- r1 -----.......|---- r2 -----.......|
                    spread                ^ now: r1 is assigned, r0 and r2 are not

This is the rule of a scheduler that programs come from, and says what that one says, down to the rounding: so it
reckons in float seconds, and rounds to microseconds where that one does (ADR 37). It knows nothing of what has run
before; the rule for services of a pipeline does.
"""

import math
from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from geartrain.errors import BadValue
from geartrain.rules.checks import number


class ClaimReason(StrEnum):
    """Why a runner may start now, or why not."""

    ASSIGNED = "assigned"
    NOT_ASSIGNED_SLOT = "not_assigned_slot"
    NO_STABLE_RUNNERS = "no_stable_runners"
    SCHEDULED_RUNNER_IN_GRACE = "scheduled_runner_in_grace"
    SLOT_WINDOW_INVALID = "slot_window_invalid"
    LATE_START = "late_start"


class Schedule(Struct, frozen=True):
    """How the cycles of a service are cut. A negative stabilization, and a share beyond 0 and 1, are as none."""

    interval_minutes: float
    spread_minutes: float
    stabilization_seconds: float
    max_start_fraction: float

    def __post_init__(self) -> None:
        if _finite("service_interval_minutes", self.interval_minutes) <= 0:
            raise BadValue(f"service_interval_minutes must be more than 0, got {self.interval_minutes!r}")
        if _finite("spread_margin_minutes", self.spread_minutes) < 0:
            raise BadValue(
                f"spread_margin_minutes must be >= 0, got {self.spread_minutes!r}: a negative one would let two "
                "runners start in one slot"
            )
        number("membership_stabilization_seconds", self.stabilization_seconds)
        number("max_start_slot_fraction", self.max_start_fraction)

    @property
    def interval_s(self) -> float:
        return self.interval_minutes * 60

    @property
    def spread_s(self) -> float:
        return self.spread_minutes * 60


class Runner(Struct, frozen=True):
    """A runner that takes part, and since when."""

    runner_id: str
    created_s: float


class Verdict(Struct, frozen=True, kw_only=True):
    """What a runner is told. What was not reached on the way to the reason is None."""

    reason: ClaimReason
    cycle_start_us: int
    runner_count: int = 0
    assigned_runner_id: str | None = None
    position: int | None = None
    slot_us: tuple[int, int] | None = None
    is_owner_now: bool = False
    message: str = ""
    late_fraction: float | None = None


def claim(runner_id: str, runners: Sequence[Runner], now_s: float, schedule: Schedule) -> Verdict:
    """Whether this runner may start now. Times are seconds of the calendar; bounds are rounded to microseconds."""
    _finite("current_time", now_s)
    cycle_us = microseconds(now_s // schedule.interval_s * schedule.interval_s)
    if not runners:
        return Verdict(reason=ClaimReason.NO_STABLE_RUNNERS, cycle_start_us=cycle_us)
    owner = _owner(runners, now_s - cycle_us / 1e6, schedule.interval_s / len(runners))
    position = next((place for place, runner in enumerate(runners) if runner.runner_id == runner_id), None)
    slot_us = None if position is None else _window(position, len(runners), cycle_us, schedule)
    reason, message, late = _judged(owner, slot_us, position, len(runners), now_s, schedule)
    return Verdict(
        reason=reason,
        cycle_start_us=cycle_us,
        runner_count=len(runners),
        assigned_runner_id=owner.runner_id,
        position=position,
        slot_us=slot_us,
        is_owner_now=slot_us is not None and owner.runner_id == runner_id and now_s >= slot_us[0] / 1e6,
        message=message,
        late_fraction=late,
    )


def _judged(
    owner: Runner, slot_us: tuple[int, int] | None, position: int | None, count: int, now_s: float, schedule: Schedule
) -> tuple[ClaimReason, str, float | None]:
    """The reason, what is said about it, and how late it is where that is the reason."""
    if position is None:
        return ClaimReason.NOT_ASSIGNED_SLOT, "", None
    if slot_us is None:
        said = f"{count} slots in {schedule.interval_minutes:g} minutes leave nothing of a slot beside a margin of "
        return ClaimReason.SLOT_WINDOW_INVALID, f"{said}{schedule.spread_minutes:g} minutes", None
    # With none asked for, a runner of the future is no newcomer either: its clock is ahead, and that is all.
    if 0 < schedule.stabilization_seconds > now_s - owner.created_s:
        said = f"the slot is kept for {owner.runner_id!r}, which is not yet {schedule.stabilization_seconds:g} s old"
        return ClaimReason.SCHEDULED_RUNNER_IN_GRACE, said, None
    start_us, end_us = slot_us
    if count > 1 and not start_us / 1e6 <= now_s < end_us / 1e6:
        return ClaimReason.NOT_ASSIGNED_SLOT, "", None
    late = _late(microseconds(now_s) - start_us, end_us - start_us)
    if 0 < schedule.max_start_fraction < 1 and late > schedule.max_start_fraction:
        said = f"{late:.1%} of the slot has passed, and a run must start within {schedule.max_start_fraction:.1%}"
        return ClaimReason.LATE_START, said, late
    return ClaimReason.ASSIGNED, "", None


def _owner(runners: Sequence[Runner], into_cycle_s: float, slot_s: float) -> Runner:
    """Whose slot it is. A moment before a cycle whose start was rounded up is the last runner's, as of old."""
    return runners[min(int(into_cycle_s // slot_s), len(runners) - 1) % len(runners)]


def _window(position: int, count: int, cycle_us: int, schedule: Schedule) -> tuple[int, int] | None:
    """When a runner may start, in microseconds; None when the margin takes all of it. One alone needs no margin."""
    cycle_s = cycle_us / 1e6
    if count == 1:
        return cycle_us, microseconds(cycle_s + schedule.interval_s)
    slot_s = schedule.interval_s / count
    open_s = slot_s - schedule.spread_s
    start_s = cycle_s + position * slot_s
    return (microseconds(start_s), microseconds(start_s + open_s)) if open_s > 0 else None


def _late(passed_us: int, slot_us: int) -> float:
    """Which share of a slot has passed; of one that is shorter than a microsecond, none."""
    return (passed_us / 1e6) / (slot_us / 1e6) if slot_us else 0.0


def microseconds(seconds: float) -> int:
    """The nearest microsecond; of two, the even one. The fraction is rounded by itself, as a calendar does."""
    fraction, whole = math.modf(seconds)
    return int(whole) * 10**6 + round(fraction * 1e6)


def _finite(what: str, value: float) -> float:
    number(what, value)
    if math.isinf(value):
        raise BadValue(f"{what} must be finite, got {value!r}")
    return value
