"""The two ends of a channel over a link, and how they are opened.

    daemon      await frames.send(x)                      async for x in frames
    here        encode, count, flush                      a batch decoded at once, take
    wire        feeds both: frames and time               engine/wire.py
    session     Writer: number, keep, send again          Reader: new, repeated or a gap
    link        send (never waits)                        receive

Encoding comes first, so that a bad item fails before anything is promised. Between taking a number and handing the
frame over nothing waits, so a cancelled `send` has not sent. Nearly every message only counts down what the session
has allowed; the rest goes the long way and looks.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, Unpack

import anyio
import msgspec

from geartrain.engine.ends import BUDGET, Channel, ChannelStats, ReadingEnd, WritingEnd, not_manual
from geartrain.engine.options import ChannelOptions, Said
from geartrain.engine.tap import Tap
from geartrain.engine.wire import ReadingWire, Wire, WritingWire, running
from geartrain.errors import BadValue, EndClosed, EndOfStream, PeerLost, WouldBlock
from geartrain.ports.parking import here
from geartrain.ports.places import private_dir
from geartrain.ports.plane_words import PlaneWords
from geartrain.ports.slots import EndSlot
from geartrain.ports.tally import Tally
from geartrain.ports.transport import Transport, find
from geartrain.rules.counts import EndCounts
from geartrain.rules.custody import NOTHING_TO_LOSE
from geartrain.rules.frames import Life
from geartrain.rules.pipeline import Mark
from geartrain.rules.session import BATCH_BYTES, LOSSY, Loss, Poison, Reader, Writer

T = TypeVar("T")

_log = logging.getLogger("geartrain.remote")

# From this size on a bytes-like item is a message of its own, and is not copied.
_LARGE_BYTES = 64 * 1024

# How long a writer that leaves by an error waits at most for its last words to be heard.
_LAST_WORDS_S = 1.0

# Who takes longer than this for an item can write down each one that it has in hand.
_FAST_NS = 100_000

# How often a closing reader looks whether there is still a writer that could answer.
_LOOK_S = 0.02


class RemoteSend(WritingEnd[T]):
    """The writing end of a channel over a link."""

    other_end_is_near = False

    __slots__ = (
        "_count",
        "_drains",
        "_encode",
        "_flushes_soon",
        "_heavy",
        "_is_lossy",
        "_looked_at",
        "_wire",
        "_writer",
    )

    def __init__(self, wire: WritingWire[T], count: "memoryview[int] | None") -> None:
        super().__init__(wire)
        self._wire = wire
        self._writer = wire.session
        self._count = count
        self._encode = msgspec.msgpack.Encoder().encode_into
        self._heavy = min(BATCH_BYTES, wire.session.max_bytes)
        self._is_lossy = wire.session.me.settings.policy in LOSSY
        self._flushes_soon = False
        self._drains = False
        self._looked_at = self._writer.accepted

    @property
    def _other_end(self) -> None:
        return None

    def has_room(self) -> bool:
        return self._writer.has_room() or self._is_lossy

    async def send(self, item: T) -> None:
        writer = self._writer
        if not writer.free:
            await self._send_the_long_way(item)
            return
        batch = writer.batch
        try:
            self._encode(item, batch, -1)
            size = len(batch)
            if size > self._heavy:
                self._weigh(size - writer.size)
        except BaseException:
            writer.undo()
            raise
        writer.size = size
        writer.free -= 1
        if self._count is not None:
            self._count[0] = writer.upto - writer.free
        if size > BATCH_BYTES:
            self._flush()

    async def _send_the_long_way(self, item: T) -> None:
        writer = self._writer
        self._count_steps()
        if not self._steps or writer.accepted >= writer.limit or self._wire.writer_waits:
            await self.wait_room()
        self._steps -= 1
        self._put(item)
        self._looked_at = writer.accepted
        if not self._is_lossy:
            writer.allow(self._steps)

    def _count_steps(self) -> None:
        """What was sent since the last look, without looking, were steps too."""
        self._steps = max(0, self._steps - (self._writer.accepted - self._looked_at))
        self._looked_at = self._writer.accepted

    async def wait_room(self) -> None:
        if not self.has_room():
            self._flush()
        try:
            await super().wait_room()
        finally:
            self._flush_soon()

    def send_nowait(self, item: T) -> None:
        if self._wire.writer_waits:
            raise self._in_use("send_nowait()")
        if not self.has_room():
            raise WouldBlock(f"{self._wire} {self._writer.why_full}")
        self._writer.hold()
        self._count_steps()
        self._steps = max(0, self._steps - 1)
        self._put(item)
        self._looked_at = self._writer.accepted

    def _put(self, item: T) -> None:
        writer = self._writer
        try:
            self._encode(item, writer.batch, -1)
            self._weigh(len(writer.batch) - writer.size)
        except BaseException:
            writer.undo()
            raise
        if writer.accepted >= writer.limit:
            writer.overflow(bytes(writer.batch[writer.size :]))
            writer.undo()
            return
        writer.accept()
        self._accepted()

    def _weigh(self, size: int) -> None:
        if size > self._writer.max_bytes:
            raise BadValue(f"an item of {size} bytes for {self._wire}; max_bytes is {self._writer.max_bytes}")

    def _accepted(self) -> None:
        if self._count is not None:
            self._count[0] = self._writer.accepted
        if self._writer.ripe:
            self._flush()
        else:
            self._flush_soon()

    def _flush_soon(self) -> None:
        """A message that stays alone goes out before anybody sleeps."""
        if not self._flushes_soon:
            self._flushes_soon = True
            here().put_off(self._flush_now)

    def _flush_now(self) -> None:
        self._flushes_soon = False
        # A writer that only lets others go first will be back, with more, or put it off again when it is not.
        if not self._wire.writer_waits and not self._writer.closing:
            self._flush()

    def _flush(self) -> None:
        self._writer.flush()
        self._wire.speak()

    async def drain(self) -> None:
        if self._drains:
            raise self._in_use("another drain()")
        self._flush()
        self._drains = True
        try:
            await self._wire.wait_until(lambda: self._writer.settled)
        finally:
            self._drains = False
        if not self._writer.settled and self._writer.failure is not None:
            raise self._writer.failure

    async def wait_connected(self) -> None:
        """Return when the two ends have met; raises what keeps them from it."""
        await _connected(self._wire)

    async def aclose(self) -> None:
        self.close()

    @property
    def accepted(self) -> int:
        """How many items have a number, the closing included."""
        return self._writer.accepted

    @property
    def safe(self) -> int:
        """Up to here nothing can be lost any more."""
        return NOTHING_TO_LOSE if self._is_lossy or self._writer.reader_done else self._writer.stable

    def mark_repeats(self, repeats: bool) -> None:
        """From now on what is sent comes of repeated items, and is marked as such; or not any more."""
        self._writer.mark_repeats(repeats)

    def watch(self, progressed: Callable[[], None]) -> None:
        """Call this whenever `safe` may have grown."""
        self._wire.progressed = progressed

    def when_set_aside(self, tell: Callable[[bytes | memoryview], None]) -> None:
        """Tell this, too, of each item that is set aside: the item, encoded."""
        keep = self._wire.set_aside

        def set_aside(poison: Poison) -> None:
            keep(poison)
            tell(poison.item)

        self._wire.set_aside = set_aside

    def lose_reader(self, *, discards: bool) -> None:
        """Somebody above knows that there will never be a reader any more: sends are refused, or discarded."""
        self._is_lossy = self._is_lossy or discards
        self._writer.lose_reader(discards=discards)
        self._wire.look_again()

    def close(self, *, aborted: bool = False) -> None:
        self._writer.close(aborted=aborted)
        self._wire.speak()
        self._wire.look_again()

    def statistics(self) -> ChannelStats:
        writer = self._writer
        accepted = writer.accepted - writer.closing
        return ChannelStats(
            current_buffer_used=writer.offered - writer.dropped - min(writer.taken, accepted),
            max_buffer_size=writer.me.settings.maxsize,
            open_send_streams=int(not writer.closing),
            open_receive_streams=int(not writer.reader_done),
            waiters_send=int(self._wire.writer_waits),
            waiters_receive=0,
            accepted=writer.offered,
            taken=min(writer.taken, accepted),
            stable=min(writer.stable, accepted),
            dropped=writer.dropped,
            set_aside=writer.set_aside,
        )

    @property
    def pulse(self) -> tuple[int, ...]:
        """Where nothing of this has changed, nothing of its statistics has."""
        writer = self._writer
        return (writer.offered, writer.taken, writer.stable, self._wire.writer_waits, writer.dropped, writer.closing)

    def tap(self) -> Tap:
        """Look at what is handed over from now on; `untap` ends it."""
        return self._wire.tap()

    def untap(self, tap: Tap) -> None:
        self._wire.untap(tap)

    def counts(self) -> EndCounts:
        """The same for whoever adds up what the ends of many lives say."""
        writer = self._writer
        known = self.statistics()
        return EndCounts(
            channel=writer.me.settings.channel,
            sends=True,
            incarnation=writer.me.incarnation,
            epoch=writer.me.epoch,
            accepted=known.accepted,
            taken=known.taken,
            stable=known.stable,
            dropped=known.dropped,
            set_aside=known.set_aside,
            lives=writer.lives,
        )


class RemoteSendBytes(RemoteSend[T]):
    """The writing end of a channel of bytes: large ones travel as they are."""

    __slots__ = ()

    async def send(self, item: T) -> None:
        if _is_large(item):
            self._writer.hold()
        await super().send(item)

    def _put(self, item: T) -> None:
        if not _is_large(item):
            super()._put(item)
            return
        payload = _frozen(item)
        self._weigh(len(payload))
        writer = self._writer
        if writer.accepted >= writer.limit:
            writer.overflow(msgspec.msgpack.encode(payload))
            return
        writer.accept_payload(payload)
        self._flush()
        self._accepted()


def _is_large(item: object) -> bool:
    return isinstance(item, bytes | bytearray | memoryview) and memoryview(item).nbytes >= _LARGE_BYTES


def _frozen(item: Any) -> bytes | memoryview:
    """What cannot change any more is taken as it is; of the rest a copy is kept."""
    if isinstance(item, memoryview) and isinstance(item.obj, bytes) and item.c_contiguous:
        return item.cast("B")
    return bytes(item)


class RemoteReceive(ReadingEnd[T]):
    """The reading end of a channel over a link."""

    other_end_is_near = False

    __slots__ = ("_allowed", "_looked_ns", "_reader", "_slot", "_took", "_wire")

    def __init__(self, wire: ReadingWire[T]) -> None:
        super().__init__(wire)
        self._slot: EndSlot | None = None
        self._looked_ns = 0
        self._allowed = 0
        self._took: Callable[[Mark], None] | None = None
        self._wire = wire
        self._reader = wire.session

    @property
    def _other_end(self) -> None:
        return None

    def has_item(self) -> bool:
        reader = self._reader
        if reader.done:
            raise EndClosed(f"the reading end of {self._wire} was closed here; nothing can be received any more")
        if reader.items:
            return True
        if reader.over:
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
        reader = self._reader
        if not reader.free:
            return await self._receive_the_long_way()
        reader.free -= 1
        item: T = reader.items.popleft()
        return item

    async def __anext__(self) -> T:
        reader = self._reader
        if not reader.free:
            try:
                return await self._receive_the_long_way()
            except EndOfStream:
                raise StopAsyncIteration from None
        reader.free -= 1
        item: T = reader.items.popleft()
        return item

    async def _receive_the_long_way(self) -> T:
        reader = self._reader
        if not self._steps or not reader.items or self._wire.reader_asks:
            await self.wait_item()
        else:
            reader.ask()
        self._steps -= 1
        item = self._take()
        if self._slot is None:
            self._steps -= reader.allow(self._steps)
        else:
            self._steps -= self._allow(self._slot)
        self._wire.tell_soon()
        return item

    def _allow(self, slot: EndSlot) -> int:
        """Write down what is in hand. Who is slow says so of each item; who is fast may take some before it does."""
        now_ns = time.monotonic_ns()
        is_fast = now_ns - self._looked_ns < _FAST_NS * (1 + self._allowed)
        self._looked_ns = now_ns
        number = self._reader.mark.sequence
        self._allowed = self._reader.allow(self._steps) if is_fast else 0
        slot.holds(number, number + self._allowed)
        return self._allowed

    def written_in(self, slot: EndSlot) -> None:
        """From now on it is written there which item is in hand."""
        self._slot = slot

    def which_in_hand(self) -> int:
        """The number of the item that was taken last and is not done with, or 0. The next one is not taken unsaid."""
        reader = self._reader
        reader.hold()
        return 0 if self._wire.reader_asks or reader.done or reader.ended else reader.mark.sequence

    @property
    def pulse(self) -> tuple[int, ...]:
        """Where nothing of this has changed, nothing of its statistics has."""
        reader, wire = self._reader, self._wire
        return (
            reader.expects,
            reader.free,
            len(reader.items),
            reader.stable,
            wire.reader_asks,
            reader.done,
            reader.over,
        )

    def receive_nowait(self) -> T:
        if self._wire.reader_asks:
            raise self._in_use("receive_nowait()")
        if not self.has_item():
            self._wire.ask()
            raise WouldBlock(f"{self._wire} is empty")
        self._steps = max(0, self._steps - 1)
        self._reader.ask_past()
        self._wire.tell_soon()
        return self._take()

    def _take(self) -> T:
        reader = self._reader
        item: T = reader.take()
        if self._took is not None:
            self._took(reader.mark)
        reader.flow()
        self._wire.speak()
        return item

    def peek(self) -> T:
        item: T = self._reader.items[0]
        return item

    def discard_oldest(self) -> bool:
        if not self._reader.items:
            return False
        self._reader.discard()
        self._reader.flow(at_once=True)
        self._wire.speak()
        return True

    @property
    def mark(self) -> Mark:
        return self._reader.mark

    def begin_again(self) -> None:
        """For another owner: what the last one had not finished comes again, marked as a repeat."""
        self._wire.begin_again()
        self._reader = self._wire.session
        self._took = None
        self._steps = BUDGET

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What died with each earlier life of the writer."""
        return self._reader.losses

    def mourn_with(self, mourns: Callable[[Loss], None]) -> None:
        """Call this whenever the writer has died, with what died with it."""
        self._wire.mourns = mourns

    def tell_plane(self, plane: PlaneWords) -> None:
        """From now on this is told of whatever comes, and of the end."""
        self._wire.plane = plane

    def ack_manually(self) -> None:
        self._reader.be_manual()

    def done(self, mark: Mark) -> None:
        reader = self._reader
        if not reader.manual:
            raise not_manual(self._wire, reader.me.settings.ack)
        if (mark.epoch, mark.sequence) > (reader.mark.epoch, reader.mark.sequence):
            raise BadValue(f"{self._wire}: done() got {mark}, but the last item handed over here is {reader.mark}")
        reader.release(mark)
        reader.flow(at_once=True)
        self._wire.speak()

    @property
    def is_manual(self) -> bool:
        return self._reader.manual

    def keep_with(
        self, took: Callable[[Mark], None], released: Callable[[Mark], None], *, if_needed: bool = False
    ) -> None:
        """From now on somebody else decides when an item is stable, and calls `settle`."""
        self._took = took
        self._reader.keep_with(released)

    def settle(self, upto: Mark, *, at_once: bool) -> None:
        """Up to here nothing will be needed again, nor what came of it; the writer hears of it at once, or soon."""
        self._reader.settle(upto)
        if at_once:
            self._reader.flow(at_once=True)
            self._wire.speak()
        else:
            self._wire.tell_soon()

    async def wait_connected(self) -> None:
        """Return when the two ends have met; raises what keeps them from it."""
        await _connected(self._wire)

    def lose_writer(self, lives: tuple[Life, ...] = ()) -> None:
        """Somebody above knows that there will never be a writer any more: what has come is all there is.

        `lives` are what its counter says, where it has died.
        """
        self._reader.lose_writer(lives)
        self._wire.look_again()

    async def aclose(self) -> None:
        if not self._reader.done:
            self._reader.close()
            self._wire.speak()
            self._wire.look_again()

    def statistics(self) -> ChannelStats:
        reader = self._reader
        return ChannelStats(
            current_buffer_used=len(reader.items),
            max_buffer_size=reader.me.settings.maxsize,
            open_send_streams=int(not reader.over),
            open_receive_streams=int(not reader.done),
            waiters_send=0,
            waiters_receive=int(self._wire.reader_asks),
            accepted=reader.arrived_items,
            taken=reader.handed_over,
            stable=reader.settled_items,
            dropped=reader.dropped,
            redelivered=reader.redelivered,
            set_aside=reader.skipped,
        )

    def counts(self) -> EndCounts:
        """The same for whoever adds up what the ends of many lives say."""
        reader = self._reader
        known = self.statistics()
        return EndCounts(
            channel=reader.me.settings.channel,
            sends=False,
            incarnation=reader.me.incarnation,
            epoch=reader.began,
            accepted=known.accepted,
            taken=known.taken,
            stable=known.stable,
            dropped=known.dropped,
            redelivered=known.redelivered,
            set_aside=known.set_aside,
            losses=reader.losses,
        )


