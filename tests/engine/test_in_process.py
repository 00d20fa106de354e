"""What a pipeline promises when all of it runs in the present process."""

import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from msgspec import Struct

import geartrain
from geartrain import (
    Caller,
    Calls,
    Context,
    Daemon,
    Deadlock,
    ExecutorObserver,
    NotHeld,
    Pipeline,
    PipelineFailed,
    PipelineFaulty,
    ReceiveStream,
    RestartPolicy,
    SendStream,
    SimClock,
    daemon,
    simulate,
)
from geartrain.engine.in_process import InProcess
from geartrain.ports.run_memory import RunMemory
from geartrain.recipes.ready_made import Merge, Tee

Loop = Literal["asyncio", "trio"]
both_loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])

# What the daemons of a test have to tell, in order: they are all in this process.
TOLD: list[tuple[object, ...]] = []
PATIENCE_S = 20


@pytest.fixture(autouse=True)
def nothing_told() -> Iterator[None]:
    TOLD.clear()
    yield
    TOLD.clear()


def told_by(name: str) -> list[object]:
    return [what for who, what in TOLD if who == name]


class Item(Struct):
    number: int


class Source(Daemon):
    """Sends 0, 1, 2 ... at its pace, and returns without closing anything."""

    def __init__(self, out: SendStream[Item], total: float, pace_s: float = 0, tap: SendStream[Item] | None = None):
        self.out = out
        self.total = total
        self.pace_s = pace_s
        self.tap = tap

    async def on_start(self, ctx: Context) -> None:
        TOLD.append((ctx.name, "starts"))

    async def run(self, ctx: Context) -> None:
        number = 0
        while number < self.total and not ctx.stopping:
            await self.out.send(Item(number))
            number += 1
            await ctx.clock.sleep(self.pace_s)


class Middle(Daemon):
    """Hands on; fails once, or ever again, at one item."""

    def __init__(self, items: ReceiveStream[Item], out: SendStream[Item], at: int = -1, once: bool = True):
        self.items = items
        self.out = out
        self.at = at
        self.once = once

    async def run(self, ctx: Context) -> None:
        TOLD.append((ctx.name, self))
        async for item in self.items:
            if item.number == self.at or (item.number > self.at >= 0 and not self.once):
                raise OSError("the lens is dirty")
            await self.out.send(item)


class Sink(Daemon):
    """Tells what has come, at its pace."""

    def __init__(self, items: ReceiveStream[Item], pace_s: float = 0) -> None:
        self.items = items
        self.pace_s = pace_s

    async def on_start(self, ctx: Context) -> None:
        TOLD.append((ctx.name, "starts"))

    async def run(self, ctx: Context) -> None:
        async for item in self.items:
            TOLD.append((ctx.name, item.number))
            await ctx.clock.sleep(self.pace_s)
        TOLD.append((ctx.name, "end"))


class Lingerer(Source):
    """Tells in `on_stop` whether its reader has heard of its end already."""

    async def on_stop(self, ctx: Context) -> None:
        with anyio.move_on_after(PATIENCE_S):
            while "end" not in told_by("sink"):
                await anyio.sleep(0.001)
            TOLD.append((ctx.name, "its reader has ended"))


@daemon
async def waits_for_its_stop(ctx: Context) -> None:
    await ctx.stop_event.wait()
    await ctx.clock.sleep(1)
    TOLD.append((ctx.name, "stopped"))


@daemon
async def sleeps_for_ever(ctx: Context, out: SendStream[Item]) -> None:
    await out.send(Item(0))
    await anyio.sleep_forever()


@daemon
async def never_sends(
    ctx: Context, items: ReceiveStream[Item], out: SendStream[Item], tap: SendStream[Item] | None
) -> None:
    await out.send(await items.receive())


class Slow(Daemon):
    """Its `on_start` takes an hour."""

    async def on_start(self, ctx: Context) -> None:
        await ctx.clock.sleep(3600)

    async def run(self, ctx: Context) -> None: ...


@daemon
async def quits(ctx: Context, items: list[ReceiveStream[Item]]) -> None:
    await ctx.clock.sleep(1)
    raise OSError("no, thanks")


@daemon
async def offers(ctx: Context, out: SendStream[Item], total: int) -> None:
    for number in range(total):
        await out.send(Item(number))
        TOLD.append((ctx.name, number))


