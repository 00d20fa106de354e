"""Where leases are kept, and what it takes to keep them there.

    what is asked    acquire, renew, release, adopt ...      rules/lease.py decides, the same for all of them
                            |
    Backend          open() -> Journal                       one writer, order, durability, revisions that never go back
                     life(ledger) -> Life                    a clock on which all writers in turn agree
                            |
                     files | memory | etcd

Nothing of leases is understood here. So a backend cannot grant falsely by a rule of its own, and what is proved of one
is proved of all: only a journal and a clock can be wrong. Tokens are revisions of the journal.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from geartrain.ports.clock import mono_ns
from geartrain.ports.etcd import Address, Etcd, address_of, get
from geartrain.ports.etcd_journal import OPEN_WITHIN_S, SYNC_WITHIN_S, EtcdJournal
from geartrain.ports.file_journal import FileJournal
from geartrain.ports.fs import RealFs
from geartrain.ports.journal import Journal, MemoryJournal
from geartrain.ports.process_table import boot_id
from geartrain.rules.journal_frames import segments_among

# A lease is kept so much beyond its time: whoever counts from the end of a command counts from a little later.
GRACE_NS = 250_000_000
_S = 1_000_000_000
# etcd tells what is left in whole seconds: so much may it seem to be later than it is.
_ROUNDED_NS = _S
# About thirty years; it is turned when an etcd has begun to count it anew.
_HOURGLASS_S = 1_000_000_000
_HOURGLASS = "etcd hourglass "


class Life(Struct, frozen=True):
    """By which clock it is counted. Writers with the same `boot` agree on what it says."""

    boot: str
    now_ns: Callable[[], int]


class Backend(Protocol):
    """A place for leases, for whoever becomes their one writer for a moment."""

    # So much later than its time a lease ends: what the clock and a slow answer may be off.
    grace_ns: int

    def open(self) -> Journal:
        """All that was kept, for this writer alone; `JournalInUse` while there is another one."""
        ...

    def life(self, journal: Journal, boot: str, last_ns: int) -> Life:
        """The clock for this writer, that was `boot` for the last one, and said `last_ns` then."""
        ...

    def is_begun(self) -> bool:
        """Whether leases were ever kept there."""
        ...


class InFiles:
    """A folder, for processes of one machine."""

    grace_ns = GRACE_NS

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> Journal:
        return FileJournal(self.folder)

    def life(self, journal: Journal, boot: str, last_ns: int) -> Life:
        return Life(boot_id(), mono_ns)

    def is_begun(self) -> bool:
        return self.folder.is_dir() and bool(segments_among(RealFs(self.folder).names()))


class InMemory:
    """What a process remembers, for itself."""

    grace_ns = GRACE_NS

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self._begun = False

    def open(self) -> Journal:
        self._begun = True
        self.journal = self.journal.reopened()
        return self.journal

    def life(self, journal: Journal, boot: str, last_ns: int) -> Life:
        return Life(boot_id(), mono_ns)

    def is_begun(self) -> bool:
        return self._begun


class InEtcd:
    """Below a prefix of an etcd, for processes of many machines."""

    grace_ns = GRACE_NS + _ROUNDED_NS + round(SYNC_WITHIN_S * _S)

    def __init__(self, address: Address) -> None:
        self.address = address

    def open(self) -> EtcdJournal:
        return EtcdJournal(self.address)

    def life(self, journal: Journal, boot: str, last_ns: int) -> Life:
        """Machines agree on no clock, so etcd is asked: how much is left of a lease that nothing hangs on.

        With a new leader it is full again. Then the clock has gone back, or stands where it would have been anyway: it
        is never ahead, which alone would end a lease early. One that has gone back is let go of for a new one.
        """
        assert isinstance(journal, EtcdJournal)
        said_ns = _hourglass_ns(journal, boot.removeprefix(_HOURGLASS)) if boot.startswith(_HOURGLASS) else None
        # The last writer has counted on from what was rounded up for it: that alone is no turn.
        if said_ns is None or said_ns < last_ns - 2 * _ROUNDED_NS:
            granted = journal.ask("lease/grant", {"TTL": str(_HOURGLASS_S)})
            boot, said_ns, last_ns = f"{_HOURGLASS}{granted['ID']}", 0, 0
        # From here on this machine's clock counts, which runs no faster.
        since_ns = mono_ns() - max(said_ns, last_ns)
        return Life(boot, lambda: mono_ns() - since_ns)

    def looked_at(self) -> EtcdJournal:
        """All that is kept, whoever writes it."""
        return EtcdJournal(self.address, only_look=True)

    def now_ns(self, journal: EtcdJournal, boot: str, last_ns: int) -> int:
        """By the clock of the last writer, or what that has said last, if nobody here can tell what it says now."""
        if boot == boot_id():
            return mono_ns()
        said_ns = _hourglass_ns(journal, boot.removeprefix(_HOURGLASS)) if boot.startswith(_HOURGLASS) else None
        return max(last_ns, said_ns or 0)

    def is_begun(self) -> bool:
        etcd = Etcd(self.address)
        try:
            question = get(f"{self.address.prefix}/head")["request_range"]
            return bool(etcd.ask("kv/range", question, OPEN_WITHIN_S).get("kvs"))
        finally:
            etcd.close()


def _hourglass_ns(journal: EtcdJournal, lease: str) -> int | None:
    """What has run through, rounded up; None if it is gone."""
    told = journal.ask("lease/timetolive", {"ID": lease})
    left_s = int(told.get("TTL", 0))
    return None if left_s <= 0 else (int(told["grantedTTL"]) - left_s) * _S


def backend_of(place: Path | str) -> Backend:
    """The one that keeps leases there: `etcd://HOST:PORT/PREFIX`, or a folder."""
    address = address_of(place)
    return InFiles(Path(place)) if address is None else InEtcd(address)
