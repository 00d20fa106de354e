"""Text from outside, cut into lines: whatever comes, no line is long and no memory is needed for more than one.

A line that is too long is cut, with "…" at the cut. What is no UTF-8 is shown as "�"; a cut never makes it so.
"""

from collections import deque

CUT = "…"


class Lines:
    """Takes bytes as they come and answers with the lines that are complete."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._open = b""

    def feed(self, chunk: bytes) -> list[str]:
        *complete, rest = (self._open + chunk).split(b"\n")
        lines = [piece for line in complete for piece in self._pieces(line)]
        *cut, self._open = self._cut(rest)
        return lines + [_text(piece) + CUT for piece in cut]

    def end(self) -> list[str]:
        """The last line, if it is not complete."""
        rest, self._open = self._open, b""
        return self._pieces(rest) if rest else []

    def _pieces(self, line: bytes) -> list[str]:
        *cut, last = self._cut(line.removesuffix(b"\r"))
        return [_text(piece) + CUT for piece in cut] + [_text(last)]

    def _cut(self, line: bytes) -> list[bytes]:
        pieces = []
        while len(line) > self._most_bytes:
            at = _end_of_character(line, self._most_bytes)
            pieces.append(line[:at])
            line = line[at:]
        return [*pieces, line]


class Tail:
    """The last lines, as many as fit into so many bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lines: deque[str] = deque()
        self._bytes = 0

    def add(self, line: str) -> None:
        self._lines.append(line)
        self._bytes += _size_bytes(line)
        while self._bytes > self._most_bytes:
            self._bytes -= _size_bytes(self._lines.popleft())

    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)


def _size_bytes(line: str) -> int:
    return len(line.encode()) + 1


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def _end_of_character(line: bytes, most: int) -> int:
    """The last place not after `most` where no character is cut in two; bytes that are no text are cut anywhere."""
    for at in range(most, max(most - 4, 0), -1):
        if line[at] & 0xC0 != 0x80:
            return at
    return most
