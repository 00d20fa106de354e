"""A channel is tapped as long as somebody looks, and not longer; on both loops."""

import tempfile
from collections.abc import Iterator

import anyio
import msgspec
import pytest

from geartrain import Context, Daemon, Pipeline, ReceiveStream, SendStream
from geartrain.engine.child import Child
from geartrain.engine.echo import Echo
from geartrain.engine.launcher import Launcher
from geartrain.errors import BadValue
from geartrain.ports.process import PretendProcesses
from geartrain.rules.orders import CloseTap, OpenTap, Said
from geartrain.rules.shown import Shown


class Writes(Daemon):
    def __init__(self, out: SendStream[int]) -> None:
        self.out = out

    async def run(self, ctx: Context) -> None: ...


class Reads(Daemon):
    def __init__(self, inp: ReceiveStream[int]) -> None:
        self.inp = inp

    async def run(self, ctx: Context) -> None: ...


class Remembers(Child):
    """A process that is told something."""

    def __init__(self, launcher: Launcher, process: str) -> None:
        super().__init__(launcher, process)
        self.told: list[Said] = []

    async def run(self, ctx: Context) -> None: ...

    async def say(self, word: Said) -> None:
        self.told.append(word)


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        pipeline = Pipeline("p")
        writes, reads = pipeline.add(Writes, name="w"), pipeline.add(Reads, name="r")
        pipeline.connect(writes.out, reads.inp, name="c")
        launcher = Launcher(pipeline, PretendProcesses())
        yield launcher
        launcher.brief.close()
        launcher.run.close()


def one(number: int) -> Shown:
    return Shown(epoch=1, number=number, redelivered=False, size_bytes=1, item=msgspec.Raw(b"1"))


async def test_the_first_who_looks_opens_the_tap_and_the_last_closes_it(launcher: Launcher) -> None:
    writer = Remembers(launcher, "w")
    launcher.present["w"] = writer
    async with launcher.echo("c") as first:
        async with launcher.echo("c") as second:
            launcher.show("c", (one(1),))
            assert await first.next() == await second.next() == (one(1),)
        assert CloseTap("c") not in writer.told
    assert writer.told == [OpenTap("c"), OpenTap("c"), CloseTap("c")]


async def test_a_writer_that_is_started_again_is_tapped_again(launcher: Launcher) -> None:
    async with launcher.echo("c"):
        writer = launcher.present["w"] = Remembers(launcher, "w")
        async with anyio.create_task_group() as launcher._readers:
            launcher.lives("w")
    assert writer.told == [OpenTap("c"), CloseTap("c")]


async def test_a_channel_that_is_not_there_is_refused_with_the_nearest_name(launcher: Launcher) -> None:
    with pytest.raises(BadValue, match="there is no channel 'd'; "):
        async with launcher.echo("d"):
            pass


async def test_who_does_not_look_in_time_is_told_how_much_there_was() -> None:
    echo = Echo()
    echo.put(tuple(one(number) for number in range(1, 1501)))
    assert len(await echo.next()) == 1000
    echo.put((one(1501),))
    (last,) = await echo.next()
    assert last.missed == 500


async def test_who_looks_waits_for_the_next_item() -> None:
    echo = Echo()
    found: list[Shown] = []

    async def look() -> None:
        found.extend(await echo.next())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await anyio.sleep(0.001)
            echo.put((one(1),))
    assert found == [one(1)]
