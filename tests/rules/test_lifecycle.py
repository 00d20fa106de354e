"""One daemon from start to stopped: every history there is under every policy, when two restarts are granted.

A history is what can really happen: a hook that was called returns, fails, exits or is cancelled; a pause is over
or is cancelled; at any time somebody asks for a stop. It ends with End.
"""

from collections.abc import Iterator
from functools import cache
from typing import get_args

import pytest
from msgspec import Struct

from geartrain.rules.lifecycle import (
    POLICIES,
    Began,
    Call,
    Cancelled,
    DaemonFailurePhase,
    DaemonState,
    End,
    Event,
    Exited,
    Failed,
    Life,
    OnError,
    Order,
    Pause,
    Returned,
)
from geartrain.rules.restart import RestartPolicy

RETRIES = 2
TWO_RETRIES = RestartPolicy(base=1.0, factor=2.0, max_retries=RETRIES)

# What can happen, by a letter each: it is easier to read a history as "brfr" than as objects.
LETTERS = "brfxc"
ASK_STOP = "s"


class Step(Struct, frozen=True):
    """One event of a history, what was ordered because of it, and the life afterwards. A stop is not answered."""

    letter: str
    event: Event | None
    order: Order | None
    state: DaemonState
    restart_count: int


History = tuple[Step, ...]


def event_of(letter: str, position: int) -> Event:
    match letter:
        case "b":
            return Began()
        case "r":
            return Returned()
        case "f":
            return Failed(ValueError(f"failure {position}"))
        case "x":
            return Exited(SystemExit(f"exit {position}"))
        case _:
            return Cancelled()


def lived(policy: OnError, letters: str, restart: RestartPolicy = TWO_RETRIES) -> tuple[Life, History]:
    """What became of a daemon to which this happened, one event a second."""
    life, steps = Life(policy, restart), list[Step]()
    for position, letter in enumerate(letters):
        event, order = None, None
        if letter == ASK_STOP:
            life.ask_stop()
        else:
            event = event_of(letter, position)
            order = life.step(event, position * 10**9)
        steps.append(Step(letter, event, order, life.state, life.restart_count))
    return life, tuple(steps)


def last_order(history: History) -> Order | None:
    return next((step.order for step in reversed(history) if step.order is not None), None)


def what_may_follow(history: History) -> str:
    """The letters of what can happen next."""
    letters = "".join(step.letter for step in history)
    stop = "" if ASK_STOP in letters else ASK_STOP
    match last_order(history):
        case None:
            return "bc" + stop
        case Call():
            return "rfxc" + stop
        case Pause():
            return "bc" + stop
        case _:
            return ""


def grown(policy: OnError, letters: str = "") -> Iterator[History]:
    history = lived(policy, letters)[1]
    follow = what_may_follow(history)
    if not follow:
        yield history
    for letter in follow:
        yield from grown(policy, letters + letter)


@cache
def histories(policy: OnError) -> tuple[History, ...]:
    """Every history to its end: patience ends, so they all do."""
    return tuple(grown(policy))


every_policy = pytest.mark.parametrize("policy", POLICIES)


def calls(history: History, phase: DaemonFailurePhase) -> int:
    return sum(isinstance(step.order, Call) and step.order.phase == phase for step in history)


def pauses(history: History) -> int:
    return sum(isinstance(step.order, Pause) for step in history)


def spelt(history: History) -> str:
    return "".join(step.letter for step in history)


def answers(history: History) -> Iterator[tuple[Order | None, Event, Order]]:
    """What was in progress, what happened, and what was ordered then."""
    before: Order | None = None
    for step in history:
        if step.order is not None:
            assert step.event is not None
            yield before, step.event, step.order
            before = step.order


def raised_in(history: History) -> dict[int, DaemonFailurePhase]:
    """The phase in which each error was raised, by the identity of the error."""
    return {
        id(event.error): before.phase
        for before, event, _ in answers(history)
        if isinstance(event, Failed | Exited) and isinstance(before, Call)
    }


