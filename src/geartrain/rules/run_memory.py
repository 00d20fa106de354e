"""A run as its files tell it, alive or dead: what it is, what has happened, and how every process of it is or was.

<state of the run>/run.json                RunAbout     written at the start
                   events.jsonl            Event        one line for each thing that happened
                   <process>.<life>.slots  Poll         one file for each life of a process
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from geartrain.rules.frames import Life
from geartrain.rules.pipeline import PipelineSpec
from geartrain.rules.planes import PlaneSnapshot
from geartrain.rules.readings import DaemonReading, EndReading, Poll

ABOUT_FILE = "run.json"
EVENTS_FILE = "events.jsonl"

What = Literal["began", "spawned", "ready", "failed", "exited", "hung", "turns", "lost", "stopping", "ended", "over"]


class RunAbout(Struct, frozen=True, kw_only=True):
    """What a run is. `launcher` is who started it: pid, start time in ticks, boot."""

    run_id: str
    spec: PipelineSpec
    launcher: tuple[int, int, str]
    began_wall_ns: int
    # The run's own folder, which goes with it: counters of writers lie there.
    folder: str = ""


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened, as the launcher saw it."""

    wall_ns: int
    what: What
    process: str = ""
    daemon: str = ""
    life: int = 0
    pid: int = 0
    said: str = ""


class RunReading(Struct, frozen=True, kw_only=True):
    """Everything at one moment. `processes` are the present or last lives, in the order of the pipeline.

    `now_ns` is of the clock that all times of readings are of, `wall_ns` is the time of day. `lives` is what the
    counters of writers say, by channel; `planes` are the channels that may go stale. `unreadable` are the files that
    could not be read, in words.
    """

    about: RunAbout
    now_ns: int
    alive: bool
    processes: tuple[Poll, ...]
    wall_ns: int = 0
    lives: Mapping[str, tuple[Life, ...]] = {}
    planes: tuple[PlaneSnapshot, ...] = ()
    unreadable: tuple[str, ...] = ()

    def daemons(self) -> Iterator[tuple[Poll, DaemonReading]]:
        return ((poll, daemon) for poll in self.processes for daemon in poll.daemons)

    def ends(self) -> Iterator[tuple[Poll, EndReading]]:
        return ((poll, end) for poll in self.processes for end in poll.ends)


def events_in(text: bytes) -> tuple[Event, ...]:
    """The events of a file. A line that its writer did not finish, and one that is no event, is passed over."""
    found = []
    for line in text.split(b"\n"):
        try:
            found.append(_decoder.decode(line))
        except msgspec.MsgspecError:
            continue
    return tuple(found)


_decoder = msgspec.json.Decoder(Event)
