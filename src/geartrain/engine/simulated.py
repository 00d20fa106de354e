"""The channel in virtual time with microsteps: two halves that tell each other what they did, and share nothing.

    writing half                                        reading half
    sent, and what it has heard                         what it has heard, taken, thrown away
         | --- Item, Withdrawal, End   (t, k+1) -->  |
         | <-- Taken, Answer, Closed   (t, k+1) ---  |

What one end does in a microstep the other hears in the next, in one process as in many: an item, and the room that its
taking makes. So a run is the same wherever the ends live. An item is encoded when it is sent and decoded when it is
received, so that nobody sees what has been done to it since.

    room          sent - gone < maxsize, where `sent` is our own and `gone` what was heard
    lossy         the writer always has room; the reading half drops, when an item would be one too many as it arrives
    rendezvous    an item is an offer. `send` returns when the reader has taken it. Cancelled, it takes the offer back,
                  and waits, shielded, for what became of it: if it was taken, `send` returns as if nothing had been

Whether a reader waits is not known in the same microstep: at a rendezvous `send_nowait` never succeeds, `has_room` is
never true, and `wait_room` does not wait.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import anyio
import msgspec

from geartrain.engine.channel import checked_maxsize
from geartrain.engine.ends import Asker, Channel, ChannelStats, ReadingEnd, WritingEnd, not_manual, note_user
from geartrain.engine.shape import name_of
from geartrain.errors import BadType, BadValue, ChannelClosed, EndClosed, EndOfStream, NotInUse, WireError, WouldBlock
from geartrain.ports.parking import here, park, take_turn
from geartrain.ports.plane_words import PlaneWords
from geartrain.ports.turns import Turns, Wait
from geartrain.rules.checks import one_of
from geartrain.rules.effects import BACKWARD, FORWARD, Answer, Closed, Effect, End, Item, Said, Taken, Withdrawal
from geartrain.rules.microsteps import Apply, Microsteps
from geartrain.rules.pipeline import ACKS, POLICIES, Ack, Mark, Policy

T = TypeVar("T")

# How many items a writer that always has room may send in one microstep; then it sleeps for no time, so that one who
# never stops is a livelock and no hang.
_IN_A_ROW = 1024

# Told of each item that is taken: the channel, when (t in ns, microstep), its sequence, and its encoding.
Record = Callable[[str, int, int, int, bytes], None]


def open_simulated(
    name: str,
    maxsize: float = 0,
    *,
    policy: Policy = "block",
    ack: Ack = "batch",
    item_type: Any = Any,
    record: Record | None = None,
) -> Channel[Any]:
    """Both ends of a channel under a `SimClock` with microsteps; the options are those of `open_channel`.

    Of all channels of a run each has a name of its own: what is done in one microstep is heard in the order of the
    names. `record` is called for each item as it is taken.
    """
    one_of("policy", policy, POLICIES)
    one_of("ack", ack, ACKS)
    if not isinstance(name, str):
        raise BadType(f"a channel's name must be a string, got {name!r}")
    if not name:
        raise BadValue("a channel in virtual time with microsteps needs a name, by which its effects are ordered")
    exchange = Within()
    size = checked_maxsize(maxsize, policy)
    writing = WritingHalf(name, size, policy, exchange)
    reading = ReadingHalf(name, size, policy, ack, exchange, record)
    exchange.join(writing.hear, reading.hear)
    send: SimulatedSend[Any] = SimulatedSend(writing)
    recv: SimulatedReceive[Any] = SimulatedReceive(reading, item_type)
    send.peer, recv.peer = recv, send
    return Channel(send, recv)


# -- how halves are joined --------------------------------------------------------------------------------------------


class Exchange(Protocol):
    """Brings effects to the other half, to be heard in the next microstep."""

    def post(self, effect: Effect) -> None: ...

    @property
    def instant(self) -> tuple[int, int]:
        """The time in ns, and the microstep."""


class Within:
    """Both halves are on this loop."""

    def __init__(self) -> None:
        self._ears: tuple[Apply, ...] = ()
        self._here: tuple[Turns, Microsteps] | None = None

    def join(self, writing: Apply, reading: Apply) -> None:
        """Who hears what goes backward, and who what goes forward."""
        self._ears = (reading, writing)

    def post(self, effect: Effect) -> None:
        if self._here is None:
            self._here = _turns(effect.channel)
        self._here[0].post(effect, self._ears[effect.direction])

    @property
    def instant(self) -> tuple[int, int]:
        if self._here is None:
            self._here = _turns("")
        microsteps = self._here[1]
        return microsteps.timeline.now_ns, microsteps.k


def _turns(channel: str) -> tuple[Turns, Microsteps]:
    turns = here().turns
    if turns is None or not isinstance(turns.agenda, Microsteps):
        raise NotInUse(
            f"channel {channel!r} is for virtual time with microsteps, and none is at work here: make "
            "SimClock(microsteps=True) first, or use open_channel()"
        )
    return turns, turns.agenda


class Half:
    """What both halves have: a name, and a way to speak. The attributes are those a waiting end looks at."""

    def __init__(self, name: str, maxsize: float, policy: Policy, direction: int, exchange: Exchange) -> None:
        self.name = name
        self.maxsize = maxsize
        self.policy = policy
        self.exchange = exchange
        self._direction = direction
        self._order = 0
        self.taken = 0
        self.dropped = 0
        self.send_closed = False
        self.receive_closed = False
        self.writer: Wait | None = None
        self.writer_waits = False
        self.asker: Asker | None = None
        self.reader_asks = False

    @property
    def is_rendezvous(self) -> bool:
        return self.maxsize == 0 and self.policy == "block"

    @property
    def gone(self) -> int:
        return self.taken + self.dropped

    def say(self, said: Said) -> None:
        self.exchange.post(Effect(self.name, self._direction, self._order + 1, said))
        self._order += 1

    def begin_asking(self, asker: Asker | None) -> None:
        """From now until `stop_asking` the reader is waiting."""
        self.reader_asks = True
        self.asker = asker

    def stop_asking(self) -> None:
        self.reader_asks = False
        self.asker = None

    def __str__(self) -> str:
        return f"channel {self.name!r}"


class WritingHalf(Half):
    """What the writer has done, and what it has heard of the reader."""

    def __init__(self, name: str, maxsize: float, policy: Policy, exchange: Exchange) -> None:
        super().__init__(name, maxsize, policy, FORWARD, exchange)
        self.sent = 0
        self.withdrawn = 0
        self.stable = 0
        self.drainer: Wait | None = None
        # The offer of a rendezvous that nobody knows yet what became of: its number, and what was gone before it.
        self._offer = 0
        self._gone_before = 0
        self._answered = 0

    @property
    def has_room(self) -> bool:
        return not self.is_rendezvous and (self.policy != "block" or self.sent - self.gone < self.maxsize)

    @property
    def settled(self) -> bool:
        return self.receive_closed or (self.sent - self.withdrawn == self.gone and self.stable == self.taken)

    def put(self, payload: bytes) -> None:
        self.say(Item(self.sent + 1, payload))
        self.sent += 1

    def offer(self, payload: bytes) -> None:
        self.put(payload)
        self._offer = self.sent
        self._gone_before = self.gone

    @property
    def offer_was_taken(self) -> bool:
        return self.gone > self._gone_before

    @property
    def offer_is_settled(self) -> bool:
        return self.offer_was_taken or self._answered == self._offer or self.receive_closed

    def withdraw_offer(self) -> None:
        self.say(Withdrawal(self._offer))

    def hear(self, said: Said) -> None:
        match said:
            case Taken(taken, dropped, stable):
                self.taken, self.dropped, self.stable = taken, dropped, stable
            case Answer(sequence, withdrawn):
                self._answered = sequence
                self.withdrawn += withdrawn
            case Closed():
                self.receive_closed = True
            case _:
                raise AssertionError(f"{self}: its writer heard {said!r}")
        self._wake_whom_it_satisfies()

    def _wake_whom_it_satisfies(self) -> None:
        ready = self.offer_is_settled if self.is_rendezvous else self.has_room or self.receive_closed
        if self.writer is not None and ready:
            self.writer.wake()
        if self.drainer is not None and self.settled:
            self.drainer.wake()

    def close(self) -> None:
        if not self.send_closed:
            self.send_closed = True
            self.say(End())
            if self.writer is not None:
                self.writer.wake()

    def statistics(self) -> ChannelStats:
        return ChannelStats(
            current_buffer_used=self.sent - self.withdrawn - self.gone,
            max_buffer_size=self.maxsize,
            open_send_streams=int(not self.send_closed),
            open_receive_streams=int(not self.receive_closed),
            waiters_send=int(self.writer_waits),
            waiters_receive=0,
            accepted=self.sent - self.withdrawn,
            taken=self.taken,
            stable=self.stable,
            dropped=self.dropped,
        )


class Visible(msgspec.Struct, frozen=True):
    """An item that has arrived, and when."""

    since: tuple[int, int]
    item: Item


class ReadingHalf(Half):
    """What has arrived, and what the reader has done with it."""

    def __init__(
        self, name: str, maxsize: float, policy: Policy, ack: Ack, exchange: Exchange, record: Record | None
    ) -> None:
        super().__init__(name, maxsize, policy, BACKWARD, exchange)
        self.ack = ack
        self.buffer: deque[Visible] = deque()
        self.asked_past = 0
        self._record = record
        # What others judge by when something has come last.
        self.plane: PlaneWords | None = None

    @property
    def stable(self) -> int:
        """The item last taken is in the reader's hand until it asks for the next."""
        return self.asked_past if self.ack == "manual" else max(self.asked_past, self.taken - 1, 0)

    def take(self) -> bytes:
        item = self.buffer.popleft().item
        self.taken += 1
        self._tell()
        if self._record is not None:
            self._record(self.name, *self.exchange.instant, item.sequence, item.payload)
        return item.payload

    def discard(self) -> bool:
        if not self.buffer:
            return False
        self._drop()
        self._tell()
        return True

    def _drop(self) -> None:
        self.buffer.popleft()
        self.dropped += 1

    def _tell(self) -> None:
        if not self.receive_closed:
            self.say(Taken(self.taken, self.dropped, self.stable))

    def begin_asking(self, asker: Asker | None) -> None:
        super().begin_asking(asker)
        self.ask_past()

    def ask_past(self) -> None:
        """The reader has looked for more: what it has taken, it has done with."""
        if self.ack != "manual":
            self.done_with(self.taken)

    def done_with(self, number: int) -> None:
        before = self.stable
        self.asked_past = max(self.asked_past, number)
        if self.stable > before:
            self._tell()

    def ack_manually(self) -> None:
        self.asked_past = self.stable
        self.ack = "manual"

    def hear(self, said: Said) -> None:
        match said:
            case Item():
                self._arrived(said)
            case Withdrawal(sequence):
                self._withdrawn(sequence)
            case End():
                self.send_closed = True
                if self.plane is not None:
                    self.plane.end()
            case _:
                raise AssertionError(f"{self}: its reader heard {said!r}")
        if self.asker is not None and (self.buffer or self.send_closed):
            self.asker.wake()

    def _arrived(self, item: Item) -> None:
        if self.plane is not None:
            self.plane.tick()
        if self.receive_closed:
            self.dropped += 1
        elif self.policy == "block" or self._makes_room():
            self.buffer.append(Visible(self.exchange.instant, item))

    def _makes_room(self) -> bool:
        """What the lossy policies do when there is none: something is dropped. False when it is the new item."""
        if self.policy != "drop_newest":
            if len(self.buffer) >= self.maxsize:
                self._drop()
                self._tell()
            return True
        # At 0 there is room only while the reader is asking.
        if len(self.buffer) < (self.maxsize or int(self.reader_asks)):
            return True
        self.dropped += 1
        self._tell()
        return False

    def _withdrawn(self, sequence: int) -> None:
        is_here = bool(self.buffer) and self.buffer[0].item.sequence == sequence
        if is_here:
            self.buffer.popleft()
        if not self.receive_closed:
            self.say(Answer(sequence, is_here))

    def close(self) -> None:
        if not self.receive_closed:
            self.asked_past = self.taken
            self.dropped += len(self.buffer)
            self.buffer.clear()
            self.say(Closed())
            self.receive_closed = True
            if self.asker is not None:
                self.asker.wake()

    def statistics(self) -> ChannelStats:
        return ChannelStats(
            current_buffer_used=len(self.buffer),
            max_buffer_size=self.maxsize,
            open_send_streams=int(not self.send_closed),
            open_receive_streams=int(not self.receive_closed),
            waiters_send=0,
            waiters_receive=int(self.reader_asks),
            accepted=self.gone + len(self.buffer),
            taken=self.taken,
            stable=self.stable,
            dropped=self.dropped,
        )


