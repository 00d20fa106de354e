"""A whole pipeline in the present process, on the loop that runs already: to debug it, to test it, in virtual time.

    Pipeline -> one Supervisor, its daemons added sinks first      every channel is an open_channel()

It ends as it does in processes: a daemon that returns closes its ends, so that those after it come to their end too.
A daemon that is made anew gets the same ends again. Under a clock with microsteps the channels are those of
`engine/simulated.py`; otherwise nothing is encoded on the way and nothing is sent twice, so an item
that a daemon had in hand when it failed is gone. What is said of processes (their loop, environment, folder) means
nothing here: there is one loop, that of the caller.
"""

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.abc

from geartrain.engine.calls import CallChannel, Caller, Calls, open_calls
from geartrain.engine.channel import open_channel
from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.deadlines import ClockClient, Deadlines, Planes, open_deadlines, open_planes
from geartrain.engine.declare import End, Target, build, needed_memories, signature_of
from geartrain.engine.ends import Channel, ChannelStats, ReceiveStream, SendStream
from geartrain.engine.fenced import FencedReceive, FencedSend, Fences, Gate
from geartrain.engine.in_turn import start_in_turn
from geartrain.engine.inside import Shelf
from geartrain.engine.leases import LeaseClient, Leases, open_leases
from geartrain.engine.pipeline import Pipeline
from geartrain.engine.planes import PlaneBoard
from geartrain.engine.reporter import report_of
from geartrain.engine.roll import Roll, Watcher
from geartrain.engine.signal import Signal
from geartrain.engine.simulated import Record
from geartrain.engine.simulated_board import Board
from geartrain.engine.simulated_edges import Opener, SimulatedEdges, open_here
from geartrain.engine.supervisor import Supervisor
from geartrain.errors import DaemonError, Deadlock, EndOfStream, Fault, Livelock, PipelineFailed, PipelineFaulty, leaves
from geartrain.ports.clock import Clock, SimClock, WallClock
from geartrain.ports.observer import Observer
from geartrain.ports.plane_words import PlaneWords
from geartrain.ports.turns import current_owner
from geartrain.rules import wiring
from geartrain.rules.durations import duration_text
from geartrain.rules.lifecycle import DaemonFailurePhase
from geartrain.rules.orders import Report
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, PortRef
from geartrain.rules.system import unobserved

if TYPE_CHECKING:
    from geartrain.engine.simulated_node import Outpost


class Place:
    """Where one daemon lives: what it is made of, and its ends."""

    def __init__(
        self,
        spec: DaemonSpec,
        target: Target,
        ends: Mapping[PortRef, Sequence[End]],
        planes: Sequence[PlaneWords],
        fenced: "Mapping[int, Behind]",
    ) -> None:
        self.spec = spec
        self._planes = planes
        self._target = target
        self._ends = {port.port: its for port, its in ends.items() if port.daemon == spec.name}
        self._leases = [end for end in self._all if isinstance(end, Leases)]
        self._shown = {port: [self._behind_fence(end, fenced) for end in its] for port, its in self._ends.items()}

    def _behind_fence(self, end: End, fenced: "Mapping[int, Behind]") -> End:
        """What the daemon has of an end: where the channel is fenced, no item goes through without a token."""
        behind = fenced.get(id(end))
        if behind is None:
            return end
        if isinstance(end, ReceiveStream):
            return FencedReceive(end, behind.channel, behind.gate)
        assert isinstance(end, SendStream)
        return FencedSend(end, behind.channel, behind.gate.region, self._leases)

    @property
    def _all(self) -> list[End]:
        return [end for its in self._ends.values() for end in its]

    @property
    def is_source(self) -> bool:
        return not any(isinstance(end, ReceiveStream) and not isinstance(end, Deadlines | Planes) for end in self._all)

    def new_daemon(self) -> Daemon:
        """The user's daemon, with its ends. What an earlier one has asked for is answered to nobody."""
        for end in self._all:
            if isinstance(end, Caller | Deadlines | Planes | Leases):
                end.begin_again()
        return build(self._target, dict(self._by_port()), self.spec.config)

    def _by_port(self) -> Iterator[tuple[str, End | list[End] | PlaneBoard]]:
        for name in signature_of(self._target).boards:
            yield name, PlaneBoard(self._planes)
        for port in signature_of(self._target).ports:
            ends = self._shown.get(port.name, ())
            if port.many:
                yield port.name, list(ends)
            elif ends:
                yield port.name, ends[0]

    async def let_go(self) -> None:
        """The daemon wants nothing more, and nothing more comes of it. Never waits."""
        for end in self._all:
            await end.aclose()

    async def discard(self) -> None:
        """The daemon is gone for good and the others go on: its edges discard, and count."""
        others = (Calls, Deadlines, Planes)
        inputs = [end for end in self._all if isinstance(end, ReceiveStream) and not isinstance(end, others)]
        # Nobody answers calls, and nobody waits for an answer or a deadline.
        for end in self._all:
            if end not in inputs:
                await end.aclose()
        async with anyio.create_task_group() as tasks:
            for unread in inputs:
                start_in_turn(tasks, _discard, unread)


