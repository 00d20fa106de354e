"""Keys: who gets in, who does not and is told so, and who does no harm meanwhile. Real sockets, real handshakes."""

import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import msgspec
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq import Event

from geartrain import Channel, PeerRefused, ReceiveStream, SendStream, WireError, open_receive, open_send
from geartrain.errors import BadValue
from geartrain.ports.transport import Link, LinkSettings
from geartrain_zmq import Curve, Keys, generate_keys, sockets, zap
from geartrain_zmq.handshakes import HANG_UPS_MOST, HANG_UPS_S, Attempts, Visitors
from geartrain_zmq.sockets import new_socket
from geartrain_zmq.transport import transport
from geartrain_zmq.zap import MALFORMED, NO_KEY, NO_SUCH_DOOR, WELCOME, WRONG_KEY, Complaints, Door, doorkeeper, judge

WRITER, READER, STRANGER = generate_keys(), generate_keys(), generate_keys()

WRITING = Curve(WRITER, READER.public)
READING = Curve(READER, WRITER.public)

_numbers = itertools.count()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture(params=["ipc", "tcp"])
def address(request: pytest.FixtureRequest, folder: Path) -> str:
    return f"ipc://{folder}/{next(_numbers)}" if request.param == "ipc" else free_tcp()


def free_tcp() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def place(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, int(port)


@asynccontextmanager
async def keyed_pair(address: str, *, reader_binds: bool = True, **said: Any) -> AsyncIterator[Channel[int]]:
    """Two ends that know each other's keys, and have met."""
    async with (
        open_receive(address, int, bind=reader_binds, curve=READING, **said) as recv,
        open_send(address, int, bind=not reader_binds, curve=WRITING, **said) as send,
    ):
        await send.wait_connected()
        await recv.wait_connected()
        yield Channel(send, recv)
        await recv.aclose()


async def exchange(send: SendStream[Any], recv: ReceiveStream[Any], item: object = 1) -> None:
    """One item goes over, and then both ends close."""
    await send.send(item)
    await send.aclose()
    assert [got async for got in recv] == [item]
    await recv.aclose()


@pytest.fixture(autouse=True)
def _told(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever level a page of the manual has set for its own sake."""
    caplog.set_level(logging.WARNING, "geartrain")


@pytest.fixture
def short_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gets no answer in the handshake does not wait for two seconds."""
    monkeypatch.setitem(sockets.COMMON, zmq.HANDSHAKE_IVL, 100)


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that nobody announces. The loop goes on meanwhile."""
    with anyio.fail_after(20):
        while not true():
            await anyio.to_thread.run_sync(os.sched_yield)


# -- who fits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader_binds", [True, False])
async def test_two_ends_that_know_each_others_keys_exchange_items(address: str, reader_binds: bool) -> None:
    async with keyed_pair(address, reader_binds=reader_binds) as channel:

        async def write() -> None:
            for number in range(1000):
                await channel.send.send(number)
            await channel.send.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            assert [number async for number in channel.recv] == list(range(1000))


@pytest.mark.parametrize("reading", ["asyncio", "trio"])
async def test_two_processes_that_know_each_others_keys_exchange_items(reading: str) -> None:
    address = free_tcp()
    command = [sys.executable, str(Path(__file__).with_name("keyed_reader.py")), reading, address]
    keys = msgspec.json.encode(READING) + b"\n"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write_thousand, address)
        with anyio.fail_after(60):
            answer = await anyio.run_process(command, input=keys, stderr=None)
    assert int(answer.stdout) == 500_500


async def write_thousand(address: str) -> None:
    async with open_send(address, int, curve=WRITING, close_within=30) as numbers:
        for number in range(1, 1001):
            await numbers.send(number)


async def test_what_travels_cannot_be_read_on_the_way() -> None:
    """And could be read without keys, or this test would prove nothing."""
    secret = b"the secret of a long and easily found text"
    for curves, found in (((READING, WRITING), False), ((None, None), True)):
        behind = free_tcp()
        async with relay(behind) as (before, seen):
            said: Any = {"insecure": found}
            async with (
                open_receive(behind, bytes, curve=curves[0], **said) as recv,
                open_send(before, bytes, curve=curves[1], **said) as send,
            ):
                await exchange(send, recv, secret)
        assert (secret in seen) == found
        assert len(seen) > len(secret)


@asynccontextmanager
async def relay(behind: str) -> AsyncIterator[tuple[str, bytearray]]:
    """Somebody in the middle who writes down all that passes."""
    seen = bytearray()

    async def pass_on(here: anyio.abc.ByteStream, there: anyio.abc.ByteStream) -> None:
        async for chunk in here:
            seen.extend(chunk)
            await there.send(chunk)

    async def serve(client: anyio.abc.ByteStream) -> None:
        try:
            async with client, await anyio.connect_tcp(*place(behind)) as server, anyio.create_task_group() as both:
                both.start_soon(pass_on, client, server)
                both.start_soon(pass_on, server, client)
        except* (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # one of them has gone

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        yield f"tcp://127.0.0.1:{port}", seen
        tasks.cancel_scope.cancel()


# -- who does not fit, and is told ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "connecting", "said"),
    [
        (READING, Curve(STRANGER, READER.public), f"does not let in the key {STRANGER.public}"),
        (READING, None, "it has keys, and this end has none"),
        (None, WRITING, "it has no keys"),
        (READING, Curve(WRITER, STRANGER.public), f"its public key is not {STRANGER.public}"),
    ],
    ids=["another key", "no keys", "keys towards none", "it takes it for another"],
)
@pytest.mark.parametrize("reader_binds", [True, False])
async def test_whoever_does_not_fit_is_told_by_the_next_call_with_the_address_and_the_reason(
    address: str, bound: Curve | None, connecting: Curve | None, said: str, reader_binds: bool
) -> None:
    open_bound: Any = open_receive if reader_binds else open_send
    open_other: Any = open_send if reader_binds else open_receive
    async with open_bound(address, int, bind=True, curve=bound, insecure=bound is None, close_within=0):
        end: AbstractAsyncContextManager[Any] = open_other(
            address, int, bind=False, curve=connecting, insecure=connecting is None, close_within=0
        )
        async with end as refused:
            with anyio.fail_after(20):
                for call in (refused.wait_connected, refused.send if reader_binds else refused.receive):
                    with pytest.raises(PeerRefused) as caught:
                        await (call(1) if call == getattr(refused, "send", None) else call())
                    # Two that notice at once that only one of them has keys may both hang up.
                    assert address in str(caught.value)
                    assert said in str(caught.value) or "perhaps it has keys" in str(caught.value)
                    assert STRANGER.secret not in str(caught.value) + repr(caught.value)


async def test_strangers_do_not_disturb_the_live_channel_beside_them(address: str) -> None:
    wrong = [None, Curve(STRANGER, READER.public), Curve(WRITER, STRANGER.public)]
    async with keyed_pair(address, heartbeat_s=0.05) as channel:
        for curve in wrong * 3:
            stranger = transport.open(address, bind=False, settings=LinkSettings(1000, curve is None, curve))
            stranger.send(b"", b"hello")
            for number in range(200):
                await channel.send.send(number)
                assert await channel.recv.receive() == number
            await stranger.aclose()


async def test_a_wrong_key_is_logged_once_for_each_place_until_somebody_comes_in(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> int:
        return sum("is not the one that is let in here" in record.getMessage() for record in caplog.records)

    async def knock() -> None:
        async with open_send(address, int, curve=Curve(STRANGER, READER.public), close_within=0) as knocking:
            with pytest.raises(PeerRefused):
                await knocking.wait_connected()

    async with open_receive(address, int, curve=READING) as recv:
        await knock()
        await knock()
        await until(lambda: told() == 1)
        async with open_send(address, int, curve=WRITING) as known:
            await known.wait_connected()
            await knock()
            await until(lambda: told() == 2)
            await recv.aclose()
    (record, _) = (record for record in caplog.records if "let in here" in record.getMessage())
    assert record.levelno == logging.WARNING
    assert record.name == "geartrain.zmq"
    assert address in record.getMessage()
    assert STRANGER.secret not in caplog.text


@pytest.mark.parametrize(
    ("curve", "said"),
    [(None, "has no keys"), (Curve(WRITER, STRANGER.public), "expected another public key")],
    ids=["no keys", "it takes it for another"],
)
async def test_a_visitor_that_is_no_matter_for_the_doorkeeper_is_logged_too(
    address: str, caplog: pytest.LogCaptureFixture, curve: Curve | None, said: str
) -> None:
    async with open_receive(address, int, curve=READING, heartbeat_s=0.02):
        async with open_send(address, int, curve=curve, insecure=curve is None, close_within=0) as knocking:
            with pytest.raises(PeerRefused):
                await knocking.wait_connected()
            await until(lambda: said in caplog.text)
    assert address in caplog.text


async def test_open_ends_beside_locked_doors_stay_open(folder: Path) -> None:
    async with keyed_pair(free_tcp()):
        async with open_receive(free := free_tcp(), int, insecure=True) as recv:
            async with open_send(free, int, insecure=True) as send:
                await exchange(send, recv)


# -- what is refused before anything is opened ------------------------------------------------------------------------


async def test_tcp_without_keys_is_refused_with_what_to_do() -> None:
    with pytest.raises(BadValue, match=r"generate_keys\(\).*curve=Curve\(.*use an ipc address, or say insecure=True"):
        async with open_receive("tcp://127.0.0.1:1", int):
            pytest.fail("it was opened")


async def test_keys_in_the_wrong_order_are_refused_before_the_secret_one_is_shown_to_a_peer(address: str) -> None:
    interchanged = Curve(Keys(WRITER.secret, WRITER.public), READER.public)
    with pytest.raises(BadValue, match="does not belong to the public key, or the two were interchanged") as caught:
        async with open_send(address, int, curve=interchanged):
            pytest.fail("it was opened")
    assert WRITER.secret not in str(caught.value)


def test_each_pair_of_keys_is_new() -> None:
    assert generate_keys() != generate_keys()


def test_the_front_door_of_the_transport_loads_no_zeromq_until_it_is_asked_for_keys() -> None:
    script = "import sys, geartrain_zmq\nassert 'zmq' not in sys.modules\ngeartrain_zmq.generate_keys()"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_socket_with_keys_has_the_options_that_make_it_safe() -> None:
    guard = new_socket("tcp", bind=True, settings=LinkSettings(1, curve=READING), domain=b"door")
    assert guard.get(zmq.CURVE_SERVER) == 1
    assert guard.get(zmq.ZAP_DOMAIN) == b"door"
    assert guard.get(zmq.ZAP_ENFORCE_DOMAIN) == 1
    guest = new_socket("tcp", bind=False, settings=LinkSettings(1, curve=WRITING))
    assert (guest.get(zmq.CURVE_SERVER), guest.get(zmq.MECHANISM)) == (0, zmq.CURVE)
    for opened in (guard, guest):
        opened.close(0)


# -- the doorkeeper ---------------------------------------------------------------------------------------------------

DOORS = {b"door-1": Door("tcp://here:1", b"k" * 32, Complaints())}


def request(domain: bytes = b"door-1", mechanism: bytes = b"CURVE", *credentials: bytes) -> list[bytes]:
    return [b"1.0", b"7", domain, b"10.0.0.1", b"", mechanism, *(credentials or (b"k" * 32,))]


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        (request(), WELCOME),
        (request(b"door-1", b"CURVE", b"x" * 32), WRONG_KEY),
        (request(b"door-1", b"CURVE", b""), WRONG_KEY),
        (request(b"door-2"), NO_SUCH_DOOR),
        (request(b""), NO_SUCH_DOOR),
        (request(b"door-1", b"NULL"), NO_KEY),
        (request(b"door-1", b"NULL")[:-1], NO_KEY),
        (request(b"door-1", b"PLAIN", b"user", b"password"), NO_KEY),
        (request(b"door-1", b"CURVE", b"k" * 32, b"more"), MALFORMED),
        (request()[:-1], MALFORMED),
        (request()[:5], MALFORMED),
        ([b"2.0", *request()[1:]], MALFORMED),
        ([], MALFORMED),
        ([b""], MALFORMED),
    ],
)
def test_one_key_opens_one_door(asked: list[bytes], verdict: zap.Verdict) -> None:
    assert judge(DOORS, asked) is verdict


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(request())), max_size=10))
def test_whatever_is_asked_is_answered_and_only_the_right_key_is_let_in(asked: list[bytes]) -> None:
    verdict = judge(DOORS, asked)
    version, number, status, *rest = zap.answer(asked, verdict)
    assert (version, number, len(rest)) == (b"1.0", asked[1] if len(asked) > 1 else b"", 3)
    assert (status == b"200") == ([*asked[:1], *asked[2:3], *asked[5:]] == [b"1.0", b"door-1", b"CURVE", b"k" * 32])


@pytest.mark.usefixtures("short_handshakes")
async def test_while_the_doorkeeper_is_dead_nobody_gets_in_and_the_next_door_brings_a_new_one(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(doors: object, request: object) -> zap.Verdict:
        raise zmq.ContextTerminated  # which is no failure, but the end of its thread

    async with open_receive(address, int, curve=READING) as recv:
        (keeper,) = keepers()
        with monkeypatch.context() as dying:
            dying.setattr(zap, "judge", die)
            async with open_send(address, int, curve=WRITING, close_within=0) as refused:
                await until(lambda: not keeper.is_alive())
                with pytest.raises(PeerRefused, match="hung up in the handshake"):
                    await refused.wait_connected()
        async with keyed_pair(free_tcp()):
            async with open_send(address, int, curve=WRITING) as send:
                await exchange(send, recv)


def get_in(address: str) -> None:
    """What a client of somebody else's making can do, with the right keys."""
    client = new_socket(address.partition("://")[0], bind=False, settings=LinkSettings(1, curve=WRITING))
    try:
        client.set(zmq.SNDTIMEO, 300)
        client.connect(address)
        client.send(b"let me in")
    finally:
        client.close(0)


async def test_where_nobody_ever_answers_a_door_stays_shut(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with zmq.Context() as deserted:
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(sockets, "context", lambda: deserted)
            settings = LinkSettings(1, curve=READING)
            door = new_socket(address.partition("://")[0], bind=True, settings=settings, domain=b"door")
        door.bind(address)
        with pytest.raises(zmq.Again):
            await anyio.to_thread.run_sync(get_in, address)
        door.close(0)
    async with keyed_pair(other := free_tcp()):
        await anyio.to_thread.run_sync(get_in, other)


def keepers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "geartrain-zmq-doorkeeper"]


@pytest.mark.usefixtures("short_handshakes")
async def test_a_doorkeeper_that_fails_is_logged_and_counted_and_lets_in_afterwards(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [ZeroDivisionError("a mishap"), ZeroDivisionError("another")]

    def fail_at_first(doors: Any, request: list[bytes]) -> zap.Verdict:
        if failures:
            raise failures.pop()
        return judge(doors, request)

    before = doorkeeper().failures
    monkeypatch.setattr(zap, "judge", fail_at_first)
    async with keyed_pair(address) as channel:
        await channel.send.send(1)
        assert await channel.recv.receive() == 1
    assert doorkeeper().failures == before + 2
    assert "the doorkeeper failed and begins anew" in caplog.text
    assert len(keepers()) == 1


@pytest.mark.usefixtures("short_handshakes")
async def test_who_knocks_while_a_door_is_being_closed_may_try_again(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing = [NO_SUCH_DOOR, NO_SUCH_DOOR]
    monkeypatch.setattr(zap, "judge", lambda doors, request: closing.pop() if closing else judge(doors, request))
    async with keyed_pair(address):
        assert not closing


async def test_a_closed_link_leaves_no_door_behind(address: str) -> None:
    before = dict(doorkeeper()._doors)
    async with keyed_pair(address):
        assert len(doorkeeper()._doors) == len(before) + 1
    assert doorkeeper()._doors == before


async def test_a_door_that_cannot_be_bound_leaves_nothing_behind() -> None:
    address = free_tcp()
    before = dict(doorkeeper()._doors)
    with socket.socket() as taken:
        taken.bind(place(address))
        taken.listen()
        with pytest.raises(WireError, match="is in use by another process"):
            transport.open(address, bind=True, settings=LinkSettings(1, curve=READING))
    assert doorkeeper()._doors == before


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_fork_has_a_doorkeeper_of_its_own(folder: Path, backend: str) -> None:
    subprocess.run([sys.executable, str(Path(__file__).with_name("forked.py")), backend, str(folder)], check=True)


def test_a_complaint_is_new_once_until_it_is_forgotten_and_a_flood_is_not_remembered() -> None:
    complaints = Complaints()
    assert [complaints.is_new(cause) for cause in "aab"] == [True, False, True]
    complaints.forget()
    assert sum(complaints.is_new(str(number)) for number in range(5000)) == 1000


# -- what is final, and what is not -----------------------------------------------------------------------------------


def hung_up(attempts: Attempts, times: int, *, over_s: float) -> list[PeerRefused | None]:
    step_s = over_s / (times - 1)
    return [attempts.hear(Event.HANDSHAKE_FAILED_NO_DETAIL, 32, 100 + step_s * number) for number in range(times)]


def test_a_hang_up_is_final_only_after_several_in_a_row_and_some_time() -> None:
    assert not any(hung_up(Attempts("x", WRITING), 100, over_s=HANG_UPS_S * 0.9))
    assert not any(hung_up(Attempts("x", WRITING), HANG_UPS_MOST - 1, over_s=HANG_UPS_S * 100))
    *before, last = hung_up(Attempts("x", WRITING), HANG_UPS_MOST, over_s=HANG_UPS_S)
    assert not any(before)
    assert isinstance(last, PeerRefused)


def test_an_end_that_has_met_its_peer_is_never_refused_for_hang_ups() -> None:
    attempts = Attempts("x", WRITING)
    hung_up(attempts, 4, over_s=1)
    attempts.hear(Event.HANDSHAKE_SUCCEEDED, 0, 100)
    assert not any(hung_up(attempts, 1000, over_s=1000))
    assert attempts.hear(Event.HANDSHAKE_FAILED_AUTH, 400, 1100) is not None


def test_a_connection_that_is_lost_after_the_handshake_is_no_refusal() -> None:
    attempts = Attempts("x", None)
    life = [Event.CONNECTED, Event.HANDSHAKE_SUCCEEDED, Event.DISCONNECTED]
    failed = [Event.CONNECTED, Event.HANDSHAKE_FAILED_NO_DETAIL, Event.DISCONNECTED]
    assert not any(attempts.hear(event, 0, 0) for event in life + failed + life)


@pytest.mark.parametrize("what", ["resets", "hangs up"])
async def test_a_server_that_dies_in_the_middle_of_the_handshake_is_found_when_it_is_back(what: str) -> None:
    address = free_tcp()
    with socket.create_server(place(address)) as dying:
        async with open_send(address, int, curve=WRITING) as send:
            for _ in range(HANG_UPS_MOST - 1):
                client, _ = await anyio.to_thread.run_sync(dying.accept)
                with client:
                    if what == "hangs up":
                        client.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15) + b"\x01" + bytes(31))
                        await anyio.to_thread.run_sync(client.recv, 1000)
            dying.close()
            async with open_receive(address, int, curve=READING) as recv:
                await exchange(send, recv)


@pytest.mark.parametrize("curve", [None, WRITING])
async def test_what_does_not_speak_zeromq_is_no_peer(curve: Curve | None) -> None:
    async def answer(client: anyio.abc.ByteStream) -> None:
        async with client:
            await client.receive()
            await client.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + b" " * 100)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        address = f"tcp://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        async with open_send(address, int, curve=curve, insecure=curve is None, close_within=0) as send:
            with anyio.fail_after(20), pytest.raises(PeerRefused, match=address):
                await send.wait_connected()
        tasks.cancel_scope.cancel()


async def test_a_server_that_comes_back_with_the_same_keys_is_found_again(address: str) -> None:
    connecting = transport.open(address, bind=False, settings=LinkSettings(1000, curve=WRITING))
    for _ in range(3):
        bound = await bound_link(address)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connecting.run, lambda peer, frame: None)  # would raise what it knows
            await bound.run(lambda peer, frame: tasks.cancel_scope.cancel())
        await bound.aclose()
    await connecting.aclose()


