"""The barrier: small cases by hand."""

import pytest

from geartrain.rules.barrier import NEVER, Arrive, Barrier, Go, Order, Report, Tell, Vain
from geartrain.rules.deadlock import Waiting


def at(t_ns: int, k: int, *told: str, due: int = NEVER, until: int = NEVER, on: bool = False) -> Report:
    return Report(t_ns, k, told, on, due, True, until)


def all_report(barrier: Barrier, **reports: Report) -> dict[str, Order]:
    """What comes of the last report; the others are answered by nothing."""
    *early, last = reports
    for name in early:
        assert barrier.report(name, reports[name]) == {}
    return dict(barrier.report(last, reports[last]))


def test_nobody_goes_on_while_one_still_acts() -> None:
    barrier = Barrier("ab")
    assert barrier.report("a", at(0, 0, due=1)) == {}
    assert barrier.acting == {"b"}


def test_who_was_told_something_goes_on_in_the_next_microstep_and_nobody_else() -> None:
    barrier = Barrier("abc")
    orders = all_report(barrier, a=at(0, 0, "b"), b=at(0, 0, due=5), c=at(0, 0, "b", due=7))
    assert orders == {"b": Go(0, 1, ("a", "c"), 7)}


def test_who_has_told_itself_something_goes_on_too() -> None:
    barrier = Barrier("ab")
    orders = all_report(barrier, a=at(0, 0, "b"), b=at(0, 0, on=True))
    assert orders == {"b": Go(0, 1, ("a",), NEVER)}


def test_with_nothing_to_hear_time_moves_to_the_first_timer() -> None:
    barrier = Barrier("abc")
    orders = all_report(barrier, a=at(0, 0, due=7), b=at(0, 0, due=5), c=at(0, 0, due=5))
    assert orders == {"b": Go(5, 0, (), 5), "c": Go(5, 0, (), 5)}


def test_of_several_nobody_goes_ahead() -> None:
    barrier = Barrier("ab")
    orders = all_report(barrier, a=at(0, 0, due=5), b=at(0, 0, due=5))
    assert {order.horizon_ns for order in orders.values() if isinstance(order, Go)} == {5}


def test_who_acts_alone_may_go_on_until_another_would_act() -> None:
    barrier = Barrier("abc")
    orders = all_report(barrier, a=at(0, 0, due=1), b=at(0, 0, due=9), c=at(0, 0, until=8))
    assert orders == {"a": Go(1, 0, (), 8)}
    assert barrier.report("a", at(6, 3, "b", due=20, until=30)) == {"b": Go(6, 4, ("a",), 8)}
    assert (barrier.t_ns, barrier.k) == (6, 4)


def test_what_is_due_at_the_target_is_done_before_the_driver_arrives() -> None:
    barrier = Barrier("ab")
    orders = all_report(barrier, a=at(0, 0, due=5, until=5), b=at(0, 0, due=6, until=5))
    assert orders == {"a": Go(5, 0, (), 5)}
    later = Arrive(5, 0, is_idle=False)
    assert barrier.report("a", at(5, 0, due=6, until=5)) == {"a": later, "b": later}


def test_the_driver_arrives_in_the_microstep_in_which_all_was_done() -> None:
    barrier = Barrier("ab")
    all_report(barrier, a=at(0, 0, due=5, until=5), b=at(0, 0, until=5))
    assert barrier.report("a", at(5, 0, "b", until=5)) == {"b": Go(5, 1, ("a",), 5)}
    assert barrier.report("b", at(5, 1, until=5)) == {"a": Arrive(5, 1), "b": Arrive(5, 1)}


def test_a_process_that_is_killed_leaves_the_others_hear_of_it_and_time_goes_on() -> None:
    barrier = Barrier("abc")
    barrier.report("a", at(0, 0, "c", due=5))
    barrier.report("b", at(0, 0, due=6))
    assert barrier.leave("c") == {"a": Go(0, 1, ("c",), 0), "b": Go(0, 1, ("c",), 0)}
    assert all_report(barrier, a=at(0, 1, due=5), b=at(0, 1, due=6)) == {"a": Go(5, 0, (), 6)}


