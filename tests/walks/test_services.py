"""Services in real processes: what deaths of replicas and of the keeper, and a stop of everything, do to cycles."""

import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import anyio
import pytest

from geartrain import Pipeline
from geartrain.engine.launcher import Launcher
from geartrain.faces.services import services_of, told_of_service
from geartrain.ports.file_journal import FileJournal
from geartrain.ports.process_table import look_at
from geartrain.rules.service_words import ServiceShown, read_line
from geartrain.rules.services import Ended, Outcome, Passed, Run
from tests.walks import serving

PATIENCE_S = 60

Loop = Literal["asyncio", "trio"]


class Entry(NamedTuple):
    what: str
    cycle: int
    token: int
    replica: str
    pid: int


class Walk:
    """A pipeline that runs, and what its functions have written down."""

    def __init__(self, launcher: Launcher, ledger: Path) -> None:
        self.launcher = launcher
        self._ledger = ledger

    def entries(self) -> list[Entry]:
        if not self._ledger.exists():
            return []
        lines = (line.split() for line in self._ledger.read_text().splitlines())
        return [Entry(what, int(cycle), int(token), replica, int(pid)) for what, cycle, token, replica, pid in lines]

    async def sees(self, is_so: Callable[[list[Entry]], bool]) -> list[Entry]:
        """What is written down as soon as it is so."""
        while not is_so(entries := self.entries()):
            await anyio.sleep(0.002)
        return entries

    def pids(self, *names: str) -> list[int]:
        """The processes of these daemons, or of all."""
        standings = self.launcher.roll.standings()
        return [one.pid for one in standings if one.pid is not None and (not names or one.daemon in names)]

    def enough(self) -> None:
        Path(f"{self._ledger}.enough").touch()

    def records(self) -> list[Run | Ended | Passed]:
        """What the keeper has written down, after the run."""
        journal = FileJournal(self.launcher.brief.state / "services.journal")
        try:
            found = [read_line(record.payload).what for record in journal.records()]
        finally:
            journal.close()
        return [record for record in found if isinstance(record, Run | Ended | Passed)]

    def outcomes(self) -> dict[Outcome, list[int]]:
        """The cycles that have ended so."""
        ends = [record for record in self.records() if isinstance(record, Ended)]
        return {outcome: [end.run.cycle for end in ends if end.outcome is outcome] for outcome in Outcome}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SERVING", str(tmp_path / "ledger"))
    return tmp_path / "ledger"


async def run(
    pipeline: Pipeline, ledger: Path, during: Callable[[Walk], Awaitable[object]], patience_s: float = PATIENCE_S
) -> Walk:
    launcher = Launcher(pipeline)
    walk = Walk(launcher, ledger)

    async def stop_after() -> None:
        await during(walk)
        await launcher.stop()

    with anyio.fail_after(patience_s):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop_after)
            await launcher.live()
    return walk


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def is_there(pid: int) -> bool:
    entry = look_at(pid)
    return entry is not None and not entry.is_dead


def never_two_at_once(entries: list[Entry]) -> None:
    """A later run of a cycle is of a higher token, and nobody begins in the middle of a run that is then ended."""
    tokens = [entry.token for entry in entries if entry.what == "begins"]
    assert tokens == sorted(set(tokens))
    for before, after in pairwise(entries):
        assert after.what == "begins" or before.token == after.token, f"{after} came into the middle of {before}"


async def test_a_cycle_whose_replica_is_killed_is_run_by_another_one_in_the_same_cycle(
    anyio_backend: Loop, ledger: Path
) -> None:
    async def kill_the_first(walk: Walk) -> None:
        first = (await walk.sees(bool))[0]
        kill(first.pid)
        await walk.sees(lambda entries: len(entries) > 1)
        walk.enough()
        await walk.sees(lambda entries: entries[-1].what == "ends")

    pipeline = Pipeline("served", backend=anyio_backend)
    pipeline.service(serving.works_long, every=3600, replicas=3)
    walk = await run(pipeline, ledger, kill_the_first)
    first, second, end = walk.entries()
    assert (first.cycle, first.token, second.token) == (second.cycle, 1, 2)
    assert first.replica != second.replica
    assert (end.what, end.token) == ("ends", 2)
    assert walk.outcomes()[Outcome.ABANDONED] == walk.outcomes()[Outcome.COMPLETED] == [first.cycle]


