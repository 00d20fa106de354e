"""Microsteps: who runs next. Small cases by hand, all short histories and random ones against a naive model."""

import itertools
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geartrain.errors import NotInUse
from geartrain.rules.effects import BACKWARD, FORWARD, Effect, End, Item, Said
from geartrain.rules.microsteps import Microsteps
from geartrain.rules.timestep import Timeline, Timer, Waiter


class Waits:
    """A waiter of a daemon."""

    def __init__(self, agenda: Microsteps, daemon: str, name: str = "") -> None:
        self.number = agenda.number(daemon)
        self.name = name or f"{daemon}{self.number[1]}"

    def __repr__(self) -> str:
        return self.name

    def release(self) -> bool:
        return True


def name_of(waiter: Waiter | None) -> str | None:
    assert waiter is None or isinstance(waiter, Waits)
    return None if waiter is None else waiter.name


def order(agenda: Microsteps, *, time_may_pass: bool = True) -> list[tuple[str | None, int, int]]:
    """Everybody who is released until nobody may go on, with the instant."""
    released = []
    while (waiter := agenda.next(time_may_pass=time_may_pass)) is not None:
        released.append((name_of(waiter), agenda.timeline.now_ns, agenda.k))
    return released


def names(released: Iterable[tuple[str | None, int, int]]) -> list[str | None]:
    return [name for name, _, _ in released]


def new_agenda(limit: int = 100) -> Microsteps:
    return Microsteps(Timeline(0), limit)


def waits_of(agenda: Microsteps, daemons: str) -> list[Waits]:
    return [Waits(agenda, daemon) for daemon in daemons]


def test_numbers_are_counted_for_each_daemon() -> None:
    agenda = new_agenda()
    assert [agenda.number(daemon) for daemon in "abab"] == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


@pytest.mark.parametrize("woken", list(itertools.permutations(range(4))))
def test_the_ready_go_by_daemon_and_number_whatever_order_they_were_woken_in(woken: Sequence[int]) -> None:
    agenda = new_agenda()
    waits = waits_of(agenda, "baab")
    for index in woken:
        agenda.wake(waits[index])
    assert names(order(agenda)) == ["a1", "a2", "b1", "b2"]


def test_inside_before_heard_before_due_before_home() -> None:
    agenda = new_agenda()
    home, due, heard, inside, leaving = waits_of(agenda, "aaaaa")
    agenda.come_home(home)
    agenda.rest(due)
    agenda.post(Effect("c", FORWARD, 1, End()), lambda _: agenda.wake(heard))
    assert names(order(agenda, time_may_pass=False)) == ["a1"]
    agenda.come_home(home)
    # Those who are inside of the next microstep join while it is worked off.
    first = agenda.next(time_may_pass=True)
    assert name_of(first) == "a1"
    second = agenda.next(time_may_pass=True)
    assert name_of(second) == "a3"
    agenda.wake(inside)
    agenda.leave(leaving.number, leaving)
    agenda.come_home(home)
    assert order(agenda) == [("a4", 0, 1), ("a5", 0, 1), ("a2", 0, 1), ("a1", 0, 1)]


def test_what_is_said_in_a_microstep_is_heard_in_the_next_by_channel_direction_and_order() -> None:
    agenda, heard = new_agenda(), list[tuple[str, int, int, int]]()
    turns = [(channel, direction, number) for channel in "xy" for direction in (FORWARD, BACKWARD) for number in (1, 2)]
    for channel, direction, number in reversed(turns):
        effect = Effect(channel, direction, number, Item(number, b""))
        agenda.post(effect, lambda _, turn=effect.turn: heard.append((*turn, agenda.k)))  # type: ignore[misc]
    (last,) = waits_of(agenda, "a")
    agenda.wake(last)
    assert name_of(agenda.next(time_may_pass=True)) == "a1"
    assert heard == []
    assert order(agenda) == []
    assert heard == [(*turn, 1) for turn in turns]


def test_all_effects_are_heard_before_anybody_runs() -> None:
    agenda, heard = new_agenda(), list[str]()
    waits = waits_of(agenda, "ab")

    def hear(name: str, wait: Waits) -> None:
        heard.append(name)
        agenda.wake(wait)

    for name, wait in zip("xy", waits, strict=True):
        agenda.post(Effect(name, FORWARD, 1, End()), lambda _, name=name, wait=wait: hear(name, wait))  # type: ignore[misc]
    assert name_of(agenda.next(time_may_pass=True)) == "a1"
    assert heard == ["x", "y"]


def test_what_is_said_while_effects_are_heard_waits_for_the_next_microstep() -> None:
    agenda, heard = new_agenda(), list[int]()

    def answer(_: Said) -> None:
        heard.append(agenda.k)
        if agenda.k < 3:
            agenda.post(Effect("c", BACKWARD, agenda.k, End()), answer)

    agenda.post(Effect("c", FORWARD, 1, End()), answer)
    assert order(agenda) == []
    assert heard == [1, 2, 3]