@every_policy
def test_the_histories_reach_every_state_and_every_order_and_all_of_them_end(policy: OnError) -> None:
    reached = {step.state for history in histories(policy) for step in history}
    ordered = {type(step.order) for history in histories(policy) for step in history if step.order is not None}
    assert len(histories(policy)) > (900 if policy == "restart" else 90)
    assert all(isinstance(last_order(history), End) for history in histories(policy))
    assert reached == set(get_args(DaemonState)) - ({"restarting"} if policy != "restart" else set())
    assert ordered == ({Call, Pause, End} if policy == "restart" else {Call, End})


@every_policy
def test_on_stop_is_ordered_exactly_once_for_each_run_that_was_entered(policy: OnError) -> None:
    for history in histories(policy):
        orders = [order for _, _, order in answers(history) if isinstance(order, Call) and order.phase != "on_start"]
        assert orders == [Call("run"), Call("on_stop")] * calls(history, "run"), spelt(history)


@every_policy
def test_on_stop_is_never_ordered_when_on_start_has_not_returned(policy: OnError) -> None:
    for history in histories(policy):
        for before, event, order in answers(history):
            if isinstance(before, Call) and before.phase == "on_start" and not isinstance(event, Returned):
                assert not isinstance(order, Call), spelt(history)
            if isinstance(order, Call) and order.phase == "on_stop":
                assert before == Call("run"), spelt(history)


@every_policy
def test_run_is_ordered_only_when_on_start_has_returned(policy: OnError) -> None:
    for history in histories(policy):
        for before, event, order in answers(history):
            if isinstance(order, Call) and order.phase == "run":
                assert isinstance(before, Call), spelt(history)
                assert before.phase == "on_start", spelt(history)
                assert isinstance(event, Returned), spelt(history)


@every_policy
def test_it_has_stopped_or_failed_exactly_when_it_has_ended(policy: OnError) -> None:
    for history in histories(policy):
        ended = False
        for step in history:
            ended = ended or isinstance(step.order, End)
            assert (step.state in ("stopped", "failed")) == ended, spelt(history)
            if isinstance(step.order, End):
                assert (step.state == "failed") == (step.order.error is not None), spelt(history)


@every_policy
def test_the_state_says_what_is_going_on(policy: OnError) -> None:
    for history in histories(policy):
        for step in history:
            match step.order:
                case Call("on_start"):
                    assert step.state == "starting", spelt(history)
                case Call():
                    assert step.state == "running", spelt(history)
                case Pause():
                    assert step.state == "restarting", spelt(history)
                case _:
                    pass


@every_policy
def test_nothing_is_ordered_after_the_end(policy: OnError) -> None:
    resurrected = set()
    for history in histories(policy):
        for letter in LETTERS:
            order = lived(policy, spelt(history) + letter)[1][-1].order
            if not isinstance(order, End):
                resurrected.add(f"{spelt(history)}, then {letter}: {order}")
    assert sorted(resurrected, key=len)[:3] == []


@every_policy
def test_whoever_wants_the_program_to_end_gets_it_with_its_own_error_whatever_the_policy(policy: OnError) -> None:
    for history in histories(policy):
        exits = [step.event.error for step in history if isinstance(step.event, Exited)]
        end = last_order(history)
        assert isinstance(end, End)
        assert end.exits == bool(exits), spelt(history)
        if exits:
            assert any(end.error is error for error in exits), spelt(history)


@every_policy
def test_after_an_exit_nothing_is_called_but_the_cleanup(policy: OnError) -> None:
    for history in histories(policy):
        letters_before, _, _ = spelt(history).partition("x")
        for step in history[len(letters_before) :]:
            assert isinstance(step.order, End | None) or step.order == Call("on_stop"), spelt(history)


@every_policy
def test_an_error_is_raised_with_the_hook_that_raised_it(policy: OnError) -> None:
    wrong = set()
    for history in histories(policy):
        end = last_order(history)
        assert isinstance(end, End)
        if end.error is not None:
            phase = raised_in(history)[id(end.error)]
            if end.phase != phase:
                wrong.add(f"{spelt(history)}: raised in {phase}, said to be raised in {end.phase}")
    assert sorted(wrong, key=len)[:3] == []


