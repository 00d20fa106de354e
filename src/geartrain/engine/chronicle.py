"""What a run leaves behind: what it is, what happened, and a slot file for each life of each process.

    Launcher, Roll, Child  ->  Chronicle  ->  run.json, events.jsonl, <process>.<life>.slots      read by RunMemory

Without the first two a run does not begin, as without its logs. After that nothing of it is needed for the run to go
on: what cannot be written is missing later, and is said.
"""

import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from geartrain.engine.roll import Standing, Stream, Watcher
from geartrain.errors import PlaceRefused
from geartrain.ports.log_capture import LogFile
from geartrain.ports.process import Exit
from geartrain.ports.process_table import boot_id, identity_of
from geartrain.ports.run_memory import slots_path
from geartrain.ports.slots import SlotFile
from geartrain.rules.orders import DaemonOrder
from geartrain.rules.pipeline import PipelineSpec
from geartrain.rules.run_memory import ABOUT_FILE, EVENTS_FILE, Event, RunAbout, What
from geartrain.rules.slots import About, EndAbout

_log = logging.getLogger("geartrain.launcher")

# Of a process that is started again and again, so many lives can be looked at.
KEPT_LIVES = 20
_EVENTS_BYTES = 4 * 1024 * 1024

_WHATS: dict[str, What] = {"running": "ready", "hung": "hung", "ended": "ended"}


class Chronicle(Watcher):
    """The one of a run. What a watcher is told it passes on."""

    def __init__(self, run_id: str, spec: PipelineSpec, state: Path, folder: Path, watcher: Watcher) -> None:
        self._run_id = run_id
        self._spec = spec
        self._state = state
        self._folder = folder
        self._watcher = watcher
        self._files: dict[str, SlotFile] = {}
        self._events: LogFile | None = None

    def begin(self) -> None:
        who = identity_of(os.getpid())
        assert who is not None
        about = RunAbout(
            run_id=self._run_id,
            spec=self._spec,
            launcher=(who.pid, who.started_ticks, who.boot),
            began_wall_ns=time.time_ns(),
            folder=str(self._folder),
        )
        try:
            (self._state / ABOUT_FILE).touch(mode=0o600)
            (self._state / ABOUT_FILE).write_bytes(msgspec.json.encode(about))
        except OSError as error:
            raise PlaceRefused(f"{self._state / ABOUT_FILE} cannot be written: {error.strerror}") from error
        self._events = LogFile(self._state / EVENTS_FILE, _EVENTS_BYTES)
        self.note("began", said=self._spec.name)

    def note(
        self, what: What, *, process: str = "", daemon: str = "", life: int = 0, pid: int = 0, said: str = ""
    ) -> None:
        event = Event(wall_ns=time.time_ns(), what=what, process=process, daemon=daemon, life=life, pid=pid, said=said)
        if self._events is not None:
            self._events.write([msgspec.json.encode(event).decode()])

    def close(self) -> None:
        if self._events is not None:
            self.note("over")
            self._events.close()
            self._events = None
        # A mapped file holds a descriptor as long as somebody has its words.
        self._files.clear()

    # -- what a watcher is told ---------------------------------------------------------------------------------------

    def daemon_changed(self, standing: Standing) -> None:
        if standing.state in _WHATS:
            self._note_of(_WHATS[standing.state], standing)
        self._watcher.daemon_changed(standing)

    def daemon_failed(self, standing: Standing) -> None:
        self._note_of("failed", standing, standing.last_error or "")
        self._watcher.daemon_failed(standing)

    def process_said(self, process: str, stream: Stream, line: str) -> None:
        self._watcher.process_said(process, stream, line)

    def _note_of(self, what: What, standing: Standing, said: str = "") -> None:
        self.note(what, process=standing.process, daemon=standing.daemon, pid=standing.pid or 0, said=said)

    # -- slot files ---------------------------------------------------------------------------------------------------

    def slot_file(self, process: str, life: int, daemons: Iterable[str], orders: Iterable[DaemonOrder]) -> SlotFile:
        """A file for this life of a process, for all of its daemons and the ends of those that are to run."""
        about = About(
            process=process,
            daemons=tuple(daemons),
            ends=tuple(
                EndAbout(end.channel, order.name, end.sends, end.maxsize) for order in orders for end in order.ends
            ),
            boot=boot_id(),
            born_wall_ns=time.time_ns(),
        )
        former = self._files.get(process)
        if former is not None:
            former.comes_again()
        path = slots_path(self._state, process, life)
        try:
            made = SlotFile.make(path, about, generation=life, former=former)
        except PlaceRefused as error:
            _log.warning("%s; what process %r does cannot be seen from outside", error, process)
            made = SlotFile.make(None, about, generation=life, former=former)
        slots_path(self._state, process, life - KEPT_LIVES).unlink(missing_ok=True)
        self._files[process] = made
        return made

    def born(self, process: str, pid: int) -> None:
        file = self._files[process]
        file.born(pid)
        file.handed_over()
        self.note("spawned", process=process, pid=pid, life=file.generation)

    def ended(self, process: str, pid: int, exited: Exit) -> None:
        file = self._files[process]
        file.ended(exited)
        self.note("exited", process=process, pid=pid, life=file.generation, said=str(exited))

    def died(self, process: str) -> None:
        self._files[process].died()
