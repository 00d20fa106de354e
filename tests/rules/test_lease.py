"""Leases are decided: case by case, and at random histories against a model that searches everything."""

from typing import Any

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from geartrain.errors import BadType, BadValue, TermsDiffer
from geartrain.rules.lease import CLAIMS_MOST, State, Terms, as_recorded
from geartrain.rules.lease_ledger import (
    ANSWERS_MOST,
    REQUESTS_MOST,
    Ended,
    Granted,
    Lease,
    Ledger,
    Renewed,
    SessionOpened,
    compact,
    fold,
)
from geartrain.rules.lease_words import (
    Acquire,
    Adopt,
    Alive,
    Begin,
    Claim,
    Close,
    Done,
    Grant,
    Lost,
    Mode,
    Note,
    Offer,
    Open,
    Opened,
    Refusal,
    Release,
    Renew,
    SetMode,
    Shown,
    Tick,
    Waiting,
    Withdraw,
)
from geartrain.rules.regions import key_of
from tests.rules.leasing import Model, S, Talk, Wish, one, only

# -- one and another --------------------------------------------------------------------------------------------------


def test_what_is_free_is_granted_with_a_token_and_what_is_taken_is_refused_with_who_has_it() -> None:
    talk = Talk()
    left, right = talk.open("left arm"), talk.open("right arm")
    grant = talk.granted(left, "Workcell//left")
    assert grant.claims == (Claim("Workcell/left", "x"),)
    refusal = talk.refused(right, "workcell")
    assert refusal.code == "conflict"
    assert [(met.lease, met.session, met.region) for met in refusal.conflicts] == [(grant.lease, left, "Workcell/left")]
    assert "wait" in refusal.said
    talk.release(grant)
    assert talk.granted(right, "workcell").token > grant.token


@pytest.mark.parametrize(("one_mode", "other_mode", "both"), [("s", "s", True), ("s", "x", False), ("x", "s", False)])
def test_only_shared_goes_with_shared(one_mode: Mode, other_mode: Mode, both: bool) -> None:
    talk = Talk()
    talk.granted(talk.open(), "a/b", mode=one_mode)
    [reply] = talk.acquire(talk.open(), "a", mode=other_mode)
    assert isinstance(reply, Grant) is both


def test_of_many_claims_all_are_granted_or_none() -> None:
    talk = Talk()
    one_session, other = talk.open(), talk.open()
    talk.granted(one_session, "b")
    assert talk.refused(other, "a", "b", "c").code == "conflict"
    assert talk.granted(one_session, "a", "c").claims == (Claim("a"), Claim("c"))


def test_of_two_claims_of_one_region_the_exclusive_one_counts() -> None:
    talk = Talk()
    claims = (Claim("a", "s"), Claim("./A", "x"), Claim("a", "s"))
    grant = only(talk(Acquire(talk.open(), 1, claims, S)), Grant)
    assert grant.claims == (Claim("A", "x"),)


def test_a_lease_ends_after_its_time_and_the_grace_and_not_before() -> None:
    talk = Talk(Terms(grace_ns=S))
    session, other = talk.open(), talk.open()
    grant = talk.granted(session, "a", ttl=5)
    talk.passes(5.999)
    assert talk.refused(other, "a").code == "conflict"
    assert talk.passes(0.001) == (Lost(session, grant.lease, "expired"),)
    talk.granted(other, "a")


def test_a_renewed_lease_lives_and_is_written_once_in_a_while() -> None:
    talk = Talk()
    session = talk.open()
    talk.granted(session, "a", ttl=3)
    written = 0
    for _ in range(60):
        talk.passes(1)
        assert talk.renew(session) == (Alive(session),)
        written += len(talk.last.records)
    assert written == 15
    talk.passes(2.9)
    assert talk.held() != {}
    talk.passes(0.1)
    assert talk.held() == {}


def test_who_renews_exactly_has_that_time_and_no_more_in_every_life_to_come() -> None:
    talk = Talk()
    session = talk.open()
    grant = talk.granted(session, "a", ttl=3)
    talk.passes(1)
    talk(Renew(session, (Shown(grant.lease, grant.token),), exact=True))
    [record] = talk.last.records
    assert isinstance(record, Renewed)
    assert record.until_ns == talk.now_ns + 3 * S + talk.state.terms.grace_ns


def test_how_a_lease_has_ended_is_known_in_the_next_life() -> None:
    ledger = Ledger()
    opened, granted = SessionOpened(1, "secret", "", S), Granted(2, 1, Lease(2, 2, 1, (Claim("a"),), 2, 3, 1))
    for record in (opened, granted, Ended(3, 2, "expired")):
        ledger.apply(record)
    [refusal] = State(ledger).decide(Release(1, 2, 2, 2), 4).replies
    assert isinstance(refusal, Refusal)
    assert refusal.code == "expired"


def test_who_renews_is_told_what_is_lost() -> None:
    talk = Talk()
    session = talk.open()
    short, long = talk.granted(session, "a", ttl=1), talk.granted(session, "b", ttl=5)
    talk.now_ns += 2 * S
    assert one(talk.renew(session, short, long), Alive).lost == (short.lease,)


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_who_waits_is_granted_as_soon_as_what_is_in_the_way_has_gone() -> None:
    talk = Talk()
    first, second = talk.open(), talk.open()
    grant = talk.granted(first, "a")
    n = talk.waits(second, "a/b")
    replies = talk.release(grant)
    assert isinstance(replies[0], Done)
    assert one(replies, Grant).n == n


def test_nobody_overtakes_who_wants_the_same() -> None:
    talk = Talk()
    reader, writer, late = talk.open(), talk.open(), talk.open()
    shared = talk.granted(reader, "a", mode="s")
    n = talk.waits(writer, "a")
    assert talk.refused(late, "a", mode="s").code == "conflict"
    behind = talk.waits(late, "a/b", mode="s")
    talk.granted(late, "b")
    replies = talk.release(shared)
    assert one(replies, Grant).n == n
    assert one(talk.release(one(replies, Grant)), Grant).n == behind


