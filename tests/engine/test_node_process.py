"""A process of daemons, as its launcher has it. What it does for whole pipelines is in tests/walks."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import anyio
import anyio.abc
import pytest

from geartrain import Pipeline
from geartrain.engine.launcher import Launcher
from geartrain.engine.node_process import NodeProcess
from geartrain.rules.orders import Go, Listener, Noted, Said
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


async def test_no_word_is_cut_in_two_when_the_other_end_is_slow_and_the_speaker_is_cancelled() -> None:
    pipeline = Pipeline("leaves")
    pipeline.add(Leaves, name="leaves", config={"note": ""})
    launcher = Launcher(pipeline)
    here, there = socket.socketpair()
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    process = NodeProcess(launcher, "leaves")
    long = Noted("x" * 100_000)
    async with await anyio.abc.UNIXSocketStream.from_socket(here) as process._control:
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as launcher._readers:
                with anyio.move_on_after(0.02):
                    await process.say(long)
                    await anyio.sleep_forever()
                await process.say(Go("leaves"))
                heard: list[Said] = []
                listener = Listener()
                async with await anyio.abc.UNIXSocketStream.from_socket(there) as reads:
                    while len(heard) < 2:
                        heard += listener.feed(await reads.receive())
    launcher.brief.close()
    launcher.run.close()
    assert heard == [long, Go("leaves")]
