"""The clock as a daemon: in virtual time every deadline comes at its moment, to whoever set it."""

import logging
import random
from functools import partial
from typing import Any, Literal

import anyio
import pytest

import geartrain
from geartrain import (
    Appointment,
    ClockClient,
    Context,
    Daemon,
    Deadlines,
    Fired,
    Pipeline,
    Planes,
    ReactorClock,
    ReceiveStream,
    SendStream,
    SimClock,
    Supervisor,
    daemon,
    open_deadlines,
    simulate,
)

Loop = Literal["asyncio", "trio"]
both_loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])

# What the daemons of a test have to tell: at which virtual second, and what.
TOLD: list[tuple[float, str, int]] = []


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    TOLD.clear()


class Setter(Daemon):
    """Sets what it is told to, and tells what comes."""

    def __init__(self, deadlines: Deadlines, *after_s: float, every_s: float | None = None, pause_s: float = 0) -> None:
        self.deadlines = deadlines
        self.after_s = after_s
        self.every_s = every_s
        self.pause_s = pause_s

    async def run(self, ctx: Context) -> None:
        for delay_s in self.after_s:
            await self.deadlines.schedule_after(delay_s, name=f"{delay_s:g}")
        if self.every_s is not None:
            await self.deadlines.schedule_every(self.every_s, name="every")
        await ctx.clock.sleep(self.pause_s)
        async for fired in self.deadlines:
            assert fired.fired_ns >= fired.due_ns
            TOLD.append((ctx.clock.now(), fired.name, fired.missed))


async def served(*setters: tuple[partial[Any], int], for_s: float) -> None:
    """These daemons and a clock, for so much virtual time."""
    clock = SimClock()
    async with Supervisor(clock=clock) as supervisor:
        pairs = [open_deadlines(room, name=f"dog {number}", clock=clock) for number, (_, room) in enumerate(setters)]
        for number, ((make, _), pair) in enumerate(zip(setters, pairs, strict=True)):
            supervisor.add_factory(partial(make, pair.end), name=f"dog {number}")
        # The last one is stopped first, and the streams of the others end.
        supervisor.add(ReactorClock, [pair.client for pair in pairs], name="clock")
        await clock.advance(for_s)
        await supervisor.stop()


def run(loop: Loop, *setters: partial[Any], for_s: float, room: int = 64) -> None:
    simulate(partial(served, for_s=for_s), *((setter, room) for setter in setters), backend=loop)


@both_loops
def test_deadlines_of_several_daemons_come_at_their_moments_in_their_order(loop: Loop) -> None:
    run(loop, setter(3, 1), setter(2, 1), for_s=10)
    assert TOLD == [(1, "1", 0), (1, "1", 0), (2, "2", 0), (3, "3", 0)]


def setter(*after_s: float, every_s: float | None = None, pause_s: float = 0) -> partial[Setter]:
    def make(deadlines: Deadlines) -> Setter:
        return Setter(deadlines, *after_s, every_s=every_s, pause_s=pause_s)

    return partial(make)


@both_loops
def test_a_year_is_as_exact_as_a_second(loop: Loop) -> None:
    run(loop, setter(365 * 86_400, 1), for_s=366 * 86_400)
    assert TOLD == [(1, "1", 0), (365 * 86_400, "3.1536e+07", 0)]


@both_loops
def test_a_periodic_one_goes_on_until_the_clock_is_stopped(loop: Loop) -> None:
    run(loop, setter(every_s=0.5), for_s=2)
    assert TOLD == [(0.5, "every", 0), (1, "every", 0), (1.5, "every", 0), (2, "every", 0)]


@both_loops
def test_whoever_does_not_look_finds_one_word_about_the_slots_that_had_no_room_and_holds_up_nobody(loop: Loop) -> None:
    run(loop, setter(every_s=1, pause_s=100.5), setter(50), for_s=101, room=2)
    assert (50, "50", 0) in TOLD
    ticks = [(at, missed) for at, name, missed in TOLD if name == "every"]
    assert [at for at, _ in ticks] == [100.5, 100.5, 101]
    assert sum(1 + missed for _, missed in ticks) == 101


@both_loops
def test_more_deadlines_than_there_is_room_for_all_come(loop: Loop) -> None:
    run(loop, setter(*[1] * 300), for_s=2, room=2)
    assert TOLD == [(1, "1", 0)] * 300


