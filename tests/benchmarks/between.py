"""One process of a figure between two: a library's channel over ZeroMQ.

    python between.py read  geartrain trio 256 reading 1.0 /tmp/folder      prints items per second
    python between.py write geartrain trio 256 reading 1.0 /tmp/folder      beside it, until it is ended
    python between.py ask | answer ...                                      the median microseconds of a round trip

The work is the same text for both libraries: only how an end is opened differs. The writer goes on for so many seconds;
its last item is unlike the others, and says how many there were.
"""

import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from statistics import median
from typing import Any

import anyio
from msgspec import Struct

LARGE_BYTES = 1024 * 1024

# So many items are written between two looks at the clock: more than any window holds.
SMALL_BURST = 4096
LARGE_BURST = 64

WARM_UP_ROUNDS = 500

# Every number from here on takes nine bytes.
FIRST = 1 << 40


class Reading(Struct):
    """An item that takes 48 bytes."""

    number: int
    moment: float = 0.5
    value: float = 0.5


KINDS: dict[str, type[Any]] = {"reading": Reading, "bytes": bytes, "memoryview": memoryview}

# Opens the end with this name, to read from it or to write to it.
Opened = Callable[[str, bool], AbstractAsyncContextManager[Any]]


def geartrain_ends(folder: str, kind: type[Any], maxsize: int) -> Opened:
    library = import_module("geartrain")

    def opened(name: str, reads: bool) -> AbstractAsyncContextManager[Any]:
        open_end: Callable[..., AbstractAsyncContextManager[Any]] = library.open_receive if reads else library.open_send
        return open_end(f"ipc://{folder}/{name}", kind, maxsize=maxsize)

    return opened


def chrono_daemon_ends(folder: str, kind: type[Any], maxsize: int) -> Opened:
    library = import_module("chrono_daemon.transports.zmq")

    @asynccontextmanager
    async def opened(name: str, reads: bool) -> AsyncIterator[Any]:
        open_end = library.open_zmq_receive if reads else library.open_zmq_send
        end = open_end(f"ipc://{folder}/{name}", maxsize=maxsize, serde=library.MsgpackSerde(kind))
        try:
            yield end
        finally:
            await end.aclose()

    return opened


ENDS = {"geartrain": geartrain_ends, "chrono_daemon": chrono_daemon_ends}

# -- one way -----------------------------------------------------------------------------------------------------------


async def write(opened: Opened, kind: type[Any], seconds: float) -> None:
    async with opened("items", False) as end:
        if kind is Reading:
            await write_readings(end, seconds)
        else:
            await write_payloads(end, kind, seconds)
        # chrono_daemon loses what is still on its way when the writer leaves: we stay until we are ended.
        await anyio.sleep_forever()


async def write_readings(end: Any, seconds: float) -> None:
    # One item serves for all of them: both libraries have encoded it when `send` returns.
    item = Reading(FIRST)

    async def burst() -> None:
        for number in range(item.number, item.number + SMALL_BURST):
            item.number = number
            await end.send(item)
        item.number += 1

    await for_seconds(seconds, burst)
    await end.send(Reading(0, value=float(item.number - FIRST)))


async def write_payloads(end: Any, kind: type[Any], seconds: float) -> None:
    payload = kind(os.urandom(LARGE_BYTES))
    count = 0

    async def burst() -> None:
        nonlocal count
        for _ in range(LARGE_BURST):
            await end.send(payload)
        count += LARGE_BURST

    await for_seconds(seconds, burst)
    await end.send(kind(b"%d" % count))


async def for_seconds(seconds: float, burst: Callable[[], Awaitable[None]]) -> None:
    """Do bursts for that long, counted from when the first is through: by then the reader is at work."""
    await burst()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        await burst()


async def read(opened: Opened, kind: type[Any], _seconds: float) -> float:
    async with opened("items", True) as end:
        return await (read_readings(end) if kind is Reading else read_payloads(end))


async def read_readings(end: Any) -> float:
    item = await end.receive()
    started = time.perf_counter()
    expected = FIRST + 1
    async for item in end:
        if item.number != expected:
            break
        expected += 1
    return rate(expected - FIRST, time.perf_counter() - started, sent=int(item.value))


async def read_payloads(end: Any) -> float:
    payload = await end.receive()
    started = time.perf_counter()
    count = 1
    async for payload in end:
        if len(payload) != LARGE_BYTES:
            break
        count += 1
    return rate(count, time.perf_counter() - started, sent=int(bytes(payload)))


def rate(received: int, took_s: float, *, sent: int) -> float:
    if received != sent:
        sys.exit(f"{sent} items were sent, and {received} received in their order")
    return received / took_s


# -- there and back ----------------------------------------------------------------------------------------------------


async def ask(opened: Opened, _kind: type[Any], seconds: float) -> float:
    pin_to_cpu(0)
    async with opened("requests", False) as requests, opened("replies", True) as replies:
        item = Reading(FIRST)
        took_s: list[float] = []

        async def round_trip() -> None:
            item.number += 1
            started = time.perf_counter()
            await requests.send(item)
            reply = await replies.receive()
            took_s.append(time.perf_counter() - started)
            if reply.number != item.number:
                sys.exit(f"item {item.number} went out, and {reply.number} came back")

        for _ in range(WARM_UP_ROUNDS):
            await round_trip()
        await for_seconds(seconds, round_trip)
        return median(took_s[WARM_UP_ROUNDS:]) * 1e6


async def answer(opened: Opened, _kind: type[Any], _seconds: float) -> None:
    pin_to_cpu(-1)
    async with opened("requests", True) as requests, opened("replies", False) as replies:
        async for item in requests:
            await replies.send(item)


def pin_to_cpu(which: int) -> None:
    """A round trip on one CPU takes half of one between two, so where the scheduler puts us must not be a figure."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("a round trip between two CPUs was to be measured, and there is one")
    os.sched_setaffinity(0, {cpus[which]})


ROLES: dict[str, Callable[[Opened, type[Any], float], Awaitable[float | None]]] = {
    "write": write,
    "read": read,
    "ask": ask,
    "answer": answer,
}


def main(role: str, library: str, loop: str, maxsize: str, kind: str, seconds: str, folder: str) -> None:
    opened = ENDS[library](folder, KINDS[kind], int(maxsize))
    print(anyio.run(ROLES[role], opened, KINDS[kind], float(seconds), backend=loop))


if __name__ == "__main__":
    main(*sys.argv[1:])
