"""Each cycle to exactly one living replica: by example, and over random histories of births, deaths and pauses."""

import random
from collections import Counter
from itertools import pairwise

import msgspec
import pytest

from geartrain.rules.services import (
    CATCH_UP_MOST,
    MISSED,
    OVERLAPS,
    Ended,
    Member,
    Outcome,
    Passed,
    Plan,
    Record,
    Run,
    Service,
    Span,
    Stale,
    State,
    Why,
    begin,
    ended,
    fold,
    order,
    plan,
)

EVERY_NS, SILENT_NS = 100, 30
DONE = (Outcome.COMPLETED, Outcome.FAILED, Outcome.CANCELLED)


def service(overlap: str = "skip", missed: str = "skip") -> Service:
    return msgspec.convert(
        {"name": "report", "every_ns": EVERY_NS, "overlap": overlap, "missed": missed, "silent_after_ns": SILENT_NS},
        Service,
    )


def closes(record: Record, cycle: int) -> bool:
    match record:
        case Ended(run, outcome):
            return run.cycle == cycle and outcome is not Outcome.ABANDONED
        case Passed(first, last):
            return first <= cycle <= last
        case Run():
            return False


class World:
    """What really is: processes that live, pause and die, an arbiter that plans, and all that it has written down."""

    def __init__(self, service: Service, now_ns: int = 0) -> None:
        self.service = service
        self.now_ns = now_ns
        self.first = service.cycle_at(now_ns)
        self.state = begin(service, now_ns)
        self.members: dict[str, Member] = {}
        self.paused: set[str] = set()
        self.working: dict[str, Run] = {}
        self.records: list[Record] = []
        self.lives = 0
        self.plan: Plan = plan(service, self.state, (), now_ns)

    def born(self, *names: str) -> "World":
        for name in names:
            self.lives += 1
            self.working.pop(name, None)
            self.members[name] = Member(name, self.lives, self.now_ns)
        return self.planned()

    def dies(self, name: str) -> "World":
        del self.members[name]
        self.paused.discard(name)
        self.working.pop(name, None)
        return self.planned()

    def pauses(self, name: str) -> "World":
        self.paused.add(name)
        return self

    def resumes(self, name: str) -> "World":
        self.paused.discard(name)
        return self.passes(0)

    def passes(self, span_ns: int) -> "World":
        self.now_ns += span_ns
        for name in self.members.keys() - self.paused:
            self.members[name] = msgspec.structs.replace(self.members[name], seen_ns=self.now_ns)
        return self.planned()

    def finishes(self, name: str, outcome: Outcome = Outcome.COMPLETED) -> "World":
        run = self.working.pop(name)
        records = ended(self.service, self.state, run.token, outcome, self.now_ns)
        assert not isinstance(records, Stale)
        self.write(records)
        return self.planned()

    def planned(self) -> "World":
        """The arbiter looks. It ends no process here: that takes its time, and is an event of its own."""
        self.plan = plan(self.service, self.state, tuple(self.members.values()), self.now_ns)
        self.write(self.plan.records)
        assert self.state == self.plan.state
        return self

    def write(self, records: tuple[Record, ...]) -> None:
        for record in records:
            self.records.append(record)
            self.state = fold(self.state, record)
            if isinstance(record, Run):
                member = self.members[record.member]
                assert member.life == record.life
                assert self.now_ns - member.seen_ns <= SILENT_NS
                assert not any(closes(earlier, record.cycle) for earlier in self.records)
                assert record.member not in self.working
                self.working[record.member] = record

    def why(self) -> dict[str, Why]:
        return {refusal.member: refusal.why for refusal in self.plan.refusals}

    def said(self) -> dict[str, str]:
        return {refusal.member: refusal.said for refusal in self.plan.refusals}

    def runs(self) -> dict[str, int]:
        return {run.member: run.cycle for run in self.state.runs}

    def closings(self) -> Counter[int]:
        """How often each cycle was closed."""
        closed: Counter[int] = Counter()
        for record in self.records:
            match record:
                case Ended(run, outcome) if outcome is not Outcome.ABANDONED:
                    closed[run.cycle] += 1
                case Passed(first, last):
                    closed.update(range(first, last + 1))
        return closed


