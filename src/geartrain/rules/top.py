"""What a terminal shows of a run: one row for each daemon, one for each channel, one for each thing that is wrong.

    Moment (rules/lookout.py), and how long bodies took between two looks  ->  rows  ->  Rows

Not known is not zero: a rate is None until there are two looks, and a lateness where there is no grid.
"""

from collections.abc import Iterator, Mapping

from msgspec import Struct

from geartrain.rules.faults import Fault
from geartrain.rules.health import Condition, Health
from geartrain.rules.lookout import Moment
from geartrain.rules.readings import DaemonReading, EndReading, Phase, Poll
from geartrain.rules.slots import quantile_ns

# Of each daemon, how many bodies fell into each bucket of `rules/slots.py`.
Buckets = Mapping[str, tuple[int, ...]]


class DaemonRow(Struct, frozen=True, kw_only=True):
    """One daemon. `restarts` are all of it, by itself and with its process; `silent_s` is how old its last sign is."""

    run: str
    daemon: str
    process: str
    pid: int | None
    condition: Condition
    phase: str
    is_system: bool
    rate_hz: float | None
    p50_s: float | None
    p99_s: float | None
    lateness_s: float | None
    max_lateness_s: float | None
    in_body_s: float | None
    silent_s: float | None
    executions: int
    skipped: int
    errors: int
    restarts: int
    deaths: int
    health: Health


class ChannelRow(Struct, frozen=True, kw_only=True):
    """One channel. `fill` is as its writer sees it, who waits when there is no room; `waits` is who waits in it."""

    channel: str
    writer: str
    reader: str
    policy: str
    maxsize: int
    fill: int
    in_hz: float | None
    out_hz: float | None
    waits: str | None
    waits_s: float | None
    dropped: int
    lost: int

    @property
    def is_blocked(self) -> bool:
        """Whether its writer is held up by its reader."""
        return self.waits is not None and self.waits == self.writer


class Rows(Struct, frozen=True, kw_only=True):
    """Everything, in the order of the pipeline; `faults` are those that are not over, the worst first."""

    daemons: tuple[DaemonRow, ...]
    channels: tuple[ChannelRow, ...]
    faults: tuple[Fault, ...] = ()


def between(before: Buckets, after: Buckets) -> Buckets:
    """The bodies that ended after one look and before another."""
    return {
        daemon: tuple(max(0, now - old) for now, old in zip(counts, before[daemon], strict=True))
        if daemon in before
        else counts
        for daemon, counts in after.items()
    }


def rows(moment: Moment, took: Buckets) -> Rows:
    faults = (fault for fault in moment.faults if not fault.status.is_over)
    return Rows(
        daemons=tuple(_daemon(moment, poll, slot, took) for poll, slot in moment.reading.daemons()),
        channels=tuple(_channels(moment)),
        faults=tuple(sorted(faults, key=lambda fault: -fault.severity)),
    )


def _daemon(moment: Moment, poll: Poll, slot: DaemonReading, took: Buckets) -> DaemonRow:
    process, name = poll.process, slot.daemon
    counts = took.get(name, ())
    return DaemonRow(
        run=moment.reading.about.run_id,
        daemon=name,
        process=process.process,
        pid=process.pid or None,
        condition=moment.daemons[name],
        phase=Phase(slot.phase).name.lower(),
        is_system=any(daemon.is_system for daemon in moment.spec.daemons if daemon.name == name),
        rate_hz=moment.body_hz.get(name) if slot.executions else None,
        p50_s=_quantile_s(counts, 0.5),
        p99_s=_quantile_s(counts, 0.99),
        lateness_s=slot.lateness_ns / 1e9 if slot.period_ns else None,
        max_lateness_s=slot.max_lateness_ns / 1e9 if slot.period_ns else None,
        in_body_s=_age_s(slot.in_body_since_ns, moment) if process.alive else None,
        silent_s=_age_s(max(process.heartbeat_ns, slot.changed_ns), moment),
        executions=slot.executions,
        skipped=slot.skipped,
        errors=slot.errors,
        restarts=slot.restarts + process.restarts,
        deaths=process.deaths,
        health=moment.health["app", name],
    )


def _quantile_s(counts: tuple[int, ...], part: float) -> float | None:
    found = quantile_ns(counts, part)
    return None if found is None else found / 1e9


def _age_s(at_ns: int, moment: Moment) -> float | None:
    return max(0, moment.reading.now_ns - at_ns) / 1e9 if at_ns else None


def _channels(moment: Moment) -> Iterator[ChannelRow]:
    for counts in moment.channels:
        rate = moment.rates.get(counts.channel)
        wait = _wait(moment, counts.channel)
        yield ChannelRow(
            channel=counts.channel,
            writer=counts.writer,
            reader=counts.reader,
            policy=counts.policy,
            maxsize=counts.maxsize,
            fill=counts.fill,
            in_hz=None if rate is None else rate.accepted_hz,
            out_hz=None if rate is None else rate.taken_hz,
            waits=None if wait is None else wait.daemon,
            waits_s=None if wait is None else _age_s(wait.still_since_ns, moment),
            dropped=counts.dropped,
            lost=counts.lost,
        )


def _wait(moment: Moment, channel: str) -> EndReading | None:
    """Who waits for room comes before who waits for an item."""
    found = [wait.end for wait in moment.waits if wait.end.channel == channel]
    return min(found, key=lambda end: not end.sends, default=None)
