"""What every link promises, whatever moves its frames.

A transport's own test inherits `LinkContract` and says where it is:

    class TestPigeons(LinkContract):
        garbage = ("pigeon://", "pigeon://roof/../attic")

        @pytest.fixture
        def place(self) -> Place:
            return Place(transport, "pigeon://roof")
"""

import itertools
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from msgspec import Struct

from geartrain.errors import GeartrainError, WireError
from geartrain.ports.transport import Link, LinkSettings, Transport
from geartrain_zmq.transport import transport as zmq_transport
from tests.transports.pretend import PretendTransport

# How long a test waits before it calls that for ever. Nobody waits that long where the promises are kept.
PATIENCE_S = 10

ROOMY = LinkSettings(4 * 1024 * 1024, insecure=True)
NARROW = LinkSettings(1000, insecure=True)
FAR_TOO_LARGE = bytes(1024 * 1024)


class Place(Struct, frozen=True):
    """Where the links of a test meet."""

    transport: Transport
    address: str

    def bind(self, settings: LinkSettings = ROOMY) -> Link:
        return self.transport.open(self.address, bind=True, settings=settings)

    def connect(self, settings: LinkSettings = ROOMY) -> Link:
        return self.transport.open(self.address, bind=False, settings=settings)


class Pair(Struct, frozen=True):
    """Two links that have met. `name` is what the bound one calls the other."""

    bound: Link
    connecting: Link
    name: bytes


class Arrival(Struct, frozen=True):
    """A frame, and the peer it came from."""

    peer: bytes
    frame: bytes | memoryview


async def hear_some(link: Link) -> list[Arrival]:
    """What a link hands over until it has handed over something. It may be asked again, and again."""
    arrivals: list[Arrival] = []
    with anyio.CancelScope() as enough:

        def hear(peer: bytes, frame: bytes | memoryview) -> None:
            arrivals.append(Arrival(peer, frame))
            enough.cancel()

        await link.run(hear)
    return arrivals


async def receive(link: Link, count: int) -> list[Arrival]:
    """So many arrivals, and no more."""
    arrivals: list[Arrival] = []
    with anyio.fail_after(PATIENCE_S):
        while len(arrivals) < count:
            arrivals += await hear_some(link)
    assert len(arrivals) == count
    return arrivals


async def frames(link: Link, count: int) -> list[bytes]:
    return [bytes(arrival.frame) for arrival in await receive(link, count)]


async def until(promise: Callable[[], bool]) -> None:
    """Let the world go on until something is true."""
    with anyio.fail_after(PATIENCE_S):
        while not promise():
            await anyio.lowlevel.checkpoint()


async def newcomer(bound: Link, connecting: Link) -> bytes:
    """The name of who connects now: the connection itself says so, by an empty frame, once somebody looks after it."""

    async def look_after() -> None:
        while True:
            connecting.reachable(b"")
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look_after)
        (arrival,) = await receive(bound, 1)
        tasks.cancel_scope.cancel()
    assert bytes(arrival.frame) == b""
    return arrival.peer


@asynccontextmanager
async def met(place: Place) -> AsyncIterator[Pair]:
    bound, connecting = place.bind(), place.connect()
    try:
        yield Pair(bound, connecting, await newcomer(bound, connecting))
    finally:
        await connecting.aclose()
        await bound.aclose()


def all_have(got: dict[Link, list[bytes]], count: int) -> bool:
    return all(len(each) == count for each in got.values())


def numbered(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last)]


