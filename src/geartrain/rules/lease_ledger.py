"""What is kept of leases for ever: records of what has happened, and what they come to.

    decide ---> records ---> journal ---> apply, one by one, in a life to come ---> the same ledger
                                '-- snapshot: what all of them came to, so that the old ones may go

The revision of a record is its place in the journal. It never goes back, through snapshots too, and the revision of
the last change of owner or mode is the token of a lease: so no two owners ever have the same one, and who comes later
has the higher.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from geartrain.errors import BadValue
from geartrain.rules.lease_words import Answer, Bind, Claim, Done, Grant, Mode, Why
from geartrain.rules.regions import Case

# So many answers of a session are kept for who asks again.
ANSWERS_MOST = 256
# So many leases that have ended are known by how, for who asks for them later; in no snapshot.
ENDED_MOST = 1024
# So many named requests are known by what they have got; above that only those whose lease is there.
REQUESTS_MOST = 1024

T = TypeVar("T")


class Lease(Struct, frozen=True, array_like=True, gc=False):
    """Who may do what, where. Its number is the revision of its grant; `until_ns` is the most that was promised.

    One that is lost and keeps others out for a while has session 0, and bind "delay".
    """

    lease: int
    token: int
    session: int
    claims: tuple[Claim, ...]
    since_ns: int
    until_ns: int
    ttl_ns: int
    bind: Bind = "session"
    cls: str = ""
    label: str = ""
    owner: int = 0
    alone: bool = False
    delay_ns: int = 0
    offered_to: int = 0


class Budget(Struct, frozen=True, array_like=True):
    """How many leases of a class there may be at once."""

    cls: str
    most: int


class Named(Struct, frozen=True, array_like=True):
    """What a request has got that had a name, and so is known beyond its session."""

    request: str
    what: Literal["acquire", "adopt", "release"]
    answer: Answer


# -- what happens -----------------------------------------------------------------------------------------------------


class Began(Struct, frozen=True, array_like=True, tag="began"):
    """A new life of the arbiter. `wall_ns` is for readers: with `at_ns` it dates all that follows.

    `case` is by which policy regions are compared, and "" where that was not written down yet; `budgets` are those of
    this life.
    """

    at_ns: int
    boot: str
    wall_ns: int
    hold_until_ns: int = 0
    case: Case | Literal[""] = ""
    budgets: tuple[Budget, ...] = ()


class SessionOpened(Struct, frozen=True, array_like=True, tag="opened"):
    """Its number is the revision."""

    at_ns: int
    secret: str
    label: str
    ttl_ns: int


class SessionEnded(Struct, frozen=True, array_like=True, tag="session_ended"):
    """It holds nothing any more but what outlives it."""

    at_ns: int
    session: int


class Granted(Struct, frozen=True, array_like=True, tag="granted", gc=False):
    """This lease is held. It answers request `n` of its session."""

    at_ns: int
    n: int
    lease: Lease
    request: str = ""


class Renewed(Struct, frozen=True, array_like=True, tag="renewed"):
    """It may be held till then. Written once for a whole while, not for each renewal."""

    at_ns: int
    lease: int
    until_ns: int


class Moded(Struct, frozen=True, array_like=True, tag="moded"):
    """All its claims are in this mode."""

    at_ns: int
    session: int
    n: int
    lease: int
    mode: Mode


class Offered(Struct, frozen=True, array_like=True, tag="offered"):
    """This session may adopt it."""

    at_ns: int
    session: int
    n: int
    lease: int
    to: int


class Adopted(Struct, frozen=True, array_like=True, tag="adopted"):
    """It belongs to another."""

    at_ns: int
    session: int
    n: int
    lease: int
    owner: int
    until_ns: int
    request: str = ""


class Ended(Struct, frozen=True, array_like=True, tag="ended", gc=False):
    """It is over, because a session has said so or by itself. Until `delay_until_ns` others are kept out."""

    at_ns: int
    lease: int
    why: Why
    session: int = 0
    n: int = 0
    delay_until_ns: int = 0
    request: str = ""


Record = Granted | Ended | Renewed | Moded | Offered | Adopted | SessionOpened | SessionEnded | Began

_encoder = msgspec.msgpack.Encoder()
_records: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    return _encoder.encode(record)


def decode(payload: bytes) -> Record:
    """A record of the journal. What is none is refused: whoever wrote it knew something that is not known here."""
    return _decoded(_records, payload, "a record of leases")


# -- what it comes to -------------------------------------------------------------------------------------------------


class SessionKept(Struct, frozen=True, array_like=True):
    """A session, in a snapshot. What it has asked up to `floor` is not known any more."""

    session: int
    secret: str
    label: str
    ttl_ns: int
    floor: int
    answers: tuple[Answer, ...]


class Snapshot(Struct, frozen=True, array_like=True, tag="snapshot"):
    """All that a ledger holds."""

    revision: int
    epoch: int
    boot: str
    last_ns: int
    hold_until_ns: int
    leases: tuple[Lease, ...]
    sessions: tuple[SessionKept, ...]
    case: Case | Literal[""] = ""
    budgets: tuple[Budget, ...] = ()
    requests: tuple[Named, ...] = ()


_snapshots: msgspec.msgpack.Decoder[Snapshot] = msgspec.msgpack.Decoder(Snapshot)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    return _encoder.encode(snapshot)


def decode_snapshot(payload: bytes) -> Snapshot:
    return _decoded(_snapshots, payload, "a snapshot of leases")


class Session:
    """One client: what it has asked is remembered, so that it may ask again."""

    __slots__ = ("answers", "floor", "label", "leases", "secret", "session", "ttl_ns")

    def __init__(self, session: int, secret: str, label: str, ttl_ns: int) -> None:
        self.session = session
        self.secret = secret
        self.label = label
        self.ttl_ns = ttl_ns
        self.leases: dict[int, None] = {}
        # Ordered, for a plain dict finds its oldest the slower the more of them have gone.
        self.answers: OrderedDict[int, Answer] = OrderedDict()
        self.floor = 0

    def answered(self, answer: Answer) -> None:
        self.answers[answer.n] = answer
        if len(self.answers) > ANSWERS_MOST:
            oldest, _ = self.answers.popitem(last=False)
            self.floor = max(self.floor, oldest)


class Ledger:
    """The leases and sessions there are, after some records."""

    def __init__(self) -> None:
        self.revision = 0
        self.epoch = 0
        self.boot = ""
        # The time of the last record.
        self.last_ns = 0
        self.hold_until_ns = 0
        # On what terms, as the last life said.
        self.case: Case | Literal[""] = ""
        self.budgets: tuple[Budget, ...] = ()
        self.leases: dict[int, Lease] = {}
        self.ended: OrderedDict[int, Why] = OrderedDict()
        self.requests: dict[str, Named] = {}
        self.sessions: dict[int, Session] = {}
        # By its secret.
        self.session_of: dict[str, int] = {}

    def apply(self, record: Record) -> Answer | None:
        """The next record, and what is answered to whoever has asked for it."""
        self.revision += 1
        answer = _HOW[type(record)](self, record)
        if record.at_ns > self.last_ns:
            self.last_ns = record.at_ns
        return answer

    def _granted(self, record: Granted) -> Answer:
        lease = record.lease
        number = lease.lease
        if number != self.revision:
            raise KeyError(number)
        self.leases[number] = lease
        session = self.sessions[lease.session]
        session.leases[number] = None
        grant = Grant(lease.session, record.n, number, lease.token, lease.claims, lease.ttl_ns)
        session.answered(grant)
        if record.request:
            self._name(Named(record.request, "acquire", grant))
        return grant

    def _ended(self, record: Ended) -> Answer | None:
        """Until its delay is over it is there, and nobody's."""
        lease = self.leases[record.lease]
        self._leave(lease)
        self.ended[record.lease] = record.why
        if len(self.ended) > ENDED_MOST:
            self.ended.popitem(last=False)
        if record.delay_until_ns:
            until_ns = record.delay_until_ns
            nobodys = replace(lease, session=0, owner=0, bind="delay", cls="", offered_to=0, until_ns=until_ns)
            self.leases[lease.lease] = nobodys
        else:
            del self.leases[lease.lease]
        done = Done(record.session, record.n, record.lease)
        if record.request:
            self._name(Named(record.request, "release", done))
        return self._answer(record.session, done)

    def _renewed(self, record: Renewed) -> None:
        self.leases[record.lease] = replace(self.leases[record.lease], until_ns=record.until_ns)

    def _moded(self, record: Moded) -> Answer | None:
        lease = self.leases[record.lease]
        claims = tuple(Claim(claim.region, record.mode) for claim in lease.claims)
        self.leases[record.lease] = replace(lease, claims=claims, token=self.revision)
        return self._answer(record.session, Done(record.session, record.n, record.lease, self.revision))

    def _offered(self, record: Offered) -> Answer | None:
        lease = self.leases[record.lease] = replace(self.leases[record.lease], offered_to=record.to)
        return self._answer(record.session, Done(record.session, record.n, record.lease, lease.token))

    def _session_opened(self, record: SessionOpened) -> None:
        self.sessions[self.revision] = Session(self.revision, record.secret, record.label, record.ttl_ns)
        self.session_of[record.secret] = self.revision

    def _session_ended(self, record: SessionEnded) -> None:
        del self.session_of[self.sessions.pop(record.session).secret]

    def _answer(self, session: int, answer: Answer) -> Answer | None:
        known = self.sessions.get(session)
        if known is None or not answer.n:
            return None
        known.answered(answer)
        return answer

    def _leave(self, lease: Lease) -> None:
        holder = self.sessions.get(lease.session)
        if holder is not None:
            holder.leases.pop(lease.lease, None)

    def _adopt(self, record: Adopted) -> Answer | None:
        former = self.leases[record.lease]
        self._leave(former)
        lease = self.leases[record.lease] = replace(
            former,
            session=record.session,
            owner=record.owner,
            token=self.revision,
            until_ns=record.until_ns,
            offered_to=0,
        )
        self.sessions[record.session].leases[lease.lease] = None
        grant = Grant(record.session, record.n, lease.lease, lease.token, lease.claims, lease.ttl_ns)
        if record.request:
            self._name(Named(record.request, "adopt", grant))
        return self._answer(record.session, grant)

    def _name(self, named: Named) -> None:
        """The oldest is forgotten; one whose lease is there counts as new, and a few are looked at for each."""
        requests = self.requests
        requests[named.request] = named
        for _ in range(4):
            if len(requests) <= REQUESTS_MOST:
                break
            oldest = requests.pop(next(iter(requests)))
            if oldest.what != "release" and oldest.answer.lease in self.leases:
                requests[oldest.request] = oldest

    def _begin(self, record: Began) -> None:
        """After a start of the machine its clock begins anew; how long nobody can tell that it was off.

        What was left of a lease when the last record was written is the most that can be left, and it gets all of it
        once more. A start of the arbiter alone moves nothing.
        """
        self.epoch += 1
        if self.boot and record.boot != self.boot:
            # Of the other clock nothing is kept.
            gone_ns, self.last_ns = self.last_ns, record.at_ns
            for number, lease in self.leases.items():
                left_ns = max(0, lease.until_ns - gone_ns)
                self.leases[number] = replace(lease, until_ns=record.at_ns + left_ns)
            if self.hold_until_ns:
                self.hold_until_ns = record.at_ns + max(0, self.hold_until_ns - gone_ns)
        self.boot = record.boot
        self.case = record.case or self.case
        self.budgets = record.budgets
        self.hold_until_ns = max(self.hold_until_ns, record.hold_until_ns)

    # -- as one value

    def snapshot(self) -> Snapshot:
        sessions = (
            SessionKept(one.session, one.secret, one.label, one.ttl_ns, one.floor, tuple(one.answers.values()))
            for one in self.sessions.values()
        )
        return Snapshot(
            self.revision,
            self.epoch,
            self.boot,
            self.last_ns,
            self.hold_until_ns,
            tuple(self.leases.values()),
            tuple(sessions),
            self.case,
            self.budgets,
            tuple(self.requests.values()),
        )

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Ledger":
        ledger = cls()
        ledger.revision = snapshot.revision
        ledger.epoch = snapshot.epoch
        ledger.boot = snapshot.boot
        ledger.last_ns = snapshot.last_ns
        ledger.hold_until_ns = snapshot.hold_until_ns
        ledger.case, ledger.budgets = snapshot.case, snapshot.budgets
        ledger.requests = {named.request: named for named in snapshot.requests}
        for kept in snapshot.sessions:
            session = ledger.sessions[kept.session] = Session(kept.session, kept.secret, kept.label, kept.ttl_ns)
            session.answers.update((answer.n, answer) for answer in kept.answers)
            session.floor = kept.floor
            ledger.session_of[kept.secret] = kept.session
        for lease in snapshot.leases:
            ledger.leases[lease.lease] = lease
            if lease.session in ledger.sessions:
                ledger.sessions[lease.session].leases[lease.lease] = None
        return ledger


