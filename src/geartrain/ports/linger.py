"""A look back before a loop sleeps: where messages go to and fro, the answer is there sooner than a sleep would end.

    something was sent, the loop has nothing to do  --->  look again for a moment, as long as that pays  --->  sleep

To sleep and to be woken costs more than an answer of a process that is waiting for a question. So whoever was
answered that fast a moment ago stays awake that long for the next answer, and lets every other process of its CPU go
first meanwhile. One answer that takes longer, and it sleeps at once again: a loop that waits for its next tick never
stays awake.
"""

import os
import select
import time
from collections.abc import Callable

# Longer than a question and its answer take between two processes, shorter than anybody would notice.
LIMIT_NS = 300_000


class Linger:
    """What one loop looks back at, and whether that pays."""

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.pays = False
        self._now_ns = now_ns
        self._began_ns = 0
        self._count = 0
        self._descriptors: select.epoll | None = None

    def add(self, fd: int) -> None:
        if self._descriptors is None:
            self._descriptors = select.epoll()
        self._descriptors.register(fd, select.EPOLLIN)
        self._count += 1

    def remove(self, fd: int) -> None:
        """With the last one nothing is left open."""
        assert self._descriptors is not None
        self._descriptors.unregister(fd)
        self._count -= 1
        if not self._count:
            self._descriptors.close()
            self._descriptors = None

    def before_sleep(self, most_ns: int = LIMIT_NS) -> list[int]:
        """The descriptors with something to read, if they had it soon enough; else the loop sleeps."""
        self._began_ns = self._now_ns()
        if self.pays and self._descriptors is not None:
            until_ns = self._began_ns + most_ns
            while self._now_ns() < until_ns:
                if came := self._descriptors.poll(0):
                    return [fd for fd, _ in came]
                os.sched_yield()
            self.pays = False
        return []

    def woke(self) -> None:
        """Something has come."""
        if self._began_ns:
            self.pays = self._now_ns() - self._began_ns < LIMIT_NS
            self._began_ns = 0
