"""Who watches is told of what meets its regions, in the order in which it happens, and of nothing else."""

import pytest

from geartrain.errors import BadValue
from geartrain.rules.lease import State
from geartrain.rules.lease_ledger import Record, SessionEnded
from geartrain.rules.lease_watch import Watched
from geartrain.rules.lease_words import Acquire, Adopt, Claim, Command, Evict, Happened, Offer, Open, SetMode, Watch

S = 1_000_000_000


class Told:
    """A state, and what two watches of session 1 are told of what it does: 7 of the cell, 8 of a lock."""

    def __init__(self) -> None:
        self.state, self.watched = State(), Watched()
        for secret in ("one", "two"):
            self.state.decide(Open(secret), 0)
        self.watched.watch(Watch(1, 7, ("cell",)), self.state.ledger)
        self.watched.watch(Watch(1, 8, ("lock://gpu",)), self.state.ledger)

    def after(self, *commands: Command, at_s: int = 0) -> list[tuple[int, str, int, str]]:
        found: list[Happened] = []
        for command in commands:
            revision = self.state.revision + 1
            found += self.watched.after(self.state.decide(command, at_s * S).records, revision)
        return [(one.n, one.what, one.token, one.why) for one in found]


def acquire(n: int, *regions: str, delay_ns: int = 0) -> Acquire:
    return Acquire(2, n, tuple(map(Claim, regions)), 10 * S, label="arm", delay_ns=delay_ns)


def test_of_all_that_becomes_of_a_lease_those_are_told_whose_regions_it_meets() -> None:
    told = Told()
    assert told.after(acquire(1, "CELL/arm"), acquire(2, "elsewhere")) == [(7, "granted", 3, "")]
    assert told.after(SetMode(2, 3, 3, 3, "s")) == [(7, "changed", 5, "")]
    assert told.after(Offer(2, 4, 3, 5, 1), Adopt(1, 1, 3)) == [(7, "adopted", 7, "")]
    assert told.after(Evict(2, 5, 3)) == [(7, "ended", 7, "evicted")]


def test_a_lease_on_what_two_watch_is_told_to_both() -> None:
    assert [n for n, *_ in Told().after(acquire(1, "cell", "lock://gpu"))] == [7, 8]


def test_a_region_that_stays_closed_for_a_while_is_told_of_twice() -> None:
    told = Told()
    told.after(acquire(1, "cell", delay_ns=5 * S))
    assert told.after(Evict(2, 2, 3)) == [(7, "ended", 3, "evicted")]
    assert told.after(acquire(3, "elsewhere"), at_s=6) == [(7, "ended", 3, "delay over")]


def test_what_is_held_is_told_first_and_a_watch_without_regions_is_over() -> None:
    told = Told()
    told.after(acquire(1, "cell/arm"))
    [held] = told.watched.watch(Watch(2, 1, ("/",)), told.state.ledger)
    assert (held.session, held.n, held.what, held.lease, held.label) == (2, 1, "held", 3, "arm")
    for session, n in ((1, 7), (2, 1)):
        assert told.watched.watch(Watch(session, n, ()), told.state.ledger) == ()
    assert told.after(Evict(2, 2, 3)) == []


def test_the_end_of_a_session_is_the_end_of_its_watches() -> None:
    told = Told()
    records: tuple[Record, ...] = (SessionEnded(0, 1),)
    assert told.watched.after(records, 9) == []
    assert not told.watched


@pytest.mark.parametrize("region", ["../a", "lock://", "a\u2028"])
def test_what_is_no_region_is_refused_and_not_watched(region: str) -> None:
    watched = Watched()
    with pytest.raises(BadValue):
        watched.watch(Watch(1, 7, (region,)), State().ledger)
    assert not watched
