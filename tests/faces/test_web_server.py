"""Clients that are slow, gone, many, big or talk nonsense are each their own trouble: the others are answered."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from geartrain.faces.web_address import Bind, listening
from geartrain.faces.web_gateway import Gateway
from geartrain.faces.web_limits import Limits
from geartrain.faces.web_live import Logs
from geartrain.faces.web_server import Connection
from tests.faces.web_parts import FIRST_ID, VIEW, WELL, Line, PretendSource, Server, fault, ill, served

GET = b"GET /api/v1/apps HTTP/1.1\r\nhost: localhost\r\n\r\n"
LIVE = b"GET /api/v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
FAULTS = b"GET /api/v1/faults/stream HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def is_well(server: Server) -> bool:
    return (await server.ask("/api/v1/apps")).status == 200


async def said_to(server: Server, *pieces: bytes) -> bytes:
    """All that a client is answered that sends this, until it is let go."""
    answer = b""
    with anyio.fail_after(20):
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            try:
                for piece in pieces:
                    await stream.send(piece)
            except (anyio.BrokenResourceError, OSError):
                # It has been answered and let go before it had said everything.
                pass
            try:
                while True:
                    answer += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return answer


def taken(server: Server) -> Any:
    return lambda: server.gateway.routes.places.taken


# -- streams --------------------------------------------------------------------------------------------------------


async def test_a_fault_comes_to_everybody_who_listens() -> None:
    async with served() as server:
        async with server.stream("/api/v1/faults/stream") as one, server.stream("/api/v1/faults/stream") as other:
            await server.until(lambda: len(server.gateway.hub._clients), 2)
            server.show(ill(fault("camera")))
            for stream in (one, other):
                event = await stream.event()
                assert (event.id, event.event) == (FIRST_ID, "fault_raised")
                assert event.data["fault"]["fault_code"] == "APP_ERROR"
                assert event.data["x-medkit"] == {"entity_id": "camera", "entity_type": "app"}


async def test_who_connects_again_gets_what_it_missed_and_no_more() -> None:
    async with served() as server:
        for look in range(2, 12):
            server.show(ill(fault("camera", status="CONFIRMED" if look % 2 == 0 else "HEALED"), look=look))
        seen = {"last-event-id": str(FIRST_ID + 4)}
        async with server.stream("/api/v1/faults/stream", seen) as stream:
            got = [await stream.event() for _ in range(5)]
            assert [event.id for event in got] == [FIRST_ID + number for number in range(5, 10)]
            server.show(ill(fault("camera"), look=12))
            assert (await stream.event()).id == FIRST_ID + 10


async def test_who_knows_a_former_observer_is_told_to_look_anew_and_ids_have_grown() -> None:
    async with served(first_id=FIRST_ID) as server:
        server.show(ill(fault("camera")))
        async with server.stream("/api/v1/faults/stream?last_event_id=17") as stream:
            events = [await stream.event(), await stream.event()]
    assert [(event.id, event.event) for event in events] == [(None, "reset"), (FIRST_ID, "fault_raised")]


async def test_live_values_are_the_newest_at_each_beat() -> None:
    async with served() as server, server.stream("/api/v1/live?every=0.05") as stream:
        assert (await stream.event()).data["look"] == 1
        for look in range(2, 50):
            server.show(ill(look=look))
        # What was between was never queued.
        assert (await stream.until("live")).data["look"] == 49


async def test_a_look_of_a_former_observer_is_a_reset() -> None:
    async with served() as server, server.stream("/api/v1/live", {"last-event-id": "900"}) as stream:
        assert [(await stream.event()).event, (await stream.event()).event] == ["reset", "live"]


async def test_a_quiet_stream_says_that_it_is_there() -> None:
    async with served(limits=Limits(look_s=0.01, keep_alive_s=0.01)) as server, server.line() as line:
        await line.stream.send(FAULTS)
        heard = b""
        while heard.count(b": still here") < 3:
            heard += await line.stream.receive()


@pytest.mark.parametrize("request_", [LIVE, FAULTS])
async def test_a_client_that_closes_gives_its_place_back(request_: bytes) -> None:
    async with served(limits=Limits(idle_s=3600)) as server:
        async with server.line() as line:
            await line.stream.send(request_)
            await server.until(taken(server), 1)
        await server.until(taken(server), 0)
        await server.until(lambda: server.gateway.tally.connections, 0)


@pytest.mark.parametrize("stray", [b"x", GET, b"\0" * 100, LIVE * 3])
async def test_a_client_that_sends_too_much_and_closes_gives_its_place_back_too(stray: bytes) -> None:
    """Behind such bytes nobody reads, so its end is not heard of that way."""
    async with served(limits=Limits(idle_s=3600, keep_alive_s=3600)) as server:
        async with server.line() as line:
            await line.stream.send(FAULTS + stray)
            await server.until(taken(server), 1)
            await line.stream.send(stray)
        await server.until(taken(server), 0)


async def test_a_client_that_does_not_read_is_let_go_and_the_others_are_served() -> None:
    much = ill(warnings=("x" * 1_000_000,) * 8)
    async with served(much, limits=Limits(write_s=0.1, look_s=0.05)) as server:
        async with server.line() as deaf, server.stream("/api/v1/faults/stream") as quick:
            await deaf.stream.send(LIVE)
            await server.until(lambda: server.gateway.tally.slow, 1)
            await server.until(taken(server), 1)
            server.show(ill(fault("camera"), look=3))
            assert (await quick.event()).event == "fault_raised"


async def test_one_stream_too_many_is_told_to_come_again_and_may() -> None:
    async with served(limits=Limits(streams=2)) as server:
        async with server.stream("/api/v1/live"):
            async with server.stream("/api/v1/faults/stream"):
                answer = await server.ask("/api/v1/live")
                assert (answer.status, answer.json()["error_code"]) == (503, "too-many-streams")
                assert answer.headers["retry-after"] == "1"
                assert server.gateway.tally.refused == 1
                assert await is_well(server)
            await server.until(taken(server), 1)
            async with server.stream("/api/v1/live") as stream:
                assert (await stream.event()).event == "live"


async def test_the_end_of_the_gateway_ends_its_streams() -> None:
    async with anyio.create_task_group() as tasks:

        async def listen(server: Server, *, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with server.stream("/api/v1/live?every=0.05") as stream:
                await stream.event()
                task_status.started()
                with pytest.raises(AssertionError, match="the stream is over"):
                    while True:
                        await stream.event()

        async with served() as server:
            await tasks.start(listen, server)


# -- crowds ---------------------------------------------------------------------------------------------------------


async def test_300_clients_at_once_are_all_answered() -> None:
    statuses: list[int] = []
    async with served() as server, anyio.create_task_group() as tasks:

        async def ask() -> None:
            statuses.append((await server.ask("/api/v1/apps")).status)

        for _ in range(300):
            tasks.start_soon(ask)
    assert statuses == [200] * 300


async def test_300_clients_that_want_a_stream_get_64_of_them_and_236_refusals() -> None:
    statuses: list[int] = []
    async with served() as server, anyio.create_task_group() as tasks:

        async def listen() -> None:
            async with server.line() as line:
                await line.begin("/api/v1/live")
                statuses.append((await line.head()).status)
                await anyio.sleep_forever()

        for _ in range(300):
            tasks.start_soon(listen)
        await server.until(lambda: len(statuses), 300)
        assert (statuses.count(200), statuses.count(503)) == (64, 236)
        assert await is_well(server)
        tasks.cancel_scope.cancel()


async def test_one_connection_too_many_is_answered_and_counted() -> None:
    async with served(limits=Limits(connections=1)) as server:
        async with server.line() as line:
            assert (await line.ask("/api/v1/apps")).status == 200
            assert (await said_to(server)).startswith(b"HTTP/1.1 503")
            assert server.gateway.tally.refused == 1
        await server.until(lambda: server.gateway.tally.connections, 0)
        assert await is_well(server)


# -- nonsense -------------------------------------------------------------------------------------------------------


async def test_a_request_of_a_megabyte_is_refused_unread() -> None:
    big = b"x" * 1_000_000
    head = b"POST /api/v1/faults HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n"
    async with served() as server:
        assert (await said_to(server, head, big)).startswith(b"HTTP/1.1 413")
        assert await is_well(server)


async def test_a_megabyte_in_pieces_of_unknown_number_is_not_kept() -> None:
    head = b"POST /api/v1/faults HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    async with served() as server:
        assert (await said_to(server, head, *[chunk] * 64)).startswith(b"HTTP/1.1 411")
        assert await is_well(server)


async def test_a_body_that_is_not_too_big_but_of_no_use_holds_nobody_up() -> None:
    head = b"GET /api/v1/apps HTTP/1.1\r\nhost: localhost\r\ncontent-length: 16000\r\n\r\n"
    async with served(limits=Limits(idle_s=0.1)) as server:
        assert (await said_to(server, head, *[b"x" * 100] * 160)).startswith(b"HTTP/1.1 200")
        await server.until(lambda: server.gateway.tally.connections, 0)


async def test_headers_of_a_megabyte_are_refused() -> None:
    async with served() as server:
        head = b"GET /api/v1/apps HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n"
        assert (await said_to(server, head)).startswith(b"HTTP/1.1 431")
        assert await is_well(server)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\0\1\2\3\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"GET /api/v1/apps HTTP/1.1\r\n\r\n",
        b"GET /api/v1/apps HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_nonsense_is_refused_and_the_next_client_is_answered(nonsense: bytes) -> None:
    async with served(limits=Limits(idle_s=0.2)) as server:
        assert (await said_to(server, nonsense))[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 404", b"HTTP/1.1 403")
        assert await is_well(server)
        assert server.gateway.tally.broken == 0


@pytest.mark.parametrize("upgrade", [b"websocket", b"h2c"])
async def test_an_upgrade_with_stray_bytes_behind_it_ends_that_connection_alone(upgrade: bytes) -> None:
    head = (
        b"GET /api/v1/live HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: " + upgrade
        + b"\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\nhttp2-settings: \r\n\r\n"
    )  # fmt: skip
    async with served(limits=Limits(idle_s=0.2)) as server:
        answer = await said_to(server, head, b"\xff")
        assert answer[:12] in (b"HTTP/1.1 403", b"HTTP/1.1 101", b"HTTP/1.1 400")
        assert await is_well(server)
        await server.until(lambda: server.gateway.tally.connections, 0)


@pytest.mark.parametrize("begun", [b"", b"GET /api", GET[:-2]])
async def test_a_client_that_never_finishes_asking_is_let_go(begun: bytes) -> None:
    async with served(limits=Limits(idle_s=0.1)) as server:
        assert await said_to(server, begun) == b""


async def test_a_fault_of_ours_is_told_counted_and_ends_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: PretendSource, process: str, tail: int) -> Logs:
        raise LookupError("a secret")

    monkeypatch.setattr(PretendSource, "logs", fails)
    async with served() as server:
        answer = await server.ask("/api/v1/logs?process=eyes")
        assert (answer.status, answer.json()["error_code"]) == (500, "internal-error")
        assert b"secret" not in answer.body
        assert server.gateway.tally.broken == 1
        assert await is_well(server)


async def test_a_connection_that_breaks_the_server_is_counted_and_ends_nobody_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receive = Connection.receive

    async def fails(self: Connection, max_bytes: int = 65536) -> bytes:
        monkeypatch.setattr(Connection, "receive", receive)
        raise LookupError("a fault of the server")

    async with served() as server:
        monkeypatch.setattr(Connection, "receive", fails)
        assert await said_to(server, GET) == b""
        assert server.gateway.tally.broken == 1
        assert await is_well(server)
    assert "a connection was given up" in caplog.text


async def test_it_is_served_at_a_socket_in_a_folder_too(tmp_path: Path) -> None:
    gateway, stop = Gateway(PretendSource(), first_id=1), anyio.Event()
    gateway.show(WELL, VIEW)
    with listening(Bind(path=str(tmp_path / "vision"))) as opened:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.serve, opened, stop.wait)
            async with await anyio.connect_unix(tmp_path / "vision") as stream:
                assert (await Line(stream).ask("/api/v1/apps")).status == 200
            stop.set()
