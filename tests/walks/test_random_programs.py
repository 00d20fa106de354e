"""Random programs under virtual time: whatever they do, every loop and every run gives the same log.

A program is a number of daemons that send, receive, select, sleep, time out, fail, are restarted, close their ends
and stop each other, over a few channels of different sizes and policies. Most of them end in a deadlock or are cut
off by the clock; that too must be the same.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geartrain import (
    Channel,
    ChannelClosed,
    ChannelInUse,
    Context,
    Deadlock,
    EndOfStream,
    Policy,
    RestartPolicy,
    SimClock,
    Supervisor,
    WouldBlock,
    open_channel,
    simulate,
)
from geartrain.recipes import select

Verb = Literal["send", "send_nowait", "receive", "receive_nowait", "select", "sleep", "timeout", "every", "close",
               "fail", "signal", "child"]  # fmt: skip


@dataclass(frozen=True)
class Step:
    verb: Verb
    edge: int
    time: int


@dataclass(frozen=True)
class Program:
    edges: Sequence[tuple[int, Policy]]
    daemons: Sequence[Sequence[Step]]


EDGES = st.tuples(st.integers(0, 3), st.sampled_from(["block", "block", "block", "drop_newest", "latest"])).map(
    lambda edge: (min(edge[0], 1), edge[1]) if edge[1] == "latest" else edge
)
STEPS = st.builds(
    Step,
    st.sampled_from(["send", "send", "send", "receive", "receive", "receive", "send_nowait", "receive_nowait", "select",
                     "sleep", "sleep", "timeout", "every", "close", "fail", "signal", "child"]),
    st.integers(0, 3),
    st.integers(0, 3),
)  # fmt: skip
PROGRAMS = st.builds(
    Program,
    st.lists(EDGES, min_size=4, max_size=4),
    st.lists(st.lists(STEPS, min_size=1, max_size=12), min_size=2, max_size=5),
)

Log = list[tuple[Any, ...]]


def run_of(program: Program) -> Callable[[], Any]:
    async def run() -> Log:
        log: Log = []
        clock = SimClock()
        edges: list[Channel[str]] = [
            open_channel(size, policy=policy, name=str(number)) for number, (size, policy) in enumerate(program.edges)
        ]
        try:
            async with Supervisor(
                clock=clock,
                on_error="restart",
                restart=RestartPolicy(1, max_retries=2),
                logger=logging.getLogger("geartrain.random"),
            ) as sup:
                for number, steps in enumerate(program.daemons):
                    sup.spawn(live, steps, edges, log, name=f"d{number}")
                with clock.move_on_after(50) as scope:
                    try:
                        await clock.run()
                    except Deadlock as deadlock:
                        log.append(("deadlock", str(deadlock)))
                log.append(("driven", clock.now(), scope.cancelled_caught))
                late = await sup.stop(grace=0)
                log.append(("late", late))
        except ExceptionGroup as group:
            log.append(("ended by", [(type(error), vars(error).get("name")) for error in group.exceptions]))
        log.append(("snapshot", [(health.state, health.restart_count) for health in sup.snapshot().values()]))
        log.append(("left", [edge.send.statistics() for edge in edges]))
        return log

    return run


# Thousands of expected failures need no report.
logging.getLogger("geartrain.random").setLevel(logging.CRITICAL)


async def live(ctx: Context, steps: Sequence[Step], edges: Sequence[Channel[str]], log: Log) -> None:
    try:
        async with anyio.create_task_group() as children:
            for number, step in enumerate(steps):
                outcome: object
                try:
                    outcome = await take(ctx, step, edges, f"{ctx.name}.{number}", children, log)
                except (ChannelClosed, ChannelInUse, EndOfStream, WouldBlock) as refusal:
                    outcome = type(refusal).__name__
                log.append((ctx.clock.now(), ctx.name, step.verb, step.edge, outcome))
            children.cancel_scope.cancel()
    finally:
        log.append((ctx.clock.now(), ctx.name, "left"))


async def take(ctx: Context, step: Step, edges: Sequence[Channel[str]], item: str, children: Any, log: Log) -> object:
    edge = edges[step.edge]
    match step.verb:
        case "send":
            await edge.send.send(item)
        case "send_nowait":
            edge.send.send_nowait(item)
        case "receive":
            return await edge.recv.receive()
        case "receive_nowait":
            return edge.recv.receive_nowait()
        case "select":
            return await select(*(other.recv for other in edges if other is not edge))
        case "sleep":
            await ctx.clock.sleep(step.time)
        case "timeout":
            with ctx.clock.move_on_after(step.time) as scope:
                return await edge.recv.receive()
            return ("timed out", scope.cancelled_caught)
        case "every":
            ticks = []
            async for tick in ctx.clock.every(0.5 + step.time, first="now"):
                ticks.append(tick)
                if len(ticks) == 3:
                    return ticks
                await ctx.clock.sleep(step.edge)
        case "close":
            await (edge.recv.aclose() if step.time else edge.send.aclose())
        case "fail":
            raise RuntimeError(item)
        case "signal":
            if step.time == 0:
                ctx.supervisor.signal_stop()
            with ctx.clock.move_on_after(step.time):
                await ctx.stop_event.wait()
            return ctx.stopping
        case "child":
            # One inner task: with several, their order among themselves is the loop's.
            async def waits() -> None:
                try:
                    await edge.send.wait_room()
                    await ctx.clock.sleep(step.time)
                except (ChannelClosed, ChannelInUse):
                    log.append((ctx.clock.now(), ctx.name, "child refused"))
                finally:
                    log.append((ctx.clock.now(), ctx.name, "child left"))

            children.start_soon(waits)
            await ctx.clock.sleep(0)
    return None


def check_program(program: Program) -> None:
    run = run_of(program)
    first = simulate(run)
    assert simulate(run, backend="trio") == first
    assert anyio.run(run) == first
    assert anyio.run(run, backend="trio") == first


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PROGRAMS)
def test_every_loop_and_every_run_gives_the_same_log(program: Program) -> None:
    check_program(program)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PROGRAMS)
def test_ten_thousand_programs_give_the_same_log_on_every_loop(program: Program) -> None:
    check_program(program)
