"""What clients of an arbiter have asked and heard, each in a file of its own, and whether it can have been so.

    client 1   Said Acquire ......... Heard Grant .... Said Release . Gone ........ Said Release . Heard Done
    client 2          Said Acquire ......................................... Heard Grant
    journal                  Granted                             Ended    Granted

A holder counts from before it has asked until its time is over, or it says itself that it is done: so all that is
found is a promise that was broken, however late anybody was. What was asked and not answered (`Gone`) may have been
done or not; what is heard when it is asked again must be what the journal says.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from geartrain.ports.file_journal import sum_of
from geartrain.rules.journal_frames import read_segment, records_in, segment_name, segments_among
from geartrain.rules.lease_ledger import Adopted, Ended, Granted, Lease, Moded, Offered, Record, Renewed, decode
from geartrain.rules.lease_words import (
    Acquire,
    Adopt,
    Alive,
    Asked,
    Claim,
    Done,
    Grant,
    Lost,
    Mode,
    Offer,
    Refusal,
    Release,
    Renew,
    SetMode,
    Told,
)
from geartrain.rules.regions import LOCK


class Said(Struct, frozen=True, tag="said"):
    """Asked, at this time of a clock that all have."""

    at_ns: int
    asked: Asked


class Heard(Struct, frozen=True, tag="heard"):
    at_ns: int
    told: Told


class Gone(Struct, frozen=True, tag="gone"):
    """The arbiter was, in the middle."""

    at_ns: int


class Left(Struct, frozen=True, tag="left"):
    """The client has dropped its session, and counts on nothing that it held."""

    at_ns: int
    session: int


Event = Said | Heard | Gone | Left
_event: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)

# How a lease may end before its time.
_BY_SOMEBODY = ("released", "withdrawn", "evicted", "session closed", "holder died", "adopted")
# A session that is over knows nothing any more of what it has asked.
_FORGOTTEN = ("no_session", "stale_request")


def line_of(event: Event) -> bytes:
    return msgspec.json.encode(event) + b"\n"


def events_in(*files: Path) -> list[Event]:
    """All that was written, by its time. A line that a death has torn is none."""
    found = [_event.decode(line) for file in files for line in file.read_bytes().split(b"\n")[:-1]]
    return sorted(found, key=lambda event: event.at_ns)


def records_in_folders(*folders: Path) -> list[Record]:
    """Every record that ever was, in order: segments that were let go of are in another folder."""
    places = {name: folder for folder in folders for name in (each.name for each in folder.iterdir())}
    found: list[Record] = []
    for name in map(segment_name, sorted(segments_among(list(places)))):
        data, crc = (places[name] / name).read_bytes(), sum_of()
        segment = read_segment(name, data, crc)
        found += [
            decode(record.payload)
            for record in records_in(segment.block, data, crc)
            if record.revision <= segment.end.revision
        ]
    return found


class Holding(Struct, frozen=True):
    """From when till when somebody may have taken a lease for its own."""

    session: int
    lease: int
    token: int
    claims: tuple[Claim, ...]
    from_ns: int
    until_ns: int


def faults(events: Iterable[Event], records: Sequence[Record]) -> list[str]:
    """What must not be, in words; nothing if all is well."""
    history = _History()
    for event in events:
        history.take(event)
    holdings = history.all_holdings()
    return [
        *history.faults,
        *_two_at_a_time(holdings),
        *_tokens_back(history.grants),
        *_journal_faults(records),
        *_not_as_told(history, records),
    ]


# -- what clients know ------------------------------------------------------------------------------------------------


class _History:
    def __init__(self) -> None:
        self.faults: list[str] = []
        # By session and number: when it was first asked, what was asked, what was heard.
        self.first_ns: dict[tuple[int, int], int] = {}
        self.asked: dict[tuple[int, int], Asked] = {}
        self.answers: dict[tuple[int, int], Grant | Done] = {}
        self.refused: dict[tuple[int, int], Refusal] = {}
        # Token, first asked, heard: of whatever gives a token.
        self.grants: list[tuple[int, int, int]] = []
        self._ttl_ns: dict[int, int] = {}
        self._claims: dict[int, tuple[Claim, ...]] = {}
        self._open: dict[tuple[int, int], Holding] = {}
        self._closed: list[Holding] = []
        self._renewals: dict[tuple[int, int], tuple[int, Renew]] = {}
        # When it was heard that it is released.
        self._released_ns: dict[int, int] = {}

    def all_holdings(self) -> list[Holding]:
        return [*self._closed, *self._open.values()]

    def take(self, event: Event) -> None:
        match event:
            case Said(at_ns, asked):
                self._said(at_ns, asked)
            case Heard(at_ns, told):
                self._heard(at_ns, told)
            case Left(at_ns, session):
                for key in [key for key in self._open if key[0] == session]:
                    self._close(key, at_ns)
            case Gone():
                pass

    def _said(self, at_ns: int, asked: Asked) -> None:
        match asked:
            case Renew(session, _, n):
                self._renewals[session, n] = at_ns, asked
            case Acquire() | Release() | SetMode() | Offer() | Adopt():
                self.first_ns.setdefault((asked.session, asked.n), at_ns)
                self.asked[asked.session, asked.n] = asked
            case _:
                return
        match asked:
            case Release(session, _, lease, token) | Offer(session, _, lease, token):
                if self._is_held(session, lease, token):
                    self._close((session, lease), at_ns)
            case SetMode(session, _, lease, token, "s") if self._is_held(session, lease, token):
                self._change((session, lease), at_ns, token, "s")

    def _heard(self, at_ns: int, told: Told) -> None:
        match told:
            case Grant():
                if self._is_new(told):
                    self._ttl_ns[told.lease], self._claims[told.lease] = told.ttl_ns, told.claims
                    self._begin(told.session, told.n, told.lease, told.token, at_ns)
            case Done():
                if self._is_new(told):
                    self._done(at_ns, told)
            case Refusal(session, n, code):
                was = self.answers.get((session, n))
                if was is not None and not _is_as_before(self.asked.get((session, n)), was) and code not in _FORGOTTEN:
                    self.faults.append(f"what was answered by {was} is answered by {told} when it is asked again")
                self.refused[session, n] = told
            case Lost(session, lease, why):
                self._lost((session, lease), at_ns, why)
            case Alive(session, lost, n) if (session, n) in self._renewals:
                self._alive(session, lost, at_ns, *self._renewals.pop((session, n)))
            case _:
                pass

    def _is_new(self, told: Grant | Done) -> bool:
        """Whether it is the first answer. A second one must be the same."""
        was = self.answers.setdefault((told.session, told.n), told)
        if was != told:
            self.faults.append(f"what was answered by {was} is answered by {told} when it is asked again")
        return was is told

    def _done(self, at_ns: int, told: Done) -> None:
        asked = self.asked.get((told.session, told.n))
        match asked:
            case SetMode():
                if (told.session, told.lease) in self._open:
                    self._change((told.session, told.lease), at_ns, told.token, asked.mode)
                self._claims[told.lease] = tuple(replace(claim, mode=asked.mode) for claim in self._claims[told.lease])
                if not _is_as_before(asked, told):
                    self._given(told.session, told.n, told.token, at_ns)
            case Adopt():
                self._begin(told.session, told.n, told.lease, told.token, at_ns)
            case Release():
                self._released_ns[told.lease] = at_ns

    def _begin(self, session: int, n: int, lease: int, token: int, at_ns: int) -> None:
        until_ns = self.first_ns[session, n] + self._ttl_ns[lease]
        self._open[session, lease] = Holding(session, lease, token, self._claims[lease], at_ns, until_ns)
        self._given(session, n, token, at_ns)

    def _given(self, session: int, n: int, token: int, at_ns: int) -> None:
        self.grants.append((token, self.first_ns[session, n], at_ns))

    def _is_held(self, session: int, lease: int, token: int) -> bool:
        held = self._open.get((session, lease))
        return held is not None and held.token == token

    def _close(self, key: tuple[int, int], at_ns: int) -> None:
        held = self._open.pop(key, None)
        if held is not None:
            self._closed.append(replace(held, until_ns=min(held.until_ns, at_ns)))

    def _change(self, key: tuple[int, int], at_ns: int, token: int, mode: Mode) -> None:
        held = self._open[key]
        self._close(key, at_ns)
        claims = tuple(replace(claim, mode=mode) for claim in held.claims)
        self._open[key] = replace(held, token=token, claims=claims, from_ns=at_ns)

    def _lost(self, key: tuple[int, int], at_ns: int, why: str) -> None:
        held = self._open.get(key)
        if held is not None and at_ns < held.until_ns and why not in _BY_SOMEBODY:
            self.faults.append(f"{held} is told at {at_ns} that it is lost: {why}")
        self._close(key, at_ns)

    def _alive(self, session: int, lost: tuple[int, ...], at_ns: int, asked_ns: int, renew: Renew) -> None:
        for shown in renew.leases or ():
            key = session, shown.lease
            held = self._open.get(key)
            released_ns = self._released_ns.get(shown.lease)
            if shown.lease in lost:
                self._lost(key, at_ns, "not renewed")
            elif released_ns is not None and released_ns < asked_ns:
                self.faults.append(f"lease {shown.lease} was released at {released_ns} and renewed at {asked_ns}")
            elif held is not None and held.token == shown.token:
                until_ns = max(held.until_ns, asked_ns + self._ttl_ns[shown.lease])
                self._open[key] = replace(held, until_ns=until_ns)


def _is_as_before(asked: Asked | None, answer: Grant | Done) -> bool:
    """Whether it was so already: nothing was done, and nothing of it is kept. Asked again, it may be so no more."""
    return isinstance(asked, SetMode) and answer.token == asked.token


# -- what must not be -------------------------------------------------------------------------------------------------


def _meet(one: tuple[Claim, ...], other: tuple[Claim, ...]) -> bool:
    """The long way, and only for names as the clients here use them."""
    return any(
        "x" in (a.mode, b.mode) and (_lies_in(a.region, b.region) or _lies_in(b.region, a.region))
        for a, b in product(one, other)
    )


def _lies_in(inner: str, outer: str) -> bool:
    return inner == outer or (not inner.startswith(LOCK) and inner.startswith(f"{outer}/"))


def _two_at_a_time(holdings: Iterable[Holding]) -> Iterator[str]:
    before: list[Holding] = []
    for held in sorted(holdings, key=lambda each: each.from_ns):
        if held.until_ns <= held.from_ns:
            continue
        before = [each for each in before if each.until_ns > held.from_ns]
        yield from (f"two hold at a time: {each} and {held}" for each in before if _meet(each.claims, held.claims))
        before.append(held)


def _tokens_back(grants: Iterable[tuple[int, int, int]]) -> Iterator[str]:
    """Who asks after somebody was told a token gets a higher one."""
    known = sorted(grants, key=lambda grant: grant[2])
    highest, at = 0, 0
    for token, asked_ns, _ in sorted(known, key=lambda grant: grant[1]):
        while at < len(known) and known[at][2] < asked_ns:
            highest, at = max(highest, known[at][0]), at + 1
        if token <= highest:
            yield f"token {token} was asked for at {asked_ns}, when {highest} had been told"


def _journal_faults(records: Sequence[Record]) -> Iterator[str]:
    """What it says itself, folded the long way."""
    live: dict[int, tuple[tuple[Claim, ...], int]] = {}
    boot_ns = 0
    for revision, record in enumerate(records, start=1):
        if record.at_ns < boot_ns:
            yield f"record {revision} goes back in time: {record}"
        boot_ns = max(boot_ns, record.at_ns)
        match record:
            case Granted(_, _, lease):
                if revision != lease.lease or revision != lease.token:
                    yield f"record {revision} grants lease {lease.lease} with token {lease.token}"
                yield from _over(live, revision, lease.claims)
                live[revision] = lease.claims, lease.until_ns
            case Ended(at_ns, number, why):
                until_ns = live[number][1] if number in live else 0
                if number not in live:
                    yield f"record {revision} ends lease {number}, which is not there"
                elif why == "expired" and at_ns < until_ns:
                    yield f"record {revision} lets lease {number} run out at {at_ns}, before {until_ns}"
                live.pop(number, None)
            case Renewed(at_ns, number) | Adopted(at_ns, _, _, number):
                if number not in live:
                    yield f"record {revision} is about lease {number}, which is not there: {record}"
                    continue
                # More than that may be written down, for the renewals to come.
                live[number] = live[number][0], max(live[number][1], at_ns + _granted(records, number).ttl_ns)
            case Moded(_, _, _, number, mode):
                if number not in live:
                    yield f"record {revision} is about lease {number}, which is not there: {record}"
                    continue
                _, until_ns = live.pop(number)
                claims = tuple(Claim(claim.region, mode) for claim in _granted(records, number).claims)
                yield from _over(live, revision, claims)
                live[number] = claims, until_ns
            case _:
                pass


def _granted(records: Sequence[Record], lease: int) -> Lease:
    granted = records[lease - 1]
    assert isinstance(granted, Granted)
    return granted.lease


def _over(live: dict[int, tuple[tuple[Claim, ...], int]], revision: int, claims: tuple[Claim, ...]) -> Iterator[str]:
    for number, (others, _) in live.items():
        if _meet(others, claims):
            yield f"record {revision} gives what lease {number} has"


def _not_as_told(history: _History, records: Sequence[Record]) -> Iterator[str]:
    """Whether the journal knows all that was answered, once, and nothing that was refused."""
    done: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for record in records:
        match record:
            case Granted(_, n, lease):
                done[lease.session, n].append(lease.lease)
            case (
                Ended(_, lease_number, _, session, n)
                | Moded(_, session, n, lease_number)
                | Adopted(_, session, n, lease_number)
                | Offered(_, session, n, lease_number)
            ) if n:
                done[session, n].append(lease_number)
            case _:
                pass
    for key, leases in done.items():
        if len(leases) > 1:
            yield f"request {key[1]} of session {key[0]} was done {len(leases)} times: leases {leases}"
        refusal = history.refused.get(key)
        if refusal is not None and key not in history.answers and refusal.code not in _FORGOTTEN:
            yield f"the journal knows that it was done, and it was answered: {refusal}"
    for key, answer in history.answers.items():
        asked = history.asked.get(key)
        if _is_as_before(asked, answer):
            continue
        if answer.lease not in done.get(key, ()):
            yield f"the journal does not know of {answer}"
