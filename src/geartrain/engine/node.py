"""A process of a pipeline: it hosts its daemons under a Supervisor of its own, and does what the launcher says.

    python -m geartrain.engine.node          the order is on descriptor 0, and nothing else is asked for

The ends of a daemon's channels live as long as the process: a daemon that is made anew goes on with the same writing
ends, and its reading ends begin again with what the last one had not finished. When `run` returns, the writing ends are
closed, and the process stays until all that was sent is stable. Its writers are let go only when the launcher knows
that the daemon has finished: whoever is killed before that is started again, and its writers are still there for it.
"""

import io
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec

from geartrain.engine.calls import Caller, Calls
from geartrain.engine.channel import open_channel
from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.deadlines import ClockClient, Deadlines, Planes
from geartrain.engine.declare import Target, build, load_daemon, signature_of
from geartrain.engine.ends import Channel, ReceiveStream, SendStream
from geartrain.engine.fenced import FencedReceive, FencedSend, Fences
from geartrain.engine.hands import Hands
from geartrain.engine.inside import InsideReceive, InsideSend, Shelf
from geartrain.engine.leases import LeaseClient, Leases
from geartrain.engine.options import ChannelOptions, new_number
from geartrain.engine.planes import PlaneBoard
from geartrain.engine.remote import RemoteReceive, RemoteSend, reading, set_aside, writing
from geartrain.engine.reporter import report_of
from geartrain.engine.signal import Lock, Signal
from geartrain.engine.spare import become
from geartrain.engine.supervisor import Supervisor
from geartrain.engine.tap import Tap
from geartrain.engine.written import Written
from geartrain.errors import DaemonError, EndOfStream, NotHeld, UnknownDaemon, leaves
from geartrain.ports.inner import InnerTransport
from geartrain.ports.lifeline import hold_lifeline
from geartrain.ports.parking import call_later
from geartrain.ports.plane_words import PlaneWords
from geartrain.ports.process import take_bootstrap
from geartrain.ports.run_memory import RunMemory
from geartrain.ports.slots import Slots
from geartrain.ports.stacks import show_stacks
from geartrain.ports.tally import Tally
from geartrain.ports.transport import load
from geartrain.rules.calls import Reply, Request
from geartrain.rules.counts import EndCounts
from geartrain.rules.fence import Sealed
from geartrain.rules.lifecycle import DaemonFailurePhase
from geartrain.rules.orders import (
    AskCounts,
    Clear,
    Cleared,
    CloseTap,
    Counts,
    DaemonOrder,
    Ended,
    EndOrder,
    Failed,
    Finished,
    Giver,
    Go,
    Listener,
    Lost,
    NodeOrder,
    Noted,
    OpenTap,
    Over,
    PlaneOrder,
    Quit,
    Ready,
    Report,
    Returned,
    Said,
    SpareOrder,
    Stop,
    Tapped,
    to_line,
)
from geartrain.rules.readings import Phase
from geartrain.rules.session import Loss
from geartrain.rules.shown import Shown
from geartrain.rules.signature import Port

FAILED = 1

# How often a process shows that its loop goes round.
BEAT_S = 0.2

# How long after the death of a writer what it had sent may need to be read here.
LATE_S = 0.05

End = SendStream[Any] | ReceiveStream[Any]
Input = RemoteReceive[Any] | InsideReceive[Any]
Output = RemoteSend[Any] | InsideSend[Any]
INPUTS = (RemoteReceive, InsideReceive)
OUTPUTS = (RemoteSend, InsideSend)
# What stands for two channels, and whatever of it asks anew in each life of its daemon.
PairEnd = Caller[Any, Any] | Calls[Any, Any] | Deadlines | Planes | ClockClient | Leases | LeaseClient
ASKING = (Deadlines, Planes, Leases)