def chain(*, total: float = 10, middle: dict[str, Any] | None = None, **options: Any) -> Pipeline:
    """source -> middle -> sink"""
    pipeline = Pipeline("chain")
    said: dict[str, Any] = {"config": {}} | (middle or {})
    source = pipeline.add(Source, name="source", config={"total": total})
    between = pipeline.add(Middle, name="middle", **said)
    sink = pipeline.add(Sink, name="sink")
    pipeline.connect(source.out, between.items, **options)
    pipeline.connect(between.out, sink.items, **options)
    return pipeline


async def run(pipeline: Pipeline) -> InProcess:
    it = InProcess(pipeline)
    with anyio.fail_after(PATIENCE_S):
        await it.live()
    return it


# -- ends, starts, ports ----------------------------------------------------------------------------------------------


async def test_it_ends_when_every_daemon_has_returned_and_no_process_is_started() -> None:
    with anyio.fail_after(PATIENCE_S):
        await chain().run(in_process=True)
    assert told_by("sink") == ["starts", *range(10), "end"]


def test_nobody_runs_before_everybody_has_started() -> None:
    pipeline = chain(total=1)
    pipeline.add(Slow, name="slow")
    clock = SimClock()
    it = InProcess(pipeline, clock)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(it.live)
            await clock.advance(3599)
            assert told_by("sink") == ["starts"]
            await clock.advance(1)

    simulate(main)
    assert told_by("sink") == ["starts", 0, "end"]


async def test_whoever_has_returned_has_closed_its_ends_before_it_cleans_up() -> None:
    pipeline = Pipeline("lingering")
    source = pipeline.add(Lingerer, name="source", config={"total": 1})
    pipeline.connect(source.out, pipeline.add(Sink, name="sink").items)
    await run(pipeline)
    assert told_by("source") == ["starts", "its reader has ended"]


@both_loops
def test_the_bound_and_the_policy_of_a_channel_are_the_declared_ones(loop: Loop) -> None:
    pipeline = Pipeline("newest", backend=loop)
    source = pipeline.add(Source, name="source", config={"total": 10, "pace_s": 1})
    sink = pipeline.add(Sink, name="sink", config={"pace_s": 3.5})
    pipeline.connect(source.out, sink.items, policy="latest")
    geartrain.run(pipeline, in_process=True, clock=SimClock())
    assert told_by("sink") == ["starts", 0, 3, 6, 9, "end"]


async def test_a_list_of_ports_has_its_channels_in_the_order_of_the_file_and_an_optional_one_may_be_left() -> None:
    pipeline = Pipeline("fan")
    source = pipeline.add(Source, name="source", config={"total": 4})
    tee = pipeline.add(Tee[Item], name="tee")
    merge = pipeline.add(Merge[Item], name="merge")
    sink = pipeline.add(Sink, name="sink")
    pipeline.connect(source.out, tee.source)
    for _ in range(2):
        pipeline.connect(tee.dests, merge.sources)
    pipeline.connect(merge.dest, sink.items)
    await run(pipeline)
    assert sorted(told_by("sink")[1:-1], key=str) == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_settings_of_processes_are_passed_over(tmp_path: Path) -> None:
    pipeline = chain()
    pipeline.process("middle", backend="trio", env={"A": "b"}, nice=5, cwd=tmp_path)
    pipeline.process("sink", backend="asyncio")
    await run(pipeline)
    assert told_by("sink")[-1] == "end"


async def test_a_file_is_run_with_its_config_decoded(tmp_path: Path) -> None:
    (tmp_path / "told_to.py").write_text(
        "from datetime import timedelta\n"
        "from pathlib import Path\n"
        "from geartrain import daemon\n"
        "@daemon\n"
        "async def told_to(ctx, every: timedelta, path: Path) -> None:\n"
        "    path.write_text(f'{every.total_seconds()} {type(path).__name__}')\n"
    )
    file = tmp_path / "one.toml"
    config = f'{{ every = "250ms", path = "{tmp_path / "note"}" }}'
    file.write_text(f'[pipeline]\nname = "one"\n[daemons.one]\nrun = "told_to:told_to"\nconfig = {config}\n')
    await run(Pipeline.from_file(file))
    assert (tmp_path / "note").read_text() == "0.25 PosixPath"