async def _connected(wire: Wire[Any]) -> None:
    await wire.wait_until(lambda: wire.session.connected or wire.session.alone)
    if wire.session.failure is not None:
        raise wire.session.failure


def open_send(
    address: str, item_type: type[T], *, bind: bool = False, **said: Unpack[Said]
) -> AbstractAsyncContextManager[RemoteSend[T]]:
    """The writing end of a channel at an address, as an async context manager.

    Entering binds or connects, and returns at once. Leaving waits until all is stable, `close_within` seconds at most;
    leaving by an error tells the reader so.
    """
    return writing(find(address), address, item_type, bind=bind, options=ChannelOptions(**said))


def open_receive(
    address: str, item_type: type[T], *, bind: bool = True, **said: Unpack[Said]
) -> AbstractAsyncContextManager[RemoteReceive[T]]:
    """The reading end of a channel at an address, as an async context manager.

    Entering binds or connects, and returns at once. Leaving tells the writer that nothing more is wanted; leaving by an
    error does not, so that a reader started again goes on with what this one had not finished.
    """
    return reading(find(address), address, item_type, bind=bind, options=ChannelOptions(**said))


def open_pair(address: str, item_type: type[T], **said: Unpack[Said]) -> AbstractAsyncContextManager[Channel[T]]:
    """Both ends in one process, joined by a real link: for tests. Entering returns when the two have met."""
    if said.get("curve") is not None:
        raise BadValue("open_pair would give both ends the same keys; use open_send and open_receive")
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
async def writing(
    transport: Transport, address: str, item_type: Any, *, bind: bool, options: ChannelOptions
) -> AsyncIterator[RemoteSend[Any]]:
    """A writing end over any transport, whatever the address says."""
    me = options.me(item_type, address, binds=bind)
    tally = None if options.counter is None else Tally(Path(options.counter), me.epoch)
    session = Writer(
        me if tally is None else msgspec.structs.replace(me, epoch=tally.epoch),
        time.monotonic_ns(),
        max_bytes=options.max_bytes,
        retain=options.kept,
        max_deliveries=options.max_deliveries,
        lives=() if tally is None else tally.lives,
    )
    link = transport.open(address, bind=bind, settings=options.link)
    wire: WritingWire[Any] = WritingWire(session, link, partial(set_aside, options.aside, address))
    of_bytes = item_type in (bytes, bytearray, memoryview)
    end = (RemoteSendBytes if of_bytes else RemoteSend)(wire, None if tally is None else tally.word)
    async with running(wire):
        try:
            yield end
        except BaseException:
            if options.supervised:
                raise
            end.close(aborted=True)
            # A socket that is closed throws away what it has not sent.
            if session.connected:
                with anyio.move_on_after(min(options.close_within, _LAST_WORDS_S), shield=True):
                    await wire.wait_until(lambda: session.bye_heard or session.reader_done)
            raise
        end.close()
        with anyio.move_on_after(options.close_within):
            await wire.wait_until(lambda: session.settled)
        if not session.settled and session.failure is None and session.other is not None:
            left = session.accepted - session.closing - session.stable
            raise PeerLost(f"{wire}: closed with {left} messages that the reader has not said to be done with")


