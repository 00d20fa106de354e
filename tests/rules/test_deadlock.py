"""Who waits in vain: small pictures, and random ones against a naive search."""

from hypothesis import given, settings
from hypothesis import strategies as st

from geartrain.rules.deadlock import Waiting, stuck

# Who waits, and for whom; None is the outside.
Picture = list[tuple[str, tuple[str, ...] | None]]


def names_stuck(picture: Picture, *, alive: str = "") -> list[str]:
    waits = [Waiting(who, f"wait {number}", helpers) for number, (who, helpers) in enumerate(picture)]
    return [wait.who for wait in stuck(waits, set(alive) | {who for who, _ in picture})]


def test_without_waits_nobody_is_stuck() -> None:
    assert stuck([], {"a", "b"}) == ()


def test_two_that_wait_for_each_other_are_stuck() -> None:
    assert names_stuck([("a", ("b",)), ("b", ("a",))]) == ["a", "b"]


def test_one_that_waits_for_itself_is_stuck() -> None:
    assert names_stuck([("a", ("a",))]) == ["a"]


def test_a_ring_of_many_is_stuck_and_so_is_whoever_waits_for_it() -> None:
    ring: Picture = [(name, (helper,)) for name, helper in zip("abcde", "bcdea", strict=True)]
    assert names_stuck([*ring, ("f", ("a",)), ("g", ("f",))]) == list("abcdefg")


def test_who_waits_for_somebody_that_has_finished_is_stuck_and_so_is_the_chain_behind() -> None:
    assert names_stuck([("a", ()), ("b", ("a",)), ("c", ("b",))]) == ["a", "b", "c"]


def test_who_waits_for_somebody_that_is_not_alive_is_stuck() -> None:
    assert stuck([Waiting("a", "", ("gone",))], {"a"}) == (Waiting("a", "", ("gone",)),)


def test_who_waits_for_the_outside_is_idle_and_so_is_the_chain_behind() -> None:
    assert names_stuck([("a", None), ("b", ("a",)), ("c", ("b",))]) == []


def test_who_waits_for_somebody_that_is_busy_is_not_stuck() -> None:
    assert names_stuck([("a", ("busy",))], alive="") == ["a"]
    assert stuck([Waiting("a", "", ("busy",))], {"a", "busy"}) == ()


def test_one_helper_that_can_go_on_is_enough() -> None:
    assert names_stuck([("a", ("b", "c")), ("b", ("a",)), ("c", None)]) == []


def test_a_daemon_with_several_waits_goes_on_by_any_of_them() -> None:
    assert names_stuck([("a", ("b",)), ("b", ("a",)), ("a", None)]) == []


def test_a_daemon_with_several_waits_is_named_with_all_of_them() -> None:
    waits = [Waiting("a", "first", ("b",)), Waiting("b", "its", ("a",)), Waiting("a", "second", ())]
    assert stuck(waits, {"a", "b"}) == (waits[0], waits[2], waits[1])


def test_a_ring_is_found_beside_daemons_that_are_well() -> None:
    assert names_stuck([("x", None), ("a", ("b",)), ("y", ("x",)), ("b", ("a",))]) == ["a", "b"]


def goes_on(who: str, waits: list[Waiting], alive: set[str], seen: frozenset[str] = frozenset()) -> bool:
    """Naive: is there a path of helpers to the outside, or to somebody who is busy?"""
    its = [wait for wait in waits if wait.who == who]
    if not its:
        return who in alive
    if who in seen:
        return False
    return any(
        wait.helpers is None or any(goes_on(helper, waits, alive, seen | {who}) for helper in wait.helpers)
        for wait in its
    )


NAMES = st.sampled_from("abcdef")
WAITS = st.lists(
    st.builds(Waiting, NAMES, st.just("waits"), st.none() | st.lists(NAMES, max_size=3).map(tuple)), max_size=9
)


@settings(deadline=None, max_examples=300)
@given(WAITS, st.sets(NAMES))
def test_random_pictures_agree_with_a_naive_search(waits: list[Waiting], alive: set[str]) -> None:
    in_vain = [wait for wait in waits if not goes_on(wait.who, waits, alive)]
    # The waits of one daemon stand together, where it was met first.
    met = [wait.who for wait in waits]
    assert list(stuck(waits, alive)) == sorted(in_vain, key=lambda wait: met.index(wait.who))
