"""One process of a figure about simulations of whole pipelines, with microsteps.

    python simulations.py sleepers asyncio 1.0     wake-ups per second of 100 daemons that sleep
    python simulations.py chain trio 1.0           items handed on per second in a chain of 40, each channel of 8
    python simulations.py meetings trio 1.0        the same over rendezvous
    python simulations.py ring asyncio 1.0         items handed on per second in a ring of 100, each channel of 8
    python simulations.py control asyncio 1.0      how many times real time the control example runs

A run is repeated until the time is over; the best counts, for nothing makes a simulation faster than it is.
"""

import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from geartrain import Context, Pipeline, ReceiveStream, SendStream, SimTime, daemon, run

Loop = Literal["asyncio", "trio"]

SLEEPERS = 100
SLEEPS = 500
STAGES = 40
MEMBERS = 100


@daemon
async def sleeper(ctx: Context) -> None:
    for _ in range(SLEEPS):
        await ctx.clock.sleep(1)


@daemon
async def source(ctx: Context, out: SendStream[int], items: int) -> None:
    for number in range(items):
        await out.send(number)


@daemon
async def stage(ctx: Context, inp: ReceiveStream[int], out: SendStream[int]) -> None:
    async for number in inp:
        await out.send(number)


@daemon
async def sink(ctx: Context, inp: ReceiveStream[int]) -> None:
    async for _ in inp:
        pass


@daemon
async def member(ctx: Context, inp: ReceiveStream[int], out: SendStream[int], first: bool, rounds: int) -> None:
    if first:
        for number in range(4):
            await out.send(number)
    for turn in range(4 * rounds):
        number = await inp.receive()
        # The first one keeps what has been all the way round for the last time.
        if not first or turn < 4 * (rounds - 1):
            await out.send(number)


def sleepers(loop: Loop) -> tuple[Pipeline, SimTime, int]:
    p = Pipeline("sleepers", loop)
    for number in range(SLEEPERS):
        p.add(sleeper, name=f"s{number}")
    return p, SimTime(), SLEEPERS * SLEEPS


def chain(loop: Loop, maxsize: int = 8, items: int = 1000) -> tuple[Pipeline, SimTime, int]:
    p = Pipeline("chain", loop)
    p.add(source, name="source", config={"items": items})
    names = [f"stage{number}" for number in range(STAGES - 2)]
    for name in names:
        p.add(stage, name=name)
    p.add(sink, name="sink")
    for before, after in zip(["source", *names], [*names, "sink"], strict=True):
        p.connect(f"{before}.out", f"{after}.inp", maxsize=maxsize, name=f"to-{after}")
    return p, SimTime(), items * (STAGES - 1)


def ring(loop: Loop) -> tuple[Pipeline, SimTime, int]:
    p = Pipeline("ring", loop)
    for number in range(MEMBERS):
        p.add(member, name=f"m{number}", config={"first": number == 0, "rounds": 100})
    for number in range(MEMBERS):
        keep: Any = "taken" if number == 0 else "stable"
        to = f"m{(number + 1) % MEMBERS}"
        p.connect(f"m{number}.out", f"{to}.inp", maxsize=8, keep=keep, name=f"to-{to}")
    return p, SimTime(), 0


def control(loop: Loop) -> tuple[Pipeline, SimTime, int]:
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
    from control import pipeline

    return pipeline(loop, 60, Path(tempfile.mkdtemp()) / "record"), SimTime(), 60


SHAPES: dict[str, Callable[[Loop], tuple[Pipeline, SimTime, int]]] = {
    "sleepers": sleepers,
    "chain": chain,
    "meetings": lambda loop: chain(loop, maxsize=0),
    "ring": ring,
    "control": control,
}


def best(shape: str, loop: Loop, seconds: float) -> float:
    over_s = time.perf_counter() + seconds
    found = 0.0
    while found == 0 or time.perf_counter() < over_s:
        pipeline, sim, much = SHAPES[shape](loop)
        began_s = time.perf_counter()
        done = run(pipeline, clock=sim)
        found = max(found, (much or done.taken) / (time.perf_counter() - began_s))
    return found


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    chosen: Any = sys.argv[2]
    print(best(sys.argv[1], chosen, float(sys.argv[3])))
