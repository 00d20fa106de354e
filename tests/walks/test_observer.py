"""An observer sees what becomes of real processes, and nobody waits for it or goes with it."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from geartrain import Pipeline, RestartPolicy
from geartrain.actors.observer import ExecutorObserver
from geartrain.engine.launcher import Launcher
from geartrain.ports.fault_log import faults_in
from geartrain.ports.run_memory import RunMemory
from geartrain.rules.faults import Change, Fault, FaultCode, FaultStatus, Severity
from geartrain.rules.health import Health, Limits, is_online
from geartrain.rules.lookout import Lookout, Moment
from tests.walks.beating import Beating, Holds
from tests.walks.parts import Sink, Source
from tests.walks.waiting import Answers, Generous, Greedy, Lingers, Modest, Seldom, Stumbles

PATIENCE_S = 60
AT_ONCE = RestartPolicy(base=0.01, factor=1.0)
Loop = Literal["asyncio", "trio"]


def observe(pipeline: Pipeline, **config: Any) -> None:
    # On a busy machine a loop may not turn for a second, and nothing is wrong with it.
    known = {"poll": "20ms", "hang": "600ms", "heartbeat": "30s", "deadlock": "600ms", "blocked": "600ms"} | config
    pipeline.add(ExecutorObserver, name="observer", on_error="restart", restart=AT_ONCE, config=known)


@asynccontextmanager
async def running(pipeline: Pipeline) -> AsyncIterator[Launcher]:
    """A pipeline that runs, until the block ends."""
    launcher = Launcher(pipeline)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(launcher.live)
        with anyio.fail_after(PATIENCE_S):
            await launcher.gate.wait()
            yield launcher
        await launcher.end_now()


async def told(launcher: Launcher, code: FaultCode, status: FaultStatus = FaultStatus.CONFIRMED, of: str = "") -> Fault:
    """The first change of this kind that is written down."""
    while True:
        for change in faults_in(launcher.brief.state):
            if (change.fault.key.code, change.fault.status) == (code, status) and of in ("", change.fault.key.entity):
                return change.fault
        await anyio.sleep(0.01)


def looked(launcher: Launcher) -> tuple[Moment, tuple[Change, ...]]:
    """What somebody sees who looks only once."""
    memory = RunMemory(launcher.brief.state)
    found = Lookout(memory.about.spec).look(memory.look())
    memory.close()
    return found


def codes(changes: tuple[Change, ...]) -> set[FaultCode]:
    return {change.fault.key.code for change in changes}


def pid_of(launcher: Launcher, process: str) -> int:
    memory = RunMemory(launcher.brief.state)
    (pid,) = (poll.process.pid for poll in memory.look().processes if poll.process.process == process)
    memory.close()
    return pid


async def until(wanted: Callable[[], bool]) -> None:
    while not wanted():
        await anyio.sleep(0.01)


async def comes_again(launcher: Launcher, process: str, pid: int) -> None:
    await until(lambda: pid_of(launcher, process) not in (pid, 0))


async def test_a_process_that_was_killed_is_told_of_and_when_it_lives_again_that_is_over(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("beats", backend=anyio_backend)
    config = {"cycles": 1_000_000, "note": str(tmp_path / "note"), "at": 41}
    pipeline.add(Beating, name="beating", on_error="restart", config=config)
    observe(pipeline)
    async with running(pipeline) as launcher:
        dead = await told(launcher, FaultCode.PROCESS_DEAD)
        assert (dead.key.entity, dead.occurrences, dead.severity) == ("beating", 1, Severity.CRITICAL)
        await told(launcher, FaultCode.PROCESS_DEAD, FaultStatus.HEALED)


async def test_a_process_that_died_for_good_keeps_its_last_counts_and_is_dead(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("beats", backend=anyio_backend)
    config = {"cycles": 1_000_000, "note": str(tmp_path / "note"), "at": 41}
    pipeline.add(Beating, name="beating", on_error="ignore", config=config)
    pipeline.add(Lingers, name="other", config={"until": str(tmp_path / "never")})
    observe(pipeline, hang="10s")
    async with running(pipeline) as launcher:
        dead = await told(launcher, FaultCode.PROCESS_DEAD)
        assert "by signal 9" in dead.said or "nobody has seen how" in dead.said
        frames = [change.frame for change in faults_in(launcher.brief.state)]
        assert frames[0] is not None
        assert frames[0].process is not None
        moment, _ = looked(launcher)
        assert moment.daemons["beating"] == "dead"
        assert moment.health["component", "beating"] is Health.CRITICAL
        (executions,) = (slot.executions for _, slot in moment.reading.daemons() if slot.daemon == "beating")
        assert executions == 40


@pytest.mark.parametrize("blocks", [False, True])
async def test_a_body_that_hangs_is_told_of_while_it_hangs_and_that_it_is_over_when_it_goes_on(
    anyio_backend: Loop, tmp_path: Path, blocks: bool
) -> None:
    pipeline = Pipeline("lingers", backend=anyio_backend)
    config = {"until": str(tmp_path / "go"), "blocks": blocks}
    pipeline.add(Lingers, name="lingers", config=config)
    observe(pipeline, heartbeat="1s")
    async with running(pipeline) as launcher:
        hung = await told(launcher, FaultCode.APP_HUNG)
        assert hung.key.entity == "lingers"
        if blocks:
            await told(launcher, FaultCode.PROCESS_STALE)
        (tmp_path / "go").touch()
        await told(launcher, FaultCode.APP_HUNG, FaultStatus.HEALED)


@pytest.mark.parametrize("of_process", [False, True])
async def test_a_body_over_its_budget_is_a_fault_that_lasts(
    anyio_backend: Loop, tmp_path: Path, of_process: bool
) -> None:
    pipeline = Pipeline("lingers", backend=anyio_backend)
    budget = None if of_process else 0.05
    pipeline.add(Lingers, name="lingers", budget=budget, config={"until": str(tmp_path / "go")})
    if of_process:
        pipeline.process("lingers", budget=0.05)
    observe(pipeline, hang="200ms")
    code = FaultCode.EXECUTOR_BUDGET_EXCEEDED if of_process else FaultCode.TASK_BUDGET_EXCEEDED
    async with running(pipeline) as launcher:
        await told(launcher, FaultCode.APP_HUNG)
        (tmp_path / "go").touch()
        over = await told(launcher, code)
        assert (over.key.entity, over.severity, over.occurrences) == ("lingers", Severity.ERROR, 1)
        assert "and may take 50 ms" in over.said
        await told(launcher, FaultCode.APP_HUNG, FaultStatus.HEALED)
        (moment, _) = looked(launcher)
        assert moment.daemons["lingers"] == "faulted"
        assert moment.health["component", "lingers"] is Health.ERROR
        assert (code, FaultStatus.HEALED) not in [
            (change.fault.key.code, change.fault.status) for change in faults_in(launcher.brief.state)
        ]  # fmt: skip


async def test_a_process_that_is_stopped_is_stale_until_it_goes_on(anyio_backend: Loop, tmp_path: Path) -> None:
    pipeline = Pipeline("beats", backend=anyio_backend)
    pipeline.add(Beating, name="beating", config={"cycles": 1_000_000})
    observe(pipeline, heartbeat="1s")
    async with running(pipeline) as launcher:
        pid = pid_of(launcher, "beating")
        os.kill(pid, signal.SIGSTOP)
        stale = await told(launcher, FaultCode.PROCESS_STALE)
        assert (stale.key.entity, stale.severity) == ("beating", Severity.WARN)
        os.kill(pid, signal.SIGCONT)
        await told(launcher, FaultCode.PROCESS_STALE, FaultStatus.HEALED)


async def test_a_daemon_without_cycles_hangs_when_it_keeps_an_item_and_its_writer_is_blocked(
    anyio_backend: Loop,
) -> None:
    pipeline = Pipeline("holds", backend=anyio_backend)
    source = pipeline.add(Source, name="source", config={"total": 100})
    holder = pipeline.add(Holds, name="holds", config={"at": 20})
    pipeline.connect(source.out, holder.frames, maxsize=8)
    observe(pipeline)
    async with running(pipeline) as launcher:
        hung = await told(launcher, FaultCode.APP_HUNG)
        assert hung.key.entity == "holds"
        assert "item 21 of channel 'out'" in hung.said
        blocked = await told(launcher, FaultCode.WRITER_BLOCKED)
        assert (blocked.key.entity, blocked.severity) == ("source", Severity.WARN)
        assert "channel 'out'" in blocked.said
        assert FaultCode.DEADLOCK not in codes(faults_in(launcher.brief.state))


@pytest.mark.parametrize("together", [False, True])
async def test_two_that_write_to_each_other_and_do_not_read_are_a_deadlock_that_is_named(
    anyio_backend: Loop, together: bool
) -> None:
    pipeline = Pipeline("circle", backend=anyio_backend)
    home = "home" if together else None
    greedy = pipeline.add(Greedy, name="greedy", process=home)
    generous = pipeline.add(Generous, name="generous", process=home)
    pipeline.connect(greedy.out, generous.frames, name="there", maxsize=2, keep="taken")
    pipeline.connect(generous.out, greedy.back, name="back", maxsize=2, keep="taken")
    observe(pipeline)
    async with running(pipeline) as launcher:
        for name in ("greedy", "generous"):
            held = await told(launcher, FaultCode.DEADLOCK, of=name)
            assert held.severity is Severity.CRITICAL
            assert "greedy waits for room in channel there from generous" in held.said
            assert "generous waits for room in channel back from greedy" in held.said


async def test_two_that_each_wait_for_the_other_to_begin_are_told_of_and_are_not_ill(anyio_backend: Loop) -> None:
    pipeline = Pipeline("modesty", backend=anyio_backend)
    one, other = pipeline.add(Modest, name="one"), pipeline.add(Modest, name="other")
    pipeline.connect(one.out, other.frames, name="there", keep="taken")
    pipeline.connect(other.out, one.frames, name="back", keep="taken")
    observe(pipeline)
    async with running(pipeline) as launcher:
        held = await told(launcher, FaultCode.DEADLOCK)
        assert held.severity is Severity.INFO
        assert "one waits for an item in channel back from other" in held.said


async def test_who_waits_for_a_slow_source_is_well(anyio_backend: Loop, tmp_path: Path) -> None:
    pipeline = Pipeline("slow", backend=anyio_backend)
    source = pipeline.add(Source, name="source", config={"total": 10, "pause_s": 60})
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect(source.out, sink.frames)
    # What is met last tells that all limits are over.
    pipeline.add(Lingers, name="last", config={"until": str(tmp_path / "never")})
    observe(pipeline, deadlock="300ms", blocked="300ms")
    async with running(pipeline) as launcher:
        await told(launcher, FaultCode.APP_HUNG, of="last")
        assert codes(faults_in(launcher.brief.state)) == {FaultCode.APP_HUNG}


async def test_who_serves_calls_that_seldom_come_is_well(anyio_backend: Loop, tmp_path: Path) -> None:
    pipeline = Pipeline("seldom", backend=anyio_backend)
    seldom, answers = pipeline.add(Seldom, name="seldom"), pipeline.add(Answers, name="answers")
    pipeline.connect(seldom.svc, answers.calls)
    # What is met last tells that all limits are over.
    pipeline.add(Lingers, name="last", config={"until": str(tmp_path / "never")})
    observe(pipeline, deadlock="300ms", blocked="300ms")
    async with running(pipeline) as launcher:
        await told(launcher, FaultCode.APP_HUNG, of="last")
        assert codes(faults_in(launcher.brief.state)) == {FaultCode.APP_HUNG}
        moment, _ = looked(launcher)
        assert {counts.channel: counts.taken for counts in moment.channels} == {"svc": 1, "svc.replies": 1}


async def test_the_counts_of_a_process_go_on_through_ten_deaths_and_each_is_counted(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("stumbles", backend=anyio_backend)
    config = {"note": str(tmp_path / "note"), "deaths": 10, "cycles": 20}
    pipeline.add(Stumbles, name="stumbles", on_error="restart", restart=AT_ONCE, config=config)
    observe(pipeline)
    async with running(pipeline) as launcher:
        memory = RunMemory(launcher.brief.state)
        counted = [0]

        def all_over() -> bool:
            poll = next(poll for poll in memory.look().processes if poll.process.process == "stumbles")
            counted.append(poll.daemons[0].executions)
            return poll.process.restarts == 10 and poll.daemons[0].executions > 10 * 19

        await until(all_over)
        assert counted == sorted(counted)
        memory.close()
        storm = await told(launcher, FaultCode.RESTART_STORM)
        assert storm.key.entity == "stumbles"
        healed = await told(launcher, FaultCode.PROCESS_DEAD, FaultStatus.HEALED)
        while healed.occurrences < 10:
            healed = [
                change.fault for change in faults_in(launcher.brief.state)
                if change.fault.key.code is FaultCode.PROCESS_DEAD
            ][-1]  # fmt: skip
            await anyio.sleep(0.01)
        assert healed.occurrences == 10


async def test_an_observer_that_is_killed_twenty_times_disturbs_nobody_and_its_numbers_go_on(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("watched", backend=anyio_backend)
    source = pipeline.add(Source, name="source", config={"total": 2_000, "pause_s": 0.001})
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect(source.out, sink.frames)
    pipeline.add(Lingers, name="lingers", config={"until": str(tmp_path / "go")})
    observe(pipeline, hang="50ms")
    async with running(pipeline) as launcher:
        for _ in range(20):
            pid = pid_of(launcher, "observer")
            os.kill(pid, signal.SIGKILL)
            await comes_again(launcher, "observer", pid)
        await told(launcher, FaultCode.APP_HUNG)
        (tmp_path / "go").touch()
        await told(launcher, FaultCode.APP_HUNG, FaultStatus.HEALED)
        numbers = [change.number for change in faults_in(launcher.brief.state)]
        assert numbers == list(range(1, len(numbers) + 1))
        # It was told of its own deaths too.
        dead = [change.fault for change in faults_in(launcher.brief.state) if change.fault.key.entity == "observer"]
        assert {fault.key.code for fault in dead} >= {FaultCode.PROCESS_DEAD}
        await until(lambda: len((tmp_path / "ledger").read_bytes().splitlines()) == 2_000)
        memory = RunMemory(launcher.brief.state)
        assert {poll.process.process: poll.process.deaths for poll in memory.look().processes} == {
            "source": 0, "sink": 0, "lingers": 0, "observer": 20,
        }  # fmt: skip
        memory.close()


async def test_a_pipeline_ends_when_its_work_is_done_and_its_observer_with_it(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("done", backend=anyio_backend)
    source = pipeline.add(Source, name="source", config={"total": 10})
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect(source.out, sink.frames)
    observe(pipeline, hang="30s", blocked="30s")
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        await launcher.live()
    assert len((tmp_path / "ledger").read_bytes().splitlines()) == 10
    assert faults_in(launcher.brief.state) == ()


async def test_who_is_stopped_with_its_run_has_not_died(anyio_backend: Loop, tmp_path: Path) -> None:
    pipeline = Pipeline("stopped", backend=anyio_backend)
    pipeline.add(Beating, name="beating", config={"cycles": 1_000_000})
    source = pipeline.add(Source, name="source", config={"total": 1_000_000, "pause_s": 0.001})
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect(source.out, sink.frames)
    observe(pipeline, hang="30s", blocked="30s")
    async with running(pipeline) as launcher:
        await until(lambda: (tmp_path / "ledger").exists() and (tmp_path / "ledger").stat().st_size > 0)
    assert faults_in(launcher.brief.state) == ()


async def test_a_daemon_of_a_thousand_short_bodies_a_second_is_online_at_every_look(anyio_backend: Loop) -> None:
    pipeline = Pipeline("beats", backend=anyio_backend)
    pipeline.add(Beating, name="beating", config={"cycles": 1_000_000})
    async with running(pipeline) as launcher:
        memory = RunMemory(launcher.brief.state)
        for _ in range(1_000):
            reading = memory.look()
            (poll,) = reading.processes
            assert is_online(poll.process, reading.now_ns, Limits(heartbeat_ns=30_000_000_000))
        memory.close()
