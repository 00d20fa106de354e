"""One process of a figure between two that has no peer but a limit: what channels of geartrain cost besides time.

python costs.py growth      trio 8 1000000 5 /tmp/folder     prints by how many MB the writer has grown
python costs.py slow-reader trio 8 1000000 5 /tmp/folder
python costs.py opening     trio 1000 0 0 /tmp/folder        prints in how many seconds all channels were connected
python costs.py idleness    trio 1000 0 5 /tmp/folder        prints percents of one CPU, both processes together
python costs.py far-side    trio 1000 0 5 /tmp/folder        is beside both of these
"""

import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import anyio
from msgspec import Struct

from geartrain import PeerLost, open_receive, open_send
from geartrain.engine.remote import RemoteReceive, RemoteSend

# How often the slow reader takes an item.
PAUSE_S = 1.0

# What the connecting of so many channels leaves to be done is not idleness, nor is the first beat after it.
SETTLING_S = 6.0


class Measure(Struct, frozen=True):
    """What a role is told."""

    count: int
    item_bytes: int
    seconds: float
    folder: str

    @property
    def address(self) -> str:
        return f"ipc://{self.folder}/first"


# -- memory ------------------------------------------------------------------------------------------------------------


async def growth(measure: Measure) -> float:
    """Write as fast as the reader lets us. What we occupied before the first item was sent does not count."""
    item = os.urandom(measure.item_bytes)
    grown = 0
    # The reader has not taken everything when we stop, and is not asked to.
    with suppress(PeerLost):
        async with open_send(measure.address, bytes, maxsize=measure.count, close_within=0) as items:
            await items.wait_connected()
            forget_peak()
            before = occupied_bytes("VmRSS")
            with anyio.move_on_after(measure.seconds):
                while True:
                    await items.send(item)
            grown = occupied_bytes("VmHWM") - before
    return grown / 1e6


async def slow_reader(measure: Measure) -> None:
    async with open_receive(measure.address, bytes, maxsize=measure.count) as items:
        async for _ in items:
            await anyio.sleep(PAUSE_S)


def occupied_bytes(which: str) -> int:
    """VmRSS: now. VmHWM: at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{which}:"))


def forget_peak() -> None:
    """VmHWM starts anew from what we occupy now."""
    Path("/proc/self/clear_refs").write_text("5")


# -- many channels -----------------------------------------------------------------------------------------------------

End = RemoteSend[float] | RemoteReceive[float]


async def opening(measure: Measure) -> float:
    async with open_receive(measure.address, float) as first:
        await first.wait_connected()
        started = time.perf_counter()
        async with all_connected(lambda address: open_receive(address, float), measure):
            await first.receive()
            return time.perf_counter() - started


async def idleness(measure: Measure) -> float:
    async with open_receive(measure.address, float) as first:
        await first.wait_connected()
        async with all_connected(lambda address: open_receive(address, float), measure):
            await first.receive()
            used_s = await cpu_used_s(measure.seconds) + await first.receive()
            return used_s / measure.seconds * 100


async def far_side(measure: Measure) -> None:
    """Says that all channels are connected here too, and then what they cost here."""
    async with open_send(measure.address, float) as first:
        await first.wait_connected()
        async with all_connected(lambda address: open_send(address, float), measure):
            await first.send(0.0)
            await first.send(await cpu_used_s(measure.seconds))
            await anyio.sleep_forever()


@asynccontextmanager
async def all_connected(
    open_end: Callable[[str], AbstractAsyncContextManager[End]], measure: Measure
) -> AsyncIterator[None]:
    """Many channels at once, each end in a task of its own, as in daemons."""
    missing = measure.count
    complete = anyio.Event()

    async def hold(address: str) -> None:
        nonlocal missing
        async with open_end(address) as end:
            await end.wait_connected()
            missing -= 1
            if not missing:
                complete.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        for number in range(measure.count):
            group.start_soon(hold, f"ipc://{measure.folder}/{number}")
        await complete.wait()
        yield
        group.cancel_scope.cancel()


async def cpu_used_s(seconds: float) -> float:
    await anyio.sleep(SETTLING_S)
    before = time.process_time()
    await anyio.sleep(seconds)
    return time.process_time() - before


ROLES: dict[str, Callable[[Measure], Awaitable[float | None]]] = {
    "growth": growth,
    "slow-reader": slow_reader,
    "opening": opening,
    "idleness": idleness,
    "far-side": far_side,
}


def main(role: str, loop: str, count: str, item_bytes: str, seconds: str, folder: str) -> None:
    measure = Measure(int(count), int(item_bytes), float(seconds), folder)
    print(anyio.run(ROLES[role], measure, backend=loop))


if __name__ == "__main__":
    main(*sys.argv[1:])
