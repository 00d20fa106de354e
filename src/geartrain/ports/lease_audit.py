"""The log beside a journal of leases, for those who ask afterwards. It is never waited for, and may lose lines.

    log.write(wall_ns, audit)       never raises and never syncs: what cannot be written is counted in `lost`
    read_audit(folder)              what is there, the oldest first

Two files take turns, so that it never needs more room than twice `BYTES_MAX`.
"""

import os
from contextlib import suppress
from pathlib import Path

from geartrain.rules.lease_audit import Audited, audited_in, line_of
from geartrain.rules.lease_words import Audit

AUDIT_FILE = "audit.jsonl"
FORMER_FILE = f"{AUDIT_FILE}.1"
BYTES_MAX = 4 << 20


class AuditLog:
    """Appends to the log in this folder, which whoever holds the journal there has made."""

    def __init__(self, folder: Path, *, bytes_max: int = BYTES_MAX) -> None:
        self.lost = 0
        self._folder = folder
        self._bytes_max = bytes_max
        self._file: int | None = None
        self._size = 0
        with suppress(OSError):
            self._open()

    def write(self, wall_ns: int, audit: Audit) -> None:
        line = line_of(Audited(wall_ns, audit))
        try:
            if self._file is None:
                self._open()
            if self._size and self._size + len(line) > self._bytes_max:
                self._turn_over()
            self._append(line)
        except OSError:
            self.lost += 1

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> None:
        path = self._folder / AUDIT_FILE
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size
        if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":
            # Somebody was killed within a line, which must not swallow the next one.
            self._append(b"\n")

    def _turn_over(self) -> None:
        self.close()
        os.replace(self._folder / AUDIT_FILE, self._folder / FORMER_FILE)
        self._open()

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        written = os.write(self._file, line)
        self._size += written
        if written < len(line):
            # The rest of it would be a line of its own: better none.
            self.close()
            raise OSError("only a part of a line was written")


def read_audit(folder: Path) -> tuple[Audited, ...]:
    texts = []
    for name in (FORMER_FILE, AUDIT_FILE):
        with suppress(OSError):
            texts.append((folder / name).read_bytes())
    return audited_in(b"\n".join(texts))
