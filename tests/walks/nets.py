"""Random nets of daemons in virtual time: what they are made of, and one run of them.

Whoever is made in processes of its own imports this, and nothing that only tests need.
"""

import logging
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import anyio
import anyio.lowlevel

from geartrain import (
    ChannelClosed,
    ChannelInUse,
    Context,
    EndOfStream,
    Policy,
    ReceiveStream,
    RestartPolicy,
    SendStream,
    SimClock,
    Supervisor,
    WouldBlock,
)
from geartrain.engine.in_turn import start_in_turn
from geartrain.engine.signal import Signal
from geartrain.engine.simulated import open_simulated
from geartrain.recipes import select

Verb = Literal[
    "send", "send_nowait", "send_in_time", "receive", "receive_nowait", "receive_in_time", "select", "select_in_time",
    "sleep", "every", "close", "fail", "children", "look", "drain_in_time", "hold",
]  # fmt: skip

# Hundreds of expected failures need no report.
quiet_log = logging.getLogger("geartrain.nets")
quiet_log.setLevel(logging.CRITICAL)

UNTIL_S = 20

# So often a daemon does its steps.
ROUNDS = 4


# -- nets -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edge:
    writer: int
    reader: int
    maxsize: int = 1
    policy: Policy = "block"


@dataclass(frozen=True)
class Step:
    verb: Verb
    which: int = 0
    time: int = 0


@dataclass(frozen=True)
class Net:
    edges: Sequence[Edge]
    daemons: Sequence[Sequence[Step]]


@dataclass(frozen=True)
class Outcome:
    """What each daemon saw, and what went over each channel."""

    diaries: dict[str, tuple[Any, ...]]
    records: tuple[Any, ...]

    @property
    def digest(self) -> str:
        return sha256(repr((sorted(self.diaries.items()), self.records)).encode()).hexdigest()


class Life:
    """One daemon: its ends, how far it is, and what it saw. A new life goes on after what the last one failed at."""

    def __init__(self, name: str, steps: Sequence[Step], clock: SimClock) -> None:
        self.name = name
        self.steps = steps
        self.clock = clock
        self.at = 0
        self.ins: list[ReceiveStream[Any]] = []
        self.outs: list[SendStream[Any]] = []
        self.diary: list[tuple[Any, ...]] = []

    def note(self, *what: object) -> None:
        self.diary.append((*self.clock.instant, *what))

    def new_item(self) -> list[Any]:
        """Whoever gets it gets a word of all that was seen here."""
        return [self.name, len(self.diary), zlib.crc32(repr(self.diary).encode())]

    async def run(self, ctx: Context) -> None:
        while self.at < ROUNDS * len(self.steps):
            step = self.steps[self.at % len(self.steps)]
            self.at += 1
            outcome: object
            try:
                outcome = await self.take(ctx, step)
            except (ChannelClosed, ChannelInUse, EndOfStream, WouldBlock) as refusal:
                outcome = type(refusal).__name__
            self.note(step.verb, outcome)

    async def take(self, ctx: Context, step: Step) -> object:
        inp = self.ins[step.which % len(self.ins)] if self.ins else None
        out = self.outs[step.which % len(self.outs)] if self.outs else None
        match step.verb:
            case "send" if out is not None:
                await out.send(self.new_item())
            case "send_nowait" if out is not None:
                out.send_nowait(self.new_item())
            case "send_in_time" if out is not None:
                with ctx.clock.move_on_after(step.time) as scope:
                    await out.send(self.new_item())
                    return "sent"
                return scope.cancelled_caught
            case "receive" if inp is not None:
                return await inp.receive()
            case "receive_nowait" if inp is not None:
                return inp.receive_nowait()
            case "receive_in_time" if inp is not None:
                with ctx.clock.move_on_after(step.time):
                    return await inp.receive()
            case "select" if inp is not None:
                return await self.select(step)
            case "select_in_time" if inp is not None:
                with ctx.clock.move_on_after(step.time):
                    return await self.select(step)
            case "sleep":
                await ctx.clock.sleep(step.time)
            case "every":
                async for tick in ctx.clock.every(1 + step.time, first="now"):
                    if tick >= 3:
                        return tick
            case "close":
                for end in (out, inp)[step.time % 2 :][:1]:
                    if end is not None:
                        await end.aclose()
            case "fail":
                self.note("fails")
                raise RuntimeError(self.name)
            case "children":
                await self.bring_up(ctx, step, inp, out)
            case "look":
                return [str(end.statistics()) for end in self.ins], [str(end.statistics()) for end in self.outs]
            case "drain_in_time" if out is not None:
                with ctx.clock.move_on_after(step.time):
                    await out.drain()
                    return "drained"
            case "hold":
                async with ctx.clock.hold():
                    await anyio.lowlevel.checkpoint()
        return None

    async def select(self, step: Step) -> tuple[str, Any]:
        turned = [self.ins[(n + step.which) % len(self.ins)] for n in range(len(self.ins))]
        index, item = await select(*turned)
        return repr(turned[index]), item

    async def bring_up(
        self, ctx: Context, step: Step, inp: ReceiveStream[Any] | None, out: SendStream[Any] | None
    ) -> None:
        told = Signal()

        async def child(number: int) -> None:
            try:
                if number != step.which:
                    await told.wait()
                self.note("child", number)
                if number == 1 and out is not None:
                    await out.send(self.new_item())
                elif number == 2 and inp is not None:
                    self.note("child took", await inp.receive())
                await ctx.clock.sleep(step.time if number % 2 else 0)
            except (ChannelClosed, ChannelInUse, EndOfStream) as refusal:
                self.note("child refused", type(refusal).__name__)
            finally:
                self.note("child leaves", number)

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                start_in_turn(tasks, child, number)
            await ctx.clock.sleep(step.time)
            told.set()
            await ctx.clock.sleep(step.which)
            tasks.cancel_scope.cancel()


def run_of(net: Net, clock: SimClock, order: Sequence[int] | None = None) -> Callable[[], Awaitable[Outcome]]:
    """The run of a net, with its daemons declared in some order."""

    async def run() -> Outcome:
        records: list[tuple[Any, ...]] = []
        lives = [Life(f"d{number}", steps, clock) for number, steps in enumerate(net.daemons)]
        for number, edge in enumerate(net.edges):
            channel = open_simulated(
                f"c{number}", edge.maxsize, policy=edge.policy, record=lambda *record: records.append(record)
            )
            lives[edge.writer].outs.append(channel.send)
            lives[edge.reader].ins.append(channel.recv)
        restart = RestartPolicy(1)
        async with Supervisor(clock=clock, on_error="restart", restart=restart, logger=quiet_log) as sup:
            for number in order or range(len(lives)):
                sup.spawn(lives[number].run, name=lives[number].name)
            await clock.advance(UNTIL_S)
            outcome = Outcome({life.name: tuple(life.diary) for life in lives}, tuple(sorted(records)))
            await sup.stop(grace=0)
        return outcome

    return run
