"""One figure about whole pipelines: processes that are started, killed, stopped, and many.

    python pipelines.py restart asyncio 1      ms from SIGKILL to the first item of the next life; 1 spare
    python pipelines.py first   asyncio 4          ms from the start to the first item that has come through 4 processes
    python pipelines.py stop    asyncio 4          s from a stop until nothing is left of them
    python pipelines.py up | down | idle  asyncio 1000     that many daemons in four processes: s, s, % of a CPU
    python pipelines.py flow    asyncio 1.0        items per second from one process of a pipeline to another
    python pipelines.py watched asyncio 1.0        the same, beside an observer; `alone` is what it is compared with

Moments are of the machine's monotonic clock, which all its processes share, and are written down where they happen.
"""

import os
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import anyio
from msgspec import Struct

from geartrain import Context, Daemon, Pipeline, ReceiveStream, RestartPolicy, SendStream, daemon
from geartrain.actors.observer import ExecutorObserver

if TYPE_CHECKING:
    from geartrain.engine.launcher import Launcher

KILLS = 9
PROCESSES = 4
IDLE_S = 10.0
SETTLE_S = 2.0
_LOOK_S = 0.002

Loop = Literal["asyncio", "trio"]


class Item(Struct):
    """48 bytes, as in the figures of bare channels; `life` is the process it comes from."""

    life: int
    moment: float = 0.5
    value: float = 0.5


FIRST = 1 << 40


@daemon
async def ticker(ctx: Context, out: SendStream[Item]) -> None:
    """An item every few milliseconds."""
    while not ctx.stopping:
        await out.send(Item(os.getpid()))
        await anyio.sleep(0.002)


@daemon
async def relay(ctx: Context, inp: ReceiveStream[Item], out: SendStream[Item]) -> None:
    async for item in inp:
        await out.send(item)


