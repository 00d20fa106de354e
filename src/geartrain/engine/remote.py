"""The two ends of a channel over a link: the session above, the transport below, and a task that feeds both.

    daemon      await frames.send(x)                      async for x in frames
    here        encode, accept, flush                     a batch decoded at once, take
    session     Writer: number, keep, send again          Reader: new, repeated or a gap
    link        send (never waits)                        receive

Encoding comes first, so that a bad item fails before anything is promised. Between taking a number and handing the
frame over nothing waits, so a cancelled `send` has not sent.
"""

import logging
import secrets
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, TypedDict, TypeVar, Unpack

import anyio
import anyio.abc
import msgspec
from msgspec import Struct

from geartrain.engine.ends import Asker, Channel, ChannelStats, ReadingEnd, WritingEnd
from geartrain.engine.shape import name_of, shape_of
from geartrain.engine.signal import Bell
from geartrain.errors import (
    BadValue,
    EndClosed,
    EndOfStream,
    PeerLost,
    WireError,
    WouldBlock,
)
from geartrain.ports.parking import park
from geartrain.ports.transport import Arrival, Link, LinkSettings, Transport, find
from geartrain.ports.turns import Wait
from geartrain.rules import frames
from geartrain.rules.checks import number, one_of, whole
from geartrain.rules.frames import Data, Settings
from geartrain.rules.pipeline import POLICIES, Mark, Policy
from geartrain.rules.session import LOSSY, End, Loss, Reader, Self, Writer

T = TypeVar("T")

_log = logging.getLogger("geartrain.remote")

# A batch is sent when it holds half the window, or this many bytes, or when the loop would go idle.
_BATCH_BYTES = 64 * 1024

# How often a closing reader looks whether there is still a writer that could answer.
_LOOK_S = 0.02


class ChannelOptions(Struct, frozen=True, kw_only=True):
    """All that can be said of a channel over a link. Both ends must say the same of the first six."""

    name: str = ""
    maxsize: int = 64
    policy: Policy = "block"
    ack: str = "batch"
    keep: str = "stable"
    max_bytes: int = 64 * 1024 * 1024
    retain: int | None = None
    heartbeat_s: float = 5.0
    lost_after_s: float | None = 30.0
    connect_within: float | None = None
    close_within: float = 5.0
    insecure: bool = False

    def __post_init__(self) -> None:
        whole("maxsize", self.maxsize, least=0)
        one_of("policy", self.policy, POLICIES)
        one_of("ack", self.ack, ("batch", "each", "manual"))
        one_of("keep", self.keep, ("stable", "taken"))
        whole("max_bytes", self.max_bytes, least=1)
        if number("heartbeat_s", self.heartbeat_s, least=0) == 0:
            raise BadValue("heartbeat_s must be more than 0")
        number("close_within", self.close_within, least=0)
        if self.retain is not None:
            whole("retain", self.retain, least=max(1, self.maxsize))
        for what in ("lost_after_s", "connect_within"):
            if getattr(self, what) is not None:
                number(what, getattr(self, what), least=0)
        if self.policy == "latest" and self.maxsize > 1:
            raise BadValue(f"policy 'latest' keeps exactly one item, so maxsize must be 1, got {self.maxsize}")
        if self.policy in LOSSY and self.maxsize == 0:
            raise BadValue(f"policy {self.policy!r} over a link needs a maxsize of at least 1")

    def me(self, item_type: Any, *, binds: bool) -> Self:
        settings = Settings(self.name, shape_of(item_type), self.maxsize, self.policy, self.ack, self.keep)
        return Self(
            settings=settings,
            type_name=name_of(item_type),
            incarnation=secrets.randbits(63),
            epoch=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            binds=binds,
            heartbeat_ns=round(self.heartbeat_s * 1e9),
            lost_after_ns=None if self.lost_after_s is None else round(self.lost_after_s * 1e9),
            connect_within_ns=None if self.connect_within is None else round(self.connect_within * 1e9),
        )

    @property
    def kept(self) -> int:
        """How many items the writer keeps at most until they are stable."""
        return 2 * max(self.maxsize, 1) + 2 if self.retain is None else self.retain