# -- one of the living ------------------------------------------------------------------------------------------------


def test_a_cycle_is_given_to_one_replica_and_the_other_is_told_why_not() -> None:
    one, two = (member.name for member in order("report", [Member("a", 1, 0), Member("b", 2, 0)]))
    world = World(service()).born("a", "b")
    assert world.runs() == {one: 0}
    assert world.why() == {two: Why.GIVEN}
    assert world.said() == {two: f"cycle 0 was given to {one!r}"}
    assert world.finishes(one).passes(100).runs() == {one: 1}


def test_who_has_run_it_is_not_given_it_again_in_the_same_cycle() -> None:
    world = World(service()).born("a").finishes("a").passes(99)
    assert world.runs() == {}
    assert world.said() == {"a": "cycle 0 was run by 'a': completed"}
    assert world.passes(1).runs() == {"a": 1}


def test_a_run_that_failed_has_had_its_cycle() -> None:
    world = World(service()).born("a", "b")
    (holder,) = world.runs()
    assert world.finishes(holder, Outcome.FAILED).runs() == {}
    assert set(world.why().values()) == {Why.ALREADY_RAN}


def test_when_the_replica_dies_another_runs_the_same_cycle_at_once() -> None:
    world = World(service()).born("a", "b")
    (holder,) = world.runs()
    (other,) = world.members.keys() - {holder}
    assert world.passes(50).dies(holder).runs() == {other: 0}
    assert world.state.runs[0].token == 2
    abandoned = next(record for record in world.records if isinstance(record, Ended))
    assert (abandoned.outcome, abandoned.said) == (Outcome.ABANDONED, f"{holder!r} has died")


def test_the_only_replica_that_dies_gets_the_cycle_again_in_its_next_life() -> None:
    world = World(service()).born("a").dies("a")
    assert world.runs() == {}
    assert world.passes(10).born("a").runs() == {"a": 0}


def test_a_next_life_that_is_there_before_the_death_was_seen_does_not_keep_the_run() -> None:
    world = World(service()).born("a")
    world.born("a")
    assert [type(record) for record in world.records] == [Run, Ended, Run]
    assert world.state.runs[0].life == 2


def test_a_run_that_is_given_back_goes_to_whoever_is_first() -> None:
    world = World(service()).born("a")
    assert world.finishes("a", Outcome.ABANDONED).state.runs[0].token == 2


def test_a_late_word_about_a_run_that_was_taken_away_is_refused() -> None:
    world = World(service()).born("a", "b")
    (first,) = world.state.runs
    world.dies(first.member)
    stale = ended(world.service, world.state, first.token, Outcome.COMPLETED, 1)
    assert stale == Stale(1, "'report' has no run 1: it has ended, or its replica died")
    unknown = ended(world.service, world.state, 9, Outcome.COMPLETED, 1)
    assert unknown == Stale(9, "'report' has no run 9: the last that was given is 2")


# -- silence ----------------------------------------------------------------------------------------------------------


def test_nobody_takes_the_place_of_a_silent_replica_until_its_process_has_ended() -> None:
    world = World(service()).born("a", "b")
    (holder,) = world.runs()
    (other,) = world.members.keys() - {holder}
    world.pauses(holder).passes(30)
    assert world.plan.ends == ()
    assert world.plan.wake_ns == 31
    world.passes(1)
    assert world.plan.ends == world.state.runs
    assert world.said() == {other: f"{holder!r} has cycle 0 and is silent; its process must end first"}
    assert world.dies(holder).runs() == {other: 0}


def test_a_silent_replica_is_given_nothing_and_counts_again_when_it_is_heard() -> None:
    world = World(service()).born("a").finishes("a").pauses("a").passes(100)
    assert world.runs() == {}
    assert world.said() == {"a": "'a' has said nothing for 1e-07 s"}
    assert world.resumes("a").runs() == {"a": 1}