_HOW: dict[type[Record], Callable[[Ledger, Any], Answer | None]] = {
    Granted: Ledger._granted,
    Ended: Ledger._ended,
    Renewed: Ledger._renewed,
    Moded: Ledger._moded,
    Offered: Ledger._offered,
    Adopted: Ledger._adopt,
    SessionOpened: Ledger._session_opened,
    SessionEnded: Ledger._session_ended,
    Began: Ledger._begin,
}


def apply(ledger: Ledger, record: Record) -> Ledger:
    """The ledger after one record more: the same one, which has moved on (ADR 33)."""
    return fold_into(ledger, (record,))


def fold_into(ledger: Ledger, records: Iterable[Record]) -> Ledger:
    """The ledger after all of these."""
    try:
        for record in records:
            ledger.apply(record)
    except KeyError as error:
        said = f"record {ledger.revision} of leases does not follow from those before it: it is about {error}"
        raise BadValue(
            f"{said}, which is not there; the records are not all of one journal, or not all there"
        ) from error
    return ledger


def fold(records: Iterable[Record], snapshot: Snapshot | None = None) -> Ledger:
    """What all records come to, after a snapshot or from nothing."""
    return fold_into(Ledger() if snapshot is None else Ledger.of(snapshot), records)


def compact(records: Iterable[Record], snapshot: Snapshot | None = None) -> Snapshot:
    """What may be kept in the place of all of them."""
    return fold(records, snapshot).snapshot()


def _decoded(decoder: msgspec.msgpack.Decoder[T], payload: bytes, what: str) -> T:
    try:
        return decoder.decode(payload)
    except (ValueError, RecursionError) as error:
        said = f"{what} cannot be read: {error}; it may be of a later version, which can read it"
        raise BadValue(said) from error