async def bound_link(address: str) -> Link:
    """Sockets are closed behind our back, so the address may still be taken for a moment."""
    with anyio.fail_after(20):
        while True:
            try:
                return transport.open(address, bind=True, settings=LinkSettings(1000, curve=READING))
            except WireError:
                await anyio.lowlevel.checkpoint()


async def test_an_end_that_was_refused_knocks_no_more(folder: Path) -> None:
    """ZeroMQ would knock again within milliseconds, for as long as the end is open."""
    path = str(folder / "door")

    def turn_away() -> None:
        with suppress(TimeoutError):
            for _ in range(20_000):
                server.accept()[0].close()
            pytest.fail("it knocks for ever")

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        server.settimeout(0.5)
        async with open_send(f"ipc://{path}", int, curve=WRITING, close_within=0) as refused:
            with anyio.fail_after(20):
                await anyio.to_thread.run_sync(turn_away)
            with pytest.raises(PeerRefused, match="hung up"):
                await refused.wait_connected()


def test_visitors_are_told_apart_by_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    visitors = Visitors("tcp://here:1", Complaints())
    for event, value in (
        (Event.HANDSHAKE_FAILED_PROTOCOL, Event.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC),
        (Event.HANDSHAKE_FAILED_PROTOCOL, Event.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH),
        (Event.HANDSHAKE_FAILED_PROTOCOL, 0x10000015),
        (Event.HANDSHAKE_FAILED_NO_DETAIL, 32),
        (Event.HANDSHAKE_FAILED_AUTH, 400),
    ):
        for _ in range(3):
            visitors.hear(event, value, 0.0)
    said = [record.getMessage().partition("did not get in: ")[2] for record in caplog.records]
    assert len(said) == len(set(said)) == 4
    visitors.hear(Event.HANDSHAKE_SUCCEEDED, 0, 0.0)
    visitors.hear(Event.HANDSHAKE_FAILED_NO_DETAIL, 32, 0.0)
    assert len(caplog.records) == 5


