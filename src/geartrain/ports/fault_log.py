"""What became of the faults of a run, in a file beside its slots: who looks at the run again goes on from there.

<state of the run>/faults.jsonl          Change     one line each; before it grows too long it becomes faults.jsonl.1
"""

from contextlib import suppress
from pathlib import Path

import msgspec

from geartrain.ports.log_capture import LogFile
from geartrain.rules.faults import Change

FAULTS_FILE = "faults.jsonl"
_MOST_BYTES = 4 * 1024 * 1024


class FaultLog:
    """The one of a run."""

    def __init__(self, state: Path, most_bytes: int = _MOST_BYTES) -> None:
        text = _text(state / FAULTS_FILE)
        self._file = LogFile(state / FAULTS_FILE, most_bytes)
        if text and not text.endswith(b"\n"):
            # Who wrote was killed in the middle of a line, and the next would be taken for its end.
            self._file.write([""])

    def write(self, change: Change) -> None:
        """Never raises; what cannot be written is missing later."""
        self._file.write([msgspec.json.encode(change).decode()])

    def close(self) -> None:
        self._file.close()


def faults_in(state: Path) -> tuple[Change, ...]:
    """What is written down, the oldest first. A line that its writer did not finish is passed over."""
    found = []
    for name in (f"{FAULTS_FILE}.1", FAULTS_FILE):
        for line in _text(state / name).split(b"\n"):
            with suppress(msgspec.MsgspecError):
                found.append(_decoder.decode(line))
    return tuple(found)


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


_decoder = msgspec.json.Decoder(Change)
