"""What the pytest plugin promises to those who test pipelines with it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from geartrain.ports.process_table import look_at
from tests.faces.conftest import ROOT

pytest_plugins = ["pytester"]

DAEMONS = """
import subprocess
from pathlib import Path

import pytest
from geartrain import Context, Pipeline, ReceiveStream, SendStream, SimClock, daemon


@daemon
async def counts(ctx: Context, out: SendStream[int], total: int, pace_s: float = 0) -> None:
    for number in range(total):
        await ctx.clock.sleep(pace_s)
        await out.send(number)
    print("the source has sent", total)


@daemon
async def prints(ctx: Context, inp: ReceiveStream[int], fails_at: int = -1) -> None:
    async for number in inp:
        if number == fails_at:
            raise OSError("the paper is jammed")
        print("got", number)


@daemon
async def waits(ctx: Context) -> None:
    await ctx.stop_event.wait()


@daemon
async def forgets(ctx: Context, note: Path) -> None:
    note.write_text(str(subprocess.Popen(["sleep", "60"], start_new_session=True).pid))


def counting(total: int, pace_s: float = 0, **config: object) -> Pipeline:
    pipeline = Pipeline("counting")
    pipeline.add(counts, name="source", config={"total": total, "pace_s": pace_s})
    pipeline.add(prints, name="printer", config=config)
    pipeline.connect("source.out", "printer.inp")
    return pipeline


def alone(what: object, **config: object) -> Pipeline:
    pipeline = Pipeline("alone")
    pipeline.add(what, name="it", config=config)
    return pipeline
"""


@pytest.fixture
def tests(pytester: pytest.Pytester, place: Path) -> pytest.Pytester:
    """Tests of somebody who has installed geartrain. Each test adds its own to the daemons."""
    pytester.makeini("[pytest]\nanyio_mode = auto\n")
    return pytester


def write(tests: pytest.Pytester, source: str) -> None:
    tests.makepyfile(DAEMONS + source)


def test_a_pipeline_runs_in_processes_in_this_one_and_in_virtual_time_in_any_test(
    tests: pytest.Pytester, tmp_path: Path, nothing_left: object
) -> None:
    write(
        tests,
        """
async def test_in_processes(run_pipeline):
    result = await run_pipeline(counting(2))
    assert result.printed["printer"] == ["got 0", "got 1"]
    assert result.restarts == {"source": 0, "printer": 0}

async def test_in_this_process(run_pipeline, capsys):
    await run_pipeline(counting(2), in_process=True)
    assert "got 1" in capsys.readouterr().out

async def test_in_virtual_time(run_pipeline):
    clock = SimClock()
    await run_pipeline(counting(24, pace_s=3600), clock=clock)
    assert clock.now() == 86400

def test_without_a_loop(run_pipeline):
    clock = SimClock()
    run_pipeline.blocking(counting(24, pace_s=3600), clock=clock)
    assert clock.now() == 86400
    run_pipeline.blocking(counting(2), in_process=True)
""",
    )
    tests.runpytest_inprocess().assert_outcomes(passed=7)
    # The logs of the user's own runs are not pushed out by those of tests.
    assert not Path(os.environ["XDG_STATE_HOME"], "geartrain").exists()


def test_a_test_that_fails_shows_what_the_processes_printed_and_the_traceback_from_there(
    tests: pytest.Pytester, nothing_left: object
) -> None:
    write(
        tests,
        """
def test_fails(run_pipeline):
    run_pipeline.blocking(counting(100, fails_at=2))
""",
    )
    found = tests.runpytest_inprocess()
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(
        [
            "*PipelineFailed: daemon 'printer' (process 'printer', pid *) in run: OSError: the paper is jammed",
            "*Captured traceback from pipeline counting call*",
            '    raise OSError("the paper is jammed")',
            "*Captured output of process printer call*",
            "got 0",
            "got 1",
        ]
    )


def test_a_run_that_does_not_end_names_who_is_alive(tests: pytest.Pytester) -> None:
    write(
        tests,
        """
def test_waits(run_pipeline):
    run_pipeline.blocking(alone(waits), in_process=True, timeout=0.1)
""",
    )
    found = tests.runpytest_inprocess()
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["*TimeoutError: pipeline 'alone' has not ended within 0.1 s; still alive: it"])


def test_a_run_that_leaves_a_process_or_its_folder_behind_is_an_error_that_names_it(
    tests: pytest.Pytester, tmp_path: Path, nothing_left: object
) -> None:
    note = tmp_path / "pid"
    write(
        tests,
        f"""
def test_leaves_a_process(run_pipeline):
    run_pipeline.blocking(alone(forgets, note={str(note)!r}))

def test_leaves_its_folder(run_pipeline, monkeypatch):
    monkeypatch.setattr("geartrain.ports.run_directory.remove_folder", lambda folder: None)
    run_pipeline.blocking(counting(1))
""",
    )
    found = tests.runpytest_inprocess()
    found.assert_outcomes(passed=2, errors=2)
    found.stdout.fnmatch_lines(
        [
            f"pipeline 'alone' has left process {note.read_text()} behind: sleep 60",
            "pipeline 'counting' has left its folder */counting-* behind, with *run.lock*in it",
        ]
    )
    assert is_gone(int(note.read_text()))


def is_gone(pid: int) -> bool:
    entry = look_at(pid)
    return entry is None or entry.is_dead


def test_the_example_in_the_documentation_passes(tests: pytest.Pytester) -> None:
    page = (ROOT / "docs" / "pipelines.md").read_text()
    (example,) = (
        block for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "run_pipeline" in block
    )
    tests.makepyfile(example)
    tests.runpytest_inprocess().assert_outcomes(passed=4)


def test_nothing_of_geartrain_is_loaded_before_a_test_asks_for_it() -> None:
    code = "import geartrain.faces.pytest_plugin, sys; print(*[name for name in sys.modules if 'geartrain' in name])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["geartrain", "geartrain.faces", "geartrain.faces.pytest_plugin"]