def test_a_sleep_of_no_length_goes_on_in_the_next_microstep_and_without_a_driver() -> None:
    agenda = new_agenda()
    rests, ready = waits_of(agenda, "ab")
    agenda.rest(rests)
    agenda.wake(ready)
    assert order(agenda) == [("b1", 0, 0), ("a1", 0, 1)]


def test_time_passes_when_no_microstep_is_left_and_begins_at_microstep_0() -> None:
    agenda = new_agenda()
    late, soon, rests, driver = waits_of(agenda, "bacd")
    agenda.timeline.add(5, late.number, late)
    agenda.timeline.add(5, soon.number, soon)
    agenda.rest(rests)
    agenda.drive(agenda.timeline, 9, driver)
    assert order(agenda) == [("c1", 0, 1), ("a1", 5, 0), ("b1", 5, 0), ("d1", 9, 0)]


def test_whoever_is_woken_inside_goes_before_the_timers_of_the_same_instant() -> None:
    agenda = new_agenda()
    first, second, woken, driver = waits_of(agenda, "abad")
    agenda.timeline.add(5, first.number, first)
    agenda.timeline.add(5, second.number, second)
    agenda.drive(agenda.timeline, None, driver)
    assert name_of(agenda.next(time_may_pass=True)) == "a1"
    agenda.wake(woken)
    assert order(agenda) == [("a2", 5, 0), ("b1", 5, 0), ("d1", 5, 0)]


@pytest.mark.parametrize("how", ["thread", "hold"])
def test_a_microstep_stays_open_while_there_is_work_outside(how: str) -> None:
    agenda = new_agenda()
    ready, rests = waits_of(agenda, "ab")
    agenda.rest(rests)
    agenda.wake(ready)
    agenda.timeline.holds = int(how == "hold")
    assert order(agenda, time_may_pass=how != "thread") == [("a1", 0, 0)]
    agenda.timeline.holds = 0
    assert order(agenda) == [("b1", 0, 1)]


def test_a_cancelled_timer_neither_fires_nor_moves_time() -> None:
    agenda = new_agenda()
    gone, stays, driver = waits_of(agenda, "abd")
    timer = agenda.timeline.add(3, gone.number, gone)
    agenda.timeline.add(4, stays.number, stays)
    agenda.drive(agenda.timeline, None, driver)
    agenda.timeline.cancel(timer)
    assert order(agenda) == [("b1", 4, 0), ("d1", 4, 0)]


def test_without_a_driver_time_stands_still() -> None:
    agenda = new_agenda()
    (sleeper,) = waits_of(agenda, "a")
    agenda.timeline.add(3, sleeper.number, sleeper)
    assert order(agenda) == []
    assert agenda.timeline.now_ns == 0


def test_a_driver_that_gives_up_leaves_its_clock_where_it_is() -> None:
    agenda = new_agenda()
    (driver,) = waits_of(agenda, "d")
    agenda.give_up(agenda.drive(agenda.timeline, 10, driver))
    assert order(agenda) == []
    assert not agenda.driven


def test_another_clock_is_not_driven_beside_the_one_with_microsteps() -> None:
    agenda = new_agenda()
    with pytest.raises(NotInUse, match="another clock cannot be driven"):
        agenda.drive(Timeline(0), 1, Waits(agenda, "d"))


def test_too_many_microsteps_in_one_instant_are_told_to_the_driver_with_who_was_awake() -> None:
    agenda = new_agenda(limit=50)
    driver, early = Waits(agenda, "", "driver"), Waits(agenda, "early")
    drive = agenda.drive(agenda.timeline, None, driver)
    agenda.wake(early)
    for poll in waits_of(agenda, "ba"):
        agenda.rest(poll)
    for _ in range(1 + 2 * 50):
        woken = agenda.next(time_may_pass=True)
        assert isinstance(woken, Waits)
        if woken is not early:
            agenda.rest(woken)
    assert name_of(agenda.next(time_may_pass=True)) == "driver"
    assert agenda.k == 50
    assert drive.livelock == ("a", "b")
    # What has to be cleaned up may go on.
    assert order(agenda) == [("a1", 0, 51), ("b1", 0, 51)]


def test_the_limit_is_for_one_instant_only() -> None:
    agenda = new_agenda(limit=3)
    (driver,) = waits_of(agenda, "d")
    drive = agenda.drive(agenda.timeline, None, driver)
    released = 0
    for due in range(1, 20):
        sleeper, rests = waits_of(agenda, "ab")
        agenda.timeline.add(due, sleeper.number, sleeper)
        agenda.rest(rests)
        released += len([agenda.next(time_may_pass=True) for _ in range(2)])
    assert released == 38
    assert drive.livelock is None


