"""What goes wrong elsewhere with leases, and cannot here: one test for each fault that was met in another system.

What is about files and syncs, torn tails and two writers is with the journal and the arbiter.
"""

from itertools import product

import pytest

from geartrain.errors import Fenced
from geartrain.rules.fence import FenceGate
from geartrain.rules.lease import Terms
from geartrain.rules.lease_ledger import Granted, Ledger, compact, decode_snapshot, encode_snapshot, fold
from geartrain.rules.lease_words import (
    Acquire,
    Alive,
    Begin,
    Claim,
    Grant,
    Mode,
    Open,
    Opened,
    Refusal,
    Release,
)
from tests.rules.leasing import S, Talk, one, only


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x1c", "\x1d", "\x1e", "\x0b", "\x0c", "\n"])
def test_a_separator_in_a_name_loses_no_grant_and_stops_nobody_else(separator: str) -> None:
    """A grant whose label had U+2028 in it was written as two lines, and was lost; in an owner it blocked everybody."""
    talk = Talk()
    session, other = talk.open(), talk.open()
    name = f"a{separator}b"
    asks = (
        Acquire(session, 1, (Claim(name),), S),
        Acquire(session, 2, (Claim("a"),), S, label=name),
        Acquire(session, 3, (Claim("a"),), S, cls=name),
    )
    for ask in asks:
        refusal = only(talk(ask), Refusal)
        assert (refusal.code, f"U+{ord(separator):04X}" in refusal.said) == ("bad_request", True)
    assert only(talk(Open(name)), Refusal).code == only(talk(Open("s", name)), Refusal).code == "bad_request"
    talk.granted(other, "a")


def test_of_eight_with_one_label_that_race_for_one_region_exactly_one_wins() -> None:
    """Whoever had the label of the holder was let in as the holder: three of eight had the same tree."""
    talk = Talk()
    sessions = [only(talk(Open(f"secret {number}", "worker")), Opened).session for number in range(8)]
    replies = [only(talk(Acquire(session, 1, (Claim("a"),), S, label="worker")), object) for session in sessions]
    assert [type(reply) for reply in replies].count(Grant) == 1
    assert {reply.code for reply in replies if isinstance(reply, Refusal)} == {"conflict"}
    grant = next(reply for reply in replies if isinstance(reply, Grant))
    for session in sessions[1:]:
        assert only(talk(Release(session, 2, grant.lease, grant.token)), Refusal).code == "not_holder"
    assert grant.lease in talk.held()


def test_who_runs_alone_does_so_whatever_its_class_is_called() -> None:
    """With a blank kind an exclusive lane was not exclusive."""
    for cls in ("", "global"):
        talk = Talk()
        talk.granted(talk.open(), "a", cls=cls, alone=True)
        assert talk.refused(talk.open(), "b").code == "alone"


@pytest.mark.parametrize(
    "alias", ["./a/b", "a//b", "a/x/../b", "/a/b", "a/b/", "A/B", "{a,b}", "a/[b]", "a/?", "./", "a/./b/c", "a/b*"]
)
def test_no_other_name_of_a_region_gets_around_its_lease(alias: str) -> None:
    """Each of these was read as something else than the file it names."""
    talk = Talk()
    talk.granted(talk.open(), "a/b")
    assert talk.refused(talk.open(), alias).code == "conflict"


def test_composed_or_decomposed_a_name_is_one_name() -> None:
    talk = Talk()
    talk.granted(talk.open(), "Caf\u00e9")
    assert talk.refused(talk.open(), "Cafe\u0301/x").code == "conflict"


def test_who_comes_first_does_not_decide_whether_two_go_together() -> None:
    """A rule about how much two trees share let them in in one order, and refused them in the other."""
    regions = ("a", "a/b", "a/b/c", "a/d", "a*", "/", "lock://a")
    modes: tuple[Mode, ...] = ("x", "s")
    for one_region, other_region, one_mode, other_mode in product(regions, regions, modes, modes):
        verdicts = set()
        for first, second in (
            ((one_region, one_mode), (other_region, other_mode)),
            ((other_region, other_mode), (one_region, one_mode)),
        ):
            talk = Talk()
            talk.granted(talk.open(), first[0], mode=first[1])
            verdicts.add(type(only(talk.acquire(talk.open(), second[0], mode=second[1]), object)))
        assert len(verdicts) == 1, (one_region, other_region)


def test_every_lease_has_an_end_and_it_is_recorded() -> None:
    """No time was stored with a lease, so that nobody knew when it was over."""
    talk = Talk()
    session = talk.open()
    assert talk.refused(session, "a", ttl=0).code == "bad_request"
    talk.granted(session, "a", ttl=5, bind="ttl")
    record = talk.records[-1]
    assert isinstance(record, Granted)
    assert (record.lease.ttl_ns, record.lease.until_ns) == (5 * S, 5 * S)
    again = talk.born_again()
    again(Begin("boot", 0))
    again.passes(5)
    assert again.held() == {}


