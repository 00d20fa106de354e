"""Waiting for what becomes of a plane: at the end of its budget, or at its next tick."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import anyio
import pytest

from geartrain import SimClock, WallClock, simulate
from geartrain.engine.planes import PlaneBoard, WatchedPlane
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
            await plane.changed(clock)
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
            await plane.changed(clock)
        await plane.changed(clock)
        assert plane.snapshot(clock.now_ns()).stale
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_later, there.end)
            await plane.changed(clock)
    assert plane.is_over
    assert not plane.snapshot(clock.now_ns()).stale


async def _later(work: Callable[[], None]) -> None:
    await anyio.lowlevel.checkpoint()
    work()
