"""How daemons are, told from outside by what their process last wrote down, and which faults that makes.

    ProcessReading + DaemonReading, now -->  classify   -->  Condition       also of a process that can say nothing more
    this poll and the one before        -->  symptoms   -->  FaultBook.step  -->  the faults that changed

Symptoms are differences of counters, so what happened between two polls is not lost, however short it was. A fault is
latched: some polls with its symptom confirm it, some without heal it, and a change of direction counts from nothing,
so that it neither flaps nor winds up.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum, StrEnum

from msgspec import Struct
from msgspec.structs import replace

from geartrain.rules.readings import DaemonReading, Poll, ProcessReading, SlotState

# Of each daemon and code so many freeze frames are kept, the oldest goes first.
FRAMES_KEPT = 64


class Condition(StrEnum):
    DEAD = "dead"
    HUNG = "hung"
    STALE = "stale"
    FAULTED = "faulted"
    RUNNING = "running"
    IDLE = "idle"
    STOPPED = "stopped"
    NEVER = "never"


class Health(IntEnum):
    """Greater is worse, so the health of many is the `max` of theirs."""

    OK = 0
    WARNING = 1
    ERROR = 2
    CRITICAL = 3


class Limits(Struct, frozen=True, kw_only=True):
    """How long a body may run, and how long a loop may not have shown that it turns: this long is not yet too long."""

    hang_ns: int = 2_000_000_000
    heartbeat_ns: int = 1_000_000_000


class FaultCode(StrEnum):
    APP_ERROR = "APP_ERROR"
    TASK_BUDGET_EXCEEDED = "TASK_BUDGET_EXCEEDED"
    APP_HUNG = "APP_HUNG"
    PROCESS_STALE = "PROCESS_STALE"
    PROCESS_DEAD = "PROCESS_DEAD"


class FaultStatus(StrEnum):
    PREFAILED = "PREFAILED"
    CONFIRMED = "CONFIRMED"
    HEALED = "HEALED"


class FaultKey(Struct, frozen=True, order=True):
    """`entity` is the name of a daemon or, for the codes of processes, of a process."""

    entity: str
    code: FaultCode


class Symptom(Struct, frozen=True, kw_only=True):
    """`times` is how often it was met since the poll before; 0 when it only goes on. `frame` is what was read."""

    key: FaultKey
    times: int
    frame: DaemonReading | ProcessReading


class Debounce(Struct, frozen=True, kw_only=True):
    """How many polls in a row confirm a fault, and how many heal it."""

    confirm: int = 1
    heal: int = 3


class Fault(Struct, frozen=True, kw_only=True):
    """`streak` is how many polls in a row had the symptom, or, below zero, had not."""

    key: FaultKey
    status: FaultStatus
    first_ns: int
    last_ns: int
    occurrences: int
    streak: int


def classify(process: ProcessReading, slot: DaemonReading, now_ns: int, limits: Limits) -> Condition:
    """One daemon. Who had stopped before its process ended has not died with it."""
    match slot.state:
        case SlotState.STOPPED:
            return Condition.STOPPED
        case _ if not process.alive:
            return Condition.DEAD
        case _ if is_hung(slot, now_ns, limits):
            return Condition.HUNG
        case _ if is_stale(process, now_ns, limits):
            return Condition.STALE
        case _ if slot.held:
            return Condition.FAULTED
        case SlotState.ERROR:
            return Condition.FAULTED
        case SlotState.UNKNOWN:
            return Condition.NEVER
        case _:
            return Condition.RUNNING if slot.in_body_since_ns else Condition.IDLE


def is_hung(slot: DaemonReading, now_ns: int, limits: Limits) -> bool:
    return slot.in_body_since_ns > 0 and now_ns - slot.in_body_since_ns > limits.hang_ns


def is_stale(process: ProcessReading, now_ns: int, limits: Limits) -> bool:
    return process.alive and now_ns - process.heartbeat_ns > limits.heartbeat_ns


def is_online(process: ProcessReading, now_ns: int, limits: Limits) -> bool:
    """Whether the process lives and its loop turns: not whether a body happens to run just now."""
    return process.alive and not is_stale(process, now_ns, limits)


def health(condition: Condition) -> Health:
    match condition:
        case Condition.DEAD | Condition.HUNG:
            return Health.CRITICAL
        case Condition.FAULTED:
            return Health.ERROR
        case Condition.STALE:
            return Health.WARNING
        case Condition.RUNNING | Condition.IDLE | Condition.STOPPED | Condition.NEVER:
            return Health.OK


def rolled_up(conditions: Iterable[Condition]) -> Health:
    """The worst of them; of none, `OK`."""
    return max(map(health, conditions), default=Health.OK)


def symptoms(before: Poll | None, poll: Poll, now_ns: int, limits: Limits) -> Iterator[Symptom]:
    """What is wrong in this poll, or was since the one before; `before` is None at the first."""
    yield from _of_process(before, poll, now_ns, limits)
    earlier = _earlier(before, poll)
    for slot in poll.daemons:
        was = earlier.get(slot.daemon, DaemonReading(slot.daemon))
        yield from _of_daemon(was, slot, poll.process.alive and is_hung(slot, now_ns, limits))


def _of_process(before: Poll | None, poll: Poll, now_ns: int, limits: Limits) -> Iterator[Symptom]:
    process = poll.process
    if not process.alive and any(slot.state is not SlotState.STOPPED for slot in poll.daemons):
        # A death is met once in each generation, whatever the poll before has read of another.
        known = before is not None and not before.process.alive and before.process.generation == process.generation
        yield Symptom(key=FaultKey(process.process, FaultCode.PROCESS_DEAD), times=int(not known), frame=process)
    if is_stale(process, now_ns, limits):
        yield Symptom(key=FaultKey(process.process, FaultCode.PROCESS_STALE), times=0, frame=process)


def _earlier(before: Poll | None, poll: Poll) -> Mapping[str, DaemonReading]:
    """The slots as they were, by daemon: of a new generation nothing, for its counters begin at zero."""
    if before is None or before.process.generation != poll.process.generation:
        return {}
    return {slot.daemon: slot for slot in before.daemons}


def _of_daemon(was: DaemonReading, slot: DaemonReading, hung: bool) -> Iterator[Symptom]:
    errors, overruns = slot.errors - was.errors, slot.overruns - was.overruns
    if errors or slot.state is SlotState.ERROR:
        yield Symptom(key=FaultKey(slot.daemon, FaultCode.APP_ERROR), times=errors, frame=slot)
    if overruns or slot.held:
        yield Symptom(key=FaultKey(slot.daemon, FaultCode.TASK_BUDGET_EXCEEDED), times=overruns, frame=slot)
    if hung:
        yield Symptom(key=FaultKey(slot.daemon, FaultCode.APP_HUNG), times=0, frame=slot)


class FaultBook:
    """Every fault met so far, and what was read when it was confirmed."""

    def __init__(self, debounce: Debounce | None = None) -> None:
        self._debounce = debounce or Debounce()
        self._faults: dict[FaultKey, Fault] = {}
        self._frames: dict[FaultKey, deque[DaemonReading | ProcessReading]] = {}

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(self._faults[key] for key in sorted(self._faults))

    def frames(self, key: FaultKey) -> tuple[DaemonReading | ProcessReading, ...]:
        return tuple(self._frames.get(key, ()))

    def step(self, seen: Iterable[Symptom], now_ns: int) -> tuple[Fault, ...]:
        """One poll of everything. Answers the faults whose status is another than before."""
        ill = {symptom.key: symptom for symptom in seen}
        changed = [self._met(symptom, now_ns) for symptom in ill.values()]
        changed += [self._missed(fault) for fault in self.faults if fault.key not in ill]
        return tuple(fault for fault in changed if fault is not None)

    def _met(self, symptom: Symptom, now_ns: int) -> Fault | None:
        old = self._faults.get(symptom.key)
        streak = min(max(old.streak if old else 0, 0) + 1, self._debounce.confirm)
        status = self._status_when_met(old, streak)
        new = Fault(
            key=symptom.key, status=status, streak=streak, last_ns=now_ns, first_ns=old.first_ns if old else now_ns,
            occurrences=(old.occurrences if old else 0) + _occurrences(old, symptom),
        )  # fmt: skip
        self._faults[new.key] = new
        if old is not None and old.status is status:
            return None
        if status is FaultStatus.CONFIRMED:
            self._frames.setdefault(new.key, deque(maxlen=FRAMES_KEPT)).append(symptom.frame)
        return new

    def _status_when_met(self, old: Fault | None, streak: int) -> FaultStatus:
        if streak == self._debounce.confirm or (old is not None and old.status is FaultStatus.CONFIRMED):
            return FaultStatus.CONFIRMED
        return FaultStatus.PREFAILED

    def _missed(self, old: Fault) -> Fault | None:
        streak = max(min(old.streak, 0) - 1, -self._debounce.heal)
        healed = streak == -self._debounce.heal
        new = replace(old, streak=streak, status=FaultStatus.HEALED if healed else old.status)
        self._faults[new.key] = new
        return new if new.status is not old.status else None


def _occurrences(old: Fault | None, symptom: Symptom) -> int:
    """One that comes anew has happened at least once, also if no counter tells."""
    anew = old is None or old.status is FaultStatus.HEALED
    return max(symptom.times, int(anew))
