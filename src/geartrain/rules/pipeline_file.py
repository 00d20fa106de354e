"""From the text of a pipeline file to a PipelineSpec, and back; with every fault of the file at once.

    text --parsed()--> tables --overridden()--> tables --read()--> Reading(spec, faults)
                                                 tables <--tables_of()-- spec

What cannot be understood is told as a fault, and the rest is read on: so the spec of a faulty file is good enough to
look for the faults of its wiring too, and for nothing else. TOML, JSON and YAML give the same tables; a key that is
not known is refused in all of them.
"""

import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from msgspec import Struct

from geartrain.errors import BadValue, Fault, GeartrainError, PipelineFaulty
from geartrain.rules import lifecycle
from geartrain.rules.checks import number, whole
from geartrain.rules.durations import bytes_of, duration_text, seconds_of, size_text
from geartrain.rules.nearest import did_you_mean
from geartrain.rules.pipeline import (
    ACKS,
    BACKENDS,
    CARRIERS,
    HUNG_AFTER_S,
    KEEPS,
    MAX_BYTES,
    MAX_DELIVERIES,
    MAXSIZE,
    ON_HANG,
    ON_PEER_RESTART,
    POLICIES,
    REPLICAS,
    SERVICE_GRACE_S,
    SILENT_AFTER_S,
    ChannelSpec,
    DaemonSpec,
    PipelineSpec,
    Policy,
    PortRef,
    ProcessSpec,
    ServiceSpec,
)
from geartrain.rules.regions import canonical
from geartrain.rules.restart import RestartPolicy
from geartrain.rules.services import MISSED, OVERLAPS

T = TypeVar("T")
Value = TypeVar("Value")
Word = TypeVar("Word", bound=str)

Syntax = Literal["toml", "json"]


class Reading(Struct, frozen=True):
    """What was understood of a file, and what was not."""

    spec: PipelineSpec
    faults: tuple[Fault, ...]


# -- text -------------------------------------------------------------------------------------------------------------


def parsed(text: str, syntax: Syntax, file: str) -> object:
    """The tables of a text; `PipelineFaulty` when it is not TOML or JSON at all."""
    try:
        return tomllib.loads(text) if syntax == "toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PipelineFaulty([Fault(file, "", f"this is not {syntax.upper()}: {error}")]) from None


def overridden(tables: object, assignments: Sequence[str]) -> object:
    """The tables with some keys said anew, each as `channels.frames.maxsize=8`.

    The value is read as a TOML value; what is none is text, so that nobody has to quote quotes on a command line.
    """
    if not isinstance(tables, Mapping):
        return tables
    result = dict(tables)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals or not all(names):
            raise BadValue(f"expected key=value, as channels.frames.maxsize=8, got {assignment!r}")
        _assign(result, names, _toml_value(value.strip()), assignment)
    return result


def _assign(table: dict[str, Any], names: list[str], value: object, assignment: str) -> None:
    for name in names[:-1]:
        inner = table.get(name, {})
        if not isinstance(inner, Mapping):
            raise BadValue(f"{assignment!r} goes into {name!r}, which is no table but {_shown(inner)}")
        table[name] = dict(inner)
        table = table[name]
    table[names[-1]] = value


def _toml_value(text: str) -> object:
    try:
        tables = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    return tables["value"] if list(tables) == ["value"] else text


# -- tables -----------------------------------------------------------------------------------------------------------


def read(tables: object, file: str = "") -> Reading:
    """What a file that is parsed already says."""
    faults: list[Fault] = []
    top = _Table(file, "", tables, faults)
    head = top.table("pipeline")
    spec = PipelineSpec(
        name=head.text("name", "") or head.missing("name", 'give the pipeline a name, as name = "vision"'),
        backend=head.one_of("backend", "asyncio", BACKENDS),
        spares=head.whole("spares", None, least=0),
        observe=head.text("observe", "") or None,
        daemons=tuple(_daemon(name, table) for name, table in top.tables("daemons")),
        channels=tuple(_channel(name, table) for name, table in top.tables("channels")),
        processes=tuple(_process(name, table) for name, table in top.tables("processes")),
        services=tuple(_service(name, table) for name, table in top.tables("services")),
        file=file,
    )
    for table in (head, top):
        table.refuse_the_rest()
    return Reading(spec, tuple(faults))


