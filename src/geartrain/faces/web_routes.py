"""The routes of the gateway: one table, from which the application and its OpenAPI document are both made.

    /                                        the page
    /metrics                                 Prometheus
    /api/v1, /version-info, /health          the gateway itself
    /api/v1/live, /graph, /logs              what the page reads (web_live.py)
    /api/v1/faults, /faults/stream           all faults
    /api/v1/{kind}[/{id}[/...]]              areas, components, apps, functions; their relations, data, faults, status

What else the diagnostic API has is answered 501 with the name of its family, so that nobody takes it for an empty one.
There is no route that changes anything: the observer can only read.
"""

import importlib.metadata
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from geartrain.errors import BadValue
from geartrain.faces import web_asked, web_openapi
from geartrain.faces.web_answers import EventStream, Refused, answer
from geartrain.faces.web_entities import (
    API,
    FAMILIES,
    RELATIONS,
    about,
    detail,
    found,
    href,
    listed,
    listed_faults,
    shown,
)
from geartrain.faces.web_events import Hub, Looks, Places
from geartrain.faces.web_limits import Limits, Tally
from geartrain.faces.web_live import Graph, Live, Logs
from geartrain.faces.web_metrics import Metrics
from geartrain.faces.web_page import Page
from geartrain.faces.web_source import Source
from geartrain.faces.web_streams import Stopping, fault_frames, lives
from geartrain.rules.lookout import EntityKind
from geartrain.rules.view import Entity, Relation, View, asked_for

Handler = Callable[[Request], Awaitable[Response]]

_UNSERVED = (
    "triggers", "cyclic-subscriptions", "operations", "locks", "configurations", "auth", "updates", "scripts",
    "bulk-data",
)  # fmt: skip

_TAIL = 200
_TAIL_MOST = 10_000


class Query(Struct, frozen=True):
    """A parameter that a route takes; `shape` is its JSON schema."""

    name: str
    said: str
    shape: Mapping[str, Any]


class Served(Struct, frozen=True, kw_only=True):
    """A route: where, what for, which parameters it takes, and what comes back (a Struct, or any object)."""

    path: str
    said: str
    handler: Handler
    query: tuple[Query, ...] = ()
    answers: type | None = None
    media: str = "application/json"


_STATUS = Query("status", "Which faults; those that are present unless said.", {"enum": list(web_asked.STATUSES)})
_EVERY = Query("every", "Seconds between two events, 0.05 at least.", {"type": "number", "minimum": 0.05, "default": 1})
_ONCE = Query("once", "One JSON object and no stream.", {"type": "boolean", "default": False})
_LAST = Query("last_event_id", "The last id that was seen, as the header Last-Event-ID.", {"type": "integer"})
_PROCESS = Query("process", "Whose lines.", {"type": "string"})
_TAIL_LINES = Query("tail", "How many lines at most.", {"type": "integer", "minimum": 1, "maximum": _TAIL_MOST})


