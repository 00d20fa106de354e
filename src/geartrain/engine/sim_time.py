"""What is said of virtual time for a whole pipeline, and what has come of it."""

from typing import Literal

from msgspec import Struct

from geartrain.errors import BadType, BadValue
from geartrain.ports.clock import SimClock
from geartrain.rules.checks import number, one_of, whole
from geartrain.rules.microsteps import LIMIT
from geartrain.rules.orders import Report
from geartrain.rules.trace import Taken

Placement = Literal["one", "declared", "each"]
PLACEMENTS: tuple[Placement, ...] = ("one", "declared", "each")

# So long, in real time, a process of several may act in one microstep.
STALL_AFTER_S = 30.0


class SimTime(Struct, frozen=True, kw_only=True):
    """Virtual time for a whole pipeline: `run(pipeline, clock=SimTime(seed=7))`.

    `seed` is where the chance of all its daemons begins (`ctx.random`, the jitter of restarts). After `run_for` seconds
    of virtual time the run is stopped in order; without it, it ends when its daemons have. `trace` names a file for
    all that was taken from channels. An instant of more than `livelock_after` microsteps is a livelock.

    `placement` says where the daemons live: in "one" process, this one; in those that the pipeline has "declared"; or
    "each" in one of its own. The digest is the same. Who of them is not quiet within `stall_after` seconds of real time
    is named with its stack.
    """

    seed: int = 0
    run_for: float | None = None
    trace: str | None = None
    livelock_after: int = LIMIT
    placement: Placement = "one"
    stall_after: float = STALL_AFTER_S

    def __post_init__(self) -> None:
        whole("SimTime seed", self.seed, least=0)
        whole("SimTime livelock_after", self.livelock_after, least=1)
        one_of("SimTime placement", self.placement, PLACEMENTS)
        if number("SimTime stall_after", self.stall_after) <= 0:
            raise BadValue(f"SimTime stall_after must be more than 0, got {self.stall_after!r}")
        if self.run_for is not None and not 0 <= number("SimTime run_for", self.run_for) < float("inf"):
            raise BadValue(f"SimTime run_for must be finite and not negative, got {self.run_for!r}")
        if self.trace is not None and not isinstance(self.trace, str):
            raise BadType(f"SimTime trace must be the name of a file, got {self.trace!r}")

    def new_clock(self) -> SimClock:
        """The clock of one run."""
        return SimClock(seed=self.seed, microsteps=True, livelock_after=self.livelock_after)


class Simulated(Struct, frozen=True):
    """What a simulated run has to tell: `digest` is the same for two runs that did the same at the same time."""

    digest: str
    seed: int
    # How much virtual time has passed, and how many items were taken in it.
    passed_ns: int
    taken: int
    restarts: dict[str, int]
    # Those that a policy has absorbed.
    failures: tuple[Report, ...]
    # All that was taken, in the order in which it was; kept for tests and for the invariant of a sweep.
    events: tuple[Taken, ...] = ()