def _daemon(name: str, table: "_Table") -> DaemonSpec:
    spec = DaemonSpec(
        name=name,
        process=table.text("process", name),
        run=table.text("run", None),
        command=table.words("command"),
        on_error=table.one_of("on_error", "shutdown", lifecycle.POLICIES),
        restart=_restart(table.table("restart")) if table.has("restart") else None,
        start_within=table.duration("start_within", None),
        budget=_budget(table),
        config=table.table("config").everything(),
    )
    if not (table.has("run") or table.has("command")):
        table.missing("run", 'say what runs, as run = "module:attr", or command = ["program", "argument"]')
    if table.has("run") and table.has("command"):
        table.refuse("command", "is given beside run; a daemon has one of the two")
    table.refuse_the_rest()
    return spec


def _budget(table: "_Table") -> float | None:
    budget: float | None = table.duration("budget", None)
    if budget is not None and round(budget * 1e9) < 1:
        table.refuse("budget", "must be more than 0; leave it out where a body may take any time")
    return budget


def _restart(table: "_Table") -> RestartPolicy | None:
    usual = RestartPolicy()
    said: dict[str, Any] = {
        "base": table.duration("base", usual.base),
        "factor": table.number("factor", usual.factor, least=0),
        "cap": table.duration("cap", usual.cap),
        "max_retries": table.whole("max_retries", usual.max_retries, least=0),
        "within": table.duration("within", usual.within),
        "jitter": table.number("jitter", usual.jitter, least=0, most=1),
    }
    table.refuse_the_rest()
    try:
        return RestartPolicy(**said)
    except GeartrainError as error:
        table.refuse("", str(error))
        return None


def _channel(name: str, table: "_Table") -> ChannelSpec:
    policy: Policy = table.one_of("policy", "block", POLICIES)
    spec = ChannelSpec(
        name=name,
        writer=table.port("from"),
        reader=table.port("to"),
        policy=policy,
        maxsize=table.whole("maxsize", usual_maxsize(policy), least=0),
        ack=table.one_of("ack", "batch", ACKS),
        keep=table.one_of("keep", "stable", KEEPS),
        max_bytes=table.size("max_bytes", MAX_BYTES),
        retain=table.whole("retain", None, least=1),
        max_deliveries=None if table.says("max_deliveries", "never") else _deliveries(table),
        transport=table.one_of("transport", "auto", CARRIERS),
        on_peer_restart=table.one_of("on_peer_restart", "resume", ON_PEER_RESTART),
        stale_after=table.duration("stale_after", None),
        fenced=table.region("fenced"),
    )
    if spec.stale_after == 0:
        table.refuse("stale_after", "must be more than 0; leave it out where nothing goes stale")
    table.refuse_the_rest()
    return spec


def _deliveries(table: "_Table") -> int:
    # After a first death nobody knows yet which item it was.
    return table.whole("max_deliveries", MAX_DELIVERIES, least=2)


def usual_maxsize(policy: str) -> int:
    """How large a channel is when nobody has said it."""
    return 1 if policy == "latest" else MAXSIZE


def _process(name: str, table: "_Table") -> ProcessSpec:
    spec = ProcessSpec(
        name=name,
        backend=table.one_of("backend", None, BACKENDS),
        env=table.table("env").texts(),
        cwd=table.text("cwd", None),
        nice=table.whole("nice", 0, least=-20, most=19),
        hung_after=None if table.says("hung_after", "never") else table.duration("hung_after", HUNG_AFTER_S),
        on_hang=table.one_of("on_hang", "report", ON_HANG),
        budget=_budget(table),
    )
    if spec.hung_after == 0:
        table.refuse("hung_after", 'must be more than 0, or "never"')
    table.refuse_the_rest()
    return spec


def _service(name: str, table: "_Table") -> ServiceSpec:
    spec = ServiceSpec(
        name=name,
        run=table.text("run", "") or table.missing("run", 'say which function runs, as run = "module:function"'),
        every=table.duration("every", 0.0),
        replicas=table.replicas("replicas"),
        overlap=table.one_of("overlap", "skip", OVERLAPS),
        missed=table.one_of("missed", "skip", MISSED),
        grace=table.duration("grace", SERVICE_GRACE_S),
        silent_after=table.duration("silent_after", SILENT_AFTER_S),
    )
    if not table.has("every"):
        table.missing("every", 'say how long a cycle is, as every = "5s"')
    for key, value in (("every", spec.every), ("silent_after", spec.silent_after)):
        if table.has(key) and round(value * 1e9) < 1 and not table.is_refused(key):
            table.refuse(key, "must be more than 0")
    table.refuse_the_rest()
    return spec


