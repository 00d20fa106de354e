"""Virtual time: what is due, and who runs next. Small cases by hand, random ones against a naive sorted list."""

import gc
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from geartrain.rules.timestep import Agenda, Drive, Timeline, Timer, Waiter


class Waits:
    """A waiter with a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def release(self) -> bool:
        return True


def name_of(waiter: Waiter | None) -> str | None:
    assert waiter is None or isinstance(waiter, Waits)
    return None if waiter is None else waiter.name


# -- the timeline of one clock ----------------------------------------------------------------------------------------


def timeline_of(dues_ns: Iterable[int]) -> tuple[Timeline, list[Timer]]:
    timeline = Timeline(0)
    return timeline, [timeline.add(due_ns, number, Waits(str(number))) for number, due_ns in enumerate(dues_ns)]


def fired(timeline: Timeline, until_ns: int | None) -> list[tuple[str | None, int]]:
    """Everybody woken until then, with the time at which."""
    woken = []
    while (waiter := timeline.advance(until_ns)) is not None:
        woken.append((name_of(waiter), timeline.now_ns))
    return woken


def test_timers_fire_in_the_order_of_their_deadlines_and_time_moves_to_each() -> None:
    timeline, _ = timeline_of([30, 10, 20])
    assert fired(timeline, None) == [("1", 10), ("2", 20), ("0", 30)]


def test_timers_of_one_moment_fire_in_the_order_of_their_numbers_not_of_their_entry() -> None:
    timeline = Timeline(0)
    for number in (5, 3, 9, 1):
        timeline.add(7, number, Waits(str(number)))
    assert [name for name, _ in fired(timeline, None)] == ["1", "3", "5", "9"]


def test_time_stops_at_the_target_and_what_is_due_exactly_then_has_fired() -> None:
    timeline, _ = timeline_of([10, 20, 21])
    assert fired(timeline, 20) == [("0", 10), ("1", 20)]
    assert timeline.now_ns == 20
    assert len(timeline) == 1


def test_with_nothing_due_time_moves_to_the_target_or_without_one_stays() -> None:
    timeline, _ = timeline_of([])
    assert fired(timeline, 5) == []
    assert timeline.now_ns == 5
    assert fired(timeline, None) == []
    assert timeline.now_ns == 5


def test_a_timeline_says_when_the_next_may_be_due() -> None:
    timeline, timers = timeline_of([30, 10])
    assert timeline.next_ns() == 10
    timeline.cancel(timers[1])
    assert fired(timeline, 20) == []
    assert timeline.next_ns() == 30
    assert timeline_of([])[0].next_ns() is None


def test_time_never_goes_back() -> None:
    timeline, _ = timeline_of([10])
    timeline.advance(50)
    timeline.advance(50)
    late = timeline.add(20, 1, Waits("late"))
    assert fired(timeline, 30) == [("late", 50)]
    assert timeline.now_ns == 50
    assert late.waiter is None


def test_a_cancelled_timer_does_not_fire_and_does_not_move_time() -> None:
    timeline, (first, _, last) = timeline_of([10, 20, 30])
    timeline.cancel(first)
    timeline.cancel(last)
    assert len(timeline) == 1
    assert fired(timeline, None) == [("1", 20)]
    assert timeline.now_ns == 20


def test_to_cancel_twice_or_after_firing_changes_nothing() -> None:
    timeline, (first, second) = timeline_of([10, 20])
    timeline.advance(10)
    timeline.cancel(first)
    timeline.cancel(second)
    timeline.cancel(second)
    assert len(timeline) == 0
    timeline.add(30, 2, Waits("third"))
    assert len(timeline) == 1
    assert fired(timeline, None) == [("third", 30)]


def test_a_cancelled_timer_lets_go_of_its_waiter_at_once() -> None:
    timeline, (timer,) = timeline_of([10])
    timeline.cancel(timer)
    assert timer.waiter is None


def timers_in_memory() -> int:
    return sum(type(thing) is Timer for thing in gc.get_objects())


def test_cancelled_timers_do_not_pile_up_until_they_would_have_been_due() -> None:
    before = timers_in_memory()
    timeline = Timeline(0)
    kept = [timeline.add(10**9 + number, number, Waits(str(number))) for number in range(100)]
    for number in range(5_000):
        timeline.cancel(timeline.add(10**6, 100 + number, Waits("cancelled")))
    assert timers_in_memory() - before <= 2 * len(kept) + 65
    assert len(timeline) == len(kept)
    assert [name for name, _ in fired(timeline, None)] == [str(number) for number in range(100)]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 30)),
        st.tuples(st.just("cancel"), st.integers(0, 200)),
        st.tuples(st.just("advance"), st.none() | st.integers(0, 40)),
        st.tuples(st.just("cancel many"), st.integers(0, 3)),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=200)
@given(OPERATIONS)
def test_random_timelines_agree_with_a_sorted_list(operations: list[tuple[str, int | None]]) -> None:
    timeline, now_ns = Timeline(0), 0
    timers: list[Timer] = []
    model: dict[int, int] = {}  # number -> due
    for what, amount in operations:
        if what == "advance":
            until_ns = amount
            due = sorted((due_ns, number) for number, due_ns in model.items() if until_ns is None or due_ns <= until_ns)
            woken = name_of(timeline.advance(until_ns))
            if due:
                due_ns, number = due[0]
                del model[number]
                assert woken == str(number)
                now_ns = max(now_ns, due_ns)
            else:
                assert woken is None
                now_ns = max(now_ns, until_ns or 0)
            assert timeline.now_ns == now_ns
            continue
        assert amount is not None
        if what == "add":
            model[len(timers)] = amount
            timers.append(timeline.add(amount, len(timers), Waits(str(len(timers)))))
        elif what == "cancel" and timers:
            timeline.cancel(timers[amount % len(timers)])
            model.pop(amount % len(timers), None)
        elif what == "cancel many":
            # Enough to have the heap made anew.
            for number in range(len(timers), len(timers) + 70):
                timers.append(timeline.add(amount * 10, number, Waits(str(number))))
                timeline.cancel(timers[-1])
        assert len(timeline) == len(model)
    in_order = sorted(model, key=lambda number: (model[number], number))
    assert [name for name, _ in fired(timeline, None)] == [str(number) for number in in_order]


# -- who runs next ----------------------------------------------------------------------------------------------------


def order(agenda: Agenda, *, time_may_pass: bool = True) -> list[str | None]:
    """Everybody who is released, one after another, until nobody may go on."""
    released = []
    while (waiter := agenda.next(time_may_pass=time_may_pass)) is not None:
        released.append(name_of(waiter))
    return released


def test_the_numbers_of_waits_rise() -> None:
    agenda = Agenda()
    assert [agenda.number() for _ in range(4)] == [0, 1, 2, 3]


def test_first_come_first_served_among_the_woken() -> None:
    agenda = Agenda()
    for name in "cab":
        agenda.wake(Waits(name))
    assert order(agenda) == ["c", "a", "b"]


def test_cancelled_waits_leave_in_the_order_in_which_they_began_whatever_order_they_were_cancelled_in() -> None:
    agenda = Agenda()
    for number in (4, 1, 3):
        agenda.leave(number, Waits(str(number)))
    assert order(agenda) == ["1", "3", "4"]


def test_the_leaving_go_before_the_woken_and_the_woken_before_time() -> None:
    agenda, timeline = Agenda(), Timeline(0)
    timeline.add(0, 0, Waits("timer"))
    agenda.drive(timeline, 10, Waits("driver"))
    agenda.wake(Waits("woken"))
    agenda.leave(9, Waits("leaving"))
    assert order(agenda) == ["leaving", "woken", "timer", "driver"]
    assert timeline.now_ns == 10


def test_without_a_driver_time_stands_still() -> None:
    agenda, timeline = Agenda(), Timeline(0)
    timeline.add(1, 0, Waits("timer"))
    assert order(agenda) == []
    assert timeline.now_ns == 0
    assert not agenda.driven


def test_while_time_may_not_pass_the_woken_go_on_and_timers_wait() -> None:
    agenda, timeline = Agenda(), Timeline(0)
    timeline.add(0, 0, Waits("timer"))
    agenda.drive(timeline, 10, Waits("driver"))
    agenda.wake(Waits("woken"))
    assert order(agenda, time_may_pass=False) == ["woken"]
    assert order(agenda) == ["timer", "driver"]


def test_a_held_clock_stands_still_until_every_hold_is_over() -> None:
    agenda, timeline = Agenda(), Timeline(0)
    timeline.add(5, 0, Waits("timer"))
    agenda.drive(timeline, 10, Waits("driver"))
    timeline.holds = 2
    assert order(agenda) == []
    timeline.holds = 1
    agenda.wake(Waits("woken"))
    assert order(agenda) == ["woken"]
    assert timeline.now_ns == 0
    timeline.holds = 0
    assert order(agenda) == ["timer", "driver"]


def test_a_driver_arrives_when_nothing_is_due_before_its_target_and_is_a_driver_no_more() -> None:
    agenda, timeline = Agenda(), Timeline(0)
    timeline.add(11, 0, Waits("later"))
    agenda.drive(timeline, 10, Waits("driver"))
    assert agenda.driven
    assert order(agenda) == ["driver"]
    assert timeline.now_ns == 10
    assert not agenda.driven


def test_a_driver_without_a_target_arrives_when_nothing_is_due_at_all() -> None:
    agenda, timeline = Agenda(), Timeline(0)
    timeline.add(7, 0, Waits("a"))
    timeline.add(3, 1, Waits("b"))
    agenda.drive(timeline, None, Waits("driver"))
    assert order(agenda) == ["b", "a", "driver"]
    assert timeline.now_ns == 7


def test_of_several_drivers_of_one_clock_the_nearest_arrives_first_and_one_without_a_target_last() -> None:
    agenda, timeline = Agenda(), Timeline(0)
    for name, until_ns in (("without", None), ("far", 20), ("near", 5), ("near too", 5), ("zero", 0)):
        agenda.drive(timeline, until_ns, Waits(name))
    timeline.add(10, 0, Waits("timer"))
    assert order(agenda) == ["zero", "near", "near too", "timer", "far", "without"]


def test_the_clock_of_the_youngest_driver_goes_first_and_the_others_stand_still() -> None:
    agenda, outer, inner = Agenda(), Timeline(0), Timeline(0)
    outer.add(1, 0, Waits("outer timer"))
    inner.add(100, 1, Waits("inner timer"))
    agenda.drive(outer, 10, Waits("outer driver"))
    agenda.drive(inner, 1000, Waits("inner driver"))
    assert name_of(agenda.next(time_may_pass=True)) == "inner timer"
    assert outer.now_ns == 0
    assert order(agenda) == ["inner driver", "outer timer", "outer driver"]


def test_a_driver_that_gives_up_leaves_its_clock_where_it_is() -> None:
    agenda, timeline = Agenda(), Timeline(0)
    timeline.add(3, 0, Waits("timer"))
    drive = agenda.drive(timeline, 10, Waits("driver"))
    assert name_of(agenda.next(time_may_pass=True)) == "timer"
    agenda.give_up(drive)
    assert order(agenda) == []
    assert timeline.now_ns == 3


def test_to_give_up_after_arriving_changes_nothing() -> None:
    agenda, timeline = Agenda(), Timeline(0)
    drive = agenda.drive(timeline, 1, Waits("first"))
    assert order(agenda) == ["first"]
    agenda.drive(timeline, 2, Waits("second"))
    agenda.give_up(drive)
    assert order(agenda) == ["second"]


class NaiveAgenda:
    """The rules of the agenda, said with sorted lists and no care for speed."""

    def __init__(self) -> None:
        self.leaving: list[tuple[int, str]] = []
        self.ready: list[str] = []
        self.drives: list[tuple[int, int | None, str]] = []
        self.timers: list[tuple[int, int, int, str]] = []  # clock, due, number, name
        self.now = [0, 0]
        self.holds = [0, 0]

    def next(self, *, time_may_pass: bool) -> str | None:
        if self.leaving:
            self.leaving.sort()
            return self.leaving.pop(0)[1]
        if self.ready:
            return self.ready.pop(0)
        if not self.drives or not time_may_pass:
            return None
        clock = self.drives[-1][0]
        if self.holds[clock]:
            return None
        targets = [drive for drive in self.drives if drive[0] == clock]
        drive = sorted(targets, key=lambda drive: 10**9 if drive[1] is None else drive[1])[0]
        until = 10**9 if drive[1] is None else drive[1]
        due = sorted(timer for timer in self.timers if timer[0] == clock and timer[1] <= until)
        if due:
            self.timers.remove(due[0])
            self.now[clock] = max(self.now[clock], due[0][1])
            return due[0][3]
        self.drives.remove(drive)
        if drive[1] is not None:
            self.now[clock] = max(self.now[clock], drive[1])
        return drive[2]


CLOCK = st.integers(0, 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["wake", "leave", "hold", "release", "next", "next", "next", "wait"]), CLOCK),
        st.tuples(st.just("add"), CLOCK, st.integers(0, 20)),
        st.tuples(st.just("drive"), CLOCK, st.none() | st.integers(0, 25)),
        st.tuples(st.just("give up"), st.integers(0, 20)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(STEPS)
def test_random_agendas_agree_with_a_naive_one(steps: list[tuple[str, int] | tuple[str, int, int | None]]) -> None:
    agenda, naive = Agenda(), NaiveAgenda()
    clocks = [Timeline(0), Timeline(0)]
    drives: list[tuple[Drive, tuple[int, int | None, str]]] = []
    timers: list[tuple[Timeline, Timer, tuple[int, int, int, str]]] = []
    for step in steps:
        number = agenda.number()
        name = str(number)
        match step:
            case ("wake", _):
                agenda.wake(Waits(name))
                naive.ready.append(name)
            case ("leave", _):
                # As if waits that began long ago were cancelled in any order.
                agenda.leave(number * 37 % 101, Waits(name))
                naive.leaving.append((number * 37 % 101, name))
            case ("hold", int(clock)):
                clocks[clock].holds += 1
                naive.holds[clock] += 1
            case ("release", int(clock)) if naive.holds[clock]:
                clocks[clock].holds -= 1
                naive.holds[clock] -= 1
            case ("add", int(clock), int(due)):
                timer = (clock, due, number, name)
                timers.append((clocks[clock], clocks[clock].add(due, number, Waits(name)), timer))
                naive.timers.append(timer)
            case ("cancel", int(which)) if timers:
                timeline, real, timer = timers[which % len(timers)]
                timeline.cancel(real)
                naive.timers = [other for other in naive.timers if other != timer]
            case ("drive", int(clock), until):
                drive = (clock, until, name)
                drives.append((agenda.drive(clocks[clock], until, Waits(name)), drive))
                naive.drives.append(drive)
            case ("give up", int(which)) if drives:
                real_drive, drive = drives[which % len(drives)]
                agenda.give_up(real_drive)
                naive.drives = [other for other in naive.drives if other != drive]
            case ("next" | "wait" as what, _):
                may_pass = what == "next"
                assert name_of(agenda.next(time_may_pass=may_pass)) == naive.next(time_may_pass=may_pass)
        assert [clock.now_ns for clock in clocks] == naive.now
        assert agenda.driven == bool(naive.drives)