def test_a_stream_of_readers_does_not_starve_a_writer() -> None:
    talk = Talk()
    readers = [talk.open() for _ in range(5)]
    held = [talk.granted(reader, "a", mode="s") for reader in readers]
    n = talk.waits(talk.open(), "a")
    for reader in readers:
        talk.waits(reader, "a", mode="s", owner=1)
    replies = [reply for grant in held for reply in talk.release(grant)]
    assert one(replies, Grant).n == n


def test_a_wait_that_is_over_is_refused_and_lets_those_behind_go_on() -> None:
    talk = Talk()
    reader, writer, late = talk.open(), talk.open(), talk.open()
    grant = talk.granted(reader, "a", mode="s")
    n = talk.waits(writer, "a", wait=2)
    behind = talk.waits(late, "a", mode="s")
    replies = talk.passes(2)
    refusal = one(replies, Refusal)
    assert (refusal.n, refusal.code, refusal.conflicts[0].lease) == (n, "timeout", grant.lease)
    assert one(replies, Grant).n == behind


@pytest.mark.parametrize("lease_first", [True, False])
def test_a_lease_and_a_wait_that_run_out_before_anybody_looks_do_so_in_their_order(lease_first: bool) -> None:
    talk = Talk()
    holder, waiter = talk.open(), talk.open()
    talk.granted(holder, "a", ttl=3 if lease_first else 5)
    talk.waits(waiter, "a", wait=4)
    replies = talk.passes(10)
    assert {type(reply) for reply in replies} == ({Lost, Grant} if lease_first else {Lost, Refusal})


def test_a_withdrawn_request_waits_no_more_and_what_it_was_granted_is_given_back() -> None:
    talk = Talk()
    first, second, third = talk.open(), talk.open(), talk.open()
    grant = talk.granted(first, "a", n=70)
    n = talk.waits(second, "a")
    behind = talk.waits(third, "a")
    replies = talk.withdraw(second, n)
    assert (one(replies, Refusal).n, one(replies, Refusal).code) == (n, "cancelled")
    replies = talk.withdraw(first, 70)
    assert one(replies, Grant).n == behind
    assert grant.lease not in talk.held()
    assert talk.withdraw(first, 70)[0] == Done(first, talk.last.replies[0].n, 0)  # type: ignore[union-attr]


def test_who_wants_two_waits_for_both_and_nobody_takes_one_from_under_it() -> None:
    talk = Talk()
    first, second, third = talk.open(), talk.open(), talk.open()
    a = talk.granted(first, "a")
    n = talk.waits(second, "a", "b")
    late = talk.waits(third, "b")
    replies = talk.release(a)
    both = one(replies, Grant)
    assert both.n == n
    assert one(talk.release(both), Grant).n == late


def test_two_that_want_each_others_are_no_deadlock_when_they_ask_for_all_at_once() -> None:
    talk = Talk()
    first, second = talk.open(), talk.open()
    grant = talk.granted(first, "a", "b")
    talk.waits(second, "b", "a")
    assert one(talk.release(grant), Grant).session == second


def test_who_would_wait_in_a_circle_is_refused_at_once() -> None:
    talk = Talk()
    sessions = [talk.open() for _ in range(3)]
    for session, region in zip(sessions, "abc", strict=True):
        talk.granted(session, region)
    talk.waits(sessions[0], "b")
    talk.waits(sessions[1], "c")
    refusal = talk.refused(sessions[2], "a", wait=100)
    assert refusal.code == "deadlock"
    assert all(f"session {session}" in refusal.said for session in sessions[:2])


def test_a_circle_through_the_queue_is_found_too() -> None:
    talk = Talk()
    first, second, third = talk.open(), talk.open(), talk.open()
    talk.granted(first, "a")
    talk.granted(second, "b")
    talk.waits(third, "a", "c")
    talk.waits(second, "c")
    # First would wait for second, which waits behind third, which waits for first.
    assert talk.refused(first, "b", wait=100).code == "deadlock"


def test_the_second_who_wants_to_raise_the_same_is_refused_for_neither_could() -> None:
    talk = Talk()
    first, second = talk.open(), talk.open()
    one_lease, other = talk.granted(first, "a", mode="s"), talk.granted(second, "a", mode="s")
    assert isinstance(talk.set_mode(one_lease, "x", wait=10)[0], Waiting)
    assert only(talk.set_mode(other, "x", wait=10), Refusal).code == "deadlock"
    released, raised = talk.release(other)
    assert isinstance(released, Done)
    assert isinstance(raised, Done)
    assert (raised.lease, raised.token > other.token) == (one_lease.lease, True)


def test_to_wait_for_oneself_is_refused_unless_it_is_reentrant_or_another_owner_waits() -> None:
    talk = Talk()
    session = talk.open()
    grant = talk.granted(session, "a", owner=1)
    assert talk.refused(session, "a/b", owner=1, wait=10).code == "conflict_self"
    assert talk.granted(session, "a/b", owner=1, reentrant=True).lease > grant.lease
    talk.waits(session, "a", owner=2)


# -- modes ------------------------------------------------------------------------------------------------------------


def test_raised_and_lowered_it_stays_one_lease_with_a_new_token_each_time() -> None:
    talk = Talk()
    session, other = talk.open(), talk.open()
    grant = talk.granted(session, "a", "b", mode="s")
    raised = only(talk.set_mode(grant, "x"), Done)
    assert talk.refused(other, "b", mode="s").code == "conflict"
    behind = talk.waits(other, "b", mode="s")
    replies = talk.set_mode(Grant(session, 0, grant.lease, raised.token, (), 0), "s")
    assert one(replies, Grant).n == behind
    assert one(replies, Done).token > raised.token > grant.token


def test_to_ask_for_the_mode_that_it_has_writes_nothing_and_is_answered_by_how_it_is_each_time() -> None:
    talk = Talk()
    session = talk.open()
    grant = talk.granted(session, "a", ttl=10)
    ask = SetMode(session, talk.n(), grant.lease, grant.token, "x")
    for _ in range(2):
        assert only(talk(ask), Done) == Done(session, ask.n, grant.lease, grant.token)
        assert talk.last.records == ()
    talk.passes(11)
    assert only(talk(ask), Refusal).code == "expired"