@every_policy
def test_after_a_stop_was_asked_for_nothing_pauses_and_nothing_is_made_again(policy: OnError) -> None:
    for history in histories(policy):
        before, asked, after = spelt(history).partition(ASK_STOP)
        for step in history[len(before) + len(asked) :] if after else ():
            assert not isinstance(step.order, Pause), spelt(history)
            assert not (isinstance(step.order, Call) and step.order.fresh), spelt(history)


@every_policy
def test_restarts_are_counted_as_the_fresh_daemon_is_called(policy: OnError) -> None:
    for history in histories(policy):
        fresh = 0
        for step in history:
            fresh += isinstance(step.order, Call) and step.order.fresh
            assert step.restart_count == fresh, spelt(history)


@every_policy
def test_a_pause_is_followed_by_a_fresh_daemon_or_by_the_end(policy: OnError) -> None:
    for history in histories(policy):
        for before, event, order in answers(history):
            if isinstance(before, Pause):
                assert order in (Call("on_start", fresh=True), End()), spelt(history)
            elif isinstance(event, Began):
                assert order == Call("on_start", fresh=False), spelt(history)
            elif isinstance(order, Call):
                assert not order.fresh, spelt(history)


def test_only_the_policy_restart_pauses_and_only_for_a_failure() -> None:
    assert not any(pauses(history) for history in histories("shutdown") + histories("ignore"))
    for history in histories("restart"):
        failures = sum(isinstance(step.event, Failed) for step in history)
        assert pauses(history) <= min(failures, RETRIES), spelt(history)


def test_when_patience_ends_the_first_cause_is_raised_with_its_phase() -> None:
    given_up = 0
    for history in histories("restart"):
        end = last_order(history)
        if pauses(history) == RETRIES and isinstance(end, End) and end.error is not None and not end.exits:
            ended_in_cleanup = [before for before, event, _ in answers(history) if isinstance(event, Failed)][-1]
            if ended_in_cleanup == Call("on_stop"):
                continue
            given_up += 1
            cause, phase = next(
                (event.error, before.phase)
                for before, event, _ in answers(history)
                if isinstance(event, Failed) and isinstance(before, Call)
            )
            assert (end.error, end.phase, end.deaths) == (cause, phase, RETRIES + 1), spelt(history)
    assert given_up > 10


@every_policy
def test_the_error_that_is_raised_is_one_that_happened_and_the_last_error_is_kept(policy: OnError) -> None:
    for history in histories(policy):
        errors = [step.event.error for step in history if isinstance(step.event, Failed | Exited)]
        end = last_order(history)
        assert isinstance(end, End)
        assert end.error is None or any(end.error is error for error in errors), spelt(history)
        life = lived(policy, spelt(history))[0]
        assert (life.last_error is None) == (errors == []), spelt(history)
        assert (life.last_error_phase is None) == (errors == []), spelt(history)


@every_policy
def test_a_daemon_that_is_only_cancelled_or_stopped_has_not_failed(policy: OnError) -> None:
    for history in histories(policy):
        if not set(spelt(history)) & set("fx"):
            assert last_order(history) == End(), spelt(history)


def test_a_failed_cleanup_is_told_to_the_cause_it_followed() -> None:
    _, history = lived("shutdown", "brff")
    end = history[-1].order
    assert isinstance(end, End)
    assert str(end.error) == "failure 2"
    assert end.error is not None
    assert end.error.__notes__ == ["and then on_stop failed: ValueError: failure 3"]


def test_a_healthy_stretch_forgives_and_makes_the_next_failure_the_first_cause() -> None:
    life = Life("restart", RestartPolicy(base=1.0, factor=2.0, max_retries=1, within=10.0))

    def die_at(now_s: int, error: Exception) -> Order:
        life.step(Began(), now_s * 10**9)
        return life.step(Failed(error), now_s * 10**9)

    old, first, second = ValueError("old"), ValueError("first"), ValueError("second")
    assert die_at(0, old) == Pause(1.0)
    assert die_at(100, first) == Pause(1.0)
    assert die_at(105, second) == End(first, "on_start", deaths=2)
    assert life.restart_count == 2


