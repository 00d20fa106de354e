"""One process of a figure between two: ZeroMQ by itself, on blocking sockets, with bytes that nobody decodes.

    python raw.py read small 1.0 /tmp/folder        prints messages per second
    python raw.py write small 1.0 /tmp/folder
    python raw.py ask | answer ...                  the median microseconds of a round trip

What is done and printed is as in `between.py`.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

import zmq
from msgspec import Struct

WARM_UP_ROUNDS = 500


class Size(Struct, frozen=True):
    """How large the messages are, whether they are copied, and how many go between two looks at the clock."""

    size: int
    copy: bool
    burst: int


SIZES = {"small": Size(48, True, 4096), "large": Size(1024 * 1024, False, 64)}


@contextmanager
def opened(kind: int, folder: str, *, binds: bool) -> Iterator["zmq.Socket[bytes]"]:
    with zmq.Context() as context, context.socket(kind) as socket:
        if binds:
            socket.bind(f"ipc://{folder}/raw")
        else:
            socket.connect(f"ipc://{folder}/raw")
        yield socket


def write(size: Size, seconds: float, folder: str) -> None:
    payload = os.urandom(size.size)
    count = 0
    until = None
    with opened(zmq.PUSH, folder, binds=False) as socket:
        send = partial(socket.send, copy=size.copy)
        while until is None or time.perf_counter() < until:
            for _ in range(size.burst):
                send(payload)
            count += size.burst
            until = until or time.perf_counter() + seconds
        send(b"%d" % count)
        # A reader that is behind loses what is still on its way when we leave: we stay until we are ended.
        signal.pause()


def read(size: Size, _seconds: float, folder: str) -> float:
    with opened(zmq.PULL, folder, binds=True) as socket:
        receive = partial(socket.recv, copy=size.copy)
        receive()
        started = time.perf_counter()
        count = 1
        while len(message := receive()) == size.size:
            count += 1
        took = time.perf_counter() - started
    if count != (sent := int(bytes(message))):
        sys.exit(f"{sent} messages were sent, and {count} received")
    return count / took


def ask(size: Size, seconds: float, folder: str) -> float:
    pin_to_cpu(0)
    payload = os.urandom(size.size)
    took_s: list[float] = []
    until = None
    with opened(zmq.PAIR, folder, binds=True) as socket:
        while until is None or time.perf_counter() < until:
            started = time.perf_counter()
            socket.send(payload)
            socket.recv()
            took_s.append(time.perf_counter() - started)
            if len(took_s) == WARM_UP_ROUNDS:
                until = time.perf_counter() + seconds
        socket.send(b"")
    return median(took_s[WARM_UP_ROUNDS:]) * 1e6


def answer(_size: Size, _seconds: float, folder: str) -> None:
    pin_to_cpu(-1)
    with opened(zmq.PAIR, folder, binds=False) as socket:
        while message := socket.recv():
            socket.send(message)


def pin_to_cpu(which: int) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("a round trip between two CPUs was to be measured, and there is one")
    os.sched_setaffinity(0, {cpus[which]})


ROLES: dict[str, Callable[[Size, float, str], float | None]] = {
    "write": write,
    "read": read,
    "ask": ask,
    "answer": answer,
}


def main(role: str, size: str, seconds: str, folder: str) -> None:
    print(ROLES[role](SIZES[size], float(seconds), folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
