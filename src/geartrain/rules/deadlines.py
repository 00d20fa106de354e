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
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from geartrain.rules import grid

Callback = Callable[[], object]
Missed = Literal["skip", "burst", "delay"]
MISSED: tuple[Missed, ...] = ("skip", "burst", "delay")

# So many dead entries are left where they are, whatever else there is.
_FEW_DEAD = 64

# Of an entry: enough numbers for a million insertions per second, eight years long.
_NUMBER_BITS = 48
# Later than any entry, and earlier than any.
_NOWHERE = 1 << 200
_NO_ROUND = -_NOWHERE


class Home(Protocol):
    """Where a deadline can be called off."""

    def cancel(self, deadline: "Deadline") -> bool: ...


class Deadline:
    """Something that is to be called once. It lets go of its callback when it has fired or is cancelled."""

    __slots__ = ("_home", "callback", "cancelled", "due_ns", "entry", "fired", "name")

    def __init__(self, home: Home, due_ns: int, callback: Callback, name: str = "") -> None:
        self._home = home
        self.due_ns = due_ns
        self.callback: Callback | None = callback
        self.name = name
        # Where it lies in the heap.
        self.entry = _NOWHERE
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
    """All deadlines of one clock.

    An entry of the heap is one whole number, the due time above and the number of the insertion below, and the deadline
    is found by it: nothing of a cancelled one stays, and the collector of garbage has nothing to look at.
    """

    def __init__(self) -> None:
        self.cancelled_count = 0
        self._alive: dict[int, Deadline] = {}
        self._numbers = itertools.count()
        self._heap: list[int] = []
        # Of a round: before which entry it ends, and what has joined it too late; that is left for the next.
        self._before = _NO_ROUND
        self._left: list[int] = []
        self._joined: list[int] = []

    def __len__(self) -> int:
        """How many entries there are, dead ones included."""
        return len(self._heap) + len(self._left) + len(self._joined)

    @property
    def pending(self) -> int:
        """How many deadlines are still to fire."""
        return len(self._alive)

    def insert(self, deadline: Deadline) -> None:
        entry = deadline.entry = (deadline.due_ns << _NUMBER_BITS) + next(self._numbers)
        self._alive[entry] = deadline
        heapq.heappush(self._joined if entry < self._before else self._heap, entry)

    def cancel(self, deadline: Deadline) -> bool:
        """Call a deadline off; the answer is whether that has prevented a call."""
        deadline.cancelled = True
        if self._alive.get(deadline.entry) is not deadline:
            return False
        del self._alive[deadline.entry]
        deadline.callback = None
        self.cancelled_count += 1
        dead = len(self._heap) + len(self._left) + len(self._joined) - len(self._alive)
        if dead > _FEW_DEAD and dead > len(self._alive):
            self._sweep()
        return True

    def take(self, now_ns: int) -> Firing | None:
        """The next of this round, which begins with the first; None, and the round is over."""
        if self._before == _NO_ROUND:
            self._before = (now_ns + 1) << _NUMBER_BITS
        deadline = self._pop()
        if deadline is None:
            self._before = _NO_ROUND
            self._left, self._joined = self._joined, self._left
            return None
        due_ns = deadline.due_ns
        callback = deadline.fire(now_ns)
        if deadline.callback is not None:
            self.insert(deadline)
        return Firing(deadline, callback, due_ns)

    def _pop(self) -> Deadline | None:
        """The next that is alive and of this round."""
        left, heap = self._left, self._heap
        while True:
            first = left if left and (not heap or left[0] < heap[0]) else heap
            if not first or first[0] >= self._before:
                return None
            deadline = self._alive.pop(heapq.heappop(first), None)
            if deadline is not None:
                return deadline

    def next_ns(self) -> int | None:
        """When the next one is due; None when there is none."""
        least = None
        for heap in (self._heap, self._left, self._joined):
            while heap and heap[0] not in self._alive:
                heapq.heappop(heap)
            if heap and (least is None or heap[0] < least):
                least = heap[0]
        return None if least is None else least >> _NUMBER_BITS

    def drop(self) -> list[Callback]:
        """Forget everything; the answer is what will not be called now."""
        dropped = [deadline.callback for deadline in self._alive.values() if deadline.callback is not None]
        for deadline in self._alive.values():
            deadline.callback = None
        for entries in (self._alive, self._heap, self._left, self._joined):
            entries.clear()
        self._before = _NO_ROUND
        return dropped

    def _sweep(self) -> None:
        for heap in (self._heap, self._left, self._joined):
            heap[:] = [entry for entry in heap if entry in self._alive]
            heapq.heapify(heap)


def ns_rounded_up(seconds: float) -> int:
    """The least whole nanoseconds that are no fewer seconds, so that nothing is early: 1.1 is 1,100,000,000."""
    ns = round(seconds * 1e9)
    return ns if ns / 1e9 >= seconds else ns + 1
