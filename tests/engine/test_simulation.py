"""What a simulated run of a whole pipeline promises: the same for one seed, whatever the loop."""

import time
from pathlib import Path
from typing import Literal

import anyio
import pytest
from msgspec import Struct

from geartrain import (
    Context,
    Daemon,
    Deadlock,
    Livelock,
    Pipeline,
    PipelineFailed,
    ReceiveStream,
    RestartPolicy,
    SendStream,
    SimTime,
    daemon,
    run,
    simulate,
)
from geartrain.engine.declare import Target
from geartrain.engine.simulation import Simulation, Stamp
from geartrain.errors import BadType, BadValue
from geartrain.rules.trace import head_of, taken_in

Loop = Literal["asyncio", "trio"]
both_loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])


class Reading(Struct):
    number: int
    value: float


@daemon
async def sensor(ctx: Context, readings: SendStream[Reading]) -> None:
    """Ten times a second, for ever, a value by chance."""
    number = 0
    async for _ in ctx.clock.every(0.1):
        number += 1
        await readings.send(Reading(number, ctx.random.random()))


@daemon
async def stamped(ctx: Context, readings: SendStream[Reading]) -> None:
    """Looks at a clock that is no part of virtual time."""
    await readings.send(Reading(1, time.perf_counter()))


class Filter(Daemon):
    """Passes on, and fails at every fifth."""

    def __init__(self, readings: ReceiveStream[Reading], passed: SendStream[Reading]) -> None:
        self.readings = readings
        self.passed = passed

    async def run(self, ctx: Context) -> None:
        async for reading in self.readings:
            if reading.number % 5 == 0:
                raise ValueError(f"reading {reading.number} is odd")
            await self.passed.send(reading)


@daemon
async def sink(ctx: Context, passed: ReceiveStream[Reading]) -> None:
    async for reading in passed:
        ctx.logger.warning("got %d", reading.number)
        await ctx.clock.sleep(0.03)


def chain(loop: Loop, source: Target = sensor) -> Pipeline:
    p = Pipeline("chain", loop)
    p.add(source, name="sensor")
    again = RestartPolicy(base=0.25, jitter=0.5)
    p.add(Filter, name="filter", on_error="restart", restart=again)
    p.add(sink, name="sink")
    p.connect("sensor.readings", "filter.readings", maxsize=2)
    p.connect("filter.passed", "sink.passed", maxsize=1)
    return p


@pytest.mark.parametrize("seed", [0, 7])
def test_a_run_is_the_same_on_either_loop_and_every_time(seed: int) -> None:
    time = SimTime(seed=seed, run_for=10)
    one, again, other = (
        run(chain("asyncio"), clock=time),
        run(chain("asyncio"), clock=time),
        run(chain("trio"), clock=time),
    )
    assert one.digest == again.digest == other.digest
    assert (one.taken, one.passed_ns, one.restarts) == (other.taken, other.passed_ns, other.restarts)
    assert one.taken > 50
    assert len(one.failures) > 5


@daemon
async def sleepy(ctx: Context, readings: SendStream[Reading]) -> None:
    """Waits as anyio does."""
    await anyio.sleep(3600)
    with anyio.move_on_after(10):
        await anyio.sleep_forever()
    await readings.send(Reading(1, ctx.clock.now()))
    with pytest.raises(TimeoutError), anyio.fail_after(0.5):
        await ctx.stop_event.wait()
    await readings.send(Reading(2, ctx.clock.now()))


@daemon
async def asks_outside(ctx: Context, readings: SendStream[Reading]) -> None:
    """Keeps time still for something that the clock cannot see, and that takes its time."""
    async with ctx.clock.hold():
        await anyio.sleep(0.01)
        with anyio.move_on_after(0.01):
            await anyio.sleep_forever()
    await readings.send(Reading(1, ctx.clock.now()))


@both_loops
def test_the_timers_of_the_loop_obey_virtual_time(loop: Loop) -> None:
    done = run(chain(loop, sleepy), clock=SimTime())
    assert 3610.5e9 <= done.passed_ns < 3611e9
    assert done.digest == run(chain("asyncio", sleepy), clock=SimTime()).digest


@both_loops
def test_while_the_clock_is_held_the_timers_of_the_loop_go_on_in_real_time(loop: Loop) -> None:
    done = run(chain(loop, asks_outside), clock=SimTime())
    assert done.passed_ns == 30_000_000
    assert done.digest == run(chain("asyncio", asks_outside), clock=SimTime()).digest


@both_loops
def test_another_seed_is_another_run(loop: Loop) -> None:
    digests = {run(chain(loop), clock=SimTime(seed=seed, run_for=1)).digest for seed in range(4)}
    assert len(digests) == 4


@daemon
async def flock(ctx: Context, readings: SendStream[Reading]) -> None:
    """Children that begin together, wait for the same, and draw from the same chance."""
    gate = ctx.event("the gate")

    async def child(number: int) -> None:
        if number % 2:
            await gate.wait()
        drawn = ctx.random.random()
        await ctx.clock.sleep(0)
        found.append(Reading(number, drawn))

    found: list[Reading] = []
    for _ in range(5):
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                ctx.spawn(tasks, child, number)
            await ctx.clock.sleep(0.1)
            gate.set()
        for reading in found:
            await readings.send(Reading(1, reading.number + reading.value))


