"""Channels over ZeroMQ: real sockets, real processes, real kills."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from msgspec import Struct

from geartrain import (
    Channel,
    ChannelClosed,
    ChannelInUse,
    EndOfStream,
    PeerLost,
    PeerRefused,
    WireError,
    WouldBlock,
    open_channel,
    open_pair,
    open_receive,
    open_send,
    private_dir,
)
from geartrain.errors import BadType, BadValue
from geartrain.recipes import select, tee
from geartrain_zmq.sockets import BOUND, COMMON, CONNECTED, new_socket

_numbers = itertools.count()


class Tick(Struct):
    at: float
    price: int


class Bar(Struct):
    low: int
    high: int


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture(params=["ipc", "tcp"])
def address(request: pytest.FixtureRequest, folder: Path) -> str:
    return new_address(folder, request.param)


def new_address(folder: Path, scheme: str = "ipc") -> str:
    if scheme == "ipc":
        return f"ipc://{folder}/{next(_numbers)}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


# -- one process ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maxsize", [0, 1, 2, 64, 1000])
async def test_items_arrive_once_each_and_in_order(address: str, maxsize: int) -> None:
    async with open_pair(address, int, maxsize=maxsize, insecure=True) as channel:

        async def write() -> None:
            for number in range(500):
                await channel.send.send(number)
            await channel.send.drain()
            await channel.send.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            assert [number async for number in channel.recv] == list(range(500))


@pytest.mark.parametrize("maxsize", [0, 1, 3, 64])
async def test_never_more_than_maxsize_items_are_accepted_while_nobody_receives(address: str, maxsize: int) -> None:
    async with open_send(address, int, maxsize=maxsize, insecure=True, close_within=0) as numbers:
        with anyio.move_on_after(0.1):
            async with open_receive(address, int, maxsize=maxsize, insecure=True):
                for number in itertools.count():
                    await numbers.send(number)
        assert numbers.statistics().accepted == maxsize


async def test_a_bad_item_fails_before_anything_is_promised(address: str) -> None:
    anything: Any = Any
    async with open_pair(address, anything, maxsize=4, insecure=True, max_bytes=1000) as channel:
        await channel.send.send("first")
        with pytest.raises(TypeError):
            await channel.send.send(object())
        with pytest.raises(BadValue, match="max_bytes is 1000"):
            await channel.send.send("x" * 2000)
        await channel.send.send("second")
        await channel.send.aclose()
        assert [item async for item in channel.recv] == ["first", "second"]


async def test_an_item_is_frozen_when_it_is_sent(address: str) -> None:
    async with open_pair(address, list, maxsize=4, insecure=True) as channel:
        changing = [1]
        await channel.send.send(changing)
        changing.append(2)
        assert await channel.recv.receive() == [1]


async def test_closing_is_seen_at_the_other_end(address: str) -> None:
    async with open_pair(address, int, insecure=True) as channel:
        await channel.send.send(1)
        await channel.send.aclose()
        assert await channel.recv.receive() == 1
        with pytest.raises(EndOfStream):
            await channel.recv.receive()
        with pytest.raises(ChannelClosed):
            await channel.send.send(2)


async def test_a_writer_is_told_when_its_reader_has_closed(address: str) -> None:
    async with open_pair(address, int, maxsize=1, insecure=True) as channel:
        await channel.recv.aclose()
        with pytest.raises(ChannelClosed, match="reader of"):
            while True:
                await channel.send.send(1)


async def test_a_writer_that_leaves_by_an_error_is_lost_to_its_reader(address: str) -> None:
    async with open_receive(address, int, insecure=True) as numbers:
        with pytest.raises(ZeroDivisionError):
            async with open_send(address, int, insecure=True) as out:
                await out.wait_connected()
                await out.send(1)
                raise ZeroDivisionError
        assert await numbers.receive() == 1
        with pytest.raises(PeerLost, match="left by an error"):
            await numbers.receive()


async def test_leaving_without_a_reader_that_is_done_says_how_much_was_left(address: str) -> None:
    async with open_receive(address, int, insecure=True) as numbers:
        with pytest.raises(PeerLost, match="closed with 2 messages"):
            async with open_send(address, int, insecure=True, close_within=0.05) as out:
                await out.wait_connected()
                await out.send(1)
                await out.send(2)
        assert await numbers.receive() == 1


async def test_what_is_sent_before_there_is_anybody_arrives_when_there_is(address: str) -> None:
    async with open_send(address, int, insecure=True) as out:
        await out.send(1)
        async with open_receive(address, int, insecure=True) as numbers:
            assert await numbers.receive() == 1


async def test_an_address_that_was_only_just_left_can_be_bound_again(address: str) -> None:
    for _ in range(50):
        async with open_receive(address, int, insecure=True):
            pass


async def test_a_cancelled_wait_at_either_end_changes_nothing(address: str) -> None:
    async with open_pair(address, int, maxsize=1, insecure=True) as channel:
        with anyio.move_on_after(0.02):
            await channel.recv.receive()
        await channel.send.send(1)
        with anyio.move_on_after(0.02):
            await channel.send.send(2)
        assert await channel.recv.receive() == 1
        await channel.send.send(3)
        await channel.send.aclose()
        assert [number async for number in channel.recv] == [3]


async def test_each_end_belongs_to_one_task(address: str) -> None:
    async with open_pair(address, int, insecure=True) as channel:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.recv.receive)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            with pytest.raises(ChannelInUse):
                await channel.recv.receive()
            tasks.cancel_scope.cancel()
        with pytest.raises(WouldBlock):
            channel.recv.receive_nowait()


async def test_recipes_do_not_know_what_carries_their_items(folder: Path) -> None:
    async with (
        open_pair(new_address(folder), int) as first,
        open_pair(new_address(folder), int) as second,
    ):
        left: Channel[int] = open_channel(8)
        right: Channel[int] = open_channel(8)
        await second.send.send(2)
        assert await select(first.recv, second.recv) == (1, 2)
        for number in range(3):
            await first.send.send(number)
        await first.send.aclose()
        await tee(first.recv, left.send, right.send)
        for copy in (left, right):
            assert [number async for number in copy.recv] == [0, 1, 2]


@pytest.mark.parametrize("policy", ["latest", "drop_oldest", "drop_newest"])
async def test_a_lossy_channel_never_stops_its_writer(address: str, policy: Any) -> None:
    size = 1 if policy == "latest" else 4
    async with open_pair(address, int, maxsize=size, policy=policy, insecure=True) as channel:
        for number in range(2000):
            await channel.send.send(number)
        await channel.send.aclose()
        got = [number async for number in channel.recv]
        assert got == sorted(set(got))
        assert got[-1] == 1999 if policy != "drop_newest" else got[:size] == list(range(size))
        await channel.recv.aclose()
        dropped = channel.send.statistics().dropped + channel.recv.statistics().dropped
        assert len(got) + dropped == 2000


# -- who fits, and who does not ---------------------------------------------------------------------------------------


async def test_ends_of_different_types_are_refused_before_the_first_item_and_both_are_named(address: str) -> None:
    async with open_receive(address, Bar, name="chart", insecure=True) as bars:
        async with open_send(address, Tick, name="chart", insecure=True, close_within=0) as ticks:
            for end in (ticks, bars):
                with pytest.raises(PeerRefused, match=r"channel 'chart' at .*: writer sends Tick, reader expects Bar"):
                    await end.wait_connected()


async def test_a_type_that_cannot_be_encoded_is_refused_where_it_is_said(address: str) -> None:
    with pytest.raises(BadType, match="cannot be the type of a channel's items: there is no encoding for Event"):
        async with open_receive(address, threading.Event, insecure=True):
            pytest.fail("it was opened")


async def test_ends_with_other_settings_are_refused(address: str) -> None:
    async with open_receive(address, int, maxsize=8, insecure=True) as numbers:
        async with open_send(address, int, maxsize=9, insecure=True, close_within=0):
            with pytest.raises(PeerRefused, match="maxsize is 8 here and 9 there"):
                await numbers.receive()


async def test_a_second_writer_beside_a_live_one_is_refused_and_the_first_goes_on(address: str) -> None:
    async with open_pair(address, int, insecure=True) as channel:
        async with open_send(address, int, insecure=True, connect_within=0.1, close_within=0) as second:
            with pytest.raises(PeerRefused, match="has a live writer already"):
                await second.wait_connected()
        await channel.send.send(1)
        assert await channel.recv.receive() == 1


async def test_a_connection_that_nobody_answers_is_given_up_when_that_was_asked_for(folder: Path) -> None:
    async with open_send(new_address(folder), int, connect_within=0.05, close_within=0) as numbers:
        with pytest.raises(PeerLost, match=r"no reader came within 0\.05 s"):
            await numbers.wait_connected()


async def test_garbage_from_a_stranger_harms_nobody(folder: Path) -> None:
    address = new_address(folder)
    async with open_pair(address, int) as channel:
        from geartrain.ports.transport import LinkSettings
        from geartrain_zmq.transport import transport

        stranger = transport.open(address, bind=False, settings=LinkSettings(1 << 20))
        while not stranger.send(b"", b"\xc1garbage"):
            await anyio.lowlevel.checkpoint()
        for size in (0, 1, 18, 100, 50_000):
            stranger.send(b"", os.urandom(size))
        for number in range(100):
            await channel.send.send(number)
            assert await channel.recv.receive() == number
        await stranger.aclose()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nowhere", "an address reads scheme://place"),
        ("pigeon://roof", "no transport is installed for 'pigeon'"),
        ("tcp://127.0.0.1:1", "say insecure=True"),
        ("ipc:///tmp/" + "x" * 120, "longer than 107 bytes"),
        ("ipc:///tmp/here", "nobody else can enter"),
        ("ipc:///nowhere/here", "does not exist"),
    ],
)
async def test_an_address_that_cannot_be_is_refused_with_the_reason(address: str, said: str) -> None:
    with pytest.raises(BadValue, match=said.replace("(", r"\(")):
        async with open_receive(address, int):
            pytest.fail("it was opened")


@pytest.mark.parametrize(
    "wrong", [{"maxsize": -1}, {"policy": "lossy"}, {"ack": "never"}, {"heartbeat_s": 0}, {"max_bytes": 0}]
)
def test_senseless_options_are_refused_where_they_are_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadValue, match=next(iter(wrong))):
        open_send("ipc:///tmp/x/y", int, **wrong)


async def test_a_live_address_is_not_stolen_and_a_dead_one_is_taken_over(folder: Path) -> None:
    address = new_address(folder)
    path = anyio.Path(address.removeprefix("ipc://"))
    await path.touch()
    async with open_receive(address, int):
        with pytest.raises(WireError, match="bound by a live process"):
            async with open_receive(address, int):
                pytest.fail("it was stolen")
    assert not await path.exists()


def test_the_table_of_socket_options_is_what_a_socket_has() -> None:
    from geartrain.ports.transport import LinkSettings

    for bind in (True, False):
        link = new_socket("ipc", bind=bind, settings=LinkSettings(1000))
        readable = COMMON | ({} if bind else CONNECTED)
        for option, value in readable.items():
            if option not in BOUND and option not in WRITE_ONLY:
                assert link.get(option) == value
        link.close(0)


WRITE_ONLY = {51}  # PROBE_ROUTER can be set, not read


def test_a_private_folder_is_private_and_the_same_for_everyone_who_asks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    place = private_dir("vision")
    assert place == private_dir("vision")
    assert place.stat().st_mode & 0o777 == 0o700
    place.chmod(0o755)
    with pytest.raises(BadValue, match="nobody else can enter"):
        private_dir("vision")
    with pytest.raises(BadValue, match="one word"):
        private_dir("../else")


# -- two processes ----------------------------------------------------------------------------------------------------


class LedgerReader:
    """A reader in another process, that is killed and started again."""

    def __init__(self, backend: str, address: str, ledger: Path, maxsize: int) -> None:
        script = Path(__file__).with_name("ledger_reader.py")
        self._command = [sys.executable, str(script), backend, address, str(ledger), str(maxsize)]
        self._process = subprocess.Popen(self._command)

    def kill_and_start_again(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = subprocess.Popen(self._command)

    def end(self) -> int:
        return self._process.wait(timeout=30)


@pytest.fixture
def readers() -> Iterator[list[LedgerReader]]:
    started: list[LedgerReader] = []
    yield started
    for reader in started:
        reader._process.kill()
        reader._process.wait()


def entries(ledger: Path) -> list[tuple[int, bool, int]]:
    rows = [line.split() for line in ledger.read_text().splitlines()]
    return [(int(sequence), repeated == "1", int(number)) for _, sequence, repeated, number in rows]


async def assert_nothing_is_lost_while_the_reader_is_killed(
    folder: Path, readers: list[LedgerReader], reading: str, *, total: int, kills: int
) -> None:
    """This process writes on one loop, the other reads on the same or on the other one."""
    address, ledger = new_address(folder), folder / "ledger"
    reader = LedgerReader(reading, address, ledger, 64)
    readers.append(reader)
    async with open_send(address, int, maxsize=64, name="ledger", close_within=30, heartbeat_s=0.2) as numbers:
        for number in range(1, total + 1):
            await numbers.send(number)
            if number % (total // (kills + 1)) == 0 and number < total:
                await anyio.to_thread.run_sync(reader.kill_and_start_again)
    assert await anyio.to_thread.run_sync(reader.end) == 0
    written = entries(ledger)
    assert {number for _, _, number in written} == set(range(1, total + 1))
    assert all(sequence == number for sequence, _, number in written)
    once = [sequence for sequence, repeated, _ in written if not repeated]
    assert once == sorted(set(once))
    assert len(written) - len({sequence for sequence, _, _ in written}) <= sum(repeated for _, repeated, _ in written)


@pytest.mark.parametrize("reading", ["asyncio", "trio"])
async def test_a_reader_that_is_killed_and_started_again_loses_nothing_and_every_repeat_is_marked(
    folder: Path, readers: list[LedgerReader], reading: str
) -> None:
    await assert_nothing_is_lost_while_the_reader_is_killed(folder, readers, reading, total=20_000, kills=3)


@pytest.mark.soak
@pytest.mark.parametrize("reading", ["asyncio", "trio"])
async def test_twenty_kills_in_200_000_items_lose_nothing(
    folder: Path, readers: list[LedgerReader], reading: str
) -> None:
    await assert_nothing_is_lost_while_the_reader_is_killed(folder, readers, reading, total=200_000, kills=20)