# -- overlap ----------------------------------------------------------------------------------------------------------


def test_skip_a_cycle_that_begins_during_a_run_is_not_run() -> None:
    world = World(service("skip")).born("a", "b")
    (holder,) = world.runs()
    world.passes(250)
    assert set(world.why().values()) == {Why.STILL_RUNNING}
    assert world.finishes(holder).runs() == {}
    assert set(world.why().values()) == {Why.SKIPPED}
    assert world.passes(50).runs() == {holder: 3}


def test_skip_when_a_run_dies_the_cycle_of_that_moment_is_run() -> None:
    world = World(service("skip")).born("a", "b")
    (holder,) = world.runs()
    (other,) = world.members.keys() - {holder}
    assert world.passes(250).dies(holder).runs() == {other: 2}
    passed = [(one.first, one.last, one.because) for one in world.records if isinstance(one, Passed)]
    assert passed == [(1, 1, "still_running"), (0, 0, "missed")]


def test_skip_a_run_that_is_given_back_leaves_the_cycle_of_that_moment_to_be_run() -> None:
    world = World(service("skip")).born("a").passes(250)
    assert world.finishes("a", Outcome.ABANDONED).runs() == {"a": 2}


def test_wait_the_cycle_of_the_moment_begins_when_the_run_is_over() -> None:
    world = World(service("wait")).born("a")
    assert world.passes(250).finishes("a").runs() == {"a": 2}
    assert world.closings() == {0: 1, 1: 1}


def test_cancel_the_run_of_an_earlier_cycle_is_asked_to_leave_and_the_next_begins_when_it_has() -> None:
    world = World(service("cancel")).born("a", "b")
    (run,) = world.state.runs
    assert world.passes(99).plan.cancels == ()
    assert world.passes(1).plan.cancels == (run,)
    assert world.runs() == {run.member: 0}
    assert world.finishes(run.member, Outcome.CANCELLED).runs() == {run.member: 1}


def test_cancel_a_run_that_makes_up_for_an_older_cycle_may_last_as_long_as_the_one_it_was_given_in() -> None:
    world = World(service("cancel", "run_once")).passes(5 * EVERY_NS + 50).born("a")
    (run,) = world.state.runs
    assert (run.cycle, world.plan.cancels) == (4, ())
    assert world.passes(49).plan.cancels == ()
    assert world.passes(1).plan.cancels == (run,)


def test_allow_when_an_older_run_dies_its_cycle_is_over_though_a_younger_one_runs() -> None:
    world = World(service("allow")).born("a", "b").passes(100)
    (older,) = [member for member, cycle in world.runs().items() if cycle == 0]
    assert world.closings() == {}
    assert world.dies(older).closings() == {0: 1}
    assert list(world.runs().values()) == [1]


def test_allow_every_cycle_begins_as_long_as_a_replica_is_free() -> None:
    world = World(service("allow")).born("a", "b").passes(100)
    assert sorted(world.runs().values()) == [0, 1]
    assert world.why() == {}
    world.passes(100).born("c")
    assert sorted(world.runs().values()) == [0, 1, 2]


# -- missed -----------------------------------------------------------------------------------------------------------


def away(missed: str, cycles: int) -> World:
    """Nobody lived for some cycles, and one is back in the middle of the next."""
    return World(service("skip", missed)).passes(cycles * EVERY_NS + 50).born("a")


def test_skip_what_was_missed_is_over() -> None:
    assert away("skip", 5).runs() == {"a": 5}
    assert away("skip", 10**12).state.closed == ()


def test_run_once_the_newest_that_was_missed_is_made_up_for_and_then_comes_the_cycle_of_the_moment() -> None:
    world = away("run_once", 5)
    assert world.runs() == {"a": 4}
    assert world.finishes("a").runs() == {"a": 5}
    assert world.finishes("a").runs() == {}


