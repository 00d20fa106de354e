"""Sleeping in real time to the nanosecond, all of a loop by one descriptor."""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from time import monotonic_ns
from typing import Any

import anyio
import pytest

from geartrain.ports import sleepers
from geartrain.ports.parking import here
from geartrain.ports.sleepers import sleep_until_ns
from geartrain.rules.lead import MOST_NS

MS = 1_000_000
WAYS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


@pytest.fixture(params=WAYS)
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Runs a program on a loop of its own, and looks whether it left a descriptor open."""

    def run(main: Callable[[], Awaitable[Any]]) -> Any:
        answer = anyio.run(main, **WAYS[request.param])
        assert not [name for name in opened() if "timerfd" in name]
        return answer

    return run


def opened() -> Iterator[str]:
    """What the descriptors of this process are."""
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            yield os.readlink(f"/proc/self/fd/{fd}")


Run = Callable[[Callable[[], Awaitable[Any]]], Any]


def test_many_sleep_each_until_its_moment_and_nobody_is_early(run: Run) -> None:
    woken: list[int] = []

    async def sleeper(due_ns: int) -> None:
        await sleep_until_ns(due_ns)
        assert monotonic_ns() >= due_ns
        woken.append(due_ns)

    async def main() -> list[int]:
        began_ns = monotonic_ns()
        dues_ns = [began_ns + (number * 7 % 50) * MS // 10 for number in range(50)]
        async with anyio.create_task_group() as tasks:
            for due_ns in dues_ns:
                tasks.start_soon(sleeper, due_ns)
        return dues_ns

    assert sorted(run(main)) == sorted(woken)


def test_whoever_is_woken_too_soon_waits_the_rest_awake(run: Run) -> None:
    async def main() -> None:
        await sleep_until_ns(monotonic_ns() + MS)
        (its,) = [its for its in sleepers._sleepers_of.values() if its.is_open]
        for _ in range(5):
            its._lead.ns = MOST_NS
            due_ns = monotonic_ns() + 2 * MS
            # All of them at once: `sleep` itself, without the loop around it that looks again.
            async with anyio.create_task_group() as tasks:
                for later_ns in (0, 20_000, 150_000):
                    tasks.start_soon(slept, its, due_ns + later_ns)

    async def slept(its: sleepers.Sleepers, due_ns: int) -> None:
        await its.sleep(here(), due_ns)
        assert monotonic_ns() >= due_ns

    run(main)


def test_one_that_is_cancelled_leaves_the_others_to_sleep(run: Run) -> None:
    async def main() -> None:
        due_ns = monotonic_ns() + 3 * MS
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleep_until_ns, due_ns)
            with anyio.move_on_after(0.001) as scope:
                await sleep_until_ns(due_ns + 10**10)
            assert scope.cancelled_caught
        assert monotonic_ns() >= due_ns

    run(main)


def test_the_past_is_a_checkpoint(run: Run) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await sleep_until_ns(monotonic_ns() - 1)
        assert scope.cancelled_caught

    run(main)


def test_a_hundred_thousand_that_are_cancelled_leave_nothing(run: Run) -> None:
    async def main() -> None:
        for _ in range(300):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await sleep_until_ns(monotonic_ns() + 10**12)
        (its,) = [its for its in sleepers._sleepers_of.values() if its.is_open]
        assert len(its._timeline._heap) <= 65

    run(main)


def test_whoever_sleeps_while_the_loop_is_closed_is_woken_by_the_loop_itself(run: Run) -> None:
    slept: list[int] = []

    async def late_cleanup() -> Any:
        try:
            yield
        finally:
            due_ns = monotonic_ns() + MS
            with anyio.CancelScope(shield=True):
                await sleep_until_ns(due_ns)
            slept.append(monotonic_ns() - due_ns)

    async def main() -> Any:
        generator = late_cleanup()
        await anext(generator)
        await sleep_until_ns(monotonic_ns() + MS)
        return generator

    run(main)
    assert all(late_ns >= 0 for late_ns in slept)


def test_where_there_is_no_timerfd_the_loop_wakes_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sleepers, "has_timerfd", lambda: False)
    test_many_sleep_each_until_its_moment_and_nobody_is_early(run)


def test_where_no_descriptor_is_to_be_had_the_loop_wakes_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(sleepers, "TimerFd", refused)
    test_many_sleep_each_until_its_moment_and_nobody_is_early(run)