async def _discard(end: ReceiveStream[Any]) -> None:
    # Whoever is told why virtual time stands still need not hear of this wait.
    current_owner.set(None)
    with suppress(EndOfStream):
        while True:
            await end.wait_item()
            end.discard_oldest()


class Piped(Daemon):
    """A daemon of a pipeline: the user's own, between the gate before its `run` and the end of its channels."""

    def __init__(self, place: Place, roll: Roll, gate: Signal) -> None:
        self.name = place.spec.name
        self._place = place
        self._roll = roll
        self._gate = gate
        self._inner: Daemon | None = None

    async def on_start(self, ctx: Context) -> None:
        self._inner = self._place.new_daemon()
        limit_s = self._place.spec.start_within
        with ctx.clock.move_on_after(math.inf if limit_s is None else limit_s) as patience:
            await self._inner.on_start(ctx)
        if limit_s is not None and patience.cancelled_caught:
            raise TimeoutError(f"on_start has not returned within {duration_text(limit_s)}")

    async def run(self, ctx: Context) -> None:
        assert self._inner is not None
        self._roll.ready(self.name)
        await self._gate.wait()
        await self._inner.run(ctx)
        await self._place.let_go()

    async def on_stop(self, ctx: Context) -> None:
        if self._inner is not None:
            await self._inner.on_stop(ctx)


