"""Fenced channels between real processes: what was sent with a lease that is lost is not received."""

from pathlib import Path
from typing import Literal

import anyio
import pytest

from geartrain import Pipeline
from geartrain.engine.launcher import Launcher
from tests.walks.fencing import CELL, Cell, Mortal, Sleepy, Stale, Taking, Waking

Loop = Literal["asyncio", "trio"]
Carrier = Literal["ipc", "tcp"]

TTL_S = 0.15


def frozen_arm(loop: Loop, ledger: Path, rounds: int, carrier: Carrier) -> Pipeline:
    pipeline = Pipeline("fencing", backend=loop)
    common = {"ledger": str(ledger), "rounds": rounds}
    sleepy = pipeline.add(Sleepy, name="sleepy", config=common | {"ttl_s": TTL_S})
    taking = pipeline.add(Taking, name="taking", config=common)
    cell = pipeline.add(Cell, name="cell", config={"ledger": str(ledger)})
    pipeline.connect(sleepy.moves, cell.slow, name="slow", fenced=CELL, transport=carrier)
    pipeline.connect(taking.moves, cell.quick, name="quick", fenced=CELL, transport=carrier)
    pipeline.connect(cell.heard, taking.heard, name="heard", keep="taken", transport=carrier)
    return pipeline


def numbers(ledger: Path, what: str) -> list[int]:
    return [int(line.split()[1]) for line in ledger.read_text().splitlines() if line.split()[0] == what]


@pytest.mark.parametrize(
    ("rounds", "carrier"),
    [(3, "ipc"), pytest.param(20, "ipc", marks=pytest.mark.soak), pytest.param(20, "tcp", marks=pytest.mark.soak)],
)
async def test_what_a_frozen_holder_had_under_way_is_refused_each_time(
    anyio_backend: Loop, tmp_path: Path, rounds: int, carrier: Carrier
) -> None:
    ledger = tmp_path / "ledger"
    with anyio.fail_after(60):
        await Launcher(frozen_arm(anyio_backend, ledger, rounds, carrier)).live()
    assert numbers(ledger, "moved") == [1000 + number for number in range(1, rounds + 1)]
    assert numbers(ledger, "refused") == [rounds]
    # And who wakes and sends once more hears that it may not, before anything has told it of its loss.
    assert len(numbers(ledger, "told")) == rounds


async def test_a_reader_that_is_made_anew_refuses_what_the_last_one_would_have(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    """Its predecessor was killed with the newer holder's item in hand; the older one's comes first in its own life."""
    ledger = tmp_path / "ledger"
    config = {"ledger": str(ledger)}
    pipeline = Pipeline("mortal", backend=anyio_backend)
    stale = pipeline.add(Stale, name="stale", config=config)
    waking = pipeline.add(Waking, name="waking", config=config)
    cell = pipeline.add(Mortal, name="cell", config=config, on_error="restart")
    pipeline.connect(stale.moves, cell.slow, name="slow", fenced=CELL)
    pipeline.connect(waking.moves, cell.quick, name="quick", fenced=CELL)
    with anyio.fail_after(60):
        await Launcher(pipeline).live()
    # The item in hand at the death comes again, for nothing newer was seen.
    assert numbers(ledger, "killed") == [2]
    assert numbers(ledger, "refused") == [1]
    assert [line for line in ledger.read_text().splitlines() if line.startswith("moved")] == ["moved 2 1"]
