"""`/metrics`: the last look as Prometheus reads it. Labels are process and actor, and nothing that grows.

Counters are read from what the processes have written down, so they go on where they were when the observer is started
again. A duration has no sum: what is kept are counts of buckets, and a sum made of those would be an estimate.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from geartrain.faces.web_events import Hub, Looks, Places
from geartrain.faces.web_limits import Tally
from geartrain.faces.web_live import Live
from geartrain.faces.web_source import Source
from geartrain.rules.slots import bucket_ends_ns

# Four buckets are one doubling.
_PER_DOUBLING = 4

_APP = ("process", "actor")
_PROCESS = ("process",)


class Metrics(Collector):
    """Everything, at the moment it is asked for."""

    def __init__(self, looks: Looks, source: Source, hub: Hub, places: Places, tally: Tally) -> None:
        self._looks = looks
        self._source = source
        self._hub = hub
        self._places = places
        self._tally = tally
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        if (live := self._looks.last) is not None:
            yield from self._of_actors(live)
            yield from _of_processes(live)
        yield from self._of_gateway()

    def _of_actors(self, live: Live) -> Iterator[Metric]:
        rows = [((daemon.process, daemon.name), daemon) for daemon in live.daemons]
        yield _counter("actor_executions", "How often the body ran.", _APP, ((who, it.executions) for who, it in rows))
        yield _counter("actor_errors", "How often it raised.", _APP, ((who, it.errors) for who, it in rows))
        yield _counter("actor_overruns", "How often it took too long.", _APP, ((who, it.overruns) for who, it in rows))
        yield _counter("actor_skipped_cycles", "Cycles left out.", _APP, ((who, it.skipped) for who, it in rows))
        yield _counter("actor_starts", "How often it began.", _APP, ((who, it.starts) for who, it in rows))
        lateness = ((who, it.lateness_s) for who, it in rows if it.lateness_s is not None)
        yield _gauge("actor_lateness_seconds", "Of the last cycle, against its grid.", _APP, lateness)
        yield _gauge("actor_up", "Whether it can work.", _APP, ((who, it.online) for who, it in rows))
        yield self._durations(live)

    def _durations(self, live: Live) -> Metric:
        family = HistogramMetricFamily(_named("actor_duration_seconds"), "How long the body took.", labels=_APP)
        homes = {daemon.name: daemon.process for daemon in live.daemons}
        for daemon, counts in self._source.buckets().items():
            if daemon in homes:
                family.add_metric((homes[daemon], daemon), list(_cumulative(counts)), sum_value=None)
        return family

    def _of_gateway(self) -> Iterator[Metric]:
        tally = self._tally
        yield _gauge("observer_poll_seconds", "How long the last look took.", (), [((), self._source.look_s)])
        yield _counter("gateway_requests", "Requests met.", (), [((), tally.requests)])
        yield _counter("gateway_refused", "Told to come again: all places taken.", (), [((), tally.refused)])
        yield _counter("gateway_denied", "Wrong host, origin or token, or too big.", (), [((), tally.denied)])
        yield _counter("gateway_slow_clients", "Let go because they did not read.", (), [((), tally.slow)])
        yield _counter("gateway_broken_connections", "Ended by a fault of the server.", (), [((), tally.broken)])
        yield _counter("gateway_dropped_events", "Events that a client had no room for.", (), [((), self._hub.dropped)])
        yield _gauge("gateway_streams", "Streams that are open.", (), [((), self._places.taken)])


def _of_processes(live: Live) -> Iterator[Metric]:
    rows = [((process.name,), process) for process in live.processes]
    yield _gauge(
        "process_up", "Whether it is alive and its loop turns.", _PROCESS, ((who, it.online) for who, it in rows)
    )
    yield _counter(
        "process_restarts", "How often it was started again.", _PROCESS, ((w, it.restarts) for w, it in rows)
    )
    yield _counter("process_deaths", "How often it died.", _PROCESS, ((who, it.deaths) for who, it in rows))
    yield _counter("slots_dropped", "Daemons without a slot.", _PROCESS, ((who, it.dropped) for who, it in rows))
    born = ((who, it.born) for who, it in rows if it.born is not None)
    yield _gauge("process_start_time_seconds", "When it began.", _PROCESS, born)


Rows = Iterable[tuple[tuple[str, ...], float]]


def _named(name: str) -> str:
    return f"geartrain_{name}"


def _counter(name: str, said: str, labels: tuple[str, ...], rows: Rows) -> Metric:
    family = CounterMetricFamily(_named(name), said, labels=labels)
    for who, value in rows:
        family.add_metric(who, value)
    return family


def _gauge(name: str, said: str, labels: tuple[str, ...], rows: Rows) -> Metric:
    family = GaugeMetricFamily(_named(name), said, labels=labels)
    for who, value in rows:
        family.add_metric(who, float(value))
    return family


def _cumulative(counts: tuple[int, ...]) -> Iterator[tuple[str, float]]:
    """For every doubling, how many were shorter. Into the last bucket fell all that was longer, so it ends nowhere."""
    total = 0
    for bucket, count in enumerate(counts):
        total += count
        if bucket % _PER_DOUBLING == _PER_DOUBLING - 1 and bucket + 1 < len(counts):
            yield repr(bucket_ends_ns(bucket) / 1e9), total
    yield "+Inf", total
