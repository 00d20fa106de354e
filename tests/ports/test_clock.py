"""Time: the wall clock, and virtual time that is exact on every loop."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from geartrain import Clock, Context, Deadlock, SimClock, Supervisor, WallClock, daemon, open_channel, simulate
from geartrain.engine.ends import Channel
from geartrain.errors import BadType, BadValue, Livelock, NotInUse

Scenario = Callable[[], Awaitable[object]]

# -- both clocks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", [WallClock(), SimClock()], ids=["wall", "sim"])
def test_both_clocks_keep_the_promise_of_a_clock(clock: Clock) -> None:
    assert isinstance(clock, Clock)
    assert isinstance(clock.now(), float)
    assert isinstance(clock.now_ns(), int)


@pytest.mark.parametrize("clock_type", [WallClock, SimClock])
@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda clock: clock.every(0), "every() period must be positive"),
        (lambda clock: clock.every(-1), "every() period must be positive"),
        (lambda clock: clock.every(math.inf), "every() period must be positive"),
        (lambda clock: clock.every(math.nan), "every() period must be a number that is not NaN"),
        (lambda clock: clock.every(1, first="soon"), "every() first must be one of 'now', 'after', got 'soon'"),
        (lambda clock: clock.every("1"), "every() period must be a number, got '1'"),
        (lambda clock: clock.move_on_after(math.nan).__enter__(), "move_on_after() seconds"),
        (lambda clock: clock.fail_after("x").__enter__(), "fail_after() seconds"),
    ],
)
def test_a_senseless_time_is_refused_at_once(
    clock_type: Callable[[], Clock], use: Callable[[Clock], object], said: str
) -> None:
    with pytest.raises((BadValue, BadType)) as refused:
        use(clock_type())
    assert said in str(refused.value)


@pytest.mark.parametrize("clock_type", [WallClock, SimClock])
async def test_nan_and_words_are_no_times_to_sleep(clock_type: Callable[[], Clock]) -> None:
    clock = clock_type()
    for bad in (math.nan, "1", None, True):
        with pytest.raises((ValueError, TypeError)):
            await clock.sleep(bad)  # type: ignore[arg-type]
        with pytest.raises((ValueError, TypeError)):
            await clock.wait_until(bad)  # type: ignore[arg-type]


# -- the wall clock -------------------------------------------------------------------------------------------------


async def test_a_wall_clock_is_never_early() -> None:
    clock = WallClock()
    for _ in range(20):
        due_ns = clock.now_ns() + 700_000
        await clock.wait_until_ns(due_ns)
        assert clock.now_ns() >= due_ns


async def test_the_past_is_no_wait_but_a_checkpoint() -> None:
    clock = WallClock()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await clock.wait_until(clock.now() - 1)
    assert scope.cancelled_caught


async def test_on_the_wall_clock_timeouts_are_those_of_the_loop() -> None:
    clock = WallClock()
    with clock.move_on_after(0.001) as scope:
        await clock.sleep(math.inf)
    assert scope.cancelled_caught
    with pytest.raises(TimeoutError), clock.fail_after(0.001):
        await clock.sleep(math.inf)
    async with clock.hold():
        pass


async def test_wall_ticks_lie_on_an_absolute_grid() -> None:
    clock = WallClock()
    ticks: list[float] = []
    async for tick in clock.every(0.002, first="now"):
        assert clock.now() >= tick
        ticks.append(tick)
        if len(ticks) == 5:
            break
    slots = [(tick - ticks[0]) / 0.002 for tick in ticks]
    assert slots == pytest.approx([round(slot) for slot in slots], abs=1e-3)
    assert slots == sorted(set(slots))


# -- virtual time by hand -------------------------------------------------------------------------------------------


async def test_virtual_time_stands_still_until_it_is_driven() -> None:
    clock = SimClock(t0=10.0)
    await anyio.lowlevel.checkpoint()
    assert clock.now() == 10.0


async def test_sleepers_wake_in_the_order_of_deadline_and_registration() -> None:
    clock = SimClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.now()))

    async with Supervisor(clock=clock) as sup:
        for name, seconds in (("late", 3.0), ("first", 1.0), ("second", 1.0), ("third", 1.0), ("middle", 2.0)):
            sup.spawn(lambda _, name=name, seconds=seconds: sleeper(name, seconds), name=name)
        await clock.advance(5)
    assert woken == [("first", 1.0), ("second", 1.0), ("third", 1.0), ("middle", 2.0), ("late", 3.0)]
    assert clock.now() == 5.0


async def test_time_is_whole_nanoseconds_so_that_ten_tenths_are_one() -> None:
    clock = SimClock()
    for _ in range(10):
        await clock.advance(0.1)
    assert clock.now() == 1.0


async def test_advance_to_the_past_does_what_is_due_and_moves_nothing() -> None:
    clock = SimClock(t0=5.0)
    await clock.advance_to(3.0)
    assert clock.now() == 5.0


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, "1", None])
async def test_time_cannot_be_driven_backwards_or_nowhere(bad: float) -> None:
    clock = SimClock()
    with pytest.raises((ValueError, TypeError)):
        await clock.advance(bad)
    assert clock.now() == 0.0


def test_settle_rounds_are_accepted_and_must_be_sensible() -> None:
    SimClock(settle_rounds=1)
    with pytest.raises(BadValue, match="settle_rounds must be >= 1"):
        SimClock(settle_rounds=0)
    with pytest.raises(BadType, match="settle_rounds"):
        SimClock(settle_rounds="8")  # type: ignore[arg-type]
    with pytest.raises(BadValue, match="t0"):
        SimClock(t0=math.inf)


async def test_a_cancelled_driver_leaves_its_clock_where_it_is() -> None:
    clock = SimClock()
    async with clock.hold():
        with anyio.move_on_after(0.01):
            await clock.advance(5)
    await clock.advance(1)
    assert clock.now() == 1.0


async def test_of_two_drivers_of_one_clock_the_nearer_arrives_first() -> None:
    clock = SimClock()
    arrived = []

    async def drive(until: float) -> None:
        await clock.advance_to(until)
        arrived.append((until, clock.now()))

    async with anyio.create_task_group() as tasks:
        for until in (5.0, 3.0, 4.0):
            tasks.start_soon(drive, until)
    assert arrived == [(3.0, 3.0), (4.0, 4.0), (5.0, 5.0)]


async def test_a_clock_inside_a_daemon_of_another_clock_is_driven_first() -> None:
    outer = SimClock()
    seen = []

    async def session(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        inner = SimClock()
        async with Supervisor(clock=inner) as sup:
            sup.spawn(lambda inner_ctx: inner_ctx.clock.sleep(100))
            await inner.advance(100)
        seen.append((ctx.clock.now(), inner.now()))

    async with Supervisor(clock=outer) as sup:
        sup.spawn(session, name="a")
        sup.spawn(session, name="b")
        await outer.advance(10)
    assert seen == [(1.0, 100.0), (1.0, 100.0)]


# -- timeouts -------------------------------------------------------------------------------------------------------


async def test_timeouts_of_virtual_time_are_exact() -> None:
    clock = SimClock()
    seen: list[object] = []

    async def body(_: Context) -> None:
        with clock.move_on_after(1.5) as scope:
            await clock.sleep(10)
        seen.append((clock.now(), scope.cancelled_caught))
        with pytest.raises(TimeoutError, match="1 s of virtual time"), clock.fail_after(1):
            await anyio.sleep_forever()
        seen.append(clock.now())
        with clock.fail_after(5):
            await clock.sleep(1)
        seen.append(clock.now())
        with clock.move_on_after(0) as scope:
            await clock.sleep(1)
        seen.append((clock.now(), scope.cancelled_caught))
        with clock.move_on_after(math.inf):
            await clock.sleep(1)

    async with Supervisor(clock=clock) as sup:
        sup.spawn(body)
        await clock.run()
    assert seen == [(1.5, True), 2.5, 3.5, (3.5, True)]
    assert clock.now() == 4.5
    assert "0 waiting" in repr(clock)


async def test_a_message_that_comes_with_the_timeout_is_not_lost() -> None:
    """The writer's timer was registered first, so its message is there when the timeout strikes."""
    clock = SimClock()
    channel: Channel[int] = open_channel(1)
    got: list[int] = []

    async def writer(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        await channel.send.send(7)
        await channel.send.aclose()

    async def reader(ctx: Context) -> None:
        with ctx.clock.move_on_after(1):
            got.append(await channel.recv.receive())
        async for item in channel.recv:
            got.append(item)

    async with Supervisor(clock=clock) as sup:
        sup.spawn(writer)
        sup.spawn(reader)
        await clock.run()
    assert got == [7]


# -- what keeps time still ------------------------------------------------------------------------------------------


async def test_time_stands_still_while_a_worker_thread_works_or_somebody_holds_it() -> None:
    clock = SimClock()
    seen: list[tuple[str, float]] = []

    async def worker(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        await anyio.to_thread.run_sync(time.sleep, 0.02)
        seen.append(("thread", ctx.clock.now()))
        async with ctx.clock.hold():
            await anyio.sleep(0.02)
            seen.append(("held", ctx.clock.now()))

    async def other(ctx: Context) -> None:
        async for tick in ctx.clock.every(0.6):
            seen.append(("tick", tick))
            if len(seen) == 5:
                return

    async with Supervisor(clock=clock) as sup:
        sup.spawn(worker)
        sup.spawn(other)
        await clock.advance(2)
    assert seen == [("tick", 0.6), ("thread", 1.0), ("held", 1.0), ("tick", 1.2), ("tick", 1.8)]


# -- run, and deadlocks ---------------------------------------------------------------------------------------------


@daemon
async def forward(ctx: Context, inp: Channel[int], out: Channel[int]) -> None:
    await out.send.send(await inp.recv.receive())


async def test_daemons_that_wait_for_each_other_are_named() -> None:
    clock = SimClock()
    there: Channel[int] = open_channel(1, name="there")
    back: Channel[int] = open_channel(1, name="back")
    async with Supervisor(clock=clock) as sup:
        sup.add(forward(there, back), name="ping")
        sup.add(forward(back, there), name="pong")
        with pytest.raises(Deadlock) as found:
            await clock.run()
        await sup.stop(grace=0)
    assert "ping waits to receive from channel 'there', written by pong" in str(found.value)
    assert "pong waits to receive from channel 'back', written by ping" in str(found.value)


async def test_who_waits_for_one_that_has_finished_without_closing_is_named() -> None:
    clock = SimClock()
    numbers: Channel[int] = open_channel(1, name="numbers")
    full: Channel[int] = open_channel(1, name="full")

    async def writer(ctx: Context, out: Channel[int]) -> None:
        await out.send.send(1)
        await ctx.clock.sleep(1)

    async def reader(ctx: Context, inp: Channel[int]) -> None:
        async for _ in inp.recv:
            pass

    async def filler(ctx: Context, out: Channel[int]) -> None:
        for number in range(9):
            await out.send.send(number)

    async def taster(ctx: Context, inp: Channel[int]) -> None:
        await inp.recv.receive()

    async with Supervisor(clock=clock) as sup:
        sup.spawn(writer, numbers)
        sup.spawn(reader, numbers)
        sup.spawn(filler, full)
        sup.spawn(taster, full)
        with pytest.raises(Deadlock) as found:
            await clock.run()
        await sup.stop(grace=0)
    assert clock.now() == 1.0
    assert "reader waits to receive from channel 'numbers', written by writer, who has finished" in str(found.value)
    assert "filler waits to send into channel 'full', read by taster, who has finished" in str(found.value)


async def test_a_server_that_waits_for_its_stop_or_for_a_caller_is_idle() -> None:
    clock = SimClock()
    requests: Channel[int] = open_channel(1)
    served: list[int] = []

    async def server(ctx: Context, inp: Channel[int]) -> None:
        async for request in inp.recv:
            served.append(request)

    async with Supervisor(clock=clock) as sup:
        sup.spawn(server, requests)
        sup.spawn(lambda ctx: ctx.stop_event.wait(), name="stopper")
        await clock.run()
        await requests.send.send(1)
        await clock.run()
        assert served == [1]
        await sup.stop(grace=0)


async def test_who_waits_for_a_busy_daemon_is_not_stuck() -> None:
    """One waits for another, who waits for a caller from outside."""
    clock = SimClock()
    calls: Channel[int] = open_channel(1)
    answers: Channel[int] = open_channel(1)
    async with Supervisor(clock=clock) as sup:
        sup.add(forward(calls, answers), name="server")
        sup.spawn(lambda _: answers.recv.receive(), name="client")
        await clock.run()
        await calls.send.send(1)
        await clock.run()
    assert {health.state for health in sup.snapshot().values()} == {"stopped"}


async def test_who_may_still_write_is_not_taken_for_gone_because_another_writer_has_finished() -> None:
    clock = SimClock()
    requests: Channel[int] = open_channel(0)

    async def asks_once(ctx: Context, out: Channel[int]) -> None:
        await out.send.send(1)

    async def asks_when_it_is_stopped(ctx: Context, out: Channel[int]) -> None:
        await ctx.stop_event.wait()
        await out.send.send(2)

    async def serves(ctx: Context, inp: Channel[int]) -> None:
        async for _ in inp.recv:
            await ctx.clock.sleep(1)

    async with Supervisor(clock=clock) as sup:
        sup.spawn(asks_once, requests)
        sup.spawn(asks_when_it_is_stopped, requests)
        sup.spawn(serves, requests)
        await clock.run()
        assert sup.snapshot()["serves"].state == "running"
        await sup.stop(grace=0)


# -- exactness ------------------------------------------------------------------------------------------------------

STAGES = 40


async def chain_of_forty() -> list[tuple[object, float]]:
    """An event at t=0.1 goes through forty daemons."""
    clock = SimClock()
    log: list[tuple[object, float]] = []
    edges: list[Channel[str]] = [open_channel(stage % 3) for stage in range(STAGES + 1)]

    async def source(ctx: Context) -> None:
        await ctx.clock.sleep(0.1)
        await edges[0].send.send("event")
        log.append(("source", ctx.clock.now()))

    async def stage(ctx: Context, number: int) -> None:
        event = await edges[number].recv.receive()
        log.append((number, ctx.clock.now()))
        await edges[number + 1].send.send(event)

    async def sink(ctx: Context) -> None:
        await edges[STAGES].recv.receive()
        log.append(("sink", ctx.clock.now()))

    async with Supervisor(clock=clock) as sup:
        sup.spawn(source)
        for number in range(STAGES):
            sup.spawn(stage, number, name=f"stage {number}")
        sup.spawn(sink)
        await clock.advance(1.0)
    return log


async def fan_out_of_three_levels() -> list[tuple[object, ...]]:
    """1 daemon tells 4, each of them 4, each of them 4: who hears what, in which order, and when everything ends."""
    clock = SimClock()
    log: list[tuple[object, ...]] = []

    async def node(ctx: Context, path: tuple[int, ...], inp: Channel[int]) -> None:
        outs: list[Channel[int]] = [open_channel(len(path) % 2) for _ in range(4 if len(path) < 3 else 0)]
        for branch, out in enumerate(outs):
            ctx.supervisor.spawn(node, (*path, branch), out, name=f"node {(*path, branch)}")
        async for number in inp.recv:
            log.append((path, number, ctx.clock.now()))
            for out in outs:
                await out.send.send(number)
            with ctx.clock.move_on_after(0.01):
                await ctx.stop_event.wait()
        for out in outs:
            await out.send.aclose()
        log.append((path, "end", ctx.clock.now()))

    async def source(ctx: Context, out: Channel[int]) -> None:
        async for _ in ctx.clock.every(0.05):
            number = round(ctx.clock.now() / 0.05)
            await out.send.send(number)
            if number == 4:
                break
        await out.send.aclose()

    root: Channel[int] = open_channel(1)
    async with Supervisor(clock=clock) as sup:
        sup.spawn(node, (), root, name="root")
        sup.spawn(source, root)
        await clock.run()
    return log


async def cancelled_together() -> list[str]:
    """Many daemons are cancelled at once, in different waits: they leave in the order in which they began to wait."""
    clock = SimClock()
    log: list[str] = []
    never: list[Channel[int]] = [open_channel(0) for _ in range(6)]

    async def waits(ctx: Context, number: int) -> None:
        try:
            await ctx.clock.sleep(0.01 * ((number * 5) % 7))
            if number % 2:
                await never[number].recv.receive()
            else:
                await ctx.clock.sleep(1000)
        finally:
            log.append(ctx.name)

    async def fails(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        raise RuntimeError("enough")

    with pytest.raises(ExceptionGroup):
        async with Supervisor(clock=clock) as sup:
            for number in range(6):
                sup.spawn(waits, number, name=f"waits {number}")
            sup.spawn(fails)
            await clock.run()
    return log


@pytest.mark.parametrize("scenario", [chain_of_forty, fan_out_of_three_levels, cancelled_together])
def test_the_whole_order_of_events_is_the_same_on_both_loops_and_on_every_run(scenario: Scenario) -> None:
    logs = [run() for run in each_way_to_run(scenario) for _ in range(3)]
    assert len(logs[0]) > 5  # type: ignore[arg-type]
    assert all(log == logs[0] for log in logs)


def each_way_to_run(scenario: Scenario) -> list[Callable[[], object]]:
    return [
        lambda: simulate(scenario),
        lambda: simulate(scenario, backend="trio"),
        lambda: anyio.run(scenario),
        lambda: anyio.run(scenario, backend="trio"),
        lambda: anyio.run(scenario, backend_options={"use_uvloop": True}),
    ]


def test_an_event_is_seen_by_the_whole_chain_when_it_happens() -> None:
    log = simulate(chain_of_forty)
    assert [name for name, _ in log][-1] == "sink"
    assert {seen_at for _, seen_at in log} == {0.1}


def test_everything_is_quiet_before_time_passes_even_when_a_daemon_goes_through_many_checkpoints() -> None:
    async def scenario() -> list[float]:
        clock = SimClock()
        seen = []

        async def slow(ctx: Context) -> None:
            await ctx.clock.sleep(1)
            for _ in range(500):
                await anyio.lowlevel.checkpoint()
            seen.append(ctx.clock.now())

        async with Supervisor(clock=clock) as sup:
            sup.spawn(slow)
            sup.spawn(lambda ctx: ctx.clock.sleep(2), name="other")
            await clock.run()
        return seen

    for run in each_way_to_run(scenario):
        assert run() == [1.0]


def test_a_task_that_polls_is_no_silent_hang(caplog: pytest.LogCaptureFixture) -> None:
    """It sees a daemon start, though nothing is ever quiet; and whoever waits for time is told why it stands still."""

    async def scenario() -> list[float]:
        clock = SimClock()
        seen: list[float] = []

        async def starts(ctx: Context) -> None:
            seen.append(ctx.clock.now())
            await ctx.clock.sleep(1)
            seen.append(ctx.clock.now())

        async with Supervisor(clock=clock) as sup:
            sup.spawn(starts)
            while not seen:
                await anyio.lowlevel.checkpoint()
            await clock.run()
        return seen

    for run in each_way_to_run(scenario):
        caplog.clear()
        assert run() == [0.0, 1.0]
        assert "goes round and round" in caplog.text


def test_the_loops_of_asyncio_keep_what_is_ready_where_we_look() -> None:
    """`_ready` is private to asyncio: if it goes, quiet must be found in another way."""

    async def scenario() -> tuple[int, int]:
        loop: Any = asyncio.get_running_loop()
        before = len(loop._ready)
        loop.call_soon(int)
        return before, len(loop._ready)

    assert asyncio.run(scenario()) == (0, 1)


# -- ticks ----------------------------------------------------------------------------------------------------------


async def ticks_of(period: float, body_s: float, first: str = "after") -> list[float]:
    clock = SimClock()
    seen: list[float] = []

    async def loop(ctx: Context) -> None:
        async for tick in ctx.clock.every(period, first=first):  # type: ignore[arg-type]
            assert tick == ctx.clock.now()
            seen.append(tick)
            if len(seen) == 4:
                return
            await ctx.clock.sleep(body_s)

    async with Supervisor(clock=clock) as sup:
        sup.spawn(loop)
        await clock.run()
    return seen


async def test_ticks_come_on_the_grid() -> None:
    assert await ticks_of(0.1, 0) == [0.1, 0.2, 0.3, 0.4]
    assert await ticks_of(0.1, 0.05, first="now") == [0.0, 0.1, 0.2, 0.3]


async def test_a_tick_that_was_missed_is_skipped_and_the_grid_stays() -> None:
    assert await ticks_of(0.1, 0.25) == [0.1, 0.4, 0.7, 1.0]


async def test_a_body_that_ends_on_a_slot_has_missed_it() -> None:
    assert await ticks_of(0.1, 0.1) == [0.1, 0.3, 0.5, 0.7]


async def test_the_grid_does_not_drift_in_a_million_seconds() -> None:
    clock = SimClock(t0=1_000_000.0)
    ticks = clock.every(0.001)

    async def drive(ctx: Context) -> None:
        for number in range(1, 1001):
            assert await anext(ticks) == (1_000_000_000_000_000 + number * 1_000_000) / 1e9

    async with Supervisor(clock=clock) as sup:
        sup.spawn(drive)
        await clock.run()
    assert clock.now_ns() == 1_000_001_000_000_000


async def test_log_records_carry_virtual_time(caplog: pytest.LogCaptureFixture) -> None:
    clock = SimClock(t0=100.0)

    async def talker(ctx: Context) -> None:
        ctx.logger.info("first")
        await ctx.clock.sleep(2.5)
        ctx.logger.info("second", extra={"sim_time": -1.0})

    with caplog.at_level(logging.INFO, logger="geartrain"):
        async with Supervisor(clock=clock) as sup:
            sup.spawn(talker)
            await clock.advance(10)
    records = [record for record in caplog.records if record.name == "geartrain.talker"]
    times = [(record.getMessage(), vars(record)["sim_time"]) for record in records]
    assert times == [("first", 100.0), ("second", -1.0)]


# -- microsteps -------------------------------------------------------------------------------------------------------


async def test_with_microsteps_a_sleep_of_no_length_goes_on_in_the_next_microstep() -> None:
    clock, seen = SimClock(microsteps=True), list[tuple[str, int, int]]()

    async def sleeper(ctx: Context, name: str) -> None:
        for seconds in (0, 0, 1, 0):
            await ctx.clock.sleep(seconds)
            seen.append((name, *clock.instant))

    async with Supervisor(clock=clock) as sup:
        for name in "ba":
            sup.spawn(sleeper, name, name=name)
        await clock.advance(2)
    instants = [(0, 1), (0, 2), (1_000_000_000, 0), (1_000_000_000, 1)]
    assert seen == [(name, t_ns, k) for t_ns, k in instants for name in "ab"]
    assert clock.instant == (2_000_000_000, 0)


async def test_with_microsteps_daemons_start_in_the_order_of_their_names() -> None:
    clock, started = SimClock(microsteps=True), list[str]()

    async def starter(_: Context, name: str) -> None:
        started.append(name)

    async with Supervisor(clock=clock) as sup:
        for name in ("late", "early", "middle"):
            sup.spawn(starter, name, name=name)
        await clock.run()
    assert started == ["early", "late", "middle"]


async def test_whoever_drives_is_told_when_daemons_keep_each_other_awake_in_one_instant() -> None:
    clock = SimClock(microsteps=True, livelock_after=200)

    async def poller(ctx: Context) -> None:
        while True:
            await ctx.clock.sleep(0)

    async with Supervisor(clock=clock) as sup:
        sup.spawn(lambda ctx: ctx.clock.sleep(1), name="sleeper")
        await clock.advance(1)
        sup.spawn(poller, name="restless")
        with pytest.raises(Livelock, match=r"t=1 s there were 200 microsteps.*restless") as met:
            await clock.run()
        await sup.stop(grace=0)
    assert met.value.awake == ("restless",)


async def test_a_clock_without_microsteps_has_one_microstep_only() -> None:
    clock = SimClock()
    await clock.advance(1)
    assert clock.instant == (1_000_000_000, 0)


async def test_a_clock_with_microsteps_is_refused_where_time_is_at_work_already() -> None:
    first = SimClock(microsteps=True)
    await first.advance(1)
    with pytest.raises(NotInUse, match="must be the only one"):
        SimClock(microsteps=True)
    with pytest.raises(NotInUse, match="another clock cannot be driven"):
        await SimClock().advance(1)


async def test_a_hold_keeps_the_microstep_open() -> None:
    clock, seen = SimClock(microsteps=True), list[tuple[int, int]]()

    async def holder(ctx: Context) -> None:
        async with ctx.clock.hold():
            await anyio.sleep(0.01)
            seen.append(clock.instant)
        await ctx.clock.sleep(0)
        seen.append(clock.instant)

    async with Supervisor(clock=clock) as sup:
        sup.spawn(holder)
        sup.spawn(lambda ctx: ctx.clock.sleep(0), name="other")
        await clock.advance(1)
    assert seen == [(0, 0), (0, 1)]