# -- the ends ---------------------------------------------------------------------------------------------------------


class SimulatedSend(WritingEnd[T]):
    """The writing end."""

    __slots__ = ("_encode", "_half", "_in_a_row", "_instant", "peer")

    def __init__(self, half: WritingHalf) -> None:
        super().__init__(half)
        self._half = half
        self._encode = msgspec.msgpack.Encoder().encode
        self._instant = (-1, -1)
        self._in_a_row = 0
        self.peer: SimulatedReceive[T] | None = None

    @property
    def _other_end(self) -> "SimulatedReceive[T] | None":
        return self.peer

    @property
    def offers_only(self) -> bool:
        return self._half.is_rendezvous

    async def send(self, item: T) -> None:
        half = self._half
        payload = self._encode(item)
        if half.is_rendezvous:
            await self._send_by_offer(payload)
            return
        if half.writer_waits or not self.has_room():
            await self.wait_room()
        elif self._sends_on_and_on():
            await take_turn()
        half.put(payload)

    def _sends_on_and_on(self) -> bool:
        instant = self._half.exchange.instant
        self._in_a_row = self._in_a_row + 1 if instant == self._instant else 0
        self._instant = instant
        return self._in_a_row >= _IN_A_ROW

    async def _send_by_offer(self, payload: bytes) -> None:
        half = self._half
        if half.writer_waits:
            raise self._in_use("another send()")
        self._check_open()
        note_user(self)
        half.writer_waits = True
        try:
            half.offer(payload)
            await self._offer_settled()
        except anyio.get_cancelled_exc_class():
            if not await self._could_not_take_back():
                raise
        finally:
            half.writer_waits = False
        if not half.offer_was_taken:
            self._check_open()

    async def _could_not_take_back(self) -> bool:
        """Whether the reader has the item all the same."""
        half = self._half
        if not half.offer_is_settled:
            half.withdraw_offer()
            with anyio.CancelScope(shield=True):
                await self._offer_settled()
        return half.offer_was_taken

    async def _offer_settled(self) -> None:
        half = self._half
        while not half.offer_is_settled:
            half.writer = park(self)
            try:
                await half.writer.wait()
            finally:
                half.writer = None

    def send_nowait(self, item: T) -> None:
        half = self._half
        payload = self._encode(item)
        if half.writer_waits:
            raise self._in_use("send_nowait()")
        if self.has_room():
            half.put(payload)
        elif half.is_rendezvous:
            raise WouldBlock(f"{half} is a rendezvous, and in virtual time nobody knows whether its reader waits")
        else:
            raise WouldBlock(f"{half} is full: {half.sent - half.gone} items wait to be received")

    async def wait_room(self) -> None:
        if self._half.is_rendezvous:
            if self._half.writer_waits:
                raise self._in_use("wait_room()")
            self._check_open()
        else:
            await super().wait_room()

    def has_room(self) -> bool:
        self._check_open()
        return self._half.has_room

    def _check_open(self) -> None:
        if self._half.send_closed:
            raise ChannelClosed(f"the writing end of {self._half} was closed here; nothing can be sent any more")
        if self._half.receive_closed:
            raise ChannelClosed(f"the reader of {self._half} has closed; nothing can be sent any more")

    async def drain(self) -> None:
        half = self._half
        if half.drainer is not None:
            raise self._in_use("another drain()")
        while not half.settled:
            half.drainer = park(self)
            try:
                await half.drainer.wait()
            finally:
                half.drainer = None

    async def aclose(self) -> None:
        self._half.close()

    def statistics(self) -> ChannelStats:
        return self._half.statistics()


