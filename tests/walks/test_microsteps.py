"""Virtual time with microsteps: what comes of a run depends on nothing but the daemons and their channels.

A net is a random graph of daemons that send, receive, select, sleep, time out, fail and are restarted, close, and have
child tasks inside. It is run on both loops, ours and others', with its daemons declared in any order, and with an
agenda that lets different daemons go on in any order, as they do when they live in several processes. What each daemon
saw, when it saw it, and what went over each channel must always be the same. A rule that is switched off shows.
"""

import heapq
import random
from collections.abc import Sequence
from typing import Any, Literal

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geartrain import Policy, SimClock, simulate
from geartrain.engine.simulated import SimulatedSend
from geartrain.rules.effects import BACKWARD, FORWARD, Effect
from geartrain.rules.microsteps import DUE, Apply, Microsteps
from geartrain.rules.timestep import Number, Waiter
from tests.walks.nets import ROUNDS, Edge, Net, Step, Verb, run_of

# -- placements -------------------------------------------------------------------------------------------------------


class AnyPlacement(Microsteps):
    """Different daemons go on in any order, drawn from a seed: as if they lived in several processes."""

    seed = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._chance = random.Random(self.seed)

    def _next_here(self) -> Waiter | None:
        while (waiter := self._due_now()) is not None:
            heapq.heappush(self._ready, waiter)
        if not self._ready:
            return None
        chosen = self._chance.choice(sorted({entry[1][0] for entry in self._ready}))  # type: ignore[index]
        entry = self._of_daemon([entry for entry in sorted(self._ready) if entry[1][0] == chosen])  # type: ignore[index]
        self._ready.remove(entry)
        heapq.heapify(self._ready)
        return entry[3]

    def _of_daemon(self, entries: list[tuple[int, Number, int, Waiter]]) -> tuple[int, Number, int, Waiter]:
        return entries[0]

    def _due_now(self) -> tuple[int, Number, int, Waiter] | None:
        timer = self.timeline.first()
        if timer is None or timer[0] > self.timeline.now_ns:
            return None
        waiter = self.timeline.advance(self.timeline.now_ns)
        assert waiter is not None
        return DUE, timer[1], next(self._ties), waiter


class ItemsAtOnce(AnyPlacement):
    """Without the rule that an item is heard in the next microstep."""

    direction = FORWARD

    def post(self, effect: Effect, apply: Apply) -> None:
        if effect.direction == self.direction:
            apply(effect.said)
        else:
            super().post(effect, apply)


class CreditAtOnce(ItemsAtOnce):
    """Without the rule that room is heard of in the next microstep."""

    direction = BACKWARD


class TasksAsTheyCome(AnyPlacement):
    """Without the order of the ready tasks of a daemon."""

    def _of_daemon(self, entries: list[tuple[int, Number, int, Waiter]]) -> tuple[int, Number, int, Waiter]:
        return self._chance.choice(entries)


def placed(agenda: type[AnyPlacement], seed: int) -> SimClock:
    kind = type(agenda.__name__, (agenda,), {"seed": seed})

    class Placed(SimClock):
        def _new_microsteps(self, limit: int) -> Microsteps:
            made: Microsteps = kind(self._timeline, limit)
            return made

    return Placed(microsteps=True)


def outcomes(net: Net, agenda: type[AnyPlacement], seeds: int = 12) -> set[str]:
    return {simulate(run_of(net, placed(agenda, seed))).digest for seed in range(seeds)}


# -- all runs are the same --------------------------------------------------------------------------------------------

# What waits for ever is rare, as it ends the story of its daemon; and so is what ends that of a channel.
OFTEN: Sequence[Verb] = ("send_in_time", "receive_in_time", "select_in_time", "send_nowait", "receive_nowait", "sleep")
SELDOM: Sequence[Verb] = ("send", "receive", "select", "every", "close", "fail", "children", "look", "drain_in_time",
                          "hold")  # fmt: skip
STEPS = st.builds(Step, st.sampled_from([*list(OFTEN) * 5, *SELDOM]), st.integers(0, 3), st.integers(0, 2))
POLICIES: Sequence[Policy] = ("block", "block", "block", "drop_newest", "latest", "drop_oldest")
SOME_POLICY: st.SearchStrategy[Policy] = st.sampled_from(POLICIES)


@st.composite
def nets(draw: st.DrawFn) -> Net:
    """Everybody writes to the next, and more."""
    count = draw(st.integers(2, 5))
    ends = st.integers(0, count - 1)
    pairs = [(number, (number + 1) % count) for number in range(count)]
    edges = []
    for writer, reader in pairs + draw(st.lists(st.tuples(ends, ends), max_size=4)):
        maxsize, policy = draw(st.integers(0, 2)), draw(SOME_POLICY)
        edges.append(Edge(writer, reader, 1 if policy in ("latest", "drop_oldest") else maxsize, policy))
    daemons = [draw(st.lists(STEPS, min_size=2, max_size=8)) for _ in range(count)]
    return Net(edges, daemons)


