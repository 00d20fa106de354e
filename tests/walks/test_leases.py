"""Leases of daemons in real processes, and what the death of the arbiter or of a holder does to them."""

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from geartrain import LeaseArbiter, Pipeline
from geartrain.engine.launcher import Launcher
from geartrain.errors import BadValue
from geartrain.faces.lease import story
from tests.walks.leasing import Arm, Doomed, Frozen, Next

PATIENCE_S = 40

Loop = Literal["asyncio", "trio"]


async def run(pipeline: Pipeline, during: Callable[[Launcher], Any] | None = None) -> Launcher:
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            if during is not None:
                tasks.start_soon(during, launcher)
            await launcher.live()
            tasks.cancel_scope.cancel()
    return launcher


def arms(loop: Loop, ledger: Path, count: int, **config: object) -> Pipeline:
    pipeline = Pipeline("leasing", backend=loop)
    for number in range(count):
        title = f"arm{number}"
        pipeline.add(Arm, name=title, config={"ledger": str(ledger), "title": title} | config)
    return pipeline


def entries(ledger: Path) -> list[tuple[str, str, int, int]]:
    lines = (line.split() for line in ledger.read_text().splitlines())
    return [(what, who, int(token), int(at_ns)) for what, who, token, at_ns in lines]


def visits(ledger: Path) -> list[tuple[str, int]]:
    """Who was in the cell with which token: nobody with somebody else, and each later one with a higher token."""
    inside: tuple[str, int] | None = None
    found: list[tuple[str, int]] = []
    for what, who, token, _ in sorted(entries(ledger), key=lambda entry: entry[3]):
        if what == "in":
            assert inside is None, f"{who} came in while {inside} was there"
            inside = who, token
            found.append(inside)
        elif what in ("out", "lost"):
            assert inside is not None
            assert inside[0] == who
            inside = None
    assert [token for _, token in found] == sorted({token for _, token in found})
    return found


async def test_daemons_share_a_cell_without_declaring_an_arbiter(anyio_backend: Loop, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    launcher = await run(arms(anyio_backend, ledger, 3, times=5, stay_s=0.01))
    assert sorted(who for who, _ in visits(ledger)) == sorted(["arm0", "arm1", "arm2"] * 5)
    states = {standing.daemon: standing.state for standing in launcher.roll.standings()}
    assert states == {"arm0": "ended", "arm1": "ended", "arm2": "ended", "arbiter": "ended"}


async def test_in_one_process_it_is_the_same(anyio_backend: Loop, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with anyio.fail_after(PATIENCE_S):
        await arms(anyio_backend, ledger, 2, times=3, stay_s=0.01).run(in_process=True)
    assert len(visits(ledger)) == 6


async def test_a_holder_that_is_killed_holds_nothing_any_more(anyio_backend: Loop, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    pipeline = arms(anyio_backend, ledger, 1, times=1, stay_s=0.01)
    config = {"ledger": str(ledger), "title": "doomed", "times": 1, "stay_s": 0.0}
    pipeline.add(Doomed, name="doomed", on_error="restart", config=config)
    await run(pipeline)
    told = [(what, who) for what, who, _, _ in entries(ledger)]
    assert told.index(("in", "doomed")) < told.index(("again", "doomed"))
    assert ("out", "arm0") in told


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "of the pipeline"])
async def test_an_arbiter_that_is_killed_over_and_over_gives_the_cell_to_one_at_a_time(
    anyio_backend: Loop, tmp_path: Path, declared: bool
) -> None:
    ledger = tmp_path / "ledger"
    pipeline = arms(anyio_backend, ledger, 3, times=15, stay_s=0.03)
    if declared:
        config = {"directory": str(tmp_path / "journal"), "grace": 0.1}
        pipeline.add(LeaseArbiter, name="arbiter", on_error="restart", config=config)
    killed = 0

    async def kill(launcher: Launcher) -> None:
        nonlocal killed
        chance = random.Random(7)
        while killed < 6:
            await anyio.sleep(chance.uniform(0.05, 0.3))
            # It may just be dead.
            with suppress(BadValue):
                launcher.kill("arbiter")
                killed += 1

    await run(pipeline, kill)
    assert killed > 2
    found = visits(ledger)
    assert sorted(who for who, _ in found) == sorted(["arm0", "arm1", "arm2"] * 15)
    assert "lost" not in [what for what, *_ in entries(ledger)]


async def test_the_arbiter_of_a_pipeline_leaves_its_journal_with_the_logs_of_the_run(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    launcher = await run(arms(anyio_backend, tmp_path / "ledger", 1, times=1, stay_s=0.0))
    lines = story(launcher.brief.state / "arbiter.leases", "workcell")
    assert [line.what for line in lines] == ["granted", "released"]


async def test_a_holder_that_is_frozen_for_twice_its_time_writes_nothing_when_it_wakes(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    """Whoever is stopped cannot know; the resource does. Its block is cancelled as soon as its loop turns again."""
    ledger, rounds = tmp_path / "ledger", 4
    pipeline = Pipeline("leasing", backend=anyio_backend)
    for kind, name in ((Frozen, "frozen"), (Next, "next")):
        pipeline.add(kind, name=name, config={"ledger": str(ledger), "rounds": rounds, "ttl_s": 0.4})
    pipeline.process("frozen", hung_after=None)
    await run(pipeline)
    lines = [line.split() for line in ledger.read_text().splitlines()]
    written = [(who, int(token)) for what, who, token in lines if what == "written"]
    fenced = [(who, int(token)) for what, who, token in lines if what == "fenced"]
    assert [who for who, _ in written] == ["frozen", "next"] * rounds
    assert [token for _, token in written] == sorted(token for _, token in written)
    assert fenced == [("late", token) for who, token in written if who == "frozen"]
    assert [what for what, *_ in lines].count("knows") == rounds
