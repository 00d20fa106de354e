"""Virtual time with microsteps: what a daemon says in one of them is heard by the others in the next.

    (t, 0)     the timers of t                    whoever is awake acts; what it says to others is put by
    (t, 1)     what was said in (t, 0) is heard   first all of it, in one order; then whoever it lets go on
    ...
    (t', 0)    nothing is left to hear at t       t' is when the next timer is due

In a microstep everybody acts on the same past, whatever the order. So it does not matter in which order a loop runs its
tasks, nor in which process a daemon lives. Within a daemon the order is said here:

    0 inside   its own events, first steps of its child tasks, cancelled waits on their way out
    1 heard    waits that an effect has satisfied
    2 due      timers, timeouts, sleeps of no length
    3 home     worker threads that have finished

and within each of them by the name of the daemon and the number of the wait, counted for each daemon by itself.
"""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from geartrain.errors import NotInUse
from geartrain.rules.effects import Effect, Said
from geartrain.rules.timestep import Drive, Number, Timeline, Waiter

INSIDE, HEARD, DUE, HOME = range(4)

# So many microsteps in one instant are no work any more: nobody lets time pass.
LIMIT = 100_000

# For so many microsteps before the limit it is written down who is awake.
_LOOKED_AT = 16

Apply = Callable[[Said], None]


class _TheLoop:
    """Whoever waits for a timer of the loop is let go on by the loop."""

    def release(self) -> bool:
        return True


THE_LOOP = _TheLoop()


class Numbered(Waiter, Protocol):
    """Somebody who waits, and the number its wait was given."""

    @property
    def number(self) -> Number: ...


class Microsteps:
    """Who runs next, once the loop is quiet; used as `timestep.Agenda` is, for the one clock of its loop."""

    def __init__(self, timeline: Timeline, limit: int = LIMIT) -> None:
        self.timeline = timeline
        self.k = 0
        self._limit = limit
        self._last = limit
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._ties = itertools.count()
        self._ready: list[tuple[int, Number, int, Waiter]] = []
        self._resting: list[Numbered] = []
        self._effects: list[tuple[Effect, Apply]] = []
        self._is_applying = False
        self._drives: list[Drive] = []
        self._awake: set[str] = set()
        # When the loop itself has something to do next, as an `anyio.sleep` that ends then.
        self.loop_due_ns: int | None = None

    def number(self, daemon: str = "") -> tuple[str, int]:
        """A wait takes its number when it begins. One daemon's do not depend on how many others there are."""
        self._counts[daemon] += 1
        return daemon, self._counts[daemon]

    # -- what happens in a microstep -------------------------------------------------------------------------------

    def wake(self, waiter: Numbered) -> None:
        """It goes on in this microstep: somebody of its own daemon, or an effect that is just applied, let it."""
        self._put(HEARD if self._is_applying else INSIDE, waiter.number, waiter)

    def leave(self, number: Number, waiter: Waiter) -> None:
        """A cancelled wait goes out in the turn of its number: both loops cancel in an order of their own."""
        self._put(INSIDE, number, waiter)

    def rest(self, waiter: Numbered) -> None:
        """A sleep of no length: it goes on in the next microstep."""
        self._resting.append(waiter)

    def come_home(self, waiter: Numbered) -> None:
        """A worker thread has finished: who waits for it goes on when all others have."""
        self._put(HOME, waiter.number, waiter)

    def post(self, effect: Effect, apply: Apply) -> None:
        """Put by what an end has said, to be heard at the other in the next microstep."""
        self._effects.append((effect, apply))

    def _put(self, kind: int, number: Number, waiter: Waiter) -> None:
        heapq.heappush(self._ready, (kind, number, next(self._ties), waiter))

    # -- drivers ---------------------------------------------------------------------------------------------------

    def drive(self, timeline: Timeline, until_ns: int | None, waiter: Waiter) -> Drive:
        if timeline is not self.timeline:
            raise NotInUse("this loop runs on a SimClock with microsteps, and another clock cannot be driven beside it")
        drive = Drive(timeline, until_ns, waiter)
        self._drives.append(drive)
        return drive

    def give_up(self, drive: Drive) -> None:
        """The driver was cancelled: its clock stays where it is."""
        if drive in self._drives:
            self._drives.remove(drive)

    @property
    def driven(self) -> bool:
        """Whether there may be something to do without anybody being woken first."""
        return bool(self._drives or self._effects or self._resting)

    # -- who is next -----------------------------------------------------------------------------------------------

    def next(self, *, time_may_pass: bool, loop_due_ns: int | None = None) -> Waiter | None:
        """The one to release now, or None when there is nobody, or this microstep must stay open.

        Where nothing is due before the loop itself has something to do, time passes to that, and it is `THE_LOOP`.
        """
        self.loop_due_ns = loop_due_ns
        while True:
            waiter = self._next_here()
            if waiter is not None or not time_may_pass or self.timeline.holds:
                return waiter
            if self._effects or self._resting:
                if self.k < self._last:
                    self._begin_next()
                    continue
                return self._arrive_in_vain()
            if not self._drives:
                return None
            arrived = self._pass_time()
            if arrived is not None:
                return arrived

    def _next_here(self) -> Waiter | None:
        """The least of those who are ready and the timers due now."""
        timer = self.timeline.first()
        if timer is not None and timer[0] <= self.timeline.now_ns:
            turn = (DUE, timer[1])
            if not self._ready or turn < self._ready[0][:2]:
                self._note_awake(timer[1])
                return self.timeline.advance(self.timeline.now_ns)
        if not self._ready:
            return None
        _, number, _, waiter = heapq.heappop(self._ready)
        self._note_awake(number)
        return waiter

    def _begin_next(self) -> None:
        self.k += 1
        effects, self._effects = self._effects, []
        resting, self._resting = self._resting, []
        self._is_applying = True
        for effect, apply in sorted(effects, key=lambda posted: posted[0].turn):
            apply(effect.said)
        self._is_applying = False
        for waiter in resting:
            self._put(DUE, waiter.number, waiter)

    def _pass_time(self) -> Waiter | None:
        """Move to the next timer, or let the driver go on whose target comes first."""
        drive = min(self._drives, key=lambda drive: (drive.until_ns is None, drive.until_ns or 0))
        timer = self.timeline.first()
        due_ns = self.loop_due_ns
        if due_ns is not None and (timer is None or due_ns < timer[0]):
            if drive.until_ns is None or due_ns <= drive.until_ns:
                self._move_to(due_ns)
                return THE_LOOP
        elif timer is not None and (drive.until_ns is None or timer[0] <= drive.until_ns):
            self._move_to(timer[0])
            return None
        if drive.until_ns is not None:
            self._move_to(drive.until_ns)
        self._drives.remove(drive)
        return drive.waiter

    def _move_to(self, due_ns: int) -> None:
        if due_ns > self.timeline.now_ns:
            self.timeline.now_ns = due_ns
            self.k = 0
            self._last = self._limit
            self._awake.clear()

    # -- livelock --------------------------------------------------------------------------------------------------

    def _note_awake(self, number: Number) -> None:
        if self.k > self._last - _LOOKED_AT and isinstance(number, tuple) and number[0]:
            self._awake.add(number[0])

    def _arrive_in_vain(self) -> Waiter | None:
        """The youngest driver is told who is awake. To clean up there are as many microsteps again."""
        if not self._drives:
            return None
        drive = self._drives.pop()
        drive.livelock = tuple(sorted(self._awake))
        self._last += self._limit
        self._awake.clear()
        return drive.waiter