class Said(TypedDict, total=False):
    """The options of a channel, as keyword arguments."""

    name: str
    maxsize: int
    policy: Policy
    ack: str
    keep: str
    max_bytes: int
    retain: int | None
    heartbeat_s: float
    lost_after_s: float | None
    connect_within: float | None
    close_within: float
    insecure: bool


class _Wire(Generic[T]):
    """The carrier of one end: its session, its link, and who waits at it."""

    def __init__(self, session: End, link: Link, address: str) -> None:
        self.session = session
        self.address = address
        self.writer: Wait | None = None
        self.writer_waits = False
        self.asker: Asker | None = None
        self.reader_asks = False
        self._link = link
        self._changed = Bell()

    def __str__(self) -> str:
        name = self.session.me.settings.channel
        return f"channel {name!r} at {self.address}" if name else f"the channel at {self.address}"

    def begin_asking(self, asker: Asker | None) -> None:
        self.reader_asks = True
        self.asker = asker

    def stop_asking(self) -> None:
        self.reader_asks = False
        self.asker = None

    # -- the link

    async def run(self) -> None:
        """Feed the session with what comes and with time, for ever."""
        while True:
            with anyio.move_on_after(self._seconds_to_tick()):
                for arrival in await self._link.receive():
                    self._hear(arrival)
            self.session.tick(time.monotonic_ns())
            self.speak()
            self.look_again()

    def _seconds_to_tick(self) -> float:
        now_ns = time.monotonic_ns()
        return max(0.0, (self.session.next_tick_ns(now_ns) - now_ns) / 1e9)

    def speak(self) -> None:
        """Hand over what the session wants to say. What the link does not take, the session says again later."""
        for saying in self.session.words():
            if not self._link.send(saying.peer, saying.frame):
                if saying.peer == self.session.peer:
                    self.session.lose_link()
                return
        self.session.spoke(time.monotonic_ns())

    def look_again(self) -> None:
        """Something may have changed: everybody who waits here looks."""
        if self.writer is not None:
            self.writer.wake()
        if self.asker is not None:
            self.asker.wake()
        self._changed.ring()

    async def wait_changed(self) -> None:
        await self._changed.wait()

    def _hear(self, arrival: Arrival) -> None:
        now_ns = time.monotonic_ns()
        try:
            word = frames.decode(arrival.frame) if len(arrival.frame) else None
            if isinstance(word, Data) and arrival.peer == self.session.peer and self.session.connected:
                self.session.hear(arrival.peer, None, now_ns)
                self._hear_data(word)
                return
        except WireError as error:
            _log.debug("%s: a frame was thrown away: %s", self, error)
            if arrival.peer == self.session.peer and self.session.connected:
                self.session.fail(WireError(f"{self}: {error}"))
            return
        present = self.session.peer
        reachable = arrival.peer == present or present is None or self._link.reachable(present)
        self.session.hear(arrival.peer, word, now_ns, present_is_reachable=reachable)

    @abstractmethod
    def _hear_data(self, data: Data) -> None:
        """Items have come."""

    @property
    def peer_is_there(self) -> bool:
        peer = self.session.peer
        return self.session.connected and peer is not None and self._link.reachable(peer)

    async def close_link(self) -> None:
        await self._link.aclose()


class _WritingWire(_Wire[T]):
    session: Writer

    def _hear_data(self, data: Data) -> None:
        raise WireError("data came to the writing end")


