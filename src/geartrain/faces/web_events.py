"""Events to many clients over SSE, none of whom can hold up another or the observer.

    publish --> ring of the last 100 --> each client's queue of 256 --> its connection

Ids are consecutive, and grow also when the observer is started again: they begin at the milliseconds of its start. So a
client that comes back with the last id it has seen gets exactly what it has missed; or it is told how much is not there
any more (`gap`), or that the ids it knows are of a former observer and it should look anew (`reset`).
"""

from collections import deque
from collections.abc import Iterator, Sequence

import anyio
import msgspec
from msgspec import Struct

from geartrain.faces.web_live import Live, LiveFault
from geartrain.rules.view import View

RING = 100
QUEUE = 256
PLACES = 64


class Sent(Struct, frozen=True):
    """One event. Those about the stream itself have no id: they are not repeated."""

    id: int | None
    event: str
    data: bytes

    def frame(self) -> bytes:
        head = b"" if self.id is None else b"id: %d\n" % self.id
        return b"%sevent: %s\ndata: %s\n\n" % (head, self.event.encode(), self.data)


def gap(dropped: int) -> Sent:
    return Sent(None, "gap", b'{"dropped":%d}' % dropped)


def reset() -> Sent:
    return Sent(None, "reset", b'{"reason":"the observer has been started again; read the faults anew"}')


class Ring:
    """The last events there were."""

    def __init__(self, first_id: int, size: int = RING) -> None:
        self._first = first_id
        self._next = first_id
        self._kept: deque[Sent] = deque(maxlen=size)

    def add(self, event: str, data: bytes) -> Sent:
        sent = Sent(self._next, event, data)
        self._next += 1
        self._kept.append(sent)
        return sent

    def since(self, last_id: int | None) -> Iterator[Sent]:
        """What somebody has missed that has seen this one last; of somebody new, nothing."""
        if last_id is None:
            return
        if not self._first - 1 <= last_id < self._next:
            yield reset()
            last_id = self._first - 1
        oldest = self._next - len(self._kept)
        if last_id + 1 < oldest:
            yield gap(oldest - last_id - 1)
        yield from (sent for sent in self._kept if sent.id is not None and sent.id > last_id)


class Client:
    """What one client has still to be sent. The oldest goes when there is too much, and is counted."""

    def __init__(self, size: int = QUEUE) -> None:
        self._waiting: deque[Sent] = deque()
        self._size = size
        self._news = anyio.Event()
        self.dropped = 0

    def put(self, sent: Sent) -> bool:
        """False when another one had to go for it."""
        full = len(self._waiting) == self._size
        if full:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(sent)
        self._news.set()
        return not full

    async def wait(self, seconds: float) -> None:
        """Until there is something, or for so long."""
        with anyio.move_on_after(seconds):
            await self._news.wait()

    def take(self) -> list[Sent]:
        """All that waits; first of all, how much could not."""
        found = [gap(self.dropped)] if self.dropped else []
        found += self._waiting
        self._waiting.clear()
        self.dropped = 0
        self._news = anyio.Event()
        return found


class Hub:
    """All clients of the stream of faults."""

    def __init__(self, first_id: int) -> None:
        self.ring = Ring(first_id)
        # How many events some client or other did not get.
        self.dropped = 0
        self._clients: set[Client] = set()

    def publish(self, event: str, data: bytes) -> None:
        """Never waits."""
        sent = self.ring.add(event, data)
        for client in self._clients:
            self.dropped += not client.put(sent)

    def join(self, last_id: int | None) -> Client:
        client = Client()
        for sent in self.ring.since(last_id):
            client.put(sent)
        self._clients.add(client)
        return client

    def leave(self, client: Client) -> None:
        self._clients.discard(client)


class Places:
    """How many streams there may be at once, of whatever kind."""

    def __init__(self, most: int = PLACES) -> None:
        self.most = most
        self.taken = 0

    def take(self) -> bool:
        if self.taken == self.most:
            return False
        self.taken += 1
        return True

    def free(self) -> None:
        self.taken -= 1


class Looks:
    """The last look of the observer, for many who wait for the next one. Nobody gets an old one late."""

    def __init__(self) -> None:
        self.last: Live | None = None
        # The same, to be asked by entity.
        self.view: View | None = None
        self._news = anyio.Event()
        self._encoded: tuple[int, bytes] | None = None

    def show(self, live: Live, view: View) -> None:
        self.last, self.view = live, view
        self._news.set()
        self._news = anyio.Event()

    async def wait_newer(self, than: int, seconds: float) -> Live | None:
        """One that is newer than this one, or None after so long."""
        with anyio.move_on_after(seconds):
            while self.last is None or self.last.look <= than:
                await self._news.wait()
        return None if self.last is None or self.last.look <= than else self.last

    def encoded(self, live: Live) -> bytes:
        """As JSON, made once for all."""
        if self._encoded is None or self._encoded[0] != live.look:
            self._encoded = (live.look, msgspec.json.encode(live))
        return self._encoded[1]


# -- which events there are -----------------------------------------------------------------------------------------


class Happened(Struct, frozen=True):
    """What is to be told: the name of the event, and its data as JSON."""

    event: str
    data: bytes


def happened(before: Live | None, after: Live) -> Iterator[Happened]:
    """What a client is told of two looks. Before the first one everything was well."""
    was = {} if before is None else {(fault.entity, fault.fault_code): fault for fault in before.faults}
    for fault in after.faults:
        former = was.get((fault.entity, fault.fault_code))
        if event := _of_fault(former, fault):
            yield Happened(event, _payload(event, after.now, fault.entity, fault.kind, fault=summary(fault)))
    healths = {} if before is None else dict(_healths(before))
    for entity, health in _healths(after):
        if health != healths.get(entity, "ok"):
            kind, name = entity
            yield Happened("health_changed", _payload("health_changed", after.now, name, kind, health=health))


def _of_fault(former: LiveFault | None, fault: LiveFault) -> str | None:
    if former is not None and former.status == fault.status:
        return None
    if fault.status == "HEALED":
        return None if former is None else "fault_cleared"
    return "fault_raised"


def _healths(live: Live) -> Sequence[tuple[tuple[str, str], str]]:
    components = [(("component", process.name), process.health) for process in live.processes]
    return [*components, *((("app", daemon.name), daemon.health) for daemon in live.daemons)]


def _payload(event: str, now: float, entity: str, kind: str, **what: object) -> bytes:
    about = {"entity_id": entity, "entity_type": kind}
    return msgspec.json.encode({"event_type": event, "timestamp": now, **what, "x-medkit": about})


def summary(fault: LiveFault) -> dict[str, object]:
    """A fault as it stands in a list."""
    return {
        "fault_code": fault.fault_code,
        "description": fault.description,
        "status": fault.status,
        "severity": fault.severity,
        "severity_label": fault.severity_label,
        "first_occurred": fault.first_occurred,
        "last_occurred": fault.last_occurred,
        "occurrence_count": fault.occurrence_count,
        "reporting_sources": [fault.entity],
        "x-medkit": {"entity_id": fault.entity, "entity_type": fault.kind},
    }
