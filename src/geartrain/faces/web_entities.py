"""The run as a tree of entities, in the words of the diagnostic API that the routes follow (ADR 32).

    area        the pipeline                    contains
    component   a process of it                 hosts
    app         a daemon in it
    function    a service: none yet

Everything here is a view of one `Live` and of the `Graph`: plain data in, plain data out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from geartrain.faces.web_answers import Refused
from geartrain.faces.web_events import summary
from geartrain.faces.web_live import Graph, Live, LiveDaemon, LiveFault, LiveProcess

API = "/api/v1"
KINDS: Mapping[str, str] = {"areas": "area", "components": "component", "apps": "app", "functions": "function"}
STATUSES: Mapping[str, tuple[str, ...]] = {
    "pending": ("PREFAILED",),
    "confirmed": ("CONFIRMED",),
    "cleared": ("CLEARED",),
    "healed": ("HEALED",),
    "all": ("PREFAILED", "CONFIRMED", "HEALED", "CLEARED"),
}
PRESENT = ("PREFAILED", "CONFIRMED")
_READY = ("running", "idle")
_WELL = ("ok", "warning")

_TIMING = (
    "executions", "rate_hz", "last_s", "ewma_s", "min_s", "max_s", "budget_s", "overruns", "cycle", "period_s",
    "actual_period_s", "jitter_s", "max_jitter_s", "lateness_s", "max_lateness_s", "skipped",
)  # fmt: skip
_LIVENESS = ("state", "phase", "condition", "online", "starts", "stops", "errors", "restarts", "in_body_s")

Object = dict[str, Any]


class Entities:
    """What there is at one moment."""

    def __init__(self, live: Live, graph: Graph) -> None:
        self.live = live
        self.graph = graph
        self.processes = {process.name: process for process in live.processes}
        self.daemons = {daemon.name: daemon for daemon in live.daemons}

    # -- lists and items

    def all_of(self, kind: str) -> list[Object]:
        match kind:
            case "areas":
                return [self._area()]
            case "components":
                return [self._component(process) for process in self.live.processes]
            case "apps":
                return [self._app(daemon) for daemon in self.live.daemons]
            case _:
                return []

    def one(self, kind: str, name: str) -> Object:
        """This entity; refused if there is none."""
        for found in self.all_of(kind):
            if found["id"] == name:
                return found
        known = [entity["id"] for entity in self.all_of(kind)]
        raise Refused(
            404,
            "entity-not-found",
            f"there is no {KINDS[kind]} {name!r}",
            entity_id=name,
            kind=KINDS[kind],
            known=known,
        )

    def _area(self) -> Object:
        live = self.live
        return _entity("areas", live.pipeline, health=live.health, is_online=live.alive, run=live.run)

    def _component(self, process: LiveProcess) -> Object:
        return _entity(
            "components", process.name, health=process.health, is_online=process.online, condition=process.condition,
            generation=process.generation, pid=process.pid,
        )  # fmt: skip

    def _app(self, daemon: LiveDaemon) -> Object:
        return _entity(
            "apps", daemon.name, health=daemon.health, is_online=daemon.online, condition=daemon.condition,
            component_id=daemon.process, system=daemon.system,
        )  # fmt: skip

    # -- relations

    def related(self, kind: str, name: str, relation: str) -> list[Object]:
        """Those that stand in this relation to an entity that there is."""
        return RELATIONS[kind, relation](self, name)

    def _apps_in(self, name: str) -> list[Object]:
        return [self._app(daemon) for daemon in self.live.daemons if daemon.process == name]

    def _home(self, name: str) -> list[Object]:
        return [self._component(self.processes[self.daemons[name].process])]

    def _needed_by_app(self, name: str) -> list[Object]:
        """From whom it gets something."""
        return [self._app(self.daemons[writer]) for writer in self._writers_to((name,))]

    def _needed_by_component(self, name: str) -> list[Object]:
        inside = [daemon.name for daemon in self.live.daemons if daemon.process == name]
        homes = dict.fromkeys(self.daemons[writer].process for writer in self._writers_to(inside))
        return [self._component(self.processes[home]) for home in homes if home != name]

    def _writers_to(self, readers: Iterable[str]) -> Iterator[str]:
        found = dict.fromkeys(edge.source for edge in self.graph.edges if edge.target in readers)
        return (writer for writer in found if writer in self.daemons)

    # -- data

    def data_of(self, kind: str, name: str) -> Mapping[str, Any]:
        """What there is to read of an entity, by name."""
        match kind:
            case "apps":
                daemon = msgspec.to_builtins(self.daemons[name])
                channels = [channel for channel in self.live.channels if name in (channel.writer, channel.reader)]
                return {
                    "liveness": {field: daemon[field] for field in _LIVENESS},
                    "timing": {field: daemon[field] for field in _TIMING},
                    "channels": channels,
                }
            case "components":
                return {"process": self.processes[name]}
            case _:
                live = self.live
                counts = {"processes": len(live.processes), "daemons": len(live.daemons), "faults": len(self.faults())}
                return {"run": {"run": live.run, "alive": live.alive, "look": live.look, **counts}}

    # -- faults

    def faults(self, statuses: Iterable[str] = PRESENT) -> list[LiveFault]:
        wanted = tuple(statuses)
        return [fault for fault in self.live.faults if fault.status in wanted]

    def faults_of(self, kind: str, name: str, statuses: Iterable[str] = PRESENT) -> list[LiveFault]:
        """Of an app its own; of a component also those of what it hosts; of an area all."""
        faults = self.faults(statuses)
        if kind == "areas":
            return faults
        within = {(KINDS[kind], name)}
        if kind == "components":
            within |= {("app", daemon.name) for daemon in self.live.daemons if daemon.process == name}
        return [fault for fault in faults if (fault.kind, fault.entity) in within]

    # -- status

    def status(self, kind: str, name: str) -> Object:
        """Whether it can do its work just now."""
        entity = self.one(kind, name)
        about = entity["x-medkit"]
        ready = about["is_online"] and about["health"] in _WELL and about.get("condition", "running") in _READY
        return {"status": "ready" if ready else "notReady", "x-medkit": about}


Relation = Callable[[Entities, str], list[Object]]

# Which relations there are, by kind and by name.
RELATIONS: Mapping[tuple[str, str], Relation] = {
    ("areas", "components"): lambda all_, name: all_.all_of("components"),
    ("areas", "contains"): lambda all_, name: all_.all_of("components"),
    ("components", "hosts"): Entities._apps_in,
    ("components", "subcomponents"): lambda all_, name: [],
    ("components", "depends-on"): Entities._needed_by_component,
    ("components", "belongs-to"): lambda all_, name: all_.all_of("areas"),
    ("apps", "is-located-on"): Entities._home,
    ("apps", "depends-on"): Entities._needed_by_app,
    ("apps", "belongs-to"): lambda all_, name: all_.all_of("areas"),
}


def _entity(kind: str, name: str, **about: object) -> Object:
    return {
        "id": name,
        "name": name,
        "type": KINDS[kind],
        "href": f"{API}/{kind}/{name}",
        "x-medkit": {key: value for key, value in about.items() if value is not None},
    }


def listed(items: list[Any], **links: str) -> Object:
    """A list, with how many there are."""
    found: Object = {"items": items, "x-medkit": {"total_count": len(items)}}
    return {**found, "_links": links} if links else found


def listed_faults(faults: Iterable[LiveFault]) -> Object:
    items = [summary(fault) for fault in faults]
    return {"items": items, "x-medkit": {"count": len(items)}}


def detail(fault: LiveFault, frames: Iterable[Mapping[str, Any]], iso: Callable[[float], str]) -> Object:
    """A fault with what was read when it was confirmed; `iso` writes a time of day."""
    confirmed, failed = fault.status == "CONFIRMED", fault.status in PRESENT
    return {
        "item": {
            "code": fault.fault_code,
            "fault_name": fault.description,
            "severity": fault.severity,
            "status": {
                "aggregatedStatus": "active" if failed else "passive",
                "testFailed": _bit(failed),
                "confirmedDTC": _bit(confirmed),
                "pendingDTC": _bit(fault.status == "PREFAILED"),
            },
        },
        "environment_data": {
            "extended_data_records": {
                "first_occurrence": iso(fault.first_occurred),
                "last_occurrence": iso(fault.last_occurred),
            },
            "snapshots": [{"type": "freeze_frame", "data": frame} for frame in frames],
        },
        "x-medkit": {
            "occurrence_count": fault.occurrence_count,
            "reporting_sources": [fault.entity],
            "severity_label": fault.severity_label,
            "status_raw": fault.status,
        },
    }


def _bit(value: bool) -> str:
    return "1" if value else "0"
