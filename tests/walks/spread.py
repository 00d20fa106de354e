"""Nets whose daemons live in several processes: the part of one of them, and what becomes of all parts together."""

import os
import signal
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from geartrain import Context, Deadlock, Livelock, RestartPolicy, SimClock, Supervisor
from geartrain.engine.simulated import open_simulated
from geartrain.engine.simulated_node import Outpost
from tests.walks.nets import Life, Net, quiet_log

# Each net has its own stretch of time, in which it begins at microstep 0, wherever the one before has ended.
STRETCH_S = 100
UNTIL_S = 20

Seen = list[tuple[list[Any], list[Any]]]


async def part(outpost: Outpost, nets: Sequence[Any], where: Sequence[str]) -> Seen:
    """The daemons of the nets that live in this process: what they saw, and what was read here."""
    return [await _one(outpost.clock, outpost, msgspec.convert(net, Net), number, where)
            for number, net in enumerate(nets)]  # fmt: skip


async def whole(clock: SimClock, nets: Sequence[Net]) -> Seen:
    """The same nets in one process that asks nobody."""
    return [await _one(clock, None, net, number, [""] * len(net.daemons)) for number, net in enumerate(nets)]


async def _one(clock: SimClock, outpost: Outpost | None, net: Net, number: int, where: Sequence[str]) -> Any:
    here = "" if outpost is None else outpost.process
    await clock.advance_to(number * STRETCH_S)
    records: list[Any] = []
    lives = {
        index: Life(f"d{index}", steps, clock) for index, steps in enumerate(net.daemons) if _at(where, index) == here
    }

    def record(*taken: Any) -> None:
        records.append(taken)
        if outpost is not None:
            outpost.record(*taken)

    for index, edge in enumerate(net.edges):
        name, writer, reader = f"n{number}c{index}", lives.get(edge.writer), lives.get(edge.reader)
        if writer is not None and reader is not None:
            both = open_simulated(name, edge.maxsize, policy=edge.policy, record=record)
            writer.outs.append(both.send)
            reader.ins.append(both.recv)
        elif writer is not None:
            assert outpost is not None
            writer.outs.append(
                outpost.writing_end(
                    name, edge.maxsize, reader=f"d{edge.reader}", process=_at(where, edge.reader), policy=edge.policy
                )
            )
        elif reader is not None:
            assert outpost is not None
            reader.ins.append(
                outpost.reading_end(
                    name,
                    edge.maxsize,
                    writer=f"d{edge.writer}",
                    process=_at(where, edge.writer),
                    policy=edge.policy,
                    record=record,
                )
            )
    async with Supervisor(clock=clock, on_error="restart", restart=RestartPolicy(1), logger=quiet_log) as sup:
        for life in lives.values():
            sup.spawn(life.run, name=life.name)
        await clock.advance(UNTIL_S)
        seen = [[life.name, list(life.diary)] for life in lives.values()]
        so_far = list(records)
        await sup.stop(grace=0)
    return seen, so_far


def _at(where: Sequence[str], index: int) -> str:
    return where[index % len(where)]


def together(parts: Sequence[Seen]) -> list[str]:
    """For each net the hash of all that was seen anywhere."""
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(parts))
    return [_hash(its) for its in zip(*plain, strict=True)]


def _hash(parts: Sequence[tuple[Any, Any]]) -> str:
    diaries = sorted(diary for seen, _ in parts for diary in seen)
    records = sorted(record for _, its in parts for record in its)
    return sha256(repr((diaries, records)).encode()).hexdigest()


# -- what goes wrong -------------------------------------------------------------------------------------------------


async def one_is_killed(outpost: Outpost, _: str) -> list[Any]:
    """`a` sends to `b` each second and is killed at 3 s; `c` only lets time pass."""
    clock, seen = outpost.clock, []

    async def writes(ctx: Context) -> None:
        out = outpost.writing_end("ab", 4, reader="b", process="b")
        for number in range(9):
            await out.send(number)
            if number == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            await ctx.clock.sleep(1)

    async def reads(ctx: Context) -> None:
        inp = outpost.reading_end("ab", 4, writer="a", process="a")
        async for number in inp:
            seen.append([*clock.instant, number])
        seen.append([*clock.instant, "end"])

    async def lives_on(ctx: Context) -> None:
        for _ in range(6):
            await ctx.clock.sleep(1)
            seen.append([*clock.instant, "lives"])

    bodies = {"a": writes, "b": reads, "c": lives_on}
    async with Supervisor(clock=clock) as sup:
        sup.spawn(bodies[outpost.process], name=outpost.process)
        await clock.advance(10)
    return seen


async def each_waits_for_the_other(outpost: Outpost, _: str) -> list[Any]:
    """Of two daemons each reads before it writes. A third waits for its stop."""
    clock, me = outpost.clock, outpost.process
    other = {"a": "b", "b": "a", "c": ""}[me]

    async def reads_first(ctx: Context) -> None:
        if not other:
            await ctx.stop_event.wait()
            return
        inp = outpost.reading_end(f"{other}{me}", 1, writer=other, process=other)
        out = outpost.writing_end(f"{me}{other}", 1, reader=other, process=other)
        await out.send(await inp.receive())

    async with Supervisor(clock=clock) as sup:
        sup.spawn(reads_first, name=me)
        try:
            await clock.run()
        except Deadlock as deadlock:
            return [str(deadlock)]
        finally:
            await sup.stop(grace=0)
    return []


async def none_sleeps(outpost: Outpost, _: str) -> list[Any]:
    """Two daemons throw a ball, and neither lets time pass."""
    clock, me = outpost.clock, outpost.process
    other = {"a": "b", "b": "a"}[me]

    async def plays(ctx: Context) -> None:
        inp = outpost.reading_end(f"{other}{me}", 1, writer=other, process=other)
        out = outpost.writing_end(f"{me}{other}", 1, reader=other, process=other)
        if me == "a":
            await out.send(0)
        while True:
            await out.send(await inp.receive())

    async with Supervisor(clock=clock) as sup:
        sup.spawn(plays, name=me)
        try:
            await clock.advance(1)
        except Livelock as livelock:
            return [str(livelock), *livelock.awake]
        finally:
            await sup.stop(grace=0)
    return []


async def one_is_never_quiet(outpost: Outpost, _: str) -> None:
    if outpost.process == "a":
        while True:
            never_quiet()
    await outpost.clock.advance(1)


def never_quiet() -> None: ...


async def one_fails(outpost: Outpost, _: str) -> str:
    await outpost.clock.advance(1)
    if outpost.process == "a":
        raise RuntimeError("on purpose")
    await outpost.clock.advance(1)
    return "went on"


async def digested(outpost: Outpost, net: Any, where: Sequence[str]) -> dict[str, bytes]:
    """The hash of each channel that is read in this process."""
    await part(outpost, [net], where)
    return outpost.digest.channels()
