"""The clock of a pipeline: keeps the deadlines of all daemons, and watches the channels that must not go stale.

    daemons    Schedule, Cancel  ---->  one desk for each client  ---->  one scheduler on one timer
               Rang              <----

Deadlines are kept here and remembered by those who set them: a clock that is started again says hello, and is told what
is pending. So it may die at any moment; what was due meanwhile fires late, and is counted. It ends when it is stopped,
and keeps nobody alive.
"""

from contextlib import suppress
from functools import partial

import anyio
import anyio.abc

from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.deadlines import ClockClient
from geartrain.engine.in_turn import start_in_turn
from geartrain.engine.options import new_number
from geartrain.engine.scheduler import DeadlineScheduler
from geartrain.engine.signal import Bell, Signal
from geartrain.errors import ChannelClosed, GeartrainError, PeerLost, WouldBlock
from geartrain.ports.clock import Clock
from geartrain.rules.appointments import (
    Appointment,
    Asked,
    Begin,
    Cancel,
    Hello,
    Rang,
    Schedule,
    Told,
    rang,
    together,
)
from geartrain.rules.deadlines import Deadline

# A daemon that had no room to answer a hello gets another after this.
_HELLO_S = 0.1


class Dropped:
    """What did not fire, of all clients."""

    def __init__(self) -> None:
        self.cancelled = 0
        # With the life of the daemon that had set them.
        self.forgotten = 0


class Desk:
    """Where one client is served: what it has pending, and what it has no room to be told of yet."""

    def __init__(
        self, client: ClockClient, clock: Clock, scheduler: DeadlineScheduler, life: int, dropped: Dropped
    ) -> None:
        self.wants_planes = False
        self._dropped = dropped
        self._client = client
        self._clock = clock
        self._scheduler = scheduler
        self._hello = Hello(life)
        self._life = 0
        self._has_begun = Signal("what a daemon has pending")
        self._pending: dict[int, Deadline] = {}
        # By what they are about: of what nobody takes, only the last word is kept.
        self._untold: dict[object, Told] = {}
        self._news = Bell()

    def __repr__(self) -> str:
        return f"<desk of {self._client.name!r}, {len(self._pending)} pending>"

    # -- what it asks

    def look(self) -> None:
        """Hear what has been asked already."""
        with suppress(GeartrainError):
            while self._client.asks.has_item():
                self._hear(self._client.asks.receive_nowait())

    async def serve(self) -> None:
        """Until the client has closed, or is gone."""
        try:
            async for asked in self._client.asks:
                self._hear(asked)
        except GeartrainError:
            # It will never ask again, and what it had asked for concerns nobody.
            pass
        self._has_begun.set()
        self._dropped.forgotten += len(self._pending)
        self._forget()
        await self._client.tells.aclose()

    def _hear(self, asked: Asked) -> None:
        if asked.life != self._life:
            self._life = asked.life
            self._dropped.forgotten += len(self._pending)
            self._forget()
        match asked:
            case Begin(_, pending, wants_planes):
                self._has_begun.set()
                self._forget()
                self.wants_planes = wants_planes
                for appointment in pending:
                    self._set(appointment)
            case Schedule(_, appointment):
                self._set(appointment)
            case Cancel(_, number):
                if (deadline := self._pending.pop(number, None)) is not None:
                    deadline.cancel()
                    self._dropped.cancelled += 1

    def _set(self, appointment: Appointment) -> None:
        fire = partial(self._fire, appointment)
        self._pending[appointment.number] = self._scheduler.schedule_at(appointment.due_ns, fire, name=appointment.name)

    def _forget(self) -> None:
        for deadline in self._pending.values():
            deadline.cancel()
        self._pending.clear()
        self._untold.clear()

    # -- what it is told

    def _fire(self, appointment: Appointment) -> None:
        now_ns = self._clock.now_ns()
        word, left = rang(self._life, appointment, now_ns)
        del self._pending[appointment.number]
        if left is not None:
            self._set(left)
        untold = self._untold.get(word.number)
        self.tell(word.number, together(untold, word) if isinstance(untold, Rang) else word)

    def tell(self, about: object, word: Told) -> None:
        """Now, or when there is room. Never waits."""
        if not self._untold:
            try:
                self._client.tells.send_nowait(word)
                return
            except WouldBlock:
                pass
            except (ChannelClosed, PeerLost):
                return
        self._untold[about] = word
        self._news.ring()

    async def hand_over(self) -> None:
        """Tell what there was no room for."""
        try:
            while True:
                while self._untold:
                    await self._client.tells.wait_room()
                    if self._untold:
                        self._client.tells.send_nowait(self._untold.pop(next(iter(self._untold))))
                await self._news.wait()
        except GeartrainError:
            # Nobody is there any more who could be told.
            self._untold.clear()

    async def greet(self) -> None:
        """Say that this is a new clock, until the client has told what is pending. Who begins too does so by itself."""
        try:
            while not self._has_begun.is_set():
                self.tell("hello", self._hello)
                await self._client.tells.drain()
                with self._clock.move_on_after(_HELLO_S):
                    await self._has_begun.wait()
        except GeartrainError:
            return


class ReactorClock(Daemon):
    """The clock of a pipeline. `clients` are those who take `Deadlines` or `Planes`; the pipeline connects them."""

    def __init__(self, clients: list[ClockClient] | None = None) -> None:
        self.clients = clients or []

    async def run(self, ctx: Context) -> None:
        life = new_number()
        dropped = Dropped()
        async with DeadlineScheduler(clock=ctx.clock) as scheduler, anyio.create_task_group() as tasks:
            desks = [Desk(client, ctx.clock, scheduler, life, dropped) for client in self.clients]
            for desk in desks:
                desk.look()
                for work in (desk.serve, desk.hand_over, desk.greet):
                    start_in_turn(tasks, work)
            await ctx.stop_event.wait()
            # What is pending is dropped, and the streams of the others end.
            tasks.cancel_scope.cancel()
        for client in self.clients:
            await client.tells.aclose()
        ctx.logger.info("%s", _summary(scheduler, dropped))


def _summary(scheduler: DeadlineScheduler, dropped: Dropped) -> str:
    counted = (
        f"{scheduler.fired_count} deadlines fired, {scheduler.late_count} of them late; {dropped.cancelled} cancelled, "
        f"{dropped.forgotten} dropped with those who had set them"
    )
    return f"{counted}\n{scheduler.lateness.report()}" if scheduler.fired_count else counted
