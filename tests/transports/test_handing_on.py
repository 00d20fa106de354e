"""A chain of processes, of which any in the middle is killed at any moment: nothing is lost, every repeat is marked."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from geartrain import open_pair, open_receive, open_send
from geartrain.engine.hands import Hands
from geartrain.engine.options import ChannelOptions
from geartrain.engine.remote import RemoteSend, writing
from geartrain.errors import WouldBlock
from geartrain.ports.transport import find

RELAY = Path(__file__).with_name("relay.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


class Relay:
    """A process in the middle, that is killed and started again."""

    def __init__(self, *arguments: object) -> None:
        self._command = [sys.executable, str(RELAY), *map(str, arguments)]
        self.process = subprocess.Popen(self._command)

    def kill_and_start_again(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = subprocess.Popen(self._command)

    def end(self) -> int:
        return self.process.wait(timeout=60)


@pytest.fixture
def relays() -> Iterator[list[Relay]]:
    started: list[Relay] = []
    yield started
    for relay in started:
        relay.process.kill()
        relay.process.wait()


async def assert_a_chain_loses_nothing(
    folder: Path, relays: list[Relay], loops: list[str], *, total: int, kills: int, maxsize: int, seed: int
) -> None:
    """We are the source and the sink; a relay on each of the loops is between."""
    order = random.Random(seed)
    places = [f"ipc://{folder}/{number}" for number in range(len(loops) + 1)]
    relays += [Relay(loop, *places[at : at + 2], maxsize) for at, loop in enumerate(loops)]
    when = sorted(order.randrange(total) for _ in range(kills))
    got: list[tuple[int, bool]] = []

    async def sink() -> None:
        async with open_receive(places[-1], int, maxsize=maxsize, heartbeat_s=0.2, lost_after_s=None) as numbers:
            async for number in numbers:
                got.append((number, numbers.mark.redelivered))

    async def source() -> None:
        async with open_send(
            places[0], int, maxsize=maxsize, heartbeat_s=0.2, lost_after_s=None, close_within=60, max_deliveries=None
        ) as numbers:
            for number in range(total):
                await numbers.send(number)
                while when and when[0] <= number:
                    when.pop(0)
                    await anyio.to_thread.run_sync(order.choice(relays).kill_and_start_again)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sink)
        await source()
    assert [await anyio.to_thread.run_sync(relay.end) for relay in relays] == [0] * len(relays)
    assert {number for number, _ in got} == set(range(total))
    once = [number for number, repeated in got if not repeated]
    assert once == sorted(set(once))


@pytest.mark.parametrize("loops", [["asyncio"], ["trio"], ["asyncio", "trio"]], ids="+".join)
async def test_a_relay_that_is_killed_loses_nothing(folder: Path, relays: list[Relay], loops: list[str]) -> None:
    await assert_a_chain_loses_nothing(folder, relays, loops, total=1_500, kills=2, maxsize=8, seed=len(loops))


@pytest.mark.soak
@pytest.mark.parametrize("maxsize", [1, 8, 64])
async def test_three_relays_and_a_hundred_kills_lose_nothing(folder: Path, relays: list[Relay], maxsize: int) -> None:
    loops = ["asyncio", "trio", "asyncio"]
    await assert_a_chain_loses_nothing(folder, relays, loops, total=30_000, kills=33, maxsize=maxsize, seed=maxsize)


async def test_an_input_is_stable_only_when_what_came_of_it_is(folder: Path) -> None:
    async with open_pair(f"ipc://{folder}/in", int) as first, open_pair(f"ipc://{folder}/out", int) as second:
        Hands([first.recv], [second.send])  # type: ignore[list-item]
        await first.send.send(1)
        await second.send.send(await first.recv.receive())
        with anyio.move_on_after(0.05):
            await first.recv.receive()
        assert first.send.statistics().stable == 0
        assert await second.recv.receive() == 1
        with anyio.move_on_after(0.05):
            await second.recv.receive()
        with anyio.fail_after(5):
            await first.send.drain()
        assert first.send.statistics().stable == 1


async def test_what_comes_of_a_repeat_is_marked_as_one(folder: Path) -> None:
    async with open_send(f"ipc://{folder}/in", int) as source, open_pair(f"ipc://{folder}/out", int) as out:
        await source.send(1)
        with pytest.raises(ZeroDivisionError):
            async with open_receive(f"ipc://{folder}/in", int) as numbers:
                await out.send.send(await numbers.receive() * 10)
                raise ZeroDivisionError
        async with open_receive(f"ipc://{folder}/in", int) as numbers:
            Hands([numbers], [out.send])  # type: ignore[list-item]
            await out.send.send(await numbers.receive() * 10)
            await source.send(2)
            await out.send.send(await numbers.receive() * 10)
            got = [(await out.recv.receive(), out.recv.mark.redelivered) for _ in range(3)]
    assert got == [(10, False), (10, True), (20, False)]


async def test_what_came_of_a_former_life_of_the_writer_says_nothing_of_the_next_one(folder: Path) -> None:
    place = f"ipc://{folder}/in"

    def a_life_of_the_writer() -> AbstractAsyncContextManager[RemoteSend[int]]:
        return writing(find(place), place, int, bind=False, options=ChannelOptions(supervised=True))

    async with open_pair(f"ipc://{folder}/out", int) as out, open_receive(place, int) as numbers:
        Hands([numbers], [out.send])  # type: ignore[list-item]
        with pytest.raises(ZeroDivisionError):
            async with a_life_of_the_writer() as first:
                for number in range(3):
                    await first.send(number)
                    await out.send.send(await numbers.receive())
                with pytest.raises(WouldBlock):
                    numbers.receive_nowait()
                raise ZeroDivisionError
        async with a_life_of_the_writer() as second:
            await second.send(3)
            with anyio.fail_after(5):
                assert await numbers.receive() == 3
                # Now the three of the former life are stable, and the one in hand is not.
                assert [await out.recv.receive() for _ in range(3)] == [0, 1, 2]
                with anyio.move_on_after(0.05):
                    await out.recv.receive()
                assert second.statistics().stable == 0
                await out.send.send(3)
                assert await out.recv.receive() == 3
                with pytest.raises(WouldBlock):
                    numbers.receive_nowait()
                with pytest.raises(WouldBlock):
                    out.recv.receive_nowait()
                await second.drain()
                await numbers.aclose()
