"""A warm spare: a process with its imports behind it and no identity yet, which takes the place of one that died.

    launcher    Spares.fill()     starts what is missing, when there is time for it
                Spares.take()     hands one over to whoever must start again
    process     become(order)     imports, waits to be told who it is

To import is most of what a start costs. What a module of the user's does when it is imported, it does in the spare too.
"""

import os
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
from msgspec import Struct

from geartrain.engine.declare import load_daemon
from geartrain.errors import GeartrainError, ProcessFailed
from geartrain.ports import handing
from geartrain.ports.process import Command, Process
from geartrain.ports.transport import load
from geartrain.rules.orders import NodeOrder, SpareOrder

if TYPE_CHECKING:
    from geartrain.engine.launcher import Launcher

# The pipeline's own start comes first.
_SETTLE_S = 0.5


class Spare(Struct, frozen=True):
    """A process that waits, our end of its control socket, and the number of its own end over there."""

    process: Process
    control: socket.socket
    number: int

    async def end(self) -> None:
        self.control.close()
        self.process.kill_group(signal.SIGKILL)
        await self.process.wait_group()


class Spares:
    """The spares of one run."""

    def __init__(self, launcher: "Launcher", count: int) -> None:
        self._launcher = launcher
        self.wanted = count
        self._has_begun = False
        self.waiting: list[Spare] = []

    async def begin(self) -> None:
        await self._launcher.gate.wait()
        await anyio.sleep(_SETTLE_S)
        self._has_begun = True
        self.fill()

    def fill(self) -> None:
        """Start as many as are missing."""
        while self._has_begun and len(self.waiting) < self.wanted and not self._launcher.is_stopping:
            try:
                self.waiting.append(self._started())
            except (ProcessFailed, OSError) as error:
                # Without a spare a restart takes longer, and nothing else.
                self._launcher.warn(f"no spare can be started: {error}")
                return

    def take(self, process: str) -> Spare | None:
        """One that can be this process, if there is one."""
        if not self._launcher.brief.is_plain(process):
            return None
        while self.waiting:
            spare = self.waiting.pop(0)
            if not spare.process.group_is_empty():
                return spare
            spare.control.close()
        return None

    async def close(self) -> None:
        waiting, self.waiting = self.waiting, []
        self.wanted = 0
        for spare in waiting:
            await spare.end()

    def _started(self) -> Spare:
        here, there = socket.socketpair()
        with ExitStack() as failing, there, open(os.devnull, "wb") as nowhere:
            failing.callback(here.close)
            order = self._launcher.brief.spare_order(there.fileno())
            process = self._launcher.processes.spawn(
                Command(
                    arguments=(sys.executable, "-m", "geartrain.engine.node"),
                    bootstrap=msgspec.json.encode(order),
                    out=nowhere.fileno(),
                    err=nowhere.fileno(),
                    keep_open=(there.fileno(), self._launcher.brief.lifeline.fd),
                )
            )
            failing.pop_all()
            return Spare(process, here, there.fileno())


def become(order: SpareOrder) -> NodeOrder:
    """In the process: import all that may be needed, and wait. Whoever is not needed any more ends here."""
    import_module(f"anyio._backends._{order.backend}")
    import_module(f"geartrain.ports.on_{order.backend}")
    for place in order.transports:
        load(place)
    for run in order.runs:
        # What cannot be imported is told by the process that needs it.
        with suppress(GeartrainError):
            load_daemon(run, None if order.folder is None else Path(order.folder))
    with socket.socket(fileno=os.dup(order.control)) as control:
        taken = handing.take(control)
    if taken is None:
        sys.exit()
    bootstrap, slots = taken
    return msgspec.structs.replace(msgspec.json.decode(bootstrap, type=NodeOrder), slots=slots)