class Routes:
    """Everything that is answered, from the looks of one observer."""

    def __init__(
        self, looks: Looks, hub: Hub, source: Source, *, page: Page, limits: Limits, tally: Tally, stopping: Stopping
    ) -> None:
        self._looks = looks
        self._hub = hub
        self._source = source
        self._page = page
        self._limits = limits
        self._tally = tally
        self._stopping = stopping
        self.places = Places(limits.streams)
        self._metrics = Metrics(looks, source, hub, self.places, tally)
        self.served = tuple(self._table())
        self._document = web_openapi.document(self.served, _version())

    def application(self) -> Starlette:
        routes = [Route(served.path, self._checked(served), methods=["GET"]) for served in self.served]
        handlers: Mapping[Any, Any] = {
            Refused: _refused,
            404: self._unknown,
            405: _not_allowed,
            Exception: self._broken,
        }
        return Starlette(routes=routes, exception_handlers=handlers)

    def _table(self) -> Sequence[Served]:
        get = [
            Served(path="/", said="The page.", handler=self._show_page, media="text/html"),
            Served(path="/metrics", said="For Prometheus.", handler=self._show_metrics, media="text/plain"),
            Served(path=API, said="What is served here.", handler=self._root),
            Served(path=f"{API}/openapi.json", said="This document.", handler=self._openapi),
            Served(path=f"{API}/version-info", said="Versions.", handler=self._versions),
            Served(path=f"{API}/health", said="How the gateway is.", handler=self._health),
            Served(path=f"{API}/live", said="All values, again and again.", handler=self._live,
                   query=(_EVERY, _ONCE, _LAST), answers=Live, media="text/event-stream"),
            Served(path=f"{API}/graph", said="What is connected with what.", handler=self._graph, answers=Graph),
            Served(path=f"{API}/logs", said="The last lines of a process.", handler=self._logs,
                   query=(_PROCESS, _TAIL_LINES), answers=Logs),
            Served(path=f"{API}/faults", said="All faults.", handler=self._faults, query=(_STATUS,)),
            Served(path=f"{API}/faults/stream", said="Faults as they come and go.", handler=self._fault_stream,
                   query=(_LAST,), media="text/event-stream"),
        ]  # fmt: skip
        for family, kind in FAMILIES.items():
            get += self._of_kind(family, kind)
        get += [Served(path=path, said="A file of the page.", handler=self._show_file, media=media)
                for path, media in self._page.files()]  # fmt: skip
        return get

    def _of_kind(self, family: str, kind: EntityKind) -> Sequence[Served]:
        """The routes of one kind of entity."""
        one = f"{API}/{family}/{{id}}"
        return [
            Served(path=f"{API}/{family}", said=f"Every {kind}.", handler=_with(self._entities, kind)),
            Served(path=one, said=f"One {kind}.", handler=_with(self._entity, kind)),
            Served(path=f"{one}/data", said=f"What there is to read of this {kind}.", handler=_with(self._data, kind)),
            Served(path=f"{one}/data/{{path}}", said="One of them.", handler=_with(self._datum, kind)),
            Served(path=f"{one}/faults", said="Its faults.", handler=_with(self._faults_of, kind), query=(_STATUS,)),
            Served(path=f"{one}/faults/{{code}}", said="One fault.", handler=_with(self._fault, kind)),
            Served(path=f"{one}/status", said="Whether it can do its work.", handler=_with(self._status, kind)),
            *(Served(path=f"{one}/{relation}", said=f"Its {relation}.", handler=_with(self._related, kind, relation))
              for relation in RELATIONS[kind]),
        ]  # fmt: skip

    # -- the gateway itself

    async def _root(self, request: Request) -> Response:
        served = dict.fromkeys((*FAMILIES, "faults", "data", "status", "health", "version-info", "live"), True)
        endpoints = [f"GET {row.path}" for row in self.served if row.path.startswith(API)]
        return answer({
            "name": "geartrain executor observer",
            "version": _version(),
            "api_base": API,
            "capabilities": served | dict.fromkeys(_UNSERVED, False),
            "endpoints": endpoints,
        })  # fmt: skip

    async def _openapi(self, request: Request) -> Response:
        return answer(self._document)

    async def _versions(self, request: Request) -> Response:
        vendor = {"name": "geartrain", "version": _version()}
        return answer({"items": [{"base_uri": API, "version": "1.0", "vendor_info": vendor}]})

    async def _health(self, request: Request) -> Response:
        live, tally = self._looks.last, self._tally
        warnings = ["nothing-seen-yet"] if live is None else list(live.warnings)
        age_s = None if live is None else round(max(0.0, time.time() - live.now), 3)
        return answer({
            "status": "healthy" if live is not None else "starting",
            "timestamp": time.time(),
            "warnings": warnings,
            "x-medkit": {
                "look": None if live is None else live.look, "look_age_s": age_s, "look_s": self._source.look_s,
                "connections": tally.connections, "streams": self.places.taken, "streams_max": self.places.most,
                "requests_total": tally.requests, "refused_total": tally.refused, "denied_total": tally.denied,
                "slow_clients_total": tally.slow, "broken_connections_total": tally.broken,
                "dropped_events_total": self._hub.dropped,
            },
        })  # fmt: skip

    async def _show_metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _show_page(self, request: Request) -> Response:
        return self._page.answer("/")

    async def _show_file(self, request: Request) -> Response:
        return self._page.answer(request.url.path)

    # -- what the page reads

    async def _live(self, request: Request) -> Response:
        every_s = web_asked.seconds(request, "every", self._limits.every_s, self._limits.every_least_s)
        once = web_asked.flag(request, "once")
        seen = web_asked.last_id(request)
        if once:
            return Response(self._looks.encoded(self._now()), media_type="application/json")
        return self._stream(lambda: lives(self._looks, every_s, seen, self._limits, self._stopping))

    async def _graph(self, request: Request) -> Response:
        return answer(self._source.graph)

    async def _logs(self, request: Request) -> Response:
        process = request.query_params.get("process")
        if process is None:
            raise Refused(400, "invalid-parameter", "say whose lines: ?process=NAME", parameter="process")
        if process not in {node.process for node in self._source.graph.nodes}:
            raise Refused(404, "entity-not-found", f"there is no component {process!r}", entity_id=process)
        tail = web_asked.whole(request, "tail", _TAIL, _TAIL_MOST)
        try:
            return answer(self._source.logs(process, tail))
        except BadValue as error:
            raise Refused(404, "resource-not-found", str(error), entity_id=process) from error

    # -- entities

    async def _entities(self, request: Request, kind: EntityKind) -> Response:
        whole = listed([shown(entity) for entity in self._view().of_kind(kind)])
        if kind == "function":
            whole["x-medkit"]["note"] = "a function is a service, and services are not observed yet"
        return answer(whole)

    async def _entity(self, request: Request, kind: EntityKind) -> Response:
        return answer(shown(self._found(request, kind)[1]))

    async def _related(self, request: Request, kind: EntityKind, relation: Relation) -> Response:
        view, entity = self._found(request, kind)
        items = [shown(other) for other in view.related(entity, relation) or ()]
        return answer(listed(items, **{"self": f"{href(entity)}/{relation}", kind: href(entity)}))

    async def _data(self, request: Request, kind: EntityKind) -> Response:
        view, entity = self._found(request, kind)
        data = view.snapshot(entity)
        return answer(listed([{"id": key, "name": key, "category": "currentData", "data": data[key]} for key in data]))

    async def _datum(self, request: Request, kind: EntityKind) -> Response:
        view, entity = self._found(request, kind)
        data, path = view.snapshot(entity), request.path_params["path"]
        if path not in data:
            raise Refused(404, "resource-not-found", f"{entity.id!r} has no data {path!r}", known=list(data))
        return answer({"id": path, "data": data[path], "timestamp": view.moment.wall_ns / 1e9})

    async def _status(self, request: Request, kind: EntityKind) -> Response:
        view, entity = self._found(request, kind)
        return answer({"status": "ready" if view.is_ready(entity) else "notReady", "x-medkit": about(entity)})

    # -- faults

    async def _faults(self, request: Request) -> Response:
        return answer(listed_faults(asked_for(self._view().faults, web_asked.status(request))))

    async def _faults_of(self, request: Request, kind: EntityKind) -> Response:
        status = web_asked.status(request)
        view, entity = self._found(request, kind)
        return answer(listed_faults(asked_for(view.faults_of(entity), status)))

    async def _fault(self, request: Request, kind: EntityKind) -> Response:
        view, entity = self._found(request, kind)
        code = request.path_params["code"]
        fault = view.fault(entity, code)
        if fault is None:
            said = f"{entity.id!r} has no fault {code!r}"
            raise Refused(404, "fault-not-found", said, entity_id=entity.id, fault_code=code)
        return answer(detail(fault, _iso))

    async def _fault_stream(self, request: Request) -> Response:
        last_id = web_asked.last_id(request)
        return self._stream(lambda: fault_frames(self._hub, last_id, self._limits, self._stopping))

    # -- streams

    def _stream(self, frames: Callable[[], AsyncGenerator[bytes]]) -> Response:
        """A stream, if there is a place for one more."""
        if not self.places.take():
            self._tally.refused += 1
            raise Refused(503, "too-many-streams", f"all {self.places.most} streams are in use; come again")
        return EventStream(frames, self.places.free)

    # -- what else is asked

    def _now(self) -> Live:
        if self._looks.last is None:
            raise Refused(503, "nothing-seen-yet", "the observer has not looked yet; come again")
        return self._looks.last

    def _view(self) -> View:
        self._now()
        assert self._looks.view is not None
        return self._looks.view

    def _found(self, request: Request, kind: EntityKind) -> tuple[View, Entity]:
        view = self._view()
        return view, found(view, kind, request.path_params["id"])

    def _checked(self, served: Served) -> Handler:
        """A parameter that a route does not know is refused: it may be a known one, misspelt."""
        known = {query.name for query in served.query} | {"token"}

        async def handle(request: Request) -> Response:
            for name in request.query_params:
                if name not in known and served.path.startswith("/api/"):
                    said = f"{served.path} takes {', '.join(sorted(known))}, and not {name!r}"
                    raise Refused(400, "invalid-parameter", said, parameter=name)
            return await served.handler(request)

        return handle

    async def _unknown(self, request: Request, error: Exception) -> Response:
        """Of the API nothing is "not found" but entities: what is not served says so."""
        parts = [part for part in request.url.path.removeprefix(API).split("/") if part]
        if not request.url.path.startswith(API) or not parts:
            return Refused(404, "not-found", f"there is nothing at {request.url.path}").answer()
        return _unserved(parts).answer()

    async def _broken(self, request: Request, error: Exception) -> Response:
        self._tally.broken += 1
        return Refused(500, "internal-error", f"this is a fault of the gateway: {type(error).__name__}").answer()


def _unserved(parts: Sequence[str]) -> Refused:
    family = parts[2] if parts[0] in FAMILIES and len(parts) > 2 else parts[0]
    return Refused(501, "not-implemented", f"the family {family!r} is not served here", family=family)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    response = error.answer()
    if error.status == 503:
        response.headers["retry-after"] = "1"
    return response


async def _not_allowed(request: Request, error: Exception) -> Response:
    said = f"{request.method} changes something, and the observer can only read"
    response = Refused(405, "method-not-allowed", said, method=request.method).answer()
    response.headers["allow"] = "GET, HEAD"
    return response


def _with(handler: Callable[..., Awaitable[Response]], *more: str) -> Handler:
    async def handle(request: Request) -> Response:
        return await handler(request, *more)

    return handle


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _version() -> str:
    return importlib.metadata.version("geartrain")