class InProcess(Observer):
    """One run of a pipeline in the present process."""

    def __init__(
        self,
        pipeline: Pipeline,
        clock: Clock | None = None,
        watcher: Watcher | None = None,
        record: Record | None = None,
        outpost: "Outpost | None" = None,
    ) -> None:
        """`record` is told of each item that is taken, where the clock has microsteps.

        With an outpost only those daemons live here that are at home in its process.
        """
        targets = pipeline.checked()
        self.spec = unobserved(pipeline.whole)
        simulated = _simulated_edges(self.spec, targets, clock, record, open_here if outpost is None else outpost.open)
        impossible = () if simulated is None else simulated.unfit()
        if unfit := (*_foreign_programs(self.spec), *_who_look_at_a_run(self.spec, targets), *impossible):
            raise PipelineFaulty(unfit)
        self.roll = Roll(self.spec, watcher)
        self.gate = Signal("the start of the pipeline")
        self.reports: list[Report] = []
        planes = {
            channel.name: PlaneWords.in_memory(channel.name, channel.budget_ns, (clock or WallClock()).now_ns)
            for channel in self.spec.channels
            if channel.budget_ns is not None
        }
        self._edges = {
            channel.name: _edge(channel, targets, clock, planes.get(channel.name))
            if simulated is None
            else Edge(*simulated.edge(channel, planes.get(channel.name)))
            for channel in self.spec.channels
        }
        ends = _ends_of(self.spec, self._edges)
        fenced = _fenced(self.spec, self._edges)
        self._places = {
            daemon.name: Place(daemon, targets[daemon.name], ends, tuple(planes.values()), fenced)
            for daemon in self.spec.daemons
            if outpost is None or outpost.where[daemon.name] == outpost.process
        }
        self._supervisor = Supervisor(clock=clock, observer=self)
        self._board = (
            Board(clock, outpost, self.gate.set, self._has_ended)
            if isinstance(clock, SimClock) and clock.has_microsteps
            else None
        )
        self._attempts: dict[str, int] = {}
        self._failed: set[str] = set()
        # Of whom everybody knows it, in other processes too.
        self._ended: set[str] = set()
        self._afterwards: anyio.abc.TaskGroup

    # -- the run ------------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Until every daemon has returned. Raises `PipelineFailed` when one failed and its policy did not absorb it."""
        await self._host()

    async def _host(self) -> None:
        failures: list[BaseException] = []
        try:
            # What is discarded for a daemon that is gone goes on until its writers have ended.
            async with anyio.create_task_group() as self._afterwards, self._supervisor as supervisor:
                for name in self._own(wiring.start_order(self.spec)):
                    spec = self._places[name].spec
                    make = partial(Piped, self._places[name], self.roll, self.gate)
                    supervisor.add_factory(
                        make, name=name, on_error=spec.on_error, restart=spec.restart_in_use, budget=spec.budget
                    )
                await supervisor.wait_all_started()
                if self._board is None:
                    self.gate.set()
                else:
                    self._board.started()
        except* (DaemonError, SystemExit, KeyboardInterrupt) as group:
            failures.extend(leaves(group))
        for failure in failures:
            raise self._in_our_words(failure)

    async def live_in_virtual_time(self, clock: SimClock, run_for: float | None = None) -> None:
        """The same, with nobody else to drive the clock: time passes as fast as the daemons have worked.

        After `run_for` seconds it is stopped in order.
        """
        failures: list[BaseException] = []
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._let_time_pass, clock, run_for)
                await self._host()
                tasks.cancel_scope.cancel()
        except* (PipelineFailed, Deadlock, Livelock, SystemExit, KeyboardInterrupt) as group:
            failures.extend(leaves(group))
        for failure in failures:
            raise failure

    async def _let_time_pass(self, clock: SimClock, run_for: float | None) -> None:
        """When nothing is left to do, whoever only waits for its stop gets it."""
        if run_for is not None:
            await clock.advance(run_for)
            if not clock.is_idle:
                start_in_turn(self._afterwards, self.stop)
        await clock.run()
        self._supervisor.signal_stop()
        await clock.run()
        await self.end_now()

    def _own(self, names: Iterable[str]) -> Sequence[str]:
        """Those that live in this process."""
        return [name for name in names if name in self._places]

    def _in_our_words(self, failure: BaseException) -> BaseException:
        if not isinstance(failure, DaemonError):
            return failure
        cause = failure.__cause__ or failure
        report = self._report(failure.name, failure.phase, cause)
        self.roll.failed(report, escalates=True)
        error = PipelineFailed(str(report), report.trace)
        error.__cause__ = cause
        return error

    async def stop(self, grace_s: float = 5.0) -> tuple[str, ...]:
        """Sources first; their closing lets the others end by themselves. Returns when all have ended.

        The answer is who had not ended within the grace, and was cancelled.
        """
        late: list[str] = []
        async with anyio.create_task_group() as tasks:
            for name in self._own(wiring.stop_order(self.spec)):
                start_in_turn(tasks, self._stop_one, name, grace_s, late)
        return tuple(name for name in self._places if name in late)

    async def _stop_one(self, name: str, grace_s: float, late: list[str]) -> None:
        is_source = self._places[name].is_source
        in_time = await self._supervisor.stop_one(name, min(wiring.SOURCE_GRACE_S, grace_s) if is_source else grace_s)
        # A source that does not look whether it should stop is cancelled, and that is no fault of it.
        if not in_time and not is_source:
            late.append(name)

    async def end_now(self) -> None:
        """Cancel everybody, whose `on_stop` has a moment."""
        await self._supervisor.stop(grace=0)

    def clear(self, daemon: str) -> None:
        """Let the body of this daemon be entered again; `NotHeld` when it is, `UnknownDaemon` when there is none."""
        self._supervisor.release(daemon)

    def living(self) -> Sequence[str]:
        """Those of its daemons that have not ended."""
        return self._own(self.roll.unfinished())

    def statistics(self) -> dict[str, ChannelStats]:
        """How each channel stands, as its reader knows."""
        return {name: _stream(edge.reading).statistics() for name, edge in self._edges.items()}

    # -- what the supervisor tells ------------------------------------------------------------------------------------

    def on_executor_up(self) -> None:
        for process in dict.fromkeys(daemon.process for daemon in self.spec.daemons):
            self.roll.spawned(process, os.getpid())

    def on_daemon_start(self, daemon: str, attempt: int) -> None:
        self._attempts[daemon] = attempt + 1
        self._failed.discard(daemon)

    def on_daemon_error(self, daemon: str, phase: DaemonFailurePhase, error: BaseException) -> None:
        self._failed.add(daemon)
        report = self._report(daemon, phase, error)
        self.reports.append(report)
        self.roll.failed(report, escalates=False)

    def on_daemon_stop(self, daemon: str) -> None:
        place = self._places[daemon]
        ignored = daemon in self._failed and place.spec.on_error == "ignore"
        start_in_turn(self._afterwards, place.discard if ignored else place.let_go)
        self.roll.ended(daemon)
        if self._board is None:
            self._has_ended(daemon)
        else:
            self._board.ended(daemon)

    def _has_ended(self, daemon: str) -> None:
        self._ended.add(daemon)
        if all(spec.name in self._ended for spec in self.spec.daemons if not spec.is_system):
            for system in self._own(spec.name for spec in self.spec.daemons if spec.is_system):
                start_in_turn(self._afterwards, self._supervisor.stop_one, system)

    def _report(self, daemon: str, phase: str, error: BaseException) -> Report:
        process, attempt = self._places[daemon].spec.process, self._attempts.get(daemon, 1)
        return report_of(error, daemon=daemon, process=process, phase=phase, attempt=attempt)