class LinkContract:
    """Every transport keeps this. `place` is a free address; `garbage` are addresses that can never be."""

    garbage: ClassVar[tuple[str, ...]] = ()

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError("a transport says where its links meet")

    # -- frames -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, 1000, 65_535, 65_536, 1024 * 1024])
    @pytest.mark.parametrize("kind", [bytes, bytearray])
    async def test_a_frame_of_any_size_arrives_whole(
        self, place: Place, size: int, kind: type[bytes] | type[bytearray]
    ) -> None:
        frame = kind(random.Random(size).randbytes(size))
        async with met(place) as pair:
            assert pair.connecting.send(b"", frame)
            assert pair.bound.send(pair.name, frame)
            assert await frames(pair.bound, 1) == [frame]
            assert await frames(pair.connecting, 1) == [frame]

    async def test_frames_arrive_once_each_and_in_order_in_both_directions_at_once(self, place: Place) -> None:
        sent = numbered(0, 3000)
        async with met(place) as pair:
            got: dict[Link, list[bytes]] = {}

            async def collect(link: Link) -> None:
                got[link] = await frames(link, len(sent))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(collect, pair.bound)
                tasks.start_soon(collect, pair.connecting)
                for number, frame in enumerate(sent):
                    assert pair.connecting.send(b"", frame)
                    assert pair.bound.send(pair.name, frame)
                    if number % 7 == 0:
                        await anyio.lowlevel.checkpoint()
            assert got == {pair.bound: sent, pair.connecting: sent}

    async def test_a_frame_that_comes_while_its_receiver_is_sending_wakes_it_all_the_same(self, place: Place) -> None:
        async with met(place) as pair:
            got: dict[Link, list[bytes]] = {pair.bound: [], pair.connecting: []}

            async def collect(link: Link) -> None:
                await link.run(lambda _, frame: got[link].append(bytes(frame)))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(collect, pair.bound)
                tasks.start_soon(collect, pair.connecting)
                for turn in range(300):
                    assert pair.bound.send(pair.name, b"there")
                    assert pair.connecting.send(b"", b"here")
                    assert pair.connecting.send(b"", b"and here")
                    assert pair.bound.send(pair.name, b"and there")
                    if turn % 3 == 0:
                        await until(partial(all_have, got, 2 * turn + 2))
                tasks.cancel_scope.cancel()

    async def test_to_be_cancelled_a_thousand_times_under_traffic_loses_nothing(self, place: Place) -> None:
        order = random.Random(1)
        got: list[bytes] = []
        sent = 0

        def hear(_peer: bytes, frame: bytes | memoryview) -> None:
            if len(frame):
                got.append(bytes(frame))

        async with met(place) as pair:
            for _ in range(1000):
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(pair.bound.run, hear)
                        for _ in range(order.randrange(12)):
                            await anyio.lowlevel.checkpoint()
                        for _ in range(order.randrange(3)):
                            assert pair.connecting.send(b"", b"%d" % sent)
                            sent += 1
                        # Frames of our own take the edge away from who waits, if that can be.
                        assert pair.bound.send(pair.name, b"")
                        for _ in range(order.randrange(5)):
                            await anyio.lowlevel.checkpoint()
                        scope.cancel()
            while len(got) < sent:
                got += await frames(pair.bound, sent - len(got))
        assert got == numbered(0, sent)

    # -- who is there -----------------------------------------------------------------------------------------------

    async def test_a_frame_for_nobody_is_not_taken_and_nobody_waits(self, place: Place) -> None:
        connecting = place.connect()
        assert not connecting.send(b"", b"is anybody there?")
        assert not connecting.reachable(b"")
        bound = place.bind()
        assert not bound.send(b"somebody", b"is it you?")
        assert not bound.reachable(b"somebody")
        await connecting.aclose()
        await bound.aclose()

    async def test_who_is_connected_is_reachable_and_who_has_gone_is_not(self, place: Place) -> None:
        async with met(place) as pair:
            assert pair.bound.reachable(pair.name)
            assert pair.connecting.reachable(b"")
            await pair.connecting.aclose()
            await until(lambda: not pair.bound.reachable(pair.name))
            assert not pair.bound.send(pair.name, b"are you there?")

    async def test_to_ask_whether_a_peer_is_reachable_tells_it_nothing_but_that_we_are_here(self, place: Place) -> None:
        async with met(place) as pair:
            assert pair.bound.reachable(pair.name)
            assert pair.bound.send(pair.name, b"next")
            assert [frame for frame in await self._up_to(pair.connecting, b"next") if frame] == [b"next"]

    async def _up_to(self, link: Link, last: bytes) -> list[bytes]:
        got: list[bytes] = []
        with anyio.fail_after(PATIENCE_S):
            while last not in got:
                got += [bytes(arrival.frame) for arrival in await hear_some(link)]
        return got

    async def test_several_peers_are_told_apart_and_each_gets_its_own_answer(self, place: Place) -> None:
        bound = place.bind()
        links: dict[bytes, Link] = {}
        for _ in range(5):
            link = place.connect()
            links[await newcomer(bound, link)] = link
        for name, link in links.items():
            assert link.send(b"", b"I am " + name)
        for arrival in await receive(bound, 5):
            assert bytes(arrival.frame) == b"I am " + arrival.peer
            assert bound.send(arrival.peer, b"you are " + arrival.peer)
        for name, link in links.items():
            assert await frames(link, 1) == [b"you are " + name]
            await link.aclose()
        await bound.aclose()

    async def test_a_peer_has_another_name_each_time_it_connects(self, place: Place) -> None:
        bound = place.bind()
        names: list[bytes] = []
        for _ in range(5):
            link = place.connect()
            names.append(await newcomer(bound, link))
            await link.aclose()
        assert len(set(names)) == 5
        await until(lambda: not any(bound.reachable(name) for name in names))
        await bound.aclose()

    async def test_who_connects_first_is_met_when_somebody_binds_and_again_when_somebody_else_does(
        self, place: Place
    ) -> None:
        connecting = place.connect()
        for _ in range(3):
            bound = place.bind()
            name = await newcomer(bound, connecting)
            assert bound.send(name, b"you again")
            assert await frames(connecting, 1) == [b"you again"]
            await bound.aclose()
            await until(lambda: not connecting.reachable(b""))
        await connecting.aclose()

    async def test_one_place_is_bound_by_one_link(self, place: Place) -> None:
        bound = place.bind()
        with pytest.raises(WireError):
            place.bind()
        await bound.aclose()
        await place.bind().aclose()

    async def test_an_address_that_cannot_be_is_refused(self, place: Place) -> None:
        for address in self.garbage:
            for bind in (True, False):
                with pytest.raises(GeartrainError):
                    place.transport.open(address, bind=bind, settings=ROOMY)

    # -- what is too much -------------------------------------------------------------------------------------------

    async def test_a_frame_beyond_the_most_never_arrives_and_the_bound_link_serves_on(self, place: Place) -> None:
        bound = place.bind(NARROW)
        good = place.connect()
        names = {await newcomer(bound, good)}
        bad = place.connect()
        names.add(await newcomer(bound, bad))
        assert bad.send(b"", FAR_TOO_LARGE)
        back = await newcomer(bound, bad)
        assert back not in names
        assert good.send(b"", b"small")
        assert await frames(bound, 1) == [b"small"]
        await until(lambda: bad.send(b"", b"small from now on"))
        assert await frames(bound, 1) == [b"small from now on"]
        for link in (good, bad, bound):
            await link.aclose()

    async def test_a_frame_beyond_the_most_does_not_arrive_at_the_connecting_link_either(self, place: Place) -> None:
        bound, connecting = place.bind(), place.connect(NARROW)
        assert bound.send(await newcomer(bound, connecting), FAR_TOO_LARGE)
        assert bound.send(await newcomer(bound, connecting), b"small")
        assert await frames(connecting, 1) == [b"small"]
        await connecting.aclose()
        await bound.aclose()

    # -- the end ----------------------------------------------------------------------------------------------------

    async def test_to_close_twice_is_to_close_once(self, place: Place) -> None:
        async with met(place) as pair:
            for link in (pair.bound, pair.connecting) * 2:
                with anyio.fail_after(PATIENCE_S):
                    await link.aclose()

    async def test_closing_never_hangs_over_what_was_not_delivered(self, place: Place) -> None:
        async with met(place) as pair:
            for _ in range(100):
                assert pair.bound.send(pair.name, bytes(100_000))
            with anyio.fail_after(PATIENCE_S):
                await pair.bound.aclose()

    async def test_a_closed_link_takes_nothing_and_reaches_nobody(self, place: Place) -> None:
        async with met(place) as pair:
            for link, peer in ((pair.bound, pair.name), (pair.connecting, b"")):
                await link.aclose()
                assert not link.send(peer, b"too late")
                assert not link.reachable(peer)

    async def test_a_flood_leaves_others_their_turns(self, place: Place) -> None:
        """However many frames wait: between two receives the loop goes round at least now and then."""
        async with met(place) as pair:
            for frame in numbered(0, 5000):
                assert pair.connecting.send(b"", frame)
            turns = 0

            async def look() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await anyio.lowlevel.checkpoint()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(look)
                await until(lambda: turns > 0)
                before = turns
                assert await frames(pair.bound, 5000) == numbered(0, 5000)
                # At most 64 frames at once.
                assert turns - before >= 5000 // 64 // 2
                tasks.cancel_scope.cancel()


