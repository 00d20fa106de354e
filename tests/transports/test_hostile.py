"""Peers that are broken, and peers that mean harm: an error of ours that says who and what, or nothing at all.

    a stranger           says anything but a fitting Hello: nothing happens, whatever it says
    the accepted peer    breaks what was agreed: a typed error at this end that names the channel and the reason
    everybody else       goes on: beside every attack a channel of the same process keeps moving

The attackers are raw ZeroMQ sockets, and raw TCP ones. Where it matters what an end says, and how often, it is fed by
hand: a `Wire` over an `Ear`.
"""

import itertools
import os
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import anyio
import anyio.lowlevel
import msgspec
import pytest
import zmq

from geartrain import (
    EndOfStream,
    PeerRefused,
    ReceiveStream,
    SendStream,
    WireError,
    WouldBlock,
    open_pair,
    open_receive,
    open_send,
)
from geartrain.engine.options import ChannelOptions, Said
from geartrain.engine.shape import name_of, shape_of
from geartrain.engine.wire import ReadingWire, Wire, WritingWire
from geartrain.errors import GeartrainError
from geartrain.ports.transport import Hear
from geartrain.rules import frames
from geartrain.rules.frames import (
    ABORTED,
    LAST,
    PAYLOAD,
    SKIPPED,
    Again,
    Beat,
    Bye,
    Control,
    Data,
    Done,
    Flow,
    Hello,
    Life,
    Refused,
    Settings,
    WhoAreYou,
)
from geartrain.rules.session import Reader, Writer

PATIENCE_S = 20

# What a process may grow by under attack. The floor is what the allocator and ZeroMQ keep for themselves.
GROWTH_BYTES = 16 * 1024 * 1024

WINDOW = 8
EPOCH = 7_000
MAX_BYTES = 64 * 1024
AGREED: Said = {"name": "numbers", "maxsize": WINDOW, "insecure": True, "max_bytes": MAX_BYTES}
# Ends that leave at once: what their peer does not acknowledge is not at stake here.
AT_ONCE: Said = {**AGREED, "close_within": 0}

_numbers = itertools.count()
_encode = msgspec.msgpack.encode


# -- what attackers say ---------------------------------------------------------------------------------------------


def hello(*, writes: bool, **changes: Any) -> Hello:
    """A Hello that fits, but for the changes."""
    fitting = Hello(
        protocol=frames.PROTOCOL,
        writes=writes,
        incarnation=next(_numbers) + 1,
        epoch=EPOCH if writes else 0,
        issued=False,
        type_name=name_of(int),
        settings=Settings("numbers", shape_of(int), WINDOW, MAX_BYTES, "block", "batch", "stable"),
    )
    return msgspec.structs.replace(fitting, **changes)


def other_settings(**changes: Any) -> Settings:
    return msgspec.structs.replace(hello(writes=True).settings, **changes)


def data(first: int, *items: Any, flags: int = 0, epoch: int = EPOCH) -> bytes:
    return raw_data(first, b"".join(map(_encode, items)), count=len(items), flags=flags, epoch=epoch)


def raw_data(first: int, items: bytes, *, count: int, flags: int = 0, epoch: int = EPOCH) -> bytes:
    batch = frames.new_batch()
    batch += items
    frames.seal(batch, flags=flags, epoch=epoch, first=first, count=count)
    return bytes(batch)


def word(number: int, *fields: Any) -> bytes:
    """A control frame that no encoder of ours would write."""
    return _encode([number, *fields])


WHO = frames.encode(WhoAreYou())
CLAIMS = {"array32": b"\xdd", "map32": b"\xdf", "str32": b"\xdb", "bin32": b"\xc6", "ext32": b"\xc9"}


