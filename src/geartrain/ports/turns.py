"""How a task waits, on either loop, and how waiting tasks take turns under virtual time.

In real time a wait is a bare park: whoever wakes it, wakes it at once. As soon as a `SimClock` is at work on a
loop, every wait of geartrain on that loop takes turns instead: a wake-up only joins the agenda, and when the loop
is quiet the agenda releases one. What is woken, and in which order, is then the same on every loop and every run.

    a task                          Turns (one per loop)              the loop
    wait = park(subject)
    await wait.wait()  ------.
    ...                      |      agenda.wake(wait) <------------   another task: wait.wake()
                             `----  step(): release one  <---------   quiet

How a loop knows that it is quiet is the business of `on_asyncio` and `on_trio`. A `SimClock` with microsteps brings an
agenda of its own along.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol

import anyio
import anyio.to_thread

from geartrain.errors import NotInUse
from geartrain.rules.deadlock import Waiting
from geartrain.rules.effects import Effect
from geartrain.rules.microsteps import Apply, Microsteps
from geartrain.rules.timestep import Agenda, Number

_log = logging.getLogger("geartrain.turns")

# How often a loop may go round without being quiet before it is called restless: a fraction of a second of rounds in
# which nobody ever waits. Work that merely takes long goes round seldom.
RESTLESS = 50_000


class Owner(Protocol):
    """Whose wait it is: the daemon at work in this task."""

    @property
    def name(self) -> str: ...

    @property
    def finished(self) -> bool: ...


class Subject(Protocol):
    """What is waited for."""

    def waiting_for(self, owner: Owner) -> Waiting: ...


current_owner: ContextVar[Owner | None] = ContextVar("geartrain_owner", default=None)


class Wait(ABC):
    """One task, parked until somebody wakes it. Made by `park`, used once."""

    __slots__ = ("__weakref__", "_turns", "_woken", "number", "owner", "subject")

    def __init__(self, turns: "Turns | None", subject: Subject | None, number: Number | None = None) -> None:
        """With a number it is the way out of the wait that had this number."""
        self._turns = turns
        self._woken = False
        if turns is not None:
            self.subject = subject
            self.number: Number = turns.number() if number is None else number
            self.owner = current_owner.get()

    @abstractmethod
    def release(self) -> bool:
        """Let the task go on; False when it has already left."""

    @abstractmethod
    async def _park(self) -> None: ...

    @abstractmethod
    def _another(self) -> "Wait":
        """A wait like this one."""

    def wake(self) -> None:
        """Let the task go on: now, or when its turn comes. To wake twice is to wake once."""
        if self._woken:
            return
        self._woken = True
        if self._turns is None:
            self.release()
        else:
            self._turns.wake(self)

    async def rest(self) -> None:
        """A sleep of no length, under turns."""
        assert self._turns is not None
        self._woken = True
        self._turns.rest(self)
        await self.wait()

    async def wait(self) -> None:
        """Return when woken. Cancelled, it did nothing, and leaves in the turn of its number."""
        turns = self._turns
        if turns is None:
            await self._park()
            return
        turns.waits[self] = None
        try:
            await self._park()
        except anyio.get_cancelled_exc_class():
            await self._leave(turns)
            raise
        finally:
            del turns.waits[self]

    async def _leave(self, turns: "Turns") -> None:
        way_out = self._another()
        turns.leave(self.number, way_out)
        with anyio.CancelScope(shield=True):
            await way_out._park()


class Turns:
    """The agenda of one loop, and what it needs to know of the loop to work it off."""

    def __init__(self, arm: "Callable[[Turns], None]") -> None:
        self.agenda: Agenda | Microsteps = Agenda()
        self.waits: dict[Wait, None] = {}
        self._arm = arm
        self._rounds = 0
        self._warned = False
        self._threads = anyio.to_thread.current_default_thread_limiter()

    def adopt(self, microsteps: Microsteps) -> None:
        """From now on the waits of this loop take turns within microsteps."""
        if self.agenda is microsteps:
            return
        if self.waits or self.agenda.driven or isinstance(self.agenda, Microsteps):
            raise NotInUse(
                "virtual time is at work on this loop already, and a SimClock with microsteps must be the only one: "
                "make it first of all, and give it to all who need a clock"
            )
        self.agenda = microsteps

    def number(self) -> Number:
        owner = current_owner.get()
        return self.agenda.number("" if owner is None else owner.name)

    def wake(self, wait: Wait) -> None:
        self.agenda.wake(wait)
        self._arm(self)

    def rest(self, wait: Wait) -> None:
        self.agenda.rest(wait)
        self._arm(self)

    def post(self, effect: Effect, apply: Apply) -> None:
        """Say something to the other end of a channel, to be heard in the next microstep."""
        assert isinstance(self.agenda, Microsteps)
        self.agenda.post(effect, apply)
        self._arm(self)

    def leave(self, number: Number, wait: Wait) -> None:
        self.agenda.leave(number, wait)
        self._arm(self)

    def arm(self) -> None:
        """Something has changed that lets the agenda go on: a driver, the end of a hold."""
        self._arm(self)

    @property
    def threads_at_work(self) -> bool:
        """Whether time must wait for work in `anyio.to_thread`."""
        return self._threads.borrowed_tokens > 0

    @property
    def microsteps(self) -> Microsteps | None:
        """With microsteps the timers of the loop are of virtual time too."""
        return self.agenda if isinstance(self.agenda, Microsteps) else None

    def step(self, loop_due_ns: int | None = None) -> bool:
        """The loop is quiet: release one waiter. False when nobody may go on.

        With microsteps virtual time passes no further than to `loop_due_ns`, where the loop has something to do.
        """
        self._rounds = 0
        return self._release_next(time_may_pass=not self.threads_at_work, loop_due_ns=loop_due_ns)

    def another_round(self) -> None:
        """The loop goes round, and is not quiet.

        Somebody may poll for what only another turn can bring. So that this is no silent hang, a restless loop
        releases a waiter now and then; but time stands still until it is quiet.
        """
        self._rounds += 1
        if self._rounds < RESTLESS:
            return
        self._rounds = 0
        if not self._warned and (self.agenda.driven or self.waits):
            self._warned = True
            _log.warning(
                "a task goes round and round without waiting for anything, so virtual time stands still; "
                "where it polls with a checkpoint or anyio.sleep(0), let it `await clock.sleep(0)` or wait for an event"
            )
        self._release_next(time_may_pass=False)

    def _release_next(self, *, time_may_pass: bool, loop_due_ns: int | None = None) -> bool:
        while (waiter := self.agenda.next(time_may_pass=time_may_pass, loop_due_ns=loop_due_ns)) is not None:
            if waiter.release():
                return True
        return False
