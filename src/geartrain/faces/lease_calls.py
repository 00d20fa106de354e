"""Leases for programs that come and go: ask the arbiter if one runs there, or be it for a moment.

    nobody writes the journal     hold it | recover | decide | make durable | let go | answer
    an arbiter writes it          ask it over its socket, and wait in its queue
    a command writes it           try again, for `BUSY_FOR_S`, then `JournalInUse`

A lease that is granted so is bound to its time and to no process. Who waits without an arbiter has a place in the line
beside the journal, and nobody who comes later gets what he waits for. What is refused writes nothing but the audit.
"""

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from random import uniform
from types import TracebackType

from msgspec import structs

from geartrain.actors.arbiter import recovered
from geartrain.engine.lease_socket import Asker
from geartrain.errors import BadValue, JournalDamaged, JournalInUse, LeaseRefused
from geartrain.faces.lease import in_files, standing
from geartrain.ports.clock import mono_ns
from geartrain.ports.lease_audit import AuditLog
from geartrain.ports.lease_backend import GRACE_NS, Backend, InFiles, backend_of
from geartrain.ports.lease_line import PlaceInLine, Waits, waiting
from geartrain.rules.lease import State, Terms, as_recorded
from geartrain.rules.lease_ledger import Ledger, Record, encode, encode_snapshot
from geartrain.rules.lease_words import (
    Acquire,
    Adopt,
    Alive,
    Asked,
    Audit,
    Begin,
    Claim,
    Close,
    Conflict,
    Done,
    Grant,
    Lost,
    Note,
    Open,
    Opened,
    Refusal,
    Release,
    Renew,
    Reply,
    Shown,
    Told,
)
from geartrain.rules.regions import canonical, in_one_line, key_of, meet

# As long as others write, one after the other, this is tried again.
BUSY_FOR_S = 5.0
# After so many records what they came to is kept in their place, so that a command never reads more.
SNAPSHOT_EVERY = 2_000
_LOOK_EVERY_S = 0.02
# Over a network, and not all at once.
_LOOK_AFAR_EVERY_S = (0.1, 0.3)
_ANSWER_WITHIN_S = 10.0
_TERMS = Terms(grace_ns=GRACE_NS)
# What may be otherwise in a while.
_MAY_COME = ("conflict", "alone", "budget")


class Writer:
    """The one who decides, as long as it holds the journal. What it has decided is true when it is committed."""

    def __init__(self, place: Path | Backend) -> None:
        self._backend = backend_of(place) if isinstance(place, Path) else place
        # Beside the journal there are notes, and those who wait: only where it is in files.
        self._folder = self._backend.folder if isinstance(self._backend, InFiles) else None
        self._journal = self._backend.open()
        self._records: list[Record] = []
        self._audit: list[Audit] = []
        try:
            ledger = self._recovered()
            self._life = self._backend.life(self._journal, ledger.boot, ledger.last_ns)
            terms = as_recorded(ledger, _TERMS)
            self.state = State(ledger, structs.replace(terms, grace_ns=self._backend.grace_ns))
            if ledger.boot != self._life.boot:
                # Commands of one boot are one life: they agree on its clock. It is written down whatever is asked: if
                # each who is refused began anew, what was left of a lease would be left of it for ever.
                self._decide(Begin(self._life.boot, time.time_ns()))
                self.commit()
            self._wall_ns = time.time_ns() - self._life.now_ns()
        except BaseException:
            self._journal.close()
            raise

    def answer(self, command: Asked | Close, within_s: float = 0.0) -> Told:
        """The last word on it. Nobody waits here, so it is there at once."""
        replies = [reply for reply in self._decide(command) if not isinstance(reply, Lost)]
        return replies[-1] if replies else Done(0, 0, 0)

    def commit(self) -> None:
        for record in self._records:
            self._journal.append(encode(record))
        self._records.clear()
        self._journal.sync()
        assert self._journal.revision == self.state.revision
        former = self._journal.state.revision if self._journal.state else 0
        if self.state.revision - former >= SNAPSHOT_EVERY:
            self._journal.snapshot(self.state.revision, encode_snapshot(self.state.ledger.snapshot()))

    def close(self) -> None:
        self._journal.close()

    def write_audit(self) -> None:
        """For those who ask afterwards."""
        if self._audit and self._folder is not None:
            log = AuditLog(self._folder)
            for audit in self._audit:
                log.write(self._wall_ns + audit.at_ns, audit)
            log.close()

    @property
    def has_line(self) -> bool:
        """Whether those who wait are known to those who come."""
        return self._folder is not None

    def in_line_before(self, ask: Acquire, place: PlaceInLine | None) -> tuple[Conflict, ...]:
        """What is wanted by somebody who waits, and came first."""
        if self._folder is None:
            return ()
        waits = waiting(self._folder, place.number if place else None)
        return tuple(
            Conflict(0, 0, one.label, theirs.region, theirs.mode)
            for one in waits for theirs in one.claims
            if any(_in_the_way(mine, theirs) for mine in ask.claims)
        )  # fmt: skip

    def _decide(self, command: Asked | Close | Begin) -> tuple[Reply, ...]:
        outcome = self.state.decide(command, self._life.now_ns())
        self._records += outcome.records
        self._audit += outcome.audit
        return outcome.replies

    def _recovered(self) -> Ledger:
        try:
            return recovered(self._journal)
        except JournalDamaged:
            # That says which record; who looks at the files says where in them it is.
            if self._folder is not None:
                standing(self._folder)
            raise