def test_children_and_events_of_a_daemon_do_the_same_on_either_loop() -> None:
    digests = [run(chain(loop, flock), clock=SimTime(seed=1)).digest for loop in ("asyncio", "trio") for _ in range(5)]
    assert len(set(digests)) == 1


@both_loops
async def test_a_program_with_a_loop_of_its_own_awaits_the_same_run(loop: Loop, anyio_backend: Loop) -> None:
    time = SimTime(run_for=1)
    with anyio.fail_after(20):
        awaited = await chain(loop).run(clock=time)
    assert awaited.digest == await anyio.to_thread.run_sync(lambda: run(chain(loop), clock=time).digest)


@both_loops
def test_time_is_up_after_run_for_and_what_is_on_its_way_arrives(loop: Loop) -> None:
    done = run(chain(loop), clock=SimTime(run_for=3.05))
    # The source has half a second to end by itself.
    assert 3.05e9 <= done.passed_ns < 4.5e9


@both_loops
def test_a_clock_that_is_no_part_of_virtual_time_shows_in_the_digest(loop: Loop) -> None:
    assert len({run(chain(loop, stamped), clock=SimTime()).digest for _ in range(2)}) == 2


def traced(loop: Loop, file: Path, seed: int) -> bytes:
    run(chain(loop), clock=SimTime(seed=seed, run_for=1, trace=str(file)))
    return file.read_bytes()


def test_a_trace_is_the_same_byte_for_byte_and_says_what_was_taken(tmp_path: Path) -> None:
    text = traced("asyncio", tmp_path / "one", 3)
    assert text == traced("trio", tmp_path / "other", 3)
    first, *lines = text.splitlines()
    assert (head_of(first, "one").pipeline, head_of(first, "one").seed) == ("chain", 3)
    taken = list(taken_in(lines, "one"))
    assert [one.item["number"] for one in taken if one.channel == "readings"][:4] == [1, 2, 3, 4]
    assert taken[0].t_ns == 100_000_000
    assert taken[0].k == 1


@both_loops
def test_a_trace_that_cannot_be_written_is_refused_by_name(loop: Loop, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"the trace cannot be written to .*nowhere.*No such file"):
        run(chain(loop), clock=SimTime(trace=str(tmp_path / "nowhere" / "trace")))


@daemon
async def asks_first(ctx: Context, out: SendStream[int], into: ReceiveStream[int]) -> None:
    await out.send(await into.receive())


def ring(loop: Loop) -> Pipeline:
    p = Pipeline("ring", loop)
    p.add(asks_first, name="left")
    p.add(asks_first, name="right")
    p.connect("left.out", "right.into", name="there")
    p.connect("right.out", "left.into", name="back", keep="taken")
    return p


@pytest.mark.parametrize("run_for", [None, 60.0])
@both_loops
def test_a_deadlock_is_named(loop: Loop, run_for: float | None) -> None:
    with pytest.raises(Deadlock, match=r"(?s)left .*'back'.*right .*'there'"):
        run(ring(loop), clock=SimTime(run_for=run_for))


@daemon
async def restless(ctx: Context) -> None:
    while True:
        await ctx.clock.sleep(0)


@both_loops
def test_a_livelock_is_named(loop: Loop) -> None:
    p = Pipeline("restless", loop)
    p.add(restless, name="restless")
    with pytest.raises(Livelock, match="awake were restless"):
        run(p, clock=SimTime(livelock_after=100))


@daemon
async def fails(ctx: Context) -> None:
    await ctx.clock.sleep(2.5)
    raise ValueError("out of paper")


@both_loops
def test_what_a_run_did_before_it_failed_can_be_asked(loop: Loop) -> None:
    async def main() -> None:
        p = chain(loop)
        p.add(fails, name="fails")
        simulation = Simulation(p, SimTime())
        with pytest.raises(PipelineFailed, match="out of paper"):
            await simulation.live()
        assert simulation.outcome().passed_ns == 2_500_000_000
        assert simulation.outcome().taken > 10

    simulate(main, backend=loop)


@both_loops
def test_what_is_logged_bears_the_instant(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        clock = SimTime(run_for=1).new_clock()
        caplog.handler.addFilter(stamp := Stamp(clock))
        try:
            await Simulation(chain(loop), SimTime(run_for=1), clock=clock).live()
        finally:
            caplog.handler.removeFilter(stamp)

    simulate(main, backend=loop)
    record = next(record for record in caplog.records if record.getMessage() == "got 1")
    # Sent in the instant of the tick, heard by the filter a microstep later, and by the sink after another one.
    assert (record.sim_t, record.sim_k) == (0.1, 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seed": -1}, "SimTime seed"),
        ({"run_for": -1.0}, "run_for must be finite and not negative"),
        ({"run_for": float("inf")}, "run_for must be finite and not negative"),
        ({"livelock_after": 0}, "livelock_after"),
        ({"placement": "everywhere"}, "SimTime placement"),
        ({"stall_after": 0.0}, "stall_after must be more than 0"),
    ],
)
def test_what_no_run_can_be_given_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(BadValue, match=said):
        SimTime(**given)  # type: ignore[arg-type]


def test_a_trace_is_the_name_of_a_file() -> None:
    with pytest.raises(BadType, match="must be the name of a file"):
        SimTime(trace=3)  # type: ignore[arg-type]
