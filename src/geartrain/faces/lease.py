"""What the journal of an arbiter tells those who look: whether it is whole, what is held, and who held what when.

Nothing is asked and nothing is written but by `compacted`, which becomes the one writer for a moment.
"""

import time
from bisect import insort_right
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from geartrain.actors.arbiter import recovered
from geartrain.errors import BadValue, GeartrainError, JournalDamaged, PlaceRefused
from geartrain.ports.clock import mono_ns
from geartrain.ports.etcd import address_of
from geartrain.ports.file_journal import FileJournal, Found, Kept, read_kept, records_kept, told_of_the_rest
from geartrain.ports.fs import RealFs
from geartrain.ports.lease_audit import read_audit
from geartrain.ports.lease_backend import InEtcd
from geartrain.ports.process_table import boot_id
from geartrain.rules.durations import duration_text
from geartrain.rules.journal_frames import snapshot_name
from geartrain.rules.lease import State
from geartrain.rules.lease_audit import Audited
from geartrain.rules.lease_ledger import (
    Adopted,
    Began,
    Ended,
    Granted,
    Ledger,
    Moded,
    Offered,
    Record,
    Renewed,
    SessionEnded,
    SessionOpened,
    decode,
    decode_snapshot,
    encode_snapshot,
)
from geartrain.rules.lease_words import Begin, Claim, Noted, Refused, Tick
from geartrain.rules.regions import canonical, key_of, meet

T = TypeVar("T")

_LOOK_EVERY_S = 0.1

# Where leases are kept if nobody says where: beside what they protect.
LEASE_FOLDER = Path(".geartrain") / "leases"


class Standing(Struct, frozen=True, kw_only=True):
    """A journal that is whole, in numbers. `snapshot` is the revision of the newest one, 0 of none."""

    folder: str
    revision: int
    segments: int
    records: int
    snapshot: int
    leases: int
    sessions: int
    said: tuple[str, ...] = ()


class Wanted(Struct, frozen=True):
    """A region, and how it is held."""

    region: str
    mode: str


class Line(Struct, frozen=True, kw_only=True):
    """One thing that has happened. `at` is wall time in UTC, empty where no record dates it.

    What changed nothing, as a refusal, has revision 0.
    """

    revision: int
    at: str
    what: str
    lease: int = 0
    token: int = 0
    session: int = 0
    label: str = ""
    regions: tuple[Wanted, ...] = ()
    said: str = ""


class Held(Struct, frozen=True, kw_only=True):
    """A lease as it stands now. `modes` are of the regions, in their order; it ends in `left_s` at most."""

    lease: int
    token: int
    regions: tuple[str, ...]
    modes: tuple[str, ...]
    label: str
    session: int
    bind: str
    ttl_s: float
    left_s: float


class Compacted(Struct, frozen=True, kw_only=True):
    """What was made of so many records."""

    revision: int
    records: int
    leases: int
    sessions: int


# -- looking ----------------------------------------------------------------------------------------------------------


def standing(folder: Path) -> Standing:
    """How the journal stands; `JournalDamaged` if it is not whole, or its records do not fit together."""
    return _looked(_standing, folder)


def _standing(folder: Path) -> Standing:
    fs, kept = _kept(folder)
    ledger, records = _read(fs, kept)
    return Standing(
        folder=str(folder),
        revision=kept.revision,
        segments=len(kept.segments),
        records=records,
        snapshot=kept.state.revision if kept.state else 0,
        leases=len(ledger.leases),
        sessions=len(ledger.sessions),
        said=(*kept.said, *told_of_the_rest(fs, kept)),
    )


def _read(fs: RealFs, kept: Kept) -> tuple[Ledger, int]:
    """What they come to, and how many records there are."""
    ledger, records = _ledger_before(kept), 0
    for found in records_kept(fs, kept):
        records += 1
        if found.record.revision > ledger.revision:
            _apply(ledger, _decoded(found), found)
    return ledger, records


def held(folder: Path) -> list[Held]:
    """Which leases there are now, as the next life of an arbiter would find them. Nobody is asked."""
    return _looked(_held, folder)


def _held(folder: Path) -> list[Held]:
    address = address_of(folder)
    if address is not None:
        return _held_in_etcd(InEtcd(address))
    state = State(_read(*_kept(folder))[0])
    state.decide(Begin(boot_id(), 0), mono_ns())
    return _held_of(state, mono_ns())


def _held_in_etcd(backend: InEtcd) -> list[Held]:
    """Whoever writes it: all of it is read at one moment."""
    journal = backend.looked_at()
    try:
        ledger = recovered(journal)
        return _held_of(State(ledger), backend.now_ns(journal, ledger.boot, ledger.last_ns))
    finally:
        journal.close()


