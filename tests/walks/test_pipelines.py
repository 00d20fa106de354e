"""A whole pipeline: real processes, real deaths, and a ledger at the end that says what arrived."""

from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from geartrain import Pipeline
from geartrain.engine.launcher import Launcher
from geartrain.errors import PipelineFailed
from geartrain.ports.run_directory import live_runs
from geartrain.recipes import Merge, Tee, WorkerPool
from tests.walks.ledger import Ledger
from tests.walks.parts import Middle, Sink, Source, Tidy, deaf, forever

PATIENCE_S = 30

Loop = Literal["asyncio", "trio"]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def chain(loop: Loop, ledger: Ledger, *, total: int, middles: list[dict[str, Any]], **options: Any) -> Pipeline:
    """A source, so many in the middle, and a sink; each in a process of its own unless it is said otherwise."""
    pipeline = Pipeline("chain", backend=loop)
    before: Any = pipeline.add(Source, name="source", config={"total": total}).out
    for place, said in enumerate(middles):
        config: dict[str, object] = {key: said[key] for key in ("at", "does") if key in said}
        rest = {key: value for key, value in said.items() if key not in config}
        middle = pipeline.add(Middle, name=f"middle{place}", config=config, **{"on_error": "restart"} | rest)
        pipeline.connect(before, middle.frames, **{"maxsize": 8} | options)
        before = middle.out
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(ledger.path)})
    pipeline.connect(before, sink.frames, **{"maxsize": 8} | options)
    return pipeline


async def run(pipeline: Pipeline) -> Launcher:
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        await launcher.live()
    return launcher


async def test_a_pipeline_ends_when_every_daemon_has_returned(anyio_backend: Loop, ledger: Ledger) -> None:
    await run(chain(anyio_backend, ledger, total=100, middles=[{}]))
    assert ledger.entries == [(number, False) for number in range(100)]
    assert live_runs() == ()


async def test_processes_may_run_different_loops(anyio_backend: Loop, ledger: Ledger) -> None:
    pipeline = chain(anyio_backend, ledger, total=100, middles=[{}])
    pipeline.process("middle0", backend="trio" if anyio_backend == "asyncio" else "asyncio")
    await run(pipeline)
    ledger.assert_complete(100)


async def test_recipes_carry_the_items_of_their_neighbours_from_process_to_process(
    anyio_backend: Loop, ledger: Ledger
) -> None:
    pipeline = Pipeline("recipes", backend=anyio_backend)
    source = pipeline.add(Source, name="source", config={"total": 20})
    pipeline.add(Tee, name="tee")
    pipeline.add(Merge, name="merge")
    pipeline.add(WorkerPool, name="pool", config={"handle": "tests.walks.joined:looked_at", "workers": 2})
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(ledger.path)})
    pipeline.connect(source.out, "tee.source")
    for _ in range(2):
        pipeline.connect("tee.dests", "merge.sources")
    pipeline.connect("merge.dest", "pool.incoming")
    pipeline.connect("pool.results", sink.frames)
    await run(pipeline)
    assert sorted(ledger.entries) == [(number, False) for number in range(20) for _ in range(2)]


@pytest.mark.parametrize("does", ["raise", "exit", "vanish", "crash", "die"])
async def test_a_daemon_that_dies_in_any_way_is_made_anew_and_nothing_is_lost(
    anyio_backend: Loop, ledger: Ledger, does: str
) -> None:
    await run(chain(anyio_backend, ledger, total=100, middles=[{"at": 50, "does": does}]))
    ledger.assert_complete(100)
    assert (50, True) in ledger.entries


@pytest.mark.parametrize("does", ["raise", "die"])
async def test_two_daemons_of_one_process_lose_nothing_either(anyio_backend: Loop, ledger: Ledger, does: str) -> None:
    middles = [{"process": "both", "at": 30, "does": does}, {"process": "both", "at": 70, "does": does}]
    await run(chain(anyio_backend, ledger, total=100, middles=middles))
    ledger.assert_complete(100)