class Place:
    """Where one daemon lives: its order, its ends, and the gate before its `run`."""

    def __init__(
        self, order: DaemonOrder, target: Target, ends: Sequence[tuple[EndOrder, End]], state: Path, fences: Fences
    ) -> None:
        self.order = order
        self._state = state
        self.target = target
        self.ends = ends
        self._ports = {port.name: port for port in signature_of(target).ports}
        self._pair_ends = {port.name: self._ends_of_pairs(port) for port in self._ports.values() if port.reply}
        self._shown = [self._behind_fence(written, end, fences) for written, end in ends]
        self.go = Signal(f"the start of {order.name}")
        self.noted = Signal(f"the launcher's knowledge that {order.name} has finished")
        self.lives = 0
        self.hands = Hands((), ())
        self.planes: dict[str, PlaneWords] = {}

    def tell_planes(self) -> None:
        """From now on others can judge when something has come last."""
        for order, end in self.ends:
            if order.plane is not None and isinstance(end, INPUTS):
                end.tell_plane(self.planes.setdefault(order.channel, _plane(order.plane)))

    def _behind_fence(self, order: EndOrder, end: End, fences: Fences) -> End:
        """What the daemon has of an end: where the channel is fenced, no item goes through without a token."""
        if order.fenced is None:
            return end
        if isinstance(end, ReceiveStream):
            return FencedReceive(end, order.channel, fences.gate(order.fenced))
        leases = [held for held in chain.from_iterable(self._pair_ends.values()) if isinstance(held, Leases)]
        return FencedSend(end, order.channel, order.fenced, leases)

    @property
    def inputs(self) -> list[Input]:
        return [end for _, end in self.ends if isinstance(end, INPUTS)]

    @property
    def outputs(self) -> list[Output]:
        return [end for _, end in self.ends if isinstance(end, OUTPUTS)]

    @property
    def in_hand(self) -> list[Input]:
        """The inputs whose items the daemon has in hand. Replies go straight to who waits for them."""
        return [end for order, end in self.ends if isinstance(end, INPUTS) and not self._is_reply(order)]

    def _is_reply(self, order: EndOrder) -> bool:
        port = self._ports[order.port]
        return port.reply is not None and port.sends and not order.sends

    def _is_of_a_call(self, order: EndOrder) -> bool:
        port = self._ports[order.port]
        return port.reply is not None and port.clock is None

    def _ends_of_pairs(self, port: Port) -> list[PairEnd]:
        """The ends of a port for calls or the clock, each over the two channels that its entry stands for."""
        mine = [(order, end) for order, end in self.ends if order.port == port.name]
        there = [(order, end) for order, end in mine if order.sends == port.sends]
        back = [end for order, end in mine if order.sends != port.sends]
        return [_pair_end(port, *pair, other) for pair, other in zip(there, back, strict=True)]

    def new_daemon(self) -> Daemon:
        """The user's daemon, with its ends. What an earlier one had in hand comes again."""
        pairs = [
            end
            for end in chain.from_iterable(self._pair_ends.values())
            if not isinstance(end, ClockClient | LeaseClient)
        ]
        for again in (*self.in_hand, *pairs) if self.lives else (end for end in pairs if isinstance(end, ASKING)):
            again.begin_again()
        self.lives += 1
        self.hands = Hands(self.in_hand, self.outputs)
        return build(self.target, self._by_port(), self.order.config)

    def _by_port(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for port in self._ports.values():
            streams = [
                shown for (order, _), shown in zip(self.ends, self._shown, strict=True) if order.port == port.name
            ]
            ends: Sequence[End | PairEnd] = self._pair_ends.get(port.name, streams)
            if port.many:
                found[port.name] = ends
            elif ends:
                (found[port.name],) = ends
        for name in signature_of(self.target).boards:
            found[name] = PlaneBoard([_plane(plane) for plane in self.order.planes])
        for name in signature_of(self.target).memories:
            found[name] = RunMemory(self._state)
        return found

    def counts(self) -> tuple[EndCounts, ...]:
        return (*(end.counts() for end in self.inputs), *(end.counts() for end in self.outputs))

    async def hand_over(self) -> None:
        """The daemon wants nothing more: return when all that it sent is stable."""
        for out in self.outputs:
            await out.aclose()
        async with anyio.create_task_group() as tasks:
            # Answers that nobody reads any more would keep their writer, who may be the one that we wait for.
            for order, end in self.ends:
                if isinstance(end, INPUTS) and order.keep == "taken" and not self._is_of_a_call(order):
                    tasks.start_soon(_discard, end)
            for out in self.outputs:
                await out.drain()
            tasks.cancel_scope.cancel()

    async def let_go(self) -> None:
        """Nobody will look for this daemon any more: its writers need not wait."""
        for end in self.inputs:
            await end.aclose()
        # Who has finished waits for nothing.
        for plane in self.planes.values():
            plane.end()

    async def lose(self, over: Over) -> None:
        """The daemon at the other end of this channel will never be there again."""
        for order, end in self.ends:
            if order.channel == over.channel and isinstance(end, RemoteSend):
                end.lose_reader(discards=over.gone == "ignored")
            elif order.channel == over.channel and isinstance(end, RemoteReceive):
                # What it sent before it died may still be in a socket of ours.
                await anyio.sleep(LATE_S)
                end.lose_writer(over.lives)

    async def discard(self) -> None:
        """The daemon is gone for good and the others go on: its edges discard, and count."""
        for out in self.outputs:
            await out.aclose()
        async with anyio.create_task_group() as tasks:
            for order, end in self.ends:
                if isinstance(end, INPUTS) and order.port in self._pair_ends:
                    # Nobody answers, and nobody waits for an answer.
                    await end.aclose()
                elif isinstance(end, INPUTS):
                    tasks.start_soon(_discard, end)


def _seconds(budget_ns: int | None) -> float | None:
    return None if budget_ns is None else budget_ns / 1e9


def _plane(order: PlaneOrder) -> PlaneWords:
    return PlaneWords.mapped(Path(order.path), order.channel, order.budget_ns)


def _pair_end(port: Port, order: EndOrder, there: Any, back: Any) -> PairEnd:
    match port.clock:
        case "deadlines":
            return Deadlines(there, back, name=order.channel, life=new_number())
        case "planes":
            return Planes(there, back, name=order.channel, life=new_number())
        case "clients":
            return ClockClient(there, back, order.channel)
        case "leases":
            return Leases(there, back, name=order.channel)
        case "lease_clients":
            return LeaseClient(there, back, order.channel)
        case _:
            return (_caller if port.sends else _calls)(order, there, back)


def _caller(order: EndOrder, requests: Any, replies: Any) -> Caller[Any, Any]:
    # The replies to a former life of this process must not be taken for ours.
    caller = Caller(requests, replies, name=order.channel, maxsize=order.maxsize, life=new_number())
    if isinstance(requests, RemoteSend):
        requests.when_set_aside(caller.set_aside)
    caller.begin()
    return caller


def _calls(order: EndOrder, requests: Any, replies: Any) -> Calls[Any, Any]:
    return Calls(requests, replies, name=order.channel)


def _wire_type(port: Port, order: EndOrder) -> Any:
    """What goes over one of the channels of a port."""
    if port.reply is None:
        item_type: Any = port.item.type
        return item_type if order.fenced is None else Sealed[item_type]
    if port.clock is not None:
        return (port.item if order.sends == port.sends else port.reply).type
    envelope: Any
    envelope, item = (Request, port.item) if order.sends == port.sends else (Reply, port.reply)
    return envelope[item.type]


def _shelf(end: EndOrder, aside: str) -> Shelf[Any]:
    return Shelf(
        end.channel,
        end.maxsize,
        policy=end.policy,
        ack=end.ack,
        keep=end.keep,
        takes_part=end.takes_part,
        epoch=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        max_deliveries=end.max_deliveries,
        aside=partial(set_aside, aside, end.address),
    )


async def _over(order: EndOrder) -> End:
    """An end whose other end is gone for good."""
    if order.sends and order.over == "ignored":
        # What nobody will ever read is dropped and counted.
        return open_channel(1, policy="drop_newest", name=order.channel).send
    channel: Channel[Any] = open_channel(1, name=order.channel)
    await (channel.recv if order.sends else channel.send).aclose()
    return channel.send if order.sends else channel.recv


async def _discard(end: Input) -> None:
    try:
        while True:
            await end.wait_item()
            end.discard_oldest()
    except EndOfStream:
        # Its writer need not wait for what nobody will ever declare done.
        await end.aclose()


class Piped(Daemon):
    """A daemon of a pipeline: the user's own, between the gate of the launcher and the end of its channels."""

    def __init__(self, place: Place, node: "Node") -> None:
        self.name = place.order.name
        self._place = place
        self._node = node
        self._inner: Daemon | None = None

    async def on_start(self, ctx: Context) -> None:
        self._inner = self._place.new_daemon()
        await self._inner.on_start(self._with_steps(ctx))

    async def run(self, ctx: Context) -> None:
        assert self._inner is not None
        for end in (*self._place.inputs, *self._place.outputs):
            if isinstance(end, RemoteReceive | RemoteSend):
                await end.wait_connected()
        self._node.enters(self.name, Phase.READY)
        self._node.say(Ready(self.name))
        await self._place.go.wait()
        self._node.enters(self.name, Phase.RUN)
        await self._inner.run(self._with_steps(ctx))
        await self._node.finish(self._place)

    async def on_stop(self, ctx: Context) -> None:
        self._node.enters(self.name, Phase.ON_STOP)
        if self._inner is not None:
            await self._inner.on_stop(self._with_steps(ctx))

    def _with_steps(self, ctx: Context) -> Context:
        return replace(ctx, steps=self._place.hands.step)


class Node(Written):
    """One process: tells the launcher what happens to its daemons, and does what it says."""

    def __init__(self, order: NodeOrder, control: anyio.abc.SocketStream, tasks: anyio.abc.TaskGroup) -> None:
        super().__init__(Slots(order.slots))
        self._order = order
        self._control = control
        self._tasks = tasks
        self._places: dict[str, Place] = {}
        self._fences = Fences(Path(order.aside))
        self._attempts: dict[str, int] = {}
        self._failed: set[str] = set()
        # A daemon has called `sys.exit`: the process ends by that, and its policy decides what it means.
        self._exits = False
        self._outbox: list[bytes] = []
        self._news = anyio.Event()
        self._saying = Lock()
        self._supervisor = Supervisor(observer=self, budget=_seconds(order.budget_ns))
        self.has_budgets(order.budget_ns, {daemon.name: daemon.budget_ns for daemon in order.daemons})
        self._discards: anyio.abc.TaskGroup | None = None
        self._taps: dict[str, tuple[Output, Tap]] = {}
        self._shelves: dict[str, Shelf[Any]] = {}

    def say(self, word: Said) -> None:
        self._outbox.append(to_line(word))
        self._news.set()

    async def live(self) -> None:
        """Until every daemon has ended. Raises what the supervisor raises."""
        self._tasks.start_soon(self._talk)
        self._strike()
        inner = InnerTransport()
        async with AsyncExitStack() as stack:
            for order in self._order.daemons:
                await stack.enter_async_context(self._opened(order, inner))
            # What is discarded for a daemon that is gone keeps the process until its writers have ended.
            async with anyio.create_task_group() as self._discards, self._supervisor as supervisor:
                for place in self._places.values():
                    order = place.order
                    supervisor.add_factory(
                        partial(Piped, place, self),
                        name=order.name,
                        on_error=order.on_error,
                        restart=order.restart,
                        budget=_seconds(order.budget_ns),
                    )
                # What was said before is heard now, when there is somebody whom it concerns.
                self._tasks.start_soon(self._listen)

    def _strike(self) -> None:
        """The loop goes round: somebody outside looks whether it does."""
        self.strike()
        call_later(BEAT_S, self._strike)

    async def finish(self, place: Place) -> None:
        """A daemon has returned. Returns when nothing of it is needed any more."""
        self.say(Returned(place.order.name))
        await self.say_what_is_left()
        await place.hand_over()
        self.say(Counts(0, place.counts()))
        self.say(Finished(place.order.name))
        await place.noted.wait()
        await place.let_go()

    @asynccontextmanager
    async def _opened(self, order: DaemonOrder, inner: InnerTransport) -> AsyncIterator[None]:
        target = self._load(order.run)
        ports = {port.name: port for port in signature_of(target).ports}
        async with AsyncExitStack() as stack:
            ends: list[tuple[EndOrder, End]] = []
            for end in order.ends:
                if end.over:
                    ends.append((end, await _over(end)))
                    continue
                if end.address.startswith("inner://") and ports[end.port].reply is None:
                    ends.append((end, self._inside(end)))
                    continue
                transport = inner if end.address.startswith("inner://") else load(end.transport)
                port, options = self._typed(ports[end.port], end.giver), self._options(end)
                opening: AbstractAsyncContextManager[End] = (writing if end.sends else reading)(
                    transport, end.address, _wire_type(port, end), bind=end.binds, options=options
                )
                ends.append((end, await stack.enter_async_context(opening)))
                if isinstance(last := ends[-1][1], RemoteReceive) and end.policy == "block":
                    last.mourn_with(partial(self._mourn, end.channel))
            for written, end_ in ends:
                if isinstance(end_, INPUTS + OUTPUTS):
                    self.add_end(order.name, written.channel, end_)
            place = self._places[order.name] = Place(order, target, ends, Path(self._order.aside), self._fences)
            place.tell_planes()
            yield

    def _inside(self, end: EndOrder) -> InsideSend[Any] | InsideReceive[Any]:
        """An end of a channel whose other end is here too: whoever comes first opens it."""
        shelf = self._shelves.get(end.channel) or _shelf(end, self._order.aside)
        self._shelves[end.channel] = shelf
        if end.counter is not None:
            shelf.count_in(Tally(Path(end.counter), shelf.epoch))
        return shelf.sender if end.sends else shelf.receiver

    def _mourn(self, channel: str, loss: Loss) -> None:
        if loss.lost != 0:
            self.say(Lost(channel, loss.lost))

    def _load(self, run: str) -> Target:
        return load_daemon(run, None if self._order.folder is None else Path(self._order.folder))

    def _typed(self, port: Port, giver: Giver | None) -> Port:
        """The port that says what the items are. That of another daemon is loaded here too."""
        if port.item.variable is None or giver is None:
            return port
        return signature_of(self._load(giver.run)).port(giver.port) or port

    def _options(self, end: EndOrder) -> ChannelOptions:
        return ChannelOptions(
            name=end.channel,
            maxsize=end.maxsize,
            max_bytes=end.max_bytes,
            policy=end.policy,
            ack=end.ack,
            keep=end.keep,
            retain=end.retain,
            max_deliveries=end.max_deliveries,
            counter=end.counter,
            curve=end.curve,
            aside=self._order.aside,
            # The launcher knows who is alive: nobody here gives anybody up.
            lost_after_s=None,
            supervised=True,
        )

    # -- what the supervisor tells --------------------------------------------------------------------------------

    def on_daemon_start(self, daemon: str, attempt: int) -> None:
        super().on_daemon_start(daemon, attempt)
        self._attempts[daemon] = attempt + 1
        self._failed.discard(daemon)

    def on_daemon_error(self, daemon: str, phase: DaemonFailurePhase, error: BaseException) -> None:
        super().on_daemon_error(daemon, phase, error)
        self._failed.add(daemon)
        self._exits = self._exits or not isinstance(error, Exception)
        self.say(Counts(0, self._places[daemon].counts()))
        self.say(Failed(self.report(daemon, phase, error), escalates=False))

    def on_daemon_stop(self, daemon: str) -> None:
        super().on_daemon_stop(daemon)
        place = self._places[daemon]
        assert self._discards is not None
        if self._exits:
            return
        if place.noted.is_set():
            pass  # It has finished: nothing of it is left to be seen to.
        elif daemon not in self._failed and place.go.is_set():
            # Who was cancelled by a stop has not let go of its channels, and the process may live on without it.
            self._discards.start_soon(self.finish, place)
        elif daemon in self._failed and place.order.on_error == "ignore":
            self._discards.start_soon(place.discard)
        self.say(Ended(daemon))

    def report(self, daemon: str, phase: str, error: BaseException) -> Report:
        process, attempt = self._order.process, self._attempts.get(daemon, 1)
        return report_of(error, daemon=daemon, process=process, phase=phase, attempt=attempt)

    # -- talking with the launcher ----------------------------------------------------------------------------------

    async def _talk(self) -> None:
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            await self.say_what_is_left()

    async def say_what_is_left(self) -> None:
        """Return when all that was said until now has been handed over, whoever of us does it."""
        async with self._saying:
            while self._outbox:
                # A word is not cut in two.
                with anyio.CancelScope(shield=True):
                    await self._control.send(self._outbox[0])
                del self._outbox[0]

    async def _listen(self) -> None:
        listener = Listener()
        async for chunk in self._control:
            for word in listener.feed(chunk):
                match word:
                    case Go(daemon):
                        self._places[daemon].go.set()
                    case Stop(daemon, grace_s):
                        self._tasks.start_soon(self._supervisor.stop_one, daemon, grace_s)
                    case Noted(daemon):
                        self._places[daemon].noted.set()
                    case Over():
                        for place in self._places.values():
                            self._tasks.start_soon(place.lose, word)
                    case AskCounts(question):
                        self.say(Counts(question, self._counts()))
                    case OpenTap(channel):
                        self._open_tap(channel)
                    case CloseTap(channel):
                        self._close_tap(channel)
                    case Clear(question, daemon):
                        self.say(Cleared(question, self._clear(daemon)))
                    case Quit(finalize_s):
                        self._tasks.start_soon(self._quit, finalize_s)
                    case _:
                        pass

    def _counts(self) -> tuple[EndCounts, ...]:
        return tuple(counts for place in self._places.values() for counts in place.counts())

    def _clear(self, daemon: str) -> str | None:
        try:
            self._supervisor.release(daemon)
        except (NotHeld, UnknownDaemon) as error:
            return str(error)
        return None

    def _open_tap(self, channel: str) -> None:
        for place in self._places.values():
            for order, end in place.ends:
                if order.channel == channel and isinstance(end, OUTPUTS) and channel not in self._taps:
                    tap = end.tap()
                    self._taps[channel] = (end, tap)
                    self._tasks.start_soon(tap.show, partial(self._tell, channel))

    def _close_tap(self, channel: str) -> None:
        if channel in self._taps:
            end, tap = self._taps.pop(channel)
            end.untap(tap)

    async def _tell(self, channel: str, shown: tuple[Shown, ...]) -> None:
        self.say(Tapped(channel, shown))
        await self.say_what_is_left()

    async def _quit(self, finalize_s: float) -> None:
        async with anyio.create_task_group() as tasks:
            for place in self._places.values():
                tasks.start_soon(self._supervisor.stop_one, place.order.name, 0.0, finalize_s)
        await self.say_what_is_left()
        # What is not stable yet would be waited for.
        self._tasks.cancel_scope.cancel()


async def live(order: NodeOrder) -> int:
    """The life of the process; the answer is its exit code."""
    control = await anyio.abc.UNIXSocketStream.from_socket(socket.socket(fileno=order.control))
    async with control, anyio.create_task_group() as tasks:
        node = Node(order, control, tasks)
        failures: list[BaseException] = []
        exits: list[BaseException] = []
        try:
            await node.live()
        except* SystemExit as group:
            exits.extend(leaves(group))
        except* Exception as group:
            failures.extend(leaves(group))
        for error in [] if exits else failures[:1]:
            final = isinstance(error, DaemonError)
            node.say(Failed(_last_report(node, order, error), escalates=True, final=final))
        await node.say_what_is_left()
        tasks.cancel_scope.cancel()
    for exit_ in exits:
        # As it is: in a group its code would be lost.
        raise exit_
    return FAILED if failures else 0


def _last_report(node: Node, order: NodeOrder, error: BaseException) -> Report:
    """What ends the process: the failure of one of its daemons, or of all that is around them."""
    if isinstance(error, DaemonError):
        return node.report(error.name, error.phase, error.__cause__ or error)
    return node.report(order.daemons[0].name, "on_start", error)


def main() -> int:
    order = msgspec.json.decode(take_bootstrap(), type=NodeOrder | SpareOrder)
    hold_lifeline(order.lifeline, order.launcher)
    os.set_inheritable(order.control, False)
    sys.path[:] = order.path
    if isinstance(order, SpareOrder):
        order = become(order)
    show_stacks(Path(order.stacks))
    # Whoever follows the logs sees a line when it is printed; a pipe would get them a page at a time.
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(line_buffering=True)
    if order.log_level is not None:
        logging.basicConfig(level=order.log_level, format="%(levelname)s %(name)s: %(message)s")
    return anyio.run(live, order, backend=order.backend)


if __name__ == "__main__":
    sys.exit(main())