def test_run_once_of_two_that_were_missed_with_a_run_between_them_the_newer_one_is_made_up_for() -> None:
    """Cycle 1 runs for long; 0 dies when 2 has passed without anybody to run it."""
    world = World(service("allow", "run_once")).born("a", "b").passes(100)
    (of_0,) = [member for member, cycle in world.runs().items() if cycle == 0]
    world.passes(200)
    world.dies(of_0)
    assert world.closings() == {0: 1}
    assert list(world.runs().values()) == [1]
    assert world.born("c").runs()["c"] == 2


def test_catch_up_all_that_was_missed_is_made_up_for_from_the_oldest_on() -> None:
    world = away("catch_up", 3)
    ran: list[int] = []
    while world.runs():
        ran += world.runs().values()
        world.finishes("a")
    assert ran == [0, 1, 2, 3]


def test_catch_up_makes_up_for_the_newest_hundred_at_most() -> None:
    assert away("catch_up", 10**12).runs() == {"a": 10**12 - CATCH_UP_MOST}


def test_a_cycle_that_begins_before_a_run_that_makes_up_is_not_skipped_because_of_it() -> None:
    world = away("run_once", 5).passes(10)
    assert world.finishes("a").runs() == {"a": 5}


# -- order and records ------------------------------------------------------------------------------------------------


def test_a_birth_or_a_death_moves_nobody_else_in_the_order() -> None:
    everybody = [Member(f"r{n}", n, 0) for n in range(20)]
    whole = [member.name for member in order("report", everybody)]
    for left_out in everybody:
        rest = [member.name for member in order("report", [one for one in everybody if one is not left_out][::-1])]
        assert rest == [name for name in whole if name != left_out.name]


def test_services_are_spread_over_the_replicas() -> None:
    members = [Member(f"r{n}", n, 0) for n in range(4)]
    firsts = Counter(order(f"service{n}", members)[0].name for n in range(400))
    assert set(firsts) == {"r0", "r1", "r2", "r3"}
    assert all(count > 60 for count in firsts.values())


def test_a_clock_that_goes_back_makes_nothing_run_again() -> None:
    world = World(service(), now_ns=1000).born("a").finishes("a")
    world.passes(-500)
    assert world.runs() == {}
    assert world.said() == {"a": "cycle 5 was closed before; cycles from 11 on are open"}


def test_cycles_are_folded_into_spans() -> None:
    state = State(0)
    for first, last in ((4, 4), (2, 2), (3, 3), (7, 9)):
        state = fold(state, Passed(first, last, "missed", 0))
    assert (state.open_from, state.closed) == (0, (Span(2, 4), Span(7, 9)))
    state = fold(state, Passed(0, 1, "missed", 0))
    assert (state.open_from, state.closed) == (5, (Span(7, 9),))
    assert [cycle for cycle in range(12) if not state.is_closed(cycle)] == [5, 6, 10, 11]
    assert state.newest == Passed(7, 9, "missed", 0)


# -- random histories -------------------------------------------------------------------------------------------------


def step(world: World, chance: random.Random) -> None:
    """Something happens. What the arbiter wants ended ends at some time, and what is to be cancelled leaves, or not."""
    names = sorted(world.members)
    idle = sorted(set("abcd") - set(names))
    awake = sorted(world.working.keys() - world.paused)
    what = chance.choice(["birth", "death", "pause", "resume", "finish", "finish", "time", "time", "time", "long"])
    if what == "birth" and idle:
        world.born(chance.choice(idle))
    elif what == "death" and names:
        ended = [run.member for run in world.plan.ends]
        world.dies(chance.choice(ended or names))
    elif what == "pause" and names:
        world.pauses(chance.choice(names))
    elif what == "resume" and world.paused:
        world.resumes(chance.choice(sorted(world.paused)))
    elif what == "finish" and awake:
        world.finishes(chance.choice(awake), chance.choice((*DONE, Outcome.ABANDONED)))
    elif what == "time":
        world.passes(chance.choice([0, 1, 29, 30, 31, 50, 99, 100]))
    elif what == "long":
        world.passes(chance.randrange(0, 700))


