"""A run as diagnosis sees it: entities, how they hang together, how well each is, and what is wrong with it.

    area         the pipeline            components are in it
    component    a process               it hosts apps
    app          a daemon                it depends on those whose channels it reads
    function     a service               none yet

An entity is found by its kind and its id; of one that is not there nothing can be asked, so nothing unknown is well.
Ids are letters, digits, `-` and `_`. What is asked of an entity is about all that is below it too.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import count
from typing import Literal, get_args

from msgspec import Struct

from geartrain.rules.counts import ChannelCounts
from geartrain.rules.faults import Fault, FaultStatus, Frame
from geartrain.rules.health import Condition, Health, is_online
from geartrain.rules.lookout import EntityKind, Moment
from geartrain.rules.readings import DaemonReading, Phase, Poll, SlotState, Up

KINDS: tuple[EntityKind, ...] = get_args(EntityKind)
Relation = Literal[
    "contains", "components", "subcomponents", "hosts", "apps", "depends-on", "is-located-on", "belongs-to"
]
StatusFilter = Literal["pending", "confirmed", "cleared", "healed", "all"]

ID_MOST = 256
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")

_FILTERS: Mapping[StatusFilter, tuple[FaultStatus, ...]] = {
    "pending": (FaultStatus.PREFAILED, FaultStatus.PREPASSED),
    "confirmed": (FaultStatus.CONFIRMED,),
    "cleared": (FaultStatus.CLEARED,),
    "healed": (FaultStatus.HEALED,),
    "all": tuple(FaultStatus),
}
# Of faults nothing else is shown unless it is asked for.
_SHOWN = (FaultStatus.PREFAILED, FaultStatus.CONFIRMED)


class Entity(Struct, frozen=True, kw_only=True):
    """One of a view. `parent` is the id of what it is part of, one kind above; `name` is what it is called here."""

    kind: EntityKind
    id: str
    name: str
    description: str
    is_online: bool
    health: Health
    condition: Condition
    parent: str | None = None
    # The process of an app.
    component: str | None = None
    is_system: bool = False


class FaultSummary(Struct, frozen=True, kw_only=True):
    """A fault as it is listed: times are seconds since 1970."""

    fault_code: str
    description: str
    first_occurred: float
    last_occurred: float
    occurrence_count: int
    reporting_sources: tuple[str, ...]
    severity: int
    severity_label: str
    status: str


class EntityFault(Struct, frozen=True, kw_only=True):
    """A fault, and whose it is."""

    entity: Entity
    fault: Fault
    frames: tuple[Frame, ...] = ()

    @property
    def summary(self) -> FaultSummary:
        return summary_of(self.fault, self.entity.id)


class Liveness(Struct, frozen=True, kw_only=True):
    """What an app says of itself."""

    state: str
    phase: str
    online: bool
    starts: int
    stops: int
    errors: int
    restarts: int


class Timing(Struct, frozen=True, kw_only=True):
    """How its bodies were. Lengths are nanoseconds; null is "none yet". `rate_hz` is as often as they really run."""

    executions: int
    last_ns: int | None
    ewma_ns: int | None
    min_ns: int | None
    max_ns: int | None
    in_body_ns: int | None
    rate_hz: float | None
    cycle: int
    period_ns: int | None
    actual_period_ns: int | None
    jitter_ns: int | None
    max_jitter_ns: int | None
    lateness_ns: int | None
    max_lateness_ns: int | None
    skipped: int
    budget_ns: int | None
    overruns: int
    held: bool


class ChannelData(Struct, frozen=True, kw_only=True):
    """A channel. `waits` is who waits in it now."""

    name: str
    writer: str
    reader: str
    policy: str
    maxsize: int
    fill: int
    accepted: int
    taken: int
    stable: int
    dropped: int
    redelivered: int
    set_aside: int
    lost: int
    accepted_hz: float | None
    taken_hz: float | None
    dropped_hz: float | None
    # Of one that may go stale: how long ago something came, and whether that is too long.
    age_s: float | None
    stale: bool | None
    waits: tuple[str, ...]


class Executor(Struct, frozen=True, kw_only=True):
    """A process."""

    up: str
    faulted: bool
    online: bool
    task_count: int
    pid: int | None
    generation: int
    heartbeats: int
    heartbeat_age_ns: int | None
    restarts: int
    deaths: int
    dropped: int
    exit_code: int | None


class RunData(Struct, frozen=True, kw_only=True):
    """A run."""

    run: str
    alive: bool
    processes: int
    daemons: int
    unreadable: tuple[str, ...]
    circles: tuple[str, ...]


Data = Liveness | Timing | Executor | RunData | Mapping[str, ChannelData]


def fit_id(name: str) -> str:
    """A name as an id: what is not fit for one is told by its number."""
    return _UNFIT.sub(lambda letter: f"_{ord(letter[0]):x}_", name)[:ID_MOST]


def summary_of(fault: Fault, source: str) -> FaultSummary:
    return FaultSummary(
        fault_code=fault.key.code,
        description=fault.said,
        first_occurred=fault.first_ns / 1e9,
        last_occurred=fault.last_ns / 1e9,
        occurrence_count=fault.occurrences,
        reporting_sources=(source,),
        severity=int(fault.severity),
        severity_label=fault.severity.name,
        status=fault.status,
    )


class View:
    """One moment of a run, to be asked by entity."""

    def __init__(self, moment: Moment) -> None:
        self.moment = moment
        ids = _Ids()
        self.area_id = ids.of("area", moment.spec.name)
        self.entities = tuple(_entities(moment, ids))
        self._by_id = {(entity.kind, entity.id): entity for entity in self.entities}
        self._by_name = {(entity.kind, entity.name): entity for entity in self.entities}
        self._polls = {poll.process.process: poll for poll in moment.reading.processes}
        self._slots = {slot.daemon: slot for _, slot in moment.reading.daemons()}

    # -- finding -----------------------------------------------------------------------------------------------------

    def of_kind(self, kind: EntityKind) -> tuple[Entity, ...]:
        return tuple(entity for entity in self.entities if entity.kind == kind)

    def find(self, kind: EntityKind, id_: str) -> Entity | None:
        return self._by_id.get((kind, id_))

    def named(self, kind: EntityKind, name: str) -> Entity | None:
        """By the name that it has in the pipeline."""
        return self._by_name.get((kind, name))

    def below(self, entity: Entity) -> tuple[Entity, ...]:
        """The entity, and all that is part of it."""
        return (
            entity,
            *(other for child in self._children.get((entity.kind, entity.id), ()) for other in self.below(child)),
        )

    @cached_property
    def _children(self) -> dict[tuple[EntityKind, str], list[Entity]]:
        found: dict[tuple[EntityKind, str], list[Entity]] = {}
        for entity in self.entities:
            if (parent := self._parent(entity)) is not None:
                found.setdefault((parent.kind, parent.id), []).append(entity)
        return found

    def related(self, entity: Entity, relation: Relation) -> tuple[Entity, ...] | None:
        """Those that are so related to it; None when one of its kind has no such relation."""
        children = tuple(self._children.get((entity.kind, entity.id), ()))
        match entity.kind, relation:
            case "area", "contains" | "components":
                return children
            case "area", "apps":
                return self.of_kind("app")
            case "component", "hosts" | "apps" | "contains":
                return children
            case "component", "subcomponents":
                return ()
            case "component" | "app", "belongs-to":
                return self.of_kind("area")
            case "app", "is-located-on":
                return () if (component := self._parent(entity)) is None else (component,)
            case "component" | "app", "depends-on":
                return self._inputs(entity)
            case "function", "hosts" | "apps" | "depends-on":
                return ()
            case _:
                return None

    def _parent(self, entity: Entity) -> Entity | None:
        above = _above(entity.kind)
        return None if above is None or entity.parent is None else self.find(above, entity.parent)

    def _inputs(self, entity: Entity) -> tuple[Entity, ...]:
        """Those whose items it reads. A process does not depend on itself."""
        names = {one.name for one in self.below(entity) if one.kind == "app"}
        writers = dict.fromkeys(counts.writer for counts in self.moment.channels if counts.reader in names)
        apps = [app for name in writers if (app := self.named("app", name)) is not None and name not in names]
        if entity.kind == "app":
            return tuple(apps)
        return tuple(dict.fromkeys(component for app in apps if (component := self._parent(app)) is not None))

    # -- asking ------------------------------------------------------------------------------------------------------

    def health(self, entity: Entity) -> Health:
        """The worst of it and of all that is below it."""
        return entity.health

    def is_ready(self, entity: Entity) -> bool:
        """Whether it does what it is for."""
        return entity.is_online and entity.health < Health.ERROR

    @cached_property
    def faults(self) -> tuple[EntityFault, ...]:
        """All of them, those that are over too."""
        return tuple(self._faults())

    def faults_of(self, entity: Entity) -> tuple[EntityFault, ...]:
        """Its own, and those of all that is below it."""
        its = {(other.kind, other.id) for other in self.below(entity)}
        return tuple(found for found in self.faults if (found.entity.kind, found.entity.id) in its)

    def fault(self, entity: Entity, code: str) -> EntityFault | None:
        """The one of this code: its own, or the first of what is below it."""
        found = [fault for fault in self.faults_of(entity) if fault.fault.key.code == code]
        return min(found, key=lambda fault: fault.entity != entity, default=None)

    def _faults(self) -> Iterator[EntityFault]:
        for fault in self.moment.faults:
            kind: EntityKind = "component" if fault.key.code.is_of_process else "app"
            if (entity := self.named(kind, fault.key.entity)) is not None:
                yield EntityFault(entity=entity, fault=fault, frames=self.moment.frames.get(fault.key, ()))

    def snapshot(self, entity: Entity) -> dict[str, Data]:
        """What is known of it just now, by topic."""
        match entity.kind:
            case "app":
                slot = self._slots.get(entity.name) or DaemonReading(entity.name)
                channels = {name: self._channels[name] for name in self._channels_at.get(entity.name, ())}
                return {
                    "liveness": _liveness(slot, entity),
                    "timing": _timing(slot, self.moment),
                    "channels": channels,
                }
            case "component":
                return {"executor": _executor(entity, self._polls[entity.name], self.moment)}
            case "area":
                return {"run": _run(self.moment), "channels": dict(self._channels)}
            case _:
                return {}

    @cached_property
    def _channels(self) -> dict[str, ChannelData]:
        waits: dict[str, list[str]] = {}
        for wait in self.moment.waits:
            waits.setdefault(wait.end.channel, []).append(wait.daemon)
        return {
            counts.channel: self._channel(counts, waits.get(counts.channel, ())) for counts in self.moment.channels
        }  # fmt: skip

    @cached_property
    def _channels_at(self) -> dict[str, list[str]]:
        """The channels of each daemon."""
        found: dict[str, list[str]] = {}
        for counts in self.moment.channels:
            for daemon in {counts.writer, counts.reader}:
                found.setdefault(daemon, []).append(counts.channel)
        return found

    def _channel(self, counts: ChannelCounts, waits: Sequence[str]) -> ChannelData:
        rate = self.moment.rates.get(counts.channel)
        return ChannelData(
            name=counts.channel,
            writer=counts.writer,
            reader=counts.reader,
            policy=counts.policy,
            maxsize=counts.maxsize,
            fill=counts.fill,
            accepted=counts.accepted,
            taken=counts.taken,
            stable=counts.stable,
            dropped=counts.dropped,
            redelivered=counts.redelivered,
            set_aside=counts.set_aside,
            lost=counts.lost,
            accepted_hz=None if rate is None else rate.accepted_hz,
            taken_hz=None if rate is None else rate.taken_hz,
            dropped_hz=None if rate is None else rate.dropped_hz,
            age_s=counts.age_s,
            stale=counts.stale,
            waits=tuple(waits),
        )


def asked_for(faults: tuple[EntityFault, ...], status: StatusFilter | None) -> tuple[EntityFault, ...]:
    """Those of this status; unless one is said, those that are not over."""
    wanted = _SHOWN if status is None else _FILTERS[status]
    return tuple(found for found in faults if found.fault.status in wanted)


def _above(kind: EntityKind) -> EntityKind | None:
    match kind:
        case "app":
            return "component"
        case "component":
            return "area"
        case _:
            return None


class _Ids:
    """Ids that were given: two names never have one, though both are changed to be fit."""

    def __init__(self) -> None:
        self._given: dict[tuple[EntityKind, str], str] = {}
        self._taken: set[tuple[EntityKind, str]] = set()

    def of(self, kind: EntityKind, name: str) -> str:
        if (kind, name) not in self._given:
            wanted = id_ = fit_id(name)
            numbers = count(2)
            while (kind, id_) in self._taken:
                id_ = f"{wanted[: ID_MOST - 8]}-{next(numbers)}"
            self._taken.add((kind, id_))
            self._given[kind, name] = id_
        return self._given[kind, name]


def _entities(moment: Moment, ids: _Ids) -> Iterator[Entity]:
    reading, spec, limits = moment.reading, moment.spec, moment.limits
    online = {
        poll.process.process: is_online(poll.process, reading.now_ns, limits) for poll in reading.processes
    }  # fmt: skip
    area = ids.of("area", spec.name)
    yield Entity(
        kind="area", id=area, name=spec.name, description=f"pipeline {spec.name}, run {reading.about.run_id}",
        is_online=reading.alive, health=moment.health["area", spec.name],
        condition=Condition.RUNNING if reading.alive else Condition.STOPPED,
    )  # fmt: skip
    for name, condition in moment.processes.items():
        yield Entity(
            kind="component", id=ids.of("component", name), name=name, description=f"process {name}", parent=area,
            is_online=online[name], health=moment.health["component", name], condition=condition,
        )  # fmt: skip
    specs = {daemon.name: daemon for daemon in spec.daemons}
    planned: dict[str, list[str]] = {}
    for daemon in spec.daemons:
        planned.setdefault(daemon.process, []).append(daemon.name)
    for poll in reading.processes:
        component = ids.of("component", poll.process.process)
        slots = {slot.daemon for slot in poll.daemons}
        for name in dict.fromkeys((*planned.get(poll.process.process, ()), *(slot.daemon for slot in poll.daemons))):
            known = specs.get(name)
            run = "" if known is None else known.run or " ".join(known.command)
            yield Entity(
                kind="app", id=ids.of("app", name), name=name, description=run, parent=component, component=component,
                is_online=online[poll.process.process] and name in slots,
                health=moment.health.get(("app", name), Health.OK),
                condition=moment.daemons.get(name, Condition.NEVER), is_system=known is not None and known.is_system,
            )  # fmt: skip


def _liveness(slot: DaemonReading, entity: Entity) -> Liveness:
    return Liveness(
        state=SlotState(slot.state).name.lower(),
        phase=Phase(slot.phase).name.lower(),
        online=entity.is_online,
        starts=slot.starts,
        stops=slot.stops,
        errors=slot.errors,
        restarts=slot.restarts,
    )


def _timing(slot: DaemonReading, moment: Moment) -> Timing:
    ran, cycled, again = slot.executions > 0, slot.period_ns > 0, slot.actual_period_ns > 0
    return Timing(
        executions=slot.executions,
        last_ns=slot.last_ns if ran else None,
        ewma_ns=slot.ewma_ns if ran else None,
        min_ns=slot.min_ns if ran else None,
        max_ns=slot.max_ns if ran else None,
        in_body_ns=max(0, moment.reading.now_ns - slot.in_body_since_ns) if slot.in_body_since_ns else None,
        rate_hz=moment.body_hz.get(slot.daemon),
        cycle=slot.cycle,
        period_ns=slot.period_ns if cycled else None,
        actual_period_ns=slot.actual_period_ns if again else None,
        jitter_ns=slot.jitter_ns if again else None,
        max_jitter_ns=slot.max_jitter_ns if again else None,
        lateness_ns=slot.lateness_ns if cycled else None,
        max_lateness_ns=slot.max_lateness_ns if cycled else None,
        skipped=slot.skipped,
        budget_ns=slot.budget_ns or None,
        overruns=slot.overruns,
        held=bool(slot.held),
    )


def _executor(entity: Entity, poll: Poll, moment: Moment) -> Executor:
    process = poll.process
    return Executor(
        up=Up(process.up).name.lower(),
        faulted=bool(process.fault_since_ns),
        online=entity.is_online,
        task_count=len(poll.daemons),
        pid=process.pid or None,
        generation=process.generation,
        heartbeats=process.heartbeats,
        heartbeat_age_ns=max(0, moment.reading.now_ns - process.heartbeat_ns) if process.heartbeat_ns else None,
        restarts=process.restarts,
        deaths=process.deaths,
        dropped=process.dropped,
        exit_code=process.exit_code,
    )


def _run(moment: Moment) -> RunData:
    reading = moment.reading
    return RunData(
        run=reading.about.run_id,
        alive=reading.alive,
        processes=len(reading.processes),
        daemons=sum(len(poll.daemons) for poll in reading.processes),
        unreadable=reading.unreadable,
        circles=tuple(map(str, moment.circles)),
    )
