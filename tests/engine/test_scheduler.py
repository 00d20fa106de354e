"""Calls at given moments, in real and in virtual time."""

import gc
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from geartrain import (
    Context,
    Deadline,
    DeadlineScheduler,
    LatencyHistogram,
    SimClock,
    Supervisor,
    WallClock,
    daemon,
    mono_ns,
    simulate,
)
from geartrain.engine import scheduler
from geartrain.errors import BadType, BadValue, NotInUse
from geartrain.ports import sleepers, timer

MS = 1_000_000


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    if request.param == "uvloop":
        return "asyncio", {"use_uvloop": True}
    return request.param, {}


@pytest.fixture(params=["timerfd", "sleeping"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As on Linux, and as elsewhere."""
    if request.param == "sleeping":
        for module in (timer, sleepers):
            monkeypatch.setattr(module, "has_timerfd", lambda: False)
    return str(request.param)


class Calls:
    """Notes what was called, and lets somebody wait for the last of it."""

    def __init__(self, expected: int = 1) -> None:
        self.names: list[str] = []
        self._expected = expected
        self._over = anyio.Event()

    def named(self, name: str) -> Callable[[], None]:
        def callback() -> None:
            self.names.append(name)
            if len(self.names) == self._expected:
                self._over.set()

        return callback

    async def all_made(self) -> list[str]:
        with anyio.fail_after(5):
            await self._over.wait()
        return self.names


# -- firing ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("way")
async def test_calls_are_made_in_the_order_of_their_moments_and_never_early() -> None:
    calls = Calls(4)
    began_ns = mono_ns()
    async with DeadlineScheduler() as deadlines:
        for name, delay_ns in (("30", 3 * MS), ("10", MS), ("20", 2 * MS), ("past", -MS)):
            deadlines.schedule_at(began_ns + delay_ns, calls.named(name))
        assert deadlines.pending == 4
        assert await calls.all_made() == ["past", "10", "20", "30"]
        assert mono_ns() >= began_ns + 3 * MS
        assert (deadlines.pending, deadlines.fired_count, deadlines.early_count) == (0, 4, 0)
        assert deadlines.lateness.count == 4
        assert deadlines.lateness.min_ns >= 0


@pytest.mark.usefixtures("way")
async def test_an_earlier_head_is_not_late_because_of_the_one_before_it() -> None:
    calls = Calls()
    async with DeadlineScheduler() as deadlines:
        deadlines.schedule_after(60, calls.named("a minute"))
        await settled()
        deadlines.schedule_after(0.001, calls.named("at once"))
        assert await calls.all_made() == ["at once"]


@pytest.mark.usefixtures("way")
async def test_a_later_one_does_not_put_the_head_off() -> None:
    calls = Calls()
    async with DeadlineScheduler() as deadlines:
        deadlines.schedule_after(0.002, calls.named("head"))
        await settled()
        deadlines.schedule_after(60, calls.named("a minute"))
        assert await calls.all_made() == ["head"]


async def test_nobody_is_woken_but_for_what_is_due() -> None:
    """Not for later ones, not for equal ones, and not at all when there is nothing."""
    calls = Calls()
    async with DeadlineScheduler() as deadlines:
        await settled()
        assert deadlines.wake_count == 0
        head = deadlines.schedule_after(3600, calls.named("head"))
        deadlines.schedule_at(head.due_ns, calls.named("equal"))
        deadlines.schedule_at(head.due_ns + 1, calls.named("later"))
        await settled()
        assert deadlines.wake_count == 0
        deadlines.schedule_after(0, calls.named("now"))
        await calls.all_made()
        await settled()
        assert deadlines.wake_count == 1


async def settled() -> None:
    """Until its driver sleeps."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


@pytest.mark.usefixtures("way")
async def test_another_thread_may_schedule_and_cancel() -> None:
    calls = Calls()

    def in_a_thread() -> bool:
        deadlines.schedule_after(0.001, calls.named("from a thread"))
        return deadlines.schedule_after(0.0005, calls.named("cancelled")).cancel()

    async with DeadlineScheduler() as deadlines:
        deadlines.schedule_after(60, calls.named("a minute"))
        await settled()
        assert await anyio.to_thread.run_sync(in_a_thread)
        assert await calls.all_made() == ["from a thread"]


async def test_many_threads_at_once_lose_nothing() -> None:
    fired: list[int] = []

    def in_a_thread() -> None:
        for number in range(300):
            kept = deadlines.schedule_after(0.0001 * (number % 7), lambda: fired.append(1))
            deadlines.schedule_after(0.0001 * (number % 5), lambda: fired.append(0)).cancel()
            assert not kept.cancelled

    async with DeadlineScheduler() as deadlines:
        threads = [threading.Thread(target=in_a_thread) for _ in range(4)]
        for thread in threads:
            thread.start()
        with anyio.fail_after(20):
            while deadlines.pending or any(thread.is_alive() for thread in threads):
                await WallClock().sleep(0.001)
    assert fired.count(1) == 1200
    assert fired.count(0) + deadlines.cancelled_count == 1200


# -- taking turns ---------------------------------------------------------------------------------------------------


async def test_a_callback_that_schedules_itself_in_the_past_for_ever_leaves_others_their_turn() -> None:
    calls = Calls()
    between: list[int] = []

    def again() -> None:
        deadlines.schedule_at(0, again)

    async with DeadlineScheduler() as deadlines:
        deadlines.schedule_at(0, again)
        deadlines.schedule_after(0.002, calls.named("other deadline"))
        for _ in range(50):
            before = deadlines.fired_count
            await anyio.lowlevel.checkpoint()
            between.append(deadlines.fired_count - before)
        await calls.all_made()
    assert max(between) <= 2 * 64
    assert deadlines.pending == 0


async def test_whoever_never_lets_virtual_time_pass_is_told_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_RESTLESS", 10)
    clock = SimClock()
    left = 1000

    def again() -> None:
        nonlocal left
        left -= 1
        if left:
            deadlines.schedule_after(0, again)

    async with DeadlineScheduler(clock=clock) as deadlines:
        deadlines.schedule_after(0, again)
        await clock.advance(1)
    assert left == 0
    assert caplog.text.count("for 10 turns there was always a deadline due") == 1


async def test_a_crowd_due_at_one_moment_is_called_in_batches() -> None:
    calls = Calls(1000)
    async with DeadlineScheduler() as deadlines:
        due_ns = mono_ns() + 20 * MS
        for number in range(1000):
            deadlines.schedule_at(due_ns, calls.named(str(number)))
        between = [0]
        while deadlines.pending:
            before = deadlines.fired_count
            await anyio.lowlevel.checkpoint()
            between.append(deadlines.fired_count - before)
        assert calls.names == [str(number) for number in range(1000)]
    # trio shuffles who goes first in a round, so that two batches may come without a turn of ours between them.
    assert max(between) <= 2 * 64


async def test_slow_callbacks_leave_others_their_turn_and_are_counted_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = Calls(3)
    between = [0]

    def slow() -> None:
        time.sleep(0.006)
        calls.named("slow")()

    async with DeadlineScheduler() as deadlines:
        for _ in range(3):
            deadlines.schedule_at(0, slow, name="dawdler")
        while deadlines.pending:
            before = deadlines.fired_count
            await anyio.lowlevel.checkpoint()
            between.append(deadlines.fired_count - before)
        await calls.all_made()
        assert deadlines.slow_count == 3
        assert deadlines.late_count == 3
    assert max(between) <= 2
    assert "deadline 'dawdler' took" in caplog.text


async def test_a_callback_may_cancel_others_that_are_due_with_it() -> None:
    calls = Calls(2)
    async with DeadlineScheduler() as deadlines:
        due_ns = mono_ns() + MS
        victims: list[Deadline] = []
        prevented: list[bool] = []
        deadlines.schedule_at(due_ns, lambda: prevented.extend(victim.cancel() for victim in victims))
        victims += [deadlines.schedule_at(due_ns, calls.named("victim")) for _ in range(200)]
        deadlines.schedule_at(due_ns, calls.named("last"))
        calls.named("first")()
        assert await calls.all_made() == ["first", "last"]
        assert (prevented, deadlines.pending, deadlines.cancelled_count) == ([True] * 200, 0, 200)


async def test_a_scheduler_that_is_entered_again_begins_with_nothing_and_has_one_driver() -> None:
    deadlines = DeadlineScheduler()
    async with deadlines:
        deadlines.schedule_after(0.001, fails, name="dropped")
    calls = Calls(3)
    async with deadlines:
        for name in ("1", "2", "3"):
            deadlines.schedule_at(0, calls.named(name))
        assert await calls.all_made() == ["1", "2", "3"]
        await settled()
        assert (deadlines.wake_count, deadlines.fired_count, deadlines.failed_count) == (1, 3, 0)


# -- failing --------------------------------------------------------------------------------------------------------


def fails() -> None:
    raise ValueError("no")


async def test_a_callback_that_fails_is_told_of_once_and_the_next_one_is_called() -> None:
    calls = Calls()
    told: list[tuple[Deadline, Exception]] = []
    async with DeadlineScheduler(on_error=lambda *what: told.append(what)) as deadlines:
        failing = deadlines.schedule_at(0, partial(fails))
        deadlines.schedule_at(1, calls.named("next"))
        await calls.all_made()
        assert (deadlines.fired_count, deadlines.failed_count) == (2, 1)
    assert [(deadline, str(error)) for deadline, error in told] == [(failing, "no")]
    assert failing.fired


async def test_without_on_error_a_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    calls = Calls()
    async with DeadlineScheduler() as deadlines:
        deadlines.schedule_at(0, partial(fails))
        deadlines.schedule_at(1, calls.named("next"))
        await calls.all_made()
    assert "deadline 'fails' failed" in caplog.text
    assert "ValueError: no" in caplog.text


async def test_an_on_error_that_fails_itself_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    calls = Calls()

    def on_error(_deadline: Deadline, _error: Exception) -> None:
        raise RuntimeError("on_error too")

    async with DeadlineScheduler(on_error=on_error) as deadlines:
        deadlines.schedule_at(0, fails)
        deadlines.schedule_at(1, calls.named("next"))
        await calls.all_made()
    assert "on_error failed, told of ValueError('no') by deadline 'fails'" in caplog.text


async def test_an_async_callback_is_a_failure_that_says_so() -> None:
    told: list[Exception] = []
    calls = Calls()

    async def waits() -> None: ...

    async with DeadlineScheduler(on_error=lambda _, error: told.append(error)) as deadlines:
        deadlines.schedule_at(0, waits)
        deadlines.schedule_at(1, calls.named("next"))
        await calls.all_made()
    assert "is async; a deadline calls plain functions only: let it set an event" in str(told)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_what_is_no_exception_ends_the_block_and_is_raised_there(kind: type[BaseException]) -> None:
    def interrupts() -> None:
        raise kind("from a callback")

    with pytest.raises(kind, match="from a callback"):
        async with DeadlineScheduler() as deadlines:
            deadlines.schedule_after(60, fails)
            deadlines.schedule_after(0.001, interrupts)
            await anyio.sleep_forever()
    assert deadlines.pending == 0
    assert deadlines.dropped_count == 1


# -- the block ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("way")
async def test_leaving_drops_what_is_pending() -> None:
    calls = Calls()
    async with DeadlineScheduler() as deadlines:
        deadline = deadlines.schedule_after(0.001, calls.named("dropped"))
        periodic = deadlines.schedule_every(0.001, calls.named("dropped too"))
    await anyio.sleep(0.003)
    assert calls.names == []
    assert (deadlines.pending, deadlines.dropped_count) == (0, 2)
    assert (deadline.fired, deadline.cancelled, deadline.cancel(), periodic.cancel()) == (False, False, False, False)
    assert deadlines.cancelled_count == 0


async def test_an_error_of_the_block_leaves_it_as_it_is() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with DeadlineScheduler():
            raise ValueError("mine")


async def test_a_cancelled_block_is_cancelled() -> None:
    with anyio.CancelScope() as scope:
        async with DeadlineScheduler() as deadlines:
            deadlines.schedule_at(0, scope.cancel)
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_outside_of_its_block_it_schedules_nothing() -> None:
    deadlines = DeadlineScheduler()
    for _ in range(2):
        with pytest.raises(NotInUse, match="inside of its `async with` block only"):
            deadlines.schedule_after(1, fails)
        async with deadlines:
            with pytest.raises(NotInUse, match="has been entered already"):
                async with deadlines:
                    pass
            deadlines.schedule_after(1, fails)


async def test_it_leaves_no_descriptor_open(nothing_left: Callable[[], list[int]]) -> None:
    async with DeadlineScheduler() as deadlines:
        deadlines.schedule_after(60, fails)


async def test_twenty_thousand_cancelled_deadlines_leave_nothing() -> None:
    calls = Calls()
    async with DeadlineScheduler() as deadlines:
        for _ in range(20_000):
            deadlines.schedule_after(60, fails).cancel()
        deadlines.schedule_at(0, calls.named("alive"))
        await calls.all_made()
        assert (deadlines.pending, deadlines.cancelled_count) == (0, 20_000)
        gc.collect()
        assert sum(isinstance(thing, Deadline) for thing in gc.get_objects()) < 200


async def test_a_periodic_call_comes_on_its_grid_until_it_is_cancelled() -> None:
    calls = Calls(5)
    async with DeadlineScheduler() as deadlines:
        began_ns = mono_ns()
        tick = deadlines.schedule_every(0.001, calls.named("tick"), name="tick")
        await calls.all_made()
        assert tick.cancel()
        assert (tick.due_ns - tick.fired_count * MS - tick.missed * MS) - MS >= began_ns
        # The next one may be due before this task has its turn.
        assert tick.fired_count == len(calls.names) >= 5
        assert deadlines.pending == 0


async def test_lateness_goes_into_the_histogram_that_was_given() -> None:
    calls = Calls()
    gate = LatencyHistogram("gate", capacity=10, gate=True)
    async with DeadlineScheduler(lateness=gate) as deadlines:
        deadlines.schedule_after(0.001, calls.named("one"))
        await calls.all_made()
    assert gate.count == 1
    assert deadlines.lateness is gate


# -- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda it: it.schedule_at(math.nan, fails), "schedule_at() due_ns must be a whole number"),
        (lambda it: it.schedule_at(1.5, fails), "schedule_at() due_ns must be a whole number"),
        (lambda it: it.schedule_at(True, fails), "schedule_at() due_ns must be a whole number"),
        (lambda it: it.schedule_at(1 << 63, fails), "must be below 2**63"),
        (lambda it: it.schedule_after(math.nan, fails), "schedule_after() delay_s must be from 0"),
        (lambda it: it.schedule_after(math.inf, fails), "schedule_after() delay_s must be from 0"),
        (lambda it: it.schedule_after(-1, fails), "schedule_after() delay_s must be from 0"),
        (lambda it: it.schedule_after("1", fails), "schedule_after() delay_s must be a number"),
        (lambda it: it.schedule_after(True, fails), "schedule_after() delay_s must be a number"),
        (lambda it: it.schedule_every(0, fails), "schedule_every() period_s"),
        (lambda it: it.schedule_every(math.nan, fails), "schedule_every() period_s"),
        (lambda it: it.schedule_every(1, fails, missed="later"), "schedule_every() missed must be one of 'skip'"),
        (lambda it: it.schedule_every(1, fails, missed="burst", burst=0), "schedule_every() burst must be >= 1"),
        (lambda it: it.schedule_after(1, None), "a deadline's callback must be a function"),
        (lambda it: it.schedule_after(1, fails, name=7), "a deadline's name must be a string"),
        (lambda it: DeadlineScheduler(clock=cast(Any, time)), "DeadlineScheduler clock must be a Clock"),
        (lambda it: DeadlineScheduler(lateness=cast(Any, 7)), "DeadlineScheduler lateness must be a LatencyHistogram"),
        (lambda it: DeadlineScheduler(on_error=cast(Any, 7)), "DeadlineScheduler on_error must be a function"),
    ],
)
async def test_a_senseless_deadline_is_refused_at_once(use: Callable[[Any], object], said: str) -> None:
    async with DeadlineScheduler() as deadlines:
        with pytest.raises((BadType, BadValue)) as refused:
            use(deadlines)
        assert said in str(refused.value)
        assert deadlines.pending == 0


