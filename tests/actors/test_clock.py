"""The clock as a daemon: in virtual time every deadline comes at its moment, to whoever set it."""

from functools import partial
from typing import Literal

import pytest

import geartrain
from geartrain import (
    Context,
    Daemon,
    Deadlines,
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


async def served(*setters: tuple[partial[Setter], int], for_s: float) -> None:
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


def run(loop: Loop, *setters: partial[Setter], for_s: float, room: int = 64) -> None:
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
