"""What is wrong with a pipeline, and what follows from how it is wired. Every fault at once, and no import.

    check(spec, signatures)      faults: names, ends, types, cycles, config, settings that cannot be
    start_order(spec)            sinks first, so that every reader listens before its writer speaks
    restart_cone(spec, daemon)   who is restarted along with it
    in_custody(spec)             which channels within a process must take part where nothing may be lost
    longest_windows(spec)        how much may be under way between a writer and the last reader that its items reach
    type_givers(spec, ...)       which port says the item type of a channel
    carried(spec, signatures)    the channels that really are: an entry between call ports stands for two

A cycle in which every edge blocks can fill up and wait for itself. An edge that is lossy, or says keep="taken", cuts
it: its writer never waits for what the reader does with an item.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import chain, pairwise

import msgspec
from msgspec import Struct

from geartrain.errors import Fault, GeartrainError
from geartrain.rules.appointments import clock_halves
from geartrain.rules.calls import halves
from geartrain.rules.nearest import did_you_mean, nearest
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, PortRef
from geartrain.rules.restart import Again, RestartPolicy, decide
from geartrain.rules.signature import ItemType, Port, Signature

Signatures = Mapping[str, Signature]
# The key of what is wrong, and what is said about it.
Said = Iterator[tuple[str, str]]

# When a pipeline stops, a source that does not look whether it should is cancelled after this.
SOURCE_GRACE_S = 0.5

_FIT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def check(spec: PipelineSpec, signatures: Signatures) -> tuple[Fault, ...]:
    """Every fault of a pipeline. Of a daemon without a signature nothing is known, and nothing is said of its ports."""
    said = chain(
        _unfit_names(spec),
        _unfit_daemons(spec),
        _misfit_config(spec, signatures),
        _misplaced(spec),
        _missing_ends(spec, signatures),
        _unfit_channels(spec, signatures),
        _doubled_ends(spec, signatures),
        _kinds_that_do_not_meet(spec, signatures),
        _types_that_do_not_meet(spec, signatures),
        _types_that_stay(spec, signatures),
        _cycles_that_block(spec),
    )
    return tuple(Fault(spec.file, key, words) for key, words in said)


# -- names and settings -----------------------------------------------------------------------------------------------


def _unfit_names(spec: PipelineSpec) -> Said:
    if not spec.daemons:
        yield "daemons", 'there are none; a pipeline needs at least one, as [daemons.camera] with run = "module:attr"'
    if spec.name:
        yield from _unfit("pipeline.name", spec.name)
    for kind, parts in (("daemons", spec.daemons), ("channels", spec.channels), ("processes", spec.processes)):
        for part in parts:
            yield from _unfit(f"{kind}.{part.name}", part.name)
    for daemon in spec.daemons:
        if daemon.process != daemon.name:
            yield from _unfit(f"daemons.{daemon.name}.process", daemon.process)


def _unfit(key: str, name: str) -> Said:
    if not _FIT.fullmatch(name):
        yield key, f"the name {name!r} is not fit: use letters, digits, - and _ only"


def _unfit_daemons(spec: PipelineSpec) -> Said:
    for daemon in spec.daemons:
        key = f"daemons.{daemon.name}"
        if daemon.restart is not None:
            for said in _impossible_restart(daemon, daemon.restart):
                yield f"{key}.restart", said
        if daemon.command and daemon.config:
            yield f"{key}.config", "a command has no config; give the program arguments, or its process an env"
        if daemon.command and daemon.budget is not None:
            yield f"{key}.budget", "a command has no cycles that anybody could measure; leave its budget out"
        if daemon.command:
            for mate in (other.name for other in spec.daemons if other.process == daemon.process):
                if mate != daemon.name:
                    yield f"{key}.process", f"a command is a process of its own, and {mate!r} is in {daemon.process!r}"


def _impossible_restart(daemon: DaemonSpec, policy: RestartPolicy) -> Iterator[str]:
    if daemon.on_error != "restart":
        yield f'does nothing with on_error = "{daemon.on_error}"; say on_error = "restart", or leave it out'
    if policy.cap < policy.base:
        yield f"cap ({policy.cap:g} s) is less than base ({policy.base:g} s), so the delay could never be base"
    if _never_gives_up(policy):
        yield (
            f"never gives up: {policy.max_retries} retries take longer than within ({policy.within:g} s), so that many "
            "never fall into it; make within longer, or base shorter, or leave max_retries and within out"
        )


def _never_gives_up(policy: RestartPolicy) -> bool:
    """Whether the delays alone keep the deaths so far apart that too many never fall into the window.

    The first restart after a healthy stretch is immediate; `base` is the delay before the second.
    """
    if policy.max_retries is None or policy.within is None:
        return False
    passed_s = 0.0
    for deaths in range(1, policy.max_retries):
        verdict = decide(policy, deaths, 0.0)
        assert isinstance(verdict, Again)
        passed_s += verdict.delay_s
        if passed_s >= policy.within:
            return True
        if verdict.delay_s == 0 and policy.factor <= 1:
            return False
    return False


def _misfit_config(spec: PipelineSpec, signatures: Signatures) -> Said:
    for daemon in spec.daemons:
        signature = signatures.get(daemon.name)
        if signature is not None:
            yield from _misfit_config_of(daemon, signature)


def _misfit_config_of(daemon: DaemonSpec, signature: Signature) -> Said:
    key = f"daemons.{daemon.name}.config"
    fields = {field.name: field for field in signature.config}
    for name, value in daemon.config.items():
        if name in fields:
            try:
                fields[name].decode(value)
            except GeartrainError as error:
                yield f"{key}.{name}", str(error)
        elif signature.port(name) is not None:
            yield f"{key}.{name}", "is a port and no config; connect it by a channel"
        else:
            yield f"{key}.{name}", f"is not known to {daemon.run}; {did_you_mean(name, fields, 'it takes no config')}"
    for name, field in fields.items():
        if field.required and name not in daemon.config:
            yield f"{key}.{name}", f"is missing; {daemon.run} needs it, as {field.type_name}"


def _misplaced(spec: PipelineSpec) -> Said:
    places = dict.fromkeys(daemon.process for daemon in spec.daemons)
    for process in spec.processes:
        if process.name not in places:
            yield f"processes.{process.name}", f"no daemon runs in this process; {did_you_mean(process.name, places)}"
    commands = {daemon.process: daemon.name for daemon in spec.daemons if daemon.command}
    for process in spec.processes:
        if process.backend is not None and process.name in commands:
            yield (
                f"processes.{process.name}.backend",
                f"{commands[process.name]!r} is a command, and has no backend",
            )
        if process.budget is not None and process.name in commands:
            yield (
                f"processes.{process.name}.budget",
                f"{commands[process.name]!r} is a command, and has no cycles that anybody could measure",
            )


# -- ends -------------------------------------------------------------------------------------------------------------


def _ends(channel: ChannelSpec) -> tuple[tuple[str, PortRef | None], tuple[str, PortRef | None]]:
    return ("from", channel.writer), ("to", channel.reader)


def _unfit_channels(spec: PipelineSpec, signatures: Signatures) -> Said:
    daemons = {daemon.name: daemon for daemon in spec.daemons}
    shared = shared_processes(spec)
    for channel in spec.channels:
        key = f"channels.{channel.name}"
        for side, end in _ends(channel):
            if end is not None:
                for said in _unfit_end(daemons, signatures, side, end):
                    yield f"{key}.{side}", said
        settings = _unfit_call_settings if _is_call(channel, signatures) else _unfit_settings
        for name, said in settings(channel, shared[channel.name]):
            yield f"{key}.{name}", said
        for said in _unfit_fence(channel, signatures):
            yield f"{key}.fenced", said


def _unfit_fence(channel: ChannelSpec, signatures: Signatures) -> Iterator[str]:
    """Who sends behind a fence shows a token, and only who takes leases has one."""
    writer = None if channel.writer is None else signatures.get(channel.writer.daemon)
    if channel.fenced is None or writer is None or _is_call(channel, signatures):
        return
    if any(port.clock == "leases" for port in writer.ports):
        return
    assert channel.writer is not None
    yield (
        f"{channel.writer.daemon!r} sends what is fenced by {channel.fenced!r}, and takes no leases; give it a "
        "parameter `leases: Leases`, and let it send while it holds one"
    )


def _unfit_end(daemons: Mapping[str, DaemonSpec], signatures: Signatures, side: str, end: PortRef) -> Iterator[str]:
    if end.daemon not in daemons:
        yield f"there is no daemon {end.daemon!r}; {did_you_mean(end.daemon, daemons)}"
        return
    if daemons[end.daemon].command:
        yield f"{end.daemon!r} runs a command, which has no ports; let a daemon start the program and speak with it"
        return
    signature = signatures.get(end.daemon)
    if signature is None:
        return
    port = signature.port(end.port)
    if port is None:
        ports = [port.name for port in signature.ports]
        yield f"{end.daemon!r} has no port {end.port!r}; {did_you_mean(end.port, ports, 'it has no ports')}"
    elif port.sends != (side == "from"):
        right = "from" if port.sends else "to"
        yield f'{end} {port.does}, so it belongs in "{right}"'


def _unfit_settings(channel: ChannelSpec, shared: str | None) -> Said:
    if channel.policy == "latest" and channel.maxsize != 1:
        yield "maxsize", f'policy = "latest" keeps exactly one item; say 1 or leave it out, got {channel.maxsize}'
    elif channel.maxsize == 0 and (channel.policy == "drop_oldest" or (channel.is_lossy and shared is None)):
        yield "maxsize", f'policy = "{channel.policy}" needs room for at least 1 item, got 0'
    if channel.retain is not None and channel.retain < channel.maxsize:
        yield "retain", f"must be at least maxsize ({channel.maxsize}), got {channel.retain}"
    if channel.transport != "auto" and shared is not None:
        yield "transport", f"both ends are in process {shared!r}, where nothing is transported; leave it out"
    if channel.writer is not None and channel.reader is not None and channel.writer.daemon == channel.reader.daemon:
        yield "to", f"both ends are in daemon {channel.reader.daemon!r}; a channel connects two daemons"


def _unfit_call_settings(channel: ChannelSpec, shared: str | None) -> Said:
    if channel.is_lossy:
        yield "policy", f'is "{channel.policy}", and a call is never dropped; leave it out'
    if channel.maxsize == 0:
        yield "maxsize", "must be at least 1 between call ports: so many calls may be under way"
    if channel.stale_after is not None:
        yield "stale_after", "between call ports nothing need come, so it means nothing; leave it out"
    if channel.fenced is not None:
        yield "fenced", "between call ports an answer says whether it was done; leave it out, and ask a FenceGate there"
    if channel.ack != "batch":
        yield "ack", f'is "{channel.ack}", and a call is done with when it is answered; leave it out'
    # The policies have wishes of their own for maxsize, and one word about them is enough.
    if not channel.is_lossy and channel.maxsize:
        yield from _unfit_settings(channel, shared)


def _is_call(channel: ChannelSpec, signatures: Signatures) -> bool:
    """Whether an end is known to be a call port. Whether the other one is too, is asked elsewhere."""
    ports = (_port_of(signatures, end) for _, end in _ends(channel))
    return any(port is not None and port.reply is not None for port in ports)


def _is_with_clock(channel: ChannelSpec, signatures: Signatures) -> bool:
    ports = (_port_of(signatures, end) for _, end in _ends(channel))
    return any(port is not None and port.clock is not None for port in ports)


def carried(spec: PipelineSpec, signatures: Signatures) -> PipelineSpec:
    """The pipeline with the channels that really are: an entry between call ports, or with a clock, stands for two."""
    return msgspec.structs.replace(
        spec, channels=tuple(half for channel in spec.channels for half in _halves(channel, signatures))
    )


def _halves(channel: ChannelSpec, signatures: Signatures) -> tuple[ChannelSpec, ...]:
    if _is_with_clock(channel, signatures):
        return clock_halves(channel)
    return halves(channel) if _is_call(channel, signatures) else (channel,)


def _doubled_ends(spec: PipelineSpec, signatures: Signatures) -> Said:
    first: dict[tuple[str, PortRef], str] = {}
    for channel in spec.channels:
        for side, end in _ends(channel):
            port = _port_of(signatures, end)
            if end is None or port is None or port.many:
                continue
            other = first.setdefault((side, end), channel.name)
            if other != channel.name:
                yield (
                    f"channels.{channel.name}.{side}",
                    f"{end} has the channel {other!r} already, and a port has one; {_cure(side, port)}",
                )


def _cure(side: str, port: Port) -> str:
    """What to do about a second channel at a port."""
    if port.clock is not None:
        return "one clock or arbiter serves it"
    if port.reply is not None:
        return "let it be a list of Caller" if side == "from" else "let it be a list of Calls, to serve several"
    return f'put run = "geartrain.recipes:{"Tee" if side == "from" else "Merge"}" between'


def _missing_ends(spec: PipelineSpec, signatures: Signatures) -> Said:
    ends = [end for channel in spec.channels for _, end in _ends(channel)]
    if None in ends:
        # Whose end it is cannot be known, and is asked for already.
        return
    used = {end for end in ends if end is not None}
    lost = {end for end in used if _port_of(signatures, end) is None}
    for daemon in spec.daemons:
        signature = signatures.get(daemon.name, Signature())
        for port in signature.ports:
            here = PortRef(daemon.name, port.name)
            meant = any(_may_mean(end, here, signatures) for end in lost)
            if not port.optional and here not in used and not meant:
                side = "from" if port.sends else "to"
                yield (
                    f"daemons.{daemon.name}",
                    f'port {port.name!r} ({port.does}) has no channel; add [channels.NAME] with {side} = "{here}"',
                )


def _may_mean(lost: PortRef, here: PortRef, signatures: Signatures) -> bool:
    """Whether an end that leads nowhere is a misspelling of this one, which is then told once."""
    if lost.daemon in signatures:
        return lost.daemon == here.daemon and nearest(lost.port, [here.port]) is not None
    return lost.port == here.port and nearest(lost.daemon, [here.daemon]) is not None


def _port_of(signatures: Signatures, end: PortRef | None) -> Port | None:
    signature = None if end is None else signatures.get(end.daemon)
    return None if end is None or signature is None else signature.port(end.port)


def shared_processes(spec: PipelineSpec) -> dict[str, str | None]:
    """For each channel the process that both its ends are in, or None when it goes from one to another."""
    places = {daemon.name: daemon.process for daemon in spec.daemons}
    shared: dict[str, str | None] = {}
    for channel in spec.channels:
        there = {places.get(end.daemon) if end is not None else None for _, end in _ends(channel)}
        shared[channel.name] = there.pop() if len(there) == 1 else None
    return shared


# -- types ------------------------------------------------------------------------------------------------------------


class _Bound(Struct, frozen=True):
    """What a type variable stands for, and the channel and port that say so."""

    item: ItemType
    channel: str
    giver: PortRef


# A type variable of one daemon.
_Variable = tuple[str, str]


class _Types:
    """The types of all ports: those that are written down, and those of ports that take any, as the channels bind them.

    Variables that meet each other are one, as in a chain of a Merge and a Tee.
    """

    def __init__(self, spec: PipelineSpec, signatures: Signatures) -> None:
        self._above: dict[_Variable, _Variable] = {}
        self._bound: dict[_Variable, _Bound] = {}
        self.conflicts: list[tuple[str, str]] = []
        met = [meeting for both in _both_ports(spec, signatures) for meeting in _meetings(*both)]
        for one in met:
            if one.sent.variable and one.expected.variable:
                self._above[self._root((one.writer.daemon, one.sent.variable))] = self._root(
                    (one.reader.daemon, one.expected.variable)
                )
        for one in met:
            sent, expected = one.sent, one.expected
            if sent.variable and not expected.variable:
                self._bind(one.channel, (one.writer.daemon, sent.variable), expected, one.reader, one.writer)
            elif expected.variable and not sent.variable:
                self._bind(one.channel, (one.reader.daemon, expected.variable), sent, one.writer, one.reader)
            elif not sent.variable and sent.shape != expected.shape:
                alike = ", of another structure" if sent.text == expected.text else ""
                self.conflicts.append((one.channel.name, f"{one.said}{alike}"))

    def of(self, end: PortRef, item: ItemType) -> tuple[ItemType, PortRef]:
        """The type of what goes through a port, and the port that says it; of one that nothing binds it is Any."""
        if item.variable:
            bound = self._bound.get(self._root((end.daemon, item.variable)))
            if bound is not None:
                return bound.item, bound.giver
        return item, end

    def _root(self, variable: _Variable) -> _Variable:
        while variable in self._above and self._above[variable] != variable:
            variable = self._above[variable]
        return variable

    def _bind(self, channel: ChannelSpec, variable: _Variable, item: ItemType, giver: PortRef, taker: PortRef) -> None:
        bound = self._bound.setdefault(self._root(variable), _Bound(item, channel.name, giver))
        if bound.item.shape != item.shape:
            self.conflicts.append((
                channel.name,
                f"{giver} has {item.text}, but what goes through {taker.daemon!r} is {bound.item.text}, because of "
                f"{bound.giver} on channel {bound.channel!r}",
            ))  # fmt: skip


def _both_ports(
    spec: PipelineSpec, signatures: Signatures
) -> Iterator[tuple[ChannelSpec, PortRef, Port, PortRef, Port]]:
    """The channels whose two ports are known and face each other."""
    for channel in spec.channels:
        sent = _port_of(signatures, channel.writer)
        expected = _port_of(signatures, channel.reader)
        if sent is not None and expected is not None and sent.sends and not expected.sends:
            assert channel.writer is not None
            assert channel.reader is not None
            yield channel, channel.writer, sent, channel.reader, expected


class _Meeting(Struct, frozen=True):
    """Two item types that must be one: of what flows from a writer to a reader."""

    channel: ChannelSpec
    writer: PortRef
    sent: ItemType
    reader: PortRef
    expected: ItemType
    said: str


def _meetings(channel: ChannelSpec, writer: PortRef, sent: Port, reader: PortRef, expected: Port) -> Iterator[_Meeting]:
    """The types that meet on a channel: of its items, and between call ports, the other way, of the replies."""
    said = f"{writer} {sent.does}, {reader} {expected.does}"
    if (sent.clock is None) != (expected.clock is None):
        return
    if (sent.reply is None) == (expected.reply is None):
        yield _Meeting(channel, writer, sent.item, reader, expected.item, said)
    if sent.reply is not None and expected.reply is not None:
        yield _Meeting(channel, reader, expected.reply, writer, sent.reply, said)


def _kinds_that_do_not_meet(spec: PipelineSpec, signatures: Signatures) -> Said:
    for channel, writer, sent, reader, expected in _both_ports(spec, signatures):
        is_one_kind = (sent.reply is None) == (expected.reply is None) and (sent.clock is None) == (
            expected.clock is None
        )
        is_leased = sent.clock == "leases" or expected.clock == "lease_clients"
        if not is_one_kind or (is_leased and (sent.clock, expected.clock) != ("leases", "lease_clients")):
            goes = "Caller goes with Calls, and SendStream with ReceiveStream"
            if sent.clock != expected.clock:
                goes = "Deadlines and Planes go with a clock, as geartrain.actors:ReactorClock"
                if is_leased:
                    goes = "Leases go with an arbiter, as geartrain.actors:LeaseArbiter"
            yield f"channels.{channel.name}", f"{writer} {sent.does}, {reader} {expected.does}; {goes}"


def _types_that_do_not_meet(spec: PipelineSpec, signatures: Signatures) -> Said:
    # Between call ports both types may differ, which one sentence says.
    for channel, said in dict.fromkeys(_Types(spec, signatures).conflicts):
        yield f"channels.{channel}", said


def _types_that_stay(spec: PipelineSpec, signatures: Signatures) -> Said:
    types = _Types(spec, signatures)
    shared = shared_processes(spec)
    for one in (meeting for both in _both_ports(spec, signatures) for meeting in _meetings(*both)):
        item, _giver = types.of(one.writer, one.sent)
        if item.stays_because is not None and shared[one.channel.name] is None:
            yield (
                f"channels.{one.channel.name}",
                f"{item.text} cannot go to another process: {item.stays_because}; put {one.writer.daemon!r} and "
                f"{one.reader.daemon!r} into one process, or send a msgspec.Struct",
            )


def type_givers(spec: PipelineSpec, signatures: Signatures) -> dict[str, PortRef]:
    """For each channel the port whose type its items have: of its own two, or of one further along a Merge or Tee."""
    types = _Types(spec, signatures)
    return {
        channel.name: types.of(*((writer, sent.item) if sent.item.variable is None else (reader, expected.item)))[1]
        for channel, writer, sent, reader, expected in _both_ports(spec, signatures)
    }


# -- cycles and order -------------------------------------------------------------------------------------------------


def edges(channels: Sequence[ChannelSpec]) -> Iterator[tuple[str, str, ChannelSpec]]:
    """Who writes to whom, by which channel."""
    for channel in channels:
        if channel.writer is not None and channel.reader is not None and channel.writer.daemon != channel.reader.daemon:
            yield channel.writer.daemon, channel.reader.daemon, channel


def _cycle(channels: Sequence[ChannelSpec]) -> list[ChannelSpec]:
    """The channels of a cycle, in the order of their flow; empty when there is none."""
    readers: dict[str, list[str]] = {}
    between: dict[tuple[str, str], ChannelSpec] = {}
    for writer, reader, channel in edges(channels):
        readers.setdefault(writer, []).append(reader)
        between[writer, reader] = channel
    try:
        TopologicalSorter(readers).prepare()
    except CycleError as error:
        return [between[writer, reader] for reader, writer in pairwise(error.args[1])][::-1]
    return []


def _cycles_that_block(spec: PipelineSpec) -> Said:
    blocking = [channel for channel in spec.channels if not channel.may_close_a_cycle]
    while cycle := _from_the_first(_cycle(blocking), spec):
        way = " -> ".join([*(str(channel.writer and channel.writer.daemon) for channel in cycle),
                           str(cycle[-1].reader and cycle[-1].reader.daemon)])  # fmt: skip
        names = ", ".join(channel.name for channel in cycle)
        yield (
            f"channels.{cycle[0].name}",
            f"{way} is a cycle in which every channel blocks ({names}), so it can wait for itself; "
            'say keep = "taken" or a lossy policy on one of them',
        )
        blocking = [channel for channel in blocking if channel not in cycle]


def _from_the_first(cycle: list[ChannelSpec], spec: PipelineSpec) -> list[ChannelSpec]:
    """The same cycle, told from the channel that comes first in the file."""
    if not cycle:
        return cycle
    start = cycle.index(min(cycle, key=spec.channels.index))
    return cycle[start:] + cycle[:start]


def uncut(spec: PipelineSpec) -> list[ChannelSpec]:
    """The channels without those that close a cycle: of each cycle the last that may be cut, and at the worst any."""
    left = list(spec.channels)
    while cycle := _from_the_first(_cycle(left), spec):
        cuts = [channel for channel in cycle if channel.may_close_a_cycle]
        left.remove((cuts or cycle)[-1])
    return left


def start_order(spec: PipelineSpec) -> tuple[str, ...]:
    """The daemons, sinks first; where the wiring does not say, in the order of the file."""
    order = TopologicalSorter({daemon.name: list[str]() for daemon in spec.daemons})
    for writer, reader, _ in edges(uncut(spec)):
        order.add(writer, reader)
    known = {daemon.name for daemon in spec.daemons}
    return tuple(name for name in order.static_order() if name in known)


def stop_order(spec: PipelineSpec) -> tuple[str, ...]:
    """The daemons, sources first: what is under way drains downstream."""
    return start_order(spec)[::-1]


def is_repeated(spec: PipelineSpec, daemon: str) -> bool:
    """Whether what a daemon had sent when it died comes again: it came of items that its writers still keep."""
    return any(reader == daemon and _keeps(channel) for _, reader, channel in edges(spec.channels))


def restart_cone(spec: PipelineSpec, daemon: str) -> tuple[str, ...]:
    """Who is restarted when this daemon is: downstream along on_peer_restart="restart", in the order of start."""
    cone = {daemon}
    beyond = [daemon]
    while beyond:
        writer = beyond.pop()
        for _, reader, channel in edges(spec.channels):
            if channel.writer is not None and channel.writer.daemon == writer and channel.on_peer_restart == "restart":
                beyond += {reader} - cone
                cone.add(reader)
    return tuple(name for name in start_order(spec) if name in cone - {daemon})


# -- custody ----------------------------------------------------------------------------------------------------------


def in_custody(spec: PipelineSpec) -> frozenset[str]:
    """The channels within a process that may hold what came of items which another process still keeps.

    What is in them dies with the process, so those items must stay kept until all that came of them has passed. Behind
    a lossy channel, or one with keep="taken", nobody keeps anything; and what begins in a process dies with it anyway.
    """
    shared = shared_processes(spec)
    inner = [(writer, reader, channel) for writer, reader, channel in edges(spec.channels) if shared[channel.name]]
    answers = {reader for _, reader, channel in edges(spec.channels) if not shared[channel.name] and _keeps(channel)}
    found: set[str] = set()
    while more := {channel.name for writer, _, channel in inner if writer in answers and not channel.is_lossy} - found:
        found |= more
        answers |= {reader for _, reader, channel in inner if channel.name in found and _keeps(channel)}
    return frozenset(found)


def _keeps(channel: ChannelSpec) -> bool:
    """Whether its writer keeps an item until its reader, and whoever is behind that, needs it no more."""
    return not channel.is_lossy and channel.keep == "stable"


# -- windows ----------------------------------------------------------------------------------------------------------


class Window(Struct, frozen=True):
    """How much may be under way, at most."""

    items: int
    size_bytes: int


def longest_windows(spec: PipelineSpec) -> dict[str, Window]:
    """For each channel the windows added up along the longest way its items go, its own window included.

    A way ends at a sink, and before a lossy channel, whose writer waits for nothing; with keep="taken" it ends at the
    reader. A rendezvous counts as one item. The default of `retain` is twice this.
    """
    after: dict[str, Window] = {}
    outputs: dict[str, list[ChannelSpec]] = {}
    for writer, _, channel in edges(spec.channels):
        outputs.setdefault(writer, []).append(channel)
    for daemon in start_order(spec):
        onward = [_window(channel, after) for channel in outputs.get(daemon, ()) if not channel.is_lossy]
        after[daemon] = Window(
            max((window.items for window in onward), default=0),
            max((window.size_bytes for window in onward), default=0),
        )
    return {channel.name: _window(channel, after) for channel in spec.channels}


def _window(channel: ChannelSpec, after: Mapping[str, Window]) -> Window:
    beyond = Window(0, 0)
    if channel.reader is not None and channel.keep != "taken":
        beyond = after.get(channel.reader.daemon, beyond)
    return Window(max(channel.maxsize, 1) + beyond.items, channel.max_bytes + beyond.size_bytes)
