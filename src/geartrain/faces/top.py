"""`geartrain top`: how every daemon and channel of a run is, again and again, read from the files of the run alone.

    Watch.look()  ->  Shown  ->  drawn(shown, size)  ->  Screen.show(lines)

Nobody is asked, so a run that hangs is shown as any other, and of one that is dead how it was left. With
`geartrain[cli]` the tables are drawn by rich, which is imported nowhere else; without it they are plain.
"""

import io
import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn, TextIO

from msgspec import Struct

from geartrain.faces.looks import has_colours, in_columns
from geartrain.ports.run_memory import RunMemory
from geartrain.rules.faults import Fault
from geartrain.rules.health import Condition, Health
from geartrain.rules.lookout import Lookout
from geartrain.rules.top import Buckets, ChannelRow, DaemonRow, Rows, between, rows

Tone = Literal["plain", "good", "quiet", "warn", "bad"]

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
# How soon a key, or another size of the window, is met.
_GLANCE_S = 0.1
# Ctrl-C and Ctrl-D come as keys where the terminal hands them over as such.
_LEAVING = "qQ\x03\x04"
# A window of so many columns has room for everything.
_WIDE = 140
_BAR = 8
_GAP = "  "
_LEAST_WORDS = 8
EVERY_LEAST_S = 0.05
# A wait is told with its length when it is no matter of course.
_LONG_S = 1.0
# The line with the run, the one that says how to leave, and an empty one beside each.
_AROUND = 4
# The titles of a table.
_TITLES = 1


class Cell(Struct, frozen=True):
    text: str
    tone: Tone = "plain"


class Column(Struct, frozen=True):
    """What is said of a row in a column. One that is `wide` needs a wide window; numbers stand to the right.

    Where what is said grows and shrinks all the time, `least` columns keep the others where they are.
    """

    title: str
    cell: Callable[..., Cell]
    is_number: bool = True
    is_wide: bool = False
    least: int = 0


