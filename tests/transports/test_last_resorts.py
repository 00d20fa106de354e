"""What is kept when a process dies of an item, or with items that nobody has received yet."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest

from geartrain import Mark, PeerLost, open_pair, open_receive, open_send
from geartrain.errors import BadValue
from geartrain.ports.tally import Tally
from geartrain.rules.frames import Life
from geartrain.rules.session import Loss

HERE = Path(__file__).parent

each_loop = pytest.mark.parametrize("other", ["asyncio", "trio"])


@pytest.fixture
def address(tmp_path: Path) -> str:
    tmp_path.chmod(0o700)
    return f"ipc://{tmp_path}/numbers"


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start(processes: list[subprocess.Popen[bytes]], script: str, *arguments: object) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, str(HERE / script), *map(str, arguments)])
    processes.append(process)
    return process


def kept_in(folder: Path) -> dict[str, object]:
    """What was set aside: channel and number, and the item."""
    files = {path: path.name.split(".") for path in folder.glob("*.msgpack")}
    return {f"{name}.{number}.{kind}": msgspec.msgpack.decode(path.read_bytes())
            for path, (name, _epoch, number, kind) in files.items()}  # fmt: skip


# -- an item that kills ---------------------------------------------------------------------------------------------


@each_loop
async def test_an_item_that_kills_its_reader_three_times_is_set_aside_and_the_rest_arrives(
    address: str, tmp_path: Path, processes: list[subprocess.Popen[bytes]], other: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = tmp_path / "ledger"
    deaths: list[int] = []
    async with open_send(address, int, name="ledger", aside=tmp_path, close_within=20) as numbers:
        for number in range(40):
            await numbers.send(number)
        for _ in range(4):
            reader = start(processes, "poisoned_reader.py", other, address, ledger, 7)
            if len(deaths) == 3:
                break
            deaths.append(await anyio.to_thread.run_sync(reader.wait))
        await numbers.drain()
        assert numbers.statistics().set_aside == 1
    assert deaths == [9, 9, 9]
    assert kept_in(tmp_path) == {"numbers.8.msgpack": 7}
    assert "3 readers have died with it in hand" in caplog.text
    rows = [line.split() for line in ledger.read_text().splitlines()]
    assert sum(number == "7" for number, _ in rows) == 3
    assert {int(number) for number, _ in rows} == set(range(40))
    once = [int(number) for number, repeated in rows if repeated == "0"]
    assert once == sorted(set(once))


async def test_a_reader_that_leaves_by_an_error_leaves_its_item_to_the_next_one(address: str) -> None:
    async with open_send(address, int) as numbers:
        await numbers.send(1)
        await numbers.send(2)
        with pytest.raises(ZeroDivisionError):
            async with open_receive(address, int) as first:
                assert await first.receive() == 1
                raise ZeroDivisionError
        async with open_receive(address, int) as second:
            got = [(await second.receive(), second.mark.redelivered) for _ in range(2)]
    assert got == [(1, True), (2, True)]


async def test_an_item_on_which_readers_fail_is_set_aside_too(address: str, tmp_path: Path) -> None:
    async with open_send(address, str, aside=tmp_path, max_deliveries=2) as words:
        for word in ("good", "bad", "fine"):
            await words.send(word)
        for _ in range(2):
            with pytest.raises(ValueError, match="bad"):
                async with open_receive(address, str) as reader:
                    async for word in reader:
                        if word == "bad":
                            raise ValueError(word)
        async with open_receive(address, str) as reader:
            assert await reader.receive() == "fine"
            assert reader.statistics().set_aside == 1
    assert kept_in(tmp_path) == {"numbers.2.msgpack": "bad"}


async def test_at_least_two_deliveries_must_be_allowed(address: str) -> None:
    with pytest.raises(BadValue, match="max_deliveries"):
        open_send(address, int, max_deliveries=1)


# -- a writer that is killed ----------------------------------------------------------------------------------------


@each_loop
async def test_what_died_with_a_killed_writer_is_known_exactly_where_its_counter_is_kept(
    address: str, processes: list[subprocess.Popen[bytes]], other: str
) -> None:
    """This process keeps the counter in memory, as a supervisor does; the writers only map it."""
    keeper = os.memfd_create("counter")
    counter = f"/proc/{os.getpid()}/fd/{keeper}"
    got: dict[int, int] = {}
    accepted: dict[int, int] = {}
    async with open_receive(address, int, name="ledger", heartbeat_s=0.1) as numbers:
        for life in range(2):
            writer = start(processes, "counting_writer.py", other, address, counter)
            while len(got) <= life or got[max(got)] < 200 * (life + 1):
                number = await numbers.receive()
                mark = numbers.mark
                assert number == mark.sequence == got.get(mark.epoch, 0) + 1
                got[mark.epoch] = number
            writer.send_signal(signal.SIGKILL)
            await anyio.to_thread.run_sync(writer.wait)
            words = memoryview(os.pread(keeper, 4096, 0)).cast("Q")
            accepted[words[2 * words[1]]] = words[2 * words[1] + 1]
        start(processes, "counting_writer.py", other, address, counter)
        while len(got) < 3:
            await numbers.receive()
            got[numbers.mark.epoch] = numbers.mark.sequence
        losses = numbers.losses
    os.close(keeper)
    *died, _ = sorted(got)
    assert losses == tuple(Loss(epoch, accepted[epoch] - got[epoch]) for epoch in died)


async def test_without_a_counter_a_loss_is_not_guessed(address: str) -> None:
    async with open_receive(address, int) as numbers:
        for number in range(2):
            with pytest.raises(PeerLost):
                async with open_send(address, int, close_within=0) as out:
                    await out.send(number)
                    assert await numbers.receive() == number
                    out._wire.session.closing = True  # it dies without a word
        assert [loss.lost for loss in numbers.losses] == [None]


def test_a_counter_tells_of_all_lives_and_begins_a_new_one_later_than_all(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    first = Tally(path, epoch=100)
    first.word[0] = 7
    second = Tally(path, epoch=50)
    assert second.lives == (Life(100, 7),)
    assert second.epoch == 101
    second.word[0] = 2**40
    assert Tally(path, epoch=500).lives == (Life(100, 7), Life(101, 2**40))


def test_a_counter_remembers_as_many_lives_as_fit(tmp_path: Path) -> None:
    for epoch in range(1, 400):
        Tally(tmp_path / "counter", epoch).word[0] = epoch
    lives = Tally(tmp_path / "counter", 400).lives
    assert lives == tuple(Life(epoch, epoch) for epoch in range(400 - len(lives), 400))
    assert len(lives) > 200


def test_a_file_that_is_no_counter_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_bytes(b"do not write here " * 300)
    with pytest.raises(BadValue, match="no counter"):
        Tally(path, 1)
    assert path.read_bytes() == b"do not write here " * 300
    with pytest.raises(BadValue, match="cannot be opened"):
        Tally(tmp_path / "nowhere" / "counter", 1)


# -- large items ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item_type", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("maxsize", [0, 1, 8])
async def test_large_and_small_bytes_arrive_in_order_and_as_they_were(
    address: str, item_type: Any, maxsize: int
) -> None:
    sizes = [0, 1, 65_535, 65_536, 65_537, 1 << 20, 3, 1 << 20, 70_000]
    async with open_pair(address, item_type, maxsize=maxsize) as channel:

        async def write() -> None:
            for number, size in enumerate(sizes):
                changing = bytearray([number]) * size
                await channel.send.send(item_type(changing))
                changing[:] = b"\xff" * size
            await channel.send.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            got = [item async for item in channel.recv]
        assert [bytes(item) for item in got] == [bytes([number]) * size for number, size in enumerate(sizes)]
        assert {type(item) for item in got} == {item_type}


async def test_large_bytes_that_cannot_change_are_not_copied_by_their_writer(address: str) -> None:
    payload = bytes(1 << 20)
    async with open_pair(address, bytes) as channel:
        before = sys.getrefcount(payload)
        await channel.send.send(payload)
        assert sys.getrefcount(payload) > before
        assert await channel.recv.receive() == payload


async def test_large_bytes_are_bounded_like_everything_else(address: str) -> None:
    async with open_pair(address, bytes, max_bytes=100_000) as channel:
        with pytest.raises(BadValue, match="max_bytes is 100000"):
            await channel.send.send(bytes(100_001))
        await channel.send.send(bytes(100_000))
        assert len(await channel.recv.receive()) == 100_000
        assert channel.recv.mark == Mark(channel.recv.mark.epoch, 1)


async def test_large_bytes_that_were_not_done_with_come_again(address: str) -> None:
    async with open_send(address, bytes) as pictures:
        for number in range(3):
            await pictures.send(bytes([number]) * 100_000)
        with pytest.raises(ZeroDivisionError):
            async with open_receive(address, bytes) as first:
                await first.receive()
                raise ZeroDivisionError
        async with open_receive(address, bytes) as second:
            assert [(await second.receive())[0] for _ in range(3)] == [0, 1, 2]
            assert second.statistics().redelivered == 3
