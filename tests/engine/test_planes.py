"""Waiting for what becomes of a plane: at the end of its budget, or at its next tick."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio
import pytest

from geartrain import SimClock, WallClock, simulate
from geartrain.engine.options import ChannelOptions
from geartrain.engine.planes import PlaneBoard, WatchedPlane
from geartrain.engine.remote import RemoteReceive, RemoteSend, reading, writing
from geartrain.errors import EndOfStream, GeartrainError
from geartrain.ports.inner import InnerTransport
from geartrain.ports.plane_words import PlaneWords

Loop = Literal["asyncio", "trio"]
PATIENCE_S = 10


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_plane_of_this_process_is_waited_for_exactly(loop: Loop) -> None:
    assert simulate(seen_in_virtual_time, backend=loop) == [
        (2.0, False),
        (3.000000001, True),
        (4.0, False),
        (4.5, False),
    ]


async def seen_in_virtual_time() -> list[tuple[float, bool]]:
    clock = SimClock()
    words = PlaneWords.in_memory("frames", 10**9, clock.now_ns)
    [plane] = PlaneBoard([words])
    seen: list[tuple[float, bool]] = []

    async def watch() -> None:
        for _ in range(4):
            await plane.changed(clock, plane.snapshot(clock.now_ns()))
            seen.append((clock.now(), plane.snapshot(clock.now_ns()).stale))
            if words.snapshot(0).seq == 2:
                words.end()
                # Over already: only something new is news.
                await clock.sleep(0.5)
                seen.append((clock.now(), plane.snapshot(clock.now_ns()).stale))
                return

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await clock.advance(2)
        words.tick()
        await clock.advance(2)
        words.tick()
        await clock.advance(1)
    return seen


async def test_a_plane_that_another_process_ticks_is_looked_at(anyio_backend: str, tmp_path: Path) -> None:
    there = PlaneWords.mapped(tmp_path / "plane", "frames", 10_000_000)
    plane = WatchedPlane(PlaneWords.mapped(tmp_path / "plane", "frames", 10_000_000))
    clock = WallClock()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_later, there.tick)
            await plane.changed(clock, plane.snapshot(clock.now_ns()))
        # On a busy machine its budget may be over already.
        if not (ticked := plane.snapshot(clock.now_ns())).stale:
            await plane.changed(clock, ticked)
        assert plane.snapshot(clock.now_ns()).stale
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_later, there.end)
            await plane.changed(clock, plane.snapshot(clock.now_ns()))
    assert plane.is_over
    assert not plane.snapshot(clock.now_ns()).stale


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("meanwhile", ["its budget ends", "it ticks", "it ends"])
def test_what_becomes_of_a_plane_between_a_look_and_the_wait_is_not_missed(loop: Loop, meanwhile: str) -> None:
    assert simulate(looked_twice, meanwhile, backend=loop)


async def looked_twice(meanwhile: str) -> bool:
    clock = SimClock()
    words = PlaneWords.in_memory("frames", 10**9, clock.now_ns)
    [plane] = PlaneBoard([words])
    words.tick()
    await clock.advance(1 if meanwhile == "its budget ends" else 2)
    known = plane.snapshot(clock.now_ns())
    if meanwhile == "its budget ends":
        await clock.advance(0.1)
    else:
        (words.tick if meanwhile == "it ticks" else words.end)()
    has_changed = anyio.Event()

    async def watch() -> None:
        await plane.changed(clock, known)
        has_changed.set()

    # Nothing else will ever happen: to wait now is to wait for ever.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await clock.advance(10)
        tasks.cancel_scope.cancel()
    return has_changed.is_set()


async def _later(work: Callable[[], None]) -> None:
    await anyio.lowlevel.checkpoint()
    work()


# -- who ticks it -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def edge_with_plane() -> AsyncIterator[tuple[RemoteSend[int], RemoteReceive[int], PlaneWords]]:
    """A channel over a link, and the plane that its reading end tells."""
    transport, options = InnerTransport(), ChannelOptions(maxsize=8, ack="manual", supervised=True)
    async with (
        reading(transport, "inner://numbers", int, bind=True, options=options) as recv,
        writing(transport, "inner://numbers", int, bind=False, options=options) as send,
    ):
        plane = PlaneWords.in_memory("numbers", 10**9)
        recv.tell_plane(plane)
        yield send, recv, plane
        await recv.aclose()


async def test_what_arrives_over_a_link_is_a_tick_and_what_comes_once_more_is_none(anyio_backend: str) -> None:
    async with edge_with_plane() as (send, recv, plane):
        for number in (1, 2):
            await send.send(number)
            assert await recv.receive() == number
            assert plane.snapshot(0).seq == number
        recv.begin_again()
        assert [await recv.receive(), await recv.receive()] == [1, 2]
        assert recv.mark.redelivered
        assert plane.snapshot(0).seq == 2
        await send.send(3)
        assert await recv.receive() == 3
        assert plane.snapshot(0).seq == 3


async def test_a_writer_that_closes_ends_the_plane_and_one_that_is_gone_does_not(anyio_backend: str) -> None:
    async with edge_with_plane() as (send, recv, plane):
        await send.send(1)
        await recv.receive()
        await send.aclose()
        with pytest.raises(EndOfStream):
            await recv.receive()
        assert plane.is_over
    async with edge_with_plane() as (send, recv, plane):
        await send.send(1)
        await recv.receive()
        recv.lose_writer()
        with pytest.raises(GeartrainError):
            await recv.receive()
        assert not plane.is_over