# -- what a stranger can make us hold ---------------------------------------------------------------------------------


async def test_a_stranger_cannot_make_us_hold_more_than_a_message_before_it_is_known() -> None:
    """It says that 200 MB will follow, and is hung up on long before."""
    address = free_tcp()
    async with keyed_pair(address, max_bytes=1000) as channel:
        swallowed = await anyio.to_thread.run_sync(feed, place(address), 200_000_000)
        assert swallowed < 20_000_000
        await channel.send.send(1)
        assert await channel.recv.receive() == 1


def feed(place: tuple[str, int], size: int) -> int:
    """A greeting that is in order, then a command of this size. How much of it was taken."""
    swallowed = 0
    with socket.create_connection(place) as stranger:
        stranger.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15) + b"\x00" + bytes(31))
        stranger.sendall(b"\x06" + size.to_bytes(8, "big"))
        try:
            while swallowed < size:
                swallowed += stranger.send(bytes(1 << 16))
        except OSError:
            pass  # hung up on
    return swallowed


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_two_hundred_links_leave_no_file_open(address: str) -> None:
    async def come_and_go() -> None:
        bound = await bound_link(address)
        connecting = transport.open(address, bind=False, settings=LinkSettings(1000, curve=WRITING))
        await connecting.aclose()
        await bound.aclose()

    await come_and_go()  # and what is opened once stays
    await anyio.to_thread.run_sync(os.sched_yield)
    before = open_files()
    for _ in range(100):
        await come_and_go()
    await until(lambda: open_files() <= before)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_nothing_that_travels_is_unpickled(folder: Path, backend: str) -> None:
    script = str(Path(__file__).with_name("no_pickle.py"))
    subprocess.run([sys.executable, script, backend, str(folder)], check=True)