class Table(Struct, frozen=True):
    """The columns that are shown, and the rows with a cell for each."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Shown(Struct, frozen=True, kw_only=True):
    """What there is to be shown after a look."""

    run: str
    is_alive: bool
    age_s: float
    rows: Rows
    unreadable: tuple[str, ...] = ()

    @property
    def health(self) -> Health:
        return max((row.health for row in self.rows.daemons), default=Health.OK)


Draw = Callable[[Table, int], list[str]]


class Watch:
    """Looks at a run, and knows what it saw the time before."""

    def __init__(self, state: Path) -> None:
        self._memory = RunMemory(state)
        self._lookout = Lookout(self._memory.about.spec)
        self._before: Buckets = {}

    def look(self) -> Shown:
        reading = self._memory.look()
        moment, _ = self._lookout.look(reading)
        now = self._memory.buckets()
        # What is dead does not change any more: of it everything is told.
        before, self._before = (self._before if reading.alive else {}), now
        return Shown(
            run=reading.about.run_id,
            is_alive=reading.alive,
            age_s=max(0, reading.wall_ns - reading.about.began_wall_ns) / 1e9,
            rows=rows(moment, between(before, now)),
            unreadable=reading.unreadable,
        )

    def once(self, every_s: float) -> Shown:
        """A look with rates. Of a run that is dead nothing changes any more, and one is enough."""
        shown = self.look()
        if not shown.is_alive:
            return shown
        time.sleep(every_s)
        return self.look()

    def close(self) -> None:
        self._memory.close()


# -- what stands where ------------------------------------------------------------------------------------------------


def drawn(shown: Shown, columns: int, lines: int | None, draw: Draw) -> list[str]:
    """As much as fits into so many lines. Where not everybody does, who is not well comes first."""
    is_wide, rows = columns >= _WIDE, shown.rows
    shares = _shares(lines, len(rows.daemons), len(rows.channels), len(rows.faults), len(shown.unreadable))
    found = draw(_in_line(_head(shown)), columns)
    for part, most in zip(_PARTS, shares, strict=True):
        all_of_them: Sequence[Row] = part.rows(rows)
        if all_of_them:
            chosen = _first(all_of_them, most, part.key)
            found += ["", *draw(_table(part.columns, chosen, is_wide), columns)]
            if len(chosen) < len(all_of_them):
                found.append(f"and {len(all_of_them) - len(chosen)} {part.name} that a larger window shows")
    return [*found, *(["", *shown.unreadable] if shown.unreadable else [])]


def _shares(lines: int | None, daemons: int, channels: int, faults: int, others: int) -> tuple[int, int, int]:
    """How many of each there is room for. Channels have what daemons leave, and a third of it at least.

    In the smallest of windows it is one of each, and how many more there are.
    """
    if lines is None:
        return daemons, channels, faults
    for_faults = min(faults, max(2, lines // 6))
    around = [_AROUND, _TITLES if daemons else 0, *(_TITLES + 1 for count in (channels, faults) if count)]
    room = lines - sum(around) - for_faults - (others + 1 if others else 0)
    for_channels = min(channels, max(room - daemons, room // 3, 2))
    return min(daemons, max(room - for_channels, 2)), for_channels, for_faults


Row = DaemonRow | ChannelRow | Fault


def _first(all_of_them: Sequence[Row], most: int, key: Callable[..., int]) -> list[Row]:
    """Of more than there is room for, one makes room for the line that says so. They stay in their order."""
    if len(all_of_them) <= most:
        return list(all_of_them)
    chosen = sorted(range(len(all_of_them)), key=lambda at: key(all_of_them[at]))[: most - 1]
    return [all_of_them[at] for at in sorted(chosen)]


def _table(columns: Sequence[Column], all_rows: Sequence[Row], is_wide: bool) -> Table:
    """A column in which nobody has anything is left out."""
    shown = [column for column in columns if is_wide or not column.is_wide]
    shown = [column for column in shown if any(column.cell(row).text for row in all_rows)]
    return Table(tuple(shown), tuple(tuple(column.cell(row) for column in shown) for row in all_rows))


def _in_line(cells: Sequence[Cell]) -> Table:
    columns = tuple(Column("", lambda _: Cell(""), is_number=False) for _ in cells)
    return Table(columns, (tuple(cells),))


def _head(shown: Shown) -> tuple[Cell, ...]:
    counts = Counter(row.condition for row in shown.rows.daemons)
    said = ", ".join(f"{counts[condition]} {condition}" for condition in Condition if counts[condition])
    if not shown.is_alive:
        return Cell(shown.run), Cell("is over, this is how it was left", "warn"), Cell(said, "quiet")
    return Cell(shown.run), Cell(f"runs for {age(shown.age_s)}", "quiet"), Cell(said, _tone(shown.health))


def _tone(well: Health) -> Tone:
    match well:
        case Health.OK:
            return "good"
        case Health.WARNING:
            return "warn"
        case _:
            return "bad"


# -- columns ----------------------------------------------------------------------------------------------------------


def _state(row: DaemonRow) -> Cell:
    """How it is, and for how long where that is what matters."""
    match row.condition:
        case Condition.HUNG:
            since_s = row.in_body_s
        case Condition.STALE:
            since_s = row.silent_s
        case _:
            since_s = None
    tone: Tone = "quiet" if row.condition in (Condition.STOPPED, Condition.NEVER) else _tone(row.health)
    return Cell(f"{row.condition} {age(since_s)}" if since_s is not None else str(row.condition), tone)


def _waits(row: ChannelRow) -> Cell:
    if row.waits is None:
        return Cell("")
    is_long = row.waits_s is not None and row.waits_s >= _LONG_S
    text = f"{row.waits} {age(row.waits_s)}" if is_long else row.waits
    return Cell(text, "warn" if row.is_blocked else "quiet")


def _fill(row: ChannelRow) -> Cell:
    full = round(_BAR * row.fill / row.maxsize) if row.maxsize else 0
    # Nothing looks empty that is not.
    full = max(full, 1) if row.fill else 0
    return Cell(f"{'█' * full}{'░' * (_BAR - full)} {row.fill}/{row.maxsize}", "warn" if row.is_blocked else "plain")


def _count(name: str, tone: Tone) -> Callable[[Row], Cell]:
    """A number that should be zero."""

    def cell(row: Row) -> Cell:
        count = getattr(row, name)
        return Cell(f"{count:,}", tone if count else "quiet")

    return cell


def _time(name: str) -> Callable[[Row], Cell]:
    return lambda row: Cell(span(getattr(row, name)))


def _rate(name: str) -> Callable[[Row], Cell]:
    return lambda row: Cell(rate(getattr(row, name)))


DAEMON_COLUMNS = (
    Column("DAEMON", lambda row: Cell(f"{row.daemon} (system)" if row.is_system else row.daemon), is_number=False),
    Column("PROCESS", lambda row: Cell(row.process), is_number=False, is_wide=True),
    Column("PID", lambda row: Cell(str(row.pid or "")), is_wide=True),
    Column("STATE", _state, is_number=False, least=12),
    Column("PHASE", lambda row: Cell("" if row.phase == "none" else row.phase, "quiet"), is_number=False, is_wide=True),
    Column("CYCLES/s", _rate("rate_hz"), least=8),
    Column("P50", _time("p50_s"), least=7),
    Column("P99", _time("p99_s"), least=7),
    Column("LATE", _time("lateness_s"), least=7),
    Column("MOST LATE", _time("max_lateness_s"), is_wide=True, least=7),
    Column("IN BODY", _time("in_body_s"), is_wide=True, least=7),
    Column("SKIPPED", _count("skipped", "warn"), is_wide=True),
    Column("ERRORS", _count("errors", "bad")),
    Column("RESTARTS", _count("restarts", "warn")),
    Column("DEATHS", _count("deaths", "bad"), is_wide=True),
)

CHANNEL_COLUMNS = (
    Column("CHANNEL", lambda row: Cell(row.channel), is_number=False),
    Column("FROM", lambda row: Cell(row.writer), is_number=False, is_wide=True),
    Column("TO", lambda row: Cell(row.reader), is_number=False, is_wide=True),
    Column("POLICY", lambda row: Cell(row.policy, "quiet"), is_number=False, is_wide=True),
    Column("IN/s", _rate("in_hz"), least=7),
    Column("OUT/s", _rate("out_hz"), least=7),
    Column("FILL", _fill, is_number=False),
    Column("WAITS", _waits, is_number=False, least=16),
    Column("DROPPED", _count("dropped", "warn")),
    Column("LOST", _count("lost", "warn"), is_wide=True),
)

FAULT_COLUMNS = (
    Column("FAULT", lambda fault: Cell(fault.key.entity), is_number=False),
    Column("CODE", lambda fault: Cell(fault.key.code, _tone(fault.health)), is_number=False),
    Column("", lambda fault: Cell(fault.said), is_number=False),
)


class _Part(Struct, frozen=True):
    """A table of its own. What has the least key is shown before others that there is no room for."""

    name: str
    columns: tuple[Column, ...]
    rows: Callable[[Rows], Sequence[Row]]
    key: Callable[..., int]


_PARTS = (
    _Part("daemons", DAEMON_COLUMNS, lambda rows: rows.daemons, lambda row: -row.health),
    _Part("channels", CHANNEL_COLUMNS, lambda rows: rows.channels, lambda row: not row.is_blocked),
    _Part("faults", FAULT_COLUMNS, lambda rows: rows.faults, lambda fault: -fault.severity),
)

_SMALL = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
_LARGE = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def span(seconds: float | None) -> str:
    """A length of time in three digits."""
    if seconds is None:
        return ""
    if seconds >= 60:
        return age(seconds)
    unit_s, unit = next(((size, name) for size, name in _SMALL if seconds >= size), _SMALL[-1])
    return f"{_three_digits(seconds / unit_s)} {unit}"


def age(seconds: float | None) -> str:
    """How long ago something was, in whole seconds and its two largest units."""
    whole = int(seconds or 0)
    for (large_s, large), (small_s, small) in pairwise(_LARGE):
        if whole >= large_s:
            return f"{whole // large_s} {large} {whole % large_s // small_s} {small}"
    return f"{whole} s"


def rate(hz: float | None) -> str:
    return "" if hz is None else _three_digits(hz)


def _three_digits(number: float) -> str:
    if number >= 100 or number == 0:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"


# -- drawing ----------------------------------------------------------------------------------------------------------


def drawer(stream: TextIO) -> Draw:
    """How tables are drawn for this stream: by rich where it is installed."""
    try:
        import rich  # noqa: F401
    except ImportError:
        return plainly
    coloured = has_colours(stream)
    return lambda table, width: _richly(table, width, coloured)


def _cut(table: Table, width: int) -> Table:
    """The table with a last column of words that is no longer than the others leave room for."""
    if not table.rows or table.columns[-1].is_number:
        return table
    cells = zip(_titles(table), *_texts(table), strict=True)
    widths = [max(column.least, *map(len, each)) for column, each in zip(table.columns, cells, strict=True)]
    room = max(_LEAST_WORDS, width - sum(widths[:-1]) - len(_GAP) * len(widths))
    return Table(table.columns, tuple((*row[:-1], _shorter(row[-1], room)) for row in table.rows))


def _shorter(cell: Cell, most: int) -> Cell:
    return cell if len(cell.text) <= most else Cell(f"{cell.text[: most - 1]}…", cell.tone)


def plainly(table: Table, width: int) -> list[str]:
    table = _cut(table, width)
    cells = zip(_titles(table), *_texts(table), strict=True)
    widths = [max(column.least, *map(len, each)) for column, each in zip(table.columns, cells, strict=True)]

    def aligned(texts: Sequence[str]) -> list[str]:
        each = zip(table.columns, texts, widths, strict=True)
        return [text.rjust(size) if column.is_number else text.ljust(size) for column, text, size in each]

    head, *lines = in_columns(aligned(_titles(table)), [aligned(row) for row in _texts(table)]).splitlines()
    return [line[:width] for line in ([head, *lines] if any(_titles(table)) else lines)]


def _titles(table: Table) -> list[str]:
    return [column.title for column in table.columns]


def _texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


_STYLES: dict[Tone, str] = {"plain": "", "good": "green", "quiet": "dim", "warn": "yellow", "bad": "bold red"}


def _richly(table: Table, width: int, coloured: bool) -> list[str]:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    table = _cut(table, width)
    made = RichTable(
        box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0), header_style="dim", show_header=any(_titles(table))
    )
    for at, column in enumerate(table.columns):
        made.add_column(
            column.title, justify="right" if column.is_number else "left", no_wrap=True, overflow="ellipsis",
            style="bold" if at == 0 else "", min_width=column.least or None,
        )  # fmt: skip
    for row in table.rows:
        made.add_row(*(Text(cell.text, _STYLES[cell.tone]) for cell in row))
    page = Console(
        file=io.StringIO(), width=width, force_terminal=coloured, color_system="standard" if coloured else None,
        legacy_windows=False,
    )  # fmt: skip
    with page.capture() as captured:
        page.print(made)
    return [line.rstrip() for line in captured.get().splitlines()]


# -- a terminal -------------------------------------------------------------------------------------------------------


class _Ended(BaseException):
    """A signal ends this command."""

    def __init__(self, number: int) -> None:
        self.number = number


class Screen:
    """The whole of a terminal, which is as it was before when this is left."""

    def __init__(self, stream: TextIO, keys: TextIO) -> None:
        self._stream = stream
        self._keys = keys.fileno() if keys.isatty() else None

    def show(self, lines: Sequence[str], foot: str) -> None:
        """Lines are overwritten in place, so that nothing flickers."""
        most = self.size.lines - 1
        text = "".join(f"{line}{_REST_OF_LINE}\r\n" for line in lines[:most])
        self._stream.write(f"{_HOME}{text}{_REST_OF_SCREEN}\x1b[{self.size.lines};1H{foot[: self.size.columns - 1]}")
        self._stream.flush()

    @property
    def size(self) -> os.terminal_size:
        """Looked at each time, for a window may change. A terminal that does not know says 0."""
        size = os.get_terminal_size(self._stream.fileno())
        return size if size.columns and size.lines else os.terminal_size((80, 24))

    def key_within(self, seconds: float) -> str:
        """A key that is pressed, or nothing."""
        if self._keys is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._keys], [], [], seconds)
        # A terminal that has gone is readable, and has nothing.
        return os.read(self._keys, 64).decode(errors="replace") or "q" if ready else ""


@contextmanager
def screen(stream: TextIO, keys: TextIO) -> Iterator[Screen]:
    """Whatever ends the block, the terminal is restored."""
    before = termios.tcgetattr(keys) if keys.isatty() else None
    handlers = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    # Who is stopped here would leave the shell with half a terminal.
    handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        if before is not None:
            tty.setcbreak(keys)
        stream.write(_ENTER)
        yield Screen(stream, keys)
    finally:
        stream.write(_LEAVE)
        stream.flush()
        if before is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Ended(number)


def on_screen(watch: Watch, every_s: float) -> int:
    """Until somebody leaves. The exit code."""
    draw = drawer(sys.stdout)
    try:
        with screen(sys.stdout, sys.stdin) as terminal:
            _go_on(watch, every_s, terminal, draw)
    except KeyboardInterrupt:
        return 0
    except _Ended as ended:
        return 128 + ended.number
    return 0


def _go_on(watch: Watch, every_s: float, terminal: Screen, draw: Draw) -> None:
    shown, size, due_s = watch.look(), terminal.size, time.monotonic() + min(every_s, _LONG_S)
    key = ""
    terminal.show(drawn(shown, size.columns, size.lines, draw), _foot(shown))
    while not any(letter in _LEAVING for letter in key):
        key = terminal.key_within(max(0.0, min(_GLANCE_S, due_s - time.monotonic())))
        is_due = time.monotonic() >= due_s
        if is_due:
            shown, due_s = watch.look(), time.monotonic() + every_s
        if is_due or terminal.size != size:
            size = terminal.size
            terminal.show(drawn(shown, size.columns, size.lines, draw), _foot(shown))


def _foot(shown: Shown) -> str:
    return "q leaves" if shown.is_alive else f"q leaves; geartrain post-mortem {shown.run} says how it ended"


def looks(watch: Watch, every_s: float) -> Iterator[Shown]:
    """One after the other, for whoever is no terminal."""
    yield watch.once(every_s)
    while True:
        time.sleep(every_s)
        yield watch.look()


def is_screen(stream: TextIO) -> bool:
    """Whether there is a terminal that can be drawn on again and again."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def in_words(shown: Shown) -> str:
    """A look as text, for as many columns as there are."""
    columns = shutil.get_terminal_size(fallback=(_WIDE, 24)).columns
    return "".join(f"{line}\n" for line in drawn(shown, columns, None, drawer(sys.stdout)))
