"""What the page and anybody else reads at `/api/v1/live`: everything about a run at one moment, as one object.

    GET /api/v1/live            SSE; `event: live`, one `Live` for each look of the observer; `?every=0.25` for fewer
                                (seconds, 0.05 at least, 1 unless said). Id: the number of the look.
    GET /api/v1/live?once=true  the same as one JSON object, for whoever cannot hold a stream open
    GET /api/v1/graph           `Graph`: what is connected with what, which never changes within a run
    GET /api/v1/logs?process=NAME&tail=200    `Logs`: the last lines of a process, stdout and stderr

Times of day are seconds since 1970, lengths of time are seconds, and null is "not known" or "not now", never zero.
Counters go on when a process is started again. `condition` is one of dead, hung, stale, faulted, running, idle,
stopped, never; `health` is one of ok, warning, error, critical.
"""

from msgspec import Struct


class LiveProcess(Struct, frozen=True, kw_only=True):
    """One process. `generation` is which life of it this is, `exit_code` how it ended; below zero, by which signal."""

    name: str
    condition: str
    health: str
    online: bool
    pid: int | None = None
    generation: int = 0
    born: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    heartbeat_age_s: float | None = None
    restarts: int = 0
    deaths: int = 0
    # Daemons for which there was no slot.
    dropped: int = 0


class LiveDaemon(Struct, frozen=True, kw_only=True):
    """One daemon. `rate_hz` is how often its body ran since the look before; `in_body_s` how long it runs just now."""

    name: str
    process: str
    condition: str
    health: str
    online: bool
    # What it says of itself: unknown, running, stopped, error; and where it is: none, on_start, ready, run, on_stop.
    state: str = "unknown"
    phase: str = "none"
    system: bool = False
    starts: int = 0
    stops: int = 0
    errors: int = 0
    restarts: int = 0
    executions: int = 0
    overruns: int = 0
    skipped: int = 0
    cycle: int = 0
    rate_hz: float | None = None
    in_body_s: float | None = None
    last_s: float | None = None
    ewma_s: float | None = None
    min_s: float | None = None
    max_s: float | None = None
    # Half of its bodies, and 99 of 100, took no longer.
    p50_s: float | None = None
    p99_s: float | None = None
    period_s: float | None = None
    actual_period_s: float | None = None
    jitter_s: float | None = None
    max_jitter_s: float | None = None
    lateness_s: float | None = None
    max_lateness_s: float | None = None
    budget_s: float | None = None


class LiveChannel(Struct, frozen=True, kw_only=True):
    """One channel. `fill` of `maxsize` items are in it; `rate_hz` is what its reader took since the look before.

    `writer_waits` is back-pressure: the writer waits for room. `reader_waits`: the reader waits for an item.
    """

    name: str
    writer: str
    reader: str
    policy: str
    maxsize: int
    fill: int = 0
    accepted: int = 0
    taken: int = 0
    dropped: int = 0
    lost: int = 0
    redelivered: int = 0
    set_aside: int = 0
    rate_hz: float | None = None
    # None for a channel that may be as old as it likes.
    stale: bool | None = None
    writer_waits: bool = False
    reader_waits: bool = False


class LiveFault(Struct, frozen=True, kw_only=True):
    """One fault. `entity` is a daemon, or a process for the codes of processes; `kind` says which: app or component."""

    entity: str
    kind: str
    fault_code: str
    # PREFAILED, CONFIRMED or HEALED
    status: str
    # 0 info, 1 warn, 2 error, 3 critical
    severity: int
    severity_label: str
    description: str
    first_occurred: float
    last_occurred: float
    occurrence_count: int


class Live(Struct, frozen=True, kw_only=True):
    """Everything at one moment. `look` grows by one with every look; `alive` is whether the run's launcher lives."""

    now: float
    look: int
    run: str
    pipeline: str
    alive: bool
    health: str
    processes: tuple[LiveProcess, ...] = ()
    daemons: tuple[LiveDaemon, ...] = ()
    channels: tuple[LiveChannel, ...] = ()
    faults: tuple[LiveFault, ...] = ()
    # What could not be read or told, in words.
    warnings: tuple[str, ...] = ()


class Node(Struct, frozen=True, kw_only=True):
    """A daemon. `column` is how far it is from a source, for whoever draws from left to right."""

    id: str
    process: str
    run: str | None
    system: bool
    column: int


class Edge(Struct, frozen=True, kw_only=True):
    """A channel: from a port of one daemon to a port of another."""

    id: str
    source: str
    source_port: str
    target: str
    target_port: str
    policy: str
    maxsize: int


class Graph(Struct, frozen=True, kw_only=True):
    """The pipeline as it is declared."""

    pipeline: str
    run: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


class LogLine(Struct, frozen=True, kw_only=True):
    stream: str
    text: str


class Logs(Struct, frozen=True, kw_only=True):
    """The last lines of one process, the oldest first, those of stdout before those of stderr."""

    process: str
    lines: tuple[LogLine, ...]
