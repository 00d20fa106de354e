"""`geartrain post-mortem`: what the files of a run tell when nobody is left to be asked. Nothing else is needed.

found(state)       -> PostMortem      also of a run that lives; a file that cannot be read is named
in_words(found)    -> text            the worst first, so that one glance says what died first and why
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace

from geartrain.errors import SlotsUnreadable
from geartrain.ports.process import signal_name
from geartrain.ports.run_memory import RunMemory
from geartrain.ports.slots import SlotReader
from geartrain.rules.durations import duration_text
from geartrain.rules.health import Condition
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, PortRef
from geartrain.rules.post_mortem import (
    Cause,
    DaemonFound,
    Ending,
    HeldBack,
    Holding,
    LifeFound,
    Line,
    PostMortem,
    ProcessFound,
    RunState,
    Waiting,
    examine,
)
from geartrain.rules.run_memory import Event, RunAbout
from geartrain.rules.slots import About

LINES_TOLD = 5

_FORMER_TOLD = 5
_TAIL_BYTES = 16 * 1024
_LABEL = 20
_TEXT_MOST = 200

_BOLD, _DIM, _RED, _GREEN, _YELLOW = 1, 2, 31, 32, 33


# -- reading ----------------------------------------------------------------------------------------------------------


def found(state: Path) -> PostMortem:
    abouts, unreadable = _slot_files(state)
    try:
        memory = RunMemory(state)
    except SlotsUnreadable as error:
        unreadable.append(str(error))
        memory = RunMemory(state, _guessed(state, abouts))
    reading = memory.look()
    former = {process: memory.former(process) for process in memory.processes}
    foreign = [f"{path} is of no process of this run" for path in abouts if abouts[path].process not in former]
    reading = replace(reading, unreadable=tuple(dict.fromkeys((*unreadable, *foreign, *reading.unreadable))))
    lines = {process: last_lines(state, process) for process in memory.processes}
    memory.close()
    return examine(reading, former, memory.events(), lines, signal_name)


def _slot_files(state: Path) -> tuple[dict[Path, About], list[str]]:
    """What each slot file is about, and which cannot be read."""
    abouts, unreadable = dict[Path, About](), list[str]()
    for path in sorted(state.glob("*.slots")):
        try:
            reader = SlotReader(path)
        except SlotsUnreadable as error:
            unreadable.append(str(error))
        else:
            abouts[path] = reader.about
            reader.close()
    return abouts, unreadable


def _guessed(state: Path, abouts: Mapping[Path, About]) -> RunAbout:
    """What the run must have been, by its slot files, where it does not say so itself."""
    daemons = {name: about.process for about in abouts.values() for name in about.daemons}
    ends = {(end.channel, end.sends): end for about in abouts.values() for end in about.ends}
    channels = dict.fromkeys(channel for channel, _ in ends)
    ports = {key: PortRef(end.daemon, "") for key, end in ends.items()}
    return RunAbout(
        run_id=state.name,
        spec=PipelineSpec(
            name=state.name.rpartition("-")[0],
            daemons=tuple(DaemonSpec(name=name, process=process) for name, process in daemons.items()),
            channels=tuple(
                ChannelSpec(name=name, writer=ports.get((name, True)), reader=ports.get((name, False)))
                for name in channels
            ),
        ),
        launcher=(0, 0, ""),
        began_wall_ns=min((about.born_wall_ns for about in abouts.values()), default=0),
    )


def last_lines(state: Path, process: str) -> tuple[Line, ...]:
    """What a process printed last, on each of its streams."""
    return tuple(
        Line(stream, text)
        for stream in ("out", "err")
        for text in _tail([state / f"{process}.{stream}.log.1", state / f"{process}.{stream}.log"])
    )


def _tail(paths: Sequence[Path]) -> list[str]:
    texts = []
    for path in paths:
        with suppress(OSError), open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            texts.append(file.read())
    return b"".join(texts).decode(errors="replace").splitlines()[-LINES_TOLD:]


# -- words ------------------------------------------------------------------------------------------------------------


def in_words(told: PostMortem, *, coloured: bool = False) -> str:
    """For a person in the middle of the night."""
    page = _Page(coloured)
    page.run(told)
    for process in told.processes:
        page.process(process, is_first=told.first is not None and told.first.process == process.process)
    page.end(told)
    return "".join(f"{line.rstrip()}\n" for line in page.lines)


class _Page:
    def __init__(self, coloured: bool) -> None:
        self.lines: list[str] = []
        self._coloured = coloured
        self._has_details = True

    def run(self, told: PostMortem) -> None:
        bad = told.first is not None or any(_is_bad(process.last) for process in told.processes)
        self._add(self._paint(f"{told.run} {_state(told, bad)}", _BOLD, _RED if bad else _GREEN))
        if told.first is not None:
            self._add(_cause(told.first, told.processes))
        elif told.state is RunState.KILLED:
            self._add("Nobody was left to see who died first: what started the run died with the others, or before.")
        for text in told.unreadable:
            self._add(self._paint(_clean(text), _YELLOW))

    def process(self, process: ProcessFound, *, is_first: bool) -> None:
        last, details = process.last, list(self._details(process, is_first))
        if details or self._has_details:
            self._add("")
        self._has_details = bool(details)
        colour = _RED if last.ending.is_bad else _GREEN
        head = f"{self._paint(process.process.ljust(_LABEL - 1), _BOLD)} {self._paint(_end(last), colour)}"
        self._add(f"{head}{self._paint(_who(last), _DIM)}")
        for indent, label, text in details:
            self._add(f"{' ' * indent}{self._paint(label.ljust(_LABEL - indent - 1), _DIM)} {text}")

    def _details(self, process: ProcessFound, is_first: bool) -> Iterator[tuple[int, str, str]]:
        """Of who has ended well only what is left open."""
        for daemon in process.last.daemons:
            if process.last.ending is not Ending.ENDED or daemon.owes or daemon.where != "had ended":
                yield from self._of_daemon(daemon)
        if (earlier := len(process.former) - _FORMER_TOLD) > 0:
            yield 2, "before", f"{earlier} earlier {'life' if earlier == 1 else 'lives'}, and"
        yield from ((2, "before", _life(life)) for life in process.former[-_FORMER_TOLD:])
        if process.last.ending.is_bad or is_first:
            yield from ((2, line.stream, f"| {_clean(line.text)}") for line in process.lines)

    def _of_daemon(self, daemon: DaemonFound) -> Iterator[tuple[int, str, str]]:
        yield 2, daemon.daemon, _where(daemon)
        if daemon.holds:
            yield 4, "in hand", self._paint(", ".join(map(_holding, daemon.holds)), _BOLD)
        if daemon.owes:
            yield 4, "unacknowledged", ", ".join(f"{owing.unacknowledged} of {owing.channel}" for owing in daemon.owes)
        yield from ((4, "waits", _waiting(waiting)) for waiting in daemon.waits)
        if daemon.held is not None:
            yield 4, "held back", _held(daemon.held)
        if daemon.last_error is not None:
            yield 4, "last error", _short(daemon.last_error)

    def end(self, told: PostMortem) -> None:
        self._add("")
        width = max((len(_name(event)) for event in told.events), default=0)
        for event in told.events:
            self._add(f"{self._paint(_time(event.wall_ns), _DIM)}  {_name(event).ljust(width)}  {_event(event)}")
        self._add("")
        self._add(self._paint(f"More is in the logs: geartrain logs --run {told.run}", _DIM))

    def _add(self, line: str) -> None:
        self.lines.append(line)

    def _paint(self, text: str, *codes: int) -> str:
        return f"\x1b[{';'.join(map(str, codes))}m{text}\x1b[0m" if self._coloured else text


def _state(told: PostMortem, bad: bool) -> str:
    began, ended = _date(told.began_wall_ns), _date(told.ended_wall_ns)
    match told.state:
        case RunState.ALIVE:
            return f"is alive, since {began}{'; not all is well' if bad else ', and all is well'}"
        case RunState.OVER if told.first is not None and not told.first.is_ignored:
            return f"failed; it ran from {began} to {ended}"
        case RunState.OVER if bad:
            return f"ended, but not all was well; it ran from {began} to {ended}"
        case RunState.OVER:
            return f"ended well; it ran from {began} to {ended}"
        case RunState.KILLED:
            return f"was killed; it ran from {began}, its last sign of life is of {ended}"


def _is_bad(last: LifeFound) -> bool:
    return last.ending.is_bad or any(daemon.condition is Condition.FAULTED for daemon in last.daemons)


def _cause(first: Cause, processes: Sequence[ProcessFound]) -> str:
    who = first.daemon or first.process
    last = next((process.last for process in processes if process.process == first.process), None)
    hands = [holding for daemon in (() if last is None else last.daemons) for holding in daemon.holds]
    hand = f", with {' and '.join(map(_holding, hands))} in hand" if hands else ""
    return f"First: {who} at {_time(first.wall_ns)}: {_short(first.said)}{hand}"


def _end(last: LifeFound) -> str:
    match last.ending:
        case Ending.UNSEEN | Ending.HUNG:
            return f"{last.said}: last sign of life at {_time(last.at_wall_ns)}"
        case Ending.ALIVE | Ending.NEVER:
            return last.said
        case _:
            after = ", after the run was told to stop" if last.told_to_stop and last.ending.is_bad else ""
            return f"{last.said} at {_time(last.at_wall_ns)}{after}"


def _who(last: LifeFound) -> str:
    return f"  (pid {last.pid}, life {last.life})" if last.pid else ""


def _where(daemon: DaemonFound) -> str:
    parts = [daemon.where]
    if daemon.cycle is not None:
        parts.append(f"after cycle {daemon.cycle}")
    if daemon.in_body_since_wall_ns is not None:
        parts.append(f"in its body since {_time(daemon.in_body_since_wall_ns)}")
    if daemon.errors:
        parts.append(f"{daemon.errors} error{'s' * (daemon.errors != 1)}")
    if daemon.restarts:
        parts.append(f"made anew {daemon.restarts} time{'s' * (daemon.restarts != 1)}")
    return ", ".join(parts)


def _holding(holding: Holding) -> str:
    if holding.may_have > holding.item:
        return f"one of items {holding.item} to {holding.may_have} of {holding.channel}"
    return f"item {holding.item} of {holding.channel}"


def _waiting(waiting: Waiting) -> str:
    verb = "reads" if waiting.sends else "sends"
    what = f"for room in {waiting.channel}" if waiting.sends else f"for an item of {waiting.channel}"
    other = f", which {waiting.other} {verb}" if waiting.other else ""
    since = f", since {_time(waiting.since_wall_ns)}" if waiting.since_wall_ns else ""
    return what + other + since


def _held(held: HeldBack) -> str:
    whose = "a body of its process" if held.with_its_process else "a body"
    may = "" if held.budget_s is None else f" and may take {duration_text(held.budget_s)}"
    since = f", since {_time(held.since_wall_ns)}" if held.since_wall_ns else ""
    return f"{whose} took {duration_text(held.took_s)}{may}{since}"


def _life(life: LifeFound) -> str:
    holds = [holding for daemon in life.daemons for holding in daemon.holds]
    hand = f", {' and '.join(map(_holding, holds))} in hand" if holds else ""
    return f"life {life.life} {_end(life)} (pid {life.pid}){hand}"


def _name(event: Event) -> str:
    return event.daemon or event.process


def _event(event: Event) -> str:
    what = f"{event.what} (pid {event.pid})" if event.what == "spawned" else event.what
    return f"{what}: {_short(event.said)}" if event.said else what


def _time(wall_ns: int | None) -> str:
    return "an unknown time" if wall_ns is None else _moment(wall_ns).strftime("%H:%M:%S.%f")[:-3]


def _date(wall_ns: int | None) -> str:
    return "an unknown time" if wall_ns is None else _moment(wall_ns).strftime("%Y-%m-%d %H:%M:%S")


def _moment(wall_ns: int) -> datetime:
    return datetime.fromtimestamp(wall_ns / 1e9).astimezone()


def _short(text: str) -> str:
    """Its first line, and not all of that."""
    line = _clean(text.partition("\n")[0])
    return line if len(line) <= _TEXT_MOST else f"{line[:_TEXT_MOST]}…"


def _clean(text: str) -> str:
    """What a process printed must not steer the terminal of who reads it."""
    return "".join(letter if letter.isprintable() else "�" for letter in text.expandtabs(4))
