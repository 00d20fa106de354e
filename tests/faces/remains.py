"""The files of a run as it leaves them, made without running anything."""

import os
import time
from pathlib import Path

import msgspec

from geartrain.ports.process import Exit
from geartrain.ports.process_table import boot_id, identity_of
from geartrain.ports.run_directory import state_dir
from geartrain.ports.run_memory import slots_path
from geartrain.ports.slots import SlotFile, Slots
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, PortRef
from geartrain.rules.readings import Phase
from geartrain.rules.run_memory import ABOUT_FILE, EVENTS_FILE, Event, RunAbout, What
from geartrain.rules.slots import About, EndAbout

RUN = "eyes-12345678"

SPEC = PipelineSpec(
    name="eyes",
    daemons=(DaemonSpec(name="camera", process="camera"), DaemonSpec(name="detector", process="detector")),
    channels=(
        ChannelSpec(name="frames", writer=PortRef("camera", "out"), reader=PortRef("detector", "inp"), maxsize=8),
    ),
)


class Remains:
    """A run of two processes, camera and detector, of which each test says what they have done and how they ended."""

    def __init__(self, *, alive: bool = False) -> None:
        self.state = state_dir(RUN)
        who = identity_of(os.getpid())
        assert who is not None
        launcher = (who.pid, who.started_ticks, who.boot) if alive else (0, 0, "")
        about = RunAbout(run_id=RUN, spec=SPEC, launcher=launcher, began_wall_ns=time.time_ns())
        (self.state / ABOUT_FILE).write_bytes(msgspec.json.encode(about))
        self._files: dict[str, SlotFile] = {}
        self.note("began")

    def note(self, what: What, process: str = "", said: str = "", life: int = 0) -> None:
        daemon = process if what in ("ready", "failed") else ""
        event = Event(wall_ns=time.time_ns(), what=what, process=process, daemon=daemon, life=life, pid=1, said=said)
        with (self.state / EVENTS_FILE).open("ab") as file:
            file.write(msgspec.json.encode(event) + b"\n")

    def begins(self, process: str, life: int = 1) -> "Life":
        sends = process == "camera"
        about = About(
            process=process, daemons=(process,), ends=(EndAbout("frames", process, sends, 8),), boot=boot_id()
        )
        path = slots_path(self.state, process, life)
        file = SlotFile.make(path, about, generation=life, former=self._files.get(process))
        self._files[process] = file
        file.born(os.getpid())
        self.note("spawned", process, life=life)
        return Life(self, process, sends, file)

    def logs(self, process: str, stream: str, *lines: str) -> None:
        (self.state / f"{process}.{stream}.log").write_text("".join(f"{line}\n" for line in lines))

    def path(self, process: str, life: int = 1) -> Path:
        return slots_path(self.state, process, life)


class Life:
    """One life of a process, in which its only daemon is in `run`."""

    def __init__(self, remains: Remains, process: str, sends: bool, file: SlotFile) -> None:
        self._remains = remains
        self._process = process
        self._file = file
        assert file.fd is not None
        self.slots = Slots(os.dup(file.fd))
        file.handed_over()
        self.end = self.slots.end("frames", sends=sends)
        slot = self.slots.daemon(process)
        assert slot is not None
        self.daemon = slot
        self.daemon.starts(0, time.monotonic_ns())
        self.daemon.enters(Phase.RUN, time.monotonic_ns())
        self.slots.strike()

    def counts(
        self,
        *,
        accepted: int = 0,
        taken: int = 0,
        dropped: int = 0,
        in_hand: int = 0,
        may_have: int = 0,
        waits: int = 0,
    ) -> None:
        words = (1, 1, accepted, taken, taken, dropped, 0, 0, in_hand, max(in_hand, may_have), waits, 0, 0, 0, 0, 0)
        self.end.tell(words, time.monotonic_ns())

    def stops(self) -> None:
        self.daemon.stops(time.monotonic_ns())

    def ended(self, *, code: int | None = None, signal: int | None = None) -> None:
        exited = Exit(code=code, signal=signal)
        self._file.ended(exited)
        self._remains.note("exited", self._process, str(exited))