class _Table:
    """One table of the file: hands out values of the type that is asked for, and notes a fault for each that is none.

    A fault gives the default, so that the rest can be read.
    """

    def __init__(self, file: str, key: str, values: object, faults: list[Fault]) -> None:
        self._file = file
        self._key = key
        self._faults = faults
        self._known: list[str] = []
        self._values: dict[str, Any] = {}
        if not isinstance(values, Mapping):
            self.refuse("", f"must be a table, got {_shown(values)}")
            return
        for name, value in values.items():
            if isinstance(name, str):
                self._values[name] = value
            else:
                self.refuse("", f"has the key {name!r}; keys must be text, so quote it")

    def refuse(self, name: str, said: str) -> None:
        key = ".".join(part for part in (self._key, name) if part)
        self._faults.append(Fault(self._file, key, said))

    def is_refused(self, name: str) -> bool:
        return any(fault.key == f"{self._key}.{name}" for fault in self._faults)

    def missing(self, name: str, advice: str) -> str:
        """A required key that is not there; one that is there and wrong has been refused before."""
        if not self.has(name):
            self.refuse(name, f"is missing; {advice}")
        return ""

    def refuse_the_rest(self) -> None:
        """Refuse every key that nobody has asked for."""
        for name in self._values:
            if name not in self._known:
                self.refuse(name, f"is not known here; {did_you_mean(name, self._known)}")

    def has(self, name: str) -> bool:
        return name in self._values

    def says(self, name: str, word: str) -> bool:
        self._knows(name)
        return self._values.get(name) == word

    def text(self, name: str, default: T) -> str | T:
        return self._value(name, default, _text)

    def words(self, name: str) -> tuple[str, ...]:
        return self._value(name, (), _words)

    def replicas(self, name: str) -> int | tuple[str, ...]:
        return self._value(name, REPLICAS, _replicas)

    def one_of(self, name: str, default: T, choices: Sequence[Word]) -> Word | T:
        def choice(value: object) -> Word:
            for word in choices:
                if word == value:
                    return word
            listed = ", ".join(f'"{word}"' for word in choices)
            raise BadValue(f"must be one of {listed}, got {_shown(value)}")

        return self._value(name, default, choice)

    def whole(self, name: str, default: T, *, least: int, most: int | None = None) -> int | T:
        def checked(value: object) -> int:
            met = whole("it", value, least=least)
            if most is not None:
                number("it", met, least=least, most=most)
            return met

        return self._value(name, default, checked)

    def number(self, name: str, default: float, *, least: float, most: float = math.inf) -> float:
        return self._value(name, default, lambda value: number("it", value, least=least, most=most))

    def duration(self, name: str, default: T) -> float | T:
        return self._value(name, default, lambda value: seconds_of(value, "it"))

    def size(self, name: str, default: int) -> int:
        return self._value(name, default, lambda value: whole("it", bytes_of(value, "it"), least=1))

    def region(self, name: str) -> str | None:
        def checked(value: object) -> str:
            if not isinstance(value, str):
                raise BadValue(f'must be a region, as "workcell/left", got {_shown(value)}')
            return canonical(value)

        return self._value(name, None, checked)

    def port(self, name: str) -> PortRef | None:
        self.missing(name, f'say which port, as {name} = "daemon.port"')
        return self._value(name, None, port_ref)

    def table(self, name: str) -> "_Table":
        self._knows(name)
        key = ".".join(part for part in (self._key, name) if part)
        return _Table(self._file, key, self._values.get(name, {}), self._faults)

    def tables(self, name: str) -> "Iterator[tuple[str, _Table]]":
        outer = self.table(name)
        for inner in outer._values:
            yield inner, outer.table(inner)

    def texts(self) -> dict[str, str]:
        return {name: self._value(name, "", _text_or_empty) for name in self._values}

    def everything(self) -> dict[str, Any]:
        return dict(self._values)

    def _knows(self, name: str) -> None:
        if name not in self._known:
            self._known.append(name)

    def _value(self, name: str, default: T, convert: Callable[[Any], Value]) -> Value | T:
        self._knows(name)
        if name not in self._values:
            return default
        try:
            return convert(self._values[name])
        except GeartrainError as error:
            self.refuse(name, str(error).removeprefix("it "))
            return default


