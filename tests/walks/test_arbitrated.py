"""An arbiter that is killed again and again under load: what its clients have lived through can have been so."""

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Literal

import pytest

from geartrain.engine.lease_socket import Asker
from tests.walks.histories import Gone, Heard, events_in, faults, records_in_folders

Loop = Literal["asyncio", "trio"]
REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 60
# About.
EVENT_BYTES = 100


class Running:
    """A process of the walk, for as long as the block lasts."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "tests.walks.arbitrated", *words]
        self.process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr
        self.process.stderr.close()

    def ended(self) -> str:
        """What it has complained of, once it has ended by itself; nothing if it ended well."""
        _, said = self.process.communicate(timeout=PATIENCE_S)
        return said.decode() if self.process.returncode else ""


def arbiter(loop: Loop, folder: Path, *more: str) -> Running:
    """Alive, and listening."""
    running = Running("arbiter", loop, str(folder), *more)
    until = time.monotonic() + PATIENCE_S
    while (asker := Asker.of(folder) if folder.exists() else None) is None:
        assert running.process.poll() is None, running.ended()
        assert time.monotonic() < until
        time.sleep(0.005)
    asker.close()
    return running


def wait_for_events(folder: Path, count: int) -> None:
    """Until clients have written down so many more."""

    def written() -> int:
        return sum(file.stat().st_size for file in folder.glob("clients-*"))

    before, until = written(), time.monotonic() + PATIENCE_S
    while written() < before + count * EVENT_BYTES:
        assert time.monotonic() < until
        time.sleep(0.001)


def lived_through(tmp_path: Path, kills: int, seed: int, *more: str) -> None:
    """So many deaths at any moment; then what all have written down is looked at."""
    folder, chance = tmp_path / "journal", Random(seed)
    (tmp_path / "gone").mkdir()
    loops: tuple[Loop, Loop] = ("asyncio", "trio")
    with ExitStack() as stack:
        others = [
            stack.enter_context(Running("clients", loop, str(folder), f"{seed}{loop}", "6")) for loop in loops
        ]  # fmt: skip
        for number in range(kills):
            with arbiter(loops[number % 2], folder, *more):
                wait_for_events(tmp_path, chance.choice((1, 300, 600, 1200)))
        with arbiter("asyncio", folder, *more):
            wait_for_events(tmp_path, 600)
            (tmp_path / "stop").touch()
            complaints = [other.ended() for other in others]
    events = events_in(*tmp_path.glob("clients-*"))
    records = records_in_folders(folder, tmp_path / "gone")
    assert complaints == ["", ""]
    assert faults(events, records) == []
    # Enough has happened for that to mean something.
    heard = [type(event.told).__name__ for event in events if isinstance(event, Heard)]
    assert sum(isinstance(event, Gone) for event in events) > kills
    assert heard.count("Grant") > 3 * kills
    assert {"Done", "Refusal", "Alive"} <= set(heard)


def test_an_arbiter_that_is_killed_under_load_has_promised_nothing_twice_seed_1(tmp_path: Path) -> None:
    lived_through(tmp_path, 6, 1)


def test_a_wall_clock_that_jumps_by_days_moves_no_lease_in_no_life_seed_2(tmp_path: Path) -> None:
    lived_through(tmp_path, 4, 2, "jumping")


@pytest.mark.soak
def test_two_hundred_deaths_of_an_arbiter_under_load_break_no_promise_seed_3(tmp_path: Path) -> None:
    lived_through(tmp_path, 200, 3)
