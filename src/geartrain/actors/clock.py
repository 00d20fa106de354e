"""The clock of a pipeline: keeps the deadlines of all daemons, and watches the channels that must not go stale.

    daemons    Schedule, Cancel  ---->  one desk for each client  ---->  one scheduler on one timer
               Rang              <----

Deadlines are kept here and remembered by those who set them: a clock that is started again says hello, and is told what
is pending. So it may die at any moment; what was due meanwhile fires late, and is counted. It ends when it is stopped,
and keeps nobody alive.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import NoReturn

import anyio
import anyio.abc

from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.deadlines import ClockClient
from geartrain.engine.in_turn import start_in_turn
from geartrain.engine.options import new_number
from geartrain.engine.planes import PlaneBoard, WatchedPlane
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
    PlaneChange,
    Rang,
    Schedule,
    Told,
    rang,
    together,
)
from geartrain.rules.deadlines import Deadline
from geartrain.rules.planes import PlaneSnapshot

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
        self,
        client: ClockClient,
        clock: Clock,
        scheduler: DeadlineScheduler,
        *,
        life: int,
        board: PlaneBoard,
        dropped: Dropped,
    ) -> None:
        self._wants_planes = False
        # Whether what is still untold is all that will be told.
        self._is_over = False
        self._board = board
        self._dropped = dropped
        self._client = client
        self._clock = clock
        self._scheduler = scheduler
        self._hello = Hello(life)
        self._life = 0
        # The life whose pending deadlines are all here.
        self._begun: int | None = None
        self._has_begun = Signal("what a daemon has pending")
        self._pending: dict[int, Deadline] = {}
        # By what they are about: of what nobody takes, only the last word is kept.
        self._untold: dict[object, Told] = {}
        self._news = Bell()
        # Whether `hand_over` waits for room: one writes to a channel at a time.
        self._waits_for_room = False

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
            case Begin():
                # The answer to a second hello says nothing that has not been said.
                if asked.life != self._begun:
                    self._begin(asked)
            case Schedule(_, appointment):
                self._set(appointment)
            case Cancel(_, number):
                if (deadline := self._pending.pop(number, None)) is not None:
                    deadline.cancel()
                    self._dropped.cancelled += 1

    def _begin(self, word: Begin) -> None:
        self._begun = word.life
        self._has_begun.set()
        self._forget()
        for appointment in word.pending:
            self._set(appointment)
        self._wants_planes = word.wants_planes
        for plane in self._board:
            now_ns = self._clock.now_ns()
            self.tell_plane(_change(plane.snapshot(now_ns), now_ns))
        self.end_if_over()

    def _set(self, appointment: Appointment) -> None:
        fire, name = partial(self._fire, appointment), appointment.name or self._client.name
        self._pending[appointment.number] = self._scheduler.schedule_at(appointment.due_ns, fire, name=name)

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
        if not self._untold and not self._waits_for_room:
            try:
                self._client.tells.send_nowait(word)
                return
            except WouldBlock:
                pass
            except (ChannelClosed, PeerLost):
                return
        self._untold[about] = word
        self._news.ring()

    def tell_plane(self, change: PlaneChange) -> None:
        if self._wants_planes:
            self.tell(change.channel, change)

    def end_if_over(self) -> None:
        """When no plane is expected to tick any more, there is nothing left to tell of them."""
        if self._wants_planes and all(plane.is_over for plane in self._board):
            self._is_over = True
            self._news.ring()

    async def hand_over(self) -> None:
        """Tell what there was no room for."""
        try:
            while True:
                while self._untold:
                    await self._wait_room()
                    # What was untold may concern nobody any more.
                    if self._untold:
                        self._client.tells.send_nowait(self._untold.pop(next(iter(self._untold))))
                if self._is_over:
                    await self._client.tells.aclose()
                    return
                await self._news.wait()
        except GeartrainError:
            # Nobody is there any more who could be told.
            self._untold.clear()

    async def _wait_room(self) -> None:
        self._waits_for_room = True
        try:
            await self._client.tells.wait_room()
        finally:
            self._waits_for_room = False

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
    """The clock of a pipeline. `clients` are those who take `Deadlines` or `Planes`; the pipeline connects them.

    It watches the channels with `stale_after`, which are on the `board`.
    """

    def __init__(self, clients: list[ClockClient] | None = None, board: PlaneBoard | None = None) -> None:
        self.clients = clients or []
        self.board = board or PlaneBoard([])

    async def run(self, ctx: Context) -> None:
        life = new_number()
        dropped = Dropped()

        def give_up(_: Deadline, error: Exception) -> None:
            # A deadline that could not be told would be lost; the next life is told of it again.
            tasks.start_soon(_raise, error)

        scheduling = DeadlineScheduler(clock=ctx.clock, on_error=give_up)
        async with scheduling as scheduler, anyio.create_task_group() as tasks:
            new_desk = partial(Desk, clock=ctx.clock, scheduler=scheduler, life=life, board=self.board, dropped=dropped)
            desks = [new_desk(client) for client in self.clients]
            for desk in desks:
                desk.look()
                for work in (desk.serve, desk.hand_over, desk.greet):
                    start_in_turn(tasks, work)
            for plane in self.board:
                start_in_turn(tasks, _watch, plane, ctx, desks)
            await ctx.stop_event.wait()
            # What is pending is dropped, and the streams of the others end.
            tasks.cancel_scope.cancel()
        for client in self.clients:
            await client.tells.aclose()
        ctx.logger.info("%s", _summary(scheduler, dropped))


async def _raise(error: Exception) -> NoReturn:
    raise error


async def _watch(plane: WatchedPlane, ctx: Context, desks: Sequence[Desk]) -> None:
    """Tell whoever wants to hear of it when a plane goes stale, and when it is fresh again."""
    stale_since_ns: int | None = None
    now_ns = ctx.clock.now_ns()
    while True:
        known = plane.snapshot(now_ns)
        change = _change(known, now_ns)
        if change.stale and stale_since_ns is None:
            stale_since_ns = now_ns
            ctx.logger.warning("channel %r is stale: nothing has come for %.3g s", plane.name, change.age_ns / 1e9)
            _tell_all(desks, change)
        elif not change.stale and stale_since_ns is not None:
            how = "over" if known.is_over else "fresh again"
            ctx.logger.warning("channel %r is %s after %.3g s", plane.name, how, (now_ns - stale_since_ns) / 1e9)
            stale_since_ns = None
            _tell_all(desks, change)
        if known.is_over:
            for desk in desks:
                desk.end_if_over()
        await plane.changed(ctx.clock, known)
        now_ns = ctx.clock.now_ns()


def _tell_all(desks: Sequence[Desk], change: PlaneChange) -> None:
    for desk in desks:
        desk.tell_plane(change)


def _change(now: PlaneSnapshot, now_ns: int) -> PlaneChange:
    return PlaneChange(now.name, now.stale, now.age_ns, now_ns, now.seq)


def _summary(scheduler: DeadlineScheduler, dropped: Dropped) -> str:
    counted = (
        f"{scheduler.fired_count} deadlines fired, {scheduler.late_count} of them late; {dropped.cancelled} cancelled, "
        f"{dropped.forgotten} dropped with those who had set them, {scheduler.dropped_count} still pending"
    )
    return f"{counted}\n{scheduler.lateness.report()}" if scheduler.fired_count else counted
