"""A place for runs that nobody else uses, and the command line as a process in it."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from geartrain.faces.command_line import main
from geartrain.ports.process_table import below

ROOT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-m", "geartrain")


class Live:
    """`geartrain run`, with what it says."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    @property
    def family(self) -> list[int]:
        """The guard's twin, the supervisor, and the processes of the daemons."""
        return below(self.process.pid)

    def until(self, *wanted: str) -> list[str]:
        """Read what it says, out or err, until each of these has come."""
        assert self.process.stdout is not None
        left, lines = list(wanted), list[str]()
        while left:
            line = self.process.stdout.readline()
            assert line, f"it ended without saying {left}; it said {lines}"
            lines.append(line.rstrip("\n"))
            left = [words for words in left if words not in lines[-1]]
        return lines

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ends(self) -> tuple[int, str]:
        """The exit code, and what it still said."""
        said, _ = self.process.communicate(timeout=30)
        return self.process.returncode, said


Running = Callable[..., AbstractContextManager[Live]]
Told = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # pytest's own folders are too long for the path of a socket.
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            path = Path(folder) / name[4:]
            path.mkdir(mode=0o700)
            monkeypatch.setenv(name, str(path))
        for name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name, raising=False)
        yield Path(folder)


@pytest.fixture
def told_here(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """The same without a process, for what runs nothing."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def tell(*words: str) -> "subprocess.CompletedProcess[str]":
        code = main(words)
        found = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, found.out, found.err)

    return tell


@pytest.fixture
def told(place: Path, nothing_left: object) -> Told:
    """Runs the command line to its end."""

    def tell(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *words], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60
        )

    return tell


@pytest.fixture
def running(place: Path, nothing_left: object) -> Running:
    """`geartrain run` of these words, for the length of a block."""

    @contextmanager
    def run(*words: str) -> Iterator[Live]:
        process = subprocess.Popen(
            [*COMMAND, "run", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with process:
            try:
                yield Live(process)
            finally:
                # What the test has not ended, the guard does.
                for number in (signal.SIGINT, signal.SIGINT, signal.SIGINT):
                    process.send_signal(number)

    return run
