"""One live line below everything else on a terminal: how the run is.

    vision  4 running, 1 restarting  12 s  Ctrl-C stops

It is redrawn in place, and erased before anything else is printed. A pipe never sees it, and neither does a terminal
that cannot erase. Whoever prints much redraws it seldom: it waits a moment after each time.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

import anyio

from geartrain.engine.roll import Standing, State
from geartrain.engine.signal import Bell

_ORDER: tuple[State, ...] = ("running", "hung", "starting", "restarting", "waiting", "ended")
_CTRL_C = ("Ctrl-C stops", "stopping, Ctrl-C does not wait")

_USUAL_COLUMNS = 80
_ERASE = "\r\x1b[K"
_CALM_S = 0.05
_SECOND_S = 1.0


def in_short(pipeline: str, standings: Sequence[Standing], elapsed_s: float, *, stopping: bool) -> str:
    """The line."""
    counts = Counter(standing.state for standing in standings)
    states = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
    return "  ".join((pipeline, states, _whole(int(elapsed_s)), _CTRL_C[stopping]))


def _whole(seconds: int) -> str:
    """A time in its two largest units."""
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds // 60 % 60} min"


class StatusLine:
    """The last line of a terminal. Before its task runs there is none, and nothing to be erased."""

    def __init__(
        self,
        stream: TextIO,
        environment: Mapping[str, str] = os.environ,
        columns: Callable[[int], int] = lambda fd: os.get_terminal_size(fd).columns,
    ) -> None:
        self.is_wanted = stream.isatty() and environment.get("TERM") != "dumb"
        self._stream = stream
        self._columns = columns
        self._drawn = False
        self._is_old = False
        self._news = Bell()

    def change(self) -> None:
        """What it says has changed, or it is not there any more."""
        self._is_old = True
        self._news.ring()

    def erase(self) -> None:
        """Make room for something else."""
        if self._drawn:
            self._drawn = False
            self._write(_ERASE)
            self.change()

    def end(self) -> None:
        """It does not come again. Who may be killed at any moment leaves nothing behind."""
        self.is_wanted = False
        self.erase()

    async def keep(self, said: Callable[[], str]) -> None:
        """Show what is said, as long as it is wanted."""
        try:
            while self.is_wanted:
                self._draw(said())
                await anyio.sleep(_CALM_S)
                if not self._is_old:
                    with anyio.move_on_after(_SECOND_S - _CALM_S):
                        await self._news.wait()
        finally:
            self.erase()

    def _draw(self, text: str) -> None:
        # One column stays free: a terminal may begin a new line when the last one is full.
        self._write(_ERASE + text[: self._width() - 1])
        self._drawn = True
        self._is_old = False

    def _width(self) -> int:
        """Looked at each time, for a window may change. A terminal that does not know says 0."""
        try:
            return self._columns(self._stream.fileno()) or _USUAL_COLUMNS
        except OSError:
            return _USUAL_COLUMNS

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            # The terminal has gone, and nobody sees what stands on it.
            return
