"""What is to be called when: deadlines in the order (due, insertion), fired in rounds, forgotten when cancelled.

    insert ----> heap of (due, number, deadline) ----> take(now): the next of this round, never one before its time
                  ^                     |               None: all that was due when the round began has been taken
                  |   cancelled ones stay as dead entries until they surface, or are swept out when they are most
                  '-- what joins a round at a time that has passed waits for the next one: whoever inserts itself
                      anew again and again, in the past, holds nobody else up

A periodic deadline lies on an absolute grid and goes back into the heap before it is called; which slot it serves after
one that was late is its policy: skip those missed, make up for some of them in a burst, or delay the grid.
"""

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from geartrain.rules import grid

Callback = Callable[[], object]
Missed = Literal["skip", "burst", "delay"]
MISSED: tuple[Missed, ...] = ("skip", "burst", "delay")

# So many dead entries are left where they are, whatever else there is.
_FEW_DEAD = 64

_Entry = tuple[int, int, "Deadline"]


class Home(Protocol):
    """Where a deadline can be called off."""

    def cancel(self, deadline: "Deadline") -> bool: ...


class Deadline:
    """Something that is to be called once. It lets go of its callback when it has fired or is cancelled."""

    __slots__ = ("_home", "callback", "cancelled", "due_ns", "fired", "name")

    def __init__(self, home: Home, due_ns: int, callback: Callback, name: str = "") -> None:
        self._home = home
        self.due_ns = due_ns
        self.callback: Callback | None = callback
        self.name = name
        # Whether it has been called; of a periodic one, whether it ever has.
        self.fired = False
        # Whether `cancel` was called, in time or not.
        self.cancelled = False

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled else "fired" if self.fired else "pending"
        return f"<{type(self).__name__} {self.name!r} at {self.due_ns} ns, {state}>"

    def cancel(self) -> bool:
        """Call it off; the answer is whether that has prevented a call. After it has fired it prevents nothing."""
        return self._home.cancel(self)

    def fire(self, _now_ns: int) -> Callback:
        """It is to be called now. `callback` is left there if it will be once more."""
        callback = self.callback
        assert callback is not None
        self.fired = True
        self.callback = None
        return callback


class PeriodicDeadline(Deadline):
    """Something that is to be called once per period, on an absolute grid."""

    __slots__ = ("_burst", "_epoch_ns", "_missed", "_missed_count", "_slot", "fired_count", "period_ns")

    def __init__(
        self,
        home: Home,
        epoch_ns: int,
        period_ns: int,
        callback: Callback,
        name: str = "",
        *,
        missed: Missed = "skip",
        burst: int = 1,
    ) -> None:
        """The first call is a period after the epoch. `burst` is how many missed ones are made up for at most."""
        super().__init__(home, epoch_ns + period_ns, callback, name)
        self.period_ns = period_ns
        self.fired_count = 0
        self._epoch_ns = epoch_ns
        self._slot = 1
        self._missed = missed
        self._burst = burst
        self._missed_count = 0

    @property
    def missed(self) -> int:
        """How many slots of the grid passed without a call."""
        return self._missed_count

    def fire(self, now_ns: int) -> Callback:
        """It is to be called now, and lies at its next slot afterwards."""
        assert self.callback is not None
        self.fired = True
        self.fired_count += 1
        self._move_on(now_ns)
        return self.callback

    def _move_on(self, now_ns: int) -> None:
        passed = grid.next_slot(self._epoch_ns, self.period_ns, self._slot, now_ns) - self._slot - 1
        match self._missed:
            case "skip":
                lost = passed
            case "burst":
                lost = max(0, passed - self._burst)
            case "delay":
                lost = 0
                if passed:
                    self._missed_count += passed
                    self._epoch_ns = now_ns - self._slot * self.period_ns
        self._missed_count += lost
        self._slot += lost + 1
        self.due_ns = self._epoch_ns + self._slot * self.period_ns


class Firing(NamedTuple):
    """One call that is to be made. `due_ns` is when it was due: a periodic deadline has moved on already."""

    deadline: Deadline
    callback: Callback
    due_ns: int


class Deadlines:
    """All deadlines of one clock."""

    def __init__(self) -> None:
        self.pending = 0
        self.cancelled_count = 0
        self._numbers = itertools.count()
        self._heap: list[_Entry] = []
        # Of a round: until when it goes, and what has joined it too late; that comes before all else in the next.
        self._until_ns: float = -math.inf
        self._left: list[_Entry] = []
        self._joined: list[_Entry] = []
        self._dead = 0

    def __len__(self) -> int:
        """How many entries there are, dead ones included."""
        return len(self._heap) + len(self._left) + len(self._joined)

    def insert(self, deadline: Deadline) -> None:
        entry = (deadline.due_ns, next(self._numbers), deadline)
        heapq.heappush(self._joined if deadline.due_ns <= self._until_ns else self._heap, entry)
        self.pending += 1

    def cancel(self, deadline: Deadline) -> bool:
        """Call a deadline off; the answer is whether that has prevented a call."""
        deadline.cancelled = True
        if deadline.callback is None:
            return False
        deadline.callback = None
        self.pending -= 1
        self.cancelled_count += 1
        self._dead += 1
        if self._dead > _FEW_DEAD and self._dead > self.pending:
            self._sweep()
        return True

    def take(self, now_ns: int) -> Firing | None:
        """The next of this round, which begins with the first; None, and the round is over."""
        if self._until_ns == -math.inf:
            self._until_ns = now_ns
        deadline = self._pop()
        if deadline is None:
            self._until_ns = -math.inf
            self._left, self._joined = self._joined, self._left
            return None
        due_ns = deadline.due_ns
        callback = deadline.fire(now_ns)
        self.pending -= 1
        if deadline.callback is not None:
            self.insert(deadline)
        return Firing(deadline, callback, due_ns)

    def _pop(self) -> Deadline | None:
        """The next that is alive and of this round."""
        left, heap = self._left, self._heap
        while True:
            first = left if left and (not heap or left[0] < heap[0]) else heap
            if not first or first[0][0] > self._until_ns:
                return None
            deadline = heapq.heappop(first)[2]
            if deadline.callback is not None:
                return deadline
            self._dead -= 1

    def next_ns(self) -> int | None:
        """When the next one is due; None when there is none."""
        least_ns = None
        for heap in (self._heap, self._left, self._joined):
            while heap and heap[0][2].callback is None:
                heapq.heappop(heap)
                self._dead -= 1
            if heap and (least_ns is None or heap[0][0] < least_ns):
                least_ns = heap[0][0]
        return least_ns

    def drop(self) -> list[Callback]:
        """Forget everything; the answer is what will not be called now."""
        entries = [*self._heap, *self._left, *self._joined]
        dropped = [deadline.callback for _, _, deadline in entries if deadline.callback is not None]
        for _, _, deadline in entries:
            deadline.callback = None
        for heap in (self._heap, self._left, self._joined):
            heap.clear()
        self.pending = self._dead = 0
        self._until_ns = -math.inf
        return dropped

    def _sweep(self) -> None:
        for heap in (self._heap, self._left, self._joined):
            heap[:] = [entry for entry in heap if entry[2].callback is not None]
            heapq.heapify(heap)
        self._dead = 0


def ns_rounded_up(seconds: float) -> int:
    """The least whole nanoseconds that are no fewer seconds, so that nothing is early: 1.1 is 1,100,000,000."""
    ns = round(seconds * 1e9)
    return ns if ns / 1e9 >= seconds else ns + 1
