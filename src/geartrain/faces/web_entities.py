"""How the entities of a view (`rules/view.py`) are written as JSON, in the words of the diagnostic API (ADR 32)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from geartrain.faces.web_answers import Refused
from geartrain.rules.faults import FaultStatus
from geartrain.rules.lookout import EntityKind
from geartrain.rules.view import Entity, EntityFault, Relation, View

API = "/api/v1"

# The kinds, by the name of their family.
FAMILIES: Mapping[str, EntityKind] = {
    "areas": "area", "components": "component", "apps": "app", "functions": "function",
}  # fmt: skip
_FAMILY = {kind: family for family, kind in FAMILIES.items()}

RELATIONS: Mapping[EntityKind, tuple[Relation, ...]] = {
    "area": ("contains", "components", "apps"),
    "component": ("contains", "hosts", "apps", "subcomponents", "belongs-to", "depends-on"),
    "app": ("belongs-to", "is-located-on", "depends-on"),
    "function": ("hosts", "apps", "depends-on"),
}

Object = dict[str, Any]


def found(view: View, kind: EntityKind, id_: str) -> Entity:
    """This entity; refused if there is none."""
    entity = view.find(kind, id_)
    if entity is None:
        known = [other.id for other in view.of_kind(kind)]
        raise Refused(404, "entity-not-found", f"there is no {kind} {id_!r}", entity_id=id_, kind=kind, known=known)
    return entity


def href(entity: Entity) -> str:
    return f"{API}/{_FAMILY[entity.kind]}/{entity.id}"


def shown(entity: Entity) -> Object:
    return {
        "id": entity.id,
        "name": entity.name,
        "type": entity.kind,
        "href": href(entity),
        "description": entity.description,
        "x-medkit": about(entity),
    }


def about(entity: Entity) -> Object:
    known: Object = {
        "is_online": entity.is_online,
        "health": entity.health.name.lower(),
        "condition": entity.condition,
    }
    if entity.component is not None:
        known |= {"component_id": entity.component, "system": entity.is_system}
    return known


def listed(items: list[Any], **links: str) -> Object:
    """A list, with how many there are."""
    whole: Object = {"items": items, "x-medkit": {"total_count": len(items)}}
    return {**whole, "_links": links} if links else whole


def listed_faults(faults: Iterable[EntityFault]) -> Object:
    items = [summary(fault) for fault in faults]
    return {"items": items, "x-medkit": {"count": len(items)}}


def summary(found: EntityFault) -> Object:
    """A fault as it stands in a list."""
    known: Object = msgspec.to_builtins(found.summary)
    return known | {"x-medkit": {"entity_id": found.entity.id, "entity_type": found.entity.kind}}


def detail(found: EntityFault, iso: Callable[[float], str]) -> Object:
    """A fault with what was read when it was confirmed; `iso` writes a time of day."""
    fault, known = found.fault, found.summary
    return {
        "item": {
            "code": known.fault_code,
            "fault_name": known.description,
            "severity": known.severity,
            "status": {
                "aggregatedStatus": "passive" if fault.status.is_over else "active",
                "testFailed": _bit(not fault.status.is_over and fault.streak > 0),
                "confirmedDTC": _bit(fault.status is FaultStatus.CONFIRMED),
                "pendingDTC": _bit(fault.status in (FaultStatus.PREFAILED, FaultStatus.PREPASSED)),
            },
        },
        "environment_data": {
            "extended_data_records": {
                "first_occurrence": iso(known.first_occurred),
                "last_occurrence": iso(known.last_occurred),
            },
            "snapshots": [
                {"type": "freeze_frame", "at": iso(frame.at_ns / 1e9), "data": frame.seen} for frame in found.frames
            ],
        },
        "x-medkit": {
            "occurrence_count": known.occurrence_count,
            "reporting_sources": known.reporting_sources,
            "severity_label": known.severity_label,
            "status_raw": known.status,
            "entity_id": found.entity.id,
            "entity_type": found.entity.kind,
        },
    }


def _bit(value: bool) -> str:
    return "1" if value else "0"
