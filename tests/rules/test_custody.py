"""An item is handed on for good when everything that came of it is."""

from hypothesis import given
from hypothesis import strategies as st

from geartrain.rules.custody import NOTHING_TO_LOSE, Custody


def test_an_item_is_stable_when_all_that_was_sent_while_it_was_in_hand_is() -> None:
    custody: Custody[int] = Custody()
    custody.asked_past(0, 6, [9, 7])
    assert list(custody.settled([9, 6])) == []
    assert list(custody.settled([8, 7])) == []
    assert custody.waits
    assert list(custody.settled([9, 7])) == [(0, 6)]
    assert not custody.waits


def test_who_sends_nothing_is_done_at_once() -> None:
    custody: Custody[int] = Custody()
    custody.asked_past(0, 1, [])
    assert list(custody.settled([])) == [(0, 1)]


def test_an_output_that_cannot_lose_anything_is_not_waited_for() -> None:
    custody: Custody[int] = Custody()
    custody.asked_past(0, 3, [5, 2])
    assert list(custody.settled([NOTHING_TO_LOSE, 2])) == [(0, 3)]


def test_inputs_are_settled_each_on_its_own() -> None:
    custody: Custody[int] = Custody()
    custody.asked_past(0, 1, [1])
    custody.asked_past(1, 4, [2])
    custody.asked_past(0, 2, [3])
    assert list(custody.settled([2])) == [(0, 1), (1, 4)]
    assert list(custody.settled([3])) == [(0, 2)]


def test_a_daemon_that_asks_and_sends_nothing_takes_no_room() -> None:
    custody: Custody[int] = Custody()
    for number in range(1, 100_000):
        custody.asked_past(0, number, [7])
    assert len(custody._marks) == 1
    assert list(custody.settled([7])) == [(0, 99_999)]


Step = tuple[str, int]


@given(st.lists(st.tuples(st.sampled_from(["ask", "send", "stable"]), st.integers(0, 1)), max_size=200))
def test_nothing_is_settled_before_what_came_of_it_and_everything_in_the_end(steps: list[Step]) -> None:
    custody: Custody[int] = Custody()
    taken, sent, stable = [0, 0], [0, 0], [0, 0]
    came_of: dict[tuple[int, int], tuple[int, int]] = {}
    settled = [0, 0]

    def settle() -> None:
        for source, number in custody.settled(stable):
            assert number > settled[source]
            for item in range(settled[source] + 1, number + 1):
                assert all(out >= before for out, before in zip(stable, came_of[source, item], strict=True))
            settled[source] = number

    for what, which in steps:
        if what == "ask":
            if taken[which]:
                came_of.setdefault((which, taken[which]), (sent[0], sent[1]))
                custody.asked_past(which, taken[which], sent)
            taken[which] += 1
        elif what == "send":
            sent[which] += 1
        else:
            stable[which] = sent[which]
            settle()
    stable = list(sent)
    settle()
    assert settled == [max(0, count - 1) for count in taken]
