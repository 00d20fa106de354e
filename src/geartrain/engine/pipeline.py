"""A pipeline as it is declared in Python, or read from a file: what runs, and how it is connected.

    p = Pipeline("vision")
    camera = p.add(Camera, name="camera", config={"fps": 30})        a Daemon class: a handle typed as the class
    detector = p.add(Detector, name="detector", on_error="restart")
    p.connect(camera.frames, detector.frames, maxsize=8)             type checkers see that both are of Frame
    p.connect("detector.objects", "sink.objects")                    a port by its name, as in a file

    p = Pipeline.from_file("vision.toml")
    p.check()                                                        every fault at once; () when there is none

The handle of a class has the ports of its constructor as attributes. The class keeps a stream under the name of its
parameter (`self.frames = frames`): that is how a type checker knows what `camera.frames` is. What it keeps under
another name, and every port of an `@daemon` function, is connected by name.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypeVar, get_origin, overload

import anyio
import msgspec

from geartrain.engine.calls import Caller, Calls
from geartrain.engine.daemon import Daemon, DaemonFactory
from geartrain.engine.deadlines import ClockClient, Deadlines, Planes
from geartrain.engine.declare import (
    Target,
    as_in_a_file,
    checked_target,
    load_daemon,
    name_in_words,
    run_of,
    signature_of,
)
from geartrain.engine.ends import ReceiveStream, SendStream
from geartrain.engine.leases import LeaseClient, Leases
from geartrain.engine.services import Job, checked_job, load_job, place_of_job
from geartrain.engine.sim_time import SimTime, Simulated
from geartrain.engine.simulate import simulate
from geartrain.errors import BadType, BadValue, CannotLoad, Fault, GeartrainError, PipelineFaulty
from geartrain.ports.clock import Clock, SimClock
from geartrain.rules import lifecycle, service_places, system, wiring
from geartrain.rules.budgets import in_ns
from geartrain.rules.checks import number, one_of, whole
from geartrain.rules.lifecycle import OnError
from geartrain.rules.nearest import did_you_mean
from geartrain.rules.pipeline import (
    ACKS,
    BACKENDS,
    CARRIERS,
    HUNG_AFTER_S,
    KEEPS,
    MAX_BYTES,
    MAX_DELIVERIES,
    ON_HANG,
    ON_PEER_RESTART,
    POLICIES,
    REPLICAS,
    SERVICE_GRACE_S,
    SILENT_AFTER_S,
    Ack,
    Backend,
    Carrier,
    ChannelSpec,
    DaemonSpec,
    Keep,
    OnHang,
    OnPeerRestart,
    PipelineSpec,
    Policy,
    PortRef,
    ProcessSpec,
    ServiceSpec,
)
from geartrain.rules.pipeline_file import overridden, parsed, port_ref, read, tables_of, usual_maxsize
from geartrain.rules.regions import canonical
from geartrain.rules.restart import RestartPolicy
from geartrain.rules.services import MISSED, OVERLAPS, Missed, Overlap
from geartrain.rules.signature import Signature

D = TypeVar("D", bound=Daemon)
T = TypeVar("T")
Q = TypeVar("Q")
A = TypeVar("A")

# What `connect` takes: a port of a class, one of its ports that is optional or a list, or "daemon.port".
Writing = SendStream[T] | list[SendStream[T]] | str | None
Reading = ReceiveStream[T] | list[ReceiveStream[T]] | str | None
Calling = Caller[Q, A] | list[Caller[Q, A]] | Deadlines | Planes | Leases | str | None
Called = Calls[Q, A] | list[Calls[Q, A]] | list[ClockClient] | list[LeaseClient] | str | None


class Handle:
    """A daemon of a pipeline: its name, and its ports as attributes."""

    def __init__(self, name: str, signature: Signature) -> None:
        self.name = name
        self._signature = signature

    def __repr__(self) -> str:
        return f"<daemon {self.name!r} of a pipeline>"

    def __getattr__(self, name: str) -> PortRef:
        if self._signature.port(name) is None:
            ports = [port.name for port in self._signature.ports]
            raise AttributeError(
                f"{self.name!r} has no port {name!r}; {did_you_mean(name, ports, 'it has no ports')}. "
                "The daemon itself is made when the pipeline runs"
            )
        return PortRef(self.name, name)


class Pipeline:
    """Daemons, the channels between them, and the processes they are in. Nothing runs by declaring it.

    `spares` is how many warm processes wait to take the place of one that died: by default one, where anything may have
    to be started again. `observe` is where the run is shown, as "127.0.0.1:8080" or "unix:/run/me/vision"; the extra
    `geartrain[web]` is needed for that.
    """

    def __init__(
        self, name: str, backend: Backend = "asyncio", spares: int | None = None, observe: str | None = None
    ) -> None:
        one_of("Pipeline backend", backend, BACKENDS)
        if spares is not None:
            whole("Pipeline spares", spares, least=0)
        self._spec = PipelineSpec(
            name=_text("a pipeline's name", name), backend=backend, spares=spares, observe=observe
        )
        self._folder: Path | None = None
        self._faults: tuple[Fault, ...] = ()
        self._targets: dict[str, Target] = {}

    @classmethod
    def from_file(cls, path: str | PathLike[str], overrides: Sequence[str] = ()) -> Self:
        """The pipeline that a TOML, JSON or YAML file declares, with some keys said anew as `key=value`.

        `PipelineFaulty` when the file cannot be read at all; what else is wrong with it, `check` tells.
        """
        file = Path(path)
        reading = read(overridden(_tables(file), overrides), str(path))
        pipeline = cls(reading.spec.name or file.stem, reading.spec.backend)
        pipeline._spec = reading.spec
        pipeline._faults = reading.faults
        pipeline._folder = file.resolve().parent
        return pipeline

    @classmethod
    def from_spec(cls, spec: PipelineSpec, folder: Path | None) -> Self:
        """The pipeline that another process has as data; `folder` is where its file lies, if it has one."""
        pipeline = cls(spec.name, spec.backend)
        pipeline._spec = spec
        pipeline._folder = folder
        return pipeline

    def overridden(self, overrides: Sequence[str]) -> Self:
        """This pipeline with some keys said anew as `key=value`, as a file would say them."""
        reading = read(overridden(tables_of(self._spec), overrides), self._spec.file or self.name)
        pipeline = type(self)(self.name)
        pipeline._spec = reading.spec
        pipeline._faults = (*self._faults, *reading.faults)
        pipeline._folder = self._folder
        return pipeline

    def __repr__(self) -> str:
        return f"<Pipeline {self.name!r} of {len(self._spec.daemons)} daemons>"

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def folder(self) -> Path | None:
        """Where its file lies, if it has one."""
        return self._folder

    @property
    def spec(self) -> PipelineSpec:
        """The pipeline as data."""
        return self._spec

    # -- declaring ----------------------------------------------------------------------------------------------

    @overload
    def add(
        self,
        daemon: type[D],
        *,
        name: str | None = None,
        process: str | None = None,
        on_error: OnError = "shutdown",
        restart: RestartPolicy | None = None,
        start_within: float | None = None,
        budget: float | None = None,
        config: Mapping[str, object] | None = None,
    ) -> D: ...

    @overload
    def add(
        self,
        daemon: DaemonFactory[Any],
        *,
        name: str | None = None,
        process: str | None = None,
        on_error: OnError = "shutdown",
        restart: RestartPolicy | None = None,
        start_within: float | None = None,
        budget: float | None = None,
        config: Mapping[str, object] | None = None,
    ) -> Handle: ...

    def add(
        self,
        daemon: type[Daemon] | DaemonFactory[Any],
        *,
        name: str | None = None,
        process: str | None = None,
        on_error: OnError = "shutdown",
        restart: RestartPolicy | None = None,
        start_within: float | None = None,
        budget: float | None = None,
        config: Mapping[str, object] | None = None,
    ) -> Any:
        """Declare a daemon, by its class or `@daemon` function. Its name is that of the class, if no other is given.

        `config` are the arguments that are no ports; `process` is where it runs, by default one of its own. `budget` is
        how many seconds the body of a cycle of `every` may take: one that takes more is the last, until it is cleared.
        """
        target = _target(daemon)
        title = _text("a daemon's name", name if name is not None else name_in_words(target))
        handle = Handle(title, signature_of(target))
        said = {key: as_in_a_file(value) for key, value in (config or {}).items()}
        self._add(_daemon(title, process, on_error, restart, start_within, budget, run=run_of(target), config=said))
        self._targets[title] = target
        return handle

    def add_command(
        self,
        command: Sequence[str],
        *,
        name: str,
        on_error: OnError = "shutdown",
        restart: RestartPolicy | None = None,
    ) -> None:
        """Declare a foreign program, which runs in a process of its own under the same supervision."""
        if isinstance(command, str) or not all(isinstance(word, str) for word in command) or not any(command[:1]):
            raise BadType(f'a command must be a list of text, as ["ffmpeg", "-i", "a.mp4"], got {command!r}')
        self._add(_daemon(_text("a daemon's name", name), None, on_error, restart, command=tuple(command)))

    @overload
    def connect(
        self,
        writer: Writing[T],
        reader: Reading[T],
        *,
        name: str | None = None,
        maxsize: int | None = None,
        policy: Policy = "block",
        ack: Ack = "batch",
        keep: Keep = "stable",
        max_bytes: int = MAX_BYTES,
        retain: int | None = None,
        max_deliveries: int | None = MAX_DELIVERIES,
        transport: Carrier = "auto",
        on_peer_restart: OnPeerRestart = "resume",
        stale_after: float | None = None,
        fenced: str | None = None,
    ) -> None: ...

    @overload
    def connect(
        self,
        writer: Calling[Q, A],
        reader: Called[Q, A],
        *,
        name: str | None = None,
        maxsize: int | None = None,
        keep: Keep = "stable",
        max_bytes: int = MAX_BYTES,
        retain: int | None = None,
        max_deliveries: int | None = MAX_DELIVERIES,
        transport: Carrier = "auto",
        on_peer_restart: OnPeerRestart = "resume",
    ) -> None: ...

    def connect(
        self,
        writer: Any,
        reader: Any,
        *,
        name: str | None = None,
        maxsize: int | None = None,
        policy: Policy = "block",
        ack: Ack = "batch",
        keep: Keep = "stable",
        max_bytes: int = MAX_BYTES,
        retain: int | None = None,
        max_deliveries: int | None = MAX_DELIVERIES,
        transport: Carrier = "auto",
        on_peer_restart: OnPeerRestart = "resume",
        stale_after: float | None = None,
        fenced: str | None = None,
    ) -> None:
        """Declare a channel from a port that sends to one that receives. Its name is the writing port's, if free.

        From a port that calls to one that is called it stands for two: of the requests, and of the replies.
        A port that is a list may be connected several times; the order is kept. A channel on which nothing has come for
        `stale_after` seconds is told of as stale. With `fenced`, a region, its writer sends while it holds a lease on
        that, and what was sent under a lease that is not the newest any more is not received.
        """
        one_of("connect() policy", policy, POLICIES)
        one_of("connect() ack", ack, ACKS)
        one_of("connect() keep", keep, KEEPS)
        one_of("connect() transport", transport, CARRIERS)
        one_of("connect() on_peer_restart", on_peer_restart, ON_PEER_RESTART)
        source, target = _end("writer", writer), _end("reader", reader)
        channel = ChannelSpec(
            name=self._free_channel_name(source) if name is None else _text("a channel's name", name),
            writer=source,
            reader=target,
            maxsize=usual_maxsize(policy) if maxsize is None else whole("connect() maxsize", maxsize, least=0),
            policy=policy,
            ack=ack,
            keep=keep,
            max_bytes=whole("connect() max_bytes", max_bytes, least=1),
            retain=None if retain is None else whole("connect() retain", retain, least=1),
            max_deliveries=None
            if max_deliveries is None
            else whole("connect() max_deliveries", max_deliveries, least=2),
            transport=transport,
            on_peer_restart=on_peer_restart,
            stale_after=None
            if stale_after is None
            else number("connect() stale_after, in seconds,", stale_after, least=1e-9),
            fenced=None if fenced is None else canonical(fenced),
        )
        if channel.name in self._channel_names():
            raise BadValue(f"there is a channel {channel.name!r} already; pass another name=")
        self._change(channels=(*self._spec.channels, channel))

    def process(
        self,
        name: str,
        *,
        backend: Backend | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | PathLike[str] | None = None,
        nice: int = 0,
        hung_after: float | None = HUNG_AFTER_S,
        on_hang: OnHang = "report",
        budget: float | None = None,
    ) -> None:
        """Say something of a process: the loop it runs, its environment, its folder, its niceness.

        A process whose loop stands still for `hung_after` seconds (None: for ever) is reported with the stacks of its
        threads, and with `on_hang="kill"` it is ended too: its policy decides what comes. When the body of a cycle
        takes longer than `budget` seconds, all daemons of the process are held until that is cleared.
        """
        if backend is not None:
            one_of("process() backend", backend, BACKENDS)
        number("process() nice", whole("process() nice", nice, least=-20), least=-20, most=19)
        folder = None if cwd is None else str(Path(cwd))
        one_of("process() on_hang", on_hang, ON_HANG)
        if hung_after is not None and number("process() hung_after", hung_after, least=0) == 0:
            raise BadValue("process() hung_after must be more than 0 seconds, or None to look never")
        process = ProcessSpec(
            name=name,
            backend=backend,
            env=dict(env or {}),
            cwd=folder,
            nice=nice,
            hung_after=hung_after,
            on_hang=on_hang,
            budget=_budget(f"process {name!r}", budget),
        )
        if name in [other.name for other in self._spec.processes]:
            raise BadValue(f"process {name!r} is described already")
        self._change(processes=(*self._spec.processes, process))

    def service(
        self,
        job: Job,
        *,
        every: float,
        name: str | None = None,
        replicas: int | Sequence[str] = REPLICAS,
        overlap: Overlap = "skip",
        missed: Missed = "skip",
        grace: float = SERVICE_GRACE_S,
        silent_after: float = SILENT_AFTER_S,
    ) -> None:
        """Declare a function that one of several replicas runs once in every cycle of `every` seconds.

        It is given a `ServiceRun`; one that is not async runs in a thread. `replicas` is how many processes of its own
        stand by, or which processes of the pipeline do. Its name is that of the function, if no other is given.
        """
        run = place_of_job(checked_job(job, getattr(job, "__name__", repr(job))))
        one_of("service() overlap", overlap, OVERLAPS)
        one_of("service() missed", missed, MISSED)
        service = ServiceSpec(
            name=_text("a service's name", job.__name__ if name is None else name),
            run=run,
            every=number("service() every, in seconds,", every, least=1e-9),
            replicas=replicas if isinstance(replicas, int) else tuple(replicas),
            overlap=overlap,
            missed=missed,
            grace=number("service() grace", grace, least=0),
            silent_after=number("service() silent_after", silent_after, least=1e-9),
        )
        if isinstance(service.replicas, int):
            whole("service() replicas", service.replicas, least=1)
        elif isinstance(replicas, str) or not service.replicas:
            raise BadType(f"service() replicas must be a whole number or a list of processes, got {replicas!r}")
        if service.name in [other.name for other in self._spec.services]:
            raise BadValue(f"there is a service {service.name!r} already; pass another name=")
        self._change(services=(*self._spec.services, service))

    def _add(self, daemon: DaemonSpec) -> None:
        if daemon.name in [other.name for other in self._spec.daemons]:
            raise BadValue(f"duplicate daemon name {daemon.name!r}; pass a unique `name=...`")
        self._change(daemons=(*self._spec.daemons, daemon))

    def _change(self, **changes: Any) -> None:
        self._spec = msgspec.structs.replace(self._spec, **changes)

    def _channel_names(self) -> set[str]:
        return {channel.name for channel in self._spec.channels}

    def _free_channel_name(self, writer: PortRef) -> str:
        taken = self._channel_names()
        first = f"{writer.daemon}-{writer.port}"
        names = [writer.port, first, *(f"{first}-{count}" for count in range(2, len(taken) + 3))]
        return next(name for name in names if name not in taken)

    # -- checking -----------------------------------------------------------------------------------------------

    def check(self) -> tuple[Fault, ...]:
        """Everything that is wrong with it. The modules of its daemons are imported for that."""
        return self._whole()[1]

    @property
    def whole(self) -> PipelineSpec:
        """The pipeline as it runs, as data: with the system daemons that it asks for."""
        return self._whole()[0]

    def _whole(self) -> tuple[PipelineSpec, tuple[Fault, ...]]:
        """The pipeline as it runs, and what is wrong with it."""
        signatures, unloadable = self._look(self._spec.daemons)
        spec = system.completed(self._placed(), signatures)
        added, missing = self._look([daemon for daemon in spec.daemons if daemon not in self._spec.daemons])
        asked = system.faults(self._spec, signatures)
        return spec, (
            *self._faults,
            *unloadable,
            *missing,
            *self._faults_of_services(),
            *asked,
            *wiring.check(spec, signatures | added),
        )

    def _placed(self) -> PipelineSpec:
        """With the scripts of its services named so that every process finds them."""

        def placed(service: ServiceSpec) -> ServiceSpec:
            script, colon, name = service.run.rpartition(":")
            found = self._folder is not None and script.endswith(".py")
            run = f"{(self._folder or Path()) / script}{colon}{name}" if found else service.run
            return msgspec.structs.replace(service, run=run)

        return msgspec.structs.replace(self._spec, services=tuple(map(placed, self._spec.services)))

    def _faults_of_services(self) -> Iterator[Fault]:
        yield from service_places.faults(self._spec)
        for service in self._spec.services:
            if not service.run:
                continue
            try:
                load_job(service.run, self._folder)
            except GeartrainError as error:
                trace = error.trace if isinstance(error, CannotLoad) else ""
                yield Fault(self._spec.file, f"services.{service.name}.run", str(error), trace)

    def checked(self) -> Mapping[str, Target]:
        """The class or function of each daemon that is one; `PipelineFaulty` with everything that is wrong."""
        faults = self.check()
        if faults:
            raise PipelineFaulty(faults)
        return self._targets

    @overload
    async def run(self, *, in_process: bool = False, clock: SimTime) -> Simulated: ...
    @overload
    async def run(self, *, in_process: bool = False, clock: Clock | None = None) -> None: ...
    async def run(self, *, in_process: bool = False, clock: Clock | SimTime | None = None) -> Simulated | None:
        """Run it in processes of its own, until every daemon has returned; or `in_process`, all of it in this one.

        In this process `clock` is that of its daemons; the time of a `SimClock` passes when the caller drives it. With
        `SimTime` the run is a simulation, whose time passes by itself, and the answer says what has come of it.
        `PipelineFaulty` when it cannot run, `PipelineFailed` when a daemon failed and its policy did not absorb it.
        """
        _check_run(in_process=in_process, clock=clock)
        if isinstance(clock, SimTime):
            from geartrain.engine.simulation import simulated

            return await simulated(self, clock)
        if in_process:
            from geartrain.engine.in_process import InProcess

            await InProcess(self, clock).live()
        else:
            from geartrain.engine.launcher import Launcher  # who only declares a pipeline starts no process

            await Launcher(self).live()
        return None

    def _look(self, daemons: Sequence[DaemonSpec]) -> tuple[dict[str, Signature], list[Fault]]:
        """The signatures that can be had, and why the others cannot."""
        signatures: dict[str, Signature] = {}
        faults: list[Fault] = []
        for daemon in daemons:
            if daemon.run is None:
                continue
            try:
                if daemon.name not in self._targets:
                    self._targets[daemon.name] = load_daemon(daemon.run, self._folder)
                signatures[daemon.name] = signature_of(self._targets[daemon.name])
            except GeartrainError as error:
                trace = error.trace if isinstance(error, CannotLoad) else ""
                faults.append(Fault(self._spec.file, f"daemons.{daemon.name}.run", str(error), trace))
        return signatures, faults


@overload
def run(pipeline: Pipeline, *, in_process: bool = False, clock: SimTime) -> Simulated: ...
@overload
def run(pipeline: Pipeline, *, in_process: bool = False, clock: Clock | None = None) -> None: ...
def run(pipeline: Pipeline, *, in_process: bool = False, clock: Clock | SimTime | None = None) -> Simulated | None:
    """Run a pipeline, and return when every daemon has; for programs that have no loop yet.

    As `Pipeline.run`, but nobody needs to drive a `SimClock`: its time passes as fast as the daemons have worked, and
    whoever then only waits for its stop is stopped.
    """
    _check_run(in_process=in_process, clock=clock)
    backend = pipeline.spec.backend
    if isinstance(clock, SimTime) and clock.placement == "one":
        return simulate(partial(pipeline.run, clock=clock), backend=backend)
    if isinstance(clock, SimClock):
        from geartrain.engine.in_process import InProcess

        simulate(InProcess(pipeline, clock).live_in_virtual_time, clock, backend=backend)
    else:
        return anyio.run(partial(pipeline.run, in_process=in_process, clock=clock), backend=backend)
    return None


def _check_run(*, in_process: bool, clock: Clock | SimTime | None) -> None:
    if clock is not None and not in_process and not isinstance(clock, SimTime):
        raise BadValue(
            "run() clock=... is for in_process=True: processes of their own live in real time; "
            "to simulate the whole pipeline give it clock=SimTime()"
        )


def _target(daemon: object) -> Target:
    """The class or function that was given; `Merge[Frame]` says its item type to a type checker only."""
    plain = get_origin(daemon) or daemon
    if isinstance(plain, Daemon):
        raise BadType(
            f"add() got {plain!r}, which is made already; give its class, for it is made anew in its process, "
            "and its arguments as config={...}"
        )
    try:
        return checked_target(plain, getattr(plain, "__name__", repr(plain)))
    except CannotLoad as error:
        raise BadType(f"add() got something else than a daemon: {error}") from None


def _tables(file: Path) -> Any:
    """What a file says, whatever its syntax."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PipelineFaulty([Fault(str(file), "", f"cannot be read: {reason}")]) from None
    match file.suffix.lower():
        case ".toml":
            return parsed(text, "toml", str(file))
        case ".json":
            return parsed(text, "json", str(file))
        case ".yaml" | ".yml":
            return _yaml(text, str(file))
        case suffix:
            said = f"ends in {suffix or 'nothing'!r}; a pipeline file is .toml, .json or .yaml"
            if suffix == ".py":
                said += f"; a Pipeline of a module is named as {file.stem}:pipeline"
            raise PipelineFaulty([Fault(str(file), "", said)])


