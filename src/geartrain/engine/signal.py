"""What tasks wait for besides channels: a signal, a bell, a lock. The waiters take turns under virtual time."""

from collections import deque

from geartrain.ports.parking import park
from geartrain.ports.turns import Owner, Wait
from geartrain.rules.deadlock import Waiting


class Signal:
    """Set once, seen by everybody; in turns, in the order in which they began to wait."""

    __slots__ = ("_set", "_waits", "_what")

    def __init__(self, what: str = "a signal") -> None:
        self._what = what
        self._set = False
        self._waits: dict[Wait, None] = {}

    def __repr__(self) -> str:
        return f"<{self._what}, {'set' if self._set else f'{len(self._waits)} waiting'}>"

    def set(self) -> None:
        """It has happened. A second time changes nothing."""
        if not self._set:
            self._set = True
            for wait in self._waits:
                wait.wake()

    def is_set(self) -> bool:
        return self._set

    async def wait(self) -> None:
        """Return when it has happened; at once, if it has."""
        if self._set:
            return
        wait = park(self)
        self._waits[wait] = None
        try:
            await wait.wait()
        finally:
            del self._waits[wait]

    def waiting_for(self, owner: Owner) -> Waiting:
        return Waiting(owner.name, f"waits for {self._what}", None)


class Bell:
    """Rung whenever something has changed; those who wait look again."""

    __slots__ = ("_waits",)

    def __init__(self) -> None:
        self._waits: dict[Wait, None] = {}

    def ring(self) -> None:
        for wait in self._waits:
            wait.wake()

    async def wait(self) -> None:
        """Return at the next ring."""
        wait = park()
        self._waits[wait] = None
        try:
            await wait.wait()
        finally:
            del self._waits[wait]


class Lock:
    """One at a time, in the order of coming. `async with lock:`"""

    __slots__ = ("_bell", "_held", "_queue")

    def __init__(self) -> None:
        self._bell = Bell()
        self._held = False
        self._queue: deque[object] = deque()

    @property
    def is_held(self) -> bool:
        return self._held

    async def __aenter__(self) -> None:
        ticket = object()
        self._queue.append(ticket)
        try:
            while self._held or self._queue[0] is not ticket:
                await self._bell.wait()
            self._held = True
        finally:
            self._queue.remove(ticket)
            if not self._held:
                self._bell.ring()

    async def __aexit__(self, *_: object) -> None:
        self._held = False
        self._bell.ring()
