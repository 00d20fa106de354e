"""What a process writes down of itself, as it is read from outside: at any moment, also after it was killed.

    ProcessReading    one life of a process: who it is, when its loop turned last, how it ended
      DaemonReading   one daemon of it: how often its body ran, how long that took, what is wrong
      EndReading      one end of a channel of it: how many items, who waits, what is in hand

Times are nanoseconds of the machine's monotonic clock; 0 is "not yet", or "not now". Counters of a daemon go on where
its former life ended. Those of an end are of one life of the writer (`rules/counts.py` adds them up).
"""

from enum import IntEnum

from msgspec import Struct

from geartrain.rules.counts import EndCounts
from geartrain.rules.session import Loss


class SlotState(IntEnum):
    """How a daemon is, as its process says."""

    UNKNOWN = 0
    RUNNING = 1
    STOPPED = 2
    ERROR = 3


class Phase(IntEnum):
    """Where in its life a daemon is. `READY` is between `on_start` and `run`, where all wait for each other."""

    NONE = 0
    ON_START = 1
    READY = 2
    RUN = 3
    ON_STOP = 4


class Held(IntEnum):
    """Why the body of a daemon is held back: it took longer than it may, or somebody in its process did."""

    NOT = 0
    OVER_BUDGET = 1
    WITH_ITS_PROCESS = 2


class Up(IntEnum):
    """Whether the supervisor in the process has begun, and how it ended."""

    NOT_YET = 0
    UP = 1
    DOWN = 2
    ERROR = 3


class ProcessReading(Struct, frozen=True, kw_only=True):
    """`alive` is this process and no other that was given its pid: the reader has compared the time of its start.

    `exit_code` is what the shell would say, and below zero a signal; None where nobody has seen the end.
    """

    process: str
    generation: int = 0
    pid: int = 0
    alive: bool = False
    up: int = Up.NOT_YET
    born_ns: int = 0
    heartbeat_ns: int = 0
    heartbeats: int = 0
    ended_ns: int = 0
    exit_code: int | None = None
    # Of all lives: how often it was started again, and how often because it had died.
    restarts: int = 0
    deaths: int = 0
    # Daemons that there was no slot for, or words of them that were lost.
    dropped: int = 0
    budget_ns: int = 0
    fault_since_ns: int = 0
    fault_took_ns: int = 0


class DaemonReading(Struct, frozen=True):
    """One daemon. The fields after the name are the words of its bank, in their order."""

    daemon: str
    state: int = SlotState.UNKNOWN
    phase: int = Phase.NONE
    # How often it was made anew within its process.
    restarts: int = 0
    starts: int = 0
    stops: int = 0
    errors: int = 0
    executions: int = 0
    in_body_since_ns: int = 0
    last_ns: int = 0
    ewma_ns: int = 0
    min_ns: int = 0
    max_ns: int = 0
    # Cycles of `every`: the number of the last one, and how it was against its grid.
    cycle: int = 0
    period_ns: int = 0
    actual_period_ns: int = 0
    jitter_ns: int = 0
    max_jitter_ns: int = 0
    lateness_ns: int = 0
    max_lateness_ns: int = 0
    skipped: int = 0
    budget_ns: int = 0
    overruns: int = 0
    held: int = Held.NOT
    held_since_ns: int = 0
    held_took_ns: int = 0
    changed_ns: int = 0


class EndReading(Struct, frozen=True):
    """One end of a channel. The fields after `maxsize` are the words of its bank, in their order.

    `in_hand` is the number of the item that a reader took last and is not done with. One that is fast takes up to
    `may_have` before it says so.
    """

    channel: str
    daemon: str
    sends: bool
    maxsize: int
    incarnation: int = 0
    epoch: int = 0
    accepted: int = 0
    taken: int = 0
    stable: int = 0
    dropped: int = 0
    redelivered: int = 0
    set_aside: int = 0
    in_hand: int = 0
    may_have: int = 0
    # Whether somebody waits in this end.
    waits: int = 0
    closed: int = 0
    # The last lives of the writer that have died, and how many items with each.
    lost_epoch: int = 0
    lost: int = 0
    lost_epoch_2: int = 0
    lost_2: int = 0
    # Since when nothing of all this has changed, as far as its process looked.
    still_since_ns: int = 0

    @property
    def unacknowledged(self) -> int:
        """Of a writer: how many of its items may still be needed."""
        return max(0, self.accepted - self.stable - self.dropped) if self.sends else 0

    def counts(self) -> EndCounts:
        """The same for whoever adds up the lives of an end."""
        lost = ((self.lost_epoch, self.lost), (self.lost_epoch_2, self.lost_2))
        return EndCounts(
            channel=self.channel,
            sends=self.sends,
            incarnation=self.incarnation,
            epoch=self.epoch,
            accepted=self.accepted,
            taken=self.taken,
            stable=self.stable,
            dropped=self.dropped,
            redelivered=self.redelivered,
            set_aside=self.set_aside,
            losses=tuple(Loss(epoch, count) for epoch, count in lost if epoch),
        )


class Poll(Struct, frozen=True, kw_only=True):
    """One process with its daemons and ends, as read at one moment."""

    process: ProcessReading
    daemons: tuple[DaemonReading, ...] = ()
    ends: tuple[EndReading, ...] = ()
