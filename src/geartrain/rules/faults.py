"""Which faults there are, from one look to the next: none flaps, none is lost, and each is counted once.

    symptoms of a look  -->  FaultBook.step  -->  the faults whose status is another now

A symptom says how often it was met in all, and whether it lasts; so what happened between two looks is not lost,
however short it was, and a book that goes on from what another wrote down counts on where that one ended. A fault is
latched: some looks with its symptom confirm it, some without heal it, and a change of direction counts from nothing,
so that it neither flaps nor winds up.

    PREFAILED -> CONFIRMED -> HEALED      PREFAILED -> PREPASSED -> HEALED      any -> CLEARED, until it happens again
"""

from collections import deque
from collections.abc import Iterable
from enum import IntEnum, StrEnum

from msgspec import Struct
from msgspec.structs import replace

from geartrain.rules.health import Health
from geartrain.rules.readings import DaemonReading, EndReading, ProcessReading

# Of each fault so many freeze frames are kept and of each code so many changes; the oldest go first.
FRAMES_KEPT = 64
HISTORY_KEPT = 64


class FaultCode(StrEnum):
    APP_ERROR = "APP_ERROR"
    TASK_BUDGET_EXCEEDED = "TASK_BUDGET_EXCEEDED"
    EXECUTOR_BUDGET_EXCEEDED = "EXECUTOR_BUDGET_EXCEEDED"
    APP_HUNG = "APP_HUNG"
    PROCESS_STALE = "PROCESS_STALE"
    PROCESS_DEAD = "PROCESS_DEAD"
    RESTART_STORM = "RESTART_STORM"
    SLOTS_EXHAUSTED = "SLOTS_EXHAUSTED"
    WRITER_BLOCKED = "WRITER_BLOCKED"
    DEADLOCK = "DEADLOCK"

    @property
    def is_of_process(self) -> bool:
        """Whether its entity is a process; else it is a daemon."""
        return self in _OF_PROCESSES

    @property
    def severity(self) -> "Severity":
        """What it is unless a symptom says otherwise."""
        return _SEVERITIES[self]


_OF_PROCESSES = (
    FaultCode.EXECUTOR_BUDGET_EXCEEDED,
    FaultCode.PROCESS_STALE,
    FaultCode.PROCESS_DEAD,
    FaultCode.RESTART_STORM,
    FaultCode.SLOTS_EXHAUSTED,
)


class Severity(IntEnum):
    INFO = 0
    WARN = 1
    ERROR = 2
    CRITICAL = 3

    @property
    def health(self) -> Health:
        """How well somebody is who has a fault of this severity."""
        return Health(int(self))


_SEVERITIES = {
    FaultCode.APP_ERROR: Severity.ERROR,
    FaultCode.TASK_BUDGET_EXCEEDED: Severity.ERROR,
    FaultCode.EXECUTOR_BUDGET_EXCEEDED: Severity.ERROR,
    FaultCode.APP_HUNG: Severity.CRITICAL,
    FaultCode.PROCESS_STALE: Severity.WARN,
    FaultCode.PROCESS_DEAD: Severity.CRITICAL,
    FaultCode.RESTART_STORM: Severity.ERROR,
    FaultCode.SLOTS_EXHAUSTED: Severity.WARN,
    FaultCode.WRITER_BLOCKED: Severity.WARN,
    FaultCode.DEADLOCK: Severity.CRITICAL,
}


class FaultStatus(StrEnum):
    PREFAILED = "PREFAILED"
    PREPASSED = "PREPASSED"
    CONFIRMED = "CONFIRMED"
    HEALED = "HEALED"
    CLEARED = "CLEARED"

    @property
    def is_over(self) -> bool:
        return self in (FaultStatus.HEALED, FaultStatus.CLEARED)


class FaultKey(Struct, frozen=True, order=True):
    """`entity` is the name of a daemon or, for the codes of processes, of a process."""

    entity: str
    code: FaultCode


Seen = DaemonReading | ProcessReading | EndReading


class Symptom(Struct, frozen=True, kw_only=True):
    """Something that is wrong, or was since the look before. `frame` is what was read, `said` the same in words.

    `total` is how often it has been met in all, where somebody counts. `lasts` says that it goes on now, and `mark`
    which one it is: another mark is another one, though no look has seen the end of the first.
    """

    key: FaultKey
    frame: Seen
    said: str
    total: int = 0
    lasts: bool = False
    mark: int = 0
    severity: Severity | None = None


class Debounce(Struct, frozen=True, kw_only=True):
    """How many looks in a row confirm a fault, and how many heal it. A critical one is confirmed at once."""

    confirm: int = 1
    heal: int = 3


class Fault(Struct, frozen=True, kw_only=True):
    """`streak` is how many looks in a row had the symptom, or, below zero, had not."""

    key: FaultKey
    status: FaultStatus
    severity: Severity
    said: str
    first_ns: int
    last_ns: int
    occurrences: int
    streak: int
    # How often it has been met, as its symptom counts, with those that are counted here and were not yet there.
    total: int = 0
    owed: int = 0
    mark: int = 0

    @property
    def health(self) -> Health:
        """How well its entity is by it."""
        return self.severity.health if self.status is FaultStatus.CONFIRMED else Health.OK