async def test_a_foreign_program_is_refused_by_name() -> None:
    pipeline = chain()
    pipeline.add_command(["true"], name="ffmpeg")
    with pytest.raises(PipelineFaulty, match=re.escape("daemons.ffmpeg.command: a foreign program")):
        await pipeline.run(in_process=True)


class Looks(Daemon):
    def __init__(self, memory: RunMemory) -> None: ...

    async def run(self, ctx: Context) -> None: ...


async def test_who_reads_what_a_run_writes_down_is_refused_by_name_where_nothing_is_written() -> None:
    pipeline = chain()
    pipeline.add(Looks, name="looks")
    with pytest.raises(PipelineFaulty, match=re.escape("daemons.looks.memory: is what the processes of a run write")):
        await pipeline.run(in_process=True)


async def test_an_observer_is_left_out_where_there_is_nothing_to_see() -> None:
    pipeline = chain()
    pipeline.add(ExecutorObserver, name="observer")
    await pipeline.run(in_process=True)
    assert told_by("sink")


async def test_a_clock_without_in_process_is_refused() -> None:
    with pytest.raises(ValueError, match="in_process=True"):
        await chain().run(clock=SimClock())
    with pytest.raises(ValueError, match="in_process=True"):
        geartrain.run(chain(), clock=SimClock())


@daemon
async def asks(ctx: Context, svc: Caller[int, int]) -> None:
    for number in range(4):
        TOLD.append((ctx.name, (ctx.clock.now(), await svc.call(number, 10, clock=ctx.clock))))


@daemon
async def answers(ctx: Context, calls: Calls[int, int], fails_at: int) -> None:
    async for call in calls:
        await ctx.clock.sleep(1)
        if call.request == fails_at and not call.redelivered:
            raise OSError("the book is wet")
        await call.reply(call.request * call.request)


@both_loops
def test_daemons_call_each_other_and_who_is_made_anew_answers_what_it_had_in_hand(loop: Loop) -> None:
    pipeline = Pipeline("asking", backend=loop)
    pipeline.add(asks, name="client")
    pipeline.add(answers, name="server", on_error="restart", config={"fails_at": 2})
    pipeline.connect("client.svc", "server.calls")
    geartrain.run(pipeline, in_process=True, clock=SimClock())
    assert told_by("client") == [(0, 0), (1, 1), (2, 4), (4, 9)]


@both_loops
def test_who_calls_a_daemon_that_is_ignored_is_told_that_it_has_gone(loop: Loop) -> None:
    pipeline = Pipeline("asking", backend=loop)
    pipeline.add(asks, name="client")
    pipeline.add(answers, name="server", on_error="ignore", config={"fails_at": 2})
    pipeline.connect("client.svc", "server.calls")
    with pytest.raises(PipelineFailed, match="in run: ServerGone: nobody answers calls over channel 'svc' any more"):
        geartrain.run(pipeline, in_process=True, clock=SimClock())
    assert told_by("client") == [(0, 0), (1, 1)]


# -- failures ---------------------------------------------------------------------------------------------------------


async def test_a_failure_that_ends_it_is_told_as_from_a_process() -> None:
    with pytest.raises(
        PipelineFailed, match=r"daemon 'middle' \(process 'middle', pid \d+\) in run: OSError"
    ) as caught:
        await run(chain(middle={"config": {"at": 3}}))
    assert "in run\n    raise OSError" in caught.value.trace
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_daemon_that_is_made_anew_is_a_fresh_object_with_the_same_ends() -> None:
    again = {"on_error": "restart", "restart": RestartPolicy(base=0), "config": {"at": 3}}
    it = await run(chain(middle=again))
    first, second = told_by("middle")
    assert first is not second
    assert isinstance(first, Middle)
    assert isinstance(second, Middle)
    assert (first.items, first.out) == (second.items, second.out)
    # The item in hand is gone; nothing else is.
    assert told_by("sink")[1:] == [0, 1, 2, 4, 5, 6, 7, 8, 9, "end"]
    assert [standing.restarts for standing in it.roll.standings()] == [0, 1, 0]


@daemon
async def exits(ctx: Context) -> None:
    raise SystemExit(3)


async def test_whoever_ends_the_program_ends_it() -> None:
    pipeline = chain(total=math.inf)
    pipeline.add(exits, on_error="restart")
    with pytest.raises(SystemExit, match="3"):
        await run(pipeline)