class SimulatedReceive(ReadingEnd[T], Generic[T]):
    """The reading end."""

    __slots__ = ("_decode", "_half", "_type_name", "peer")

    def __init__(self, half: ReadingHalf, item_type: Any) -> None:
        super().__init__(half)
        self._half = half
        self._type_name = name_of(item_type)
        self._decode: Callable[[bytes], T] = msgspec.msgpack.Decoder(item_type).decode
        self.peer: SimulatedSend[T] | None = None

    @property
    def _other_end(self) -> SimulatedSend[T] | None:
        return self.peer

    async def receive(self) -> T:
        if self._half.reader_asks or not self._half.buffer:
            await self.wait_item()
        return self._take()

    def receive_nowait(self) -> T:
        half = self._half
        if half.reader_asks:
            raise self._in_use("receive_nowait()")
        half.ask_past()
        if not self.has_item():
            raise WouldBlock(f"{half} is empty")
        return self._take()

    def _take(self) -> T:
        payload = self._half.take()
        try:
            return self._decode(payload)
        except msgspec.MsgspecError as error:
            raise WireError(f"{self._half}: reader expects {self._type_name}: {error}") from error

    def has_item(self) -> bool:
        half = self._half
        if half.receive_closed:
            raise EndClosed(f"the reading end of {half} was closed here; nothing can be received any more")
        if half.buffer:
            return True
        if half.send_closed:
            half.ask_past()
            raise EndOfStream(f"the writer of {half} has closed, and everything it sent has been received")
        return False

    @property
    def came(self) -> tuple[int, int, str, int] | None:
        if not self._half.buffer:
            return None
        first = self._half.buffer[0]
        return (*first.since, self._half.name, first.item.sequence)

    def peek(self) -> T:
        return self._decode(self._half.buffer[0].item.payload)

    def discard_oldest(self) -> bool:
        return self._half.discard()

    def tell_plane(self, plane: PlaneWords) -> None:
        """From now on this is told of whatever comes, and of the end."""
        self._half.plane = plane

    @property
    def mark(self) -> Mark:
        return Mark(0, self._half.taken)

    def done(self, mark: Mark) -> None:
        half, last = self._half, self.mark
        if half.ack != "manual":
            raise not_manual(half, half.ack)
        if (mark.epoch, mark.sequence) > (last.epoch, last.sequence):
            raise BadValue(f"{half}: done() got {mark}, but the last item handed over here is {last}")
        half.done_with(mark.sequence)

    def ack_manually(self) -> None:
        self._half.ack_manually()

    async def aclose(self) -> None:
        self._half.close()

    def statistics(self) -> ChannelStats:
        return self._half.statistics()