class Naive:
    """The rules said with sorted lists and no care for speed."""

    def __init__(self) -> None:
        self.now, self.k = 0, 0
        self.ready: list[tuple[int, tuple[str, int], str]] = []
        self.resting: list[tuple[tuple[str, int], str]] = []
        self.effects: list[tuple[tuple[str, int, int], tuple[str, int], str]] = []
        self.timers: list[tuple[int, tuple[str, int], str]] = []
        self.drives: list[tuple[int, str]] = []
        self.held = 0

    def next(self, *, time_may_pass: bool) -> str | None:
        while True:
            due = [(2, number, name) for due_ns, number, name in self.timers if due_ns <= self.now]
            here = sorted(self.ready + due)
            if here:
                if here[0] in self.ready:
                    self.ready.remove(here[0])
                else:
                    self.timers = [timer for timer in self.timers if timer[2] != here[0][2]]
                return here[0][2]
            if not time_may_pass or self.held:
                return None
            if self.effects or self.resting:
                self.k += 1
                self.ready = [(1, number, name) for _, number, name in self.effects]
                self.ready += [(2, number, name) for number, name in self.resting]
                self.effects, self.resting = [], []
                continue
            if not self.drives:
                return None
            until, driver = min(self.drives, key=lambda drive: drive[0])
            least = min((due_ns for due_ns, _, _ in self.timers), default=until + 1)
            moved = min(least, until)
            if moved > self.now:
                self.now, self.k = moved, 0
            if least > until:
                self.drives.remove((until, driver))
                return driver


STEP = st.one_of(
    st.tuples(st.sampled_from(["wake", "leave", "rest", "post", "home"]), st.sampled_from("abc")),
    st.tuples(st.just("add"), st.sampled_from("abc"), st.integers(0, 6)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("drive"), st.integers(0, 9)),
    st.tuples(st.sampled_from(["hold", "release", "next", "next", "next", "next inside"])),
)


@settings(deadline=None, max_examples=500)
@given(st.lists(STEP, max_size=50))
def test_random_agendas_agree_with_a_naive_one(steps: list[tuple[str | int, ...]]) -> None:
    assert_agreement(steps)


SMALL: list[tuple[str | int, ...]] = [
    ("wake", "b"), ("rest", "a"), ("post", "a"), ("home", "a"), ("add", "a", 1), ("drive", 1), ("next",),
]  # fmt: skip


@pytest.mark.parametrize("first", SMALL, ids=str)
def test_all_short_histories_agree_with_the_naive_one(first: tuple[str | int, ...]) -> None:
    for rest in itertools.product(SMALL, repeat=4):
        assert_agreement([first, *rest, *[("next",)] * 6])


def assert_agreement(steps: Sequence[tuple[str | int, ...]]) -> None:
    agenda, naive = Microsteps(Timeline(0), 10_000), Naive()
    timers: list[tuple[Timer, str]] = []
    orders = itertools.count()
    for step in steps:
        match step:
            case ("next",) | ("next inside",):
                may_pass = step == ("next",)
                assert name_of(agenda.next(time_may_pass=may_pass)) == naive.next(time_may_pass=may_pass)
                assert (agenda.timeline.now_ns, agenda.k) == (naive.now, naive.k)
            case ("hold",):
                agenda.timeline.holds += 1
                naive.held += 1
            case ("release",) if naive.held:
                agenda.timeline.holds -= 1
                naive.held -= 1
            case ("cancel", int(which)) if timers:
                timer, name = timers[which % len(timers)]
                agenda.timeline.cancel(timer)
                naive.timers = [other for other in naive.timers if other[2] != name]
            case ("drive", int(target)):
                driver = Waits(agenda, "driver")
                agenda.drive(agenda.timeline, target, driver)
                naive.drives.append((target, driver.name))
            case ("add", str(daemon), int(due)):
                sleeper = Waits(agenda, daemon)
                # A wait for what is past is a sleep of no length.
                due_ns = agenda.timeline.now_ns + 1 + due
                timers.append((agenda.timeline.add(due_ns, sleeper.number, sleeper), sleeper.name))
                naive.timers.append((due_ns, sleeper.number, sleeper.name))
            case (str(what), str(daemon)):
                wait = Waits(agenda, daemon)
                match what:
                    case "wake":
                        agenda.wake(wait)
                        naive.ready.append((0, wait.number, wait.name))
                    case "leave":
                        agenda.leave(wait.number, wait)
                        naive.ready.append((0, wait.number, wait.name))
                    case "home":
                        agenda.come_home(wait)
                        naive.ready.append((3, wait.number, wait.name))
                    case "rest":
                        agenda.rest(wait)
                        naive.resting.append((wait.number, wait.name))
                    case _:
                        effect = Effect(daemon, FORWARD, next(orders), End())
                        agenda.post(effect, lambda _, wait=wait: agenda.wake(wait))  # type: ignore[misc]
                        naive.effects.append((effect.turn, wait.number, wait.name))
