"""The gate of a resource: who is too late is kept out, whoever says what."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.errors import BadType, BadValue, Fenced
from geartrain.rules.fence import FenceGate, Seen
from geartrain.rules.lease_words import Done, Grant, Mode
from tests.rules.leasing import Talk, one, only


def is_let_in(gate: FenceGate, token: int, mode: Mode = "x") -> bool:
    try:
        gate.admit(token, mode)
    except Fenced:
        return False
    return True


def test_who_writes_with_an_older_token_than_was_seen_is_kept_out_and_told_what_to_do() -> None:
    gate = FenceGate("workcell/left")
    gate.admit(5)
    gate.admit(5)
    gate.admit(9)
    with pytest.raises(Fenced, match=r"token 5 is too late for 'workcell/left': 9 was here.*acquire it anew"):
        gate.admit(5)
    gate.admit(9)


def test_readers_of_one_time_do_not_keep_each_other_out_and_an_older_writer_is_kept_out_by_them() -> None:
    gate = FenceGate("a")
    gate.admit(3, "x")
    for token in (7, 5, 6, 7):
        gate.admit(token, "s")
    assert not is_let_in(gate, 4, "x")
    assert not is_let_in(gate, 2, "s")
    gate.admit(8, "x")
    assert not is_let_in(gate, 7, "s")


def test_a_gate_that_is_told_of_a_grant_keeps_the_old_holder_out_before_the_new_one_comes() -> None:
    gate = FenceGate("a")
    gate.admit(5)
    gate.learn(9)
    assert not is_let_in(gate, 5)
    gate.learn(7)
    assert gate.seen == Seen(9, 9)


def test_a_gate_that_begins_again_with_what_it_has_seen_forgets_nothing() -> None:
    gate = FenceGate("a")
    gate.admit(5)
    gate.admit(8, "s")
    again = FenceGate("a", gate.seen)
    assert not is_let_in(again, 7)
    assert is_let_in(again, 6, "s")


@pytest.mark.parametrize("token", [None, 0])
def test_without_a_token_nobody_gets_in(token: int | None) -> None:
    with pytest.raises(Fenced, match="without a token"):
        FenceGate("a").admit(token)


@pytest.mark.parametrize(
    ("token", "mode", "error"), [("5", "x", BadType), (True, "x", BadType), (-1, "x", Fenced), (5, "w", BadValue)]
)
def test_what_is_no_token_or_no_mode_is_refused(token: Any, mode: Any, error: type[Exception]) -> None:
    gate = FenceGate("a", Seen(1, 1))
    with pytest.raises(error):
        gate.admit(token, mode)
    assert gate.seen == Seen(1, 1)


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["x", "s"])), max_size=20))
def test_nobody_gets_in_before_whom_an_exclusive_one_had_come(visits: list[tuple[int, Mode]]) -> None:
    gate = FenceGate("a")
    was_in = [(token, mode) for token, mode in visits if is_let_in(gate, token, mode)]
    for at, (token, mode) in enumerate(was_in):
        assert all(token >= before for before, other in was_in[:at] if "x" in (mode, other))


def test_a_holder_that_was_frozen_is_kept_out_by_whoever_came_after_it() -> None:
    talk, gate = Talk(), FenceGate("cell")
    frozen, other = talk.open(), talk.open()
    old = talk.granted(frozen, "cell", ttl=5)
    gate.admit(old.token)
    n = talk.waits(other, "cell")
    new = one(talk.passes(10), Grant)
    assert new.n == n
    gate.admit(new.token)
    assert not is_let_in(gate, old.token)


def test_after_a_hand_over_and_after_a_change_of_mode_only_the_new_token_is_good() -> None:
    talk, gate = Talk(), FenceGate("cell")
    session, other = talk.open(), talk.open()
    shared = talk.granted(session, "cell", mode="s")
    gate.admit(shared.token, "s")
    raised = only(talk.set_mode(shared, "x"), Done)
    gate.admit(raised.token)
    assert not is_let_in(gate, shared.token, "s")
    talk.offer(Grant(session, 0, raised.lease, raised.token, (), 0), other)
    adopted = one(talk.adopt(other, raised.lease), Grant)
    gate.admit(adopted.token)
    assert not is_let_in(gate, raised.token)