class Session:
    """For one question: whom to ask, and the session in which it is asked."""

    def __init__(self, folder: Path, label: str, busy_for_s: float, wait_ns: int = 0) -> None:
        self.desk = _desk(folder, busy_for_s)
        self._folder = folder
        self._label = label
        # It says nothing more while it waits.
        self._ttl_ns = min(_TERMS.ttl_most_ns, wait_ns + _TERMS.session_ttl_ns)

    def __enter__(self) -> "Session":
        try:
            opened = self.ask(Open(secrets.token_hex(16), self._label, self._ttl_ns))
        except BaseException as error:
            self.desk.close()
            if isinstance(error, LeaseRefused) and error.code == "indeterminate":
                # It stands still; and what was to be asked in the session was not asked yet.
                raise JournalInUse(str(self._folder), None) from error
            raise
        assert isinstance(opened, Opened)
        self.number = opened.session
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.desk.close()

    @property
    def writer(self) -> Writer | None:
        return self.desk if isinstance(self.desk, Writer) else None

    def ask(self, command: Asked, waits_s: float = 0.0) -> Told:
        """What is answered; `LeaseRefused` if it is no."""
        told = self.desk.answer(command, waits_s + _ANSWER_WITHIN_S)
        if isinstance(told, Refusal):
            if told.code == "bad_request":
                raise BadValue(told.said)
            raise LeaseRefused(told.said, told.code, told.conflicts)
        return told

    def tell(self, word: Note) -> None:
        if isinstance(self.desk, Writer):
            self.desk.answer(word)
        else:
            self.desk.tell(word)

    def end(self) -> None:
        """It is done, and what was granted is nobody's but of who has its token."""
        if isinstance(self.desk, Writer):
            self.desk.answer(Close(self.number))
            self.desk.commit()
            self.desk.write_audit()


def _desk(folder: Path, busy_for_s: float) -> Writer | Asker:
    until_s = time.monotonic() + busy_for_s
    while True:
        try:
            return Writer(folder)
        except JournalInUse:
            asker = Asker.of(folder)
            if asker is not None:
                return asker
            if time.monotonic() > until_s:
                raise
        time.sleep(uniform(0.002, 0.01))


# -- what can be asked ------------------------------------------------------------------------------------------------


