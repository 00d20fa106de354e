"""How daemons and processes are, told from outside by what they last wrote down.

    ProcessReading + DaemonReading, now  -->  classify  -->  Condition      also of a process that can say nothing more
                                         -->  Health        the worst of all that is below, as of all that is wrong

An age that is exactly at its limit is not yet too old.
"""

from enum import IntEnum, StrEnum

from msgspec import Struct

from geartrain.rules.readings import DaemonReading, Poll, ProcessReading, SlotState


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
    """How long each may last: this long is not yet too long.

    A body or an item in hand; a loop that has not shown that it turns; a writer that waits for room, and daemons that
    wait for each other. More than `storm` restarts of a process within `storm_ns` are too many.
    """

    hang_ns: int = 2_000_000_000
    heartbeat_ns: int = 1_000_000_000
    blocked_ns: int = 5_000_000_000
    deadlock_ns: int = 2_000_000_000
    storm: int = 5
    storm_ns: int = 60_000_000_000


def classify(process: ProcessReading, slot: DaemonReading, now_ns: int, limits: Limits) -> Condition:
    """One daemon. Who had stopped before its process ended has not died with it."""
    match slot.state:
        case SlotState.STOPPED:
            return Condition.STOPPED
        case _ if not process.pid:
            return Condition.NEVER
        case SlotState.ERROR if process.exit_code == 0:
            return Condition.FAULTED
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


def classify_process(poll: Poll, now_ns: int, limits: Limits) -> Condition:
    """The process itself, whatever its daemons do. One that ended when all of them had stopped has not died."""
    process = poll.process
    if not process.pid:
        return Condition.NEVER
    if not process.alive:
        return Condition.DEAD if has_died(poll) else Condition.STOPPED
    if is_stale(process, now_ns, limits):
        return Condition.STALE
    return Condition.FAULTED if process.fault_since_ns else Condition.RUNNING


def has_died(poll: Poll) -> bool:
    """Whether its process is gone, and it was not the end of its work."""
    process = poll.process
    if process.alive or not process.pid or process.exit_code == 0:
        return False
    return not poll.daemons or any(slot.state != SlotState.STOPPED for slot in poll.daemons)


def is_hung(slot: DaemonReading, now_ns: int, limits: Limits) -> bool:
    return slot.in_body_since_ns > 0 and now_ns - slot.in_body_since_ns > limits.hang_ns


def is_stale(process: ProcessReading, now_ns: int, limits: Limits) -> bool:
    """A loop that has not begun, and a program that has none, is not late."""
    return process.alive and process.heartbeat_ns > 0 and now_ns - process.heartbeat_ns > limits.heartbeat_ns


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
