"""The nouns of a pipeline: what may be said of a channel, of its items, of a daemon and of a process.

    PipelineSpec
      daemons     DaemonSpec    what runs, where, and what its failure means
      channels    ChannelSpec   from a port of one daemon to a port of another
      processes   ProcessSpec   settings of a process, for those that have any
      services    ServiceSpec   what runs once in each cycle, in one of several processes

A spec is plain data in the order of its file. Where it was read from makes no difference to it.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from msgspec import Struct, field
from msgspec.structs import replace

from geartrain.rules.lifecycle import OnError
from geartrain.rules.restart import RestartPolicy
from geartrain.rules.services import Missed, Overlap

Policy = Literal["block", "latest", "drop_oldest", "drop_newest"]
Ack = Literal["batch", "each", "manual"]
Keep = Literal["stable", "taken"]
Carrier = Literal["auto", "ipc", "tcp"]
OnPeerRestart = Literal["resume", "restart"]
Backend = Literal["asyncio", "trio"]

POLICIES: tuple[Policy, ...] = get_args(Policy)
ACKS: tuple[Ack, ...] = get_args(Ack)
KEEPS: tuple[Keep, ...] = get_args(Keep)
CARRIERS: tuple[Carrier, ...] = get_args(Carrier)
OnHang = Literal["report", "kill"]

ON_HANG: tuple[OnHang, ...] = get_args(OnHang)
ON_PEER_RESTART: tuple[OnPeerRestart, ...] = get_args(OnPeerRestart)
BACKENDS: tuple[Backend, ...] = get_args(Backend)

HUNG_AFTER_S = 10.0
# Of a service: how many stand by, when one that says nothing is ended, how long one that is asked to leave may take.
REPLICAS = 2
SILENT_AFTER_S = 10.0
SERVICE_GRACE_S = 5.0

# How long a daemon must live so that its former deaths do not count, where nobody has said it.
HEALTHY_S = 30.0

# Where the system daemons are, as text: "geartrain.actors:ReactorClock".
_SYSTEM = ("geartrain.actors:", "geartrain.actors.", "geartrain.faces.gateway:")

MAXSIZE = 64
MAX_BYTES = 64 * 1024 * 1024
MAX_DELIVERIES = 3


class Mark(Struct, frozen=True, order=True):
    """Which item was handed over last: from which life of the writer, its number there, and whether it is a repeat."""

    epoch: int
    sequence: int
    redelivered: bool = False


class PortRef(Struct, frozen=True, order=True):
    """A port of a daemon of the pipeline, written "camera.frames"."""

    daemon: str
    port: str

    def __str__(self) -> str:
        return f"{self.daemon}.{self.port}"


class DaemonSpec(Struct, frozen=True, kw_only=True):
    """One daemon: a Daemon class or `@daemon` function (`run`), or a foreign program (`command`)."""

    name: str
    process: str
    run: str | None = None
    command: tuple[str, ...] = ()
    on_error: OnError = "shutdown"
    restart: RestartPolicy | None = None
    start_within: float | None = None
    budget: float | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def budget_ns(self) -> int | None:
        """How long the body of a cycle of it may take."""
        return None if self.budget is None else round(self.budget * 1e9)

    @property
    def is_system(self) -> bool:
        """Whether it serves the others and is none of them: it keeps no pipeline alive."""
        return self.run is not None and self.run.startswith(_SYSTEM)

    @property
    def restart_in_use(self) -> RestartPolicy | None:
        """After a healthy stretch a daemon is started again at once; `base` is the delay before the second time."""
        if self.on_error != "restart":
            return None
        return replace(self.restart or RestartPolicy(within=HEALTHY_S), first_at_once=True)


class ChannelSpec(Struct, frozen=True, kw_only=True):
    """One channel. An end that could not be read is None; such a pipeline is faulty and never runs.

    With `stale_after` it is a plane: something should come at least every so many seconds. With `fenced`, a region,
    only who holds a lease on it may send, and only what came under the newest lease is received.
    """

    name: str
    writer: PortRef | None
    reader: PortRef | None
    maxsize: int = MAXSIZE
    policy: Policy = "block"
    ack: Ack = "batch"
    keep: Keep = "stable"
    max_bytes: int = MAX_BYTES
    retain: int | None = None
    max_deliveries: int | None = MAX_DELIVERIES
    transport: Carrier = "auto"
    on_peer_restart: OnPeerRestart = "resume"
    stale_after: float | None = None
    fenced: str | None = None

    @property
    def is_lossy(self) -> bool:
        return self.policy != "block"

    @property
    def budget_ns(self) -> int | None:
        return None if self.stale_after is None else round(self.stale_after * 1e9)

    @property
    def may_close_a_cycle(self) -> bool:
        """Whether its writer never waits for what its reader does with an item."""
        return self.is_lossy or self.keep == "taken"

    def back(self, ending: str) -> "ChannelSpec":
        """What goes the other way over the same entry.

        It is kept only until it is taken, so that the two are no cycle that waits for itself. No item of it is blamed
        for a death: the reader's next life would be without it.
        """
        return ChannelSpec(
            name=f"{self.name}.{ending}",
            writer=self.reader,
            reader=self.writer,
            maxsize=self.maxsize,
            keep="taken",
            max_bytes=self.max_bytes,
            max_deliveries=None,
            transport=self.transport,
            on_peer_restart=self.on_peer_restart,
        )


class ProcessSpec(Struct, frozen=True, kw_only=True):
    """What is said of a process. Without a backend of its own it has the pipeline's.

    One whose loop stands still for `hung_after` seconds is said to hang, and ended if `on_hang` says so.
    """

    name: str
    backend: Backend | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    nice: int = 0
    hung_after: float | None = HUNG_AFTER_S
    on_hang: OnHang = "report"
    budget: float | None = None

    @property
    def budget_ns(self) -> int | None:
        """How long the body of a cycle may take, whichever of its daemons it is of."""
        return None if self.budget is None else round(self.budget * 1e9)


class ServiceSpec(Struct, frozen=True, kw_only=True):
    """A job that one of its replicas runs once in every cycle of `every` seconds.

    `run` is a function of one argument, a `ServiceRun`. `replicas` is how many processes of its own stand by, or the
    names of processes of the pipeline that do. A replica that says nothing for `silent_after` seconds, and one that
    does not leave within `grace` seconds when it is asked to, is ended with its process.
    """

    name: str
    run: str
    every: float
    replicas: int | tuple[str, ...] = REPLICAS
    overlap: Overlap = "skip"
    missed: Missed = "skip"
    grace: float = SERVICE_GRACE_S
    silent_after: float = SILENT_AFTER_S

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """The replicas, each with its process."""
        if isinstance(self.replicas, int):
            return tuple((f"{self.name}-{count}",) * 2 for count in range(1, self.replicas + 1))
        return tuple((f"{self.name}-{count}", process) for count, process in enumerate(self.replicas, start=1))


class PipelineSpec(Struct, frozen=True, kw_only=True):
    """A whole pipeline. `file` says where it was declared, for messages.

    `spares` is how many warm processes wait to take the place of one that died; None leaves it to the launcher.
    `observe` is where an observer shows the run, as "127.0.0.1:8080" or "unix:/run/me/vision".
    """

    name: str
    backend: Backend = "asyncio"
    daemons: tuple[DaemonSpec, ...] = ()
    channels: tuple[ChannelSpec, ...] = ()
    processes: tuple[ProcessSpec, ...] = ()
    services: tuple[ServiceSpec, ...] = ()
    spares: int | None = None
    observe: str | None = None
    file: str = ""
