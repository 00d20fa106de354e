"""One figure about being observed. Prints one number.

python observing.py hooks 100000       us for the start, the stop and the report of one cycle, together
python observing.py read    1000       ms to read that many slots
python observing.py told  9 trio       ms from a SIGKILL until /api/v1/faults tells of it; the median of so many
python observing.py beat  4 trio       us of lateness, p99, of a 1 kHz cycle in a pipeline with a gateway
python observing.py served 4 trio      the same, while the gateway has 20 streams open and 50 requests per second
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio

from geartrain import Context, LatencyHistogram, Pipeline, RestartPolicy, daemon
from geartrain.engine.written import Written
from geartrain.ports.slots import SlotFile, SlotReader, Slots
from geartrain.rules.grid import Cycle
from geartrain.rules.slots import About

if TYPE_CHECKING:
    from geartrain.engine.launcher import Launcher

LOOKS = 30
STREAMS = 20
REQUESTS_HZ = 50
WARM_S = 1.0
CYCLE = Cycle(7, 1000, 7000, 7010, 400, lateness_ns=10, skipped_slots=0, actual_period_ns=990, jitter_ns=10)


class Open:
    def end(self, *, ok: bool) -> None: ...


def hooks(folder: Path, count: int) -> float:
    file = SlotFile.make(folder / "p", About(process="p", daemons=("d",)), generation=1)
    assert file.fd is not None
    watch, open_cycle = Written(Slots(file.fd)).watch("d", None), Open()
    began_ns = time.perf_counter_ns()
    for at_ns in range(10**9, 10**9 + count):
        watch.cycle_begins(open_cycle, at_ns)
        watch.cycle_ends(at_ns, 400, CYCLE)
    return (time.perf_counter_ns() - began_ns) / count / 1e3


def read(folder: Path, count: int) -> float:
    about = About(process="p", daemons=tuple(f"d{number}" for number in range(count)))
    file = SlotFile.make(folder / "p", about, generation=1)
    assert file.fd is not None
    process = Slots(file.fd)
    for name in about.daemons:
        slot = process.daemon(name)
        assert slot is not None
        slot.starts(0, 1)
    reader = SlotReader(folder / "p")
    began_ns = time.perf_counter_ns()
    for _ in range(LOOKS):
        reader.poll()
    return (time.perf_counter_ns() - began_ns) / LOOKS / 1e6


# -- with a gateway ---------------------------------------------------------------------------------------------------


@daemon
async def beating(ctx: Context, seconds: float, note: str) -> None:
    """A cycle of a millisecond; how late each was is written down at the end."""
    lateness = LatencyHistogram("lateness", capacity=round(seconds * 2000))
    until = ctx.clock.now() + WARM_S + seconds
    async for due in ctx.clock.every(0.001):
        now = ctx.clock.now()
        if now > until:
            break
        if now > until - seconds:
            lateness.record(round((now - due) * 1e9))
    await anyio.Path(note).write_text(str(lateness.percentile_ns(0.99) / 1e3))


@daemon
async def forever(ctx: Context) -> None:
    await ctx.stop_event.wait()


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port


def launched(pipeline: Pipeline) -> "Launcher":
    # The processes load this file too, for their daemons, and need no launcher.
    from geartrain.engine.launcher import Launcher

    return Launcher(pipeline)


def faults_at(port: int) -> int:
    """How often a process has died, as the gateway tells it."""
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", "/api/v1/faults?status=all")
        items = json.load(connection.getresponse())["items"]
    return sum(item["occurrence_count"] for item in items if item["fault_code"] == "PROCESS_DEAD")


async def told(folder: Path, count: int, loop: Any) -> float:
    port, took_ms = free_port(), list[float]()
    pipeline = Pipeline("told", loop, spares=1, observe=f"127.0.0.1:{port}")
    pipeline.add(forever, name="mortal", on_error="restart", restart=RestartPolicy(base=0))
    launcher = launched(pipeline)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(launcher.live)
        await launcher.gate.wait()
        for number in range(count):
            await anyio.sleep(2.0)
            began = time.monotonic()
            launcher.kill("mortal")
            while await anyio.to_thread.run_sync(faults_at, port) <= number:
                await anyio.sleep(0.002)
            took_ms.append((time.monotonic() - began) * 1e3)
        await launcher.stop()
    return median(took_ms)


async def beat(folder: Path, seconds: float, loop: Any, *, served: bool) -> float:
    port, note = free_port(), folder / "note"
    pipeline = Pipeline("beat", loop, spares=0, observe=f"127.0.0.1:{port}")
    pipeline.add(beating, name="beating", config={"seconds": seconds, "note": str(note)})
    launcher = launched(pipeline)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(launcher.live)
        await launcher.gate.wait()
        with clients(port, seconds + WARM_S) if served else nullcontext():
            while not note.exists():
                await anyio.sleep(0.05)
        await launcher.stop()
    return float(note.read_text())


@contextmanager
def clients(port: int, seconds: float) -> Iterator[None]:
    """In a process of their own, as clients are."""
    child = subprocess.Popen([sys.executable, __file__, "clients", str(port), str(seconds)])
    try:
        yield
    finally:
        child.kill()
        child.wait()


async def be_clients(port: int, seconds: float) -> None:
    async def listen() -> None:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            while True:
                await stream.receive()

    async def ask() -> None:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"GET /api/v1/faults HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            await stream.receive()

    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as tasks:
            for _ in range(STREAMS):
                tasks.start_soon(listen)
            while True:
                tasks.start_soon(ask)
                await anyio.sleep(1 / REQUESTS_HZ)


async def measured(what: str, amount: float, loop: str, folder: Path) -> float:
    match what:
        case "told":
            return await told(folder, int(amount), loop)
        case "beat" | "served":
            return await beat(folder, amount, loop, served=what == "served")
        case _:
            return {"hooks": hooks, "read": read}[what](folder, int(amount))


def main(what: str, amount: str, loop: Any = "asyncio") -> None:
    if what == "clients":
        anyio.run(be_clients, int(amount), float(loop))
        return
    with TemporaryDirectory(prefix="gt-") as folder:
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            os.environ[name] = folder
        print(anyio.run(measured, what, float(amount), loop, Path(folder), backend=loop))


if __name__ == "__main__":
    main(*sys.argv[1:])
