"""Two arms share a work cell. One of them is frozen while it has the cell, and can do no harm when it wakes up.

    arm a --moves--> cell     holds "workcell/left", sends a move, and is frozen with the move still in its hands
    arm b --moves--> cell     gets the cell when the lease of a has run out, moves, and wakes up a

Both channels are `fenced` by the region: the token of the lease goes along with each move. What a had under way comes
to the cell after b has moved, with a lower token, and is refused before the cell sees it. And a itself, when it wakes
up and goes on as if nothing had been, is told so by `send`.

    work_cell.py                 a few seconds, in processes of their own
    work_cell.py --loop trio
"""

import argparse
import logging
import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Literal

from msgspec import Struct

from geartrain import Context, Fenced, LeaseLost, Leases, Pipeline, ReceiveStream, SendStream, daemon, run
from geartrain.errors import EndOfStream
from geartrain.recipes import select

Loop = Literal["asyncio", "trio"]

REGION = "workcell/left"
TTL_S = 0.5


class Move(Struct):
    """What an arm wants done, and by which process."""

    arm: str
    what: str
    process: int


def say(story: Path, line: str) -> None:
    with story.open("a") as file:
        file.write(f"{line}\n")


# -- the daemons ------------------------------------------------------------------------------------------------------


@daemon
async def arm_a(ctx: Context, leases: Leases, moves: SendStream[Move], story: Path) -> None:
    """Is frozen as a machine freezes: between one statement and the next."""
    here = os.getpid()
    try:
        async with leases.hold(REGION, ttl=TTL_S, label="a") as lease:
            await moves.send(Move("a", "lifts a door", here))
            await moves.drain()
            # This one leaves the process when its loop goes round: not before the freeze.
            await moves.send(Move("a", "lets the door go", here))
            say(story, f"a  has token {lease.token}, and is frozen with a move under way")
            os.kill(here, signal.SIGSTOP)
            say(story, "a  wakes up, and goes on")
            try:
                await moves.send(Move("a", "closes its hand", here))
            except Fenced:
                say(story, "a  is not let send: its time is over")
            await ctx.clock.sleep(60)
    except LeaseLost:
        say(story, "a  is out of the cell")


@daemon
async def arm_b(ctx: Context, leases: Leases, moves: SendStream[Move], frozen: ReceiveStream[int], story: Path) -> None:
    """Wants the cell from the moment on when the other has it."""
    other = await frozen.receive()
    async with leases.hold(REGION, ttl=5, wait=30, label="b") as lease:
        say(story, f"b  has token {lease.token}")
        await moves.send(Move("b", "welds the door", os.getpid()))
        await moves.drain()
    os.kill(other, signal.SIGCONT)


@daemon
async def cell(
    ctx: Context, left: ReceiveStream[Move], right: ReceiveStream[Move], started: SendStream[int], story: Path
) -> None:
    """Does what it is told. It looks at no token: its channels do."""
    with suppress(EndOfStream):
        while True:
            _, move = await select(left, right)
            say(story, f"   {move.arm} {move.what}")
            if move.arm == "a":
                await started.send(move.process)
    say(story, f"   moves refused: {left.statistics().refused}")


# -- the pipeline, and what came of it --------------------------------------------------------------------------------


def pipeline(story: Path, loop: Loop) -> Pipeline:
    p = Pipeline("work_cell", backend=loop)
    for each in (arm_a, arm_b, cell):
        p.add(each, config={"story": story})
    p.connect("arm_a.moves", "cell.left", name="left", fenced=REGION)
    p.connect("arm_b.moves", "cell.right", name="right", fenced=REGION)
    p.connect("cell.started", "arm_b.frozen", name="started", keep="taken")
    return p


def story_of(loop: Loop = "asyncio") -> list[str]:
    """What has happened, a line each."""
    with tempfile.TemporaryDirectory() as folder:
        story = Path(folder) / "story"
        run(pipeline(story, loop))
        return story.read_text().splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description="Two arms share a work cell, and one of them is frozen in it.")
    parser.add_argument("--loop", choices=["asyncio", "trio"], default="asyncio")
    # That a move is refused is told by the story.
    logging.getLogger("geartrain").setLevel(logging.ERROR)
    print("\n".join(story_of(parser.parse_args().loop)))


if __name__ == "__main__":
    main()