def test_the_delay_before_a_restart_takes_its_chance_from_the_failure() -> None:
    life = Life("restart", RestartPolicy(base=1.0, jitter=0.5))
    life.step(Began(), 0)
    assert life.step(Failed(ValueError(), roll=1.0), 0) == Pause(1.5)


# -- policy x way of dying x phase -> verdict -------------------------------------------------------------------------

# What kills the daemon, where, and what follows: calm, or after a stop was asked for.
# "cleanup" is the call of on_stop before the verdict; "raise run" raises the error of that phase; "exit" likewise,
# and ends the program; "end" ends quietly; "again" pauses and starts again.
VERDICTS = """
    on_start   run        on_stop    | shutdown                restart                 ignore
    ---------------------------------|------------------------------------------------------------------------
    fails                            | raise on_start          again / end             end
    exits                            | exit on_start           exit on_start           exit on_start
    cancelled                        | end                     end                     end
    returns    returns    returns    | cleanup, end            cleanup, end            cleanup, end
    returns    fails      returns    | cleanup, raise run      cleanup, again / end    cleanup, end
    returns    exits      returns    | cleanup, exit run       cleanup, exit run       cleanup, exit run
    returns    cancelled  returns    | cleanup, end            cleanup, end            cleanup, end
    returns    returns    fails      | cleanup, raise on_stop  cleanup, raise on_stop  cleanup, end
    returns    fails      fails      | cleanup, raise run      cleanup, raise run      cleanup, end
    returns    exits      fails      | cleanup, exit run       cleanup, exit run       cleanup, exit run
    returns    cancelled  fails      | cleanup, raise on_stop  cleanup, raise on_stop  cleanup, end
    returns    returns    exits      | cleanup, exit on_stop   cleanup, exit on_stop   cleanup, exit on_stop
    returns    fails      exits      | cleanup, exit on_stop   cleanup, exit on_stop   cleanup, exit on_stop
    returns    exits      exits      | cleanup, exit on_stop   cleanup, exit on_stop   cleanup, exit on_stop
    returns    cancelled  exits      | cleanup, exit on_stop   cleanup, exit on_stop   cleanup, exit on_stop
    returns    returns    cancelled  | cleanup, end            cleanup, end            cleanup, end
    returns    fails      cancelled  | cleanup, raise run      cleanup, again / end    cleanup, end
    returns    exits      cancelled  | cleanup, exit run       cleanup, exit run       cleanup, exit run
    returns    cancelled  cancelled  | cleanup, end            cleanup, end            cleanup, end
"""


def verdict(policy: OnError, ways: list[str], *, stopping: bool) -> str:
    """What is ordered after the daemon has died in these ways, in the words of the table."""
    letters = "b" + "".join({"returns": "r", "fails": "f", "exits": "x"}.get(way, "c") for way in ways)
    if stopping:
        letters = letters[:1] + ASK_STOP + letters[1:]
    _, history = lived(policy, letters)
    words = ["cleanup"] if calls(history, "on_stop") else []
    match last_order(history):
        case Pause():
            words.append("again")
        case End(None):
            words.append("end")
        case End(error, _, exits):
            words.append(f"{'exit' if exits else 'raise'} {raised_in(history)[id(error)]}")
        case order:
            words.append(f"?{order}")
    return ", ".join(words)


def table_rows() -> Iterator[tuple[list[str], OnError, str, str]]:
    head, _, *lines = VERDICTS.strip().splitlines()
    policies = head.partition("|")[2].split()
    for line in lines:
        ways, _, cells = line.partition("|")
        for policy, cell in zip(policies, [cell for cell in cells.split("  ") if cell.strip()], strict=True):
            # "again / end": the word after the stroke is what becomes of it once a stop was asked for.
            calm, _, stopping = cell.strip().partition(" / ")
            assert policy in POLICIES
            yield ways.split(), policy, calm, calm.replace("again", stopping) if stopping else calm


@pytest.mark.parametrize(("ways", "policy", "calm", "stopping"), [*table_rows()])
def test_every_way_of_dying_has_its_verdict(ways: list[str], policy: OnError, calm: str, stopping: str) -> None:
    assert verdict(policy, ways, stopping=False) == calm
    assert verdict(policy, ways, stopping=True) == stopping
