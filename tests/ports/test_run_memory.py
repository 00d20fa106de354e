"""A run is read as its files tell it, those of its writers' counters and of its planes too."""

import shutil
from pathlib import Path
from typing import Any

import msgspec

from geartrain.ports.plane_words import PlaneWords
from geartrain.ports.run_directory import counter_path, plane_path
from geartrain.ports.tally import Tally
from geartrain.rules.frames import Life
from geartrain.rules.lookout import Lookout
from tests.ports.written_runs import WrittenLife, WrittenRun
from tests.rules.looks import pipeline

# Of an end: incarnation, epoch, accepted, and nothing else.
NOTHING: tuple[Any, ...] = (0,) * 13


def has_accepted(life: WrittenLife, epoch: int, accepted: int) -> None:
    life.slots.end("frames", sends=True).tell((epoch, epoch, accepted, *NOTHING), 1)


def test_what_a_writer_has_accepted_is_known_up_to_this_moment_by_its_counter(tmp_path: Path) -> None:
    state, folder = tmp_path / "state", tmp_path / "folder"
    state.mkdir()
    folder.mkdir()
    run = WrittenRun(state, folder=str(folder))
    has_accepted(run.process("camera"), 7, 20)
    for epoch, accepted in ((5, 100), (7, 25)):
        Tally(counter_path(folder, "frames"), epoch).word[0] = accepted
    reading = run.memory().look()
    assert reading.lives == {"frames": (Life(5, 100), Life(7, 25))}
    (frames,) = Lookout(run.spec).look(reading)[0].channels
    assert frames.accepted == 125


def test_of_a_run_whose_folder_is_gone_the_files_of_earlier_lives_tell(tmp_path: Path) -> None:
    state, folder = tmp_path / "state", tmp_path / "folder"
    state.mkdir()
    folder.mkdir()
    run = WrittenRun(state, folder=str(folder))
    first = run.process("camera")
    has_accepted(first, 5, 100)
    first.is_killed()
    has_accepted(first.comes_again(), 7, 20)
    shutil.rmtree(folder)
    reading = run.memory().look()
    assert reading.lives == {"frames": (Life(5, 100),)}
    (frames,) = Lookout(run.spec).look(reading)[0].channels
    assert frames.accepted == 120


def test_planes_are_read_of_channels_that_may_go_stale(tmp_path: Path) -> None:
    spec = pipeline("frames: camera -> sink")
    (channel,) = spec.channels
    spec = msgspec.structs.replace(spec, channels=(msgspec.structs.replace(channel, stale_after=0.5),))
    memory = WrittenRun(tmp_path, spec, folder=str(tmp_path)).memory()
    assert memory.look().planes == ()
    words = PlaneWords.mapped(plane_path(tmp_path, "frames"), "frames", 500_000_000)
    words.tick()
    (plane,) = memory.look().planes
    assert (plane.name, plane.seq, plane.staleness_budget_ns) == ("frames", 1, 500_000_000)


def test_a_look_is_dated_before_anything_is_read(tmp_path: Path) -> None:
    """So that who is stopped in the middle of a look does not think that all others were."""
    run = WrittenRun(tmp_path)
    life = run.process("camera")
    memory = run.memory()
    lives = memory._lives

    def strikes_meanwhile() -> Any:
        life.slots.strike()
        return lives()

    memory._lives = strikes_meanwhile  # type: ignore[method-assign]
    reading = memory.look()
    (camera, _) = reading.processes
    assert reading.now_ns < camera.process.heartbeat_ns
