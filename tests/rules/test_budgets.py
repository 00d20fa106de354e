"""The machine of budgets: every short history, many long ones, and each promise by itself."""

import itertools
import random
from collections.abc import Callable, Iterable

import pytest

from geartrain.errors import NotHeld, UnknownDaemon
from geartrain.rules.budgets import (
    Budgets,
    DaemonHeld,
    DaemonReleased,
    ExecutorHeld,
    ExecutorReleased,
    Fact,
    HeldFor,
    Hold,
    Joined,
    Overran,
)

OWN, EXECUTOR = 10, 20

Deed = tuple[str, str, int]
DEEDS: list[Deed] = [
    *(("took", daemon, took) for daemon in "ab" for took in (OWN, OWN + 1, EXECUTOR, EXECUTOR + 1)),
    *((word, daemon, 0) for daemon in "ab" for word in ("tick", "clear")),
    ("clear", "", 0),
]


def both() -> Budgets:
    """`a` has a budget of its own, `b` has none; their executor has one."""
    budgets = Budgets(EXECUTOR)
    assert budgets.add("a", OWN)
    assert budgets.add("b", None)
    return budgets


def do(budgets: Budgets, deed: Deed, now: int = 0) -> tuple[Fact, ...] | None:
    """What is told; None for a clear that is refused."""
    word, daemon, took = deed
    try:
        match word:
            case "took":
                return budgets.took(daemon, took, now)
            case "tick":
                return budgets.tick(daemon)
            case _:
                return budgets.clear(daemon) if daemon else budgets.clear_executor()
    except NotHeld:
        return None


class Model:
    """The same said from what was told, without looking into the machine."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.executor = False
        self.overruns = {"a": 0, "b": 0}

    def expect(self, deed: Deed) -> list[type[Fact]] | None:
        word, daemon, took = deed
        match word:
            case "took":
                return list(self._took(daemon, took))
            case "tick":
                joins = self.executor and daemon not in self.held
                if joins:
                    self.held[daemon] = "executor"
                return [Joined] if joins else []
            case _:
                return self._clear(daemon) if daemon else self._clear_executor()

    def _took(self, daemon: str, took: int) -> Iterable[type[Fact]]:
        if daemon == "a" and took > OWN:
            self.overruns[daemon] += 1
            yield Overran
            if daemon not in self.held:
                yield DaemonHeld
            self.held[daemon] = "own"
        if took > EXECUTOR and not self.executor:
            self.executor = True
            yield ExecutorHeld

    def _clear(self, daemon: str) -> list[type[Fact]] | None:
        if self.held.get(daemon) != "own":
            return None
        del self.held[daemon]
        return [DaemonReleased]

    def _clear_executor(self) -> list[type[Fact]] | None:
        if not self.executor:
            return None
        self.executor = False
        freed = [daemon for daemon, why in self.held.items() if why == "executor"]
        for daemon in freed:
            del self.held[daemon]
        return [*(DaemonReleased for _ in freed), ExecutorReleased]


WHY = {HeldFor.ITS_BUDGET: "own", HeldFor.ITS_EXECUTOR: "executor"}


def follow(history: Iterable[Deed]) -> None:
    budgets, model = both(), Model()
    done = []
    for deed in history:
        done.append(deed)
        told = do(budgets, deed)
        assert (None if told is None else [type(fact) for fact in told]) == model.expect(deed), done
        holds = {daemon: budgets.hold_of(daemon) for daemon in "ab"}
        assert {daemon: WHY[hold.why] for daemon, hold in holds.items() if hold is not None} == model.held, done
        assert (budgets.hold is not None) == model.executor, done
        assert {daemon: budgets.overruns_of(daemon) for daemon in "ab"} == model.overruns, done


def test_every_history_of_four_deeds_goes_as_it_is_told() -> None:
    for history in itertools.product(DEEDS, repeat=4):
        follow(history)


@pytest.mark.parametrize("seed", range(20))
def test_long_histories_go_as_they_are_told(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        follow(chance.choice(DEEDS) for _ in range(100))


def test_exactly_the_budget_is_within_it() -> None:
    budgets = both()
    assert budgets.took("a", OWN, 0) == ()
    assert budgets.took("b", EXECUTOR, 0) == ()


def test_the_first_breach_holds_and_those_of_the_handler_are_counted() -> None:
    budgets = both()
    hold = Hold(HeldFor.ITS_BUDGET, "a", OWN + 1, OWN, 7)
    assert budgets.took("a", OWN + 1, 7) == (Overran("a", OWN + 1, OWN), DaemonHeld("a", hold))
    assert budgets.took("a", OWN + 2, 8) == (Overran("a", OWN + 2, OWN),)
    assert budgets.hold_of("a") == hold
    assert budgets.overruns_of("a") == 2


def test_what_was_counted_survives_a_clear() -> None:
    budgets = both()
    for _ in range(2):
        budgets.took("a", OWN + 1, 0)
        budgets.tick("a")
        assert budgets.clear("a") == (DaemonReleased("a"),)
    assert (budgets.overruns_of("a"), budgets.passed_of("a")) == (2, 2)


def test_one_body_can_break_both_and_its_own_comes_first() -> None:
    budgets = both()
    kinds = [type(fact) for fact in budgets.took("a", EXECUTOR + 1, 0)]
    assert kinds == [Overran, DaemonHeld, ExecutorHeld]


def test_who_overruns_while_it_waits_for_its_executor_is_not_freed_with_it() -> None:
    budgets = both()
    budgets.took("b", EXECUTOR + 1, 0)
    budgets.tick("a")
    assert [type(fact) for fact in budgets.took("a", OWN + 1, 0)] == [Overran]
    assert budgets.clear_executor() == (ExecutorReleased(),)
    assert budgets.hold_of("a") is not None


@pytest.mark.parametrize(
    ("clear", "error", "said"),
    [
        (lambda budgets: budgets.clear("a"), NotHeld, "'a' is not held"),
        (lambda budgets: budgets.clear("c"), UnknownDaemon, "no daemon 'c' here; known: a, b"),
        (lambda budgets: budgets.clear_executor(), NotHeld, "the executor is not held"),
    ],
)
def test_a_clear_of_nothing_is_refused(clear: Callable[[Budgets], object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        clear(both())


def test_a_daemon_held_with_its_executor_is_not_cleared_by_itself() -> None:
    budgets = both()
    budgets.took("b", EXECUTOR + 1, 0)
    budgets.tick("a")
    with pytest.raises(
        NotHeld, match="held with its executor since 'b' took too long; clear the fault of the executor"
    ):
        budgets.clear("a")
    assert budgets.hold_of("a") is not None


def test_without_budgets_nothing_has_to_be_measured() -> None:
    budgets = Budgets()
    assert not budgets.add("a", None)
    assert budgets.add("b", OWN)


def test_a_release_clears_whatever_keeps_the_daemon_from_its_body() -> None:
    budgets = both()
    budgets.took("a", EXECUTOR + 1, 0)
    budgets.tick("b")
    told = budgets.release("a")
    assert told == (DaemonReleased("a"), DaemonReleased("b"), ExecutorReleased())
    budgets.took("a", OWN + 1, 0)
    assert budgets.release("a") == (DaemonReleased("a"),)
    budgets.took("b", EXECUTOR + 1, 0)
    assert budgets.release("b") == (ExecutorReleased(),)
    with pytest.raises(NotHeld):
        budgets.release("a")
    budgets.took("b", EXECUTOR + 1, 0)
    with pytest.raises(UnknownDaemon):
        budgets.release("c")
    assert budgets.hold is not None
