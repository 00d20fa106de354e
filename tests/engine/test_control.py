"""A live run answers over its socket, whatever it is asked, on both loops."""

import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from geartrain import Context, Daemon, Pipeline
from geartrain.engine.control import SOCKET, Answer, AskClear, AskKill, AskStandings, AskStop, Control, ask
from geartrain.engine.launcher import Launcher
from geartrain.errors import BadValue, ProcessFailed
from geartrain.ports.process import PretendProcesses


class Alone(Daemon):
    async def run(self, ctx: Context) -> None: ...


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    """Of a run that has a folder, and nobody in it yet."""
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        pipeline = Pipeline("p")
        pipeline.add(Alone, name="alone")
        launcher = Launcher(pipeline, PretendProcesses())
        yield launcher
        launcher.brief.close()
        launcher.run.close()


@asynccontextmanager
async def served(launcher: Launcher, stops: list[str]) -> AsyncIterator[Path]:
    async with anyio.create_task_group() as tasks:
        await tasks.start(Control(launcher, lambda: stops.append("stop")).serve)
        yield launcher.run.folder
        tasks.cancel_scope.cancel()


async def test_a_run_says_how_its_daemons_are_and_is_asked_to_stop(launcher: Launcher) -> None:
    stops: list[str] = []
    async with served(launcher, stops) as folder:
        answer = await anyio.to_thread.run_sync(ask, folder, AskStandings())
        assert answer == Answer(pipeline="p", daemons=launcher.roll.standings())
        assert stops == []
        await anyio.to_thread.run_sync(ask, folder, AskStop())
        assert stops == ["stop"]


async def test_what_cannot_be_done_is_refused_in_words(launcher: Launcher) -> None:
    async with served(launcher, []) as folder:
        with pytest.raises(BadValue, match="the process of 'alone' is not alive"):
            await anyio.to_thread.run_sync(ask, folder, AskKill("alone"))
        with pytest.raises(BadValue, match="there is no daemon 'alnoe'; did you mean 'alone'"):
            await anyio.to_thread.run_sync(ask, folder, AskClear("alnoe"))


@pytest.mark.parametrize(
    "line", [b"\n", b"no json\n", b'{"ask": "dance"}\n', b'{"ask": "kill"}\n', b"[" * 5000 + b"\n"]
)
async def test_a_question_that_makes_no_sense_is_refused_and_the_next_is_answered(
    line: bytes, launcher: Launcher
) -> None:
    async with served(launcher, []) as folder:
        async with await anyio.connect_unix(folder / SOCKET) as asking:
            await asking.send(line)
            assert b'"refused":"' in await asking.receive()
        await anyio.to_thread.run_sync(ask, folder, AskStandings())


async def test_whoever_goes_away_in_the_middle_disturbs_nobody(launcher: Launcher) -> None:
    async with served(launcher, []) as folder:
        async with await anyio.connect_unix(folder / SOCKET) as asking:
            await asking.send(b'{"ask"')
        await anyio.to_thread.run_sync(ask, folder, AskStandings())


def test_a_run_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match=f"the run {tmp_path.name} does not answer: No such file"):
        ask(tmp_path, AskStandings())


def test_a_run_that_ends_without_an_answer_is_named() -> None:
    with tempfile.TemporaryDirectory(prefix="gt-") as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/{SOCKET}")
        listening.listen(0)
        listening.settimeout(10)
        asking = threading.Thread(target=lambda: listening.accept()[0].close())
        asking.start()
        with pytest.raises(ProcessFailed, match="does not answer"):
            ask(Path(folder), AskStandings())
        asking.join()
