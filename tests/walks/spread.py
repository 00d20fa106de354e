"""Nets whose daemons live in several processes: the part of one of them, and what becomes of all parts together."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from geartrain import RestartPolicy, SimClock, Supervisor
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