async def test_a_crash_loop_ends_it_with_the_first_cause() -> None:
    again = RestartPolicy(base=0, max_retries=2, within=30)
    loop = {"on_error": "restart", "restart": again, "config": {"at": 3, "once": False}}
    with pytest.raises(PipelineFailed, match=r"daemon 'middle' .*, attempt 3\) in run: OSError: the lens is dirty"):
        await run(chain(middle=loop))
    assert len(told_by("middle")) == 3


async def test_whoever_is_ignored_is_discarded_for_and_the_others_end() -> None:
    it = await run(chain(total=1000, middle={"on_error": "ignore", "config": {"at": 3}}, maxsize=1))
    assert told_by("sink")[1:] == [0, 1, 2, "end"]
    assert [report.daemon for report in it.reports] == ["middle"]
    assert it.statistics()["out"].dropped == 1000 - 4


async def test_a_reader_that_returns_early_is_told_to_its_writer() -> None:
    pipeline = Pipeline("early")
    source = pipeline.add(Source, name="source", on_error="ignore", config={"total": math.inf})
    early = pipeline.add(never_sends, name="early", on_error="ignore")
    sink = pipeline.add(Sink, name="sink")
    pipeline.connect(source.out, "early.items", maxsize=1)
    pipeline.connect("early.out", sink.items)
    assert early.name == "early"
    it = await run(pipeline)
    assert told_by("sink")[1:] == [0, "end"]
    assert "ChannelClosed" in it.reports[0].error


async def test_a_start_that_takes_too_long_is_a_failure() -> None:
    pipeline = Pipeline("slow")
    pipeline.add(Slow, name="slow", start_within=0.01)
    with pytest.raises(PipelineFailed, match=r"in on_start: TimeoutError: on_start has not returned within 10ms"):
        await run(pipeline)


@daemon
async def takes_long_once(ctx: Context) -> None:
    takes_s = 0.003
    async for _ in ctx.clock.every(0.005):
        TOLD.append(("slow", ctx.clock.now()))
        await ctx.clock.sleep(takes_s)
        takes_s = 0