class Renewed(Daemon):
    """Leaves what it has set unread, begins anew, and looks then."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadlines = deadlines

    async def run(self, ctx: Context) -> None:
        for delay_s in (1, 1, 1, 50):
            await self.deadlines.schedule_after(delay_s, name="former")
        await ctx.clock.sleep(2)
        self.deadlines.begin_again()
        for name in ("first", "second"):
            await self.deadlines.schedule_after(1, name=name)
        await ctx.clock.sleep(2)
        async for fired in self.deadlines:
            TOLD.append((fired.fired_ns / 1e9, fired.name, 0))


@both_loops
def test_what_had_no_room_for_a_former_life_is_not_in_the_way_of_the_next_one(loop: Loop) -> None:
    run(loop, partial(Renewed), for_s=100, room=1)
    assert TOLD == [(3, "first", 0), (3, "second", 0)]


class Mortal(ReactorClock):
    """Dies now and then, at moments of chance."""

    def __init__(self, clients: list[ClockClient], chance: random.Random) -> None:
        super().__init__(clients)
        self.chance = chance

    async def run(self, ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.die, ctx)
            await super().run(ctx)
            tasks.cancel_scope.cancel()

    async def die(self, ctx: Context) -> None:
        await ctx.clock.sleep(self.chance.choice([0, 0.001, 0.5, 2, 5]))
        raise OSError("the clock is broken")


class Client(Daemon):
    """Schedules, cancels and looks, as chance will have it, and checks what comes."""

    def __init__(self, deadlines: Deadlines, chance: random.Random) -> None:
        self.deadlines = deadlines
        self.chance = chance

    async def run(self, ctx: Context) -> None:
        clock, chance, due_ns = ctx.clock, self.chance, dict[int, int]()
        ticks = await self.deadlines.schedule_every(1, name="tick")
        slots = 0
        while clock.now() < 60:
            await clock.sleep(chance.choice([0, 0, 0.25, 3]))
            for _ in range(chance.randrange(4)):
                made = await self.deadlines.schedule_after(chance.choice([0, 0.1, 1, 7]))
                due_ns[made.number] = made.due_ns
                if chance.random() < 0.2 and await self.deadlines.cancel(made):
                    del due_ns[made.number]
            while self.deadlines.has_item():
                slots += self.check(self.deadlines.receive_nowait(), ticks, due_ns)
        while due_ns or slots < 60:
            fired = await self.deadlines.receive()
            slots += self.check(fired, ticks, due_ns)
            assert slots <= (clock.now_ns() - ticks.epoch_ns) // ticks.period_ns
        TOLD.append((clock.now(), "all came", slots))

    def check(self, fired: Fired, ticks: Appointment, due_ns: dict[int, int]) -> int:
        assert fired.late_ns >= 0
        if fired.number == ticks.number:
            return 1 + fired.missed
        assert due_ns.pop(fired.number) == fired.due_ns
        return 0


@both_loops
@pytest.mark.parametrize("seed", range(12))
def test_however_often_a_clock_dies_every_deadline_comes_once(
    loop: Loop, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        clock = SimClock()
        chance = random.Random(seed)
        async with Supervisor(clock=clock) as supervisor:
            pairs = [open_deadlines(chance.choice([1, 2, 8]), name=f"{n}", clock=clock) for n in range(3)]
            for number, pair in enumerate(pairs):
                supervisor.add(Client, pair.end, random.Random(seed * 3 + number), name=f"client {number}")
            clients = [pair.client for pair in pairs]
            supervisor.add(Mortal, clients, chance, name="clock", on_error="restart")
            await clock.advance(200)
            await supervisor.stop(grace=0)

    with caplog.at_level(logging.CRITICAL, "geartrain"):
        simulate(main, backend=loop)
    assert [what for _, what, _ in TOLD] == ["all came"] * 3


# -- planes -----------------------------------------------------------------------------------------------------------


@daemon
async def sensor(ctx: Context, readings: SendStream[int], stalls: list[float]) -> None:
    """A reading after each of these pauses."""
    for number, pause_s in enumerate(stalls):
        await ctx.clock.sleep(pause_s)
        await readings.send(number)


@daemon
async def controller(ctx: Context, readings: ReceiveStream[int]) -> None:
    async for _ in readings:
        pass


@daemon
async def watchdog(ctx: Context, planes: Planes, late_s: float = 0) -> None:
    await ctx.clock.sleep(late_s)
    async for change in planes:
        TOLD.append((ctx.clock.now(), f"{change.channel} {'stale' if change.stale else 'fresh'}", change.seq))
    TOLD.append((ctx.clock.now(), "end", 0))


def watched(loop: Loop, *stalls: float, late_s: float = 0) -> None:
    pipeline = Pipeline("watched", backend=loop)
    pipeline.add(sensor, config={"stalls": list(stalls)})
    pipeline.add(controller)
    pipeline.add(watchdog, config={"late_s": late_s})
    pipeline.connect("sensor.readings", "controller.readings", stale_after=0.25)
    assert pipeline.check() == ()
    geartrain.run(pipeline, in_process=True, clock=SimClock())


@both_loops
def test_a_channel_is_stale_a_nanosecond_after_its_budget_and_fresh_with_the_next_item(loop: Loop) -> None:
    watched(loop, 10, 0.25, 0.125, 1, 0.25)
    assert TOLD[:2] == [(10.625000001, "readings stale", 3), (11.375, "readings fresh", 4)]
    # What has ended is awaited by nobody.
    assert [what for _, what, _ in TOLD[2:]] == ["end"]


@both_loops
def test_changes_wait_for_who_looks_late_in_their_order(loop: Loop) -> None:
    watched(loop, 1, 1, 3, 0.1, late_s=3)
    assert TOLD[:4] == [
        (3, "readings stale", 1),
        (3, "readings fresh", 2),
        (3, "readings stale", 2),
        (5, "readings fresh", 3),
    ]


# -- time that nobody needs -------------------------------------------------------------------------------------------


@daemon
async def idle(ctx: Context, deadlines: Deadlines) -> None:
    async for fired in deadlines:
        TOLD.append((ctx.clock.now(), fired.name, 0))
    TOLD.append((ctx.clock.now(), "end", 0))


@both_loops
def test_who_waits_for_deadlines_that_nobody_has_set_only_waits_for_its_stop(loop: Loop) -> None:
    pipeline = Pipeline("idle", backend=loop)
    pipeline.add(idle)
    geartrain.run(pipeline, in_process=True, clock=SimClock())
    assert TOLD == [(0, "end", 0)]


@both_loops
def test_no_time_passes_for_a_channel_that_has_ended(loop: Loop) -> None:
    watched(loop, 1, 0.125)
    assert TOLD == [(1.125, "end", 0)]