class Attacker:
    """A raw ZeroMQ socket at the other end of a channel's address."""

    def __init__(self, address: str, kind: int, *, bind: bool = False, deaf: bool = False) -> None:
        self.address = address
        self.other: Hello | None = None
        self.met = hello(writes=True)
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        self._socket.set(zmq.LINGER, 0)
        # Who attacks holds nothing back, and one that is deaf reads nothing: what it makes us hold is ours.
        self._socket.set(zmq.SNDHWM, 100 if deaf else 0)
        self._socket.set(zmq.RCVHWM, 1 if deaf else 0)
        self._routes = kind == zmq.ROUTER
        self._victim = b""
        if bind:
            self._socket.bind(address)
        else:
            self._socket.connect(address)

    def say(self, *said: bytes | Control) -> None:
        for each in said:
            frame = each if isinstance(each, bytes) else frames.encode(each)
            self._socket.send_multipart([self._victim, frame] if self._routes else [frame])

    async def pour(self, frame: bytes, times: int) -> None:
        """Say it so often, as fast as it is taken."""
        with anyio.fail_after(PATIENCE_S):
            for _ in range(times):
                while not self.say_now(frame):
                    await anyio.lowlevel.checkpoint()

    def say_now(self, frame: bytes) -> bool:
        try:
            self._socket.send(frame, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def say_in_parts(self, parts: list[bytes]) -> None:
        self._socket.send_multipart(parts)

    async def until_heard(self, kind: Any, look: Callable[[], object] = bool) -> Any:
        """The next word of this kind; what comes before it is forgotten."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                for said in self._heard():
                    if isinstance(said, kind):
                        return said
                look()
                await anyio.lowlevel.checkpoint()

    def _heard(self) -> Iterator[Control | Data]:
        while self._socket.poll(0):
            *route, frame = self._socket.recv_multipart()
            if self._routes:
                self._victim = route[0]
            if frame:
                said = frames.decode(frame)
                if isinstance(said, Hello):
                    self.other = said
                yield said

    @property
    def epoch(self) -> int:
        """The life of the victim, as it has said itself."""
        assert self.other is not None
        return self.other.epoch

    def close(self) -> None:
        self._socket.close(0)


class Arena:
    """Where attacks happen: fresh addresses, attackers that are cleared away, and a bystander that must not notice."""

    def __init__(self, folder: Path, scheme: str) -> None:
        self.folder = folder
        self.scheme = scheme
        self.stack = ExitStack()

    def new_address(self) -> str:
        if self.scheme == "ipc":
            return f"ipc://{self.folder}/{next(_numbers)}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return f"tcp://127.0.0.1:{probe.getsockname()[1]}"

    def attacker(self, address: str, kind: int = zmq.DEALER, *, bind: bool = False, deaf: bool = False) -> Attacker:
        attacker = Attacker(address, kind, bind=bind, deaf=deaf)
        self.stack.callback(attacker.close)
        return attacker

    @asynccontextmanager
    async def bystander(self) -> AsyncIterator[None]:
        """A channel of the same process, which moves after the attack as it did before."""
        async with open_pair(self.new_address(), int, insecure=True) as channel:
            await assert_moves(channel.send, channel.recv)
            yield
            await assert_moves(channel.send, channel.recv)

    @asynccontextmanager
    async def reader(
        self, item_type: Any = int, *, binds: bool = True, deaf: bool = False
    ) -> AsyncIterator[tuple[ReceiveStream[Any], Attacker]]:
        """A reader that has accepted an attacker as its writer."""
        address = self.new_address()
        settings = other_settings(shape=shape_of(item_type))
        met = hello(writes=True, settings=settings, type_name=name_of(item_type))
        async with self.bystander(), AsyncExitStack() as stack:
            if binds:
                end = await stack.enter_async_context(open_receive(address, item_type, **AT_ONCE))
                attacker = self.attacker(address, deaf=deaf)
            else:
                attacker = self.attacker(address, zmq.ROUTER, bind=True)
                end = await stack.enter_async_context(open_receive(address, item_type, bind=False, **AT_ONCE))
                await attacker.until_heard(Hello)
            attacker.met = met
            attacker.say(met)
            await attacker.until_heard(Flow)
            yield end, attacker

    @asynccontextmanager
    async def writer(
        self, *, binds: bool = True, deaf: bool = False, items: Sequence[Any] = (1, 2, 3), item_type: Any = int
    ) -> AsyncIterator[tuple[SendStream[Any], Attacker]]:
        """A writer that has accepted an attacker as its reader, and has sent it some items."""
        address = self.new_address()
        settings = other_settings(shape=shape_of(item_type))
        async with self.bystander(), AsyncExitStack() as stack:
            if not binds:
                attacker = self.attacker(address, zmq.ROUTER, bind=True)
            stack.enter_context(suppress(GeartrainError))
            end = await stack.enter_async_context(open_send(address, item_type, bind=binds, **AT_ONCE))
            if binds:
                attacker = self.attacker(address, deaf=deaf)
                attacker.say(hello(writes=False, settings=settings))
                await attacker.until_heard(Hello)
            else:
                await attacker.until_heard(Hello)
                attacker.say(hello(writes=False, settings=settings))
            for item in items:
                await end.send(item)
            if items:
                await attacker.until_heard(Data)
            yield end, attacker


async def assert_moves(send: SendStream[int], recv: ReceiveStream[int]) -> None:
    with anyio.fail_after(PATIENCE_S):
        for number in range(50):
            await send.send(number)
            assert await recv.receive() == number


async def provoked(attacker: Attacker, look: Callable[[], object], *said: bytes | Control) -> GeartrainError | None:
    """Say all this, wait until it was heard, and return what came of it: `look` raises it, now or in the end."""
    attacker.say(*said, WHO)
    try:
        await attacker.until_heard(Hello | Refused, look)
        look()
    except GeartrainError as error:
        return error
    return None


def assert_says(error: GeartrainError | None, kind: type[GeartrainError], reason: str) -> None:
    assert isinstance(error, kind)
    assert re.match(rf"channel 'numbers' at (ipc|tcp)://\S+ .*{reason}", str(error))


@pytest.fixture(params=["ipc", pytest.param("tcp", marks=pytest.mark.soak)])
def arena(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Arena]:
    tmp_path.chmod(0o700)
    arena = Arena(tmp_path, request.param)
    with arena.stack:
        yield arena


# -- ends that are fed by hand ----------------------------------------------------------------------------------------


class Ear:
    """A link that takes everything, and remembers it."""

    def __init__(self) -> None:
        self.heard: list[Control | Data] = []

    def send(self, peer: bytes, frame: bytes | bytearray | memoryview) -> bool:
        self.heard.append(frames.decode(frame))
        return True

    def reachable(self, peer: bytes) -> bool:
        return True

    async def run(self, hear: Hear) -> NoReturn:
        raise AssertionError("it is fed by hand")

    async def aclose(self) -> None:
        pass

    def count(self, kind: type[Control | Data]) -> int:
        return sum(isinstance(each, kind) for each in self.heard)


PEER = b"the peer"
STRANGER = b"a stranger"


def new_reader(ear: Ear) -> ReadingWire[int]:
    """A reading end that binds, and has met its writer."""
    me = ChannelOptions(**AGREED).me(int, "ear://", binds=True)
    wire: ReadingWire[int] = ReadingWire(Reader(me, time.monotonic_ns()), ear, int)
    wire.hear(PEER, frames.encode(hello(writes=True)))
    return wire


def new_writer(ear: Ear) -> WritingWire[int]:
    """A writing end that binds, has met its reader, and has sent it some items."""
    options = ChannelOptions(**AGREED)
    me = options.me(int, "ear://", binds=True)
    session = Writer(me, time.monotonic_ns(), max_bytes=options.max_bytes, retain=options.kept)
    wire: WritingWire[int] = WritingWire(session, ear, lambda _: None)
    wire.hear(PEER, frames.encode(hello(writes=False)))
    for number in range(3):
        session.batch += _encode(number)
        session.accept()
    session.flush()
    wire.speak()
    return wire


# -- strangers --------------------------------------------------------------------------------------------------------

NOISE = random.Random(7)

STRANGE: dict[str, list[bytes]] = {
    "random bytes": [NOISE.randbytes(size) for size in (1, 2, 18, 23, 100, 1000, 50_000) for _ in range(10)],
    "every first byte": [bytes([first]) + NOISE.randbytes(30) for first in range(256)],
    "empty frames": [b""] * 100,
    "nested words": [b"\x91" * 60_000, b"\x81" * 60_000, b"\xdd\0\0\0\1" * 10_000],
    "claims of 4 GiB": [
        claim + b"\xff" * 4 for claim in CLAIMS.values()
    ] + [raw_data(1, claim + b"\xff" * 4, count=1) for claim in CLAIMS.values()],
    "data": [data(1, 1, 2, 3), data(2**64 - 1, 1), data(1, flags=LAST | ABORTED), data(1, 9, flags=PAYLOAD)],
    "words of a peer": [
        frames.encode(each)
        for each in (Flow(EPOCH, 3, 3, 2**62), Again(EPOCH, 1), Beat(2**62), Done(), Bye(), Refused("go away", True))
    ],
    "many words": [frames.encode(each) for each in (WhoAreYou(), Refused("no", False), Done())] * 300,
    "misfits": [
        frames.encode(hello(writes=True, settings=other_settings(channel="\0" * 60_000))),
        frames.encode(hello(writes=True, protocol=99)),
        frames.encode(hello(writes=True, settings=other_settings(shape="else"))),
        frames.encode(hello(writes=False)),
    ],
    "numbers that are none": [word(1, "1", True), word(4, 1.5, -1, None, "x"), word(4), word(9), word(-1), word(1)],
    "truncated words": [
        frames.encode(each)[:length]
        for each in (hello(writes=True), Flow(1, 2, 3, 4), Again(1, 2), Refused("no", True), Beat(3))
        for length in range(1, len(frames.encode(each)), 3)
    ],
    "truncated data": [data(1, 1, 2, 3)[:length] for length in range(1, 26)],
}  # fmt: skip


async def assert_heard(stranger: Attacker) -> None:
    """A Hello that fits nowhere is answered when all that was said before has been heard."""
    stranger.say(hello(writes=True, protocol=98))
    await stranger.until_heard(Refused)


@pytest.mark.parametrize("said", STRANGE.values(), ids=STRANGE)
async def test_what_strangers_say_harms_nobody(arena: Arena, said: list[bytes]) -> None:
    address = arena.new_address()
    async with open_pair(address, int, **AGREED) as channel:
        for _ in range(2):
            stranger = arena.attacker(address)
            stranger.say(*said)
            await assert_heard(stranger)
            await assert_moves(channel.send, channel.recv)


@pytest.mark.parametrize("what", ["random bytes", "words of a peer", "truncated words"])
async def test_what_comes_before_any_hello_is_no_reason_to_fail(arena: Arena, what: str) -> None:
    address = arena.new_address()
    async with open_receive(address, int, **AGREED) as recv:
        stranger = arena.attacker(address)
        stranger.say(*STRANGE[what], WHO)
        await stranger.until_heard(WhoAreYou)
        async with open_send(address, int, **AGREED) as send:
            await assert_moves(send, recv)
            await recv.aclose()


async def test_frames_beyond_the_most_harm_nobody(arena: Arena) -> None:
    address = arena.new_address()
    async with open_pair(address, int, **AGREED) as channel:
        stranger = arena.attacker(address)
        stranger.say(bytes(300_000), frames.encode(hello(writes=True, settings=other_settings(channel="x" * 300_000))))
        await assert_heard(arena.attacker(address))
        await assert_moves(channel.send, channel.recv)


async def test_messages_of_very_many_parts_harm_nobody(arena: Arena) -> None:
    address = arena.new_address()
    async with open_pair(address, int, **AGREED) as channel:
        stranger = arena.attacker(address)
        stranger.say_in_parts([frames.encode(hello(writes=True))] * 10_000)
        stranger.say_in_parts([b""] * 10_000)
        await assert_heard(stranger)
        await assert_moves(channel.send, channel.recv)


async def test_sockets_of_any_kind_that_connect_harm_nobody(arena: Arena) -> None:
    address = arena.new_address()
    async with open_pair(address, int, **AGREED) as channel:
        for kind in (zmq.PUSH, zmq.PUB, zmq.REQ, zmq.PAIR, zmq.DEALER, zmq.ROUTER):
            arena.attacker(address, kind)
        await assert_moves(channel.send, channel.recv)


async def test_a_hundred_connections_that_never_speak_harm_nobody(arena: Arena) -> None:
    address = arena.new_address()
    async with open_pair(address, int, **AGREED) as channel:
        for _ in range(100):
            arena.attacker(address)
        await assert_moves(channel.send, channel.recv)


async def test_a_second_writer_beside_a_live_one_is_told_to_go_and_its_items_go_nowhere(arena: Arena) -> None:
    async with arena.reader() as (end, first):
        first.say(data(1, 10))
        assert await end.receive() == 10
        second = arena.attacker(first.address)
        second.say(hello(writes=True), data(1, 666), data(2, 667))
        answer = await second.until_heard(Refused)
        assert answer == Refused(f"channel 'numbers' at {first.address} has a live writer already", final=False)
        await second.until_heard(WhoAreYou)
        first.say(data(2, 20))
        assert await end.receive() == 20


@pytest.mark.parametrize("said", [b"", b"\xffgarbage", data(1, 1), hello(writes=True), hello(writes=True, protocol=9)])
def test_a_stranger_that_talks_on_and_on_is_answered_only_now_and_then(said: bytes | Control) -> None:
    """It may not read what it is told, and then it is we who hold it."""
    ear = Ear()
    wire = new_reader(ear)
    ear.heard.clear()
    frame = said if isinstance(said, bytes) else frames.encode(said)
    begun_ns = time.monotonic_ns()
    for _ in range(1000):
        wire.hear(STRANGER, frame)
    assert len(ear.heard) <= 1 + (time.monotonic_ns() - begun_ns) // 100_000_000


def test_a_stranger_that_talks_on_and_on_does_not_keep_another_from_being_answered() -> None:
    ear = Ear()
    wire = new_reader(ear)
    for number in range(100):
        wire.hear(STRANGER, b"")
        ear.heard.clear()
        wire.hear(b"another %d" % number, b"")
        assert ear.heard == [WhoAreYou()]


# -- what is not even ZeroMQ ------------------------------------------------------------------------------------------

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER"

FOREIGN = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + NOISE.randbytes(500),
    "noise": NOISE.randbytes(5000),
    "half a greeting": GREETING[:30],
    "a greeting and noise": GREETING + NOISE.randbytes(200),
    "a command of 2**62 bytes": GREETING + b"\x06" + (2**62).to_bytes(8, "big"),
    "a message of 2**62 bytes": GREETING + READY + b"\x02" + (2**62).to_bytes(8, "big"),
    "a message that never ends": GREETING + READY + (b"\x01\xff" + bytes(255)) * 2000,
    "nothing": b"",
}


async def test_whatever_else_comes_to_a_tcp_port_harms_nobody(tmp_path: Path) -> None:
    address = Arena(tmp_path, "tcp").new_address()
    place = ("127.0.0.1", int(address.rpartition(":")[2]))
    async with open_pair(address, int, **AGREED) as channel:
        with ExitStack() as open_sockets:
            for said in FOREIGN.values():
                foreigner = open_sockets.enter_context(socket.create_connection(place))
                with suppress(ConnectionError):
                    foreigner.sendall(said)
                await assert_moves(channel.send, channel.recv)
        await assert_moves(channel.send, channel.recv)


# -- the accepted writer ----------------------------------------------------------------------------------------------

WRITERS_BREACHES: dict[str, tuple[list[bytes | Control], str]] = {
    "garbage": ([b"\xffgarbage"], "no word of protocol 1"),
    "a truncated header": ([data(1, 1)[:10]], "a data frame of 10 bytes"),
    "a truncated item": ([data(1, 1000)[:-1]], "do not decode"),
    "half a number": ([data(1, 2**63)[:-8]], "do not decode"),
    "another type": ([data(1, "word")], "writer sends int, reader expects int: .*got `str`"),
    **{
        f"{name} of 4 GiB": ([raw_data(1, claim + b"\xff" * 4, count=1)], "do not decode")
        for name, claim in CLAIMS.items()
    },
    "4 G items claimed": ([raw_data(1, b"\1", count=2**32 - 1)], "beyond 8, the last it was granted"),
    "more items than claimed": ([raw_data(1, b"\1\1", count=1)], "do not decode"),
    "a word nested to death": ([b"\x91" * 60_000], "no word of protocol 1"),
    "a word too large": ([bytes(70_000)], "65536 is the most"),
    "a float for a number": ([word(5, 1.5)], "no word of protocol 1"),
    "a number too large": ([word(5, 2**64 - 1)], "no word of protocol 1"),
    "a reader's word": ([Flow(EPOCH, 1, 1, 1)], "its writer said Flow, which only a reader may say"),
    "one item too many": ([data(1, *range(WINDOW + 1))], f"sent up to item 9, beyond {WINDOW}"),
    "far too many items": ([data(1, *range(1000)), data(1001, *range(1000))], "sent up to item 1000, beyond"),
    "a number far ahead": ([data(1000, 1)], "sent up to item 1000, beyond"),
    "the last number there is": ([data(2**64 - 1, 1)], "beyond"),
    "a batch of nothing": ([data(1)], "sent a frame without items"),
    "a payload nobody expects": ([data(1, 70_000, flags=PAYLOAD)], "writer announced bytes, reader expects int"),
    "a refusal": ([Refused("go away", final=True)], "was refused by its writer: go away"),
    "busy": ([Refused("not now", final=False)], "not now: another reader has taken the place of this one"),
    "another protocol": ([hello(writes=True, protocol=99)], "speaks protocol 1, its peer speaks 99"),
    "another type in the same breath": (
        [hello(writes=True, type_name="Else", settings=other_settings(shape="else"))],
        "writer sends Else, reader expects int",
    ),
}  # fmt: skip

BOTH_WAYS = pytest.mark.parametrize(
    "binds", [True, pytest.param(False, marks=pytest.mark.soak)], ids=["bound", "connecting"]
)


def look_at_reader(end: ReceiveStream[Any]) -> None:
    """Take what there is; raises what keeps more from coming."""
    with suppress(WouldBlock):
        while True:
            end.receive_nowait()


@BOTH_WAYS
@pytest.mark.parametrize(("said", "reason"), WRITERS_BREACHES.values(), ids=WRITERS_BREACHES)
async def test_a_writer_that_breaks_what_was_agreed_is_an_error_that_names_channel_and_reason(
    arena: Arena, binds: bool, said: list[bytes | Control], reason: str
) -> None:
    async with arena.reader(binds=binds) as (end, attacker):
        error = await provoked(attacker, lambda: look_at_reader(end), *said)
    assert_says(error, PeerRefused if isinstance(said[0], Hello | Refused) else WireError, reason)


async def test_a_connecting_reader_is_as_careful_as_one_that_binds(arena: Arena) -> None:
    async with arena.reader(binds=False) as (end, attacker):
        error = await provoked(attacker, lambda: look_at_reader(end), data(1, *range(WINDOW + 1)))
    assert_says(error, WireError, "sent up to item 9, beyond")


async def test_a_peer_that_broke_what_was_agreed_is_told_why(arena: Arena) -> None:
    async with arena.reader() as (_, attacker):
        attacker.say(b"\xffgarbage")
        answer = await attacker.until_heard(Refused)
    assert answer.final
    assert_says(PeerRefused(answer.reason), PeerRefused, "no word of protocol 1")


def test_an_end_that_has_failed_tells_so_once_and_takes_nothing_more() -> None:
    ear = Ear()
    wire = new_reader(ear)
    for _ in range(100):
        wire.hear(PEER, b"\xffgarbage")
    first = wire.session.failure
    wire.hear(PEER, frames.encode(hello(writes=True)))
    wire.hear(PEER, data(1, 1))
    assert ear.count(Refused) == 1
    assert wire.session.failure is first
    assert not wire.session.items


async def test_what_came_before_the_breach_is_received_before_the_error(arena: Arena) -> None:
    async with arena.reader() as (end, attacker):
        attacker.say(data(1, 10, 20), b"\xffgarbage")
        with anyio.fail_after(PATIENCE_S):
            assert [await end.receive(), await end.receive()] == [10, 20]
            with pytest.raises(WireError, match="no word of protocol 1"):
                await end.receive()


async def test_what_comes_after_the_end_is_not_taken_for_an_item(arena: Arena) -> None:
    async with arena.reader() as (end, attacker):
        attacker.say(data(1, 10), data(2, flags=LAST), data(3, 666))
        assert (await attacker.until_heard(Refused)).reason.endswith("its writer sent item 3 after the end, 2")
        assert await end.receive() == 10
        with pytest.raises(EndOfStream):
            await end.receive()


def test_items_set_aside_that_nobody_asked_for_do_not_make_room() -> None:
    """Numbers without items count as taken: between items that wait they would lift the bound on those."""
    ear = Ear()
    wire = new_reader(ear)
    for number in range(1, 1000, 2):
        wire.hear(PEER, data(number, number))
        wire.hear(PEER, raw_data(number + 1, b"", count=0, flags=SKIPPED))
    assert len(wire.session.items) <= WINDOW
    assert isinstance(wire.session.failure, WireError)
    assert str(wire.session.failure).endswith("its writer set item 2 aside, for which nobody had asked")


async def test_a_writer_that_sends_more_than_the_most_is_cut_off_and_may_come_back(arena: Arena) -> None:
    async with arena.reader() as (end, attacker):
        attacker.say(bytes(300_000))
        again = arena.attacker(attacker.address)
        again.say(attacker.met, data(1, 10))
        await again.until_heard(Flow)
        with anyio.fail_after(PATIENCE_S):
            assert await end.receive() == 10


@pytest.mark.parametrize(
    "said",
    [
        [Beat(2**62), Beat(0)],
        [data(2, 666, epoch=0), data(2, 666, epoch=EPOCH - 1), data(2, flags=LAST, epoch=EPOCH + 1)],
        [b"", Bye()],
        [_encode([5, 1, "a word of", "a later protocol"])],
    ],
    ids=["beats", "another life's data", "an empty frame", "longer words"],
)
async def test_what_is_out_of_place_but_harmless_changes_nothing_for_a_reader(
    arena: Arena, said: list[bytes | Control]
) -> None:
    async with arena.reader() as (end, attacker):
        attacker.say(data(1, 1), *said)
        assert await end.receive() == 1
        assert await provoked(attacker, end.statistics, *said) is None
        attacker.say(attacker.met, data(2, 2), data(1, 666), data(2, 2, 3))
        with anyio.fail_after(PATIENCE_S):
            assert [await end.receive(), await end.receive()] == [2, 3]


@pytest.mark.parametrize("nest", [b"\x91", b"\x81\xa0", b"\xdd\0\0\0\1"], ids=["arrays", "maps", "large arrays"])
async def test_items_nested_to_death_are_an_error_like_any_other(arena: Arena, nest: bytes) -> None:
    anything: Any = Any
    async with arena.reader(anything) as (end, attacker):
        error = await provoked(attacker, end.has_item, raw_data(1, nest * (100_000 // len(nest)), count=1))
    assert_says(error, WireError, "do not decode")


async def test_a_payload_of_another_size_than_was_announced_is_an_error_or_a_gap(arena: Arena) -> None:
    async with arena.reader(bytes) as (end, attacker):
        attacker.say(data(1, 5, flags=PAYLOAD), b"12345", data(2, "size", flags=PAYLOAD), b"67890")
        with anyio.fail_after(PATIENCE_S):
            assert await end.receive() == b"12345"
            with pytest.raises(WireError) as error:
                await end.receive()
    assert_says(error.value, WireError, "do not decode")


class Inverse(msgspec.Struct):
    """An item type that checks its values, and raises what it likes."""

    of: int

    def __post_init__(self) -> None:
        self.value = 1 / self.of


async def test_an_item_that_its_own_type_refuses_is_an_error_like_any_other(arena: Arena) -> None:
    async with arena.reader(Inverse) as (end, attacker):
        error = await provoked(attacker, end.has_item, data(1, {"of": 0}))
    assert_says(error, WireError, "do not decode: .*division by zero")


@pytest.mark.parametrize(
    "changes",
    [
        {"stable": 2**64 - 1},
        {"stable": -1},
        {"epoch": -1},
        {"epoch": 2**63},
        {"incarnation": 2**63},
        {"lives": (Life(1, -1),)},
    ],
    ids=str,
)
async def test_a_writer_that_introduces_itself_with_impossible_numbers_is_asked_again_who_it_is(
    arena: Arena, changes: dict[str, Any]
) -> None:
    address = arena.new_address()
    async with arena.bystander(), open_receive(address, int, **AT_ONCE) as end:
        attacker = arena.attacker(address)
        attacker.say(hello(writes=True, **changes))
        attacker.say(data(1, 666), WHO)
        assert await attacker.until_heard(Control) == WhoAreYou()
        with pytest.raises(WouldBlock):
            end.receive_nowait()


# -- the accepted reader ----------------------------------------------------------------------------------------------

Lie = Callable[[int], bytes | Control]

READERS_BREACHES: dict[str, tuple[Lie, str]] = {
    "garbage": (lambda _: b"\xffgarbage", "no word of protocol 1"),
    "data": (lambda _: data(1, 1), "its reader said Data, which only a writer may say"),
    "truncated data": (lambda _: data(1, 1)[:5], "a data frame of 5 bytes"),
    "a float for a number": (lambda epoch: word(4, epoch, 1.5, 1, 1), "no word of protocol 1"),
    "a truth for a number": (lambda epoch: word(4, epoch, 2**62, True, 1), "no word of protocol 1"),
    "less than nothing": (lambda epoch: word(4, epoch, -1, -1, -1), "no word of protocol 1"),
    "a word too short": (lambda epoch: word(4, epoch), "no word of protocol 1"),
    "taken what was never sent": (lambda epoch: Flow(epoch, 2**62, 0, 2**62), "claims to have taken"),
    "taken the one after the last": (lambda epoch: Flow(epoch, 4, 0, 8), "claims to have taken 4 items .* of 3"),
    "stable what was never sent": (lambda epoch: Flow(epoch, 3, 2**62, 8), "claims to have taken"),
    "stable before it was taken": (lambda epoch: Flow(epoch, 2, 3, 8), "claims to have taken 2 items .* with 3"),
    "granted without end": (lambda epoch: Flow(epoch, 0, 0, 2**62), "grants .* at once; maxsize is 8"),
    "granted one too many": (lambda epoch: Flow(epoch, 0, 0, WINDOW + 1), "grants 9 items at once; maxsize is 8"),
    "expects a gap": (lambda epoch: hello(writes=False, epoch=epoch, expects=1000), "expects item 1000 of 3"),
    "has taken what was never sent": (
        lambda epoch: hello(writes=False, epoch=epoch, expects=4, taken=99, granted=107),
        "claims to have taken 99 items",
    ),
    "a refusal": (lambda _: Refused("go away", final=True), "was refused by its reader: go away"),
}  # fmt: skip


@BOTH_WAYS
@pytest.mark.parametrize(("said", "reason"), READERS_BREACHES.values(), ids=READERS_BREACHES)
async def test_a_reader_that_breaks_what_was_agreed_is_an_error_that_names_channel_and_reason(
    arena: Arena, binds: bool, said: Lie, reason: str
) -> None:
    async with arena.writer(binds=binds) as (end, attacker):
        lie = said(attacker.epoch)
        error = await provoked(attacker, end.has_room, lie)
    assert_says(error, PeerRefused if isinstance(lie, Hello | Refused) else WireError, reason)


async def test_a_connecting_writer_is_as_careful_as_one_that_binds(arena: Arena) -> None:
    async with arena.writer(binds=False) as (end, attacker):
        error = await provoked(attacker, end.has_room, Flow(attacker.epoch, 0, 0, WINDOW + 1))
    assert_says(error, WireError, "grants 9 items at once")


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(lambda epoch: [Flow(epoch, 0, 0, 0)] * 2, id="going back"),
        pytest.param(lambda epoch: [Flow(epoch + 1, 99, 99, 199), Flow(0, 9, 9, 9)], id="another life's flow"),
        pytest.param(lambda epoch: [Again(epoch, 2**62), Again(epoch, 0), Again(0, 1)], id="again what is not"),
        pytest.param(lambda _: [Bye(), Beat(2**62)], id="beats"),
        pytest.param(lambda _: [b""], id="an empty frame"),
    ],
)
async def test_what_is_out_of_place_but_harmless_changes_nothing_for_a_writer(
    arena: Arena, said: Callable[[int], list[bytes | Control]]
) -> None:
    async with arena.writer() as (end, attacker):
        assert await provoked(attacker, end.has_room, *said(attacker.epoch)) is None
        assert end.statistics().stable == 0
        assert end.statistics().taken == 0
        attacker.say(hello(writes=False, epoch=attacker.epoch, expects=4, taken=3, stable=2, granted=3 + WINDOW))
        with anyio.fail_after(PATIENCE_S):
            for number in range(4, 3 + WINDOW + 1):
                await end.send(number)
        with pytest.raises(WouldBlock):
            end.send_nowait(0)


async def test_a_reader_that_says_it_is_done_over_and_over_ends_the_channel_once(arena: Arena) -> None:
    async with arena.writer() as (end, attacker):
        attacker.say(*[Done()] * 100)
        await attacker.until_heard(Bye)
        with pytest.raises(GeartrainError, match=r"reader of channel 'numbers' at .* has closed"):
            await end.send(1)


def test_a_reader_that_asks_for_the_same_over_and_over_is_sent_it_once_until_the_next_beat() -> None:
    """It may not read what it asks for, and then we would hold any number of copies."""
    ear = Ear()
    wire = new_writer(ear)
    epoch = wire.session.me.epoch
    for _ in range(2):
        ear.heard.clear()
        for _ in range(1000):
            for expects in (1, 2, 3):
                wire.hear(PEER, frames.encode(Again(epoch, expects)))
        assert 0 < ear.count(Data) <= WINDOW
        wire.session.tick(time.monotonic_ns() + 20_000_000_000)


# -- anything at all --------------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def new_frame(order: random.Random, epoch: int) -> bytes:
    """A frame of a peer; its numbers are often just beside what they should be."""
    number = order.choice([0, 1, 2, 3, WINDOW, WINDOW + 1, 2**31, 2**62, 2**64 - 1])
    small = min(number, 2**61)
    items: list[Any] = [
        order.choice([0, 1, -1, 2**40, "word", None, [], {}]) for _ in range(order.choice([0, 1, 1, 2, 9]))
    ]
    flags = order.choice([0, 0, 0, LAST, SKIPPED, PAYLOAD, order.randrange(256)])
    said: list[bytes | Control] = [
        data(number, *items, flags=flags, epoch=epoch),
        data(order.randint(1, 9), 1, epoch=epoch),
        hello(writes=order.random() < 0.5, epoch=epoch, expects=small, stable=order.choice([0, small])),
        Flow(epoch, small, order.choice([0, small]), min(2**62, small + order.choice([0, WINDOW]))),
        Again(epoch, small),
        Beat(small),
    ]
    if order.random() < 0.2:
        said = [Done(), Bye(), WhoAreYou(), Refused("no", final=order.random() < 0.5)]
    chosen = order.choice(said)
    return chosen if isinstance(chosen, bytes) else frames.encode(chosen)


def gone_wrong(order: random.Random, frame: bytes) -> bytes:
    """Nothing, or something, has happened to it on its way."""
    changing = bytearray(frame)
    at = order.randrange(len(changing))
    match order.randrange(8):
        case 0:
            changing[at] ^= 1 << order.randrange(8)
        case 1:
            del changing[at:]
        case 2:
            changing[at:at] = order.randbytes(order.randint(1, 9))
        case 3:
            changing[at : at + 5] = order.choice(list(CLAIMS.values())) + b"\xff" * 4
        case 4:
            changing[:] = order.randbytes(order.choice([1, 10, 100]))
        case 5:
            changing *= 2
    return bytes(changing)


def feed_by_hand(new_wire: Callable[[Ear], Wire[int]], order: random.Random, total: int) -> int:
    """Let an end hear so many frames, and a fresh one whenever it has failed. How often that was."""
    ear = Ear()
    wire = new_wire(ear)
    failures = 0
    for _ in range(total):
        epoch = wire.session.me.epoch if isinstance(wire.session, Writer) else EPOCH
        wire.hear(order.choice([PEER, PEER, PEER, STRANGER]), gone_wrong(order, new_frame(order, epoch)))
        match wire.session:
            case Reader() as reader:
                assert len(reader.items) <= WINDOW
                assert reader.granted <= reader.taken + WINDOW
            case Writer() as writer:
                assert writer.stable <= writer.taken <= writer.accepted
                assert writer.granted <= writer.taken + WINDOW
        assert len(ear.heard) <= 2 * WINDOW
        ear.heard.clear()
        if wire.session.failure is not None or wire.session.bye_heard or wire.session.over:
            failures += wire.session.failure is not None
            wire = new_wire(ear)
            ear.heard.clear()
    return failures


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.soak)])
@pytest.mark.parametrize("new_wire", [new_reader, new_writer])
def test_no_peer_gets_an_end_to_fail_by_anything_but_an_error_of_ours(
    new_wire: Callable[[Ear], Wire[int]], seed: int
) -> None:
    total = 2000 if seed == 1 else 100_000
    feed_by_hand(new_wire, random.Random(0), 500)
    before = resident_bytes()
    assert feed_by_hand(new_wire, random.Random(seed), total) > total // 100
    assert resident_bytes() - before <= GROWTH_BYTES


async def flood(arena: Arena, total: int) -> int:
    """Pour frames onto a channel that has two live ends, by one that reads nothing. How much the process has grown."""
    address = arena.new_address()
    order = random.Random(total)
    async with open_pair(address, int, **AGREED) as channel:
        deaf = arena.attacker(address, deaf=True)
        await assert_moves(channel.send, channel.recv)
        before = resident_bytes()
        for _ in range(total // 1000):
            for _ in range(1000):
                await deaf.pour(gone_wrong(order, new_frame(order, EPOCH)), 1)
            await assert_moves(channel.send, channel.recv)
        await assert_heard(arena.attacker(address))
        return resident_bytes() - before


@pytest.mark.parametrize("total", [2000, pytest.param(100_000, marks=pytest.mark.soak)])
async def test_a_flood_of_anything_stops_no_channel_and_fills_no_memory(arena: Arena, total: int) -> None:
    assert await flood(arena, total) <= GROWTH_BYTES
