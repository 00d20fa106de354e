"""What Tab offers, asked as the scripts ask it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from geartrain.faces.command_line import geartrain
from tests.faces.conftest import COMMAND, Running, Told
from tests.faces.remains import RUN, Remains

COUNTING = "tests/faces/counting.toml"


def offered(*words: str) -> list[str]:
    """For the last of these words, which has only begun."""
    found = ShellComplete(geartrain, {}, "geartrain", "_GEARTRAIN_COMPLETE").get_completions([*words[:-1]], words[-1])
    return [item.value if item.type == "plain" else item.type for item in found]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_one_that_it_understands(shell: str, told_here: Told) -> None:
    script = told_here("completion", shell).stdout
    assert "_GEARTRAIN_COMPLETE" in script
    if shutil.which(shell) is not None:
        assert subprocess.run([shell, "-n"], input=script, text=True).returncode == 0


def test_the_script_is_answered_by_the_command(place: Path) -> None:
    asked = {"COMP_WORDS": "geartrain re", "COMP_CWORD": "1", "_GEARTRAIN_COMPLETE": "bash_complete"}
    # As a shell calls it: by its name.
    code = "import sys; from geartrain.faces.command_line import main; main(['re'])"
    found = subprocess.run([COMMAND[0], "-c", code], env=os.environ | asked, capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("plain,restart\n", "")


def test_daemons_and_runs_of_those_that_are_alive_are_offered(running: Running) -> None:
    with running(COUNTING) as live, running(COUNTING, "--set", "pipeline.name='other'") as other:
        for one in (live, other):
            one.until("source | is ready", "sink   | is ready")
        assert offered("ps", "") == ["counting", "other"]
        assert offered("kill", "--run", "co") == ["counting"]
        assert offered("kill", "--run", "other", "") == ["source", "sink"]
        assert offered("stack", "--run", "other", "si") == ["sink"]
        assert offered("logs", "--run", "other", "s") == ["sink", "source"]
        # Which run is meant is not known.
        assert offered("kill", "") == []


def test_where_nothing_runs_nothing_is_offered_and_nothing_is_said(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [offered("kill", ""), offered("ps", ""), offered("logs", "")] == [[], [], []]
    assert capsys.readouterr() == ("", "")


def test_a_pipeline_is_completed_as_a_file() -> None:
    assert offered("run", "pyp") == ["file"]


def test_runs_that_are_over_are_offered_where_what_they_left_is_read(place: Path) -> None:
    Remains()
    assert offered("post-mortem", "e") == ["eyes", RUN]
    assert offered("top", "eyes-") == [RUN]
    assert offered("post-mortem", "x") == []
    assert offered("stop", "e") == []