@pytest.mark.parametrize("cycles", [12, pytest.param(300, marks=pytest.mark.soak)])
@pytest.mark.parametrize("victim", ["owner", "keeper", "both"])
async def test_whoever_is_killed_each_cycle_completes_once(
    anyio_backend: Loop, ledger: Path, victim: str, cycles: int
) -> None:
    async def kill_again_and_again(walk: Walk) -> None:
        for count in range(3, cycles, 6):
            seen = len(await walk.sees(partial(has_ended, count)))
            if victim != "keeper":
                kill((await walk.sees(partial(has_more, seen)))[-1].pid)
            if victim != "owner":
                for pid in walk.pids("services"):
                    kill(pid)
        # Once a cycle more has ended, the keeper has heard of the end of those before it.
        await walk.sees(partial(has_ended, cycles + 1))

    pipeline = Pipeline("served", backend=anyio_backend)
    pipeline.service(serving.works, every=0.2, replicas=3, overlap="wait", missed="catch_up")
    walk = await run(pipeline, ledger, kill_again_and_again, PATIENCE_S * max(1, cycles / 24))
    never_two_at_once(walk.entries())
    completed = Counter(walk.outcomes()[Outcome.COMPLETED])
    assert set(completed.values()) == {1}
    assert sorted(completed) == list(range(min(completed), max(completed) + 1))
    assert len(completed) >= cycles
    if victim != "keeper":
        assert walk.outcomes()[Outcome.ABANDONED]


def has_ended(cycles: int, entries: list[Entry]) -> bool:
    """So many cycles. One may end twice: who is killed before its end was heard of has a successor."""
    return len({entry.cycle for entry in _ended(entries)}) >= cycles


def has_more(seen: int, entries: list[Entry]) -> bool:
    return len(entries) > seen


def _ended(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.what == "ends"]


async def test_a_replica_that_stands_still_is_ended_before_another_one_runs(anyio_backend: Loop, ledger: Path) -> None:
    async def stop_the_first(walk: Walk) -> None:
        first = (await walk.sees(bool))[0]
        kill(first.pid, signal.SIGSTOP)
        await walk.sees(lambda entries: len(entries) > 1)
        assert not is_there(first.pid)
        walk.enough()

    pipeline = Pipeline("served", backend=anyio_backend)
    pipeline.service(serving.works_long, every=3600, replicas=2, silent_after=1)
    walk = await run(pipeline, ledger, stop_the_first)
    first, second = walk.entries()[:2]
    assert (first.cycle, first.replica != second.replica) == (second.cycle, True)


async def test_a_run_that_does_not_leave_within_its_grace_is_ended_with_its_process(
    anyio_backend: Loop, ledger: Path
) -> None:
    pipeline = Pipeline("served", backend=anyio_backend)
    pipeline.service(serving.stays, every=0.5, replicas=2, overlap="cancel", grace=0.2)

    async def see_three(walk: Walk) -> None:
        await walk.sees(lambda entries: len(entries) >= 3)

    walk = await run(pipeline, ledger, see_three)
    pids = [entry.pid for entry in walk.entries()[:3]]
    assert len(set(pids)) == 3
    assert len(walk.outcomes()[Outcome.ABANDONED]) >= 2


