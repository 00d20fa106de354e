"""How words look: tables in columns, colours where somebody sees them, and streams that may have been closed.

A pipe gets plain text. NO_COLOR and TERM=dumb take colours away, FORCE_COLOR gives them to everybody.
"""

import linecache
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO

from geartrain.rules.stacks import ThreadStack

_PALETTE = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_RED = 31


def has_colours(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environment.get("TERM") != "dumb"


def in_columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text, ending with a newline. A column in which no row has anything is left out."""
    columns = [(title, *cells) for title, *cells in zip(head, *rows, strict=True) if any(cells) or not rows]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in zip(*columns, strict=True)
    ]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def in_calls(threads: Sequence[ThreadStack]) -> str:
    """Stacks as text, each call with its line of source where that can be read."""
    return "".join(line for thread in threads for line in _of_thread(thread))


def _of_thread(thread: ThreadStack) -> Iterator[str]:
    yield f"\nthread {thread.name or thread.thread}, most recent call first:\n"
    for call in thread.calls:
        yield f'  File "{call.file}", line {call.line}, in {call.function}\n'
        if source := linecache.getline(call.file, call.line).strip():
            yield f"    {source}\n"


def _nothing() -> None: ...


class Printer:
    """Lines with a name before them, in a colour of its own. When nobody reads any more it is quiet.

    On a terminal `make_room` is called before each.
    """

    def __init__(self, stream: TextIO, names: Sequence[str], make_room: Callable[[], None] = _nothing) -> None:
        self._stream = stream
        self._make_room = make_room if stream.isatty() else _nothing
        self._width = max(map(len, names), default=0)
        self._colours = {name: _PALETTE[count % len(_PALETTE)] for count, name in enumerate(names)}
        self._coloured = has_colours(stream)
        self._closed = False

    def line(self, name: str, text: str, *, bad: bool = False) -> None:
        prefix = self._in_colour(f"{name.ljust(self._width)} |", self._colours.get(name))
        self.text(f"{prefix} {self._in_colour(text, _RED if bad else None)}\n")

    def text(self, text: str) -> None:
        if self._closed:
            return
        self._make_room()
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._closed = True

    def _in_colour(self, text: str, colour: int | None) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured and colour is not None else text