def _held_of(state: State, now_ns: int) -> list[Held]:
    state.decide(Tick(), now_ns)
    ledger = state.ledger
    return [
        Held(
            lease=lease.lease,
            token=lease.token,
            regions=tuple(claim.region for claim in lease.claims),
            modes=tuple(claim.mode for claim in lease.claims),
            label=lease.label or _who(ledger, lease.session),
            session=lease.session,
            bind=lease.bind,
            ttl_s=lease.ttl_ns / 1e9,
            left_s=max(0, lease.until_ns - state.now_ns) / 1e9,
        )
        for lease in ledger.leases.values()
    ]


def story(folder: Path, region: str | None = None) -> list[Line]:
    """All that is still kept of what has happened and of what was refused; with a region, what touches it."""
    dated = _looked(lambda folder: list(_changes(folder)), folder)
    # Records keep their order, whatever a wall clock says: what changed nothing goes between them by its date.
    for audited in read_audit(folder):
        insort_right(dated, (audited.wall_ns, _audited_line(audited)), key=lambda one: one[0])
    lines = [line for _, line in dated]
    if region is None:
        return lines
    key = key_of(canonical(region))
    return [line for line in lines if any(meet(key, key_of(wanted.region)) for wanted in line.regions)]


def watched(folder: Path, region: str | None = None, for_s: float | None = None) -> Iterator[Line]:
    """What happens from now on, as it is written down, for so long or without end."""
    until_s = None if for_s is None else time.monotonic() + for_s
    known = Counter(story(folder, region))
    while until_s is None or time.monotonic() < until_s:
        time.sleep(_LOOK_EVERY_S)
        now = story(folder, region)
        for line in now:
            known[line] -= 1
            if known[line] < 0:
                yield line
        # What has been compacted away is not told again: it is not there any more.
        known = Counter(now)


def _changes(folder: Path) -> Iterator[tuple[int, Line]]:
    """What each record says, and its date in wall time."""
    fs, kept = _kept(folder)
    whole = kept.segments[0].block.first == 1
    ledger = Ledger() if whole else _ledger_before(kept)
    dated = _Dates(ledger.boot)
    for found in records_kept(fs, kept):
        if found.record.revision <= ledger.revision:
            continue
        record = _decoded(found)
        dated.see(record)
        # Before it is applied, which may end the lease it is about.
        wall_ns = dated.wall_ns(record)
        line = _line(found.record.revision, record, ledger, _date(wall_ns))
        _apply(ledger, record, found)
        yield wall_ns, line


def compacted(folder: Path) -> Compacted:
    """Put a snapshot in the place of all records. `JournalInUse` while an arbiter runs, which does so itself."""
    _looked(_kept, folder)
    journal = FileJournal(folder)
    try:
        ledger, records = _ledger_of(journal.state.state if journal.state else None), 0
        for record in journal.records():
            ledger.apply(decode(record.payload))
            records += 1
        journal.snapshot(ledger.revision, encode_snapshot(ledger.snapshot()))
    finally:
        journal.close()
    return Compacted(
        revision=ledger.revision, records=records, leases=len(ledger.leases), sessions=len(ledger.sessions)
    )  # fmt: skip