@pytest.mark.parametrize("missed", ["skip", "run_once", "catch_up"])
async def test_after_a_stop_of_everything_what_was_missed_is_made_up_for_as_is_said(
    anyio_backend: Loop, ledger: Path, missed: Literal["skip", "run_once", "catch_up"]
) -> None:
    async def stop_all(walk: Walk) -> None:
        seen = len(_ended(await walk.sees(lambda entries: len(_ended(entries)) >= 2)))
        children = walk.pids()
        for pid in children:
            kill(pid, signal.SIGSTOP)
        await anyio.sleep(1.5)
        for pid in children:
            kill(pid, signal.SIGCONT)
        await walk.sees(lambda entries: len(_ended(entries)) >= seen + 8)

    pipeline = Pipeline("served", backend=anyio_backend)
    # One that stood still with all others is not taken for silent.
    pipeline.service(serving.works, every=0.25, replicas=2, overlap="wait", missed=missed, silent_after=1)
    walk = await run(pipeline, ledger, stop_all)
    never_two_at_once(walk.entries())
    outcomes = walk.outcomes()
    passes = [record for record in walk.records() if isinstance(record, Passed)]
    passed = [cycle for record in passes for cycle in range(record.first, record.last + 1)]
    completed = outcomes[Outcome.COMPLETED]
    assert max(Counter(completed).values()) == 1
    assert outcomes[Outcome.ABANDONED] == []
    # Each has run once or has passed, and no cycle has done both.
    between = range(min(completed), max(completed) + 1)
    assert sorted([*completed, *(cycle for cycle in passed if cycle in between)]) == list(between)
    assert len(passed) == 0 if missed == "catch_up" else len(passed) >= 3


async def test_a_function_that_raises_has_failed_and_its_replica_goes_on(anyio_backend: Loop, ledger: Path) -> None:
    async def see_three(walk: Walk) -> None:
        await walk.sees(lambda entries: len(entries) >= 3)

    pipeline = Pipeline("served", backend=anyio_backend)
    pipeline.service(serving.fails, every=0.2)
    walk = await run(pipeline, ledger, see_three)
    ends = [record for record in walk.records() if isinstance(record, Ended)]
    assert {(end.outcome, end.said) for end in ends} == {(Outcome.FAILED, "ValueError: no paper")}
    assert len(ends) >= 2


async def test_replicas_in_processes_of_the_pipeline_and_a_function_in_a_thread(
    anyio_backend: Loop, ledger: Path
) -> None:
    async def see_two(walk: Walk) -> None:
        await walk.sees(lambda entries: len(_ended(entries)) >= 2)
        assert {"left", "right", "services"} == set(walk.launcher.present)

    pipeline = Pipeline("served", backend=anyio_backend)
    pipeline.service(serving.works, every=3600, name="own", replicas=["left", "right"])
    pipeline.service(serving.waits_in_a_thread, every=0.2, name="shared", replicas=["right", "left"])
    for name in ("left", "right"):
        pipeline.add(serving.Still, name=name)
    walk = await run(pipeline, ledger, see_two)
    assert {entry.replica.split("-")[0] for entry in walk.entries()} == {"own", "shared"}


def is_settled(service: ServiceShown) -> bool:
    return [replica.why != "" for replica in service.replicas] == [True, True]


async def test_what_has_become_of_each_cycle_is_there_to_be_seen(anyio_backend: Loop, ledger: Path) -> None:
    seen: list[str] = []

    async def look(walk: Walk) -> None:
        first = (await walk.sees(bool))[0]
        while not (found := services_of(walk.launcher.run.run_id)) or not is_settled(found[0]):
            await anyio.sleep(0.01)
        (service,) = found
        seen.append(told_of_service(service))
        assert {replica.why for replica in service.replicas} == {"running", "given"}
        given = service.records[0]
        assert isinstance(given, Run)
        assert (given.cycle, given.token, given.member) == (first.cycle, 1, first.replica)
        walk.enough()

    pipeline = Pipeline("served", backend=anyio_backend)
    pipeline.service(serving.works_long, every=3600)
    walk = await run(pipeline, ledger, look)
    first = walk.entries()[0]
    assert f"runs cycle {first.cycle} (token 1)" in seen[0]
    assert f"cycle {first.cycle} was given to '{first.replica}'" in seen[0]