class Edge(NamedTuple):
    """Both ends of a channel."""

    writing: End
    reading: ReceiveStream[Any] | ClockClient | LeaseClient


class Behind(NamedTuple):
    """What an end of a fenced channel is behind."""

    channel: str
    gate: Gate


def _fenced(spec: PipelineSpec, edges: Mapping[str, Edge]) -> dict[int, Behind]:
    """By the identity of the end. All channels that one region fences have one gate."""
    fences = Fences()
    return {
        id(end): Behind(channel.name, fences.gate(channel.fenced))
        for channel in spec.channels
        if channel.fenced is not None
        for end in edges[channel.name]
    }


def _simulated_edges(
    spec: PipelineSpec, targets: Mapping[str, Target], clock: Clock | None, record: Record | None, opener: Opener
) -> SimulatedEdges | None:
    if isinstance(clock, SimClock) and clock.has_microsteps:
        return SimulatedEdges(spec, targets, clock, record, opener)
    return None


def _edge(channel: ChannelSpec, targets: Mapping[str, Target], clock: Clock | None, plane: PlaneWords | None) -> Edge:
    assert channel.writer is not None
    port = signature_of(targets[channel.writer.daemon]).port(channel.writer.port)
    assert port is not None
    if port.clock is not None:
        return _clock_edge(port.clock, channel, clock)
    if port.reply is not None:
        calls: CallChannel[Any, Any] = open_calls(channel.maxsize, name=channel.name)
        return Edge(calls.caller, calls.calls)
    if plane is not None:
        return _watched_edge(channel, plane)
    both: Channel[Any] = open_channel(channel.maxsize, policy=channel.policy, ack=channel.ack, name=channel.name)
    return Edge(both.send, both.recv)


def _clock_edge(kind: str, channel: ChannelSpec, clock: Clock | None) -> Edge:
    if kind == "leases":
        leases = open_leases(channel.maxsize, name=channel.name, clock=clock)
        return Edge(leases.leases, leases.client)
    if kind == "planes":
        planes = open_planes(channel.maxsize, name=channel.name)
        return Edge(planes.end, planes.client)
    deadlines = open_deadlines(channel.maxsize, name=channel.name, clock=clock)
    return Edge(deadlines.end, deadlines.client)


def _watched_edge(channel: ChannelSpec, plane: PlaneWords) -> Edge:
    shelf: Shelf[Any] = Shelf(
        channel.name, channel.maxsize, policy=channel.policy, ack=channel.ack, keep="taken", takes_part=False, epoch=1
    )
    shelf.tell_plane(plane)
    return Edge(shelf.sender, shelf.receiver)


def _stream(reading: ReceiveStream[Any] | ClockClient | LeaseClient) -> ReceiveStream[Any]:
    return reading.asks if isinstance(reading, ClockClient | LeaseClient) else reading


def _ends_of(spec: PipelineSpec, edges: Mapping[str, Edge]) -> Mapping[PortRef, Sequence[End]]:
    """The ends for each port, in the order of the file."""
    ends: defaultdict[PortRef, list[End]] = defaultdict(list)
    for channel in spec.channels:
        assert channel.writer is not None
        assert channel.reader is not None
        ends[channel.writer].append(edges[channel.name].writing)
        ends[channel.reader].append(edges[channel.name].reading)
    return ends


def _who_look_at_a_run(spec: PipelineSpec, targets: Mapping[str, Target]) -> Iterator[Fault]:
    for daemon in spec.daemons:
        for name in () if daemon.command else needed_memories(targets[daemon.name]):
            said = (
                "is what the processes of a run write down, and in one process or in virtual time there are none; "
                "give it a default, or leave the one or the other"
            )
            yield Fault(spec.file, f"daemons.{daemon.name}.{name}", said)


def _foreign_programs(spec: PipelineSpec) -> Iterator[Fault]:
    for daemon in spec.daemons:
        if daemon.command:
            said = (
                "a foreign program needs a process of its own, and a run in one process or in virtual time has none; "
                "leave the one or the other"
            )
            yield Fault(spec.file, f"daemons.{daemon.name}.command", said)
