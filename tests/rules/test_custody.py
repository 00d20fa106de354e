"""An item is handed on for good when everything that came of it is."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from geartrain.rules.custody import NOTHING_TO_LOSE, Custody
from geartrain.rules.pipeline import Mark


def at(number: int) -> Mark:
    return Mark(1, number)


def settled(custody: Custody, *stable: int) -> list[tuple[int, int]]:
    return [(input, mark.sequence) for input, mark in custody.settled(stable)]


def test_an_item_is_stable_when_all_that_was_sent_while_it_was_in_hand_is() -> None:
    custody = Custody()
    custody.released(0, at(6), [9, 7])
    assert settled(custody, 9, 6) == []
    assert settled(custody, 8, 7) == []
    assert custody.waits
    assert settled(custody, 9, 7) == [(0, 6)]
    assert not custody.waits


def test_who_sends_nothing_is_done_at_once() -> None:
    custody = Custody()
    custody.released(0, at(1), [])
    assert settled(custody) == [(0, 1)]


def test_an_output_that_cannot_lose_anything_is_not_waited_for() -> None:
    custody = Custody()
    custody.released(0, at(3), [5, 2])
    assert settled(custody, NOTHING_TO_LOSE, 2) == [(0, 3)]


def test_inputs_are_settled_each_on_its_own() -> None:
    custody = Custody()
    custody.released(0, at(1), [1])
    custody.released(1, at(4), [2])
    custody.released(0, at(2), [3])
    assert settled(custody, 2) == [(0, 1), (1, 4)]
    assert settled(custody, 3) == [(0, 2)]


def test_a_daemon_that_asks_and_sends_nothing_takes_no_room() -> None:
    custody = Custody()
    for number in range(1, 100_000):
        custody.released(number % 2, at(number), [7])
    assert len(custody._releases) == 1
    assert settled(custody, 7) == [(1, 99_999), (0, 99_998)]


def test_what_is_settled_says_which_life_of_its_writer_it_is_of() -> None:
    custody = Custody()
    custody.released(0, Mark(1, 500), [9])
    custody.released(0, Mark(2, 3), [10])
    assert list(custody.settled([9])) == [(0, Mark(1, 500))]
    assert list(custody.settled([10])) == [(0, Mark(2, 3))]


# -- repeats ----------------------------------------------------------------------------------------------------------


def repeat(number: int) -> Mark:
    return Mark(1, number, redelivered=True)


def test_what_is_sent_is_a_repeat_from_when_a_repeated_item_is_taken_until_it_is_done_with() -> None:
    custody = Custody()
    custody.took(0, at(4))
    assert not custody.repeats
    custody.took(0, repeat(5))
    assert custody.repeats
    custody.released(0, at(5), [1])
    assert not custody.repeats


def test_a_repeated_item_that_is_held_makes_repeats_of_what_comes_of_later_ones() -> None:
    custody = Custody()
    for mark in (repeat(5), repeat(6), at(7), at(8)):
        custody.took(0, mark)
    custody.released(0, at(5), [1])
    assert custody.repeats
    custody.released(0, at(6), [2])
    assert not custody.repeats


def test_an_input_whose_repeats_are_done_with_says_nothing_of_another() -> None:
    custody = Custody()
    custody.took(0, repeat(5))
    custody.took(1, repeat(2))
    custody.released(0, at(5), [1])
    assert custody.repeats
    custody.released(1, at(2), [1])
    assert not custody.repeats


def test_the_repeats_of_a_writers_former_life_are_done_with_when_an_item_of_a_later_one_is() -> None:
    custody = Custody()
    custody.took(0, repeat(500))
    custody.released(0, Mark(2, 1), [1])
    assert not custody.repeats


# -- steps ------------------------------------------------------------------------------------------------------------


def test_a_step_gives_up_all_that_was_received_inside_together_and_nothing_before() -> None:
    custody = Custody()
    custody.begin_step()
    custody.released(0, at(1), [0])
    custody.released(1, at(7), [1])
    assert settled(custody, 2) == []
    custody.end_step({0: at(2)}, [2])
    assert settled(custody, 1) == []
    assert settled(custody, 2) == [(0, 2), (1, 7)]


def test_a_step_that_fails_gives_up_nothing() -> None:
    custody = Custody()
    custody.released(0, at(1), [0])
    custody.begin_step()
    custody.released(0, at(2), [1])
    custody.abandon_step()
    assert settled(custody, 9) == [(0, 1)]
    custody.released(0, at(3), [1])
    assert settled(custody, 9) == [(0, 3)]


def test_a_step_in_which_nothing_is_received_gives_up_nothing() -> None:
    custody = Custody()
    custody.begin_step()
    custody.end_step({}, [4])
    assert not custody.waits


def test_all_that_is_sent_in_a_step_with_a_repeated_item_is_a_repeat() -> None:
    custody = Custody()
    custody.begin_step()
    custody.took(0, repeat(1))
    custody.released(0, at(1), [0])
    custody.took(0, at(2))
    assert custody.repeats
    custody.end_step({0: at(2)}, [3])
    assert not custody.repeats


# -- random histories -------------------------------------------------------------------------------------------------

Event = tuple[str, int]
EVENTS = st.tuples(st.sampled_from(["ask", "ask", "send", "send", "stable", "step", "end", "fail"]), st.integers(0, 1))


@given(st.lists(EVENTS, max_size=200))
def test_nothing_is_settled_before_what_came_of_it_and_everything_in_the_end(events: Sequence[Event]) -> None:
    custody = Custody()
    taken, asked, sent, stable = [0, 0], [0, 0], [0, 0], [0, 0]
    came_of: dict[tuple[int, int], tuple[int, int]] = {}
    received: dict[int, Mark] = {}
    done = [0, 0]

    def give_up(source: int, number: int) -> None:
        """The daemon is done with this item and all before it, and has sent so much."""
        for item in range(number, 0, -1):
            if (source, item) in came_of:
                break
            came_of[source, item] = (sent[0], sent[1])

    def settle() -> None:
        for source, mark in custody.settled(stable):
            for item in range(done[source] + 1, mark.sequence + 1):
                assert all(out >= before for out, before in zip(stable, came_of[source, item], strict=True))
            done[source] = mark.sequence

    for what, which in events:
        match what:
            case "ask":
                asked[which] = taken[which]
                if not custody.in_step:
                    give_up(which, taken[which])
                custody.released(which, at(taken[which]), sent)
                taken[which] += 1
                received[which] = at(taken[which])
                custody.took(which, at(taken[which]))
            case "send":
                sent[which] += 1
            case "step" if not custody.in_step:
                custody.begin_step()
                received, asked = {}, [0, 0]
            case "end" if custody.in_step:
                for source, number in enumerate(asked):
                    give_up(source, number)
                for source, mark in received.items():
                    give_up(source, mark.sequence)
                custody.end_step(received, sent)
            case "fail" if custody.in_step:
                custody.abandon_step()
            case "stable":
                stable[which] = sent[which]
                settle()
    if custody.in_step:
        custody.abandon_step()
    for source in (0, 1):
        give_up(source, taken[source])
        custody.released(source, at(taken[source]), sent)
    stable = list(sent)
    settle()
    assert done == taken


def test_a_repeat_of_a_former_life_is_one_also_when_the_next_life_of_its_writer_has_been_met() -> None:
    custody = Custody()
    custody.took(0, repeat(5))
    # Whoever asks past an item names the present life of its writer, of which nothing has been taken yet.
    custody.released(0, Mark(2, 0), [1])
    assert not custody.repeats
    custody.took(0, repeat(6))
    assert custody.repeats
    custody.released(0, Mark(2, 0), [2])
    custody.took(0, Mark(2, 1))
    assert not custody.repeats