# -- virtual time ---------------------------------------------------------------------------------------------------


async def test_in_virtual_time_every_call_is_made_at_its_moment() -> None:
    clock = SimClock()
    fired: list[tuple[str, int]] = []

    def note(name: str) -> Callable[[], None]:
        return lambda: fired.append((name, clock.now_ns()))

    async with DeadlineScheduler(clock=clock) as deadlines:
        deadlines.schedule_after(365 * 24 * 3600, note("a year"))
        deadlines.schedule_after(1.1, note("soon"))
        await clock.advance(0.5)
        deadlines.schedule_after(0.1, note("sooner"))
        deadlines.schedule_at(7, note("past"))
        await clock.run()
        assert deadlines.lateness.max_ns == 500_000_000 - 7
    assert fired == [
        ("past", 500_000_000),
        ("sooner", 600_000_000),
        ("soon", 1_100_000_000),
        ("a year", 365 * 24 * 3600 * 10**9),
    ]


async def test_a_periodic_call_in_virtual_time_is_never_late() -> None:
    clock = SimClock()
    times_ns: list[int] = []
    async with DeadlineScheduler(clock=clock) as deadlines:
        tick = deadlines.schedule_every(0.001, lambda: times_ns.append(clock.now_ns()))
        await clock.advance(0.1)
    assert times_ns == [slot * MS for slot in range(1, 101)]
    assert (tick.missed, deadlines.lateness.max_ns) == (0, 0)


