"""The keeper and its replicas in one process and in virtual time, on both loops."""

from collections.abc import Callable
from typing import Any, Literal

import anyio
import pytest

from geartrain import JournalDamaged, Pipeline, ServiceRun, SimClock, simulate
from geartrain.actors.services import Keeper, recovered
from geartrain.engine.in_process import InProcess
from geartrain.ports.journal import MemoryJournal
from geartrain.rules.service_words import Begun, line, snapshot
from geartrain.rules.services import Ended, Outcome, Run

Loop = Literal["asyncio", "trio"]
both_loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])

told: list[tuple[float, str, int]] = []
tokens: list[int] = []


async def quick(run: ServiceRun) -> None:
    told.append((run.clock.now(), "begins", run.cycle))
    tokens.append(run.token)
    await run.clock.sleep(0.3)
    told.append((run.clock.now(), "ends", run.cycle))


async def slow(run: ServiceRun) -> None:
    told.append((run.clock.now(), "begins", run.cycle))
    await run.clock.sleep(2.5)
    told.append((run.clock.now(), "ends", run.cycle))


async def odd_ones_fail(run: ServiceRun) -> None:
    told.append((run.clock.now(), "begins", run.cycle))
    if run.cycle % 2:
        raise ValueError("it is odd")


def in_a_thread(run: ServiceRun) -> None:
    told.append((run.clock.now(), "begins", run.cycle))
    run.logger.info("cycle %d", run.cycle)


async def deaf(run: ServiceRun) -> None:
    told.append((run.clock.now(), "begins", run.cycle))
    with anyio.CancelScope(shield=True):
        await run.clock.sleep(2.5)
    told.append((run.clock.now(), "left" if run.is_leaving else "ends", run.cycle))


def live(loop: Loop, job: Callable[[ServiceRun], Any], for_s: float, **how: Any) -> list[tuple[float, str, int]]:
    """What the job has told, in that many seconds from 100 on, with cycles of a second."""
    told.clear()
    tokens.clear()

    async def main() -> None:
        clock = SimClock(100)
        pipeline = Pipeline("served")
        pipeline.service(job, every=1, **how)
        running = InProcess(pipeline, clock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running.live)
            await clock.advance(for_s)
            tasks.start_soon(running.stop)
            await clock.advance(20)

    simulate(main, backend=loop)
    return list(told)


@both_loops
def test_each_cycle_is_run_once_at_its_beginning(loop: Loop) -> None:
    said = live(loop, quick, 4.9, replicas=3)
    assert [(at, cycle) for at, what, cycle in said if what == "begins"] == [
        (100, 100), (101, 101), (102, 102), (103, 103), (104, 104)
    ]  # fmt: skip
    assert [cycle for _, what, cycle in said if what == "ends"] == [100, 101, 102, 103, 104]
    assert tokens == [1, 2, 3, 4, 5]


@both_loops
@pytest.mark.parametrize(
    ("overlap", "begun"),
    [
        ("skip", [(100, 100), (103, 103)]),
        ("wait", [(100, 100), (102.5, 102), (105, 105)]),
        ("cancel", [(100, 100), (101, 101), (102, 102), (103, 103), (104, 104), (105, 105)]),
        ("allow", [(100, 100), (101, 101), (102, 102), (103, 103), (104, 104), (105, 105)]),
    ],
)
def test_what_becomes_of_a_cycle_that_begins_while_an_earlier_one_runs(
    loop: Loop, overlap: str, begun: list[tuple[float, int]]
) -> None:
    said = live(loop, slow, 5.4, replicas=3, overlap=overlap)
    assert [(at, cycle) for at, what, cycle in said if what == "begins"] == begun


@both_loops
def test_a_function_that_raises_has_had_its_cycle_and_the_next_one_is_run(loop: Loop) -> None:
    said = live(loop, odd_ones_fail, 4.5)
    assert [cycle for _, _, cycle in said] == [100, 101, 102, 103, 104]


@both_loops
def test_a_function_that_is_not_async_runs_in_a_thread_and_virtual_time_waits_for_it(loop: Loop) -> None:
    assert live(loop, in_a_thread, 2.5) == [(100, "begins", 100), (101, "begins", 101), (102, "begins", 102)]


@both_loops
def test_a_run_that_does_not_leave_is_waited_for_where_its_process_cannot_be_ended(loop: Loop) -> None:
    said = live(loop, deaf, 3, overlap="cancel", grace=0.2)
    assert said[:3] == [(100, "begins", 100), (102.5, "left", 100), (102.5, "begins", 102)]


@both_loops
def test_a_replica_that_is_stopped_finishes_what_it_has_in_hand(loop: Loop) -> None:
    said = live(loop, slow, 0.5, replicas=2)
    assert said == [(100, "begins", 100), (102.5, "ends", 100)]


@both_loops
@pytest.mark.parametrize("overlap", ["skip", "allow"])
def test_a_keeper_that_is_made_anew_knows_what_has_run_and_what_runs(
    loop: Loop, overlap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Keeper._look
    fails_at_s = iter([100.1, 101.5, 103.0])
    next_s = [next(fails_at_s)]

    async def look(keeper: Keeper) -> int:
        if keeper._clock.now() >= next_s[0]:
            next_s[0] = next(fails_at_s, float("inf"))
            raise RuntimeError("the keeper has failed")
        return await looks(keeper)

    monkeypatch.setattr(Keeper, "_look", look)
    said = live(loop, quick, 7.9, overlap=overlap, silent_after=1)
    begun = [cycle for _, what, cycle in said if what == "begins"]
    assert next_s == [float("inf")]
    assert begun == sorted(set(begun))
    assert begun == [cycle for _, what, cycle in said if what == "ends"]
    assert begun[0] == 100
    assert begun[-1] == 107
    assert tokens == list(range(1, len(begun) + 1))


# -- the journal ------------------------------------------------------------------------------------------------------


def test_what_the_records_come_to_is_what_a_snapshot_and_the_rest_come_to() -> None:
    run = Run(7, 1, "a", 5, 10)
    lines: list[Begun | Run | Ended] = [Begun(7), run, Ended(run, Outcome.COMPLETED, 12), Run(8, 2, "b", 6, 20)]
    whole, begun_anew = MemoryJournal(), MemoryJournal()
    for what in lines:
        whole.append(line("report", what))
    for what in lines[:2]:
        begun_anew.append(line("report", what))
    whole.sync()
    begun_anew.sync()
    begun_anew.snapshot(2, snapshot(recovered(begun_anew)))
    for what in lines[2:]:
        begun_anew.append(line("report", what))
    begun_anew.sync()
    found = recovered(whole)["report"]
    assert (found.state.open_from, found.state.token, found.state.runs) == (8, 2, (lines[3],))
    assert dict(found.counts) == {"completed": 1}
    assert recovered(begun_anew.reopened()) == recovered(whole.reopened())


def test_records_that_nobody_understands_are_refused() -> None:
    journal = MemoryJournal()
    journal.append(line("report", Begun(7)))
    journal.append(b'{"service": "report", "what": {"type": "granted"}}')
    journal.sync()
    with pytest.raises(JournalDamaged, match="record 2"):
        recovered(journal)


def test_a_record_of_a_service_that_has_not_begun_is_refused() -> None:
    journal = MemoryJournal()
    journal.append(line("report", Run(7, 1, "a", 5, 10)))
    journal.sync()
    with pytest.raises(JournalDamaged, match="has not begun"):
        recovered(journal)