class Frame(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was read at the moment when a fault was confirmed: one of the three."""

    at_ns: int
    daemon: DaemonReading | None = None
    process: ProcessReading | None = None
    end: EndReading | None = None

    @classmethod
    def of(cls, seen: Seen, at_ns: int) -> "Frame":
        match seen:
            case DaemonReading():
                return cls(at_ns=at_ns, daemon=seen)
            case ProcessReading():
                return cls(at_ns=at_ns, process=seen)
            case EndReading():
                return cls(at_ns=at_ns, end=seen)

    @property
    def seen(self) -> Seen:
        found = self.daemon or self.process or self.end
        assert found is not None
        return found


class Change(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fault whose status is another than before. Numbers grow without a gap, over all lives of who looks."""

    number: int
    fault: Fault
    frame: Frame | None = None


class FaultBook:
    """Every fault met so far, what was read when it was confirmed, and what became of it."""

    def __init__(self, debounce: Debounce | None = None) -> None:
        self._debounce = debounce or Debounce()
        self._faults: dict[FaultKey, Fault] = {}
        self._frames: dict[FaultKey, deque[Frame]] = {}
        self._history: dict[FaultCode, deque[Fault]] = {}

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(self._faults[key] for key in sorted(self._faults))

    def frames(self, key: FaultKey) -> tuple[Frame, ...]:
        return tuple(self._frames.get(key, ()))

    def history(self, code: FaultCode) -> tuple[Fault, ...]:
        """The last changes of all faults of this code, as they were then; the oldest first."""
        return tuple(self._history.get(code, ()))

    def go_on_from(self, fault: Fault, frame: Frame | None) -> None:
        """What an earlier book wrote down, told in its order."""
        self._keep(fault, frame)

    def step(self, seen: Iterable[Symptom], now_ns: int) -> tuple[Fault, ...]:
        """One look at everything. Answers the faults whose status is another than before."""
        ill = {symptom.key: symptom for symptom in seen if symptom.lasts or self._is_new(symptom)}
        changed = [self._met(symptom, now_ns) for symptom in ill.values()]
        changed += [self._missed(fault) for fault in self.faults if fault.key not in ill]
        return tuple(fault for fault in changed if fault is not None)

    def clear(self, key: FaultKey) -> Fault | None:
        """Somebody has seen to it. It comes back when it happens again, or if it goes on. None: there is none."""
        old = self._faults.get(key)
        if old is None or old.status.is_over:
            return None
        self._keep(cleared := replace(old, status=FaultStatus.CLEARED, streak=0), None)
        return cleared

    def last_frame(self, fault: Fault) -> Frame | None:
        """What was read when it was confirmed."""
        frames = self._frames.get(fault.key)
        return frames[-1] if frames and fault.status is FaultStatus.CONFIRMED else None

    def _is_new(self, symptom: Symptom) -> bool:
        # One that was counted here before it was counted there is the same.
        old = self._faults.get(symptom.key)
        return symptom.total > (old.total + old.owed if old else 0)

    def _met(self, symptom: Symptom, now_ns: int) -> Fault | None:
        old = self._faults.get(symptom.key)
        severity = symptom.key.code.severity if symptom.severity is None else symptom.severity
        streak = min(max(old.streak if old else 0, 0) + 1, self._debounce.confirm)
        enough = streak == self._debounce.confirm or severity is Severity.CRITICAL
        times, owed = _occurrences(old, symptom)
        new = Fault(
            key=symptom.key,
            status=_status_when_met(old, enough),
            severity=severity,
            said=symptom.said,
            first_ns=now_ns if old is None else old.first_ns,
            last_ns=now_ns,
            occurrences=(0 if old is None else old.occurrences) + times,
            streak=streak,
            total=max(symptom.total, 0 if old is None else old.total),
            owed=owed,
            mark=symptom.mark if symptom.lasts else 0 if old is None else old.mark,
        )
        if old is not None and old.status is new.status:
            self._faults[new.key] = new
            return None
        confirmed = new.status is FaultStatus.CONFIRMED
        self._keep(new, Frame.of(symptom.frame, now_ns) if confirmed else None)
        return new

    def _missed(self, old: Fault) -> Fault | None:
        if old.status.is_over:
            return None
        streak = max(min(old.streak, 0) - 1, -self._debounce.heal)
        status = FaultStatus.HEALED if streak == -self._debounce.heal else _status_when_missed(old)
        new = replace(old, streak=streak, status=status)
        if status is old.status:
            self._faults[new.key] = new
            return None
        self._keep(new, None)
        return new

    def _keep(self, fault: Fault, frame: Frame | None) -> None:
        self._faults[fault.key] = fault
        self._history.setdefault(fault.key.code, deque(maxlen=HISTORY_KEPT)).append(fault)
        if frame is not None:
            self._frames.setdefault(fault.key, deque(maxlen=FRAMES_KEPT)).append(frame)


def _status_when_met(old: Fault | None, enough: bool) -> FaultStatus:
    confirmed = enough or (old is not None and old.status is FaultStatus.CONFIRMED)
    return FaultStatus.CONFIRMED if confirmed else FaultStatus.PREFAILED


def _status_when_missed(old: Fault) -> FaultStatus:
    return FaultStatus.CONFIRMED if old.status is FaultStatus.CONFIRMED else FaultStatus.PREPASSED


def _occurrences(old: Fault | None, symptom: Symptom) -> tuple[int, int]:
    """How often it was met since the look before, and how many of those nobody else has counted yet."""
    known, owed = (0, 0) if old is None else (old.total, old.owed)
    counted = max(0, symptom.total - known)
    times, owed = max(0, counted - owed), max(0, owed - counted)
    anew = old is None or old.status.is_over or (symptom.lasts and symptom.mark != old.mark)
    return (1, owed + 1) if anew and not times else (times, owed)
