"""A foreign program in a pipeline: `command = ["ffmpeg", ...]`, under the same supervision as a daemon.

It has no channels, so there is little to it: it is ready when it is started, it has finished when it ends with 0, and
a stop is a SIGTERM to its group. Whatever it has started ends with it.
"""

import signal
import time

from geartrain.engine.child import Child
from geartrain.engine.context import Context
from geartrain.errors import ProcessFailed
from geartrain.ports.lifeline import held
from geartrain.ports.process import Exit
from geartrain.rules.orders import Quit, Said, Stop
from geartrain.rules.readings import Phase


class CommandProcess(Child):
    """A program, from its start to its exit."""

    _asked_to_stop = False

    async def on_start(self, ctx: Context) -> None:
        await self._begin()

    async def _begin(self) -> None:
        self._slots = self._new_slots(())
        self._spawn(held(self._launcher.brief.command_of(self.name)))
        # It writes nothing down itself.
        slot, now_ns = self._slots.daemon(0), time.monotonic_ns()
        slot.starts(0, now_ns)
        slot.enters(Phase.RUN, now_ns)
        self._launcher.roll.ready(self.name)

    async def run(self, ctx: Context) -> None:
        exited = await self._live()
        if exited is not None and exited.code != 0 and not self._asked_to_stop:
            raise self._died(str(exited))
        self._launcher.brief.finished.add(self.name)
        self.ended.add(self.name)
        self._launcher.roll.ended(self.name)

    async def _one_life(self) -> Exit:
        assert self._process is not None
        await self._process.wait()
        self._process.kill_group(signal.SIGKILL)
        exited = await self._process.wait_group()
        self._note_end(exited)
        assert self._slots is not None
        slot = self._slots.daemon(0)
        end = slot.stops if exited.code == 0 or self._asked_to_stop else slot.fails
        end(time.monotonic_ns())
        await self._end_logs()
        return exited

    async def on_stop(self, ctx: Context) -> None:
        await self._end()

    async def say(self, word: Said) -> None:
        if isinstance(word, Stop | Quit) and self._process is not None:
            self._asked_to_stop = True
            try:
                self._process.kill_group(signal.SIGTERM)
            except ProcessFailed as error:
                self._launcher.warn(str(error))

    async def stacks(self) -> str:
        raise ProcessFailed(f"{self.name!r} is a foreign program; only Python processes of geartrain show stacks")
