"""What a channel survives: processes that are stopped, killed and started again, and a network that cuts.

One end is here, the other in a process of its own on the other kind of loop (`peer.py`).
"""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread
import pytest

from geartrain import ChannelClosed, PeerLost, open_receive, open_send
from geartrain.engine.remote import RemoteReceive, RemoteSend

# How long something that must happen may take before a test calls it never.
PATIENCE_S = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def address(folder: Path) -> str:
    return f"ipc://{folder}/channel"


async def until(true: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Wait for something another process does: look again and again, with a deadline."""
    with anyio.fail_after(within_s):
        while not true():
            await anyio.sleep(0.005)


class Peer:
    """The other end, in a process of its own."""

    def __init__(self, backend: str, ledger: Path, order: dict[str, Any]) -> None:
        self._ledger = ledger
        script = Path(__file__).with_name("peer.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), backend, json.dumps(order | {"ledger": str(ledger)})]
        )

    @property
    def lines(self) -> list[str]:
        return self._ledger.read_text().splitlines() if self._ledger.exists() else []

    @property
    def numbers(self) -> list[int]:
        """What a writer has sent."""
        return [int(line) for line in self.lines if line.isdigit()]

    @property
    def entries(self) -> list[tuple[int, int, bool, int]]:
        """What a reader has taken: epoch, sequence, redelivered, item."""
        rows = [line.split() for line in self.lines if line[0].isdigit()]
        return [(int(epoch), int(sequence), repeated == "1", int(item)) for epoch, sequence, repeated, item in rows]

    @property
    def is_over(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """Return when the process stands still."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    async def end(self, within_s: float = PATIENCE_S) -> tuple[int, str]:
        """Its exit code, and the last line of its ledger."""
        await until(lambda: self.is_over, within_s)
        return self._process.wait(), self.lines[-1]


class Peers:
    """Starts the other ends of one test."""

    def __init__(self, folder: Path, address: str, backend: str) -> None:
        self.address = address
        self._folder = folder
        self._backend = backend
        self._started: list[Peer] = []

    def start(self, role: Literal["writer", "reader"], *, bind: bool = False, **said: Any) -> Peer:
        order: dict[str, Any] = {key: said.pop(key) for key in ("count", "item_bytes") if key in said}
        order |= {"role": role, "address": self.address, "bind": bind, "options": said}
        peer = Peer(self._backend, self._folder / f"{role}{len(self._started)}", order)
        self._started.append(peer)
        return peer

    def kill_all(self) -> None:
        for peer in self._started:
            peer.kill()


@pytest.fixture
def peers(folder: Path, address: str, anyio_backend: str) -> Iterator[Peers]:
    peers = Peers(folder, address, {"asyncio": "trio", "trio": "asyncio"}[anyio_backend])
    yield peers
    peers.kill_all()


async def take(numbers: RemoteReceive[int], count: int) -> list[int]:
    with anyio.fail_after(PATIENCE_S):
        return [await numbers.receive() for _ in range(count)]


async def take_from_new_life(numbers: RemoteReceive[int], old_epoch: int) -> int:
    """The first item of another writer, past what the old one had sent."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            number = await numbers.receive()
            if numbers.mark.epoch != old_epoch:
                return number


def assert_rises_without_a_gap(entries: list[tuple[int, int, bool, int]]) -> None:
    assert [sequence for _, sequence, _, _ in entries] == list(range(entries[0][1], entries[0][1] + len(entries)))
    assert all(sequence == item for _, sequence, _, item in entries)


# -- who stands still is replaced -----------------------------------------------------------------------------------

REPLACED = "has a live {role} already: another {role} has taken the place of this one"


async def test_a_writer_that_stands_still_is_replaced_after_three_heartbeats_and_cannot_mix_in_when_it_goes_on(
    peers: Peers,
) -> None:
    async with open_receive(peers.address, int, maxsize=4, heartbeat_s=0.1) as numbers:
        first = peers.start("writer", maxsize=4, heartbeat_s=0.1)
        assert await take(numbers, 10) == list(range(1, 11))
        first_epoch = numbers.mark.epoch
        first.stop()
        second = peers.start("writer", maxsize=4, heartbeat_s=0.1)
        assert await take_from_new_life(numbers, first_epoch) == 1
        second_epoch = numbers.mark.epoch
        assert [(loss.epoch, loss.lost) for loss in numbers.losses] == [(first_epoch, None)]
        first.go_on()
        assert await take(numbers, 2_000) == list(range(2, 2_002))
        assert numbers.mark.epoch == second_epoch
        assert len(numbers.losses) == 1
        assert not second.is_over


async def test_a_reader_that_stands_still_is_replaced_after_three_heartbeats_and_gets_nothing_when_it_goes_on(
    peers: Peers,
) -> None:
    async with open_send(peers.address, int, bind=True, maxsize=4, heartbeat_s=0.1) as out:
        numbers = itertools.count(1)

        async def send_until(true: Callable[[], bool]) -> None:
            with anyio.fail_after(PATIENCE_S):
                while not true():
                    await out.send(next(numbers))

        first = peers.start("reader", maxsize=4, heartbeat_s=0.1)
        await send_until(lambda: len(first.entries) >= 10)
        first.stop()
        taken = len(first.entries)
        second = peers.start("reader", maxsize=4, heartbeat_s=0.1)
        await send_until(lambda: len(second.entries) >= 10)
        first.go_on()
        last = out.statistics().accepted + 2_000
        await send_until(lambda: out.statistics().accepted >= last)
    assert (await second.end())[0] == 0
    # It takes what it already held, and nothing of what was sent since: one in hand that is not in its ledger yet, and
    # a window full.
    assert len(first.entries) <= taken + 1 + 4
    assert_rises_without_a_gap(first.entries)
    assert_rises_without_a_gap(second.entries)
    assert second.entries[0][1] <= taken + 1
    assert second.entries[-1][1] == out.statistics().accepted


async def test_a_writer_that_was_replaced_while_it_stood_still_is_refused(peers: Peers) -> None:
    async with open_receive(peers.address, int, maxsize=4, heartbeat_s=0.1) as numbers:
        first = peers.start("writer", maxsize=4, heartbeat_s=0.1, connect_within=0.1)
        await take(numbers, 5)
        first_epoch = numbers.mark.epoch
        first.stop()
        peers.start("writer", maxsize=4, heartbeat_s=0.1)
        await take_from_new_life(numbers, first_epoch)
        first.go_on()
        code, said = await first.end()
    assert code == 3
    assert said == f"PeerRefused: the channel at {peers.address} {REPLACED.format(role='writer')}"


async def test_a_reader_that_was_replaced_while_it_stood_still_is_refused(peers: Peers) -> None:
    async with open_send(peers.address, int, bind=True, maxsize=4, heartbeat_s=0.1) as out:
        first = peers.start("reader", maxsize=4, heartbeat_s=0.1, connect_within=0.1)
        await out.wait_connected()
        await out.send(1)
        await out.drain()
        first.stop()
        second = peers.start("reader", maxsize=4, heartbeat_s=0.1)
        await out.send(2)
        await until(lambda: len(second.entries) == 1)
        first.go_on()
        code, said = await first.end()
    assert code == 3
    assert said == f"PeerRefused: the channel at {peers.address} {REPLACED.format(role='reader')}"


@pytest.mark.parametrize("role", ["writer", "reader"])
async def test_a_second_process_beside_a_live_one_is_refused_and_the_first_goes_on(
    peers: Peers, role: Literal["writer", "reader"]
) -> None:
    if role == "writer":
        async with open_receive(peers.address, int, maxsize=4) as numbers:
            peers.start(role, maxsize=4)
            assert await take(numbers, 5) == [1, 2, 3, 4, 5]
            second = peers.start(role, maxsize=4, connect_within=0.2)
            taken = 5
            while not second.is_over:
                taken += 1
                assert await take(numbers, 1) == [taken]
            assert numbers.losses == ()
    else:
        async with open_send(peers.address, int, bind=True, maxsize=4) as out:
            first = peers.start(role, maxsize=4)
            await out.wait_connected()
            second = peers.start(role, maxsize=4, connect_within=0.2)
            await until(lambda: second.is_over)
            for number in range(1, 101):
                await out.send(number)
        assert [item for _, _, _, item in first.entries] == list(range(1, 101))
    code, said = await second.end()
    assert code == 3
    assert said == f"PeerRefused: the channel at {peers.address} has a live {role} already"


# -- who is killed is started again ---------------------------------------------------------------------------------


async def assert_every_death_of_the_writer_is_seen(peers: Peers, deaths: int) -> None:
    async with open_receive(peers.address, int, maxsize=8, heartbeat_s=0.1) as numbers:
        lives: list[int] = []
        for _ in range(deaths + 1):
            writer = peers.start("writer", maxsize=8, heartbeat_s=0.1)
            assert await take_from_new_life(numbers, lives[-1] if lives else 0) == 1
            lives.append(numbers.mark.epoch)
            assert await take(numbers, 20) == list(range(2, 22))
            writer.kill()
            # What had come before the death is still to be had, without a gap; then there is silence, and no end.
            rest = []
            with anyio.move_on_after(0.05):
                while True:
                    rest.append(await numbers.receive())
            assert rest == list(range(22, 22 + len(rest)))
            assert numbers.mark.epoch == lives[-1]
        assert [loss.epoch for loss in numbers.losses] == lives[:-1]
        assert lives == sorted(set(lives))


async def test_a_writer_that_is_killed_and_started_again_is_a_new_epoch_and_an_entry_in_losses(peers: Peers) -> None:
    await assert_every_death_of_the_writer_is_seen(peers, deaths=2)


@pytest.mark.soak
async def test_ten_deaths_of_a_writer_are_ten_entries_in_losses(peers: Peers) -> None:
    await assert_every_death_of_the_writer_is_seen(peers, deaths=10)


async def test_a_reader_killed_while_large_items_are_on_their_way_loses_none(peers: Peers) -> None:
    said: dict[str, Any] = {"maxsize": 4, "heartbeat_s": 0.1}
    readers = [peers.start("reader", bind=True, item_bytes=1 << 20, **said)]
    async with open_send(peers.address, bytes, close_within=PATIENCE_S, **said) as out:
        with anyio.fail_after(PATIENCE_S):
            for number in range(1, 41):
                await out.send(number.to_bytes(8, "big").ljust(1 << 20, b"."))
                if number in (10, 20, 30):
                    readers[-1].kill()
                    readers.append(peers.start("reader", bind=True, item_bytes=1 << 20, **said))
    await readers[-1].end()
    taken = [entry for reader in readers for entry in reader.entries]
    assert {item for _, _, _, item in taken} == set(range(1, 41))
    once = [sequence for _, sequence, repeated, _ in taken if not repeated]
    assert once == sorted(set(once))
    for reader in readers:
        if reader.entries:
            assert_rises_without_a_gap(reader.entries)


async def test_what_a_reader_never_took_before_it_was_killed_is_for_the_next_one(peers: Peers) -> None:
    async with open_send(peers.address, int, maxsize=8, heartbeat_s=0.1, close_within=PATIENCE_S) as out:
        first = peers.start("reader", bind=True, count=0, maxsize=8, heartbeat_s=0.1)
        await out.wait_connected()
        for number in range(1, 9):
            await out.send(number)
        await until(lambda: "met" in first.lines)
        first.kill()
        second = peers.start("reader", bind=True, maxsize=8, heartbeat_s=0.1)
    assert (await second.end())[0] == 0
    assert [(sequence, item) for _, sequence, _, item in second.entries] == [(number, number) for number in range(1, 9)]


async def test_a_reader_started_again_gets_what_was_in_hand_and_what_follows_and_the_repeats_are_marked(
    peers: Peers,
) -> None:
    said: dict[str, Any] = {"maxsize": 8, "heartbeat_s": 0.1, "ack": "each"}
    async with open_send(peers.address, int, close_within=PATIENCE_S, **said) as out:
        first = peers.start("reader", bind=True, count=3, **said)
        for number in range(1, 9):
            await out.send(number)
        await until(lambda: len(first.entries) == 3 and out.statistics().stable == 2)
        first.kill()
        second = peers.start("reader", bind=True, **said)
        for number in range(9, 13):
            await out.send(number)
    assert (await second.end())[0] == 0
    assert_rises_without_a_gap(second.entries)
    assert second.entries[0][1:] == (3, True, 3)
    assert second.entries[-1][1:] == (12, False, 12)


# -- who comes first, and what is in the way ------------------------------------------------------------------------


@pytest.mark.parametrize("writer_binds", [False, True])
async def test_a_writer_may_be_there_before_its_reader(peers: Peers, writer_binds: bool) -> None:
    writer = peers.start("writer", bind=writer_binds, count=20, maxsize=4)
    await until(lambda: len(writer.numbers) == 4)
    async with open_receive(peers.address, int, bind=not writer_binds, maxsize=4) as numbers:
        with anyio.fail_after(PATIENCE_S):
            assert [number async for number in numbers] == list(range(1, 21))
    assert (await writer.end())[0] == 0


@pytest.mark.parametrize("writer_binds", [False, True])
async def test_a_reader_may_be_there_before_its_writer(peers: Peers, writer_binds: bool) -> None:
    reader = peers.start("reader", bind=not writer_binds, maxsize=4)
    await until(lambda: "open" in reader.lines)
    async with open_send(peers.address, int, bind=writer_binds, maxsize=4) as out:
        for number in range(1, 21):
            await out.send(number)
    assert (await reader.end())[0] == 0
    assert_rises_without_a_gap(reader.entries)
    assert len(reader.entries) == 20


async def test_an_item_sent_before_the_loop_came_round_once_goes_out_by_itself(address: str) -> None:
    async with open_receive(address, int) as numbers:
        async with open_send(address, int) as out:
            await out.send(1)
            with anyio.fail_after(1):
                assert await numbers.receive() == 1
            await numbers.aclose()


async def test_the_socket_file_of_a_dead_run_is_not_in_the_way(peers: Peers, folder: Path) -> None:
    dead = peers.start("reader", bind=True)
    await until(lambda: "open" in dead.lines)
    dead.kill()
    assert (folder / "channel").is_socket()
    peers.start("writer", count=3)
    async with open_receive(peers.address, int) as numbers:
        with anyio.fail_after(PATIENCE_S):
            assert [number async for number in numbers] == [1, 2, 3]


@pytest.mark.parametrize("here", ["binds", "connects"])
async def test_when_the_folder_is_taken_away_those_who_have_met_go_on_and_leave(
    peers: Peers, folder: Path, here: str
) -> None:
    place = folder / "sockets"
    place.mkdir(mode=0o700)
    peers.address = f"ipc://{place}/channel"
    with anyio.fail_after(PATIENCE_S):
        async with open_receive(peers.address, int, bind=here == "binds", maxsize=4) as numbers:
            writer = peers.start("writer", bind=here != "binds", maxsize=4)
            assert await take(numbers, 5) == list(range(1, 6))
            shutil.rmtree(place)
            assert await take(numbers, 50) == list(range(6, 56))
        code, said = await writer.end()
    assert code == 3
    assert said.startswith("ChannelClosed")


async def test_where_there_is_no_folder_any_more_the_next_process_says_so(peers: Peers, folder: Path) -> None:
    place = folder / "sockets"
    place.mkdir(mode=0o700)
    peers.address = f"ipc://{place}/channel"
    async with open_receive(peers.address, int, maxsize=4, heartbeat_s=0.1) as numbers:
        first = peers.start("writer", maxsize=4, heartbeat_s=0.1)
        await take(numbers, 5)
        shutil.rmtree(place)
        first.kill()
        code, said = await peers.start("writer", maxsize=4, heartbeat_s=0.1).end()
    assert code == 3
    assert said.startswith(f"PlaceRefused: the folder {place} does not exist")


# -- how long one waits for a peer that stands still ----------------------------------------------------------------


async def test_a_writer_that_leaves_while_its_reader_stands_still_says_how_much_is_left(peers: Peers) -> None:
    reader = peers.start("reader", bind=True, count=0, maxsize=4)
    with anyio.fail_after(PATIENCE_S):
        with pytest.raises(PeerLost, match="closed with 3 messages that the reader has not said to be done with"):
            async with open_send(peers.address, int, maxsize=4, close_within=0.1) as out:
                await out.wait_connected()
                reader.stop()
                for number in range(3):
                    await out.send(number)


async def test_a_reader_leaves_while_its_writer_stands_still(peers: Peers) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with open_receive(peers.address, int, maxsize=4, close_within=0.1) as numbers:
            writer = peers.start("writer", maxsize=4)
            await take(numbers, 5)
            writer.stop()


async def test_a_writer_that_stands_still_for_too_long_is_lost_and_what_it_sent_is_not(peers: Peers) -> None:
    async with open_receive(peers.address, int, maxsize=4, heartbeat_s=0.05, lost_after_s=0.3) as numbers:
        writer = peers.start("writer", maxsize=4, heartbeat_s=0.05)
        await take(numbers, 5)
        writer.stop()
        taken = 5
        with anyio.fail_after(PATIENCE_S):
            with pytest.raises(PeerLost, match=r"the writer was silent for 0\.3 s"):
                while True:
                    taken += 1
                    assert await numbers.receive() == taken


@pytest.mark.parametrize("wait", ["send", "drain"])
async def test_a_reader_that_stands_still_for_too_long_is_lost_to_its_writer(peers: Peers, wait: str) -> None:
    reader = peers.start("reader", bind=True, maxsize=4, heartbeat_s=0.05)
    async with open_send(peers.address, int, maxsize=4, heartbeat_s=0.05, lost_after_s=0.3, close_within=0) as out:
        await out.wait_connected()
        await out.send(1)
        await until(lambda: len(reader.entries) == 1)
        reader.stop()
        with anyio.fail_after(PATIENCE_S):
            with pytest.raises(PeerLost, match=r"the reader was silent for 0\.3 s"):
                await out.send(2)
                while wait == "send":
                    await out.send(2)
                await out.drain()


async def test_a_writer_is_told_when_its_reader_has_closed_in_another_process(peers: Peers) -> None:
    async with open_receive(peers.address, int, maxsize=4) as numbers:
        writer = peers.start("writer", maxsize=4)
        await take(numbers, 5)
    code, said = await writer.end()
    assert code == 3
    assert said.startswith(ChannelClosed.__name__)


# -- a network that cuts ----------------------------------------------------------------------------------------------


class CuttingProxy:
    """Carries bytes between two tcp ports, and cuts all connections when told to."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._door = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.port = self._door.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._welcome)
        self._thread.start()

    def cut(self) -> None:
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self.cut()
        self._thread.join()
        self._door.close()

    def _welcome(self) -> None:
        carriers: list[threading.Thread] = []
        while True:
            try:
                one, _ = self._door.accept()
            except OSError:
                break
            try:
                other = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                one.close()
                continue
            self.connections += 1
            with self._lock:
                self._open |= {one, other}
            carriers.append(threading.Thread(target=self._carry_both_ways, args=(one, other)))
            carriers[-1].start()
        self.cut()
        for carrier in carriers:
            carrier.join()

    def _carry_both_ways(self, one: socket.socket, other: socket.socket) -> None:
        back = threading.Thread(target=self._carry, args=(other, one))
        back.start()
        self._carry(one, other)
        back.join()
        with self._lock:
            self._open -= {one, other}
        one.close()
        other.close()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def proxy() -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(free_port())
    yield proxy
    proxy.close()


async def assert_cuts_do_no_harm(proxy: CuttingProxy, *, total: int, cuts: int) -> None:
    said: dict[str, Any] = {"maxsize": 64, "heartbeat_s": 0.2, "insecure": True}
    async with open_receive(f"tcp://127.0.0.1:{proxy.target}", int, **said) as numbers:

        async def write() -> None:
            out: RemoteSend[int]
            async with open_send(f"tcp://127.0.0.1:{proxy.port}", int, close_within=PATIENCE_S, **said) as out:
                for number in range(total):
                    await out.send(number)

        every = total // (cuts + 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            with anyio.fail_after(PATIENCE_S + cuts):
                for number in range(total):
                    assert await numbers.receive() == number
                    assert not numbers.mark.redelivered
                    if number % every == every - 1 and number // every < cuts:
                        proxy.cut()
                assert [number async for number in numbers] == []
        assert proxy.connections >= cuts + 1
        assert numbers.losses == ()


async def test_a_connection_that_is_cut_again_and_again_loses_repeats_and_mixes_up_nothing(proxy: CuttingProxy) -> None:
    await assert_cuts_do_no_harm(proxy, total=5_000, cuts=5)


@pytest.mark.soak
async def test_fifty_cuts_in_50_000_items_lose_repeat_and_mix_up_nothing(proxy: CuttingProxy) -> None:
    await assert_cuts_do_no_harm(proxy, total=50_000, cuts=50)
