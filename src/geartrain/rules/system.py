"""Which system daemons a pipeline needs besides those it declares: a clock and an observer, where they are asked for.

    watchdog(deadlines: Deadlines)          ->   [daemons.clock]               run = "geartrain.actors:ReactorClock"
                                                 [channels.watchdog-deadlines] from = "watchdog.deadlines"
                                                                               to = "clock.clients"

    [pipeline] observe = "127.0.0.1:8080"  ->   [daemons.observer]        run = "geartrain.faces.gateway:WebObserver"

A channel that may go stale needs a clock too, which watches it. What is declared stays as it is: a clock that is
declared is the one that is asked, and a port that is connected has its clock. So what comes out of this needs nothing
more, and may be written into a file.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from geartrain.errors import Fault
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, PortRef
from geartrain.rules.service_places import served
from geartrain.rules.signature import ClockPort, Port, Signature

CLOCK = "geartrain.actors:ReactorClock"
CLIENTS = "clients"
ARBITER = "geartrain.actors:LeaseArbiter"
OBSERVER = "geartrain.actors.observer:ExecutorObserver"
WEB_OBSERVER = "geartrain.faces.gateway:WebObserver"
_CLOCK_NAME = "clock"
_ARBITER_NAME = "arbiter"
_OBSERVER_NAME = "observer"


def completed(spec: PipelineSpec, signatures: Mapping[str, Signature]) -> PipelineSpec:
    """The pipeline with all that it asks for, so that nothing is asked for any more."""
    return _observed(_leased(_timed(served(spec), signatures), signatures))


def _observed(spec: PipelineSpec) -> PipelineSpec:
    """With an observer, if it is to be shown somewhere."""
    if spec.observe is None:
        return spec
    name = _free_name(spec, _OBSERVER_NAME)
    made = DaemonSpec(
        name=name, process=name, run=WEB_OBSERVER, on_error="restart", config={"bind": spec.observe}
    )  # fmt: skip
    return msgspec.structs.replace(spec, daemons=(*spec.daemons, made), observe=None)


def is_observer(daemon: DaemonSpec) -> bool:
    return daemon.run in (OBSERVER, WEB_OBSERVER)


def shown_at(spec: PipelineSpec) -> dict[str, str]:
    """Where each observer that shows the run does so."""
    binds = {daemon.name: daemon.config.get("bind") for daemon in spec.daemons if daemon.run == WEB_OBSERVER}
    return {name: str(bind) if str(bind).startswith("unix:") else f"http://{bind}/" for name, bind in binds.items()}


def unobserved(spec: PipelineSpec) -> PipelineSpec:
    """Without observers: what they look at is written by processes."""
    left = tuple(daemon for daemon in spec.daemons if not is_observer(daemon))
    return msgspec.structs.replace(spec, daemons=left)


def _timed(spec: PipelineSpec, signatures: Mapping[str, Signature]) -> PipelineSpec:
    """With a clock, if it needs one, and with a channel to it for each port that asks for one."""
    asking = [here for here, port in _unconnected(spec, signatures) if port.asks_clock]
    clock = _clock_of(spec, signatures)
    watched = any(channel.stale_after is not None for channel in spec.channels)
    if not (asking or watched) or (clock is None and _is_unknown(spec, signatures)):
        return spec
    daemons = spec.daemons
    if clock is None:
        clock = _free_name(spec, _CLOCK_NAME)
        made = DaemonSpec(name=clock, process=clock, run=CLOCK, on_error="restart")
        daemons = (*daemons, made)
    return _connected(spec, daemons, asking, PortRef(clock, CLIENTS))


def _leased(spec: PipelineSpec, signatures: Mapping[str, Signature]) -> PipelineSpec:
    """With an arbiter, if somebody asks for leases, and with a channel to it for each port that does.

    One that dies is started again: it knows what it had granted, by its journal in the run's folder (ADR 39).
    """
    asking = [here for here, port in _unconnected(spec, signatures) if port.asks_arbiter]
    arbiter = _arbiter_of(spec, signatures)
    if not asking or (arbiter is None and _is_unknown(spec, signatures)):
        return spec
    daemons = spec.daemons
    if arbiter is None:
        arbiter = _free_name(spec, _ARBITER_NAME)
        daemons = (*daemons, DaemonSpec(name=arbiter, process=arbiter, run=ARBITER, on_error="restart"))
    return _connected(spec, daemons, asking, PortRef(arbiter, CLIENTS))


def _connected(
    spec: PipelineSpec, daemons: tuple[DaemonSpec, ...], asking: Sequence[PortRef], reader: PortRef
) -> PipelineSpec:
    """With an entry for each of these ports to the one that serves it."""
    taken = {channel.name for channel in spec.channels}
    channels = [
        ChannelSpec(name=_free(f"{port.daemon}-{port.port}", taken), writer=port, reader=reader, keep="taken")
        for port in asking
    ]
    return msgspec.structs.replace(spec, daemons=daemons, channels=(*spec.channels, *channels))


def faults(spec: PipelineSpec, signatures: Mapping[str, Signature]) -> Iterator[Fault]:
    """What is wrong with what is asked of a clock, as far as nobody but a clock would know."""
    clocks = [daemon.name for daemon in spec.daemons if _serves(daemon, signatures)]
    watched = any(channel.stale_after is not None for channel in spec.channels)
    asking = [port for _, port in _unconnected(spec, signatures)]
    if len(clocks) > 1 and (watched or any(port.asks_clock for port in asking)):
        said = f"is one clock of several, {', '.join(clocks)}, and nobody has said whom it serves; leave one of them"
        yield Fault(spec.file, f"daemons.{clocks[-1]}.run", said)
    arbiters = [daemon.name for daemon in spec.daemons if _serves(daemon, signatures, "lease_clients")]
    if len(arbiters) > 1 and any(port.asks_arbiter for port in asking):
        said = (
            f"is one arbiter of several, {', '.join(arbiters)}, and nobody has said whom it serves; leave one of them"
        )
        yield Fault(spec.file, f"daemons.{arbiters[-1]}.run", said)
    for daemon in spec.daemons:
        for port in signatures.get(daemon.name, Signature()).ports:
            if port.clock == "planes" and not port.optional and not watched:
                said = "hears of channels that go stale, and none may: give one a stale_after"
                yield Fault(spec.file, f"daemons.{daemon.name}.{port.name}", said)


def _unconnected(spec: PipelineSpec, signatures: Mapping[str, Signature]) -> Iterator[tuple[PortRef, Port]]:
    """The ports that ask a clock or an arbiter, and nobody has said which."""
    connected = {channel.writer for channel in spec.channels}
    for daemon in spec.daemons:
        for port in signatures.get(daemon.name, Signature()).ports:
            here = PortRef(daemon.name, port.name)
            if (port.asks_clock or port.asks_arbiter) and here not in connected:
                yield here, port


def _clock_of(spec: PipelineSpec, signatures: Mapping[str, Signature]) -> str | None:
    """The first daemon that is a clock."""
    return next((daemon.name for daemon in spec.daemons if daemon.is_system and _serves(daemon, signatures)), None)


def _arbiter_of(spec: PipelineSpec, signatures: Mapping[str, Signature]) -> str | None:
    """The first daemon that is an arbiter. One with a journal or rules of its own may be a user's."""
    return next((one.name for one in spec.daemons if _serves(one, signatures, "lease_clients")), None)


def _serves(daemon: DaemonSpec, signatures: Mapping[str, Signature], kind: ClockPort = "clients") -> bool:
    signature = signatures.get(daemon.name)
    return signature is not None and any(port.clock == kind for port in signature.ports)


def _is_unknown(spec: PipelineSpec, signatures: Mapping[str, Signature]) -> bool:
    """Whether a system daemon is declared that could not be loaded: it may be the clock."""
    return any(daemon.is_system and daemon.name not in signatures for daemon in spec.daemons)


def _free_name(spec: PipelineSpec, wanted: str) -> str:
    """Neither a daemon nor a process has it."""
    return _free(wanted, {name for daemon in spec.daemons for name in (daemon.name, daemon.process)})


def _free(name: str, taken: set[str]) -> str:
    names = (name, *(f"{name}-{count}" for count in range(2, len(taken) + 3)))
    found = next(title for title in names if title not in taken)
    taken.add(found)
    return found
