"""Virtual time: what is due, and who runs next.

Everybody who waits has a place here. Whenever the loop is quiet, exactly one of them goes on, and
the loop runs until it is quiet again. Because the choice depends on nothing but the order in which
things were asked for, two runs, or two loops, choose alike.

    leaving   a cancelled wait on its way out         least number first
    ready     a wait that was woken                   first come, first served
    due       a timer of the clock that is driven     least (due, number) first; time moves to it
    arrived   nothing is due before the target        the driver goes on
"""

import heapq
import itertools
from collections import deque
from typing import Protocol

# What orders waits: counted over all of them, or, with microsteps, for each daemon.
Number = int | tuple[str, int]


class Waiter(Protocol):
    """Somebody who waits. `release` lets it go on; False says that it has already left."""

    def release(self) -> bool: ...


class Timer:
    """One entry of a timeline. A cancelled one stays in the heap, without a waiter, until it surfaces."""

    __slots__ = ("waiter",)

    def __init__(self, waiter: Waiter) -> None:
        self.waiter: Waiter | None = waiter


class Timeline:
    """The future of one clock, in the order (due, number)."""

    __slots__ = ("_cancelled", "_heap", "holds", "now_ns")

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self.holds = 0
        self._heap: list[tuple[int, Number, Timer]] = []
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def add(self, due_ns: int, number: Number, waiter: Waiter) -> Timer:
        """`number` is unique, and orders what is due at the same time."""
        timer = Timer(waiter)
        heapq.heappush(self._heap, (due_ns, number, timer))
        return timer

    def cancel(self, timer: Timer) -> None:
        """Forget a timer; one that has fired or was cancelled before is left as it is."""
        if timer.waiter is None:
            return
        timer.waiter = None
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].waiter is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_ns(self) -> int | None:
        """When there may be somebody to wake, at the earliest; None when there is nobody."""
        return self._heap[0][0] if self._heap else None

    def first(self) -> tuple[int, Number] | None:
        """When the next timer is due, and its number; None when there is none."""
        while self._heap and self._heap[0][2].waiter is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][:2] if self._heap else None

    def advance(self, until_ns: int | None) -> Waiter | None:
        """Move to the next timer due at or before `until_ns` (None: any) and take it out.

        With none left, time moves to `until_ns` itself and there is nobody to wake.
        """
        while self._heap:
            due_ns, _, timer = self._heap[0]
            waiter = timer.waiter
            if waiter is not None and until_ns is not None and due_ns > until_ns:
                break
            heapq.heappop(self._heap)
            if waiter is None:
                self._cancelled -= 1
                continue
            self.now_ns = max(self.now_ns, due_ns)
            timer.waiter = None
            return waiter
        if until_ns is not None:
            self.now_ns = max(self.now_ns, until_ns)
        return None


class Drive:
    """Somebody lets a timeline run until a target (None: until nothing is due), and waits for that."""

    __slots__ = ("livelock", "timeline", "until_ns", "waiter")

    def __init__(self, timeline: Timeline, until_ns: int | None, waiter: Waiter) -> None:
        self.timeline = timeline
        self.until_ns = until_ns
        self.waiter = waiter
        # Who was awake when it became clear that time would never pass.
        self.livelock: tuple[str, ...] | None = None


class Agenda:
    """Who runs next, once the loop is quiet."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._leaving: list[tuple[Number, Waiter]] = []
        self._ready: deque[Waiter] = deque()
        self._drives: list[Drive] = []

    def number(self, daemon: str = "") -> int:
        """A wait takes its number when it begins; whose it is makes no difference here."""
        return next(self._numbers)

    def wake(self, waiter: Waiter) -> None:
        self._ready.append(waiter)

    def rest(self, waiter: Waiter) -> None:
        """A sleep of no length: whoever is ready goes first."""
        self._ready.append(waiter)

    def leave(self, number: Number, waiter: Waiter) -> None:
        """A cancelled wait goes out in the turn of its number: both loops cancel in an order of their own."""
        heapq.heappush(self._leaving, (number, waiter))

    def drive(self, timeline: Timeline, until_ns: int | None, waiter: Waiter) -> Drive:
        drive = Drive(timeline, until_ns, waiter)
        self._drives.append(drive)
        return drive

    def give_up(self, drive: Drive) -> None:
        """The driver was cancelled: its clock stays where it is."""
        if drive in self._drives:
            self._drives.remove(drive)

    @property
    def driven(self) -> bool:
        return bool(self._drives)

    def next(self, *, time_may_pass: bool, loop_due_ns: int | None = None) -> Waiter | None:
        """The one to release now, or None when there is nobody, or time must stand still.

        What the loop has to do next is of real time here, and means nothing.
        """
        if self._leaving:
            return heapq.heappop(self._leaving)[1]
        if self._ready:
            return self._ready.popleft()
        if not self._drives or not time_may_pass:
            return None
        return self._pass_time()

    def _pass_time(self) -> Waiter | None:
        drive = self._nearest_drive()
        if drive.timeline.holds:
            return None
        waiter = drive.timeline.advance(drive.until_ns)
        if waiter is None:
            self._drives.remove(drive)
            waiter = drive.waiter
        return waiter

    def _nearest_drive(self) -> Drive:
        """The youngest driver's clock comes first: a daemon that drives a clock of its own is busy, not waiting.

        Of several drivers of one clock the one with the least target arrives first.
        """
        if len(self._drives) == 1:
            return self._drives[0]
        timeline = self._drives[-1].timeline
        same = [drive for drive in self._drives if drive.timeline is timeline]
        return min(same, key=lambda drive: (drive.until_ns is None, drive.until_ns or 0))
