"""The observer of a run: looks at what all processes write down, again and again, and says what is wrong.

    slot files of the run  ->  RunMemory.look  ->  Lookout.look  ->  its log, faults.jsonl, and whoever shows it

It lives in a process of its own and asks nobody, so that it disturbs nobody and sees also what is dead, stopped or
hangs. Nobody waits for it. When it dies itself it is started again, and goes on from what it has written down.
"""

import time
from datetime import timedelta

import anyio

from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.in_turn import start_in_turn
from geartrain.errors import BadValue
from geartrain.ports.fault_log import FaultLog, faults_in
from geartrain.ports.run_memory import RunMemory
from geartrain.rules.faults import Change, Debounce, FaultKey, Severity
from geartrain.rules.health import Limits
from geartrain.rules.lookout import Lookout, Moment

_LEAST = timedelta(milliseconds=10)


class ExecutorObserver(Daemon):
    """Looks every `poll`. A fault is confirmed by so many looks in a row, and healed by so many.

    `hang` is how long a body may run or an item may be in hand, `heartbeat` how long a loop may not have turned,
    `blocked` how long a writer may wait while nothing is taken, and `deadlock` how long daemons may wait in a circle.
    """

    def __init__(
        self,
        memory: RunMemory,
        poll: timedelta = timedelta(milliseconds=200),
        hang: timedelta = timedelta(seconds=2),
        heartbeat: timedelta = timedelta(seconds=1),
        blocked: timedelta = timedelta(seconds=5),
        deadlock: timedelta = timedelta(seconds=2),
        confirm: int = 1,
        heal: int = 3,
    ) -> None:
        lengths = {"poll": poll, "hang": hang, "heartbeat": heartbeat, "blocked": blocked, "deadlock": deadlock}
        for name, length in lengths.items():
            if length < _LEAST:
                raise BadValue(f"{name} of an observer is {length.total_seconds():g} s; it must be 10 ms at least")
        for name, looks in (("confirm", confirm), ("heal", heal)):
            if looks < 1:
                raise BadValue(f"{name} of an observer is {looks} looks; it must be 1 at least")
        self.memory = memory
        self.poll_s = poll.total_seconds()
        # How long the last look took.
        self.look_s = 0.0
        self._lookout = Lookout(
            memory.about.spec,
            Limits(hang_ns=_ns(hang), heartbeat_ns=_ns(heartbeat), blocked_ns=_ns(blocked), deadlock_ns=_ns(deadlock)),
            Debounce(confirm=confirm, heal=heal),
        )
        for change in faults_in(memory.state):
            self._lookout.go_on_from(change)
        # Opened when it runs: of a start that failed nobody would close it.
        self._log: FaultLog | None = None
        self._moment: Moment | None = None

    @property
    def moment(self) -> Moment | None:
        """What the last look has shown; None before the first."""
        return self._moment

    async def run(self, ctx: Context) -> None:
        self._log = FaultLog(self.memory.state)
        async with anyio.create_task_group() as tasks:
            start_in_turn(tasks, self._look_again_and_again, ctx)
            await ctx.stop_event.wait()
            tasks.cancel_scope.cancel()
        # How the others have ended.
        self._look(ctx)

    async def _look_again_and_again(self, ctx: Context) -> None:
        self._look(ctx)
        async for _ in ctx.clock.every(self.poll_s):
            self._look(ctx)

    async def on_stop(self, ctx: Context) -> None:
        if self._log is not None:
            self._log.close()
        self.memory.close()

    def seen(self, moment: Moment, changes: tuple[Change, ...]) -> None:
        """For whoever shows it: called after every look, and must not wait."""

    def clear(self, key: FaultKey) -> bool:
        """Somebody has seen to this fault. It comes back when it happens again; False: there is none."""
        change = self._lookout.clear(key)
        if change is not None:
            self._write(change)
        return change is not None

    def _write(self, change: Change) -> None:
        assert self._log is not None
        self._log.write(change)

    def _look(self, ctx: Context) -> None:
        begun_ns = time.monotonic_ns()
        self._moment, changes = self._lookout.look(self.memory.look())
        for change in changes:
            self._write(change)
            _tell(ctx, change)
        self.look_s = (time.monotonic_ns() - begun_ns) / 1e9
        self.seen(self._moment, changes)


def _tell(ctx: Context, change: Change) -> None:
    fault = change.fault
    kind = "process" if fault.key.code.is_of_process else "daemon"
    tell = ctx.logger.info if fault.status.is_over or fault.severity < Severity.WARN else ctx.logger.warning
    tell("%s of %s %r is %s: %s", fault.key.code, kind, fault.key.entity, fault.status.lower(), fault.said)


def _ns(length: timedelta) -> int:
    return round(length.total_seconds() * 1e9)
