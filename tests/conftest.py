"""Every async test runs on both loops. Tests that start processes show that nothing of them is left."""

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from geartrain.ports.process_table import Entry, signal_all, table

_MARK = "GEARTRAIN_TEST"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Instead of pytest's own: the path of a socket must be short, and pytest's folders lie deep."""
    with TemporaryDirectory(prefix="gt-") as folder:
        yield Path(folder)


@pytest.fixture
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[int]]]:
    """At the end no process of this test is alive, none is left uncollected, and no descriptor is open that was not.

    The value lists the processes that are alive.
    """
    mark = secrets.token_hex(8)
    monkeypatch.setenv(_MARK, mark)
    children, before = _own_children(), _descriptors()

    def alive() -> list[int]:
        return [entry.pid for entry in table() if not entry.is_dead and _is_marked(entry, mark)]

    yield alive
    left = alive()
    signal_all(left, signal.SIGKILL)
    assert left == []
    # One of an earlier test may be closed meanwhile: what nobody has any more is collected when it is met.
    assert (_own_children(), _descriptors() - before) == (children, set())


def _descriptors() -> set[tuple[str, str]]:
    """Each with what it is of: a number is given away again."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        # The one by which they are listed is gone.
        with suppress(FileNotFoundError):
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


def _own_children() -> set[int]:
    return {entry.pid for entry in table() if entry.parent == os.getpid()}


def _is_marked(entry: Entry, mark: str) -> bool:
    """Children inherit the environment, whatever session or parent they take."""
    try:
        with open(f"/proc/{entry.pid}/environ", "rb") as file:
            return f"{_MARK}={mark}".encode() in file.read()
    except OSError:
        return False
