"""A signal, a bell and a lock: who goes on, in which order, and that no wake-up is lost.

Every test runs on both loops, in real time and in turns. In real time trio lets those who are woken together go on in
any order, so where the order is promised for all of them, it is tested in turns.
"""

from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio.abc import TaskGroup

from geartrain.engine.signal import Bell, Lock, Signal
from geartrain.ports.clock import SimClock
from geartrain.ports.parking import take_turn
from geartrain.rules.deadlock import Waiting


@pytest.fixture(params=["real time", "in turns"], autouse=True)
async def time_kind(request: pytest.FixtureRequest) -> None:
    if request.param == "in turns":
        # The first SimClock on a loop makes its waits take turns.
        SimClock()


async def rounds(count: int = 20) -> None:
    """Let everybody go on who can."""
    for _ in range(count):
        await take_turn()


class Waiters:
    """Tasks that wait, each in a scope of its own, and the names of those who went on."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.gone_on: list[str] = []
        self._tasks = tasks
        self._scopes: dict[str, anyio.CancelScope] = {}

    async def add(self, name: str, wait: Callable[[], Awaitable[None]]) -> None:
        """Return when it waits."""
        self._scopes[name] = anyio.CancelScope()
        self._tasks.start_soon(self._wait, name, wait)
        await rounds()

    def cancel(self, name: str) -> None:
        self._scopes[name].cancel()

    async def _wait(self, name: str, wait: Callable[[], Awaitable[None]]) -> None:
        with self._scopes[name]:
            await wait()
            self.gone_on.append(name)


# -- Signal -----------------------------------------------------------------------------------------------------------


async def test_a_signal_that_is_set_is_seen_by_everybody_who_waits_and_by_everybody_who_comes_later() -> None:
    signal = Signal()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        for name in "abc":
            await waiters.add(name, signal.wait)
        assert waiters.gone_on == []
        assert not signal.is_set()
        signal.set()
        await rounds()
        assert sorted(waiters.gone_on) == ["a", "b", "c"]
        await waiters.add("late", signal.wait)
        assert waiters.gone_on[3:] == ["late"]
    assert signal.is_set()


async def test_to_set_a_signal_twice_is_to_set_it_once() -> None:
    signal = Signal()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        await waiters.add("a", signal.wait)
        signal.set()
        signal.set()
    assert waiters.gone_on == ["a"]


async def test_in_turns_those_who_wait_for_a_signal_go_on_in_the_order_in_which_they_began() -> None:
    SimClock()
    for _ in range(10):
        signal = Signal()
        async with anyio.create_task_group() as tasks:
            waiters = Waiters(tasks)
            for name in "hgfedcba":
                await waiters.add(name, signal.wait)
            signal.set()
        assert "".join(waiters.gone_on) == "hgfedcba"


async def test_in_turns_those_who_are_cancelled_together_leave_in_the_order_in_which_they_began() -> None:
    SimClock()
    for _ in range(10):
        signal, left = Signal(), list[str]()

        async def wait(name: str, signal: Signal = signal, left: list[str] = left) -> None:
            try:
                await signal.wait()
            finally:
                left.append(name)

        async with anyio.create_task_group() as tasks:
            for name in "hgfedcba":
                tasks.start_soon(wait, name)
                await rounds(2)
            tasks.cancel_scope.cancel()
        assert "".join(left) == "hgfedcba"


async def test_a_waiter_that_is_cancelled_is_not_waited_for_and_the_others_are_woken() -> None:
    signal = Signal()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        for name in "abc":
            await waiters.add(name, signal.wait)
        waiters.cancel("b")
        await rounds()
        assert "2 waiting" in repr(signal)
        signal.set()
    assert sorted(waiters.gone_on) == ["a", "c"]


async def test_a_waiter_cancelled_in_the_moment_it_is_woken_does_not_take_the_signal_from_the_others() -> None:
    for first_set in (True, False):
        signal = Signal()
        async with anyio.create_task_group() as tasks:
            waiters = Waiters(tasks)
            for name in "abc":
                await waiters.add(name, signal.wait)
            if first_set:
                signal.set()
                waiters.cancel("a")
            else:
                waiters.cancel("a")
                signal.set()
        assert {"b", "c"} <= set(waiters.gone_on)


async def test_a_signal_that_is_set_is_not_waited_for_even_in_a_cancelled_scope() -> None:
    signal = Signal()
    signal.set()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await signal.wait()
    assert not scope.cancelled_caught


async def test_a_signal_says_what_it_is_and_how_it_stands() -> None:
    signal = Signal("the stop of camera")
    assert repr(signal) == "<the stop of camera, 0 waiting>"
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        await waiters.add("a", signal.wait)
        assert repr(signal) == "<the stop of camera, 1 waiting>"
        signal.set()
        assert repr(signal) == "<the stop of camera, set>"
    assert repr(signal) == "<the stop of camera, set>"


async def test_a_signal_can_be_set_by_the_outside_so_who_waits_for_it_is_idle() -> None:
    class Camera:
        name = "camera"
        finished = False

    assert Signal("the stop").waiting_for(Camera()) == Waiting("camera", "waits for the stop", None)


# -- Bell -------------------------------------------------------------------------------------------------------------


async def test_a_ring_wakes_those_who_wait_and_nobody_who_comes_later() -> None:
    bell = Bell()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        await waiters.add("a", bell.wait)
        await waiters.add("b", bell.wait)
        bell.ring()
        await rounds()
        assert sorted(waiters.gone_on) == ["a", "b"]
        await waiters.add("late", bell.wait)
        assert len(waiters.gone_on) == 2
        bell.ring()
    assert waiters.gone_on[2:] == ["late"]


async def test_a_ring_that_nobody_hears_is_gone() -> None:
    bell = Bell()
    bell.ring()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        await waiters.add("a", bell.wait)
        assert waiters.gone_on == []
        waiters.cancel("a")


async def test_a_bell_may_ring_again_before_those_who_heard_it_have_gone_on() -> None:
    bell = Bell()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        await waiters.add("a", bell.wait)
        bell.ring()
        bell.ring()
    assert waiters.gone_on == ["a"]


async def test_a_waiter_cancelled_in_the_moment_of_the_ring_does_not_keep_it_from_the_others() -> None:
    bell = Bell()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        for name in "abc":
            await waiters.add(name, bell.wait)
        bell.ring()
        waiters.cancel("a")
        await rounds()
        waiters.cancel("b")
    assert {"b", "c"} <= set(waiters.gone_on)


# -- Lock -------------------------------------------------------------------------------------------------------------


async def test_only_one_at_a_time_is_inside_and_all_come_in_the_order_of_their_coming() -> None:
    lock, inside, order = Lock(), 0, list[int]()

    async def visit(number: int) -> None:
        nonlocal inside
        async with lock:
            inside += 1
            assert inside == 1
            order.append(number)
            await rounds(number % 3)
            inside -= 1

    async with anyio.create_task_group() as tasks:
        async with lock:
            for number in range(10):
                tasks.start_soon(visit, number)
                await rounds()
            assert order == []
    assert order == list(range(10))


async def test_a_free_lock_is_entered_at_once() -> None:
    lock = Lock()
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with lock:
            pass
        async with lock:
            pass
    assert not scope.cancelled_caught


async def test_a_lock_is_free_again_after_an_error_inside() -> None:
    lock = Lock()
    with pytest.raises(ValueError, match="inside"):
        async with lock:
            raise ValueError("inside")
    with anyio.fail_after(5):
        async with lock:
            pass


async def test_who_comes_while_the_lock_is_being_handed_over_does_not_push_in() -> None:
    lock, order = Lock(), list[str]()

    async def visit(name: str) -> None:
        async with lock:
            order.append(name)

    async with anyio.create_task_group() as tasks:
        async with lock:
            tasks.start_soon(visit, "waiting")
            await rounds()
        # It is free now, and promised to the one who waits: it has been woken and has not run yet.
        await visit("pushing")
    assert order == ["waiting", "pushing"]


@pytest.mark.parametrize("cancelled", ["a", "b", "c", "ab", "ac", "bc", "abc"])
@pytest.mark.parametrize("when", ["while it is held", "as it is left", "just after it was left"])
async def test_a_waiter_that_is_cancelled_passes_the_lock_on(cancelled: str, when: str) -> None:
    lock = Lock()

    async def visit() -> None:
        async with lock:
            await take_turn()

    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        async with lock:
            for name in "abc":
                await waiters.add(name, visit)
            if when == "while it is held":
                for name in cancelled:
                    waiters.cancel(name)
                await rounds()
            elif when == "as it is left":
                for name in cancelled:
                    waiters.cancel(name)
        if when == "just after it was left":
            for name in cancelled:
                waiters.cancel(name)
        with anyio.fail_after(5):
            await rounds(40)
            async with lock:
                pass
        assert [name for name in waiters.gone_on if name not in cancelled] == sorted({"a", "b", "c"} - {*cancelled})


async def test_no_wake_up_is_lost_when_those_in_the_queue_are_cancelled_at_any_moment() -> None:
    for moment in range(16):
        lock, left = Lock(), list[int]()

        async def visit(number: int, lock: Lock = lock, left: list[int] = left) -> None:
            async with lock:
                await take_turn()
                left.append(number)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as staying, anyio.create_task_group() as leaving:
                for number in range(8):
                    (leaving if number % 2 else staying).start_soon(visit, number)
                await rounds(moment)
                leaving.cancel_scope.cancel()
        assert sorted(number for number in left if number % 2 == 0) == [0, 2, 4, 6]
