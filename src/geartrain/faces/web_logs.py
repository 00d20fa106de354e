"""The last lines of a process, from its log files, however long those are."""

import os
from contextlib import suppress
from pathlib import Path

from geartrain.faces.web_live import LogLine, Logs

# Of each stream no more than this is read: some thousands of lines.
_MOST_BYTES = 512 * 1024
_STREAMS = ("out", "err")


def last_lines(state: Path, process: str, tail: int) -> Logs:
    """At most so many lines of each stream, the oldest first. Who has printed nothing has none."""
    lines = [
        LogLine(stream=stream, text=text)
        for stream in _STREAMS
        for text in _tail(state / f"{process}.{stream}.log", tail)
    ]
    return Logs(process=process, lines=tuple(lines))


def _tail(path: Path, tail: int) -> list[str]:
    text = _end_of(path, _MOST_BYTES)
    if text.count(b"\n") < tail:
        # The present file has only begun: the former one goes before it.
        text = _end_of(path.with_name(f"{path.name}.1"), _MOST_BYTES) + text
    return [line.decode(errors="replace") for line in text.splitlines()[-tail:]]


def _end_of(path: Path, most_bytes: int) -> bytes:
    with suppress(OSError), open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - most_bytes))
        text = file.read(most_bytes)
        # A line of which only the end was read is none.
        return text if size <= most_bytes else text.partition(b"\n")[2]
    return b""
