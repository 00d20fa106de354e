"""One figure about a run that is shown over HTTP. Prints one number.

    python gateway.py killed asyncio 9    ms from a SIGKILL until the fault can be read, median of that many
    python gateway.py quiet  asyncio 5    ms, p99 between two cycles of a daemon at 1 kHz: shown, and nobody looks
    python gateway.py asked  asyncio 5    the same, while 20 clients hold streams and 50 requests come per second
    python gateway.py frozen asyncio 5    the same, while the observer is stopped

Clients are in a process of their own: what they cost is not the gateway's.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import anyio
import msgspec

from geartrain import Context, Daemon, Pipeline, daemon
from geartrain.faces.gateway import WebObserver

if TYPE_CHECKING:
    from geartrain.engine.launcher import Launcher

STREAMS = 20
REQUESTS_HZ = 50
_LOOK_S = 0.002

Loop = Literal["asyncio", "trio"]


@daemon
async def cycling(ctx: Context, note: str, seconds: float) -> None:
    """At 1 kHz; after its time it writes down the p99 between two cycles, in ms."""
    spans: list[int] = []
    last = time.monotonic_ns()
    until = last + int(seconds * 1e9)
    async for _ in ctx.clock.every(0.001):
        now = time.monotonic_ns()
        spans.append(now - last)
        last = now
        if now > until:
            break
    spans.sort()
    await anyio.Path(note).write_text(str(spans[len(spans) * 99 // 100] / 1e6))


class Idler(Daemon):
    async def run(self, ctx: Context) -> None:
        await ctx.stop_event.wait()


def shown(loop: Loop, folder: Path) -> Pipeline:
    pipeline = Pipeline("shown", backend=loop)
    at = {"bind": f"unix:{folder / 'shown'}"}
    pipeline.add(WebObserver, name="observer", on_error="restart", config=at)
    return pipeline


def launched(pipeline: Pipeline) -> "Launcher":
    # The processes load this file too, for their daemons, and need no launcher.
    from geartrain.engine.launcher import Launcher

    return Launcher(pipeline)


async def asked(folder: Path, path: str) -> bytes:
    """The body of an answer."""
    async with await anyio.connect_unix(folder / "shown") as stream:
        await stream.send(f"GET /api/v1/{path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        answer = b""
        while True:
            answer += await stream.receive()
            head, _, body = answer.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            if length and len(body) >= int(length):
                return body


async def killed(loop: Loop, folder: Path, times: int) -> float:
    pipeline = shown(loop, folder)
    pipeline.add(Idler, name="victim", on_error="restart")
    launcher = launched(pipeline)
    took: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(launcher.live)
        await launcher.gate.wait()
        while len(took) < times:
            await _until_well(folder)
            pid = msgspec.json.decode(await asked(folder, "components/victim/data/executor"))["data"]["pid"]
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            while b"PROCESS_DEAD" not in await asked(folder, "faults"):
                await anyio.sleep(_LOOK_S)
            took.append((time.monotonic() - began) * 1e3)
        await launcher.end_now()
    return median(took)


async def _until_well(folder: Path) -> None:
    while True:
        live = msgspec.json.decode(await asked(folder, "live?once=true"))
        present = [fault for fault in live["faults"] if fault["status"] == "CONFIRMED"]
        if not present and all(process["online"] for process in live["processes"]):
            return
        await anyio.sleep(_LOOK_S)


async def cycles(loop: Loop, folder: Path, what: str, seconds: float) -> float:
    note = folder / "note"
    pipeline = shown(loop, folder)
    pipeline.add(cycling, name="cycling", config={"note": str(note), "seconds": seconds})
    launcher = launched(pipeline)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(launcher.live)
        await launcher.gate.wait()
        pid = msgspec.json.decode(await asked(folder, "components/observer/data/executor"))["data"]["pid"]
        with disturbed(what, folder, pid):
            while not note.exists() or not note.read_text():
                await anyio.sleep(0.1)
        await launcher.end_now()
    return float(note.read_text())


@contextmanager
def disturbed(what: str, folder: Path, observer: int) -> Iterator[None]:
    if what == "asked":
        # They may end with the run, and have nothing to say of it.
        command = [sys.executable, __file__, "clients", "asyncio", str(folder)]
        clients = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            clients.kill()
            clients.wait()
    elif what == "frozen":
        os.kill(observer, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(observer, signal.SIGCONT)
    else:
        yield


async def clients(folder: Path) -> None:
    """For ever."""
    async with anyio.create_task_group() as tasks:
        for _ in range(STREAMS):
            tasks.start_soon(_listen, folder)
        while True:
            tasks.start_soon(asked, folder, "apps")
            await anyio.sleep(1 / REQUESTS_HZ)


async def _listen(folder: Path) -> None:
    async with await anyio.connect_unix(folder / "shown") as stream:
        await stream.send(b"GET /api/v1/live?every=0.2 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        while True:
            await stream.receive()


async def measured(what: str, loop: Loop, amount: float, folder: Path) -> float:
    if what == "killed":
        return await killed(loop, folder, int(amount))
    return await cycles(loop, folder, what, amount)


def main(what: str, loop: Any, amount: str) -> None:
    if what == "clients":
        anyio.run(clients, Path(amount), backend=loop)
        return
    with TemporaryDirectory(prefix="gt-") as folder:
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            os.environ[name] = folder
        print(anyio.run(measured, what, loop, float(amount), Path(folder), backend=loop))


if __name__ == "__main__":
    main(*sys.argv[1:])