@pytest.mark.parametrize("is_renewed", [False, True])
def test_a_lease_whose_mode_has_changed_runs_out_as_before_and_is_renewed_as_before(is_renewed: bool) -> None:
    talk = Talk()
    session, other = talk.open(), talk.open()
    grant = talk.granted(session, "a", mode="s", ttl=5)
    talk.passes(3)
    talk.set_mode(grant, "x")
    if is_renewed:
        assert talk.renew(session) == (Alive(session),)
        talk.passes(3)
    talk.passes(1.9)
    assert talk.refused(other, "a").code == "conflict"
    talk.passes(0.1)
    talk.granted(other, "a")


def test_who_raises_goes_before_those_who_wait_for_it() -> None:
    talk = Talk()
    session, other, third = talk.open(), talk.open(), talk.open()
    grant = talk.granted(session, "a", mode="s")
    shared = talk.granted(third, "a", mode="s")
    talk.waits(other, "a")
    assert isinstance(talk.set_mode(grant, "x", wait=10)[0], Waiting)
    replies = talk.release(shared)
    assert len([reply for reply in replies if isinstance(reply, Done)]) == 2
    assert not [reply for reply in replies if isinstance(reply, Grant)]


def test_who_waits_to_raise_a_lease_that_ends_is_told_so() -> None:
    talk = Talk()
    session, other = talk.open(), talk.open()
    grant = talk.granted(session, "a", mode="s", ttl=5)
    talk.granted(other, "a", mode="s", ttl=50)
    talk.set_mode(grant, "x", wait=100)
    assert one(talk.passes(5), Refusal).code == "not_held"


# -- alone, budgets, rules, delays ------------------------------------------------------------------------------------


def test_who_runs_alone_runs_with_nobody() -> None:
    talk = Talk()
    first, second, third = talk.open(), talk.open(), talk.open()
    grant = talk.granted(first, "a")
    assert talk.refused(second, "b", alone=True).code == "alone"
    n = talk.waits(second, "b", alone=True)
    late = talk.waits(third, "c")
    replies = talk.release(grant)
    assert one(replies, Grant).n == n
    assert talk.refused(first, "lock://d").code == "alone"
    assert one(talk.release(one(replies, Grant)), Grant).n == late


def test_of_a_class_there_are_as_many_as_its_budget_says_and_the_first_first() -> None:
    talk = Talk(Terms(budgets={"lift": 2}))
    sessions = [talk.open() for _ in range(5)]
    first = talk.granted(sessions[0], "a", cls="lift")
    talk.granted(sessions[1], "b", cls="lift")
    refusal = talk.refused(sessions[2], "c", cls="lift")
    assert (refusal.code, "2 at once" in refusal.said) == ("budget", True)
    talk.granted(sessions[2], "c", cls="other")
    n = talk.waits(sessions[3], "d", cls="lift")
    talk.waits(sessions[4], "e", cls="lift")
    assert one(talk.release(first), Grant).n == n


def test_a_rule_may_refuse_and_never_grant() -> None:
    seen = []

    def no_nights(ask: Acquire, live: Any) -> str | None:
        seen.append(len(list(live)))
        return "it is night" if ask.label == "" and len(seen) > 1 else None

    talk = Talk(Terms(rules=(no_nights,)))
    session, other = talk.open(), talk.open()
    talk.granted(session, "a")
    refusal = talk.refused(other, "b")
    assert (refusal.code, refusal.said) == ("rule", "rule no_nights refuses: it is night")
    assert talk.refused(other, "a").code == "conflict"
    assert seen == [0, 1]


@pytest.mark.parametrize("bad", [True, 0, "", object()], ids=["true", "zero", "empty", "object"])
def test_a_rule_that_says_what_is_no_reason_refuses(bad: object) -> None:
    talk = Talk(Terms(rules=(lambda ask, live: bad,)))  # type: ignore[arg-type,return-value]
    assert talk.refused(talk.open(), "a").code == "rule"


def test_a_rule_that_fails_refuses_and_is_named() -> None:
    def broken(ask: Acquire, live: object) -> None:
        raise RuntimeError("no map")

    talk = Talk(Terms(rules=(broken,)))
    assert talk.refused(talk.open(), "a").said == "rule broken refuses: it failed: RuntimeError: no map"


def test_a_rule_that_refuses_at_the_end_of_a_wait_lets_those_behind_go_on() -> None:
    asked: list[int] = []

    def once(ask: Acquire, live: object) -> str | None:
        asked.append(ask.n)
        return "not any more" if asked.count(ask.n) == 2 and ask.cls == "odd" else None

    talk = Talk(Terms(rules=(once,)))
    first, second, third = talk.open(), talk.open(), talk.open()
    grant = talk.granted(first, "a")
    talk.waits(second, "a", cls="odd")
    n = talk.waits(third, "a")
    replies = talk.release(grant)
    assert one(replies, Refusal).code == "rule"
    assert one(replies, Grant).n == n


@pytest.mark.parametrize("how", ["expired", "evicted", "died"])
def test_after_a_loss_the_regions_stay_closed_for_the_delay(how: str) -> None:
    talk = Talk()
    session, other = talk.open(), talk.open()
    grant = talk.granted(session, "a", ttl=5, delay=3)
    match how:
        case "expired":
            talk.passes(5)
        case "evicted":
            talk.evict(other, grant.lease)
        case "died":
            talk.close(session, died=True)
    assert "for a while" in talk.refused(other, "a").said
    n = talk.waits(other, "a")
    assert talk.passes(2.9) == ()
    assert only(talk.passes(0.1), Grant).n == n


def test_after_a_release_there_is_no_delay() -> None:
    talk = Talk()
    session, other = talk.open(), talk.open()
    talk.release(talk.granted(session, "a", delay=3))
    talk.granted(other, "a")