def acquire(
    folder: Path,
    claims: tuple[Claim, ...],
    *,
    ttl_ns: int,
    wait_ns: int = 0,
    label: str = "",
    request: str = "",
    busy_for_s: float = BUSY_FOR_S,
) -> Grant:
    """All of these regions for this time, or `LeaseRefused`; what cannot be had now is waited for.

    With the name of a request that was granted already it is that lease, and nothing is granted twice.
    """
    _named(request)
    if not 0 < ttl_ns <= _TERMS.ttl_most_ns or wait_ns > _TERMS.wait_most_ns:
        # The arbiter says so too; but here no journal has been made for it.
        most_s = _TERMS.ttl_most_ns / 1e9
        raise BadValue(f"a lease lives for above 0 and at most {most_s:g} s, and a wait is as long at most")
    claims = tuple(Claim(canonical(claim.region), claim.mode) for claim in claims)
    label = in_one_line("label", label, most_bytes=256) if label else ""
    until_ns = mono_ns() + wait_ns
    place: PlaceInLine | None = None
    try:
        while True:
            left_ns = max(0, until_ns - mono_ns())
            with Session(folder, label, busy_for_s, left_ns) as session:
                ask = Acquire(session.number, 1, claims, ttl_ns, left_ns, "ttl", label=label, request=request)
                writer = session.writer
                if writer is None:
                    return _granted(session.ask(ask, left_ns / 1e9))
                refused = _tried(session, writer, ask, place)
                if isinstance(refused, Grant):
                    return refused
                if refused.code not in _MAY_COME or not left_ns:
                    writer.write_audit()
                    raise _timed_out(refused) if wait_ns and refused.code in _MAY_COME else refused
                if place is None and writer.has_line:
                    place = PlaceInLine(folder, Waits(claims=claims, label=label, until_ns=until_ns))
            every_s = _LOOK_EVERY_S if place is not None else uniform(*_LOOK_AFAR_EVERY_S)
            time.sleep(min(every_s, left_ns / 1e9))
    finally:
        if place is not None:
            place.leave()


def _tried(session: Session, writer: Writer, ask: Acquire, place: PlaceInLine | None) -> Grant | LeaseRefused:
    first = () if ask.request in writer.state.ledger.requests else writer.in_line_before(ask, place)
    if first:
        said = f"it is taken: {len(first)} who wait for it came first; wait for it, or ask for less"
        return LeaseRefused(said, "conflict", first)
    try:
        grant = _granted(session.ask(structs.replace(ask, wait_ns=0)))
    except LeaseRefused as refused:
        return refused
    session.end()
    return grant


def _timed_out(refused: LeaseRefused) -> LeaseRefused:
    said = str(refused).removeprefix("it is taken: ")
    return LeaseRefused(f"what is in its way has not ended in time: {said}", "timeout", refused.conflicts)


def _granted(told: Told) -> Grant:
    assert isinstance(told, Grant)
    return told


def release(folder: Path, lease: int, token: int, request: str = "", *, busy_for_s: float = BUSY_FOR_S) -> Done:
    _named(request)
    done = _done(folder, lambda session: Release(session, 1, lease, token, request), busy_for_s)
    assert isinstance(done, Done)
    return done


def adopt(
    folder: Path, lease: int, token: int, label: str = "", request: str = "", *, busy_for_s: float = BUSY_FOR_S
) -> Grant:
    """Take over what outlives its holder. Its old token is void."""
    _named(request)
    return _granted(_done(folder, lambda session: Adopt(session, 1, lease, token, request=request), busy_for_s, label))


def renew(folder: Path, lease: int, token: int, *, busy_for_s: float = BUSY_FOR_S) -> None:
    """Its whole time once more, from now on."""
    _there(folder)
    with Session(folder, "", busy_for_s) as session:
        alive = session.ask(Renew(session.number, (Shown(lease, token),), 1, exact=True))
        assert isinstance(alive, Alive)
        if alive.lost:
            # It cannot be released either, and this one says why.
            session.ask(Release(session.number, 2, lease, token))
        session.end()


def note(folder: Path, make: Callable[[int], Note]) -> None:
    """For those who read the audit."""
    in_files(folder)
    _there(folder)
    with Session(folder, "", BUSY_FOR_S) as session:
        noted = make(session.number)
        in_one_line("text", noted.text, most_bytes=1024)
        session.tell(noted)
        # It is not answered; what comes after it is, and then it was heard.
        session.ask(Renew(session.number, (), 1))
        session.end()


def _done(folder: Path, make: Callable[[int], Asked], busy_for_s: float, label: str = "") -> Told:
    _there(folder)
    with Session(folder, label, busy_for_s) as session:
        try:
            done = session.ask(make(session.number))
        except LeaseRefused:
            if session.writer:
                session.writer.write_audit()
            raise
        session.end()
    return done


def _named(request: str) -> None:
    if request:
        in_one_line("the name of a request", request, most_bytes=256)


def _there(folder: Path) -> None:
    """A journal is made by who acquires."""
    if not backend_of(folder).is_begun():
        raise BadValue(f"there is no journal in {folder}: say with --dir where it is")


def _in_the_way(mine: Claim, theirs: Claim) -> bool:
    return "x" in (mine.mode, theirs.mode) and meet(key_of(mine.region), key_of(theirs.region))
