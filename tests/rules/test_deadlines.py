"""The timer heap: small cases by hand, random histories against a naive list."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from geartrain.rules.deadlines import Deadline, Deadlines, Firing, Missed, PeriodicDeadline, ns_rounded_up


def nothing() -> None: ...


def deadlines_at(*dues_ns: int) -> tuple[Deadlines, list[Deadline]]:
    heap = Deadlines()
    made = [Deadline(heap, due_ns, nothing, str(number)) for number, due_ns in enumerate(dues_ns)]
    for deadline in made:
        heap.insert(deadline)
    return heap, made


def taken(heap: Deadlines, now_ns: int) -> list[str]:
    """The names of one round."""
    return [firing.deadline.name for firing in iter(lambda: heap.take(now_ns), None)]


# -- firing ---------------------------------------------------------------------------------------------------------


def test_nothing_fires_before_its_time_and_everything_at_it() -> None:
    heap, (deadline,) = deadlines_at(1000)
    assert taken(heap, 999) == []
    assert not deadline.fired
    assert taken(heap, 1000) == ["0"]
    assert deadline.fired
    assert taken(heap, 1000) == []


def test_the_order_is_that_of_due_times_and_of_insertion_at_one_time() -> None:
    heap, _ = deadlines_at(30, 10, 20, 10, 10)
    assert heap.next_ns() == 10
    assert taken(heap, 100) == ["1", "3", "4", "2", "0"]
    assert heap.next_ns() is None


def test_what_joins_a_round_in_the_past_waits_for_the_next_and_comes_first_there() -> None:
    heap, _ = deadlines_at(10, 20)
    assert heap.take(50) is not None
    for due_ns in (5, 50, 51):
        heap.insert(Deadline(heap, due_ns, nothing, f"joined {due_ns}"))
    assert heap.next_ns() == 5
    assert taken(heap, 60) == ["1"]
    assert heap.next_ns() == 5
    heap.insert(Deadline(heap, 3, nothing, "between rounds"))
    assert heap.next_ns() == 3
    assert taken(heap, 60) == ["between rounds", "joined 5", "joined 50", "joined 51"]


def test_whoever_schedules_itself_in_the_past_for_ever_holds_nobody_up() -> None:
    heap, _ = deadlines_at(*range(100, 200))
    for number in range(200):
        heap.insert(Deadline(heap, 0, nothing, f"restless {number}"))
    once = 0
    for firing in iter(lambda: heap.take(1000), None):
        if firing.deadline.name.startswith("restless"):
            heap.insert(Deadline(heap, 0, nothing, "restless"))
        else:
            once += 1
    assert once == 100
    assert heap.pending == 200


def test_a_fired_deadline_lets_go_of_its_callback_and_a_cancelled_one_too() -> None:
    heap = Deadlines()
    for use in (lambda deadline: heap.take(10), lambda deadline: deadline.cancel()):
        callback = Callback()
        known = weakref.ref(callback)
        deadline = Deadline(heap, 5, callback)
        heap.insert(deadline)
        del callback
        use(deadline)
        gc.collect()
        assert known() is None


class Callback:
    def __call__(self) -> None: ...


# -- cancelling -----------------------------------------------------------------------------------------------------


def test_a_cancelled_deadline_does_not_fire_and_is_counted_once_and_at_once() -> None:
    heap, (deadline, _) = deadlines_at(10, 10)
    assert deadline.cancel()
    assert not deadline.cancel()
    assert (heap.pending, heap.cancelled_count) == (1, 1)
    assert taken(heap, 10) == ["1"]
    assert (deadline.cancelled, deadline.fired) == (True, False)


def test_to_cancel_what_has_fired_changes_no_count() -> None:
    heap, (deadline,) = deadlines_at(10)
    taken(heap, 10)
    assert not deadline.cancel()
    assert (deadline.cancelled, deadline.fired) == (True, True)
    assert (heap.pending, heap.cancelled_count) == (0, 0)


def test_nobody_cancels_the_deadline_of_another_heap() -> None:
    heap, (deadline,) = deadlines_at(10)
    other, _ = deadlines_at(10)
    assert not other.cancel(deadline)
    assert (heap.pending, other.pending) == (1, 1)


def test_one_may_cancel_another_of_the_same_round() -> None:
    heap, (_, second, _) = deadlines_at(10, 10, 10)
    assert heap.take(10) is not None
    assert second.cancel()
    assert taken(heap, 10) == ["2"]


def test_the_cancelled_are_swept_out_when_they_are_most() -> None:
    heap, made = deadlines_at(*range(20_000))
    for deadline in made:
        deadline.cancel()
        assert len(heap) <= 2 * heap.pending + 65
    assert len(heap) <= 64
    assert (heap.pending, heap.cancelled_count) == (0, 20_000)
    assert heap.next_ns() is None
    assert len(heap) == 0


def test_dropped_deadlines_are_neither_fired_nor_cancelled_and_cannot_be_any_more() -> None:
    heap, (deadline, other) = deadlines_at(10, 20)
    other.cancel()
    assert heap.drop() == [nothing]
    assert (heap.pending, len(heap), heap.next_ns()) == (0, 0, None)
    assert (deadline.fired, deadline.cancelled) == (False, False)
    assert not deadline.cancel()
    assert (heap.pending, heap.cancelled_count) == (0, 1)


# -- periodic -------------------------------------------------------------------------------------------------------


def periodic(missed: Missed, burst: int = 1) -> tuple[Deadlines, PeriodicDeadline]:
    """Every 10, from 0 on."""
    heap = Deadlines()
    deadline = PeriodicDeadline(heap, 0, 10, nothing, "tick", missed=missed, burst=burst)
    heap.insert(deadline)
    return heap, deadline


def served(heap: Deadlines, *times_ns: int) -> list[int]:
    """What was due that fires when time is looked at then, each time until there is nothing more."""
    dues = []
    for now_ns in times_ns:
        while (next_ns := heap.next_ns()) is not None and next_ns <= now_ns:
            dues += [firing.due_ns for firing in iter(lambda now_ns=now_ns: heap.take(now_ns), None)]  # type: ignore[misc]
    return dues


@pytest.mark.parametrize("missed", ["skip", "burst", "delay"])
def test_in_time_every_policy_keeps_the_grid(missed: Missed) -> None:
    heap, deadline = periodic(missed)
    assert served(heap, 9, 10, 21, 30, 49) == [10, 20, 30, 40]
    assert (deadline.missed, deadline.fired_count, deadline.due_ns, heap.pending) == (0, 4, 50, 1)


@pytest.mark.parametrize(
    ("missed", "burst", "dues", "lost"),
    [
        ("skip", 1, [10, 40, 50], 2),  # one late call, then the grid goes on
        ("burst", 1, [10, 30, 40, 50], 1),
        ("burst", 8, [10, 20, 30, 40, 50], 0),
        ("delay", 1, [10, 45], 2),  # the grid is shifted: 45, 55 ...
    ],
)
def test_after_a_stall_of_35_the_policy_says_what_comes_next(
    missed: Missed, burst: int, dues: list[int], lost: int
) -> None:
    heap, deadline = periodic(missed, burst)
    assert served(heap, 35, 45, 50) == dues
    assert deadline.missed == lost


def test_a_periodic_deadline_can_be_cancelled_by_its_own_call() -> None:
    heap, deadline = periodic("skip")
    assert heap.take(10) is not None
    assert deadline.fired
    assert deadline.cancel()
    assert served(heap, 100) == []
    assert (heap.pending, heap.cancelled_count) == (0, 1)


def test_a_burst_that_is_behind_goes_on_in_the_next_round() -> None:
    heap, _ = periodic("burst", burst=1000)
    assert taken(heap, 10_000) == ["tick"]
    assert taken(heap, 10_000) == ["tick"]


def test_a_hundred_thousand_periods_do_not_drift() -> None:
    heap, deadline = periodic("skip")
    for slot in range(1, 100_001):
        firing = heap.take(slot * 10 + slot % 10)
        assert firing is not None
        assert firing.due_ns == slot * 10
        heap.take(slot * 10)
    assert deadline.missed == 0


# -- seconds --------------------------------------------------------------------------------------------------------


@given(st.floats(0, 1e6))
def test_seconds_are_rounded_up_to_nanoseconds_and_by_no_more_than_one(seconds: float) -> None:
    ns = ns_rounded_up(seconds)
    assert ns / 1e9 >= seconds
    assert (ns - 1) / 1e9 < seconds or (ns - 2) / 1e9 < seconds


def test_a_decimal_fraction_is_what_it_says() -> None:
    assert [ns_rounded_up(tenths / 10) for tenths in range(1000)] == [tenths * 10**8 for tenths in range(1000)]
    assert ns_rounded_up(1.0000000004) == 1_000_000_001


# -- random histories -----------------------------------------------------------------------------------------------


class Naive(RuleBasedStateMachine):
    """Against a list that is searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.heap = Deadlines()
        self.made: list[Deadline] = []
        self.alive: list[tuple[int, int, Deadline]] = []
        self.inserted = 0
        self.cancelled = 0

    def put(self, deadline: Deadline) -> None:
        self.heap.insert(deadline)
        self.made.append(deadline)
        self.note(deadline)

    def note(self, deadline: Deadline) -> None:
        self.inserted += 1
        self.alive.append((deadline.due_ns, self.inserted, deadline))

    @rule(delay=st.integers(-20, 20))
    def insert(self, delay: int) -> None:
        self.put(Deadline(self.heap, self.now_ns + delay, nothing))

    @rule(delay=st.integers(-20, 5), period=st.integers(1, 7), missed=st.sampled_from(["skip", "burst", "delay"]))
    def insert_periodic(self, delay: int, period: int, missed: Missed) -> None:
        self.put(PeriodicDeadline(self.heap, self.now_ns + delay, period, nothing, missed=missed, burst=2))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.made:
            deadline = data.draw(st.sampled_from(self.made))
            is_alive = any(other is deadline for _, _, other in self.alive)
            assert deadline.cancel() == is_alive
            self.alive = [entry for entry in self.alive if entry[2] is not deadline]
            self.cancelled += is_alive

    @rule()
    def cancel_many(self) -> None:
        """So that they are swept out."""
        for number in range(70):
            self.insert(number % 40 - 20)
            assert self.made[-1].cancel()
            self.alive.pop()
            self.cancelled += 1

    @rule(passes=st.integers(0, 30), data=st.data())
    def fire(self, passes: int, data: st.DataObject) -> None:
        self.now_ns += passes
        own = sorted(entry for entry in self.alive if entry[0] <= self.now_ns)
        for firing in iter(lambda: self.heap.take(self.now_ns), None):
            # What has been cancelled meanwhile is passed over.
            while own[0] not in self.alive:
                own.pop(0)
            expected = own.pop(0)
            self.check(firing, expected)
            do: Callable[..., Any] = data.draw(st.sampled_from([lambda **_: None, self.insert, self.cancel]))
            do(**({"delay": data.draw(st.integers(-20, 20))} if do == self.insert else {"data": data}))
        assert not [entry for entry in own if entry in self.alive]

    def check(self, firing: Firing, expected: tuple[int, int, Deadline]) -> None:
        assert (firing.due_ns, firing.deadline) == (expected[0], expected[2])
        self.alive.remove(expected)
        if isinstance(firing.deadline, PeriodicDeadline):
            self.note(firing.deadline)

    @rule()
    def drop(self) -> None:
        assert len(self.heap.drop()) == len(self.alive)
        self.alive.clear()

    @invariant()
    def the_counts_agree(self) -> None:
        assert self.heap.pending == len(self.alive)
        assert self.heap.cancelled_count == self.cancelled
        assert self.heap.next_ns() == min((due_ns for due_ns, _, _ in self.alive), default=None)
        assert len(self.heap) <= 2 * self.heap.pending + 65


TestRandomHistories = Naive.TestCase
TestRandomHistories.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
