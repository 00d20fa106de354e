"""Kernels of many processes under one barrier do, at every instant, what one kernel does that has all daemons."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geartrain.rules.barrier import NEVER, Barrier, Go, Report
from geartrain.rules.deadlock import Waiting
from geartrain.rules.effects import FORWARD, Effect, Item, Said
from geartrain.rules.granted import Granted, GrantedMicrosteps
from geartrain.rules.microsteps import Microsteps
from geartrain.rules.timestep import Number, Timeline

Act = tuple[Literal["sleep", "rest", "tell", "hear"], int]
Seen = tuple[str, int, int, str]


class Daemon:
    """Does what its script says. What it is told lies in its box until it is to hear something."""

    def __init__(self, name: str, script: Sequence[Act], home: "Home") -> None:
        self.name = name
        self._script = deque(script)
        self._home = home
        self._box: deque[bytes] = deque()
        self._hears = False
        self._said = 0
        self.number: Number = (name, 0)

    def release(self) -> bool:
        kernel = self._home.kernel
        self.see("goes on")
        while self._script:
            self.number = kernel.number(self.name)
            match self._script.popleft():
                case "sleep", length:
                    kernel.timeline.add(kernel.timeline.now_ns + length, self.number, self)
                    return True
                case "rest", _:
                    kernel.rest(self)
                    return True
                case "tell", other:
                    self._tell(f"d{other}")
                case "hear", _:
                    if not self._box:
                        self._hears = True
                        return True
                    self.see(self._box.popleft().decode())
        return True

    def _tell(self, other: str) -> None:
        self._said += 1
        kernel = self._home.kernel
        text = f"{self.name} at {kernel.timeline.now_ns} {kernel.k}"
        self._home.send(other, Effect(f"{self.name}-{other}", FORWARD, self._said, Item(self._said, text.encode())))

    def hear(self, said: Said) -> None:
        assert isinstance(said, Item)
        self.see(f"is told {said.payload.decode()}")
        self._box.append(said.payload)
        if self._hears:
            self._hears = False
            self.see(self._box.popleft().decode())
            self._home.kernel.wake(self)

    def see(self, what: str) -> None:
        kernel = self._home.kernel
        self._home.seen.append((self.name, kernel.timeline.now_ns, kernel.k, what))


@dataclass
class Home:
    """A process: its kernel and its daemons."""

    kernel: Microsteps
    where: dict[str, str]
    daemons: dict[str, Daemon] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def begin(self, scripts: Sequence[Sequence[Act]], names: Sequence[str]) -> None:
        for name in names:
            daemon = self.daemons[name] = Daemon(name, scripts[int(name[1:])], self)
            daemon.number = self.kernel.number(name)
            self.kernel.wake(daemon)

    def send(self, other: str, effect: Effect) -> None:
        if other in self.daemons:
            self.kernel.post(effect, self.daemons[other].hear)
        else:
            assert isinstance(self.kernel, GrantedMicrosteps)
            self.kernel.post_to(self.where[other], effect)


class Arrival:
    """The driver."""

    number: Number = ("", 0)

    def release(self) -> bool:
        return True


class Asks(Exception):
    """The kernel has nothing to do; called again it finds the answer."""


class Desk:
    """Where a kernel asks."""

    def __init__(self) -> None:
        self.report: Report | None = None
        self.said: dict[str, list[Effect]] = {}
        self.granted: Granted | None = None
        self.gone: list[str] = []

    def ask(self, report: Report, said: dict[str, list[Effect]]) -> Granted:
        if self.granted is None:
            self.report, self.said = report, said
            raise Asks
        granted, self.granted = self.granted, None
        return granted

    def waits(self) -> tuple[Sequence[Waiting], Sequence[str]]:
        return (), ()

    def has_gone(self, process: str) -> None:
        self.gone.append(process)


def in_one(scripts: Sequence[Sequence[Act]], until_ns: int | None) -> list[Seen]:
    names = [f"d{index}" for index in range(len(scripts))]
    home = Home(Microsteps(Timeline(0), 1000), {})
    arrival = Arrival()
    home.kernel.drive(home.kernel.timeline, until_ns, arrival)
    home.begin(scripts, names)
    while (waiter := home.kernel.next(time_may_pass=True)) is not arrival:
        assert waiter is not None
        waiter.release()
    return sorted([*home.seen, ("end", *now_of(home), "")])


def now_of(home: Home) -> tuple[int, int]:
    return home.kernel.timeline.now_ns, home.kernel.k


def in_many(scripts: Sequence[Sequence[Act]], until_ns: int | None, places: Sequence[int]) -> tuple[list[Seen], int]:
    """What was seen, and how often somebody asked."""
    where = {f"d{index}": f"p{places[index]}" for index in range(len(scripts))}
    homes: dict[str, Home] = {}
    desks: dict[str, Desk] = {}
    arrivals: dict[str, Arrival] = {}
    for process in sorted(set(where.values())):
        desk = desks[process] = Desk()
        kernel = GrantedMicrosteps(Timeline(0), desk, 1000)
        home = homes[process] = Home(kernel, where)
        arrivals[process] = Arrival()
        kernel.drive(kernel.timeline, until_ns, arrivals[process])
        home.begin(scripts, [name for name in where if where[name] == process])
        for name in home.daemons:
            for other in where:
                kernel.listen(f"{other}-{name}", FORWARD, home.daemons[name].hear)
    barrier = Barrier(homes)
    post: dict[str, dict[str, list[Effect]]] = {process: {} for process in homes}
    acting = sorted(homes)
    ended: set[str] = set()
    asked = 0
    while acting:
        process = acting.pop()
        if not goes_until_it_asks(homes[process], arrivals[process]):
            ended.add(process)
            continue
        asked += 1
        desk = desks[process]
        assert desk.report is not None
        for other, effects in desk.said.items():
            post[other][process] = effects
        for name, order in barrier.report(process, desk.report).items():
            heard = (
                [effect for other in order.heard for effect in post[name].pop(other)] if isinstance(order, Go) else []
            )
            desks[name].granted = Granted(order, heard)
            acting.append(name)
    assert ended == set(homes)
    ends = {now_of(home) for home in homes.values()}
    assert len(ends) == 1
    return sorted([entry for home in homes.values() for entry in home.seen] + [("end", *ends.pop(), "")]), asked


def goes_until_it_asks(home: Home, arrival: Arrival) -> bool:
    """False when its driver has arrived."""
    while True:
        try:
            waiter = home.kernel.next(time_may_pass=True)
        except Asks:
            return True
        assert waiter is not None
        if waiter is arrival:
            return False
        waiter.release()


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[list[Act]], list[int]]:
    count = draw(st.integers(2, 6))
    acts: st.SearchStrategy[Act] = st.one_of(
        st.tuples(st.just("sleep"), st.integers(0, 3)),
        st.tuples(st.just("rest"), st.just(0)),
        st.tuples(st.just("hear"), st.just(0)),
        *[st.tuples(st.just("tell"), st.integers(0, count - 1))] * 2,
    )
    return (
        [draw(st.lists(acts, max_size=12)) for _ in range(count)],
        [draw(st.integers(0, count - 1)) for _ in range(count)],
    )


@settings(max_examples=200, deadline=None)
@given(programs(), st.one_of(st.none(), st.integers(0, 8)))
def test_in_many_processes_everybody_sees_at_each_instant_what_they_see_in_one(
    program: tuple[list[list[Act]], list[int]], until_ns: int | None
) -> None:
    scripts, places = program
    expected = in_one(scripts, until_ns)
    assert in_many(scripts, until_ns, places)[0] == expected
    assert in_many(scripts, until_ns, range(len(scripts)))[0] == expected


def test_who_acts_alone_asks_only_when_somebody_else_would_act() -> None:
    alone: list[Act] = [("sleep", 1), ("rest", 0)] * 100
    seen, asked = in_many([alone, [("sleep", 50), ("sleep", 100)]], None, [0, 1])
    assert seen == in_one([alone, [("sleep", 50), ("sleep", 100)]], None)
    assert asked < 20


def test_a_process_in_which_nobody_lets_time_pass_yet_does_not_ask() -> None:
    kernel = GrantedMicrosteps(Timeline(0), Desk())
    assert kernel.next(time_may_pass=True) is None


def test_a_process_with_a_thread_at_work_does_not_ask() -> None:
    kernel = GrantedMicrosteps(Timeline(0), Desk())
    kernel.drive(kernel.timeline, None, Arrival())
    assert kernel.next(time_may_pass=False) is None
    kernel.timeline.holds = 1
    assert kernel.next(time_may_pass=True) is None


def test_who_has_gone_is_heard_of_after_what_it_has_said_was_put_by() -> None:
    desk = Desk()
    kernel = GrantedMicrosteps(Timeline(0), desk)
    kernel.drive(kernel.timeline, None, Arrival())
    heard: list[Said] = []
    kernel.listen("c", FORWARD, heard.append)
    desk.granted = Granted(Go(0, 1, ("b",), NEVER), [Effect("c", FORWARD, 1, Item(1, b""))], ["b"])
    with pytest.raises(Asks):
        kernel.next(time_may_pass=True)
    assert desk.gone == ["b"]
    assert heard == [Item(1, b"")]
