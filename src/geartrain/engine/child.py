"""A process of a run as its launcher has it: started with its logs read, killed with its group, and told what to do.

Child                   what every process of a run has
  NodeProcess           hosts daemons, and talks                engine/node_process.py
  CommandProcess        a foreign program, which only ends      engine/foreign.py
"""

import os
import signal
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import anyio

from geartrain.engine.daemon import Daemon
from geartrain.engine.roll import Stream
from geartrain.engine.signal import Signal
from geartrain.errors import ProcessFailed
from geartrain.ports.log_capture import LogCapture
from geartrain.ports.process import Command, Exit, Process
from geartrain.ports.slots import SlotFile
from geartrain.rules.orders import DaemonOrder, Said

if TYPE_CHECKING:
    from geartrain.engine.launcher import Launcher

_STREAMS: tuple[Stream, ...] = ("out", "err")


class Reading:
    """What one process prints, read from its first moment until it has ended."""

    def __init__(self, logs: Sequence[LogCapture]) -> None:
        self._logs = logs
        self._scope = anyio.CancelScope()
        self._over = Signal("the end of the logs")

    async def live(self) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    for log in self._logs:
                        tasks.start_soon(log.run)
        finally:
            self._over.set()

    async def end(self) -> None:
        """Whatever is still in its pipes is taken, and nothing after that."""
        self._scope.cancel()
        await self._over.wait()


class Child(Daemon):
    """One process of a run, from its start to its exit."""

    def __init__(self, launcher: "Launcher", process: str) -> None:
        self.name = process
        # Those of its daemons that have ended.
        self.ended: set[str] = set()
        self._launcher = launcher
        self._process: Process | None = None
        self._logs: list[LogCapture] = []
        self._reading: Reading | None = None
        self._again = False
        self._slots: SlotFile | None = None
        self._end_is_noted = True

    @property
    def has_begun(self) -> bool:
        """Whether there may be something in it that wants to be ended in order."""
        return True

    async def say(self, word: Said) -> None:
        """Tell it what to do, as far as it can be told."""
        raise AssertionError("a process that can be told nothing")

    async def _begin(self) -> None:
        """A new process, until it is ready."""
        raise AssertionError("a process that cannot be started")

    async def _one_life(self) -> Exit:
        """From there to its end."""
        raise AssertionError("a process that does not live")

    async def _live(self) -> Exit | None:
        """Life after life, while it is started again from here. None: it would have been, and nobody needs it now."""
        exited = await self._one_life()
        while self._again:
            self._again = False
            if self._launcher.is_stopping or not self._launcher.brief.left_of(self.name):
                return None
            await self._begin()
            exited = await self._one_life()
        return exited

    def _died(self, how: str) -> ProcessFailed:
        """What its policy is asked about: how it ended, and what it printed last."""
        assert self._process is not None
        self._launcher.chronicle.died(self.name)
        self._launcher.roll.gone(self.name, how)
        tail = "".join(f"\n    {line}" for line in self.last_lines())
        return ProcessFailed(f"process {self.name!r} (pid {self._process.pid}): {how}{tail}")

    async def stacks(self) -> str:
        """Where each of its threads stands, also when its loop hangs; `ProcessFailed` says why it cannot be told."""
        raise AssertionError("a process that cannot be asked")

    @property
    def owes_an_answer(self) -> bool:
        """Whether it has been asked something, lives, and has not answered yet."""
        return False

    async def ask_counts(self) -> None:
        """Ask what went through its channels, if it has any."""
        return

    async def clear(self, daemon: str) -> str | None:
        """Let the body of this daemon be entered again; the answer is why it is not, if it is not."""
        return f"{daemon!r} is a foreign program: nobody measures how long it takes, and it is never held"

    def last_lines(self) -> list[str]:
        """What the process printed last."""
        return [line for log in self._logs for line in log.tail()[-10:]]

    def kill(self, *, again: bool) -> None:
        """End its group at once; `again` starts it anew, and its policy is not asked."""
        assert self._process is not None
        self._again = again
        self._process.kill_group(signal.SIGKILL)

    def _new_slots(self, daemons: Sequence[DaemonOrder]) -> SlotFile:
        """The file for a new life, in which it goes on counting where the last one was."""
        launcher = self._launcher
        life = launcher.brief.begins_again(self.name)
        return launcher.chronicle.slot_file(self.name, life, launcher.brief.daemons_of(self.name), daemons)

    def _slots_fd(self) -> int:
        assert self._slots is not None
        assert self._slots.fd is not None
        return self._slots.fd

    @property
    def _last_beat_ns(self) -> int:
        """When its loop turned last; 0 when it has not yet."""
        return 0 if self._slots is None else self._slots.heartbeat_ns

    def _note_end(self, exited: Exit) -> None:
        if not self._end_is_noted and self._process is not None:
            self._end_is_noted = True
            self._launcher.chronicle.ended(self.name, self._process.pid, exited)

    def _spawn(
        self, arguments: Sequence[str], *, bootstrap: bytes | None = None, keep_open: tuple[int, ...] = ()
    ) -> None:
        """A new process, whose output is read from its first moment on."""
        settings = self._launcher.brief.settings_of(self.name)
        logs = self._new_logs()
        try:
            process = self._launcher.processes.spawn(
                Command(
                    arguments=tuple(arguments),
                    environment=os.environ | dict(settings.env),
                    folder=settings.cwd,
                    nice=settings.nice,
                    bootstrap=bootstrap,
                    out=logs[0].fd,
                    err=logs[1].fd,
                    keep_open=keep_open,
                )
            )
        except BaseException:
            for log in logs:
                log.close()
            raise
        self._adopt(process, logs)

    def _new_logs(self) -> list[LogCapture]:
        launcher = self._launcher
        return [
            LogCapture(launcher.brief.log_file(f"{self.name}.{stream}"), partial(launcher.hear_line, self.name, stream))
            for stream in _STREAMS
        ]

    def _adopt(self, process: Process, logs: list[LogCapture]) -> None:
        """This is the process now, and it has its descriptors."""
        launcher = self._launcher
        self._process = process
        self._logs = logs
        for log in logs:
            log.handed_over()
        self._reading = launcher.read(logs)
        launcher.run.record(self.name, process.pid)
        self._end_is_noted = False
        launcher.chronicle.born(self.name, process.pid)
        launcher.roll.spawned(self.name, process.pid)
        launcher.present[self.name] = self

    async def _end_logs(self) -> None:
        if self._reading is not None:
            await self._reading.end()

    async def _end(self) -> None:
        """Whatever is left of it ends now."""
        self._launcher.present.pop(self.name, None)
        if self._process is not None:
            self._process.kill_group(signal.SIGKILL)
            self._note_end(await self._process.wait_group())
        await self._end_logs()
        if self._slots is not None:
            self._slots.handed_over()
            self._slots = None
        self._launcher.last_lines[self.name] = self.last_lines()
        self._launcher.run.forget(self.name)
        self._launcher.news.ring()