def _yaml(text: str, file: str) -> Any:
    try:
        yaml = import_module("yaml")
    except ModuleNotFoundError:
        said = "is YAML, which needs PyYAML; install it, or write TOML"
        raise PipelineFaulty([Fault(file, "", said)]) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PipelineFaulty([Fault(file, "", f"this is not YAML: {error}")]) from None


def _daemon(
    name: str,
    process: str | None,
    on_error: OnError,
    restart: RestartPolicy | None,
    start_within: float | None = None,
    budget: float | None = None,
    *,
    run: str | None = None,
    command: tuple[str, ...] = (),
    config: Mapping[str, Any] | None = None,
) -> DaemonSpec:
    one_of(f"daemon {name!r} on_error", on_error, lifecycle.POLICIES)
    if restart is not None and not isinstance(restart, RestartPolicy):
        raise BadType(f"daemon {name!r} restart must be a RestartPolicy, got {restart!r}")
    return DaemonSpec(
        name=name,
        process=name if process is None else _text(f"the process of daemon {name!r}", process),
        run=run,
        command=command,
        on_error=on_error,
        restart=restart,
        start_within=None if start_within is None else number(f"daemon {name!r} start_within", start_within, least=0),
        budget=_budget(f"daemon {name!r}", budget),
        config=config or {},
    )


def _budget(whose: str, budget: float | None) -> float | None:
    in_ns(whose, budget)
    return budget


def _end(role: str, end: object) -> PortRef:
    """The port that was given: by its handle, or by its name."""
    if isinstance(end, PortRef):
        return end
    if isinstance(end, str):
        try:
            return port_ref(end)
        except BadValue as error:
            raise BadValue(f"connect() {role} {error}") from None
    raise BadType(f'connect() {role} must be a port, as camera.frames or "camera.frames", got {end!r}')


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadType(f"{what} must be text, got {value!r}")
    if not value:
        raise BadValue(f"{what} must not be empty")
    return value
