"""Whose turn it is to run a periodic service, as programs of a calendar scheduler ask it: in dates and minutes.

The rule is in `geartrain.rules.service_claims`; here dates become seconds, seconds become dates, and a run that may
start is given a name of its own.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from msgspec import Struct

from geartrain.errors import BadType, BadValue
from geartrain.rules.service_claims import ClaimReason, Runner, Schedule, Verdict, claim

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ActiveRunner(Struct, frozen=True):
    """A runner that takes part. When it was heard of last is for whoever lists the runners: listed ones are active."""

    runner_id: str
    creation_time: datetime
    last_heartbeat: datetime
    allow_to_run_atomic_service: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.runner_id, str):
            raise BadType(f"ActiveRunner runner_id must be text, got {self.runner_id!r}")
        _seconds(f"ActiveRunner {self.runner_id!r} creation_time", self.creation_time)
        _seconds(f"ActiveRunner {self.runner_id!r} last_heartbeat", self.last_heartbeat)


class AtomicServiceRun(Struct, frozen=True):
    """A run that may start: whose, of which cycle and slot. The id is new with every answer."""

    runner_id: str
    atomic_service_run_id: str
    cycle_start: datetime
    slot_start: datetime
    slot_end: datetime
    started_at: datetime


class ServiceClaim(Struct, frozen=True, kw_only=True):
    """The answer to one runner. `reason` compares equal to its text, as `claim.reason == "assigned"`."""

    runner_id: str
    reason: ClaimReason
    cycle_start: datetime
    assigned_runner_id: str | None
    runner_position: int | None
    stable_runner_count: int
    slot_start: datetime | None
    slot_end: datetime | None
    is_slot_owner_now: bool
    atomic_service_run: AtomicServiceRun | None
    skip_message: str
    late_start_fraction: float | None


def decide_service_claim(
    *,
    runner_id: str,
    active_runners: Sequence[ActiveRunner],
    current_time: float | datetime,
    service_interval_minutes: float,
    spread_margin_minutes: float,
    membership_stabilization_seconds: float,
    max_start_slot_fraction: float,
) -> ServiceClaim:
    """Whether this runner may start the service now, and why not. The runners are taken in the order given.

    `current_time` is seconds since 1970, or an aware datetime. Nothing is remembered from one call to the next: a
    runner is told "assigned" all through its slot. A pipeline's `[services.NAME]` gives each cycle away once.
    """
    now_s = _seconds("current_time", current_time) if isinstance(current_time, datetime) else current_time
    schedule = Schedule(
        service_interval_minutes, spread_margin_minutes, membership_stabilization_seconds, max_start_slot_fraction
    )
    runners = [Runner(runner.runner_id, runner.creation_time.timestamp()) for runner in active_runners]
    return _dated(runner_id, claim(runner_id, runners, now_s, schedule), now_s)


def _dated(runner_id: str, verdict: Verdict, now_s: float) -> ServiceClaim:
    cycle_start = _date(verdict.cycle_start_us)
    start, end = (None, None) if verdict.slot_us is None else map(_date, verdict.slot_us)
    run = None
    if verdict.reason is ClaimReason.ASSIGNED:
        assert start is not None
        assert end is not None
        started_at = datetime.fromtimestamp(now_s, UTC)
        run = AtomicServiceRun(runner_id, str(uuid4()), cycle_start, start, end, started_at)
    return ServiceClaim(
        runner_id=runner_id,
        reason=verdict.reason,
        cycle_start=cycle_start,
        assigned_runner_id=verdict.assigned_runner_id,
        runner_position=verdict.position,
        stable_runner_count=verdict.runner_count,
        slot_start=start,
        slot_end=end,
        is_slot_owner_now=verdict.is_owner_now,
        atomic_service_run=run,
        skip_message=verdict.message,
        late_start_fraction=verdict.late_fraction,
    )


def _seconds(what: str, moment: object) -> float:
    if not isinstance(moment, datetime):
        raise BadType(f"{what} must be an aware datetime, got {moment!r}")
    if moment.utcoffset() is None:
        raise BadValue(f"{what} must be an aware datetime, got {moment!r}; give it a zone, as tzinfo=UTC")
    return moment.timestamp()


def _date(microseconds: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        raise BadValue(f"current_time is beyond the years a datetime can say: {microseconds} us since 1970") from None
