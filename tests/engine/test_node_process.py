"""A process of daemons, as its launcher has it. What it does for whole pipelines is in tests/walks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import anyio
import pytest

from geartrain import Pipeline
from geartrain.engine.launcher import Launcher
from tests.engine.leaving import Leaves

PATIENCE_S = 30


@pytest.fixture(autouse=True)
def places_of_its_own(monkeypatch: pytest.MonkeyPatch, nothing_left: Callable[[], list[int]]) -> Iterator[None]:
    """Not below pytest's folder: the path of a socket must be short."""
    with TemporaryDirectory(prefix="gt-") as place:
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            monkeypatch.setenv(name, place)
        yield


async def test_what_a_process_has_started_ends_with_it_and_holds_nobody_up(
    anyio_backend: Literal["asyncio", "trio"], tmp_path: Path
) -> None:
    pipeline = Pipeline("leaves", backend=anyio_backend)
    pipeline.add(Leaves, name="leaves", on_error="restart", config={"note": str(tmp_path / "note")})
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        await launcher.live()
    assert [standing.restarts for standing in launcher.roll.standings()] == [1]