def _looked(look: Callable[[Path], T], folder: Path) -> T:
    """What is seen there, once no file that was found has gone before it was read: its writer has let go of it."""
    while True:
        try:
            return look(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise PlaceRefused(f"the journal in {folder} cannot be read: {error.strerror}") from error


def in_files(folder: Path) -> None:
    """Refuse what only a journal in files can be asked."""
    address = address_of(folder)
    if address is not None:
        said = "no files keep it, and there are no notes; `lease ls` shows what is held, and etcd keeps it whole"
        raise BadValue(f"that cannot be asked of {address}: {said}")


def _kept(folder: Path) -> tuple[RealFs, Kept]:
    in_files(folder)
    fs = RealFs(folder)
    try:
        kept = read_kept(fs)
    except FileNotFoundError:
        kept = None
    if kept is None:
        raise BadValue(f"there is no journal in {folder}: say with --dir where it is")
    return fs, kept


def _ledger_before(kept: Kept) -> Ledger:
    if kept.state is None:
        return Ledger()
    try:
        return _ledger_of(kept.state.state)
    except GeartrainError as error:
        raise JournalDamaged(snapshot_name(kept.state.revision), 0, str(error), "a snapshot of leases") from error


def _ledger_of(state: bytes | None) -> Ledger:
    return Ledger() if state is None else Ledger.of(decode_snapshot(state))


def _decoded(found: Found) -> Record:
    try:
        return decode(found.record.payload)
    except GeartrainError as error:
        raise JournalDamaged(found.file, found.offset, str(error), "a record of leases") from error


def _apply(ledger: Ledger, record: Record, found: Found) -> None:
    try:
        ledger.apply(record)
    except (AssertionError, KeyError) as error:
        met = f"record {found.record.revision} ({type(record).__name__}) does not fit those before it"
        raise JournalDamaged(found.file, found.offset, met, "one that an arbiter has written") from error


# -- telling ----------------------------------------------------------------------------------------------------------


class _Dates:
    """Wall time of records: that of the last start of an arbiter, and what has passed since.

    Of records whose start is no longer kept, if it was in this boot, by what the clocks say now. Others have none.
    """

    def __init__(self, boot: str) -> None:
        self._offset_ns = time.time_ns() - mono_ns() if boot and boot == boot_id() else None

    def see(self, record: Record) -> None:
        if isinstance(record, Began):
            self._offset_ns = record.wall_ns - record.at_ns

    def wall_ns(self, record: Record) -> int:
        """0 of none."""
        return 0 if self._offset_ns is None else self._offset_ns + record.at_ns


def _date(wall_ns: int) -> str:
    if not wall_ns:
        return ""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=wall_ns // 1000)
    return moment.isoformat(timespec="milliseconds")


def _audited_line(audited: Audited) -> Line:
    at = _date(audited.wall_ns)
    match audited.audit:
        case Refused(_, wants, refusal):
            said = f"{refusal.code}: {refusal.said}"
            return Line(
                revision=0, at=at, what="refused", session=refusal.session, regions=_wanted(wants), said=said
            )  # fmt: skip
        case Noted(_, note):
            return Line(revision=0, at=at, what=note.kind, lease=note.lease, session=note.session, said=note.text)


def _line(revision: int, record: Record, ledger: Ledger, at: str) -> Line:
    match record:
        case Began(_, boot):
            return Line(revision=revision, at=at, what="arbiter began", said=f"boot {boot}")
        case SessionOpened(_, _, label, ttl_ns):
            said = f"ttl {duration_text(ttl_ns / 1e9)}"
            return Line(revision=revision, at=at, what="session opened", session=revision, label=label, said=said)
        case SessionEnded(_, session):
            return Line(revision=revision, at=at, what="session ended", session=session, label=_who(ledger, session))
        case Granted(_, _, lease, request):
            return Line(
                revision=revision, at=at, what="granted", lease=lease.lease, token=lease.token, session=lease.session,
                label=lease.label or _who(ledger, lease.session), regions=_wanted(lease.claims),
                said=f"ttl {duration_text(lease.ttl_ns / 1e9)}" + (f", request {request!r}" if request else ""),
            )  # fmt: skip
        case Ended(_, number, why, session):
            return _of_lease(revision, at, why, ledger, number, f"by session {session}" if session else "")
        case Renewed(at_ns, number, until_ns):
            said = f"for {duration_text((until_ns - at_ns) / 1e9)} at most"
            return _of_lease(revision, at, "renewed", ledger, number, said)
        case Moded(_, _, _, number, mode):
            return _of_lease(revision, at, "mode changed", ledger, number, f"{mode}, token {revision}")
        case Offered(_, _, _, number, to):
            return _of_lease(revision, at, "offered", ledger, number, f"to session {to}")
        case Adopted(_, session, _, number):
            return _of_lease(revision, at, "adopted", ledger, number, f"by session {session}, token {revision}")


def _of_lease(revision: int, at: str, what: str, ledger: Ledger, number: int, said: str) -> Line:
    """About a lease as it was before this record."""
    lease = ledger.leases.get(number)
    if lease is None:
        return Line(revision=revision, at=at, what=what, lease=number, said=said)
    return Line(
        revision=revision, at=at, what=what, lease=number, token=lease.token, session=lease.session,
        label=lease.label or _who(ledger, lease.session), regions=_wanted(lease.claims), said=said,
    )  # fmt: skip


def _who(ledger: Ledger, session: int) -> str:
    known = ledger.sessions.get(session)
    return known.label if known else ""


def _wanted(claims: tuple[Claim, ...]) -> tuple[Wanted, ...]:
    return tuple(Wanted(claim.region, claim.mode) for claim in claims)


def regions_text(regions: tuple[Wanted, ...]) -> str:
    return ", ".join(f"{wanted.region} ({wanted.mode})" for wanted in regions)
