"""What an observer has seen, as the page reads it (`web_live.py`): times of day and seconds, and null for "not now"."""

from collections.abc import Mapping

from geartrain.faces.web_live import Edge, Graph, Live, LiveChannel, LiveDaemon, LiveFault, LiveProcess, Node
from geartrain.rules.counts import ChannelCounts
from geartrain.rules.layers import layers
from geartrain.rules.lookout import Moment
from geartrain.rules.pipeline import PipelineSpec
from geartrain.rules.readings import Poll
from geartrain.rules.slots import quantile_ns
from geartrain.rules.view import Entity, EntityFault, Liveness, Timing, View


def live_of(view: View, buckets: Mapping[str, tuple[int, ...]] | None = None) -> Live:
    """Everything at the moment of this view. `buckets` say how long the bodies of a daemon took (`rules/slots.py`)."""
    took = buckets or {}
    moment, reading = view.moment, view.moment.reading
    polls = {poll.process.process: poll for poll in reading.processes}
    (area,) = view.of_kind("area")
    return Live(
        now=moment.wall_ns / 1e9,
        look=moment.look,
        run=reading.about.run_id,
        pipeline=moment.spec.name,
        alive=reading.alive,
        health=_health(area),
        processes=tuple(_process(component, polls[component.name], moment) for component in view.of_kind("component")),
        daemons=tuple(_daemon(app, view, took.get(app.name, ())) for app in view.of_kind("app")),
        channels=tuple(_channel(counts, moment) for counts in moment.channels),
        faults=tuple(map(_fault, view.faults)),
        warnings=(*reading.unreadable, *(f"waits in a circle: {circle}" for circle in moment.circles)),
    )


def graph_of(spec: PipelineSpec, run_id: str) -> Graph:
    """The pipeline as it is declared."""
    columns = layers(spec).columns
    column_of = {spot.daemon: number for number, spots in enumerate(columns) for spot in spots}
    nodes = (
        Node(id=daemon.name, process=daemon.process, run=daemon.run or " ".join(daemon.command) or None,
             system=daemon.is_system, column=column_of.get(daemon.name, 0))
        for daemon in spec.daemons
    )  # fmt: skip
    edges = (
        Edge(id=channel.name, source=channel.writer.daemon, source_port=channel.writer.port,
             target=channel.reader.daemon, target_port=channel.reader.port, policy=channel.policy,
             maxsize=channel.maxsize)
        for channel in spec.channels
        if channel.writer is not None and channel.reader is not None
    )  # fmt: skip
    return Graph(pipeline=spec.name, run=run_id, nodes=tuple(nodes), edges=tuple(edges))


def _process(component: Entity, poll: Poll, moment: Moment) -> LiveProcess:
    process = poll.process
    beat_ns = process.heartbeat_ns
    return LiveProcess(
        name=component.name,
        condition=component.condition,
        health=_health(component),
        online=component.is_online,
        pid=process.pid or None,
        generation=process.generation,
        born=_time_of_day(process.born_ns, moment),
        ended=_time_of_day(process.ended_ns, moment),
        exit_code=process.exit_code,
        heartbeat_age_s=(moment.reading.now_ns - beat_ns) / 1e9 if beat_ns else None,
        restarts=process.restarts,
        deaths=process.deaths,
        dropped=process.dropped,
    )


def _daemon(app: Entity, view: View, buckets: tuple[int, ...]) -> LiveDaemon:
    known = view.snapshot(app)
    liveness, timing = known["liveness"], known["timing"]
    assert isinstance(liveness, Liveness)
    assert isinstance(timing, Timing)
    return LiveDaemon(
        name=app.name,
        process=_process_of(app, view),
        condition=app.condition,
        health=_health(app),
        online=app.is_online,
        state=liveness.state,
        phase=liveness.phase,
        system=app.is_system,
        starts=liveness.starts,
        stops=liveness.stops,
        errors=liveness.errors,
        restarts=liveness.restarts,
        executions=timing.executions,
        overruns=timing.overruns,
        skipped=timing.skipped,
        cycle=timing.cycle,
        rate_hz=timing.rate_hz,
        in_body_s=_seconds(timing.in_body_ns),
        last_s=_seconds(timing.last_ns),
        ewma_s=_seconds(timing.ewma_ns),
        min_s=_seconds(timing.min_ns),
        max_s=_seconds(timing.max_ns),
        p50_s=_quantile(buckets, 0.5, timing.max_ns),
        p99_s=_quantile(buckets, 0.99, timing.max_ns),
        period_s=_seconds(timing.period_ns),
        actual_period_s=_seconds(timing.actual_period_ns),
        jitter_s=_seconds(timing.jitter_ns),
        max_jitter_s=_seconds(timing.max_jitter_ns),
        lateness_s=_seconds(timing.lateness_ns),
        max_lateness_s=_seconds(timing.max_lateness_ns),
        budget_s=_seconds(timing.budget_ns),
    )


def _process_of(app: Entity, view: View) -> str:
    component = None if app.component is None else view.find("component", app.component)
    return "" if component is None else component.name


def _channel(counts: ChannelCounts, moment: Moment) -> LiveChannel:
    rate = moment.rates.get(counts.channel)
    waiting = {wait.end.sends for wait in moment.waits if wait.end.channel == counts.channel}
    return LiveChannel(
        name=counts.channel,
        writer=counts.writer,
        reader=counts.reader,
        policy=counts.policy,
        maxsize=counts.maxsize,
        fill=counts.fill,
        accepted=counts.accepted,
        taken=counts.taken,
        dropped=counts.dropped,
        lost=counts.lost,
        redelivered=counts.redelivered,
        set_aside=counts.set_aside,
        rate_hz=None if rate is None else rate.taken_hz,
        stale=counts.stale,
        writer_waits=True in waiting,
        reader_waits=False in waiting,
    )


def _fault(found: EntityFault) -> LiveFault:
    known = found.summary
    return LiveFault(
        entity=found.entity.id,
        kind=found.entity.kind,
        fault_code=known.fault_code,
        status=known.status,
        severity=known.severity,
        severity_label=known.severity_label,
        description=known.description,
        first_occurred=known.first_occurred,
        last_occurred=known.last_occurred,
        occurrence_count=known.occurrence_count,
    )


def _health(entity: Entity) -> str:
    return entity.health.name.lower()


def _quantile(buckets: tuple[int, ...], part: float, max_ns: int | None) -> float | None:
    """A bucket ends where the greatest of its values need not be."""
    found_ns = quantile_ns(buckets, part)
    return _seconds(found_ns if found_ns is None or max_ns is None else min(found_ns, max_ns))


def _seconds(length_ns: int | None) -> float | None:
    return None if length_ns is None else length_ns / 1e9


def _time_of_day(at_ns: int, moment: Moment) -> float | None:
    """A moment of the machine's clock as a time of day."""
    return (moment.wall_ns - moment.reading.now_ns + at_ns) / 1e9 if at_ns else None
