"""What a process writes to its descriptors 1 and 2: read line by line, kept, and never waited for.

    process -> pipe -> LogCapture.run -> hear(line)            for whoever shows it
                                      -> tail()                the last 64 KiB, printed when the process dies
                                      -> LogFile               bounded; a full disk drops and counts

A process whose output nobody reads stands still, so nothing here may stop the reading.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import anyio

from geartrain.errors import PlaceRefused
from geartrain.ports.linux import need_linux
from geartrain.rules.lines import Lines, Tail

TAIL_BYTES = 64 * 1024
LINE_BYTES = 8 * 1024
FILE_BYTES = 8 * 1024 * 1024

_READ_BYTES = 64 * 1024
# What a pipe can hold is read at the end; somebody who still floods it is not waited for.
_LAST_READS = 16


class LogFile:
    """A file that does not grow beyond a bound by more than one writing: it becomes `<name>.1`, and a new one begins.

    What cannot be written is dropped and counted, and the gap is named in a line as soon as there is room again.
    """

    def __init__(self, path: Path, most_bytes: int = FILE_BYTES) -> None:
        self.lost_bytes = 0
        self._path = path
        self._former = path.with_name(f"{path.name}.1")
        self._most_bytes = most_bytes
        self._unsaid_bytes = 0
        self._at_line_start = True
        try:
            self._file = self._open()
        except OSError as error:
            raise PlaceRefused(f"the log file {path} cannot be opened: {error.strerror}") from error
        self._size_bytes = os.fstat(self._file).st_size

    def write(self, lines: Sequence[str]) -> None:
        """Write what can be written. Never raises, and waits for nothing but the disk."""
        data = "".join(f"{line}\n" for line in lines).encode()
        lost = self._put(data) if self._has_room(len(data)) and self._gap_is_named() else len(data)
        self.lost_bytes += lost
        self._unsaid_bytes += lost

    def close(self) -> None:
        self._gap_is_named()
        os.close(self._file)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)

    def _has_room(self, size_bytes: int) -> bool:
        if not self._size_bytes or self._size_bytes + size_bytes <= self._most_bytes:
            return True
        try:
            self._begin_again()
        except OSError:
            return False
        return True

    def _begin_again(self) -> None:
        # It is away already where the new one could not be opened last time.
        with suppress(FileNotFoundError):
            self._path.replace(self._former)
        file = self._open()
        os.close(self._file)
        self._file = file
        self._size_bytes = 0
        self._at_line_start = True
        self._put(f"[what came before is in {self._former.name}, as far as it is kept]\n".encode())

    def _gap_is_named(self) -> bool:
        if not self._unsaid_bytes:
            return True
        words = f"[{self._unsaid_bytes} bytes are missing here: they could not be written]\n"
        if self._put((words if self._at_line_start else f"\n{words}").encode()):
            return False
        self._unsaid_bytes = 0
        return True

    def _put(self, data: bytes) -> int:
        """Write as much as the disk takes; the answer is how many bytes it did not."""
        while data:
            try:
                written = os.write(self._file, data)
            except OSError:
                break
            self._size_bytes += written
            self._at_line_start = data[written - 1 : written] == b"\n"
            data = data[written:]
        return len(data)


def _to_nobody(_line: str) -> None: ...


class LogCapture:
    """One descriptor of one process. `fd` is for the process; `handed_over` once it has it."""

    def __init__(self, file: LogFile, hear: Callable[[str], None] = _to_nobody) -> None:
        need_linux()
        self._file = file
        self._hear = hear
        self._lines = Lines(LINE_BYTES)
        self._tail = Tail(TAIL_BYTES)
        self._pipe, self.fd = os.pipe()
        os.set_blocking(self._pipe, False)
        self._handed_over = False
        self._closed = False

    @property
    def lost_bytes(self) -> int:
        """What did not get into the file."""
        return self._file.lost_bytes

    def tail(self) -> tuple[str, ...]:
        """The last lines."""
        return self._tail.lines()

    def handed_over(self) -> None:
        """The process has its own copy of `fd`: from here on the pipe ends when the process and its children do."""
        if not self._handed_over:
            self._handed_over = True
            os.close(self.fd)

    async def run(self) -> None:
        """Read until nobody writes any more. Cancelled, it still takes what has been written until then."""
        try:
            await anyio.wait_readable(self._pipe)
            while self._read():
                # One reading for each round of the loop: a flood holds nobody up.
                await anyio.wait_readable(self._pipe)
        finally:
            self.close()

    def close(self) -> None:
        """Take what is there, and give everything back."""
        if self._closed:
            return
        self._closed = True
        self.handed_over()
        with suppress(BlockingIOError):
            for _ in range(_LAST_READS):
                self._take(os.read(self._pipe, _READ_BYTES))
        self._keep(self._lines.end())
        self._file.close()
        os.close(self._pipe)

    def _read(self) -> bool:
        """False at the end."""
        try:
            chunk = os.read(self._pipe, _READ_BYTES)
        except BlockingIOError:
            return True
        self._take(chunk)
        return chunk != b""

    def _take(self, chunk: bytes) -> None:
        self._keep(self._lines.feed(chunk))

    def _keep(self, lines: list[str]) -> None:
        if not lines:
            return
        self._file.write(lines)
        for line in lines:
            self._tail.add(line)
            self._hear(line)
