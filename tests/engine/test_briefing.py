"""What a process is told when it is started again: who at the other ends of its channels is gone for good."""

from collections.abc import Iterator

import pytest

from geartrain import Pipeline
from geartrain.engine.launcher import Launcher
from geartrain.rules.orders import Gone
from tests.walks.parts import Middle, Sink, Source


@pytest.fixture
def launcher(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    pipeline = Pipeline("chain")
    source = pipeline.add(Source, name="source", config={"total": 1})
    middle = pipeline.add(Middle, name="middle")
    sink = pipeline.add(Sink, name="sink", config={"ledger": "ledger"})
    pipeline.connect(source.out, middle.frames)
    pipeline.connect(middle.out, sink.frames)
    launcher = Launcher(pipeline)
    yield launcher
    launcher.brief.close()
    launcher.run.close()


def over_in_middle(launcher: Launcher) -> dict[str, Gone | None]:
    (daemon,) = launcher.brief.orders_of("middle")
    return {end.port: end.over for end in daemon.ends}


def test_nobody_is_gone_at_first(launcher: Launcher) -> None:
    assert over_in_middle(launcher) == {"frames": None, "out": None}


def test_a_reader_that_has_finished_wants_nothing_from_a_writer_that_still_has_something_to_say(
    launcher: Launcher,
) -> None:
    launcher.brief.finished.add("sink")
    assert over_in_middle(launcher) == {"frames": None, "out": "finished"}


def test_a_writer_that_had_returned_says_once_more_what_its_reader_has_had_and_nobody_minds(
    launcher: Launcher,
) -> None:
    launcher.brief.returned.add("middle")
    launcher.brief.finished.add("sink")
    assert over_in_middle(launcher) == {"frames": None, "out": "ignored"}


def test_who_is_given_up_is_discarded_for(launcher: Launcher) -> None:
    launcher.brief.given_up |= {"source", "sink"}
    assert over_in_middle(launcher) == {"frames": "ignored", "out": "ignored"}


def test_a_process_is_not_told_of_its_daemons_that_have_finished(launcher: Launcher) -> None:
    launcher.brief.finished.add("middle")
    assert launcher.brief.orders_of("middle") == ()