def set_aside(folder: Any, address: str, poison: Poison) -> None:
    """Keep an item that has killed its readers where somebody may look at it."""
    place = private_dir("aside") if folder is None else Path(folder)
    name = address.rpartition("/")[2]
    path = place / f"{name}.{poison.epoch}.{poison.number}.{'msgpack' if poison.encoded else 'bytes'}"
    path.write_bytes(poison.item)
    _log.error(
        "item %d of the channel at %s was set aside in %s: %d readers have died with it in hand",
        poison.number, address, path, poison.deaths,
    )  # fmt: skip


@asynccontextmanager
async def reading(
    transport: Transport, address: str, item_type: Any, *, bind: bool, options: ChannelOptions
) -> AsyncIterator[RemoteReceive[Any]]:
    """A reading end over any transport, whatever the address says."""
    session = Reader(options.me(item_type, address, binds=bind), time.monotonic_ns())
    link = transport.open(address, bind=bind, settings=options.link)
    wire: ReadingWire[Any] = ReadingWire(session, link, item_type)
    async with running(wire):
        try:
            yield RemoteReceive(wire)
        except Exception:
            # It may have failed by the item in its hand: that is not to be done with it.
            raise
        except BaseException:
            if not options.supervised:
                await _say_goodbye(wire, options.close_within)
            raise
        await _say_goodbye(wire, options.close_within)


async def _say_goodbye(wire: ReadingWire[Any], close_within: float) -> None:
    session = wire.session
    if session.ended:
        session.ask()
        session.flow(at_once=True)
    session.close()
    wire.speak()
    # A socket that is closed throws away what it has not sent: the writer's answer says that it has heard.
    with anyio.move_on_after(close_within, shield=True):
        while not session.bye_heard and session.failure is None and wire.peer_is_there:
            with anyio.move_on_after(_LOOK_S):
                await wire.wait_until(lambda: session.bye_heard)
