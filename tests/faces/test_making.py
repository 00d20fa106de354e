"""A new project works as it is written, and nothing that is there already is touched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faces.conftest import Running, Told


def test_a_new_project_is_checked_runs_and_passes_its_own_test(
    tmp_path: Path, told_here: Told, running: Running
) -> None:
    folder = tmp_path / "my demo"
    made = told_here("new", str(folder))
    assert (made.returncode, sorted(made.stdout.splitlines())) == (0, sorted(str(path) for path in folder.iterdir()))
    assert made.stderr == f"Go on there: cd '{folder}' && geartrain run pipeline.toml\n"

    file = str(folder / "pipeline.toml")
    assert told_here("check", file).stdout == f"{file}: nothing is wrong\n"
    assert 'name = "my-demo"' in told_here("config", file).stdout
    with running(file, "--for", "1s") as live:
        # A line is seen when it is printed, and not when the process ends.
        live.until("alarm       | 2: 23.5 C, too warm!")
        live.until("the time is over")
        assert live.ends()[0] == 0

    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    tested = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=_environment())
    assert (tested.returncode, tested.stdout.splitlines()[-1].partition(" in ")[0]) == (0, "3 passed"), tested.stdout


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


@pytest.mark.soak
def test_the_code_of_a_new_project_is_typed_and_tidy(tmp_path: Path, told_here: Told) -> None:
    pytest.importorskip("mypy")
    told_here("new", str(tmp_path / "demo"))
    for tool in (["mypy", "--strict", "."], ["ruff", "check", "--isolated", "."], ["ruff", "format", "--check", "."]):
        found = subprocess.run([sys.executable, "-m", *tool], cwd=tmp_path / "demo", capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


def test_a_folder_that_is_not_empty_is_refused_and_left_as_it_is(tmp_path: Path, told_here: Told) -> None:
    (tmp_path / "mine").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine", tmp_path / "mine" / "below"):
        found = told_here("new", str(folder))
        assert (found.returncode, found.stdout) == (73, "")
        assert found.stderr.startswith(f"geartrain: {folder} ")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_empty_folder_that_is_there_is_taken(
    tmp_path: Path, told_here: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told_here("new", str(tmp_path)).returncode == 0
    assert f'name = "{tmp_path.name.replace("_", "-")}"' in (tmp_path / "pipeline.toml").read_text().replace("_", "-")