def test_nobody_releases_or_adopts_without_being_entitled_to() -> None:
    """A blank owner released what was anybody's, and whoever asked could adopt."""
    talk = Talk()
    session, other = talk.open(), talk.open()
    for bind in ("session", "ttl"):
        grant = talk.granted(session, bind, bind=bind)
        for ask in (Release(0, 1, grant.lease, grant.token), Release(other, talk.n(), grant.lease, 0)):
            assert only(talk(ask), Refusal).code in ("no_session", "not_holder")
        assert only(talk.adopt(other, grant.lease), Refusal).code == "holder_lives"
        assert grant.lease in talk.held()


def test_a_budget_counts_on_every_path_to_a_lease() -> None:
    """Budgets were looked at by one of the ways to a grant only."""
    terms = Terms(grace_ns=0, budgets={"lift": 1})
    talk = Talk(terms)
    first, second, third = talk.open(), talk.open(), talk.open()
    grant = talk.granted(first, "a", cls="lift")
    assert talk.refused(second, "b", cls="lift").code == "budget"
    assert talk.refused(second, "b", cls="lift", alone=True).code == "alone"
    n = talk.waits(second, "a", cls="lift")
    assert talk.refused(third, "c", cls="lift").code == "budget"
    assert one(talk.release(grant), Grant).n == n
    again = Talk(terms, fold(talk.records))
    again(Begin("boot", 0))
    assert again.refused(third, "c", cls="lift", n=900).code == "budget"


def test_a_token_is_never_given_twice_though_all_leases_are_gone_and_all_records_too() -> None:
    """After a compaction without survivors the count began anew: 5, then 1."""
    talk = Talk()
    tokens = []
    snapshot = None
    for _ in range(5):
        session = talk.open()
        tokens.append(talk.granted(session, "a").token)
        talk.close(session)
        snapshot = decode_snapshot(encode_snapshot(compact(talk.records, snapshot)))
        assert (snapshot.leases, snapshot.sessions) == ((), ())
        # Nothing else is left of it.
        number = talk.n()
        talk = Talk(ledger=Ledger.of(snapshot))
        talk._n = number
    assert tokens == sorted(set(tokens))


def test_what_was_evicted_stays_so_through_a_compaction() -> None:
    """Evictions were written under another lock, and got lost when the journal was made small."""
    talk = Talk()
    session, other = talk.open(), talk.open()
    grant = talk.granted(session, "a")
    before = compact(talk.records)
    at = len(talk.records)
    talk.evict(other, grant.lease)
    assert fold(talk.records[at:], before).leases == {}
    assert Ledger.of(compact(talk.records)).leases == {}


def test_a_renewal_does_not_wake_the_dead() -> None:
    """A lease that had run out lived again after a beat, while another held its tree."""
    talk = Talk()
    session, other = talk.open(), talk.open()
    grant = talk.granted(session, "a", ttl=5)
    talk.now_ns += 5 * S
    assert one(talk.renew(session, grant), Alive).lost == (grant.lease,)
    assert talk.renew(session) == (Alive(session),)
    talk.granted(other, "a")
    assert only(talk.renew(session, grant), Alive).lost == (grant.lease,)


def test_who_adopts_has_another_token_than_who_had_it_before() -> None:
    """Old and new holder had the same number, so that no fence could tell them apart."""
    talk, gate = Talk(), FenceGate("a")
    old, new = talk.open(), talk.open()
    grant = talk.granted(old, "a")
    talk.offer(grant, new)
    adopted = one(talk.adopt(new, grant.lease), Grant)
    gate.admit(adopted.token)
    with pytest.raises(Fenced):
        gate.admit(grant.token)


def test_two_that_begin_in_the_same_instant_are_not_taken_for_one() -> None:
    """A lease was known by the second in which it began, and by its lane."""
    talk = Talk()
    leases = [talk.granted(talk.open("loop"), f"lock://{number}").lease for number in range(20)]
    assert len(set(leases)) == 20


def test_a_wall_clock_that_jumps_changes_no_decision() -> None:
    """Ages were reckoned by wall clocks."""
    outcomes = []
    for wall_ns in (0, 10**18, -(10**18)):
        talk = Talk()
        talk(Begin("boot", wall_ns))
        session = talk.open()
        talk.granted(session, "a", ttl=5)
        outcomes.append((talk.passes(4.9), talk.passes(0.1)))
    assert len(set(outcomes)) == 1
