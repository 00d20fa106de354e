"""What becomes of leases, for those who watch: of those that meet their regions, in the order in which it happens.

    watch(word)      what is held already
    after(records)   what these have changed, for each watch that it concerns

It is derived from records, so what is told is as durable as they are. Nothing of it is kept for a next life: there who
watches asks again, and is told again what is held.
"""

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from geartrain.rules.lease_ledger import Adopted, Ended, Granted, Lease, Ledger, Moded, Record, SessionEnded
from geartrain.rules.lease_words import Claim, Happened, Watch, What
from geartrain.rules.regions import Case, canonical, key_of, meet


class Watched:
    """Who watches what, and the leases there are as long as anybody does."""

    def __init__(self, case: Case = "fold") -> None:
        self._case: Case = case
        self._watches: dict[tuple[int, int], tuple[str, ...]] = {}
        self._leases: dict[int, Lease] = {}

    def __len__(self) -> int:
        return len(self._watches)

    def watch(self, word: Watch, ledger: Ledger) -> tuple[Happened, ...]:
        """From now on; or not any more, if there are no regions. `BadValue` for what names none."""
        keys = tuple(key_of(canonical(region), self._case) for region in word.regions)
        if not keys:
            self._watches.pop((word.session, word.n), None)
            return ()
        if not self._watches:
            self._leases = dict(ledger.leases)
        self._watches[word.session, word.n] = keys
        return tuple(
            _happened("held", lease, word.session, word.n)
            for lease in self._leases.values()
            if lease.bind != "delay" and self._concerns(keys, lease)
        )

    def leave(self, session: int) -> None:
        """It watches nothing any more."""
        for watch in [watch for watch in self._watches if watch[0] == session]:
            del self._watches[watch]

    def after(self, records: Iterable[Record], revision: int) -> list[Happened]:
        """What has happened by these records, the first of which has this revision."""
        found: list[Happened] = []
        for number, record in enumerate(records, revision):
            if not self._watches:
                break
            if isinstance(record, SessionEnded):
                self.leave(record.session)
            else:
                found += self._told_of(record, number)
        return found

    def _told_of(self, record: Record, revision: int) -> Iterator[Happened]:
        match record:
            case Granted(_, _, lease):
                self._leases[lease.lease] = lease
                yield from self._tell("granted", lease)
            case Moded(_, _, _, number, mode):
                claims = tuple(Claim(claim.region, mode) for claim in self._leases[number].claims)
                lease = self._leases[number] = replace(self._leases[number], claims=claims, token=revision)
                yield from self._tell("changed", lease)
            case Adopted(_, session, _, number):
                lease = self._leases[number] = replace(self._leases[number], session=session, token=revision)
                yield from self._tell("adopted", lease)
            case Ended(_, number, why):
                lease = self._leases[number]
                if not record.delay_until_ns:
                    del self._leases[number]
                yield from self._tell("ended", lease, why)
            case _:
                pass

    def _tell(self, what: What, lease: Lease, why: str = "") -> Iterator[Happened]:
        for (session, n), keys in self._watches.items():
            if self._concerns(keys, lease):
                yield _happened(what, lease, session, n, why)

    def _concerns(self, keys: tuple[str, ...], lease: Lease) -> bool:
        return any(meet(key, key_of(claim.region, self._case)) for key in keys for claim in lease.claims)


def _happened(what: What, lease: Lease, session: int, n: int, why: str = "") -> Happened:
    return Happened(session, n, what, lease.lease, lease.token, lease.claims, lease.label, why)