class ZmqLinkContract(LinkContract):
    """What both addresses of ZeroMQ have in common."""

    async def test_a_frame_beyond_the_most_does_not_arrive_at_the_connecting_link_either(self, place: Place) -> None:
        """And it is the end: a DEALER whose peer breaks the protocol never connects again."""
        bound, connecting = place.bind(), place.connect(NARROW)
        assert bound.send(await newcomer(bound, connecting), FAR_TOO_LARGE)
        await until(lambda: not connecting.reachable(b""))
        await connecting.aclose()
        await bound.aclose()

    def assert_refused(self, address: str) -> None:
        for bind in (True, False):
            with pytest.raises(GeartrainError):
                zmq_transport.open(address, bind=bind, settings=ROOMY)


class TestZmqOverIpc(ZmqLinkContract):
    garbage = ("ipc://relative/path", "ipc:///nowhere/at/all", "ipc:///tmp/" + "x" * 120)

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        tmp_path.chmod(0o700)
        return Place(zmq_transport, f"ipc://{tmp_path}/here")

    def test_a_path_with_a_zero_byte_is_refused(self) -> None:
        self.assert_refused("ipc:///tmp/\0/here")


class TestZmqOverTcp(ZmqLinkContract):
    garbage = ("tcp://", "tcp://nowhere", "tcp://127.0.0.1", "tcp://127.0.0.1:port", "tcp://a b c:1")

    @pytest.fixture
    def place(self) -> Place:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return Place(zmq_transport, f"tcp://127.0.0.1:{probe.getsockname()[1]}")

    @pytest.mark.parametrize("port", ["70000", "-1", "5000\0x"])
    def test_a_port_that_is_none_is_refused(self, port: str) -> None:
        self.assert_refused(f"tcp://127.0.0.1:{port}")


class TestPretend(LinkContract):
    garbage = ("pretend://", "pretend://a b", "ipc:///tmp/here")
    _names = itertools.count()

    @pytest.fixture
    def place(self) -> Place:
        return Place(PretendTransport(), f"pretend://place_{next(self._names)}")
