"""The observer as a daemon: it looks, it tells, and after its own death it goes on from what it has written down."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import pytest

from geartrain import SimClock, Supervisor, simulate
from geartrain.actors.observer import ExecutorObserver
from geartrain.errors import BadValue, SlotsUnreadable
from geartrain.ports.fault_log import faults_in
from geartrain.ports.run_memory import RunMemory
from geartrain.rules.faults import Change, FaultCode, FaultKey, FaultStatus
from geartrain.rules.lookout import Moment
from tests.ports.written_runs import WrittenLife, WrittenRun

POLL = timedelta(milliseconds=10)
PATIENCE_S = 20


class Seen(ExecutorObserver):
    """Lets a test wait for what is seen."""

    def __init__(self, memory: RunMemory, poll: timedelta = POLL) -> None:
        super().__init__(memory, poll)
        self.told: list[Change] = []
        self.looked = anyio.Event()

    def seen(self, moment: Moment, changes: tuple[Change, ...]) -> None:
        self.told += changes
        self.looked.set()
        self.looked = anyio.Event()

    async def tells(self, code: FaultCode, status: FaultStatus) -> Change:
        """The first time."""
        while True:
            for change in self.told:
                if (change.fault.key.code, change.fault.status) == (code, status):
                    return change
            await self.looked.wait()


@asynccontextmanager
async def observed(run: WrittenRun) -> AsyncIterator[Seen]:
    """An observer of this run, until the block ends."""
    made = Seen(run.memory())
    with anyio.fail_after(PATIENCE_S):
        async with Supervisor() as supervisor:
            supervisor.add_factory(lambda: made, name="observer")
            yield made
            await supervisor.stop()


def well(run: WrittenRun) -> tuple[WrittenLife, WrittenLife]:
    camera, sink = run.process("camera"), run.process("sink")
    camera.runs("camera")
    sink.runs("sink")
    return camera, sink


async def test_it_tells_of_a_fault_when_it_begins_and_when_it_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = WrittenRun(tmp_path)
    camera, _ = well(run)
    with caplog.at_level(logging.INFO):
        async with observed(run) as observer:
            camera.fails("camera", 3)
            raised = await observer.tells(FaultCode.APP_ERROR, FaultStatus.CONFIRMED)
            assert raised.fault.occurrences == 3
            assert raised.frame is not None
            assert raised.frame.daemon is not None
            assert raised.frame.daemon.errors == 3
            await observer.tells(FaultCode.APP_ERROR, FaultStatus.HEALED)
    said = [record.getMessage() for record in caplog.records if "APP_ERROR" in record.getMessage()]
    assert said == [
        "APP_ERROR of daemon 'camera' is confirmed: the daemon had failed, and was made anew, 3 times in all",
        "APP_ERROR of daemon 'camera' is healed: the daemon had failed, and was made anew, 3 times in all",
    ]


async def test_after_its_own_death_its_numbers_go_on_and_only_what_is_new_is_new(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path)
    camera, _ = well(run)
    async with observed(run) as observer:
        camera.fails("camera")
        first = await observer.tells(FaultCode.APP_ERROR, FaultStatus.CONFIRMED)
    # While nobody looks a process dies, and a daemon fails.
    camera.is_killed()
    camera.comes_again().runs("camera")
    camera.fails("camera")
    async with observed(run) as observer:
        dead = await observer.tells(FaultCode.PROCESS_DEAD, FaultStatus.CONFIRMED)
        assert dead.number > first.number
        assert dead.fault.occurrences == 1
        await observer.tells(FaultCode.PROCESS_DEAD, FaultStatus.HEALED)
        assert observer.moment is not None
        (error,) = (fault for fault in observer.moment.faults if fault.key.code is FaultCode.APP_ERROR)
        assert (error.first_ns, error.occurrences) == (first.fault.first_ns, 1)
        frames = observer.moment.frames[error.key]
        assert frames[0].daemon is not None
        assert frames[0].daemon.errors == 1
    numbers = [change.number for change in faults_in(tmp_path)]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_fault_that_was_cleared_is_so_for_its_next_life_too(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path)
    camera, _ = well(run)
    async with observed(run) as observer:
        camera.fails("camera")
        await observer.tells(FaultCode.APP_ERROR, FaultStatus.CONFIRMED)
        key = FaultKey("camera", FaultCode.APP_ERROR)
        assert observer.clear(key)
        assert not observer.clear(key)
    async with observed(run) as observer:
        await observer.looked.wait()
        assert observer.moment is not None
        assert [fault.status for fault in observer.moment.faults] == [FaultStatus.CLEARED]
        assert observer.told == []


async def test_a_line_that_its_former_life_did_not_finish_costs_that_line_only(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path)
    camera, _ = well(run)
    async with observed(run) as observer:
        camera.fails("camera")
        await observer.tells(FaultCode.APP_ERROR, FaultStatus.CONFIRMED)
        await observer.tells(FaultCode.APP_ERROR, FaultStatus.HEALED)
    log = tmp_path / "faults.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    async with observed(run) as observer:
        await observer.tells(FaultCode.APP_ERROR, FaultStatus.HEALED)
    assert [change.fault.status for change in faults_in(tmp_path)] == [FaultStatus.CONFIRMED, FaultStatus.HEALED]


async def test_it_looks_once_more_when_it_is_told_to_stop(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path)
    camera, _ = well(run)
    made = Seen(run.memory(), poll=timedelta(hours=1))
    with anyio.fail_after(PATIENCE_S):
        async with Supervisor() as supervisor:
            supervisor.add_factory(lambda: made, name="observer")
            await made.looked.wait()
            camera.is_killed()
            await supervisor.stop()
    assert [change.fault.key.code for change in made.told] == [FaultCode.PROCESS_DEAD]


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_its_looks_are_on_the_clock_of_its_run(tmp_path: Path, loop: Literal["asyncio", "trio"]) -> None:
    run = WrittenRun(tmp_path)
    well(run)

    async def main() -> int:
        clock = SimClock()
        made = Seen(run.memory(), poll=timedelta(hours=1))
        async with Supervisor(clock=clock) as supervisor:
            supervisor.add_factory(lambda: made, name="observer")
            await clock.advance(5 * 3600)
            assert made.moment is not None
            looks = made.moment.look
            await supervisor.stop()
        return looks

    assert simulate(main, backend=loop) == 1 + 5


def test_what_cannot_be_is_refused_in_words(tmp_path: Path) -> None:
    make = partial(ExecutorObserver, WrittenRun(tmp_path).memory())
    with pytest.raises(BadValue, match="poll of an observer is 0 s"):
        make(poll=timedelta(0))
    with pytest.raises(BadValue, match="heal of an observer is 0 looks"):
        make(heal=0)


def test_a_folder_of_no_run_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(SlotsUnreadable, match=r"run\.json cannot be read"):
        RunMemory(tmp_path)
