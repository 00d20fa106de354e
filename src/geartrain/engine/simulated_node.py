"""A process among many in virtual time. It does its part, and where one process would let time pass, it asks.

    python -m geartrain.engine.simulated_node LINE STACKS

    Outpost    its clock, and the ends of channels whose other ends are in other processes
    Across     what such an end says is put by, and goes along with the next report

At the other end of its line is engine/simulated_many.py. It asks from within its loop, where that would sleep, and
blocks there: there is nothing it could do before the answer.
"""

import os
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

from geartrain.engine.channel import checked_maxsize
from geartrain.engine.ends import Channel, ReceiveStream, SendStream
from geartrain.engine.simulate import simulate
from geartrain.engine.simulated import (
    Half,
    ReadingHalf,
    Record,
    SimulatedReceive,
    SimulatedSend,
    WritingHalf,
    open_simulated,
)
from geartrain.ports.clock import SimClock, waits_of
from geartrain.ports.line import Line
from geartrain.ports.linux import die_with_parent
from geartrain.ports.stacks import show_stacks
from geartrain.ports.turns import Turns
from geartrain.rules.barrier import Report
from geartrain.rules.deadlock import Waiting
from geartrain.rules.effects import BACKWARD, FORWARD, Closed, Effect, End
from geartrain.rules.granted import Granted, GrantedMicrosteps
from geartrain.rules.grants import Brief, Failed, Last, Quiet, brief_of, effects_of, encode, grant_of
from geartrain.rules.microsteps import LIMIT, Microsteps
from geartrain.rules.pipeline import Ack, Policy
from geartrain.rules.trace import Digest, Taken

# After all that an end has said itself.
_AT_LAST = 2**62


class GrantedClock(SimClock):
    """A clock whose time passes as it is granted."""

    def __init__(self, outpost: "Outpost", seed: int = 0, limit: int = LIMIT) -> None:
        self._outpost = outpost
        super().__init__(seed=seed, microsteps=True, livelock_after=limit)

    def _new_microsteps(self, limit: int) -> Microsteps:
        self.granted = GrantedMicrosteps(self._timeline, self._outpost, limit)
        return self.granted

    @property
    def is_idle(self) -> bool:
        """Whether nothing was due in any process when time was last let pass up to here."""
        return self.granted.is_idle

    def _in_vain(self, turns: Turns) -> tuple[Waiting, ...]:
        return self.granted.in_vain


class Across:
    """The other half is in another process."""

    def __init__(self, granted: GrantedMicrosteps, process: str) -> None:
        self._granted = granted
        self._process = process

    def post(self, effect: Effect) -> None:
        self._granted.post_to(self._process, effect)

    @property
    def instant(self) -> tuple[int, int]:
        return self._granted.timeline.now_ns, self._granted.k


class Nowhere:
    """Both halves are elsewhere, or this one is: nobody here ever speaks through it."""

    instant = (0, 0)

    def post(self, effect: Effect) -> None:
        raise AssertionError(f"said here, where nobody has that end: {effect}")


class Far:
    """A daemon in another process."""

    finished = False

    def __init__(self, name: str) -> None:
        self.name = name


class FarEnd:
    """What is known here of the other end: who uses it."""

    def __init__(self, daemon: str) -> None:
        self.users = (Far(daemon),)