@both_loops
def test_a_daemon_over_its_budget_is_held_until_it_is_cleared(loop: Loop) -> None:
    async def program() -> None:
        pipeline, clock = Pipeline("budget"), SimClock()
        pipeline.add(takes_long_once, name="slow", budget=0.001)
        it = InProcess(pipeline, clock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(it.live)
            await it.gate.wait()
            await clock.advance(0.020)
            it.clear("slow")
            with pytest.raises(NotHeld):
                it.clear("slow")
            await clock.advance(0.010)
            await it.end_now()
        assert told_by("slow") == [0.005, 0.025, 0.030]

    simulate(program, backend=loop)


# -- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [Source, sleeps_for_ever])
async def test_a_stop_begins_at_the_sources_and_drains(source: Any) -> None:
    pipeline = Pipeline("endless")
    pipeline.add(source, name="source", config={"total": 1e9} if source is Source else {})
    middle = pipeline.add(Middle, name="middle")
    sink = pipeline.add(Sink, name="sink")
    pipeline.connect("source.out", middle.items)
    pipeline.connect(middle.out, sink.items)
    it = InProcess(pipeline)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(it.live)
            while not told_by("sink")[1:]:
                await anyio.sleep(0.001)
            assert await it.stop() == ()
    assert told_by("sink")[-1] == "end"
    accepted = {stats.accepted for stats in it.statistics().values()}
    assert accepted == {len(told_by("sink")) - 2}
    assert it.reports == []


# -- virtual time -----------------------------------------------------------------------------------------------------


def an_hour() -> Pipeline:
    """A source that sends once a minute for an hour, a middle that fails now and then, a sink, and somebody idle."""
    pipeline = Pipeline("hour")
    source = pipeline.add(Source, name="source", config={"total": 60, "pace_s": 60})
    again = RestartPolicy(base=1)
    middle = pipeline.add(Middle, name="middle", on_error="restart", restart=again, config={"at": 20})
    quitter = pipeline.add(Middle, name="quitter", on_error="ignore", config={"at": 30})
    tee = pipeline.add(Tee[Item], name="tee")
    for name, before in (("sink", middle.out), ("other", quitter.out)):
        pipeline.connect(before, pipeline.add(Sink, name=name).items, maxsize=2)
    pipeline.connect(source.out, tee.source, maxsize=0)
    pipeline.connect(tee.dests, middle.items, maxsize=0)
    pipeline.connect(tee.dests, quitter.items, maxsize=1)
    pipeline.add(waits_for_its_stop, name="idle")
    return pipeline


def test_virtual_time_passes_by_itself_and_the_run_is_the_same_on_both_loops_and_every_time() -> None:
    runs = []
    for loop in ("asyncio", "trio", "asyncio", "trio"):
        clock = SimClock()
        pipeline = an_hour().overridden([f"pipeline.backend={loop}"])
        geartrain.run(pipeline, in_process=True, clock=clock)
        assert clock.now() == 3601
        runs.append([(who, what if isinstance(what, str | int) else "") for who, what in TOLD])
        TOLD.clear()
    assert runs == [runs[0]] * 4
    assert ("sink", 59) in runs[0]
    assert ("idle", "stopped") in runs[0]


def test_what_is_discarded_is_discarded_in_the_same_order_on_every_run() -> None:
    runs = []
    for loop in ("asyncio", "trio", "trio", "trio"):
        pipeline = Pipeline("unwanted").overridden([f"pipeline.backend={loop}"])
        pipeline.add(quits, name="quits", on_error="ignore")
        for number in range(8):
            pipeline.add(offers, name=f"offers{number}", config={"total": 3})
            pipeline.connect(f"offers{number}.out", "quits.items", maxsize=0)
        geartrain.run(pipeline, in_process=True, clock=SimClock())
        runs.append([*TOLD])
        TOLD.clear()
    assert len(runs[0]) == 24
    assert runs == [runs[0]] * 4


@both_loops
def test_virtual_time_is_driven_by_the_caller(loop: Loop) -> None:
    async def main() -> None:
        clock = SimClock()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(an_hour().run, in_process=True, clock=clock))
            await clock.advance(600)
            assert told_by("sink") == ["starts", *range(11)]
            await clock.advance(600)
            assert told_by("sink") == ["starts", *range(20)]
            tasks.cancel_scope.cancel()

    simulate(main, backend=loop)


async def test_virtual_time_passes_on_a_loop_of_somebody_else_too() -> None:
    clock = SimClock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(chain(total=3).run, in_process=True, clock=clock))
        await clock.run()
    assert told_by("sink") == ["starts", 0, 1, 2, "end"]


@both_loops
def test_who_waits_in_vain_is_named(loop: Loop) -> None:
    pipeline = Pipeline("ring", backend=loop)
    for name in ("left", "right"):
        pipeline.add(never_sends, name=name)
    pipeline.add(quits, name="quits", on_error="ignore")
    pipeline.connect("left.out", "right.items", name="there", policy="latest")
    pipeline.connect("right.out", "left.items", name="back", policy="latest")
    pipeline.connect("right.tap", "quits.items")
    with pytest.raises(Deadlock, match=r"left waits to receive from channel 'back', written by right") as caught:
        geartrain.run(pipeline, in_process=True, clock=SimClock())
    assert "quits" not in str(caught.value)


@both_loops
def test_whoever_waits_for_the_outside_is_cancelled_at_the_end_of_virtual_time(loop: Loop) -> None:
    pipeline = Pipeline("outside", backend=loop)
    pipeline.add(sleeps_for_ever, name="source")
    pipeline.connect("source.out", pipeline.add(Sink, name="sink").items)
    geartrain.run(pipeline, in_process=True, clock=SimClock())
    assert told_by("sink") == ["starts", 0]


@both_loops
def test_a_failure_in_virtual_time_is_told_as_any_other(loop: Loop) -> None:
    pipeline = chain(middle={"config": {"at": 3}}).overridden([f"pipeline.backend={loop}"])
    with pytest.raises(PipelineFailed, match="the lens is dirty"):
        geartrain.run(pipeline, in_process=True, clock=SimClock())


@both_loops
def test_a_program_without_a_loop_runs_it_in_real_time(loop: Loop) -> None:
    geartrain.run(chain().overridden([f"pipeline.backend={loop}"]), in_process=True)
    assert told_by("sink")[-1] == "end"