def check_net(net: Net, chance: random.Random) -> None:
    order = list(range(len(net.daemons)))
    first = simulate(run_of(net, SimClock(microsteps=True)))
    chance.shuffle(order)
    again: list[Any] = [
        simulate(run_of(net, SimClock(microsteps=True), order)),
        simulate(run_of(net, SimClock(microsteps=True)), backend="trio"),
        simulate(run_of(net, SimClock(microsteps=True), order), backend="trio"),
        anyio.run(run_of(net, SimClock(microsteps=True))),
        anyio.run(run_of(net, SimClock(microsteps=True)), backend="trio"),
    ]
    for seed in range(3):
        run = run_of(net, placed(AnyPlacement, seed))
        again.append(simulate(run, backend="trio" if seed % 2 else "asyncio"))
    for outcome in again:
        assert outcome == first


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nets(), st.randoms(use_true_random=False))
def test_a_net_gives_the_same_on_every_loop_in_every_order_and_placement(net: Net, chance: random.Random) -> None:
    check_net(net, chance)


@pytest.mark.soak
@settings(max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nets(), st.randoms(use_true_random=False))
def test_five_thousand_nets_give_the_same_on_every_loop_in_every_order_and_placement(
    net: Net, chance: random.Random
) -> None:
    check_net(net, chance)


# -- rules that are switched off --------------------------------------------------------------------------------------

SLEEP, SEND, RECEIVE = Step("sleep", 0, 1), Step("send"), Step("receive")

# For each rule a net that shows when it is missing.
ONE_AFTER_THE_OTHER = Net([Edge(0, 1)], [[SLEEP, SEND], [SLEEP, Step("receive_nowait")]])
FULL = Net([Edge(0, 1)], [[SEND, SLEEP, Step("send_nowait"), Step("close")], [SLEEP, Step("receive_nowait")]])
CHILDREN = Net([Edge(0, 1)], [[Step("children", 3, 1)], [RECEIVE, RECEIVE]])


@pytest.mark.parametrize("net", [ONE_AFTER_THE_OTHER, FULL, CHILDREN], ids=["items", "credit", "children"])
def test_with_all_rules_it_does_not_matter_where_a_daemon_lives(net: Net) -> None:
    assert len(outcomes(net, AnyPlacement)) == 1


def test_items_that_are_heard_at_once_show_who_ran_first() -> None:
    assert len(outcomes(ONE_AFTER_THE_OTHER, ItemsAtOnce)) > 1


def test_room_that_is_heard_of_at_once_shows_who_ran_first() -> None:
    assert len(outcomes(FULL, CreditAtOnce)) > 1


def test_tasks_of_a_daemon_that_go_on_as_they_come_show_in_what_it_does() -> None:
    assert len(outcomes(CHILDREN, TasksAsTheyCome)) > 1


LATE_OFFER = Net([Edge(0, 1, 0)], [[Step("send_in_time", 0, 1)], [SLEEP, Step("receive_nowait"), Step("sleep", 0, 9)]])


def sent_and_taken(clock: SimClock) -> tuple[int, int]:
    outcome: Any = simulate(run_of(LATE_OFFER, clock))
    return sum(what[-1] == "sent" for what in outcome.diaries["d0"]), len(outcome.records)


def test_an_offer_that_is_taken_as_it_times_out_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent_and_taken(SimClock(microsteps=True)) == (1, 1)

    async def gives_up_at_once(_: SimulatedSend[Any]) -> bool:
        return False

    monkeypatch.setattr(SimulatedSend, "_could_not_take_back", gives_up_at_once)
    sent, taken = sent_and_taken(SimClock(microsteps=True))
    assert sent < taken


# -- the chain --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_message_of_time_t_is_handled_by_forty_stages_before_anybody_sees_the_next(
    backend: Literal["asyncio", "trio"],
) -> None:
    stages = 40
    edges = [Edge(number, number + 1, number % 2) for number in range(stages)]
    source = [step for _ in range(3) for step in (SLEEP, SEND)]
    forward = [step for _ in range(3) for step in (RECEIVE, SEND)]
    net = Net(edges, [source, *[forward] * (stages - 1), [RECEIVE] * 3])
    outcome: Any = simulate(run_of(net, placed(AnyPlacement, 1)), backend=backend)
    times = {record[1] for record in outcome.records}
    assert len(times) == 3 * ROUNDS
    for t_ns in times:
        assert len([record for record in outcome.records if record[1] == t_ns]) == stages
