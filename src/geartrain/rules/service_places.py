"""What stands for the services of a pipeline when it runs: a replica in each of their processes, and one keeper of all.

    [services.report]        ->   [daemons.report-1]     run = "geartrain.recipes.services:ServiceReplica"
    run = "books:report"          [daemons.report-2]
    every = "5s"                  [daemons.services]     run = "geartrain.actors:ServiceKeeper"
                                  [channels.report-1-asks], [channels.report-1-told], ...

Both say all they know each time, so only the newest of it counts: their channels keep that and nothing else.
"""

from collections.abc import Iterator

import msgspec

from geartrain.errors import Fault
from geartrain.rules.nearest import did_you_mean
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, PortRef, ServiceSpec
from geartrain.rules.services import Service

KEEPER = "geartrain.actors:ServiceKeeper"
REPLICA = "geartrain.recipes.services:ServiceReplica"
_KEEPER_NAME = "services"


def served(spec: PipelineSpec) -> PipelineSpec:
    """The pipeline with daemons in the place of its services. What is wrong with a service, others say."""
    services = tuple(service for service in spec.services if service.run and round(service.every * 1e9) > 0)
    if not services:
        return msgspec.structs.replace(spec, services=())
    replicas = [_replica(service, name, process) for service in services for name, process in service.places]
    keeper = _keeper(spec, services, {one.name for one in replicas} | {one.process for one in replicas})
    channels = [channel for one in replicas for channel in _channels(one.name, keeper.name)]
    return msgspec.structs.replace(
        spec,
        daemons=(*spec.daemons, *replicas, keeper),
        channels=(*spec.channels, *channels),
        services=(),
    )


def planned(service: ServiceSpec) -> Service:
    """The service as it is planned."""
    return Service(
        name=service.name,
        every_ns=round(service.every * 1e9),
        overlap=service.overlap,
        missed=service.missed,
        silent_after_ns=round(service.silent_after * 1e9),
        grace_ns=round(service.grace * 1e9),
    )


def _replica(service: ServiceSpec, name: str, process: str) -> DaemonSpec:
    config = {"service": service.name, "run": service.run, "beat_ns": max(1, round(service.silent_after * 1e9) // 4)}
    return DaemonSpec(name=name, process=process, run=REPLICA, on_error="restart", config=config)


def _keeper(spec: PipelineSpec, services: tuple[ServiceSpec, ...], more: set[str]) -> DaemonSpec:
    taken = more | {name for daemon in spec.daemons for name in (daemon.name, daemon.process)}
    names = (_KEEPER_NAME, *(f"{_KEEPER_NAME}-{count}" for count in range(2, len(taken) + 3)))
    name = next(title for title in names if title not in taken)
    config = {"services": [msgspec.to_builtins(planned(service)) for service in services]}
    return DaemonSpec(name=name, process=name, run=KEEPER, on_error="restart", config=config)


def _channels(replica: str, keeper: str) -> tuple[ChannelSpec, ChannelSpec]:
    asks, told = PortRef(replica, "asks"), PortRef(keeper, "tells")
    return (
        _newest(f"{replica}-asks", asks, PortRef(keeper, "asks")),
        _newest(f"{replica}-told", told, PortRef(replica, "told")),
    )


def _newest(name: str, writer: PortRef, reader: PortRef) -> ChannelSpec:
    return ChannelSpec(
        name=name, writer=writer, reader=reader, policy="latest", maxsize=1, keep="taken", max_deliveries=None
    )


def faults(spec: PipelineSpec) -> Iterator[Fault]:
    """What is wrong with services that is not wrong with the daemons that stand for them."""
    places = dict.fromkeys(daemon.process for daemon in spec.daemons)
    commands = {daemon.process for daemon in spec.daemons if daemon.command}
    daemons = {daemon.name for daemon in spec.daemons}
    channels = {channel.name for channel in spec.channels}
    taken: dict[str, str] = {}
    for service in spec.services:
        key = f"services.{service.name}"
        listed = () if isinstance(service.replicas, int) else service.replicas
        for process in dict.fromkeys(listed):
            if process not in places:
                said = f"no daemon runs in a process {process!r}; {did_you_mean(process, places)}"
                yield Fault(spec.file, f"{key}.replicas", said)
            elif process in commands:
                said = f"process {process!r} is a command, where no function can run; name another one"
                yield Fault(spec.file, f"{key}.replicas", said)
            if listed.count(process) > 1:
                yield Fault(
                    spec.file, f"{key}.replicas", f"names process {process!r} twice; one replica of it is enough"
                )
        for name, process in service.places:
            if name in daemons or (not listed and process in places):
                said = f"has a replica {name!r}, and so is a daemon or a process called; give the service another name"
                yield Fault(spec.file, key, said)
            elif name in taken:
                said = f"has a replica {name!r}, as service {taken[name]!r} has; give it another name"
                yield Fault(spec.file, key, said)
            elif {f"{name}-asks", f"{name}-told"} & channels:
                said = f"needs channels called '{name}-asks' and '{name}-told'; give yours another name"
                yield Fault(spec.file, key, said)
            taken.setdefault(name, service.name)