class Outpost:
    """What a process has of the others."""

    def __init__(self, brief: Brief, line: Line) -> None:
        self.process = brief.process
        self.digest = Digest()
        self._line = line
        self._ends: dict[str, list[Half]] = {}
        self._far: set[str] = set()
        # In which process each daemon is, and who else wants to know of one that has gone.
        self.where: Mapping[str, str] = {}
        self.on_gone: Callable[[str], None] = _nobody_asks
        # Which of its daemons have not ended; whoever has them says so here.
        self.living: Callable[[], Iterable[str]] = tuple
        self.clock = GrantedClock(self, brief.seed, brief.limit)

    # -- ends ------------------------------------------------------------------------------------------------------

    def writing_end(
        self, name: str, maxsize: float = 0, *, reader: str, process: str, policy: Policy = "block"
    ) -> SendStream[Any]:
        """The writing end of a channel that this daemon, in that process, reads."""
        half = WritingHalf(name, checked_maxsize(maxsize, policy), policy, self._across(process))
        self._listen(half, BACKWARD, process)
        end: SimulatedSend[Any] = SimulatedSend(half)
        end.peer = self._far_end(reader)
        return end

    def reading_end(
        self,
        name: str,
        maxsize: float = 0,
        *,
        writer: str,
        process: str,
        policy: Policy = "block",
        ack: Ack = "batch",
        item_type: Any = Any,
        record: Record | None = None,
    ) -> ReceiveStream[Any]:
        """The reading end of a channel that this daemon, in that process, writes."""
        across = self._across(process)
        half = ReadingHalf(name, checked_maxsize(maxsize, policy), policy, ack, across, record or self.record)
        self._listen(half, FORWARD, process)
        end: SimulatedReceive[Any] = SimulatedReceive(half, item_type)
        end.peer = self._far_end(writer)
        return end

    def open(
        self,
        name: str,
        maxsize: float = 0,
        *,
        writer: str,
        reader: str,
        policy: Policy = "block",
        ack: Ack = "batch",
        item_type: Any = Any,
        record: Record | None = None,
    ) -> Channel[Any]:
        """Both ends; of one that a daemon elsewhere has, only what it is."""
        from_process, to_process = self.where[writer], self.where[reader]
        if from_process == to_process == self.process:
            return open_simulated(
                name, maxsize, policy=policy, ack=ack, item_type=item_type, record=record or self.record
            )
        size = checked_maxsize(maxsize, policy)
        send: SendStream[Any] = SimulatedSend(WritingHalf(name, size, policy, Nowhere()))
        recv: ReceiveStream[Any] = SimulatedReceive(ReadingHalf(name, size, policy, ack, Nowhere(), None), item_type)
        if from_process == self.process:
            send = self.writing_end(name, maxsize, reader=reader, process=to_process, policy=policy)
        elif to_process == self.process:
            recv = self.reading_end(
                name,
                maxsize,
                writer=writer,
                process=from_process,
                policy=policy,
                ack=ack,
                item_type=item_type,
                record=record,
            )
        return Channel(send, recv)

    def record(self, channel: str, t_ns: int, k: int, number: int, payload: bytes) -> None:
        """What is read here belongs to the digest of the run."""
        self.digest.note(Taken(t_ns, k, channel, number, payload))

    def _far_end(self, daemon: str) -> Any:
        self._far.add(daemon)
        return FarEnd(daemon)

    def _across(self, process: str) -> Across:
        return Across(self.clock.granted, process)

    def _listen(self, half: WritingHalf | ReadingHalf, direction: int, process: str) -> None:
        self.clock.granted.listen(half.name, direction, half.hear)
        self._ends.setdefault(process, []).append(half)

    # -- where it asks -----------------------------------------------------------------------------------------------

    def ask(self, report: Report, said: dict[str, list[Effect]]) -> Granted:
        self._line.send(encode(Quiet(report, frames_of(said))))
        answer = self._line.receive()
        if answer is None:
            # Nobody knows the time any more, and nobody would hear why this process ends.
            os._exit(1)
        grant = grant_of(answer)
        return Granted(grant.order, [effect for frame in grant.heard for effect in effects_of(frame)], grant.gone)

    def waits(self) -> tuple[Sequence[Waiting], Sequence[str]]:
        """Who lives here and does not wait is busy outside, as far as a wait here names it or `living` does."""
        _, turns = self.clock.take_part()
        waits = waits_of(turns)
        named = {helper for wait in waits for helper in wait.helpers or ()}
        return waits, sorted({wait.who for wait in waits} | (named - self._far) | set(self.living()))

    def has_gone(self, process: str) -> None:
        self.on_gone(process)
        for half in self._ends.get(process, ()):
            if isinstance(half, ReadingHalf):
                self.clock.granted.post(Effect(half.name, FORWARD, _AT_LAST, End()), half.hear)
            elif isinstance(half, WritingHalf):
                self.clock.granted.post(Effect(half.name, BACKWARD, _AT_LAST, Closed()), half.hear)

    def last_words(self, result: object) -> Last:
        report, said = self.clock.granted.last_words()
        return Last(report, frames_of(said), result)


def _nobody_asks(_process: str) -> None: ...


def frames_of(said: dict[str, list[Effect]]) -> dict[str, bytes]:
    return {process: encode(effects) for process, effects in said.items()}


def main(arguments: Sequence[str]) -> None:
    die_with_parent(signal.SIGKILL)
    show_stacks(Path(arguments[1]))
    line = Line(socket.socket(fileno=int(arguments[0])))
    order = line.receive()
    if order is None:
        return
    brief = brief_of(order)
    sys.path[:] = brief.path
    outpost = Outpost(brief, line)
    try:
        backend = cast(Literal["asyncio", "trio"], brief.backend)
        result = simulate(_found(brief.main), outpost, *brief.arguments, backend=backend)
        line.send(encode(outpost.last_words(result)))
    except Exception as error:
        line.send(encode(Failed(type(error).__name__, str(error), traceback.format_exc())))
        sys.exit(1)


def _found(main: str) -> Callable[..., Awaitable[Any]]:
    module, _, name = main.partition(":")
    found: Callable[..., Awaitable[Any]] = getattr(import_module(module), name)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