class _ReadingWire(_Wire[T]):
    session: Reader

    def __init__(self, session: Reader, link: Link, address: str, item_type: Any) -> None:
        super().__init__(session, link, address)
        self._decoder: msgspec.msgpack.Decoder[list[Any]] = msgspec.msgpack.Decoder(list[item_type])

    def _hear_data(self, data: Data) -> None:
        other = self.session.other
        try:
            items = frames.items_of(data, self._decoder)
        except WireError as error:
            theirs = other.type_name if other is not None else "?"
            mine = self.session.me.type_name
            raise WireError(f"writer sends {theirs}, reader expects {mine}: {error}") from error
        self.session.arrived(data, items)

    def begin_asking(self, asker: Asker | None) -> None:
        super().begin_asking(asker)
        self.session.ask()
        self.session.flow(at_once=True)
        self.speak()


class RemoteSend(WritingEnd[T]):
    """The writing end of a channel over a link."""

    __slots__ = ("_encode", "_flusher", "_half", "_wire")

    def __init__(self, wire: _WritingWire[T]) -> None:
        super().__init__(wire)
        self._wire = wire
        self._encode = msgspec.msgpack.Encoder().encode_into
        self._half = max(1, wire.session.me.settings.maxsize // 2)
        self._flusher: Wait | None = None

    @property
    def _other_end(self) -> None:
        return None

    def has_room(self) -> bool:
        writer = self._wire.session
        return writer.has_room() or writer.me.settings.policy in LOSSY

    async def send(self, item: T) -> None:
        wire = self._wire
        writer = wire.session
        if not self._steps or writer.accepted >= writer.limit or wire.writer_waits:
            self._flush()
            await self.wait_room()
        self._steps -= 1
        self._put(item)

    def send_nowait(self, item: T) -> None:
        if self._wire.writer_waits:
            raise self._in_use("send_nowait()")
        if not self.has_room():
            raise WouldBlock(f"{self._wire} is full: {self._wire.session.waits_for}")
        self._put(item)

    def _put(self, item: T) -> None:
        writer = self._wire.session
        batch = writer.batch
        before = len(batch)
        try:
            self._encode(item, batch, -1)
        except BaseException:
            del batch[before:]
            raise
        if len(batch) - before > writer.max_bytes:
            size = len(batch) - before
            del batch[before:]
            raise BadValue(f"an item of {size} bytes for {self._wire}; max_bytes is {writer.max_bytes}")
        if writer.accepted >= writer.limit:
            writer.set_aside(bytes(batch[before:]))
            del batch[before:]
        elif writer.accept() >= self._half or len(batch) >= _BATCH_BYTES:
            self._flush()
        elif self._flusher is not None:
            self._flusher.wake()

    def _flush(self) -> None:
        self._wire.session.flush()
        self._wire.speak()

    async def flush_when_idle(self) -> None:
        """A task of its own: a message that stays alone goes out when the loop comes round."""
        while True:
            self._flusher = park()
            await self._flusher.wait()
            self._flusher = None
            self._flush()

    async def drain(self) -> None:
        writer = self._wire.session
        self._flush()
        while not writer.settled:
            if writer.failure is not None:
                raise writer.failure
            await self._wire.wait_changed()

    async def wait_connected(self) -> None:
        """Return when the two ends have met; raises what keeps them from it."""
        await _connected(self._wire)

    async def aclose(self) -> None:
        self.close()

    def close(self, *, aborted: bool = False) -> None:
        self._wire.session.close(aborted=aborted)
        self._wire.speak()
        self._wire.look_again()

    def statistics(self) -> ChannelStats:
        writer = self._wire.session
        return ChannelStats(
            current_buffer_used=writer.accepted - writer.taken,
            max_buffer_size=writer.me.settings.maxsize,
            open_send_streams=int(not writer.closing),
            open_receive_streams=int(not writer.reader_done),
            waiters_send=int(self._wire.writer_waits),
            waiters_receive=0,
            accepted=writer.accepted - writer.closing,
            taken=min(writer.taken, writer.accepted - writer.closing),
            stable=min(writer.stable, writer.accepted - writer.closing),
            dropped=writer.dropped,
        )


class RemoteReceive(ReadingEnd[T]):
    """The reading end of a channel over a link."""

    __slots__ = ("_wire",)

    def __init__(self, wire: _ReadingWire[T]) -> None:
        super().__init__(wire)
        self._wire = wire

    @property
    def _other_end(self) -> None:
        return None

    def has_item(self) -> bool:
        reader = self._wire.session
        if reader.done:
            raise EndClosed(f"the reading end of {self._wire} was closed here; nothing can be received any more")
        if reader.waiting:
            return True
        if reader.ended:
            reader.ask()
            reader.flow(at_once=True)
            self._wire.speak()
            if reader.aborted:
                raise PeerLost(f"the writer of {self._wire} left by an error; everything it sent has been received")
            raise EndOfStream(f"the writer of {self._wire} has closed, and everything it sent has been received")
        if reader.failure is not None:
            raise reader.failure
        return False

    async def receive(self) -> T:
        wire = self._wire
        if not self._steps or not wire.session.waiting or wire.reader_asks:
            await self.wait_item()
        self._steps -= 1
        return self._take()

    def receive_nowait(self) -> T:
        if self._wire.reader_asks:
            raise self._in_use("receive_nowait()")
        if not self.has_item():
            raise WouldBlock(f"{self._wire} is empty")
        return self._take()

    def _take(self) -> T:
        reader = self._wire.session
        reader.ask()
        item: T = reader.take()
        reader.flow(at_once=False)
        if reader.said:
            self._wire.speak()
        return item

    def discard_oldest(self) -> bool:
        if not self._wire.session.waiting:
            return False
        self._take()
        self._wire.session.dropped += 1
        return True

    @property
    def mark(self) -> Mark:
        return self._wire.session.mark

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What died with each earlier life of the writer."""
        return self._wire.session.losses

    def done(self, mark: Mark) -> None:
        """With `ack="manual"`: everything up to this mark will never be needed again."""
        reader = self._wire.session
        if reader.me.settings.ack != "manual":
            raise BadValue(f"{self._wire} has ack={reader.me.settings.ack!r}; done() is for ack='manual'")
        reader.settle(mark)
        reader.flow(at_once=True)
        self._wire.speak()

    async def wait_connected(self) -> None:
        """Return when the two ends have met; raises what keeps them from it."""
        await _connected(self._wire)

    async def aclose(self) -> None:
        if not self._wire.session.done:
            self._wire.session.close()
            self._wire.speak()
            self._wire.look_again()

    def statistics(self) -> ChannelStats:
        reader = self._wire.session
        return ChannelStats(
            current_buffer_used=reader.waiting,
            max_buffer_size=reader.me.settings.maxsize,
            open_send_streams=int(not reader.ended),
            open_receive_streams=int(not reader.done),
            waiters_send=0,
            waiters_receive=int(self._wire.reader_asks),
            accepted=max(0, reader.expects - 1),
            taken=reader.taken,
            stable=reader.stable,
            dropped=reader.dropped,
            redelivered=reader.redelivered,
        )


async def _connected(wire: _Wire[Any]) -> None:
    while not wire.session.connected:
        if wire.session.failure is not None:
            raise wire.session.failure
        await wire.wait_changed()


def open_send(
    address: str, item_type: type[T], *, bind: bool = False, **said: Unpack[Said]
) -> AbstractAsyncContextManager[RemoteSend[T]]:
    """The writing end of a channel at an address, as an async context manager.

    Entering binds or connects, and returns at once. Leaving waits until all is stable, `close_within` seconds at most;
    leaving by an error tells the reader so.
    """
    return _writing(find(address), address, item_type, bind, ChannelOptions(**said))


def open_receive(
    address: str, item_type: type[T], *, bind: bool = True, **said: Unpack[Said]
) -> AbstractAsyncContextManager[RemoteReceive[T]]:
    """The reading end of a channel at an address, as an async context manager.

    Entering binds or connects, and returns at once. Leaving tells the writer that nothing more is wanted.
    """
    return _reading(find(address), address, item_type, bind, ChannelOptions(**said))


def open_pair(address: str, item_type: type[T], **said: Unpack[Said]) -> AbstractAsyncContextManager[Channel[T]]:
    """Both ends in one process, joined by a real link: for tests. Entering returns when the two have met."""
    return _both(address, item_type, said)


@asynccontextmanager
async def _both(address: str, item_type: type[T], said: Said) -> AsyncIterator[Channel[T]]:
    async with (
        open_receive(address, item_type, bind=True, **said) as recv,
        open_send(address, item_type, bind=False, **said) as send,
    ):
        await send.wait_connected()
        await recv.wait_connected()
        try:
            yield Channel(send, recv)
        finally:
            # Nobody will read any more what is left, so there is nothing for the writer to wait for.
            await recv.aclose()


@asynccontextmanager
async def _writing(
    transport: Transport, address: str, item_type: type[T], bind: bool, options: ChannelOptions
) -> AsyncIterator[RemoteSend[T]]:
    link = _open(transport, address, bind=bind, options=options)
    session = Writer(
        options.me(item_type, binds=bind), time.monotonic_ns(), max_bytes=options.max_bytes, retain=options.kept
    )
    wire: _WritingWire[T] = _WritingWire(session, link, address)
    end = RemoteSend(wire)
    async with _running(wire) as tasks:
        tasks.start_soon(end.flush_when_idle)
        try:
            yield end
        except BaseException:
            end.close(aborted=True)
            raise
        end.close()
        with anyio.move_on_after(options.close_within):
            await _settled(wire, session)
        if not session.settled and session.failure is None and session.other is not None:
            left = session.accepted - session.stable
            raise PeerLost(f"{wire}: closed with {left} messages that the reader has not said to be done with")


async def _settled(wire: _WritingWire[Any], session: Writer) -> None:
    while not session.settled and session.failure is None:
        await wire.wait_changed()


@asynccontextmanager
async def _reading(
    transport: Transport, address: str, item_type: type[T], bind: bool, options: ChannelOptions
) -> AsyncIterator[RemoteReceive[T]]:
    link = _open(transport, address, bind=bind, options=options)
    session = Reader(options.me(item_type, binds=bind), time.monotonic_ns())
    wire: _ReadingWire[T] = _ReadingWire(session, link, address, item_type)
    end = RemoteReceive(wire)
    async with _running(wire):
        try:
            yield end
        finally:
            if session.ended:
                session.ask()
                session.flow(at_once=True)
            session.close()
            wire.speak()
            # A socket that is closed throws away what it has not sent: the writer's answer says that it has heard.
            with anyio.move_on_after(options.close_within, shield=True):
                while not session.bye_heard and session.failure is None and wire.peer_is_there:
                    with anyio.move_on_after(_LOOK_S):
                        await wire.wait_changed()


@asynccontextmanager
async def _running(wire: _Wire[Any]) -> AsyncIterator[anyio.abc.TaskGroup]:
    """The task that feeds the session, for as long as the end is open. An error of the body comes out as it is."""
    body_error: BaseException | None = None
    # Who is cancelled still says goodbye, and hears the answer: the feeding ends with the end, not before.
    feeding = anyio.CancelScope(shield=True)

    async def feed() -> None:
        with feeding:
            await wire.run()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed)
            try:
                yield tasks
            except Exception as error:
                body_error = error
            finally:
                feeding.cancel()
                tasks.cancel_scope.cancel()
    finally:
        await wire.close_link()
    if body_error is not None:
        raise body_error


def _open(transport: Transport, address: str, *, bind: bool, options: ChannelOptions) -> Link:
    settings = LinkSettings(options.max_bytes, options.insecure)
    return transport.open(address, bind=bind, settings=settings)