@daemon
async def witness(ctx: Context, inp: ReceiveStream[Item], note: str) -> None:
    """Writes down when the first item of each life came."""
    known: set[int] = set()
    file = os.open(note, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async for item in inp:
        if item.life not in known:
            known.add(item.life)
            os.write(file, f"{item.life} {time.monotonic_ns()}\n".encode())


class Idler(Daemon):
    async def run(self, ctx: Context) -> None:
        await ctx.stop_event.wait()


@daemon
async def flood(ctx: Context, out: SendStream[Item], seconds: float, settle_s: float = 0) -> None:
    await anyio.sleep(settle_s)
    count = 0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for _ in range(4096):
            await out.send(Item(FIRST))
        count += 4096
    await out.send(Item(count))


@daemon
async def drain(ctx: Context, inp: ReceiveStream[Item], note: str) -> None:
    began = None
    async for item in inp:
        if began is None:
            began = time.perf_counter()
        if item.life != FIRST:
            rate = item.life / (time.perf_counter() - began)
    await anyio.Path(note).write_text(str(rate))


def launched(pipeline: Pipeline) -> "Launcher":
    # The processes load this file too, for their daemons, and need no launcher.
    from geartrain.engine.launcher import Launcher

    return Launcher(pipeline)


def moments(note: Path) -> dict[int, int]:
    rows = [line.split() for line in note.read_text().splitlines()] if note.exists() else []
    return {int(life): int(moment) for life, moment in rows}


def chain(loop: Loop, note: Path, count: int, spares: int = 0) -> Pipeline:
    pipeline = Pipeline("chain", backend=loop, spares=spares)
    at_once = RestartPolicy(base=0)
    pipeline.add(ticker, name="ticker", on_error="restart", restart=at_once)
    before = "ticker.out"
    for number in range(count - 2):
        pipeline.add(relay, name=f"relay{number}")
        pipeline.connect(before, f"relay{number}.inp")
        before = f"relay{number}.out"
    pipeline.add(witness, name="witness", config={"note": str(note)})
    pipeline.connect(before, "witness.inp")
    return pipeline


async def a_new_life(note: Path, known: set[int]) -> tuple[int, int]:
    while True:
        for life, moment in moments(note).items():
            if life not in known:
                known.add(life)
                return life, moment
        await anyio.sleep(_LOOK_S)


async def restart(loop: Loop, note: Path, spares: int) -> float:
    launcher = launched(chain(loop, note, 2, spares))
    known: set[int] = set()
    took_ms = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(launcher.live)
        await a_new_life(note, known)
        # A spare is there some time after the start, and some time after another was taken.
        for _ in range(KILLS):
            await anyio.sleep(1.2)
            killed_ns = time.monotonic_ns()
            launcher.kill("ticker")
            took_ms.append(((await a_new_life(note, known))[1] - killed_ns) / 1e6)
        await launcher.stop()
    return median(took_ms)


async def first(loop: Loop, note: Path, count: int) -> float:
    began_ns = time.monotonic_ns()
    launcher = launched(chain(loop, note, count))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(launcher.live)
        _, moment = await a_new_life(note, set())
        await launcher.stop()
    return (moment - began_ns) / 1e6


async def stop(loop: Loop, note: Path, count: int) -> float:
    launcher = launched(chain(loop, note, count))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(launcher.live)
        await a_new_life(note, set())
        began = time.monotonic()
        await launcher.stop()
        return time.monotonic() - began
    raise AssertionError("a stop returns")


def crowd(loop: Loop, count: int) -> Pipeline:
    pipeline = Pipeline("crowd", backend=loop, spares=0)
    for number in range(count):
        pipeline.add(Idler, name=f"idler{number}", process=f"process{number % PROCESSES}")
    return pipeline


async def many(loop: Loop, count: int, what: str) -> float:
    pipeline = crowd(loop, count)
    began = time.monotonic()
    launcher = launched(pipeline)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(launcher.live)
        await launcher.gate.wait()
        while any(standing.state != "running" for standing in launcher.roll.standings()):
            await anyio.sleep(_LOOK_S)
        up_s = time.monotonic() - began
        pids = {standing.pid for standing in launcher.roll.standings()}
        before_s = cpu_s(pids)
        if what == "idle":
            await anyio.sleep(IDLE_S)
        idle = (cpu_s(pids) - before_s) / IDLE_S * 100
        began = time.monotonic()
        await launcher.stop()
        down_s = time.monotonic() - began
    return {"up": up_s, "down": down_s, "idle": idle}[what]


def cpu_s(pids: set[int | None]) -> float:
    """Of the supervisor and its processes."""
    ticks = 0
    for pid in (os.getpid(), *pids):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def flow(loop: Loop, note: Path, seconds: float, *, settle_s: float = 0, watched: bool = False) -> float:
    pipeline = Pipeline("flow", backend=loop, spares=0)
    pipeline.add(flood, name="flood", config={"seconds": seconds, "settle_s": settle_s})
    pipeline.add(drain, name="drain", config={"note": str(note)})
    pipeline.connect("flood.out", "drain.inp", maxsize=256)
    if watched:
        pipeline.add(ExecutorObserver, name="observer")
    await launched(pipeline).live()
    return float(await anyio.Path(note).read_text())


async def measured(what: str, loop: Loop, amount: float, folder: Path) -> float:
    note = folder / "note"
    match what:
        case "restart":
            return await restart(loop, note, int(amount))
        case "first":
            return await first(loop, note, int(amount))
        case "stop":
            return await stop(loop, note, int(amount))
        case "flow":
            return await flow(loop, note, amount)
        case "watched" | "alone":
            # An observer begins with the others, and to begin is most of what it costs.
            return await flow(loop, note, amount, settle_s=SETTLE_S, watched=what == "watched")
        case _:
            return await many(loop, int(amount), what)


def main(what: str, loop: Any, amount: str) -> None:
    with TemporaryDirectory(prefix="gt-") as folder:
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            os.environ[name] = folder
        print(anyio.run(measured, what, loop, float(amount), Path(folder), backend=loop))


if __name__ == "__main__":
    main(*sys.argv[1:])
