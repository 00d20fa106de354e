"""What a run writes down of itself says what every process does, and how each of its lives has ended."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio
import pytest

from geartrain import Pipeline
from geartrain.engine.launcher import Launcher
from geartrain.ports.run_memory import RunMemory
from geartrain.rules.readings import DaemonReading, EndReading, Phase, SlotState
from geartrain.rules.run_memory import RunReading
from tests.walks.beating import Beating, Holds
from tests.walks.parts import Sink, Source

PATIENCE_S = 30

Loop = Literal["asyncio", "trio"]


@asynccontextmanager
async def running(pipeline: Pipeline) -> AsyncIterator[RunMemory]:
    """The memory of a pipeline that runs, until the block ends."""
    launcher = Launcher(pipeline)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(launcher.live)
        with anyio.fail_after(PATIENCE_S):
            await launcher.gate.wait()
            memory = RunMemory(launcher.brief.state)
            yield memory
        memory.close()
        await launcher.end_now()


async def look_until(memory: RunMemory, wanted: Callable[[RunReading], bool]) -> RunReading:
    while not wanted(reading := memory.look()):
        await anyio.sleep(0.01)
    return reading


def daemon(reading: RunReading, name: str) -> DaemonReading:
    (found,) = (daemon for _, daemon in reading.daemons() if daemon.daemon == name)
    return found


def end(reading: RunReading, name: str) -> EndReading:
    (found,) = (end for _, end in reading.ends() if end.daemon == name)
    return found


@pytest.mark.parametrize("blocks", [False, True])
async def test_it_is_known_which_item_is_in_hand_also_of_a_loop_that_stands_still(
    anyio_backend: Loop, blocks: bool
) -> None:
    pipeline = Pipeline("holds", backend=anyio_backend)
    source = pipeline.add(Source, name="source", config={"total": 100, "pause_s": 0.002})
    holder = pipeline.add(Holds, name="holds", config={"at": 20, "blocks": blocks})
    pipeline.connect(source.out, holder.frames, maxsize=8)
    async with running(pipeline) as memory:

        def holds(now: RunReading) -> bool:
            return end(now, "holds").in_hand == 21 and end(now, "source").waits == 1

        reading = await look_until(memory, holds)
        assert end(reading, "holds").may_have == 21
        # A loop that stands still has not told its writer of the last places that became free.
        assert end(reading, "source").accepted in ({27, 28} if blocks else {29})
        assert 8 <= end(reading, "source").unacknowledged <= 9
        assert daemon(reading, "holds").phase == Phase.RUN
        assert daemon(reading, "holds").state == SlotState.RUNNING
        assert all(poll.process.alive for poll in reading.processes)
        assert reading.alive


async def test_of_a_process_that_died_its_last_life_is_kept_and_its_next_goes_on_counting(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("beats", backend=anyio_backend)
    config = {"cycles": 60, "note": str(tmp_path / "note"), "at": 40}
    pipeline.add(Beating, name="beating", on_error="restart", config=config)
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        await launcher.live()
    memory = RunMemory(launcher.brief.state)
    (last,) = memory.look().processes
    (first,) = memory.former("beating")
    assert (first.process.generation, first.process.alive, first.process.exit_code) == (1, False, -9)
    dead = first.daemons[0]
    assert (dead.executions, dead.cycle, dead.phase) == (39, 38, Phase.RUN)
    assert dead.in_body_since_ns > 0
    assert (last.process.generation, last.process.deaths, last.process.restarts) == (2, 1, 1)
    assert (last.process.alive, last.process.exit_code) == (False, 0)
    # Of the body that died nobody has seen the end.
    assert last.daemons[0].executions == 39 + 60
    assert (last.daemons[0].starts, last.daemons[0].state) == (2, SlotState.STOPPED)
    happened = [(event.what, event.life or event.said) for event in memory.events()]
    assert happened[:2] == [("began", "beats"), ("spawned", 1)]
    assert ("exited", 1) in happened
    assert [what for what, _ in happened].count("ready") == 2
    assert happened[-1][0] == "over"
    assert any(event.said == "killed by SIGKILL" for event in memory.events())
    memory.close()


async def test_a_foreign_program_is_written_down_by_who_started_it() -> None:
    pipeline = Pipeline("foreign")
    pipeline.add_command((sys.executable, "-c", "print('hello')"), name="lines")
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        await launcher.live()
    memory = RunMemory(launcher.brief.state)
    (poll,) = memory.look().processes
    assert (poll.daemons[0].state, poll.daemons[0].starts, poll.process.exit_code) == (SlotState.STOPPED, 1, 0)
    memory.close()


async def test_a_daemon_that_failed_and_was_made_anew_within_its_process_is_counted(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("fails", backend=anyio_backend)
    config = {"cycles": 30, "note": str(tmp_path / "note"), "at": 10, "does": "raise"}
    pipeline.add(Beating, name="beating", on_error="restart", config=config)
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        await launcher.live()
    memory = RunMemory(launcher.brief.state)
    reading = daemon(memory.look(), "beating")
    assert (reading.errors, reading.restarts, reading.starts, reading.executions) == (1, 1, 2, 40)
    assert memory.former("beating") == ()
    memory.close()


async def test_a_slot_file_that_is_damaged_is_named_and_the_others_are_read(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("two")
    source = pipeline.add(Source, name="source", config={"total": 3})
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect(source.out, sink.frames)
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        await launcher.live()
    (path,) = launcher.brief.state.glob("sink.*.slots")
    path.write_bytes(path.read_bytes()[:200])
    memory = RunMemory(launcher.brief.state)
    reading = memory.look()
    assert len(reading.unreadable) == 1
    assert str(path) in reading.unreadable[0]
    assert end(reading, "source").accepted == 3
    memory.close()
