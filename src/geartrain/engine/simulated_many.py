"""Many processes in virtual time, from the one that knows what time it is.

    simulate_in_many(briefs)     starts them, grants them time until all have ended, and says what became of each
        Authority                one thread: hear a report, ask the barrier, send what it says

It blocks on the lines of the processes, in a thread of its own: an event loop in between would cost more than all the
rest of a microstep.
"""

import os
import selectors
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import anyio.to_thread
from msgspec import Struct

from geartrain.engine.sim_time import STALL_AFTER_S
from geartrain.errors import ProcessFailed
from geartrain.ports.line import Line, pair
from geartrain.ports.process import Command, Process, Processes, RealProcesses
from geartrain.ports.stacks import Stacks
from geartrain.rules.barrier import Barrier, Go, Orders
from geartrain.rules.grants import Brief, Failed, Grant, Quiet, encode, word_of
from geartrain.rules.microsteps import LIMIT

# A process that has said its last is left so much time to end by itself.
_GRACE_S = 2.0


class Became(Struct, frozen=True):
    """What became of a process: what it returned, or the name of an error and what it says."""

    result: Any = None
    kind: str = ""
    error: str | None = None
    trace: str = ""
    was_killed: bool = False


async def simulate_in_many(
    briefs: Sequence[Brief],
    *,
    stall_after_s: float = STALL_AFTER_S,
    one_fails_all: bool = False,
    processes: Processes | None = None,
) -> Mapping[str, Became]:
    """Run each in a process of its own, all in one virtual time, until all have ended.

    One that is killed leaves the others, and time goes on; so it does when one fails, unless `one_fails_all`: then all
    are ended. `ProcessFailed` names who does not become quiet, with its stack.
    """
    starter = RealProcesses() if processes is None else processes
    with TemporaryDirectory(prefix="geartrain-") as folder:
        lines: dict[str, Line] = {}
        children: dict[str, Process] = {}
        authority: Authority | None = None
        try:
            for number, brief in enumerate(briefs):
                stacks = Path(folder) / str(number)
                lines[brief.process], children[brief.process] = _start(starter, brief, stacks)
            authority = Authority(
                lines, stall_after_s, briefs[0].limit if briefs else LIMIT, one_fails_all=one_fails_all
            )
            restless = await anyio.to_thread.run_sync(authority.run, abandon_on_cancel=True)
            if restless:
                raise await _restless(restless, children, [brief.process for brief in briefs], folder, stall_after_s)
            return authority.became
        finally:
            with anyio.CancelScope(shield=True):
                await _end(children)
            # With an authority they are those of its thread, which closes them when it ends.
            for line in () if authority is not None else lines.values():
                line.close()


def _start(starter: Processes, brief: Brief, stacks: Path) -> tuple[Line, Process]:
    line, theirs = pair()
    with theirs:
        arguments = ("-m", "geartrain.engine.simulated_node", str(theirs.fileno()), str(stacks))
        command = Command((sys.executable, *arguments), environment=os.environ, keep_open=(theirs.fileno(),))
        child = starter.spawn(command)
    line.send(encode(brief))
    return line, child


async def _restless(
    who: frozenset[str], children: Mapping[str, Process], order: Sequence[str], folder: str, stall_after_s: float
) -> ProcessFailed:
    said = []
    for process in sorted(who):
        try:
            stack = await Stacks(Path(folder) / str(order.index(process))).ask(children[process])
        except ProcessFailed as error:
            stack = str(error)
        said.append(f"process {process!r} has not become quiet within {stall_after_s:g} s of real time:\n{stack}")
    return ProcessFailed("\n".join(said))


async def _end(children: Mapping[str, Process]) -> None:
    with anyio.move_on_after(_GRACE_S):
        for child in children.values():
            await child.wait()
    for child in children.values():
        child.kill_group(signal.SIGKILL)
    for child in children.values():
        await child.wait_group()


class Authority:
    """Grants time to the processes at the other ends of these lines."""

    def __init__(
        self, lines: Mapping[str, Line], stall_after_s: float, limit: int = LIMIT, *, one_fails_all: bool = False
    ) -> None:
        self._one_fails_all = one_fails_all
        self.became: dict[str, Became] = {}
        self.grants = 0
        self._lines = lines
        self._stall_after_s = stall_after_s
        self._barrier = Barrier(lines, limit=limit)
        # What was said to whom, by whom, to be heard in the next microstep.
        self._frames: dict[tuple[str, str], bytes] = {}

    def run(self) -> frozenset[str]:
        """Until all have ended. The answer is who has not become quiet in time."""
        try:
            return self._until_all_have_ended()
        finally:
            for line in self._lines.values():
                line.close()

    def _until_all_have_ended(self) -> frozenset[str]:
        with selectors.DefaultSelector() as selector:
            for process, line in self._lines.items():
                selector.register(line, selectors.EVENT_READ, process)
            while self._barrier.living and not self._is_over:
                events = selector.select(self._stall_after_s)
                if not events:
                    return self._barrier.acting
                for key, _ in events:
                    self._carry_out(self._hear(key.data))
                    if key.data not in self._barrier.living:
                        selector.unregister(key.fileobj)
        return frozenset()

    @property
    def _is_over(self) -> bool:
        return self._one_fails_all and any(its.error is not None for its in self.became.values())

    def _hear(self, process: str) -> Orders:
        message = self._lines[process].receive()
        if message is None:
            self.became[process] = Became(was_killed=True)
            return self._barrier.leave(process)
        word = word_of(message)
        if isinstance(word, Failed):
            self.became[process] = Became(kind=word.kind, error=word.error, trace=word.trace)
            return self._barrier.leave(process)
        for other, frame in word.said.items():
            self._frames[other, process] = frame
        if isinstance(word, Quiet):
            return self._barrier.report(process, word.report)
        self.became[process] = Became(word.result)
        return self._barrier.leave(process, word.report)

    def _carry_out(self, orders: Orders) -> None:
        for process, order in orders.items():
            self.grants += 1
            others = order.heard if isinstance(order, Go) else ()
            heard = tuple(self._frames.pop((process, other)) for other in others if (process, other) in self._frames)
            gone = tuple(other for other in others if other not in self._barrier.living and self._was_torn_away(other))
            self._lines[process].send(encode(Grant(order, heard, gone)))

    def _was_torn_away(self, process: str) -> bool:
        became = self.became[process]
        return became.was_killed or became.error is not None