def check(world: World) -> None:
    """What is promised at every moment, from what really is and what was written down."""
    now = world.service.cycle_at(world.now_ns)
    # A run is with a replica that lives, and each has one at most.
    assert world.state.runs == tuple(sorted(world.working.values(), key=lambda run: run.token))
    assert all(world.members[run.member].life == run.life for run in world.state.runs)
    # No cycle runs twice at once, and without overlap there is one run.
    cycles = [run.cycle for run in world.state.runs]
    assert len(set(cycles)) == len(cycles)
    assert world.service.overlap == "allow" or len(cycles) <= 1
    # A cycle is closed once, and all before `open_from` are.
    closings = world.closings()
    assert set(closings.values()) <= {1}
    assert all(cycle in closings for cycle in range(world.first, world.state.open_from))
    assert not any(closings[cycle] for cycle in cycles)
    assert max([now, *closings]) == now
    # Somebody is free, and may run, only if there is nothing to run.
    silent = {one.name for one in world.members.values() if world.now_ns - one.seen_ns > SILENT_NS}
    free = world.members.keys() - world.working.keys() - silent
    if free and (world.service.overlap == "allow" or not cycles):
        assert all(closings[cycle] or cycle in cycles for cycle in range(world.first, now + 1))
    # Every other one is told why, and truly.
    assert world.why().keys() == world.members.keys() - world.working.keys()
    assert {name for name, why in world.why().items() if why is Why.SILENT} == silent - world.working.keys()
    for why in world.why().values():
        match why:
            case Why.GIVEN:
                assert now in cycles
            case Why.ALREADY_RAN | Why.SKIPPED:
                assert closings[now] == 1
            case Why.STILL_RUNNING | Why.HOLDER_SILENT:
                assert cycles
                assert not closings[now]
            case Why.NOT_BEGUN:
                raise AssertionError("time does not go back here")
    assert {run.member for run in world.plan.ends} == silent & world.working.keys()
    assert world.plan.wake_ns > world.now_ns


@pytest.mark.parametrize("missed", MISSED)
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_over_random_histories_every_cycle_is_run_once_or_its_passing_is_written_down(
    overlap: str, missed: str
) -> None:
    for seed in range(60):
        chance = random.Random(f"services {overlap} {missed} {seed}")
        world = World(service(overlap, missed), now_ns=chance.randrange(0, 1000))
        for _ in range(80):
            step(world, chance)
            check(world)
        tokens = [record.token for record in world.records if isinstance(record, Run)]
        assert all(later == earlier + 1 for earlier, later in pairwise([0, *tokens]))
        # Whatever has happened: with a replica that lives and works, nothing stays undone.
        for name in list(world.members):
            world.dies(name)
        world.born("e")
        while world.working:
            world.finishes("e")
        check(world)
        now = world.service.cycle_at(world.now_ns)
        assert world.closings() == dict.fromkeys(range(world.first, now + 1), 1)


def test_what_is_written_down_says_all_after_any_part_of_a_history() -> None:
    chance = random.Random("services records")
    world = World(service("allow", "catch_up"))
    for _ in range(400):
        step(world, chance)
    lines = [msgspec.json.encode(record) for record in world.records]
    state = State(0)
    for line in lines:
        state = fold(state, msgspec.json.decode(line, type=Run | Ended | Passed))
    assert len(lines) > 50
    assert state == world.state


def test_without_an_event_nothing_changes_before_the_plan_is_asked_again() -> None:
    """A replica that falls silent without a run is seen at the next look: it has nothing to lose."""
    for seed in range(200):
        chance = random.Random(f"services wake {seed}")
        world = World(service(chance.choice(OVERLAPS), chance.choice(MISSED)))
        for _ in range(30):
            step(world, chance)
        before = plan(world.service, world.state, tuple(world.members.values()), world.now_ns)
        assert before.records == ()
        last = plan(world.service, world.state, tuple(world.members.values()), before.wake_ns - 1)
        assert (last.records, last.ends, last.cancels) == ((), before.ends, before.cancels)