async def test_deadlines_and_sleepers_of_one_clock_come_in_the_order_of_time() -> None:
    clock = SimClock()
    seen: list[str] = []

    async def sleeper(ctx: Context) -> None:
        for number in range(3):
            await ctx.clock.sleep(1)
            seen.append(f"slept {number + 1}")

    async with Supervisor(clock=clock) as sup:
        async with DeadlineScheduler(clock=clock) as deadlines:
            for half in (0.5, 1.5, 2.5):
                deadlines.schedule_after(half, partial(seen.append, f"called {half}"))
            sup.spawn(sleeper)
            await clock.advance(5)
    assert seen == ["called 0.5", "slept 1", "called 1.5", "slept 2", "called 2.5", "slept 3"]


def test_a_simulation_with_deadlines_is_the_same_on_both_loops() -> None:
    def run(backend: Any) -> list[str]:
        seen: list[str] = []

        async def main() -> None:
            clock = SimClock()

            def note(name: str) -> None:
                seen.append(f"{name} {clock.now_ns()}")

            @daemon
            async def busy(ctx: Context, number: int) -> None:
                async with DeadlineScheduler(clock=ctx.clock) as deadlines:
                    for step in range(20):
                        due_s = (step * 7 + number * 3) % 11 / 10
                        deadlines.schedule_after(due_s, partial(note, f"{number}.{step}"))
                        await ctx.clock.sleep((step * 5 + number) % 3 / 10)
                    await ctx.clock.sleep(2)

            async with Supervisor(clock=clock) as sup:
                for number in range(4):
                    sup.add(busy(number), name=f"busy{number}")
                await clock.run()

        simulate(main, backend=backend)
        return seen

    runs = [run(backend) for backend in ("asyncio", "trio", "asyncio", "trio")]
    assert len(runs[0]) == 80
    assert runs[1:] == runs[:1] * 3
