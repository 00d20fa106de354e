"""Records that stay: append, make durable, and find again after any end.

    journal.append(record) -> revision          never waits, and promises nothing yet
    await journal.committed(revision)           now it does: many appends share one sync
    journal.snapshot(revision, state)           what all records came to, so that the old ones may go

Records are bytes of which nothing is understood here. A revision is one more than the one before, through every
restart and snapshot, and never goes back. What is answered before it is durable (a release may be) is simply not
waited for: it goes out with the next sync, or with `close`.

What was kept is found by `state`, and `records()` after it.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator

import anyio
import anyio.lowlevel
import anyio.to_thread

from geartrain.errors import BadType, BadValue, NotInUse
from geartrain.rules.journal_frames import RECORD_BYTES_MAX, Record, Snapshot

# So few records are made durable in the loop's own thread, while the disk is so quick: to go to another thread and back
# takes longer. After one sync that was slow others may not wait for the next.
FEW = 8
QUICK_NS = 1_000_000


class Journal(ABC):
    """The promise. `append` and `committed` belong to one loop; `sync` may be called in a thread meanwhile."""

    # What was kept when the journal was opened, or when the last snapshot was made.
    state: Snapshot | None = None
    # What was met on opening that is worth telling, in words.
    said: tuple[str, ...] = ()
    # How long the last sync took.
    took_ns = 0

    def __init__(self) -> None:
        self._syncing: anyio.Event | None = None

    @property
    @abstractmethod
    def revision(self) -> int:
        """Of the last record appended; 0 before the first."""

    @property
    @abstractmethod
    def durable(self) -> int:
        """Of the last record that no end of this process or machine can take away."""

    @abstractmethod
    def append(self, payload: bytes) -> int:
        """Take a record of at most 64 KiB and say its revision. It is durable when `committed` or `sync` says so."""

    @abstractmethod
    def sync(self) -> None:
        """Make all that was appended durable: waits for the disk. Raises `JournalStopped` if that cannot be done."""

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """The durable records after `state`, the oldest first."""

    @abstractmethod
    def snapshot(self, revision: int, state: bytes) -> None:
        """Keep what all records up to this revision have come to, and let those records go. Waits for the disk."""

    @abstractmethod
    def close(self) -> None:
        """Make durable what is not yet, and let go. Once more does nothing."""

    async def committed(self, revision: int) -> None:
        """Wait until this record is durable, and all before it. Whoever waits first syncs for all."""
        while self.durable < revision:
            if revision > self.revision:
                raise BadValue(f"no record has revision {revision} yet: the last is {self.revision}")
            if self._syncing is not None:
                await self._syncing.wait()
            else:
                await self._sync_for_all()

    def sync_if_quick(self) -> bool:
        """Make all durable here and now, if that takes no longer than to let a thread do it; else False."""
        if self._syncing is not None or self.revision - self.durable > FEW or self.took_ns >= QUICK_NS:
            return False
        self.sync()
        return True

    def check_snapshot(self, revision: int) -> None:
        """Whether a snapshot of this revision can be the next."""
        least = self.state.revision if self.state else 0
        if not least <= revision <= self.revision:
            raise BadValue(f"a snapshot must be of a record between {least} and {self.revision}, got {revision}")

    async def _sync_for_all(self) -> None:
        self._syncing = anyio.Event()
        try:
            # Whoever is ready to append does so first: one sync for all.
            await anyio.lowlevel.checkpoint()
            if self.revision - self.durable <= FEW and self.took_ns < QUICK_NS:
                self.sync()
            else:
                await anyio.to_thread.run_sync(self.sync)
        finally:
            self._syncing.set()
            self._syncing = None


def checked_payload(payload: object) -> bytes:
    """The payload, if it can be a record."""
    if not isinstance(payload, bytes):
        raise BadType(f"a record is bytes, got {type(payload).__name__}")
    if len(payload) > RECORD_BYTES_MAX:
        raise BadValue(f"a record has at most {RECORD_BYTES_MAX} bytes, got {len(payload)}")
    return payload


class MemoryJournal(Journal):
    """Outlives nothing but its users: `reopened()` is what a new process would find, without what was not durable."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[Record] = []
        self._revision = self._durable = 0
        self._closed = False
        self._lock = threading.Lock()

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def durable(self) -> int:
        return self._durable

    def append(self, payload: bytes) -> int:
        self._in_use()
        record = Record(self._revision + 1, checked_payload(payload))
        with self._lock:
            self._records.append(record)
            self._revision = record.revision
        return record.revision

    def sync(self) -> None:
        self._in_use()
        self._durable = self._revision

    def records(self) -> Iterator[Record]:
        with self._lock:
            return iter([record for record in self._records if record.revision <= self._durable])

    def snapshot(self, revision: int, state: bytes) -> None:
        self._in_use()
        self.check_snapshot(revision)
        self.sync()
        with self._lock:
            self.state = Snapshot(revision, state)
            self._records = [record for record in self._records if record.revision > revision]

    def close(self) -> None:
        if not self._closed:
            self.sync()
            self._closed = True

    def reopened(self) -> "MemoryJournal":
        """A journal of the same past, as after a crash of whoever had this one."""
        found = MemoryJournal()
        found.state = self.state
        found._records = list(self.records())
        found._revision = found._durable = self._durable
        return found

    def _in_use(self) -> None:
        if self._closed:
            raise NotInUse("this journal was closed")
