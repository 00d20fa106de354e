"""A whole pipeline in virtual time: the same result on every run, on either loop, however busy the machine is.

    SimTime(seed=7)  ->  Simulation(pipeline, time)  ->  Simulated(digest, ...)

Every channel is a simulated one, so what a daemon does in one microstep is seen by others in the next; chance comes
from the seed. What was taken from each channel, and when, goes into the digest, and into a trace where one is wanted.
"""

import logging
from collections.abc import Iterable
from contextlib import ExitStack
from typing import BinaryIO

import msgspec

from geartrain.engine.in_process import InProcess
from geartrain.engine.pipeline import Pipeline
from geartrain.engine.roll import Watcher
from geartrain.engine.sim_time import SimTime, Simulated
from geartrain.engine.simulated_node import Outpost
from geartrain.errors import BadValue
from geartrain.ports.clock import SimClock
from geartrain.rules.trace import Digest, Head, Taken, digest_of, line_of


class Simulation(InProcess):
    """One simulated run. Made where it is to live, on a running loop."""

    def __init__(
        self,
        pipeline: Pipeline,
        time: SimTime,
        watcher: Watcher | None = None,
        clock: SimClock | None = None,
        outpost: Outpost | None = None,
    ) -> None:
        """`clock` is what `time.new_clock()` has made, where somebody else needs it too.

        `outpost` is for one process of several, whose clock is from there.
        """
        self.clock = clock or time.new_clock()
        self.events: list[Taken] | None = None
        self._time = time
        self._digest = Digest()
        self._taken = 0
        self._trace: BinaryIO | None = None
        super().__init__(pipeline, self.clock, watcher, self._record, outpost)

    async def live(self) -> None:
        """Until every daemon has returned, or time is up. `outcome` tells what has come of it, also when it failed."""
        with ExitStack() as files:
            if self._time.trace is not None:
                self._trace = files.enter_context(_opened(self._time.trace))
                head = Head(pipeline=self.spec.name, seed=self._time.seed)
                self._trace.write(msgspec.json.encode(head) + b"\n")
            await self.live_in_virtual_time(self.clock, self._time.run_for)

    def channels(self) -> dict[str, bytes]:
        """The hash of each channel that is read in this process."""
        return self._digest.channels()

    def outcome(self) -> Simulated:
        """What has come of the run so far."""
        return Simulated(
            digest=digest_of(self._digest.channels()),
            seed=self._time.seed,
            passed_ns=self.clock.now_ns(),
            taken=self._taken,
            restarts={
                standing.daemon: standing.restarts
                for standing in self.roll.standings()
                if standing.daemon in self._places
            },
            failures=tuple(self.reports),
            events=tuple(self.events or ()),
        )

    def _record(self, channel: str, t_ns: int, k: int, sequence: int, payload: bytes) -> None:
        taken = Taken(t_ns, k, channel, sequence, payload)
        self._taken += 1
        self._digest.note(taken)
        if self._trace is not None:
            self._trace.write(line_of(taken) + b"\n")
        if self.events is not None:
            self.events.append(taken)


async def simulated(pipeline: Pipeline, time: SimTime) -> Simulated:
    """Run it in virtual time: on the running loop, or in processes of its own, as `time` says."""
    if time.placement != "one":
        from geartrain.engine.simulated_placed import run_placed  # who simulates in one process starts no other

        return await run_placed(pipeline, time)
    simulation = Simulation(pipeline, time)
    await simulation.live()
    return simulation.outcome()


class Stamp(logging.Filter):
    """Gives every record the instant in which it was logged: `sim_t` in seconds, and the microstep `sim_k`."""

    def __init__(self, clock: SimClock) -> None:
        super().__init__()
        self._clock = clock

    def filter(self, record: logging.LogRecord) -> bool:
        t_ns, record.sim_k = self._clock.instant
        record.sim_t = t_ns / 1e9
        return True


def write_trace(path: str, head: Head, events: Iterable[Taken]) -> None:
    """A whole trace at once."""
    with _opened(path) as file:
        file.write(msgspec.json.encode(head) + b"\n")
        file.writelines(line_of(taken) + b"\n" for taken in events)


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "wb")
    except OSError as error:
        raise BadValue(f"the trace cannot be written to {path}: {error.strerror}") from None
