"""Timers that ring at a moment, and can be set anew while somebody waits."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from geartrain.ports import timer as module
from geartrain.ports.clock import SimClock, WallClock, mono_ns
from geartrain.ports.timer import ClockTimer, FdTimer, Timer, open_timer
from geartrain.rules.lead import MOST_NS

MS = 1_000_000


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    if request.param == "uvloop":
        return "asyncio", {"use_uvloop": True}
    return request.param, {}


@pytest.fixture(params=[FdTimer, lambda: ClockTimer(WallClock())], ids=["timerfd", "sleeping"])
def opened(request: pytest.FixtureRequest) -> Callable[[], Timer]:
    made: Callable[[], Timer] = request.param
    return made


async def rang(timer: Timer, due_ns: int) -> None:
    """Waits as whoever waits for a timer does."""
    with anyio.fail_after(5):
        while mono_ns() < due_ns:
            await timer.wait()


@asynccontextmanager
async def waiting(timer: Timer, due_ns: int) -> AsyncIterator[None]:
    """Somebody waits for it meanwhile."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rang, timer, due_ns)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        yield


@pytest.mark.parametrize("delay_ns", [3 * MS, 300_000, 0, -MS])
async def test_it_rings_at_its_moment_or_at_once(opened: Callable[[], Timer], delay_ns: int) -> None:
    timer = opened()
    due_ns = mono_ns() + delay_ns
    timer.arm(due_ns)
    with anyio.fail_after(5):
        await timer.wait()
    await rang(timer, due_ns)
    timer.close()


async def test_set_anew_it_rings_at_the_later_word(opened: Callable[[], Timer]) -> None:
    timer = opened()
    due_ns = mono_ns() + 2 * MS
    timer.arm(mono_ns() + 10**12)
    async with waiting(timer, due_ns):
        timer.arm(due_ns)
    timer.close()


async def test_another_thread_may_set_it(opened: Callable[[], Timer]) -> None:
    timer = opened()
    due_ns = mono_ns() + 2 * MS
    timer.arm(None)
    async with waiting(timer, due_ns):
        await anyio.to_thread.run_sync(timer.arm, due_ns)
    timer.close()


@pytest.mark.parametrize("due_ns", [None, 1 << 100])
async def test_it_never_rings_when_it_is_not_set_or_for_ages(opened: Callable[[], Timer], due_ns: int | None) -> None:
    timer = opened()
    timer.arm(mono_ns() + MS)
    timer.arm(due_ns)
    with anyio.move_on_after(0.005) as scope:
        await timer.wait()
    assert scope.cancelled_caught
    timer.close()


async def test_a_cancelled_wait_takes_nothing_away(opened: Callable[[], Timer]) -> None:
    timer = opened()
    due_ns = mono_ns() + 3 * MS
    timer.arm(due_ns)
    with anyio.move_on_after(0.0005):
        await rang(timer, math.inf)  # type: ignore[arg-type]
    timer.arm(due_ns)
    await rang(timer, due_ns)
    timer.close()


async def test_where_there_is_no_timerfd_real_time_is_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_timerfd", lambda: False)
    assert isinstance(open_timer(WallClock()), ClockTimer)


async def test_where_no_descriptor_is_to_be_had_real_time_is_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(module, "TimerFd", refused)
    assert isinstance(open_timer(WallClock()), ClockTimer)


async def test_of_real_time_it_is_a_descriptor_that_is_closed(nothing_left: Callable[[], list[int]]) -> None:
    timer = open_timer(WallClock())
    assert isinstance(timer, FdTimer)
    timer.close()


async def test_woken_too_soon_it_waits_the_rest_awake_and_learns() -> None:
    timer = FdTimer()
    timer._lead.ns = MOST_NS
    due_ns = mono_ns() + 3 * MS
    timer.arm(due_ns)
    with anyio.fail_after(5):
        await timer.wait()
    assert mono_ns() >= due_ns
    learnt_ns = timer._lead.ns
    timer.arm(mono_ns() + MOST_NS // 2)
    await timer.wait()
    assert timer._lead.ns == learnt_ns, "whoever is set when it is nearly due learns nothing"
    timer.close()


async def test_of_virtual_time_it_rings_exactly() -> None:
    clock = SimClock()
    timer = open_timer(clock)
    timer.arm(5_000_000_000)
    rang_ns = []

    async def wait() -> None:
        while clock.now_ns() < 1_500_000_000:
            await timer.wait()
        rang_ns.append(clock.now_ns())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await clock.advance(1)
        timer.arm(1_500_000_000)
        await clock.advance(1)
    assert rang_ns == [1_500_000_000]
