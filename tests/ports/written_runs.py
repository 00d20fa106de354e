"""Runs that never were: the files that processes would have written, written by a test."""

import os
from pathlib import Path

import msgspec

from geartrain.ports.process import Exit
from geartrain.ports.process_table import boot_id, identity_of
from geartrain.ports.run_memory import RunMemory, slots_path
from geartrain.ports.slots import SlotFile, Slots
from geartrain.rules.pipeline import PipelineSpec
from geartrain.rules.readings import Phase
from geartrain.rules.run_memory import ABOUT_FILE, RunAbout
from geartrain.rules.slots import About, EndAbout
from tests.rules.looks import pipeline


class WrittenLife:
    """One life of a process that is this one, and so alive until it is said to have ended."""

    def __init__(self, state: Path, spec: PipelineSpec, process: str, former: "WrittenLife | None") -> None:
        self._state = state
        self._spec = spec
        self._process = process
        last = None if former is None else former.file
        generation = 1 if last is None else last.generation + 1
        daemons = tuple(daemon.name for daemon in spec.daemons if daemon.process == process)
        ends = [
            EndAbout(channel.name, end.daemon, sends, channel.maxsize)
            for channel in spec.channels
            for end, sends in ((channel.writer, True), (channel.reader, False))
            if end is not None and end.daemon in daemons
        ]
        about = About(process=process, daemons=daemons, ends=tuple(ends), boot=boot_id())
        path = slots_path(state, process, generation)
        self.file: SlotFile = SlotFile.make(path, about, generation=generation, former=last)
        assert self.file.fd is not None
        self.slots = Slots(os.dup(self.file.fd))
        self.file.born(os.getpid())
        self.file.handed_over()
        self.slots.strike()

    def runs(self, daemon: str) -> None:
        slot = self.slots.daemon(daemon)
        assert slot is not None
        slot.starts(0, 1)
        slot.enters(Phase.RUN, 1)

    def fails(self, daemon: str, times: int = 1) -> None:
        slot = self.slots.daemon(daemon)
        assert slot is not None
        for _ in range(times):
            slot.fails(1)
        slot.is_well(1)

    def is_killed(self) -> None:
        self.file.ended(Exit(code=None, signal=9))
        self.file.died()

    def comes_again(self) -> "WrittenLife":
        self.file.comes_again()
        return WrittenLife(self._state, self._spec, self._process, self)


class WrittenRun:
    """The folder of a run of which nothing is true but what is written there."""

    def __init__(self, state: Path, spec: PipelineSpec | None = None, folder: str = "") -> None:
        self.state = state
        self.spec = spec or pipeline("frames: camera -> sink")
        who = identity_of(os.getpid())
        assert who is not None
        about = RunAbout(
            run_id="vision-1",
            spec=self.spec,
            launcher=(who.pid, who.started_ticks, who.boot),
            began_wall_ns=0,
            folder=folder,
        )
        (state / ABOUT_FILE).write_bytes(msgspec.json.encode(about))

    def memory(self) -> RunMemory:
        return RunMemory(self.state)

    def process(self, name: str) -> WrittenLife:
        return WrittenLife(self.state, self.spec, name, None)