async def test_a_daemon_that_shares_the_process_of_its_source_loses_nothing_when_it_is_made_anew(
    anyio_backend: Loop, ledger: Ledger
) -> None:
    middles = [{"process": "source", "at": 30}, {"process": "source", "at": 70}]
    await run(chain(anyio_backend, ledger, total=100, middles=middles))
    ledger.assert_complete(100)
    assert (70, True) in ledger.entries


async def test_a_daemon_whose_failure_ends_the_pipeline_is_named_with_its_traceback(
    anyio_backend: Loop, ledger: Ledger
) -> None:
    with pytest.raises(PipelineFailed, match=r"daemon 'middle0' \(process 'middle0', pid \d+\) in run") as caught:
        await run(chain(anyio_backend, ledger, total=100, middles=[{"on_error": "shutdown", "at": 3}]))
    assert "OSError: the lens is dirty" in str(caught.value)
    assert "misbehave" in caught.value.trace


async def test_a_process_that_is_killed_and_must_not_be_ends_the_pipeline_and_is_named(
    anyio_backend: Loop, ledger: Ledger
) -> None:
    with pytest.raises(PipelineFailed, match=r"process 'middle0' \(pid \d+\): killed by SIGKILL"):
        await run(chain(anyio_backend, ledger, total=100, middles=[{"on_error": "shutdown", "at": 3, "does": "die"}]))


async def test_a_daemon_whose_failure_is_ignored_is_discarded_for_and_the_others_end(
    anyio_backend: Loop, ledger: Ledger
) -> None:
    launcher = await run(chain(anyio_backend, ledger, total=100, middles=[{"on_error": "ignore", "at": 50}]))
    assert [number for number, _ in ledger.entries] == list(range(50))
    assert [report.daemon for report in launcher.reports] == ["middle0"]


async def test_a_process_whose_death_is_ignored_is_discarded_for_and_the_others_end(
    anyio_backend: Loop, ledger: Ledger
) -> None:
    pipeline = chain(anyio_backend, ledger, total=200, middles=[{"on_error": "ignore", "at": 50, "does": "die"}])
    await run(pipeline)
    arrived = [number for number, _ in ledger.entries]
    assert arrived == list(range(len(arrived)))
    assert len(arrived) <= 50


async def test_whoever_is_killed_after_it_has_finished_is_not_started_again(
    anyio_backend: Loop, ledger: Ledger
) -> None:
    pipeline = Pipeline("ending", backend=anyio_backend)
    source = pipeline.add(Source, name="source", config={"total": 10})
    sink = pipeline.add(Sink, name="sink", on_error="restart", config={"ledger": str(ledger.path), "at_its_end": "die"})
    pipeline.connect(source.out, sink.frames)
    launcher = await run(pipeline)
    ledger.assert_complete(10)
    assert [standing.restarts for standing in launcher.roll.standings()] == [0, 0]


async def test_a_failure_that_ends_the_pipeline_lets_the_others_clean_up(
    anyio_backend: Loop, ledger: Ledger, tmp_path: Path
) -> None:
    pipeline = chain(anyio_backend, ledger, total=100, middles=[{"on_error": "shutdown", "at": 3}])
    pipeline.add(Tidy, name="tidy", config={"note": str(tmp_path / "note")})
    with pytest.raises(PipelineFailed, match="the lens is dirty"):
        await run(pipeline)
    assert (tmp_path / "note").read_text() == "tidy"


@pytest.mark.parametrize("source", [forever, deaf])
async def test_a_stop_begins_at_the_sources_and_leaves_nothing_on_its_way(
    anyio_backend: Loop, ledger: Ledger, source: Any
) -> None:
    pipeline = Pipeline("endless", backend=anyio_backend)
    pipeline.add(source, name="source")
    middle = pipeline.add(Middle, name="middle")
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(ledger.path)})
    pipeline.connect("source.out", middle.frames)
    pipeline.connect(middle.out, sink.frames)
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launcher.live)
            while not ledger.entries:
                await anyio.sleep(0.01)
            await launcher.stop()
    ledger.assert_complete(len(ledger.entries))
    assert launcher.reports == []