# -- sessions, handing over -------------------------------------------------------------------------------------------


def test_with_a_session_ends_what_is_bound_to_it_and_what_is_bound_to_a_time_lives_on() -> None:
    talk = Talk()
    session, other = talk.open(), talk.open()
    talk.granted(session, "a")
    kept = talk.granted(session, "b", bind="ttl", ttl=30)
    n = talk.waits(other, "a")
    talk.waits(session, "b", owner=1)
    assert one(talk.close(session), Grant).n == n
    assert talk.refused(other, "b").code == "conflict"
    assert talk.refused(session, "c").code == "no_session"
    assert one(talk.renew(other, kept), Alive).lost == ()
    assert only(talk.release(kept, session=other), Done).lease == kept.lease


def test_a_session_without_a_word_ends_but_not_before_what_it_holds() -> None:
    talk = Talk()
    session, other = talk.open(ttl=2), talk.open()
    talk.granted(session, "a", ttl=10)
    talk.passes(9)
    assert talk.refused(other, "a").code == "conflict"
    talk.passes(1)
    assert session not in talk.state.ledger.sessions
    talk.granted(other, "a")


def test_any_word_keeps_a_session() -> None:
    talk = Talk()
    session = talk.open(ttl=2)
    for _ in range(5):
        talk.passes(1.5)
        talk.release(talk.granted(session, "a"))


def test_who_opens_again_by_its_secret_has_the_same_session_and_a_label_opens_none() -> None:
    talk = Talk()
    first = only(talk(Open("secret", "arm")), Opened)
    assert only(talk(Open("secret", "arm")), Opened).session == first.session
    assert only(talk(Open("other", "arm")), Opened).session != first.session


def test_what_was_offered_may_be_adopted_and_the_old_token_is_void() -> None:
    talk = Talk()
    old, new, third = talk.open(), talk.open(), talk.open()
    grant = talk.granted(old, "a")
    assert only(talk.adopt(new, grant.lease, grant.token), Refusal).code == "holder_lives"
    talk.offer(grant, new)
    assert only(talk.adopt(third, grant.lease, grant.token), Refusal).code == "holder_lives"
    replies = talk.adopt(new, grant.lease)
    adopted = one(replies, Grant)
    assert one(replies, Lost) == Lost(old, grant.lease, "adopted")
    assert adopted.token > grant.token
    assert only(talk.release(grant), Refusal).code == "not_holder"
    assert only(talk.release(Grant(new, 0, grant.lease, grant.token, (), 0)), Refusal).code == "not_holder"
    assert isinstance(talk.release(adopted)[0], Done)


def test_an_offer_is_over_when_another_has_adopted_the_lease() -> None:
    talk = Talk()
    old, invited, quicker = talk.open(), talk.open(), talk.open()
    grant = talk.granted(old, "a", bind="ttl")
    talk.offer(grant, invited)
    talk(Close(old))
    adopted = one(talk.adopt(quicker, grant.lease, grant.token), Grant)
    assert only(talk.adopt(invited, grant.lease), Refusal).code == "holder_lives"
    assert isinstance(talk.release(adopted)[0], Done)


def test_what_outlives_its_session_may_be_adopted_by_who_knows_its_token() -> None:
    talk = Talk()
    old, new = talk.open(), talk.open()
    grant = talk.granted(old, "a", bind="ttl")
    assert only(talk.adopt(new, grant.lease, grant.token), Refusal).code == "holder_lives"
    talk.close(old)
    assert only(talk.adopt(new, grant.lease, grant.token + 1), Refusal).code == "holder_lives"
    assert one(talk.adopt(new, grant.lease, grant.token), Grant).token > grant.token


def test_an_adoption_that_closes_a_circle_refuses_the_youngest_in_it() -> None:
    talk = Talk()
    first, second, third = talk.open(), talk.open(), talk.open()
    mine, given = talk.granted(first, "a"), talk.granted(third, "b")
    talk.waits(second, "a")
    talk.waits(first, "b", wait=100)
    talk.offer(given, second)
    replies = talk.adopt(second, given.lease)
    assert [(reply.session, reply.code) for reply in replies if isinstance(reply, Refusal)] == [(first, "deadlock")]
    assert one(talk.release(mine), Grant).session == second


# -- bad words --------------------------------------------------------------------------------------------------------


def test_wrong_token_wrong_session_and_a_second_release_change_nothing_and_are_named() -> None:
    talk = Talk()
    session, other = talk.open(), talk.open()
    grant = talk.granted(session, "a")
    for wrong in (Release(session, 90, grant.lease, 1), Release(other, 91, grant.lease, grant.token)):
        assert only(talk(wrong), Refusal).code == "not_holder"
        assert talk.last.records == ()
    talk.release(grant)
    assert only(talk.release(grant), Refusal).code == "not_held"
    assert "has ended: released" in only(talk.release(grant), Refusal).said
    assert only(talk(Release(session, 99, 12345, 1)), Refusal).code == "not_held"


def test_to_renew_or_release_what_has_run_out_is_refused_even_if_nobody_has_looked() -> None:
    talk = Talk()
    session = talk.open()
    grant = talk.granted(session, "a", ttl=5)
    talk.now_ns += 5 * S
    assert one(talk.renew(session, grant), Alive).lost == (grant.lease,)
    assert only(talk.release(grant), Refusal).code == "expired"


def test_a_session_that_renews_no_lease_lives_on_and_its_leases_do_not() -> None:
    talk = Talk()
    session = talk.open(ttl=3)
    talk.granted(session, "a", ttl=5)
    for _ in range(3):
        talk.passes(2)
        assert talk(Renew(session, (), 7)) == (Alive(session, (), 7),)
    assert talk.held() == {}


