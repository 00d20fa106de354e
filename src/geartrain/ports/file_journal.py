"""The journal in files: one writer, and what it has acknowledged stays or is missed loudly.

    append, append, append      frames in memory, numbered and summed
    sync                        write them | fdatasync | write the mark | fdatasync      only then are they durable

The frame is on the disk before the mark says so, and the mark before anybody is answered: what is missing at or below
it was lost by the disk, and what lies above it was promised to nobody (ADR 35). After any error the journal writes no
more: a sync that has failed may have dropped what it was to keep, and the next one would say that all is well.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from geartrain.errors import JournalDamaged, JournalStopped, NotInUse
from geartrain.ports.fs import Fs, RealFs
from geartrain.ports.journal import Journal, checked_payload
from geartrain.rules.checks import whole
from geartrain.rules.journal_frames import (
    FRAMES_AT,
    IDENTITY_BYTES,
    IDENTITY_FILE,
    Block,
    Mark,
    Record,
    Segment,
    Snapshot,
    SumOf,
    block_bytes,
    check_line,
    empty_segment,
    frame,
    frame_bytes,
    fresh_block,
    identity_bytes,
    needed_after,
    read_identity,
    read_segment,
    read_snapshot,
    records_in,
    segment_name,
    segments_among,
    snapshot_bytes,
    snapshot_name,
    snapshots_among,
)

LOCK_FILE = "LOCK"
SEGMENT_BYTES = 1 << 20
_TORN = ".tmp"


class Kept(Struct, frozen=True, kw_only=True):
    """What the files hold: the snapshot, the segments that are needed after it, and what is worth telling."""

    identity: bytes
    state: Snapshot | None
    segments: tuple[Segment, ...]
    said: tuple[str, ...] = ()

    @property
    def revision(self) -> int:
        return self.segments[-1].end.revision


def sum_of() -> SumOf:
    """CRC32C, imported when the first journal is opened."""
    from google_crc32c import extend

    found: SumOf = extend
    return found


def read_kept(fs: Fs) -> Kept | None:
    """What a journal holds, None of none; `JournalDamaged` if that is not all it should. Nothing is changed.

    Somebody may be writing it meanwhile: what is wrong counts when it is met twice, with the same files.
    """
    before = None
    while True:
        names = sorted(fs.names())
        try:
            return _read_kept(fs, names)
        except (JournalDamaged, FileNotFoundError) as error:
            met = (names, str(error))
            if met == before:
                raise
            before = met


def _read_kept(fs: Fs, names: list[str]) -> Kept | None:
    crc, firsts = sum_of(), segments_among(names)
    if not firsts:
        _refuse_loss(names)
        return None
    identity = read_identity(fs.read(IDENTITY_FILE), crc) if IDENTITY_FILE in names else None
    state, said = _newest_snapshot(fs, snapshots_among(names), identity, crc)
    after = state.revision if state else 0
    segments = tuple(
        read_segment(name, fs.read(name), crc) for name in map(segment_name, needed_after(after, firsts))
    )  # fmt: skip
    check_line(segments, after)
    whose = segments[0].block.identity
    if identity is None:
        said = (*said, f"{IDENTITY_FILE} is missing or not whole, and is written again")
    elif identity != whose:
        raise JournalDamaged(segments[0].name, 0, "a segment of another journal", f"one of {identity.hex()}")
    told = tuple(line for segment in segments for line in segment.said)
    return Kept(identity=whose, state=state, segments=segments, said=(*said, *told))


def _refuse_loss(names: list[str]) -> None:
    """There is no segment: that is no journal yet, or one that has lost everything."""
    left = [name for name in names if name == IDENTITY_FILE or snapshots_among([name])]
    if left:
        raise JournalDamaged(segment_name(1), 0, f"no segment at all, beside {min(left)}", "at least one")


def _newest_snapshot(
    fs: Fs, revisions: list[int], identity: bytes | None, crc: SumOf
) -> tuple[Snapshot | None, tuple[str, ...]]:
    """The newest that is whole. The records since the one before it are still there, and do for it when it is not."""
    said: list[str] = []
    for revision in revisions:
        name = snapshot_name(revision)
        try:
            whose, snapshot = read_snapshot(name, fs.read(name), crc)
        except JournalDamaged as damage:
            said.append(f"{damage}: the one before it serves")
            continue
        if identity is not None and whose != identity:
            raise JournalDamaged(name, 0, "a snapshot of another journal", f"one of {identity.hex()}")
        return snapshot, tuple(said)
    return None, tuple(said)


def told_of_the_rest(fs: Fs, kept: Kept) -> tuple[str, ...]:
    """What is wrong with the files that are kept only in case the newest snapshot is lost, in words."""
    names, crc, said = sorted(fs.names()), sum_of(), list[str]()
    used = {segment.name for segment in kept.segments}
    for name in names:
        try:
            if segments_among([name]) and name not in used:
                said += read_segment(name, fs.read(name), crc).said
            elif (revisions := snapshots_among([name])) and revisions[0] < (kept.state.revision if kept.state else 0):
                read_snapshot(name, fs.read(name), crc)
        except JournalDamaged as damage:
            said.append(f"{damage}; it is needed only if the newest snapshot is lost")
    return tuple(said)


class Found(Struct, frozen=True, gc=False):
    """A record, and where its frame begins."""

    file: str
    offset: int
    record: Record


def records_kept(fs: Fs, kept: Kept) -> Iterator[Found]:
    """The records of its segments: with those before the snapshot that are still there."""
    crc = sum_of()
    for segment in kept.segments:
        offset = FRAMES_AT
        for record in records_in(segment.block, fs.read(segment.name), crc):
            if record.revision > segment.end.revision:
                break
            yield Found(segment.name, offset, record)
            offset += frame_bytes(record)


class FileJournal(Journal):
    """A journal in a folder, made when there is none. A second one of the same folder is refused."""

    def __init__(self, folder: Path | str, *, segment_bytes: int = SEGMENT_BYTES, fs: Fs | None = None) -> None:
        super().__init__()
        self._segment_bytes = whole("segment_bytes", segment_bytes, least=2 * FRAMES_AT)
        self.fs = fs or RealFs(Path(folder))
        self._sum_of = sum_of()
        self._revision = self._durable = 0
        self._pending: list[bytes] = []
        self._stopped: str | None = None
        self._closed = False
        # `_taking` for what append touches, `_disk` for one at a time who writes: never taken the other way round.
        self._taking, self._disk = threading.Lock(), threading.Lock()
        self._files: list[int] = []
        with self._or_never_again("opening"):
            self.fs.prepare()
            self._files.append(self.fs.lock(LOCK_FILE))
            self._open()

    # -- opening ------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        for name in self.fs.names():
            if name.endswith(_TORN):
                self.fs.remove(name)
        kept = read_kept(self.fs)
        if kept is None:
            self._begin()
        else:
            self._take_up(kept)

    def _begin(self) -> None:
        self._identity = os.urandom(IDENTITY_BYTES)
        self._block = fresh_block(self._identity, 1, 0, self._segment_bytes)
        self._file = self._write_segment(self._block)
        # Last: from then on the segment has to be there.
        self._write_identity()
        self._blocks = [self._block]
        self._sum = self._block.seed

    def _take_up(self, kept: Kept) -> None:
        self._identity, self.state, self.said = kept.identity, kept.state, kept.said
        # Of each segment, for where it begins.
        self._blocks = [segment.block for segment in kept.segments]
        # A name that only memory knew could vanish after somebody has relied on it.
        self.fs.sync_folder()
        for former in kept.segments[:-1]:
            if not former.block.next:
                self._seal(former.block, self.fs.open(former.name), former.end.revision + 1)
        last = kept.segments[-1]
        self._block = last.block
        self._file = self.fs.open(last.name)
        self._files.append(self._file)
        self._heal(last)
        if kept.said and any(line.startswith(IDENTITY_FILE) for line in kept.said):
            self._write_identity()
        self._revision = self._durable = last.end.revision
        self._sum = last.end.sum

    def _heal(self, last: Segment) -> None:
        """Make durable what is taken for true, and make zeros of what is not.

        After a failed sync, what is read may be only in memory: it is written again, the block where it was.
        """
        data, block = self.fs.read(last.name), last.block
        self.fs.write(self._file, data[block.mark.at : last.end.at], block.mark.at)
        rest = max(block.size, len(data)) - last.end.at
        if data[last.end.at :] != bytes(rest):
            self.fs.write(self._file, bytes(rest), last.end.at)
        self.fs.sync(self._file)
        self.fs.write(self._file, block_bytes(block, self._sum_of), block.slot)
        self.fs.sync(self._file)
        if last.end != block.mark:
            self._write_mark(last.end)

    # -- the promise --------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def durable(self) -> int:
        return self._durable

    def append(self, payload: bytes) -> int:
        checked_payload(payload)
        with self._taking:
            self._in_use()
            revision = self._revision + 1
            text, self._sum = frame(revision, payload, self._sum, self._sum_of)
            self._pending.append(text)
            self._revision = revision
        return revision

    def sync(self) -> None:
        with self._disk, self._or_never_again("writing"):
            self._in_use()
            self._sync()

    def records(self) -> Iterator[Record]:
        after = self.state.revision if self.state else 0
        for block in list(self._blocks):
            for record in records_in(block, self.fs.read(segment_name(block.first)), self._sum_of):
                if record.revision > self._durable:
                    return
                if record.revision > after:
                    yield record

    def snapshot(self, revision: int, state: bytes) -> None:
        self.check_snapshot(revision)
        with self._disk, self._or_never_again("making a snapshot"):
            self._in_use()
            self._sync()
            former = self.state.revision if self.state else 0
            kept = Snapshot(revision, state)
            self._write_whole(snapshot_name(revision), snapshot_bytes(self._identity, kept, self._sum_of))
            self.state = kept
            self._forget_before(former)

    def close(self) -> None:
        if self._closed:
            return
        try:
            if self._stopped is None:
                self.sync()
        finally:
            self._closed = True
            self._let_go()

    # -- writing ------------------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        with self._taking:
            pending, self._pending = self._pending, []
            revision, total = self._revision, self._sum
        if not pending:
            return
        data = b"".join(pending)
        if self._block.mark.at + len(data) > self._block.size:
            self._turn_over(len(data))
        started_ns, at = time.perf_counter_ns(), self._block.mark.at
        self.fs.write(self._file, data, at)
        self.fs.sync(self._file)
        self._write_mark(Mark(revision, at + len(data), total))
        self._durable = revision
        self.took_ns = time.perf_counter_ns() - started_ns

    def _write_mark(self, mark: Mark) -> None:
        self._block = replace(self._block, count=self._block.count + 1, mark=mark)
        self.fs.write(self._file, block_bytes(self._block, self._sum_of), self._block.slot)
        self.fs.sync(self._file)

    def _turn_over(self, needed: int) -> None:
        """Begin a new segment, and only when it is there to stay let the old one say that it must be."""
        old, old_file = self._block, self._file
        size = max(self._segment_bytes, FRAMES_AT + needed)
        self._block = fresh_block(self._identity, old.mark.revision + 1, old.mark.sum, size)
        self._file = self._write_segment(self._block)
        self._seal(old, old_file, self._block.first)
        self._blocks.append(self._block)

    def _seal(self, block: Block, file: int, following: int) -> None:
        if file not in self._files:
            self._files.append(file)
        sealed = replace(block, count=block.count + 1, next=following)
        self.fs.write(file, block_bytes(sealed, self._sum_of), sealed.slot)
        self.fs.sync(file)
        self._files.remove(file)
        self.fs.close(file)

    def _write_segment(self, block: Block) -> int:
        """A segment with all its room taken: a full disk shows here, and not in the middle of a record."""
        name = segment_name(block.first)
        self._write_whole(name, empty_segment(block, self._sum_of))
        file = self.fs.open(name)
        self._files.append(file)
        return file

    def _write_identity(self) -> None:
        self._write_whole(IDENTITY_FILE, identity_bytes(self._identity, self._sum_of))

    def _write_whole(self, name: str, data: bytes) -> None:
        """A file that is there as a whole and to stay, or not at all."""
        file = self.fs.open(name + _TORN, fresh=True)
        self._files.append(file)
        self.fs.write(file, data, 0)
        self.fs.sync(file)
        self._files.remove(file)
        self.fs.close(file)
        self.fs.rename(name + _TORN, name)
        self.fs.sync_folder()

    def _forget_before(self, revision: int) -> None:
        """Let go of what is needed neither by the newest snapshot nor by the one before it, of this revision."""
        names = self.fs.names()
        needed = needed_after(revision, segments_among(names))
        for first in segments_among(names):
            if first not in needed:
                self.fs.remove(segment_name(first))
        for former in snapshots_among(names):
            if former < revision:
                self.fs.remove(snapshot_name(former))
        self._blocks = [block for block in self._blocks if block.first in needed]

    # -- ending -------------------------------------------------------------------------------------------------------

    def _in_use(self) -> None:
        if self._closed:
            raise NotInUse(f"the journal in {self.fs} was closed")
        if self._stopped is not None:
            raise JournalStopped(self._stopped, self._durable, self._revision)

    @contextmanager
    def _or_never_again(self, doing: str) -> Iterator[None]:
        """Whatever goes wrong inside, also an interruption: nothing is known then of what is on the disk."""
        try:
            yield
        except (NotInUse, JournalStopped):
            raise
        except BaseException as failure:
            self._stopped = f"{doing} the journal in {self.fs} has failed ({_in_words(failure)})"
            self._let_go()
            if isinstance(failure, OSError):
                raise JournalStopped(self._stopped, self._durable, self._revision) from failure
            raise

    def _let_go(self) -> None:
        """Close every file, the lock last."""
        for file in reversed(self._files):
            with suppress(OSError):
                self.fs.close(file)
        self._files.clear()


def _in_words(failure: BaseException) -> str:
    return getattr(failure, "strerror", None) or repr(failure)
