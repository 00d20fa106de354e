"""Only who may come in comes in: by host, by origin, by token, and by size."""

import pytest

from geartrain.faces.web_limits import Limits
from tests.faces.web_parts import served

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:80", "10.1.2.3", "Robot.Local:80"]
)
async def test_a_number_localhost_and_a_name_that_was_allowed_are_ours(host: str) -> None:
    async with served(hosts=("robot.local",)) as server:
        assert (await server.ask("/api/v1/apps", headers={"host": host})).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", "", "a b"]
)
@pytest.mark.parametrize("path", ["/api/v1/apps", "/", "/metrics"])
async def test_any_other_name_is_refused_also_for_the_page(host: str, path: str) -> None:
    async with served() as server:
        answer = await server.ask(path, headers={"host": host})
    assert (answer.status, answer.json()["error_code"]) == (403, "host-not-allowed")


async def test_a_page_of_somebody_else_may_not_read_and_our_own_may() -> None:
    async with served() as server:
        for origin in ("https://evil.example", "null", "http://localhost:1"):
            answer = await server.ask("/api/v1/live", headers={"host": "localhost:8080", "origin": origin})
            assert (answer.status, answer.json()["error_code"]) == (403, "origin-not-allowed")
            assert "access-control-allow-origin" not in answer.headers
        ours = {"host": "localhost:8080", "origin": "http://localhost:8080"}
        assert (await server.ask("/api/v1/apps", headers=ours)).status == 200


async def test_with_a_token_nothing_of_the_run_is_told_without_it() -> None:
    async with served(token=TOKEN) as server:
        for path in ("/api/v1", "/api/v1/apps", "/api/v1/faults/stream", "/metrics", "/api/v1/openapi.json"):
            for headers in (
                {},
                {"authorization": "Bearer wrong"},
                {"authorization": TOKEN},
                {"authorization": "Bearer"},
            ):
                answer = await server.ask(path, headers=headers)
                assert (answer.status, answer.json()["error_code"]) == (401, "token-required"), (path, headers)
                assert answer.headers["www-authenticate"] == "Bearer"
            assert (await server.ask(f"{path}?token=")).status == 401


async def test_the_token_is_taken_from_the_header_and_for_streams_from_the_address() -> None:
    async with served(token=TOKEN) as server:
        assert (await server.ask("/api/v1/apps", headers={"authorization": f"Bearer {TOKEN}"})).status == 200
        assert (await server.ask(f"/api/v1/apps?token={TOKEN}")).status == 200
        async with server.stream(f"/api/v1/live?token={TOKEN}") as stream:
            assert (await stream.event()).event == "live"


async def test_the_page_itself_is_no_secret() -> None:
    async with served(token=TOKEN) as server:
        assert (await server.ask("/")).status in (200, 404)


@pytest.mark.parametrize("length", ["16385", "1000000", "-1", "x"])
async def test_a_request_that_says_it_is_too_big_is_refused_before_it_is_read(length: str) -> None:
    async with served(limits=Limits(request_bytes=16384)) as server, server.line() as line:
        head = f"POST /api/v1/faults HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
        await line.stream.send(head.encode())
        answer = await line.stream.receive()
    assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