def test_evict_with_an_old_token_takes_nothing() -> None:
    talk = Talk()
    session, other = talk.open(), talk.open()
    grant = talk.granted(session, "a")
    assert only(talk.evict(other, grant.lease, grant.token - 1), Refusal).code == "not_holder"
    assert one(talk.evict(other, grant.lease, grant.token), Lost) == Lost(session, grant.lease, "evicted")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (Acquire(1, 1, (), S), "1 to 256 regions"),
        (Acquire(1, 1, (Claim("a"),) * (CLAIMS_MOST + 1), S), "1 to 256 regions"),
        (Acquire(1, 1, tuple(Claim(f"{i}" * 200) for i in range(100, 200)), S), "bytes together"),
        (Acquire(1, 1, (Claim("a\u2028"),), S), "U+2028"),
        (Acquire(1, 1, (Claim("a", "u"),), S), "one of 'x', 's'"),  # type: ignore[arg-type]
        (Acquire(1, 1, (Claim("a"),), 0), "above 0"),
        (Acquire(1, 1, (Claim("a"),), 10**20), "at most 86400 s"),
        (Acquire(1, 1, (Claim("a"),), S, -1), "to wait"),
        (Acquire(1, 0, (Claim("a"),), S), "counts its requests from 1"),
        (Acquire(1, 1, (Claim("a"),), S, 0, "delay"), "a bind that is none"),
        (Acquire(1, 1, (Claim("a"),), S, label="a\u0085b"), "U+0085"),
        (Acquire(1, 1, (Claim("a"),), S, cls="a\nb"), "U+000A"),
    ],
    ids=lambda ask: "" if isinstance(ask, str) else "ask",
)
def test_what_makes_no_sense_is_refused_in_words_and_nothing_happens(ask: Acquire, said: str) -> None:
    talk = Talk()
    assert talk.open() == 1
    refusal = only(talk(ask), Refusal)
    assert refusal.code == "bad_request"
    assert said in refusal.said
    assert talk.last.records == ()