def test_a_process_that_dies_while_others_act_changes_nothing_for_them() -> None:
    barrier = Barrier("abc")
    assert barrier.leave("c") == {}
    assert barrier.acting == {"a", "b"}
    assert barrier.leave("c") == {}


def test_what_a_process_has_said_before_its_end_is_still_heard() -> None:
    barrier = Barrier("ab")
    barrier.report("a", at(0, 0))
    assert barrier.leave("b", at(0, 0, "a")) == {"a": Go(0, 1, ("b",), NEVER)}


def test_a_process_that_has_ended_hears_nothing_any_more() -> None:
    barrier = Barrier("abc")
    barrier.leave("c", at(0, 0))
    assert all_report(barrier, a=at(0, 0, "c", due=1), b=at(0, 0)) == {"a": Go(1, 0, (), NEVER)}


def test_when_nothing_is_left_anywhere_all_waits_are_looked_at_together() -> None:
    barrier = Barrier("ab")
    assert all_report(barrier, a=at(0, 0), b=at(0, 0)) == {"a": Tell(), "b": Tell()}
    first = Waiting("x", "waits for y", ("y",))
    second = Waiting("y", "waits for x", ("x",))
    idle = Waiting("z", "waits for its stop", None)
    orders = all_report(
        barrier,
        a=Report(0, 0, waits=(first, idle), alive=("x", "z")),
        b=Report(0, 0, waits=(second,), alive=("y",)),
    )
    assert orders == {"a": Arrive(0, 0, (first, second)), "b": Arrive(0, 0, (first, second))}


def test_who_waits_for_one_elsewhere_that_can_go_on_does_not_wait_in_vain() -> None:
    barrier = Barrier("ab")
    all_report(barrier, a=at(0, 0), b=at(0, 0))
    orders = all_report(
        barrier,
        a=Report(0, 0, waits=(Waiting("x", "waits for y", ("y",)),), alive=("x",)),
        b=Report(0, 0, waits=(Waiting("y", "waits for its stop", None),), alive=("y",)),
    )
    assert orders == {"a": Arrive(0, 0), "b": Arrive(0, 0)}


def test_an_instant_without_end_is_found_and_then_there_is_time_to_clean_up() -> None:
    barrier = Barrier("ab", limit=2)
    said = {"a": at(0, 0, "b"), "b": at(0, 0, "a")}
    for k in range(1, 3):
        orders = all_report(barrier, **said)
        assert {order.k for order in orders.values() if isinstance(order, Go)} == {k}
        said = {"a": at(0, k, "b"), "b": at(0, k, "a")}
    assert all_report(barrier, **said) == {"a": Vain(0, 2), "b": Vain(0, 2)}
    assert all(isinstance(order, Go) for order in all_report(barrier, **said).values())


def test_after_time_has_passed_there_are_as_many_microsteps_as_before() -> None:
    barrier = Barrier("a", limit=1)
    assert barrier.report("a", at(0, 0, on=True)) == {"a": Go(0, 1, (), NEVER)}
    assert barrier.report("a", at(3, 1, on=True)) == {"a": Vain(3, 1)}
    assert barrier.report("a", at(4, 0, on=True)) == {"a": Go(4, 1, (), NEVER)}


def test_timers_where_nobody_lets_time_pass_are_not_waited_for() -> None:
    barrier = Barrier("ab")
    still = Report(0, 0, (), False, 3, False)
    assert all_report(barrier, a=still, b=at(0, 0, due=5)) == {"b": Go(5, 0, (), NEVER)}


def test_who_was_not_to_act_must_not_report() -> None:
    barrier = Barrier("ab")
    barrier.report("a", at(0, 0))
    with pytest.raises(AssertionError, match="a reports, and was not to act"):
        barrier.report("a", at(0, 0))
