"""A gateway that is really served, on a port of its own; a client that speaks HTTP by h11; a run that is made up."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import h11
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from geartrain.faces.web_address import Bind, listening
from geartrain.faces.web_gateway import Gateway
from geartrain.faces.web_limits import Limits
from geartrain.faces.web_live import (
    Edge,
    Graph,
    Live,
    LiveDaemon,
    LiveFault,
    LiveProcess,
    LogLine,
    Logs,
    Node,
)
from geartrain.faces.web_page import Page
from geartrain.faces.web_shown import live_of
from geartrain.rules.lookout import Lookout
from geartrain.rules.readings import DaemonReading, Poll
from geartrain.rules.view import View
from tests.rules import looks

LOOPBACK = Bind("127.0.0.1", 0)
FIRST_ID = 1000
PATIENCE_S = 20

GRAPH = Graph(
    pipeline="vision",
    run="vision-1234",
    nodes=(
        Node(id="camera", process="eyes", run="vision:Camera", system=False, column=0),
        Node(id="detector", process="brain", run="vision:Detector", system=False, column=1),
    ),
    edges=(
        Edge(id="frames", source="camera", source_port="out", target="detector", target_port="frames", policy="block",
             maxsize=8),
    ),
)  # fmt: skip


def process(name: str, **more: Any) -> LiveProcess:
    return LiveProcess(name=name, **{"condition": "running", "health": "ok", "online": True, **more})


def app(name: str, where: str, **more: Any) -> LiveDaemon:
    return LiveDaemon(name=name, process=where, **{"condition": "running", "health": "ok", "online": True, **more})


def fault(entity: str, **more: Any) -> LiveFault:
    usual: dict[str, Any] = {
        "kind": "app", "fault_code": "APP_ERROR", "status": "CONFIRMED", "severity": 2, "severity_label": "error",
        "description": "it raised", "first_occurred": 10.0, "last_occurred": 11.0, "occurrence_count": 1,
    }  # fmt: skip
    return LiveFault(entity=entity, **{**usual, **more})


SPEC = looks.pipeline("frames: camera -> detector", camera="eyes", detector="brain")


def eyes(*slots: DaemonReading, **more: Any) -> Poll:
    """The process with the camera; it is well, unless something else is said."""
    return looks.poll(*(slots or (looks.slot(name="camera", executions=41),)), **{"name": "eyes", **more})


def brain(*slots: DaemonReading, **more: Any) -> Poll:
    return looks.poll(*(slots or (looks.slot(name="detector"),)), **{"name": "brain", **more})


def seen(*at_last: Poll, before: tuple[tuple[Poll, Poll], ...] = (), **more: Any) -> View:
    """What an observer has seen at last, of a run of which it had seen something before."""
    lookout = Lookout(SPEC, **more)
    for polls in before:
        lookout.look(looks.reading(SPEC, *polls))
    return View(lookout.look(looks.reading(SPEC, *at_last))[0])


VIEW = seen(eyes(), brain())
WELL = live_of(VIEW)


def ill(*faults: LiveFault, look: int = 2, **more: Any) -> Live:
    """The same run, with faults."""
    return replace(WELL, look=look, faults=faults, **more)


class PretendSource:
    """What an observer would tell."""

    graph = GRAPH
    look_s = 0.002

    def logs(self, process: str, tail: int) -> Logs:
        lines = [LogLine(stream="out", text=f"line {number}") for number in range(500)]
        return Logs(process=process, lines=tuple(lines[-tail:]))

    def buckets(self) -> Mapping[str, tuple[int, ...]]:
        return {"camera": (1, 0, 0, 0, 40, *([0] * 122), 3)}


class Answer(Struct, frozen=True):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Event(Struct, frozen=True):
    id: int | None
    event: str
    data: Any


class Line:
    """One connection of a client."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._text = b""

    async def ask(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        await self.begin(path, method, headers)
        head, body = await self.head(), b""
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), event
            body += bytes(event.data)
        return Answer(head.status, head.headers, body)

    async def begin(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> None:
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        said = {"host": "localhost", **(headers or {})}
        request = h11.Request(method=method, target=path, headers=list(said.items()))
        await self.stream.send(self._http.send(request) or b"")
        await self.stream.send(self._http.send(h11.EndOfMessage()) or b"")

    async def head(self) -> Answer:
        event = await self._next()
        assert isinstance(event, h11.Response), event
        headers = {name.decode(): value.decode() for name, value in event.headers}
        return Answer(event.status_code, headers, b"")

    async def event(self) -> Event:
        """The next event of a stream; a comment is none."""
        while True:
            while b"\n\n" not in self._text:
                data = await self._next()
                assert isinstance(data, h11.Data), f"the stream is over: {data}"
                self._text += bytes(data.data)
            frame, _, self._text = self._text.partition(b"\n\n")
            if not frame.startswith(b":"):
                return _event_of(frame)

    async def until(self, event: str) -> Event:
        while (found := await self.event()).event != event:
            pass
        return found

    async def _next(self) -> Any:
        with anyio.fail_after(PATIENCE_S):
            while (event := self._http.next_event()) is h11.NEED_DATA:
                try:
                    self._http.receive_data(await self.stream.receive())
                except anyio.EndOfStream:
                    self._http.receive_data(b"")
        return event


def _event_of(frame: bytes) -> Event:
    fields = dict(line.split(b": ", 1) for line in frame.split(b"\n"))
    number = fields.get(b"id")
    return Event(
        None if number is None else int(number), fields[b"event"].decode(), msgspec.json.decode(fields[b"data"])
    )


class Server:
    """A gateway that is served, and where."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway = gateway
        self.port = port

    def show(self, live: Live) -> None:
        self.gateway.show(live, VIEW)

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            yield Line(stream)

    async def ask(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        async with self.line() as line:
            return await line.ask(path, method, headers)

    @asynccontextmanager
    async def stream(self, path: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[Line]:
        """A stream of events, its head read and found good."""
        async with self.line() as line:
            await line.begin(path, headers=headers)
            head = await line.head()
            assert (head.status, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8"), head
            yield line

    async def until(self, number: Any, wanted: int) -> None:
        """Until a figure of the gateway is this. There is nothing that tells, so it is looked at again and again."""
        with anyio.fail_after(PATIENCE_S):
            while number() != wanted:
                await anyio.sleep(0.01)


@asynccontextmanager
async def served(
    live: Live | None = WELL,
    view: View = VIEW,
    *,
    first_id: int = FIRST_ID,
    token: str | None = None,
    hosts: tuple[str, ...] = (),
    limits: Limits | None = None,
    page: Path | None = None,
) -> AsyncIterator[Server]:
    found = Page(page) if page is not None else None
    gateway = Gateway(PretendSource(), first_id=first_id, token=token, hosts=hosts, limits=limits, page=found)
    if live is not None:
        gateway.show(live, view)
    stop = anyio.Event()
    with listening(LOOPBACK) as opened:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.serve, opened, stop.wait)
            try:
                yield Server(gateway, opened.getsockname()[1])
            finally:
                stop.set()