def test_a_session_that_cannot_be_is_refused() -> None:
    talk = Talk()
    for bad in (Open(""), Open("a\u2029"), Open("a", "b\n"), Open("a", "b", -1)):
        assert only(talk(bad), Refusal).code == "bad_request"


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"budgets": {"a": 0}}, BadValue),
        ({"budgets": {"a": True}}, BadType),
        ({"grace_ns": -1}, BadValue),
        ({"case": "lower"}, BadValue),
        ({"session_ttl_ns": 1.5}, BadType),
    ],
)
def test_terms_that_make_no_sense_are_refused(how: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Terms(**how)


def test_there_is_an_end_to_leases_and_to_waiting() -> None:
    talk = Talk(Terms(leases_most=2, waiting_most=1))
    session, other = talk.open(), talk.open()
    talk.granted(session, "a")
    talk.waits(other, "a")
    assert talk.refused(other, "a", wait=5).code == "queue_full"
    talk.granted(session, "b")
    assert talk.refused(session, "c", wait=5).code == "queue_full"


def test_notes_are_for_those_who_read_and_change_nothing() -> None:
    talk = Talk()
    session = talk.open()
    before = talk.state.ledger.snapshot()
    for note_ in (Note(session, "halt", "stop the arm", 5), Note(99, "intent", "about to start")):
        assert talk(note_) == ()
        assert talk.last.records == ()
        assert talk.last.audit[0].note == note_  # type: ignore[union-attr]
    assert talk.state.ledger.snapshot() == before


def test_a_refusal_is_told_to_those_who_read_with_what_was_wanted() -> None:
    talk = Talk()
    talk.granted(talk.open(), "a")
    refusal = talk.refused(talk.open(), "a")
    [told] = talk.last.audit
    assert (told.wants, told.refusal) == ((Claim("a"),), refusal)  # type: ignore[union-attr]


# -- asked again ------------------------------------------------------------------------------------------------------


def test_who_asks_again_by_the_same_number_gets_the_same_answer_and_nothing_is_done_twice() -> None:
    talk = Talk()
    session = talk.open()
    ask = Acquire(session, 50, (Claim("a"),), 5 * S)
    grant = only(talk(ask), Grant)
    assert talk(ask) == (grant,)
    assert talk.last.records == ()
    lower = SetMode(session, 51, grant.lease, grant.token, "s")
    done = only(talk(lower), Done)
    assert talk(lower) == (done,)
    release = Release(session, 52, grant.lease, done.token)
    assert talk(release) == talk(release)
    assert talk.last.records == ()
    assert talk.held() == {}


def test_the_answer_is_known_in_the_next_life_too() -> None:
    talk = Talk()
    session = talk.open()
    ask = Acquire(session, 50, (Claim("a"),), 5 * S)
    grant = only(talk(ask), Grant)
    again = talk.born_again()
    again(Begin("boot", 0))
    assert again(ask) == (grant,)
    assert again.last.records == ()


def test_a_grant_that_was_lost_meanwhile_is_told_with_its_loss() -> None:
    talk = Talk()
    session = talk.open()
    ask = Acquire(session, 50, (Claim("a"),), 5 * S)
    grant = only(talk(ask), Grant)
    talk.passes(5)
    assert talk(ask) == (grant, Lost(session, grant.lease, "expired"))


def test_who_asks_again_while_waiting_keeps_its_place() -> None:
    talk = Talk()
    first, second = talk.open(), talk.open()
    grant = talk.granted(first, "a")
    ask = Acquire(second, 50, (Claim("a"),), 5 * S, 50 * S)
    assert only(talk(ask), Waiting).before == 0
    assert only(talk(ask), Waiting).before == 0
    assert len([reply for reply in talk.release(grant) if isinstance(reply, Grant)]) == 1


def test_what_is_older_than_all_that_is_remembered_is_refused_and_not_done_again() -> None:
    talk = Talk()
    session = talk.open()
    first = Acquire(session, 1, (Claim("a"),), S)
    release = talk.release(only(talk(first), Grant))
    assert isinstance(release[0], Done)
    for _ in range(ANSWERS_MOST // 2):
        assert isinstance(talk(first)[0], Grant)
        talk.release(talk.granted(session, "b"))
    assert only(talk(first), Refusal).code == "stale_request"


# -- another life -----------------------------------------------------------------------------------------------------


def test_in_the_next_life_nothing_runs_out_early_and_nothing_that_may_be_held_is_granted() -> None:
    talk = Talk()
    talk(Begin("boot", 0))
    session, other = talk.open(), talk.open()
    talk.granted(session, "a", ttl=4)
    talk.passes(3)
    talk.renew(session)
    assert [type(record) for record in talk.last.records] == [Renewed]
    again = talk.born_again()
    again.now_ns = talk.now_ns
    for _ in range(5):
        # It dies over and over, which moves nothing.
        again(Begin("boot", 0))
    again.passes(7.9)
    assert again.refused(other, "a").code == "conflict"
    again.passes(0.1)
    again.granted(other, "a")


def test_after_a_start_of_the_machine_a_lease_has_once_more_what_it_had_left() -> None:
    talk = Talk()
    talk.now_ns = 1000 * S
    talk(Begin("first boot", 0))
    session, other = talk.open(), talk.open()
    talk.granted(session, "a", ttl=10)
    talk.passes(4)
    talk.granted(other, "b", ttl=1)
    again = talk.born_again()
    again.now_ns = 5 * S
    again(Begin("second boot", 0))
    again(Begin("second boot", 0))
    again.passes(5.9)
    assert again.refused(other, "a").code == "conflict"
    again.passes(0.1)
    again.granted(other, "a")


def test_a_life_that_does_not_know_what_was_held_grants_nothing_for_a_while() -> None:
    talk = Talk()
    talk(Begin("boot", 0, hold_ns=5 * S))
    session = talk.open()
    assert talk.refused(session, "a").code == "recovering"
    again = talk.born_again()
    again.now_ns = talk.now_ns
    again(Begin("boot", 0))
    again.passes(4.9)
    assert again.refused(session, "a", wait=10).code == "recovering"
    again.passes(0.1)
    again.granted(session, "a")


# -- a request with a name -------------------------------------------------------------------------------------------


def by_name(
    session: int, region: str = "cell", *, n: int = 1, name: str = "r", wait_s: int = 0, ttl_s: int = 10
) -> Acquire:
    return Acquire(session, n, (Claim(region),), ttl_s * S, wait_s * S, "ttl", request=name)


@pytest.mark.parametrize("life", ["the same", "another", "from a snapshot"])
def test_who_asks_again_by_name_has_what_it_has_got_for_its_whole_time_from_now_on(life: str) -> None:
    talk = Talk()
    first = talk.open("first")
    grant = only(talk(by_name(first)), Grant)
    talk.close(first, died=True)
    if life != "the same":
        kept = fold((), compact(talk.records)) if life == "from a snapshot" else fold(talk.records)
        talk = Talk(talk.terms, kept)
    talk.passes(7)
    second = talk.open("second")
    again = only(talk(by_name(second, n=5)), Grant)
    assert (again.session, again.n, again.lease, again.token) == (second, 5, grant.lease, grant.token)
    talk.close(second)
    talk.passes(9.9)
    assert talk.held() == {grant.lease: {"cell"}}
    talk.passes(0.2)
    assert talk.held() == {}


@pytest.mark.parametrize(
    ("end", "code"),
    [("runs out", "expired"), ("released", "not_held"), ("evicted", "not_held"), ("adopted", "not_holder")],
)
def test_who_asks_again_by_name_for_what_is_over_neither_has_it_nor_gets_it_anew(end: str, code: str) -> None:
    talk = Talk()
    first, second = talk.open("first"), talk.open("second")
    grant = only(talk(by_name(first)), Grant)
    if end == "runs out":
        talk.passes(11)
    elif end == "released":
        talk(Release(second, 7, grant.lease, grant.token))
    elif end == "evicted":
        talk.evict(second, grant.lease)
    else:
        talk.close(first)
        talk.adopt(second, grant.lease, grant.token)
    held = talk.held()
    third = talk.open("third")
    refusal = only(talk(by_name(third)), Refusal)
    assert (refusal.code, f"lease {grant.lease}" in refusal.said, talk.held()) == (code, True, held)


def test_a_name_is_for_one_request_and_its_lease_outlives_the_session() -> None:
    talk = Talk()
    me = talk.open()
    lease = only(talk(by_name(me)), Grant).lease
    for n, other in enumerate([by_name(me, "another"), by_name(me, ttl_s=11)], 2):
        refusal = only(talk(replace(other, n=n)), Refusal)
        assert (refusal.code, "request 'r' was another one" in refusal.said) == ("bad_request", True)
    assert only(talk(Release(me, 4, lease, lease, "r")), Refusal).code == "bad_request"
    assert only(talk(Adopt(me, 5, lease, lease, request="r")), Refusal).code == "bad_request"
    assert only(talk(replace(by_name(me, "b", n=6, name="s"), bind="session")), Refusal).code == "bad_request"
    assert only(talk(by_name(me, "b", n=7, name="two\u2028lines")), Refusal).code == "bad_request"
    assert talk.held() == {lease: {"cell"}}


def test_a_release_and_an_adoption_by_name_are_done_once_and_answered_each_time() -> None:
    talk = Talk()
    first = talk.open("first")
    grant = only(talk(by_name(first)), Grant)
    talk.close(first)
    answers = set()
    for n in range(3):
        another = talk.open(f"adopts {n}")
        adopted = only(talk(Adopt(another, 1, grant.lease, grant.token, request="mine now")), Grant)
        answers.add((adopted.lease, adopted.token))
        talk.close(another)
    [(lease, token)] = answers
    assert token > grant.token
    for n in range(3):
        done = only(talk(Release(talk.open(f"releases {n}"), 1, lease, token, "done")), Done)
        assert (done.lease, talk.held()) == (lease, {})
    assert only(talk(Release(talk.open("late"), 1, lease, token, "done too")), Refusal).code == "not_held"


def test_two_who_wait_by_one_name_get_one_lease() -> None:
    talk = Talk()
    holder, first, second = talk.open("holder"), talk.open("first"), talk.open("second")
    held = talk.granted(holder, "cell")
    only(talk(by_name(first, wait_s=100)), Waiting)
    only(talk(by_name(second, wait_s=100)), Waiting)
    grants = [reply for reply in talk.release(held) if isinstance(reply, Grant)]
    assert [(grant.session, grant.lease) for grant in grants] == [(first, grants[0].lease), (second, grants[0].lease)]
    assert (len(talk.held()), len(talk.state.queue)) == (1, 0)


def test_of_names_so_many_are_kept_and_each_whose_lease_is_there() -> None:
    talk = Talk()
    me = talk.open()
    kept = only(talk(by_name(me, name="kept", ttl_s=1000)), Grant)
    for n in range(2, 2 * REQUESTS_MOST, 2):
        grant = only(talk(by_name(me, "brief", n=n, name=f"brief {n}")), Grant)
        talk(Release(me, n + 1, grant.lease, grant.token, f"done {n}"))
    names = talk.state.ledger.requests
    assert (len(names), "brief 2" in names) == (REQUESTS_MOST, False)
    assert only(talk(by_name(talk.open("later"), name="kept", ttl_s=1000)), Grant).token == kept.token


def test_a_journal_is_not_read_by_another_case_policy_than_it_was_written_with() -> None:
    """What is held on `Cell` would not be in the way of `cell` any more, or would be all at once."""
    talk = Talk(Terms(grace_ns=0, case="keep", budgets={"lift": 1}))
    talk(Begin("boot", 1))
    talk.granted(talk.open(), "Cell", cls="lift")
    for kept in (fold(talk.records), fold((), compact(talk.records))):
        with pytest.raises(TermsDiffer, match=r"case='keep'.*case='fold'.*open it with case='keep'") as differ:
            State(kept, Terms())
        assert (differ.value.recorded, differ.value.wanted) == ("keep", "fold")


def test_who_has_no_terms_of_its_own_goes_by_those_of_the_journal() -> None:
    talk = Talk(Terms(grace_ns=0, case="keep", budgets={"lift": 1}))
    talk(Begin("boot", 1))
    talk.granted(talk.open(), "Cell", cls="lift")
    for kept in (fold(talk.records), fold((), compact(talk.records))):
        assert State(kept).terms == Terms(case="keep", budgets={"lift": 1})
        later = Talk(as_recorded(kept, Terms(grace_ns=0)), kept)
        me = later.open("another")
        assert later.refused(me, "other", cls="lift").code == "budget"
        assert later.refused(me, "Cell").code == "conflict"
        later.granted(me, "cell")
    assert State().terms == Terms()


def test_a_clock_that_goes_back_is_not_believed() -> None:
    talk = Talk()
    session, other = talk.open(), talk.open()
    talk.granted(session, "a", ttl=5)
    talk.passes(4)
    talk.now_ns -= 3 * S
    talk.release(talk.granted(other, "b"))
    assert all(record.at_ns == 4 * S for record in talk.last.records)
    talk.passes(3.9)
    assert talk.refused(other, "a").code == "conflict"
    talk.passes(0.1)
    talk.granted(other, "a")


def test_a_state_of_nothing_waits_for_nothing() -> None:
    assert State().next_ns() is None
    assert Talk()(Tick()) == ()
    assert only(Talk()(Renew(5)), Refusal).code == "no_session"
    assert only(Talk()(Close(5)), Done).lease == 0


def test_the_timers_of_what_has_ended_are_swept_out() -> None:
    talk = Talk()
    session = talk.open()
    for _ in range(500):
        talk.release(talk.granted(session, "a", ttl=1000))
    assert len(talk.state._timers) < 70


# -- at random --------------------------------------------------------------------------------------------------------

REGIONS = ["a", "a/b", "a/b/c", "a/d", "b", "a*", "ab", "/", "lock://l", "A/B"]
BUDGETS = {"few": 2}


class Histories(RuleBasedStateMachine):
    """Whatever is asked, the answers are those of the model, and the ledger is what its records come to."""

    def __init__(self) -> None:
        super().__init__()
        self.talk = Talk(Terms(grace_ns=0, budgets=BUDGETS))
        self.model = Model(BUDGETS)
        self.sessions = [self.talk.open(str(number), ttl=80_000) for number in range(4)]
        self.grants: dict[tuple[int, int], Wish] = {}

    def hear(self) -> None:
        """What was said is what the model says."""
        said = set()
        tokens = []
        for reply in self.talk.last.replies:
            match reply:
                case Grant(session, n, lease, token):
                    said.add(("granted", session, n))
                    self.wish(session, n).lease = lease
                    tokens.append(token)
                case Refusal(session, n):
                    said.add(("refused", session, n))
                case Done(session, n, lease, token) if ("granted", session, n) in self.model.events:
                    said.add(("granted", session, n))
                    assert token == self.talk.state.ledger.leases[lease].token
        note(f"{self.talk.last.replies}")
        assert said == self.model.events
        assert tokens == sorted(set(tokens))
        self.model.events.clear()

    def wish(self, session: int, n: int) -> Wish:
        return self.grants[session, n]

    def live(self, data: st.DataObject) -> Wish:
        return data.draw(st.sampled_from(self.model.held))

    def token(self, wish: Wish) -> int:
        return self.talk.state.ledger.leases[wish.lease].token

    @rule(
        who=st.integers(0, 3),
        owner=st.integers(0, 1),
        claims=st.lists(
            st.tuples(st.sampled_from(REGIONS), st.sampled_from(["x", "s"])), min_size=1, max_size=3, unique_by=id
        ),
        ttl=st.integers(1, 30),
        wait=st.integers(0, 1),
        cls=st.sampled_from(["", "", "", "few"]),
        alone=st.sampled_from([False] * 9 + [True]),
        delay=st.sampled_from([0, 0, 0, 2]),
    )
    def acquire(
        self,
        who: int,
        owner: int,
        claims: list[tuple[str, Mode]],
        ttl: int,
        wait: int,
        cls: str,
        alone: bool,
        delay: int,
    ) -> None:
        session, n = self.sessions[who], self.talk.n()
        wish = Wish(session, n, claims, ttl_ns=ttl * S, cls=cls, alone=alone, owner=owner)
        self.grants[session, n] = wish
        said = tuple(Claim(region, mode) for region, mode in claims)
        wait_ns = wait * 80_000 * S
        self.talk(Acquire(session, n, said, ttl * S, wait_ns, "session", cls, "", owner, alone, False, delay * S))
        del delay
        wish.due_ns = self.talk.now_ns + ttl * S
        self.model.ask(wish, wait=bool(wait))
        self.hear()

    @precondition(lambda self: self.model.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        wish = self.live(data)
        self.talk(Release(wish.session, self.talk.n(), wish.lease, self.token(wish)))
        self.model.drop(wish)
        self.model.settle()
        self.hear()

    @precondition(lambda self: self.model.held)
    @rule(data=st.data(), mode=st.sampled_from(["x", "s"]), wait=st.booleans())
    def set_mode(self, data: st.DataObject, mode: Mode, wait: bool) -> None:
        wish, n = self.live(data), self.talk.n()
        raising = self.model.raising(wish)
        replies = self.talk(SetMode(wish.session, n, wish.lease, self.token(wish), mode, wait * 80_000 * S))
        if all(had == mode for _, had in wish.claims):
            assert isinstance(replies[0], Done)
            return
        if raising:
            assert isinstance(replies[0], Refusal)
            return
        raised = Wish(wish.session, n, [], owner=wish.owner, raises=wish, alone=wish.alone and mode == "s")
        raised.claims = [(key, mode) for key, _ in wish.claims]
        if mode == "s":
            self.model.grant(raised)
            self.model.settle()
        else:
            self.model.ask(raised, wait=wait)
        self.hear()

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        wish = data.draw(st.sampled_from(self.model.waiting))
        self.talk(Withdraw(wish.session, self.talk.n(), wish.n))
        self.model.refuse(wish)
        self.model.settle()
        self.hear()

    @rule(who=st.integers(0, 3))
    def close(self, who: int) -> None:
        session = self.sessions[who]
        self.talk(Close(session))
        for wish in self.model.of(self.model.waiting, session):
            self.model.waiting.remove(wish)
        for wish in self.model.of(self.model.live, session):
            self.model.drop(wish)
        self.model.settle()
        self.hear()
        self.sessions[who] = self.talk.open(f"{who} again", ttl=80_000)

    @precondition(lambda self: self.model.held and not self.model.waiting)
    @rule(data=st.data(), who=st.integers(0, 3), owner=st.integers(0, 1))
    def hand_over(self, data: st.DataObject, who: int, owner: int) -> None:
        wish, to = self.live(data), self.sessions[who]
        token = self.token(wish)
        self.talk(Offer(wish.session, self.talk.n(), wish.lease, token, to))
        replies = self.talk(Adopt(to, self.talk.n(), wish.lease, 0, owner))
        if wish.session == to:
            assert isinstance(replies[0], Refusal)
            return
        assert one(replies, Lost) == Lost(wish.session, wish.lease, "adopted")
        assert self.token(wish) > token
        assert only(self.talk(Release(wish.session, self.talk.n(), wish.lease, token)), Refusal).code == "not_holder"
        wish.session, wish.owner = to, owner

    @rule()
    def the_arbiter_dies(self) -> None:
        """Who waited has to ask again; what is held is held."""
        again = self.talk.born_again()
        again.now_ns, again.records, again._n = self.talk.now_ns, self.talk.records, self.talk._n
        again(Begin("boot", 0))
        self.talk = again
        self.model.waiting.clear()

    @rule(who=st.integers(0, 3))
    def renew(self, who: int) -> None:
        assert self.talk.renew(self.sessions[who]) == (Alive(self.sessions[who]),)

    @rule(seconds=st.integers(0, 12))
    def time_passes(self, seconds: int) -> None:
        until_ns = self.talk.now_ns + seconds * S
        while (due_ns := self.talk.state.next_ns()) is not None and due_ns <= until_ns:
            # One at a time, as the model does not sort what is due.
            self.talk.now_ns = max(due_ns, self.talk.now_ns)
            before = set(self.talk.state.ledger.leases)
            self.talk(Tick())
            for record in self.talk.last.records:
                if isinstance(record, Ended):
                    self.ended(record)
            assert before or not self.talk.last.records
            self.model.settle()
            for wish in self.model.live:
                if not wish.due_ns:
                    wish.due_ns = self.talk.now_ns + wish.ttl_ns
            self.hear()
        self.talk.now_ns = until_ns

    def ended(self, record: Ended) -> None:
        [wish] = [held for held in self.model.live if held.lease == record.lease]
        if record.delay_until_ns:
            wish.session, wish.owner, wish.cls = 0, 0, ""
            for waiter in self.model.raising(wish):
                self.model.refuse(waiter)
        else:
            self.model.drop(wish)

    @invariant()
    def no_two_that_are_against_each_other_are_held(self) -> None:
        live = self.model.live
        assert not [1 for at, held in enumerate(live) for other in live[:at] if held.is_against(other)]
        leases = self.talk.state.ledger.leases
        assert {wish.lease for wish in live} == set(leases)
        for wish in live:
            claims = {(key_of(claim.region), claim.mode) for claim in leases[wish.lease].claims}
            # Of two claims of one region the exclusive one counts, and "s" sorts before "x".
            assert claims == set(dict(sorted(wish.claims, key=lambda claim: claim[1])).items())
        assert len(self.model.waiting) == len(self.talk.state.queue)

    @invariant()
    def the_records_come_to_the_same_and_so_does_what_replaces_them(self) -> None:
        whole = fold(self.talk.records).snapshot()
        assert whole == self.talk.state.ledger.snapshot()
        assert Ledger.of(whole).snapshot() == whole
        half = len(self.talk.records) // 2
        assert fold(self.talk.records[half:], compact(self.talk.records[:half])).snapshot() == whole


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
