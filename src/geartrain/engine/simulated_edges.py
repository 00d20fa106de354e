"""The channels of a pipeline under a clock with microsteps: every one of them a simulated one, or a pair of them."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from geartrain.engine.calls import Caller, Calls
from geartrain.engine.deadlines import ClockClient, Deadlines, Planes
from geartrain.engine.declare import End, Target, signature_of
from geartrain.engine.ends import Channel, ReceiveStream
from geartrain.engine.leases import LeaseClient, Leases
from geartrain.engine.simulated import Record, SimulatedReceive, open_simulated
from geartrain.errors import Fault
from geartrain.ports.clock import SimClock
from geartrain.ports.plane_words import PlaneWords
from geartrain.rules import wiring
from geartrain.rules.calls import Reply, Request
from geartrain.rules.fence import Sealed
from geartrain.rules.pipeline import ChannelSpec, PipelineSpec
from geartrain.rules.signature import Port

Reading = ReceiveStream[Any] | ClockClient | LeaseClient


# Opens both ends of a channel from the one daemon to the other.
Opener = Callable[..., Channel[Any]]


def open_here(name: str, maxsize: float = 0, *, writer: str, reader: str, **options: Any) -> Channel[Any]:
    """Both ends are in this process."""
    return open_simulated(name, maxsize, **options)


class SimulatedEdges:
    """Makes both ends of each channel; `record` is told of every item that is taken.

    With an opener of its own a process of many makes those, too, of which it has one end only, or none.
    """

    def __init__(
        self,
        spec: PipelineSpec,
        targets: Mapping[str, Target],
        clock: SimClock,
        record: Record | None = None,
        opener: Opener = open_here,
    ) -> None:
        self._opener = opener
        self._spec = spec
        self._clock = clock
        self._record = record
        self._signatures = {name: signature_of(target) for name, target in targets.items()}
        self._givers = wiring.type_givers(spec, self._signatures)

    def unfit(self) -> Iterator[Fault]:
        """What cannot go through them: items are frozen as they are sent, also where nothing leaves the process."""
        for channel in self._spec.channels:
            item = self._giver(channel).item
            if item.stays_because is not None:
                said = (
                    f"{item.text} cannot be frozen, as every item is in virtual time with microsteps: "
                    f"{item.stays_because}; send a msgspec.Struct"
                )
                yield Fault(self._spec.file, f"channels.{channel.name}", said)

    def edge(self, channel: ChannelSpec, plane: PlaneWords | None) -> tuple[End, Reading]:
        """The writing end, and the reading one."""
        port = self._writer(channel)
        if port.reply is not None:
            return self._pair(channel, port)
        item_type: Any = self._giver(channel).item.type
        if channel.fenced is not None:
            item_type = Sealed[item_type]
        both = self._open(channel.name, channel, item_type)
        if plane is not None:
            assert isinstance(both.recv, SimulatedReceive)
            both.recv.tell_plane(plane)
        return both.send, both.recv

    def _pair(self, channel: ChannelSpec, port: Port) -> tuple[End, Reading]:
        assert port.reply is not None
        name, there, back = channel.name, port.item.type, port.reply.type
        back_name = f"{name}.replies" if port.clock is None else f"{name}.told"
        assert channel.writer is not None
        assert channel.reader is not None
        one, other = channel.writer.daemon, channel.reader.daemon
        open_asks = partial(self._opener, maxsize=channel.maxsize, record=self._record, writer=one, reader=other)
        open_told = partial(self._opener, maxsize=channel.maxsize, record=self._record, writer=other, reader=one)
        if port.clock is None:
            # What a caller sends and is answered is the type of either port, where the other takes any.
            there, back = self._types_of_call(channel, port)
            asks = open_asks(name, ack="manual", item_type=there)
            told = open_told(back_name, item_type=back)
            caller: Caller[Any, Any] = Caller(asks.send, told.recv, name=name, maxsize=channel.maxsize)
            return caller, Calls(asks.recv, told.send, name=name)
        asks, told = open_asks(name, item_type=there), open_told(back_name, item_type=back)
        match port.clock:
            case "leases":
                leases = Leases(asks.send, told.recv, name=name, clock=self._clock)
                return leases, LeaseClient(asks.recv, told.send, name)
            case "planes":
                return Planes(asks.send, told.recv, name=name), ClockClient(asks.recv, told.send, name)
            case _:
                deadlines = Deadlines(asks.send, told.recv, name=name, clock=self._clock)
                return deadlines, ClockClient(asks.recv, told.send, name)

    def _types_of_call(self, channel: ChannelSpec, port: Port) -> tuple[Any, Any]:
        other = self._reader(channel)
        assert port.reply is not None
        assert other.reply is not None
        there = other.item if port.item.variable else port.item
        back = other.reply if port.reply.variable else port.reply
        envelope: Any = Request
        answer: Any = Reply
        return envelope[there.type], answer[back.type]

    def _open(self, name: str, channel: ChannelSpec, item_type: Any) -> Channel[Any]:
        assert channel.writer is not None
        assert channel.reader is not None
        return self._opener(
            name,
            channel.maxsize,
            writer=channel.writer.daemon,
            reader=channel.reader.daemon,
            policy=channel.policy,
            ack=channel.ack,
            item_type=item_type,
            record=self._record,
        )

    def _giver(self, channel: ChannelSpec) -> Port:
        giver = self._givers[channel.name]
        port = self._signatures[giver.daemon].port(giver.port)
        assert port is not None
        return port

    def _writer(self, channel: ChannelSpec) -> Port:
        assert channel.writer is not None
        port = self._signatures[channel.writer.daemon].port(channel.writer.port)
        assert port is not None
        return port

    def _reader(self, channel: ChannelSpec) -> Port:
        assert channel.reader is not None
        port = self._signatures[channel.reader.daemon].port(channel.reader.port)
        assert port is not None
        return port
