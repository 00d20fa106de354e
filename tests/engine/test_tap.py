"""Whoever looks into a channel sees some of it, is told of the rest, and changes nothing; on both loops."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from geartrain import open_pair
from geartrain.engine.remote import RemoteSend
from geartrain.engine.tap import Tap
from geartrain.ports.places import private_dir
from geartrain.rules.shown import Shown

MANY = 5000


@asynccontextmanager
async def pair(item_type: Any, **more: Any) -> AsyncIterator[tuple[RemoteSend[Any], Any]]:
    folder = private_dir("tap")
    async with open_pair(f"ipc://{folder}/tapped", item_type, **more) as channel:
        assert isinstance(channel.send, RemoteSend)
        yield channel.send, channel.recv


async def pass_through(send: Any, recv: Any, items: list[Any]) -> list[Any]:
    """Send these, and answer with what has come."""
    come = []

    async def write() -> None:
        for item in items:
            await send.send(item)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            for _ in items:
                come.append(await recv.receive())
    return come


def values(shown: tuple[Shown, ...]) -> list[Any]:
    return [msgspec.json.decode(one.item) for one in shown]


async def test_items_are_shown_as_they_pass() -> None:
    async with pair(int) as (send, recv):
        tap = send.tap()
        assert await pass_through(send, recv, [7, 8, 9]) == [7, 8, 9]
        shown = tap.take()
        assert values(shown) == [7, 8, 9]
        assert [(one.number, one.redelivered, one.missed) for one in shown] == [
            (1, False, 0),
            (2, False, 0),
            (3, False, 0),
        ]
        assert tap.take() == ()


async def test_where_nobody_looks_in_time_all_pass_and_what_was_not_shown_is_counted() -> None:
    async with pair(int) as (send, recv):
        tap = send.tap()
        assert await pass_through(send, recv, list(range(MANY))) == list(range(MANY))
        first = tap.take()
        assert values(first) == list(range(len(first)))
        assert 0 < len(first) <= 100
        await pass_through(send, recv, [MANY])
        (last,) = tap.take()
        assert (last.number, last.missed) == (MANY + 1, MANY - len(first))


async def test_large_bytes_and_what_has_no_form_in_json_are_shown_by_their_size() -> None:
    async with pair(bytes) as (send, recv):
        tap = send.tap()
        large = b"\xc1" * 100_000
        assert await pass_through(send, recv, [b"a", large, b"b"]) == [b"a", large, b"b"]
        shown = tap.take()
        assert values(shown) == ["YQ==", None, "Yg=="]
        assert [one.size_bytes for one in shown] == [3, 100_000, 3]


async def test_a_tap_that_is_taken_out_leaves_the_channel_as_it_was() -> None:
    async with pair(int) as (send, recv):
        before = send._wire._link
        tap = send.tap()
        assert send._wire._link is tap
        send.untap(tap)
        assert send._wire._link is before
        assert await pass_through(send, recv, [1, 2]) == [1, 2]
        assert tap.take() == ()


async def test_whoever_is_told_slowly_misses_more_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geartrain.engine.tap._EVERY_S", 0.0)
    told: list[Shown] = []
    gate = anyio.Event()

    async def tell(shown: tuple[Shown, ...]) -> None:
        told.extend(shown)
        await gate.wait()

    async with pair(int) as (send, recv), anyio.create_task_group() as tasks:
        tap = send.tap()
        tasks.start_soon(tap.show, tell)
        assert len(await pass_through(send, recv, list(range(MANY)))) == MANY
        gate.set()
        with anyio.fail_after(10):
            # The next one that is shown tells of all that were not.
            while not told or told[-1].number <= MANY:
                await pass_through(send, recv, [0])
                await anyio.sleep(0.001)
        send.untap(tap)
    assert sum(1 + one.missed for one in told) == told[-1].number


def test_a_tap_shows_nothing_that_did_not_go(tmp_path: Path) -> None:
    class Down:
        def send(self, peer: bytes, frame: object) -> bool:
            return False

    tap = Tap(Down())  # type: ignore[arg-type]
    assert not tap.send(b"", b"\xc1 no frame at all")
    assert tap.take() == ()