def port_ref(value: object) -> PortRef:
    """The port that a text like "camera.frames" names."""
    if isinstance(value, str):
        daemon, _, port = value.partition(".")
        if daemon and port.isidentifier():
            return PortRef(daemon, port)
    raise BadValue(f'must name a daemon and its port, as "camera.frames", got {_shown(value)}')


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise BadValue(f"must be text, got {_shown(value)}")
    return value


def _text_or_empty(value: object) -> str:
    return value if value == "" else _text(value)


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value) or not value[0]:
        raise BadValue(f'must be a list of text that begins with the program, as ["ffmpeg", "-i"], got {_shown(value)}')
    return tuple(value)


def _replicas(value: object) -> int | tuple[str, ...]:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, list) and value and all(isinstance(name, str) and name for name in value):
        return tuple(value)
    raise BadValue(
        f'must be a whole number, at least 1, or a list of processes, as ["left", "right"], got {_shown(value)}'
    )


def _shown(value: object) -> str:
    """A value as it stands in the file, or nearly."""
    if isinstance(value, Mapping):
        return "a table"
    return json.dumps(value, ensure_ascii=False, default=str)


# -- back -------------------------------------------------------------------------------------------------------------


def tables_of(spec: PipelineSpec) -> dict[str, Any]:
    """The tables that `read` makes this spec of, with everything said that has a value."""
    tables = {
        "pipeline": _said({"name": spec.name, "backend": spec.backend, "spares": spec.spares, "observe": spec.observe}),
        "daemons": {daemon.name: _said(_tables_of_daemon(daemon)) for daemon in spec.daemons},
        "channels": {channel.name: _said(_tables_of_channel(channel)) for channel in spec.channels},
        "processes": {process.name: _said(_tables_of_process(process)) for process in spec.processes},
    }
    # A pipeline as it runs has daemons in their place.
    if spec.services:
        tables["services"] = {service.name: _tables_of_service(service) for service in spec.services}
    return tables


def _tables_of_daemon(daemon: DaemonSpec) -> dict[str, Any]:
    return {
        "run": daemon.run,
        "command": list(daemon.command) or None,
        "process": daemon.process,
        "on_error": daemon.on_error,
        "restart": None if daemon.restart is None else _said(_tables_of_restart(daemon.restart)),
        "start_within": None if daemon.start_within is None else duration_text(daemon.start_within),
        "budget": None if daemon.budget is None else duration_text(daemon.budget),
        "config": dict(daemon.config) or None,
    }


def _tables_of_restart(policy: RestartPolicy) -> dict[str, Any]:
    return {
        "base": duration_text(policy.base),
        "factor": policy.factor,
        "cap": duration_text(policy.cap),
        "max_retries": policy.max_retries,
        "within": None if policy.within is None else duration_text(policy.within),
        "jitter": policy.jitter,
    }


def _tables_of_channel(channel: ChannelSpec) -> dict[str, Any]:
    return {
        "from": None if channel.writer is None else str(channel.writer),
        "to": None if channel.reader is None else str(channel.reader),
        "maxsize": channel.maxsize,
        "policy": channel.policy,
        "ack": channel.ack,
        "keep": channel.keep,
        "max_bytes": size_text(channel.max_bytes),
        "retain": channel.retain,
        "max_deliveries": "never" if channel.max_deliveries is None else channel.max_deliveries,
        "transport": channel.transport,
        "on_peer_restart": channel.on_peer_restart,
        "stale_after": None if channel.stale_after is None else duration_text(channel.stale_after),
        "fenced": channel.fenced,
    }


def _tables_of_process(process: ProcessSpec) -> dict[str, Any]:
    return {
        "backend": process.backend,
        "env": dict(process.env) or None,
        "cwd": process.cwd,
        "nice": process.nice,
        "hung_after": "never" if process.hung_after is None else duration_text(process.hung_after),
        "on_hang": process.on_hang,
        "budget": None if process.budget is None else duration_text(process.budget),
    }


def _tables_of_service(service: ServiceSpec) -> dict[str, Any]:
    return {
        "run": service.run,
        "every": duration_text(service.every),
        "replicas": service.replicas if isinstance(service.replicas, int) else list(service.replicas),
        "overlap": service.overlap,
        "missed": service.missed,
        "grace": duration_text(service.grace),
        "silent_after": duration_text(service.silent_after),
    }


def _said(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
