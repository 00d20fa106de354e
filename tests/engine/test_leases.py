"""The holder's end of a lease: what is said no to at once. What is granted and lost is with the arbiter."""

from collections.abc import Callable
from typing import Any

import pytest

from geartrain import Lease, Leases, open_leases
from geartrain.errors import BadType, BadValue
from geartrain.rules.lease_words import Alive, Claim, Grant, Happened, Hello, Opened, Refusal


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda leases: leases.hold(), "at least one region"),
        (lambda leases: leases.hold("a", "b\u2028"), "U\\+2028"),
        (lambda leases: leases.hold("../a"), "beyond the root"),
        (lambda leases: leases.hold("a", mode="u"), "one of 'x', 's', got 'u'"),
        (lambda leases: leases.hold("a", ttl=0), "ttl must be from 0.01"),
        (lambda leases: leases.hold("a", ttl=float("nan")), "ttl must be from 0.01"),
        (lambda leases: leases.hold("a", wait=-1), "wait must be from 0"),
        (lambda leases: leases.hold("a", delay=1e9), "delay must be from 0"),
        (lambda leases: leases.hold("a", bind="delay"), "one of 'session', 'ttl', got 'delay'"),
        (lambda leases: leases.adopt(0), "lease must be"),
        (lambda leases: leases.watch(), "at least one region"),
        (lambda leases: leases.watch("../a"), "beyond the root"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(ask: Callable[[Leases], Any], said: str) -> None:
    with pytest.raises(BadValue, match=said):
        ask(open_leases().leases)


def test_who_watches_and_does_not_look_is_told_at_last_that_it_has_missed_something() -> None:
    leases = open_leases().leases
    watching = leases.watch("cell")
    for number in range(2_000):
        leases._hear(Happened(1, watching.n, "granted", number))
    told = list(watching._come)
    assert [one.lease for one in told[:-1]] == list(range(1_000))
    assert [one.what for one in told].index("missed") == len(told) - 1


@pytest.mark.parametrize("bad", [5, None, b"a"])
def test_a_region_is_text(bad: Any) -> None:
    with pytest.raises(BadType, match="a region must be text"):
        open_leases().leases.hold(bad)


def test_its_name_is_said() -> None:
    assert repr(open_leases(name="arm").leases) == "<Leases over channel 'arm', 0 held>"
    assert str(open_leases().leases) == "the channels of an arbiter"


def test_of_a_session_that_the_arbiter_has_forgotten_nothing_is_held_and_the_new_one_stays() -> None:
    pair = open_leases()
    leases = pair.leases
    leases._hear(Hello("here"))
    for session in (5, 5, 9):
        leases._hear(Opened(session, leases._secret, 10**9, session))
        assert leases._session == session
        leases._held[7] = held = Lease(leases, Grant(session, 1, 7, 7, (Claim("a"),), 10**9), 0)
    leases._hear(Opened(5, "of somebody else", 10**9, 5))
    assert (leases._session, held.why) == (9, "")
    leases._hear(Refusal(9, 3, "no_session", "over"))
    assert (leases._session, held.why, held.lost.is_set()) == (0, "its session is over", True)


def test_another_journal_is_another_arbiter_and_the_same_one_is_the_same() -> None:
    leases = open_leases().leases
    leases._hear(Hello("here"))
    leases._hear(Opened(5, leases._secret, 10**9, 5))
    leases._held[7] = held = Lease(leases, Grant(5, 1, 7, 7, (Claim("a"),), 10**9), 0)
    leases._hear(Hello("here"))
    assert (leases._session, held.why) == (5, "")
    leases._hear(Hello("there"))
    assert (leases._session, held.lost.is_set()) == (0, True)


def test_a_late_answer_to_a_renewal_counts_from_when_that_was_asked() -> None:
    leases = open_leases().leases
    lease = Lease(leases, Grant(5, 1, 7, 7, (Claim("a"),), 1000), 0)
    leases._renewals = {3: (100, lease), 4: (500, lease)}
    leases._hear(Alive(5, (), 3))
    assert (lease.until_ns, lease.renew_at_ns) == (1090, 433)
    leases._hear(Alive(5, (), 99))
    assert lease.until_ns == 1090
    leases._hear(Alive(5, (7,), 4))
    assert lease.why == "it had ended before it was renewed"
