"""The time of a loop whose own timers obey virtual time: an `anyio.sleep`, a `fail_after`, a `call_later`.

It is the clock's, and goes on in real time only while somebody holds the clock: what is done then may need a timeout.
"""

import math
import time

from geartrain.ports.turns import Turns
from geartrain.rules.timestep import Timeline


class LoopTime:
    """What a loop takes for the time, in seconds."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._held_s = 0.0
        self._asleep_since_s: float | None = None
        self._least_s = 0.0

    def now(self) -> float:
        if self._asleep_since_s is not None:
            self._held_s += time.monotonic() - self._asleep_since_s
            self._asleep_since_s = None
        return max(self._timeline.now_ns / 1e9 + self._held_s, self._least_s)

    def step(self, turns: Turns, due_s: float) -> bool:
        """The loop is quiet, and has itself something to do at `due_s`; whether somebody goes on now."""
        due_ns = None
        if due_s < math.inf:
            # It was not due yet, so it is not now, however it is rounded.
            due_ns = max(self._timeline.now_ns + 1, round((due_s - self._held_s) * 1e9))
        if not turns.step(due_ns):
            return False
        if due_ns is not None and self._timeline.now_ns >= due_ns:
            self._least_s = due_s
        return True

    def sleep_s(self, due_s: float) -> float:
        """How long the loop should really sleep, unless something comes from outside."""
        if not self._timeline.holds:
            return math.inf
        sleep_s = due_s - self.now()
        self._asleep_since_s = time.monotonic()
        return sleep_s


def loop_time_of(turns: Turns | None) -> LoopTime | None:
    """None where the timers of the loop are of real time."""
    microsteps = None if turns is None else turns.microsteps
    return None if microsteps is None else LoopTime(microsteps.timeline)
