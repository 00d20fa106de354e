"""Reads what a run has written down of itself (`rules/run_memory.py`): as often as one likes, and after its death.

    memory = RunMemory(state)      look() -> RunReading      events() -> Event ...      former("camera") -> Poll ...

Nobody is asked and nobody is disturbed. A file that cannot be read is named, and the others are read all the same.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from geartrain.errors import SlotsUnreadable
from geartrain.ports.plane_words import plane_in
from geartrain.ports.process_table import Identity, is_alive
from geartrain.ports.run_directory import counter_path, plane_path
from geartrain.ports.slots import SlotReader
from geartrain.ports.tally import lives_in
from geartrain.rules.frames import Life
from geartrain.rules.planes import PlaneSnapshot
from geartrain.rules.readings import Poll, ProcessReading
from geartrain.rules.run_memory import ABOUT_FILE, EVENTS_FILE, Event, RunAbout, RunReading, events_in

_SLOTS = re.compile(r"(?P<process>.+)\.(?P<life>\d+)\.slots")


def slots_path(state: Path, process: str, life: int) -> Path:
    return state / f"{process}.{life}.slots"


class RunMemory:
    """One run, by the folder of its state; `about` is for whoever knows what it is when its file does not tell."""

    def __init__(self, state: Path, about: RunAbout | None = None) -> None:
        self.state = state
        self.about = about or _about_in(state / ABOUT_FILE)
        self.processes = tuple(dict.fromkeys(daemon.process for daemon in self.about.spec.daemons))
        self._readers: dict[Path, SlotReader] = {}

    def look(self) -> RunReading:
        """How everything is now."""
        # Before anything is read: who is stopped in the middle of a look must not think that all others were.
        now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        lives, unreadable = self._lives(), list[str]()
        present = {lives[process][-1] for process in lives}
        for path in self._readers.keys() - present:
            self._readers.pop(path).close()
        polls = []
        for process in self.processes:
            poll = None
            if process in lives:
                try:
                    poll = self._reader(lives[process][-1]).poll()
                except SlotsUnreadable as error:
                    unreadable.append(str(error))
            polls.append(poll or Poll(process=ProcessReading(process=process)))
        return RunReading(
            about=self.about,
            now_ns=now_ns,
            alive=is_alive(Identity(*self.about.launcher)),
            processes=tuple(polls),
            wall_ns=wall_ns,
            lives=self._lives_of_writers(polls),
            planes=tuple(self._planes()),
            unreadable=tuple(unreadable),
        )

    def _lives_of_writers(self, polls: Sequence[Poll]) -> dict[str, tuple[Life, ...]]:
        """What the counters say. They go with the run's own folder; then the files of earlier lives say it too."""
        writers = [(poll.process.process, end) for poll in polls for end in poll.ends if end.sends]
        folder = Path(self.about.folder)
        if self.about.folder and folder.is_dir():
            return {end.channel: lives_in(counter_path(folder, end.channel)) for _, end in writers}
        known: dict[str, dict[int, Life]] = {end.channel: {} for _, end in writers}
        for process in {process for process, _ in writers}:
            for end in (end for poll in self.former(process) for end in poll.ends if end.sends):
                known.setdefault(end.channel, {})[end.epoch] = Life(end.epoch, end.accepted)
        return {channel: tuple(lives[epoch] for epoch in sorted(lives)) for channel, lives in known.items()}

    def _planes(self) -> Iterator[PlaneSnapshot]:
        for channel in self.about.spec.channels if self.about.folder else ():
            if channel.stale_after is not None:
                plane = plane_in(plane_path(Path(self.about.folder), channel.name), channel.name)
                if plane is not None:
                    yield plane

    def former(self, process: str) -> tuple[Poll, ...]:
        """The lives of a process before the last one, as they ended; as many as are kept and can be read."""
        polls = []
        for path in self._lives().get(process, [])[:-1]:
            with suppress(SlotsUnreadable):
                with closing(SlotReader(path)) as reader:
                    polls.append(reader.poll())
        return tuple(polls)

    def buckets(self) -> dict[str, tuple[int, ...]]:
        """How long the bodies of every daemon took, as counts of the buckets of `rules/slots.py`."""
        found: dict[str, tuple[int, ...]] = {}
        for reader in self._readers.values():
            with suppress(SlotsUnreadable):
                found |= reader.buckets()
        return found

    def events(self) -> tuple[Event, ...]:
        """What has happened, the oldest first."""
        texts = []
        for name in (f"{EVENTS_FILE}.1", EVENTS_FILE):
            with suppress(OSError):
                texts.append((self.state / name).read_bytes())
        return events_in(b"".join(texts))

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def _reader(self, path: Path) -> SlotReader:
        if path not in self._readers:
            self._readers[path] = SlotReader(path)
        return self._readers[path]

    def _lives(self) -> dict[str, list[Path]]:
        """The files of each process, the oldest life first."""
        found: dict[str, list[tuple[int, Path]]] = {}
        for name in os.listdir(self.state):
            if match := _SLOTS.fullmatch(name):
                found.setdefault(match["process"], []).append((int(match["life"]), self.state / name))
        return {process: [path for _, path in sorted(lives)] for process, lives in found.items()}


def _about_in(path: Path) -> RunAbout:
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunAbout)
    except OSError as error:
        raise SlotsUnreadable(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise SlotsUnreadable(f"{path} is not read: {error}") from error
