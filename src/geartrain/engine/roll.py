"""How every daemon of a run is, made of what its process says: the table that `geartrain ps` shows.

    spawned -> starting --ready--> running --failed, policy restart--> restarting --ready or spawned--> ...
                                      `--ended, or its process has gone for good--> ended

Whoever wants to show the run as it goes is told of each step.
"""

import time
from collections.abc import Callable, Iterator
from typing import Literal

from msgspec import Struct

from geartrain.rules.orders import Report
from geartrain.rules.pipeline import DaemonSpec, PipelineSpec

State = Literal["waiting", "starting", "running", "hung", "restarting", "ended"]
Stream = Literal["out", "err"]


class Standing(Struct, frozen=True):
    """How one daemon is. `uptime_s` is that of its present life."""

    daemon: str
    process: str
    pid: int | None = None
    state: State = "waiting"
    restarts: int = 0
    last_error: str | None = None
    uptime_s: float | None = None
    # How many items that it had sent have died with it, in all of its lives.
    lost: int = 0
    # Whether it serves the others, and keeps no run alive.
    system: bool = False
    # The channels to it on which nothing has come for too long.
    stale: tuple[str, ...] = ()


class Watcher:
    """Told what happens to the daemons of a run and what their processes print. It must not wait."""

    def daemon_changed(self, standing: Standing) -> None:
        """The daemon is in another state than before."""

    def daemon_failed(self, standing: Standing) -> None:
        """The daemon, or its process, has failed; `last_error` says how."""

    def process_said(self, process: str, stream: Stream, line: str) -> None:
        """A line on descriptor 1 or 2 of a process."""


class _Entry:
    """What is known of one daemon."""

    def __init__(self, spec: DaemonSpec) -> None:
        self.spec = spec
        self.pid: int | None = None
        self.state: State = "waiting"
        self.restarts = 0
        self.last_error: str | None = None
        self.running_since: float | None = None
        self.lost = 0


class Roll:
    """Every daemon of a run, in the order of its file."""

    def __init__(
        self, spec: PipelineSpec, watcher: Watcher | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.watcher = watcher or Watcher()
        self._entries = {daemon.name: _Entry(daemon) for daemon in spec.daemons}
        self._now = now

    def standings(self) -> tuple[Standing, ...]:
        return tuple(self._standing(entry) for entry in self._entries.values())

    def only_system_left(self) -> bool:
        """Whether all have ended that the pipeline is there for."""
        return all(entry.state == "ended" for entry in self._entries.values() if not entry.spec.is_system)

    def unfinished(self) -> tuple[str, ...]:
        """Who has begun to live and not ended."""
        return tuple(name for name, entry in self._entries.items() if entry.state not in ("waiting", "ended"))

    def spawned(self, process: str, pid: int) -> None:
        """The process lives, maybe once more."""
        for entry in self._of(process):
            entry.restarts += entry.pid is not None
            entry.pid = pid
            self._become(entry, "starting")

    def ready(self, daemon: str) -> None:
        entry = self._entries[daemon]
        # A daemon that is made anew within its process says nothing else about it.
        entry.restarts += entry.state == "restarting"
        entry.running_since = self._now()
        self._become(entry, "running")

    def failed(self, report: Report, *, escalates: bool) -> None:
        """A daemon says of itself that it failed. What its policy did not absorb is said twice, and told once."""
        entry = self._entries[report.daemon]
        if not escalates or entry.last_error is None:
            self._fail(entry, f"{report.error} (in {report.phase})")
        # Nobody is made anew after a cleanup that failed.
        if not escalates and entry.spec.on_error == "restart" and report.phase != "on_stop":
            # It had been made anew, and has failed again before it was ready.
            entry.restarts += entry.state == "restarting"
            self._become(entry, "restarting")

    def hangs(self, process: str, how: str) -> None:
        """Its loop stands still: whatever its daemons are about, they do not go on."""
        for entry in self._of(process):
            if entry.state == "running":
                self._fail(entry, f"process {entry.pid}: {how}")
                self._become(entry, "hung")

    def turns_again(self, process: str) -> None:
        for entry in self._of(process):
            if entry.state == "hung":
                self._become(entry, "running")

    def lost(self, daemon: str, items: int) -> None:
        """So many items that it had sent have died with it."""
        self._entries[daemon].lost += items

    def ended(self, daemon: str) -> None:
        self._become(self._entries[daemon], "ended")

    def gone(self, process: str, how: str) -> None:
        """The process has ended in another way than by itself; its policy decides what comes."""
        for entry in self._of(process):
            if entry.state != "ended":
                self._fail(entry, f"process {entry.pid}: {how}")
                self._become(entry, "restarting" if entry.spec.on_error == "restart" else "ended")

    def _of(self, process: str) -> Iterator[_Entry]:
        return (entry for entry in self._entries.values() if entry.spec.process == process)

    def _fail(self, entry: _Entry, error: str) -> None:
        entry.last_error = error
        self.watcher.daemon_failed(self._standing(entry))

    def _become(self, entry: _Entry, state: State) -> None:
        if entry.state == state:
            return
        entry.state = state
        if state not in ("running", "hung"):
            entry.running_since = None
        self.watcher.daemon_changed(self._standing(entry))

    def _standing(self, entry: _Entry) -> Standing:
        since = entry.running_since
        return Standing(
            daemon=entry.spec.name,
            process=entry.spec.process,
            pid=None if entry.state == "ended" else entry.pid,
            state=entry.state,
            restarts=entry.restarts,
            last_error=None if entry.last_error is None else entry.last_error.partition("\n")[0],
            uptime_s=None if since is None else self._now() - since,
            lost=entry.lost,
            system=entry.spec.is_system,
        )
