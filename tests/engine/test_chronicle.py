"""What a run leaves behind is written beside it: where that cannot be, the run goes on all the same."""

import logging
import sys
from pathlib import Path
from typing import Literal

import anyio
import pytest

from geartrain import Pipeline
from geartrain.engine.chronicle import KEPT_LIVES, Chronicle
from geartrain.engine.launcher import Launcher
from geartrain.engine.roll import Standing, Watcher
from geartrain.errors import PlaceRefused
from geartrain.ports.run_memory import RunMemory
from geartrain.rules.pipeline import PipelineSpec
from geartrain.rules.run_memory import events_in
from tests.walks.parts import Sink, Source

if sys.platform != "linux":
    pytest.skip("pipelines in many processes need Linux", allow_module_level=True)


class Heard(Watcher):
    def __init__(self) -> None:
        self.changed: list[str] = []
        self.failed: list[str] = []

    def daemon_changed(self, standing: Standing) -> None:
        self.changed.append(standing.state)

    def daemon_failed(self, standing: Standing) -> None:
        self.failed.append(standing.last_error or "")


def chronicle(state: Path, watcher: Watcher | None = None) -> Chronicle:
    return Chronicle("vision-1", PipelineSpec(name="vision"), state, state, watcher or Watcher())


def test_a_watcher_is_told_all_and_what_matters_is_written_down(tmp_path: Path) -> None:
    heard = Heard()
    written = chronicle(tmp_path, heard)
    written.begin()
    for state in ("starting", "running", "ended"):
        written.daemon_changed(Standing("camera", "eye", pid=7, state=state))
    written.daemon_failed(Standing("camera", "eye", pid=7, last_error="the lens is dirty"))
    written.close()
    assert (heard.changed, heard.failed) == (["starting", "running", "ended"], ["the lens is dirty"])
    events = events_in((tmp_path / "events.jsonl").read_bytes())
    assert [(event.what, event.daemon) for event in events] == [
        ("began", ""), ("ready", "camera"), ("ended", "camera"), ("failed", "camera"), ("over", ""),
    ]  # fmt: skip
    assert events[3].said == "the lens is dirty"
    assert (tmp_path / "run.json").stat().st_mode & 0o777 == 0o600


def test_of_a_process_that_is_started_again_and_again_the_last_lives_are_kept(tmp_path: Path) -> None:
    written = chronicle(tmp_path)
    for life in range(1, KEPT_LIVES + 4):
        written.slot_file("eye", life, ("camera",), ()).handed_over()
    kept = {int(path.name.split(".")[1]) for path in tmp_path.glob("*.slots")}
    assert kept == set(range(4, KEPT_LIVES + 4))


def test_a_run_that_cannot_say_what_it_is_does_not_begin(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(PlaceRefused, match=r"run\.json cannot be written"):
        chronicle(tmp_path).begin()


async def test_a_process_whose_slot_file_cannot_be_made_lives_all_the_same(
    anyio_backend: Literal["asyncio", "trio"],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    pipeline = Pipeline("two", backend=anyio_backend)
    source = pipeline.add(Source, name="source", config={"total": 3})
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect(source.out, sink.frames)
    launcher = Launcher(pipeline)
    in_its_place = launcher.brief.state / "source.1.slots"
    in_its_place.write_text("somebody else's")
    with anyio.fail_after(30), caplog.at_level(logging.WARNING):
        await launcher.live()
    assert (tmp_path / "ledger").read_text().splitlines() == ["0 0", "1 0", "2 0"]
    assert "what process 'source' does cannot be seen from outside" in caplog.text
    memory = RunMemory(launcher.brief.state)
    assert [str(in_its_place) in said for said in memory.look().unreadable] == [True]
    memory.close()
