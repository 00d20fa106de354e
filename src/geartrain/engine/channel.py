"""The typed channel inside a process: one writer, one reader, and never more than `maxsize` items between them.

    writer                        pipe                         reader
    await send(x)   ---------->   [ x y z ]   ---------->      await receive()
    waits while it is full                                     waits while it is empty

What waits, waits for a state of the pipe, and takes nothing before it goes on: so a cancelled `send` has not sent, and
a cancelled `receive` has lost nothing. `maxsize=0` is a rendezvous: there is room only while the reader is asking.
"""

import math
from collections import deque
from typing import Generic, TypeVar

from geartrain.engine.ends import Asker, Channel, ChannelStats, ReadingEnd, WritingEnd, not_manual
from geartrain.errors import BadType, BadValue, ChannelClosed, EndClosed, EndOfStream, WouldBlock
from geartrain.ports.parking import park
from geartrain.ports.turns import Wait
from geartrain.rules.checks import one_of
from geartrain.rules.pipeline import ACKS, POLICIES, Ack, Mark, Policy

T = TypeVar("T")


def open_channel(maxsize: float = 0, *, policy: Policy = "block", ack: Ack = "batch", name: str = "") -> Channel[T]:
    """A channel inside this process. At most `maxsize` items are between its ends; `math.inf` is no bound at all.

    `policy` says what a full channel does: `block` the writer, keep only the `latest` item, `drop_oldest` or
    `drop_newest`. Drops are counted in `statistics().dropped`. With `ack="manual"` an item is stable, and `drain`
    returns, when the reader says `done(mark)`; otherwise when it has asked for the next. The name is for messages.
    """
    one_of("policy", policy, POLICIES)
    one_of("ack", ack, ACKS)
    if not isinstance(name, str):
        raise BadType(f"a channel's name must be a string, got {name!r}")
    pipe: Pipe[T] = Pipe(checked_maxsize(maxsize, policy), policy, ack, name)
    return Channel(pipe.sender, pipe.receiver)


def checked_maxsize(maxsize: float, policy: Policy) -> float:
    if isinstance(maxsize, bool) or not (isinstance(maxsize, int) or maxsize == math.inf):
        raise BadType(f"maxsize must be a whole number or math.inf, got {maxsize!r}")
    if maxsize < 0:
        raise BadValue(f"maxsize cannot be negative, got {maxsize!r}")
    if policy == "latest":
        if maxsize > 1:
            raise BadValue(f"policy 'latest' keeps exactly one item, so maxsize must be 1 or left out, got {maxsize!r}")
        return 1
    if policy == "drop_oldest" and maxsize == 0:
        raise BadValue("policy 'drop_oldest' needs a maxsize of at least 1: at 0 there is no oldest item to drop")
    return maxsize


class Pipe(Generic[T]):
    """What both ends share. `limit` is how many items there is room for right now."""

    __slots__ = (
        "ack",
        "asked_past",
        "asker",
        "buffer",
        "drainer",
        "dropped",
        "limit",
        "maxsize",
        "name",
        "policy",
        "reader_asks",
        "receive_closed",
        "receiver",
        "send_closed",
        "sender",
        "taken",
        "writer",
        "writer_waits",
    )

    def __init__(self, maxsize: float, policy: Policy, ack: Ack, name: str) -> None:
        self.maxsize = maxsize
        self.policy = policy
        self.ack = ack
        self.name = name
        self.buffer: deque[T] = deque()
        self.limit = maxsize
        self.taken = 0
        self.asked_past = 0
        self.dropped = 0
        self.send_closed = False
        self.receive_closed = False
        self.writer: Wait | None = None
        self.writer_waits = False
        self.asker: Asker | None = None
        self.reader_asks = False
        self.drainer: Wait | None = None
        self.sender = Sender(self)
        self.receiver = Receiver(self)

    def make_room(self) -> bool:
        """What the lossy policies do when there is none: something is dropped. False when it is the new item."""
        self.dropped += 1
        if self.policy == "drop_newest":
            return False
        self.buffer.popleft()
        return True

    def take(self) -> T:
        item = self.buffer.popleft()
        self.taken += 1
        if self.writer is not None:
            self.writer.wake()
        return item

    def begin_asking(self, asker: Asker | None) -> None:
        """From now until `stop_asking` the reader is waiting; a rendezvous has room for just that long."""
        self.reader_asks = True
        self.asker = asker
        if self.maxsize == 0 and not self.receive_closed and not self.send_closed:
            self.limit = 1
            if self.writer is not None:
                self.writer.wake()
        self.ask_past()

    def ask_past(self) -> None:
        """The reader has looked for more: what it has taken, it has done with."""
        if self.ack != "manual":
            self.done_with(self.taken)

    def done_with(self, number: int) -> None:
        self.asked_past = max(self.asked_past, number)
        if self.drainer is not None:
            self.drainer.wake()

    def stop_asking(self) -> None:
        self.reader_asks = False
        self.asker = None
        if self.maxsize == 0:
            self.limit = 0

    def close(self) -> None:
        """One of the ends has closed: everybody who waits looks again."""
        self.limit = 0
        for waiting in (self.writer, self.asker, self.drainer):
            if waiting is not None:
                waiting.wake()

    @property
    def stable(self) -> int:
        """The item last taken is in the reader's hand until it asks for the next."""
        return self.asked_past if self.ack == "manual" else max(self.asked_past, self.taken - 1, 0)

    @property
    def settled(self) -> bool:
        return not self.buffer and self.stable == self.taken

    def statistics(self) -> ChannelStats:
        return ChannelStats(
            current_buffer_used=len(self.buffer),
            max_buffer_size=self.maxsize,
            open_send_streams=int(not self.send_closed),
            open_receive_streams=int(not self.receive_closed),
            waiters_send=int(self.writer_waits),
            waiters_receive=int(self.reader_asks),
            accepted=self.taken + self.dropped + len(self.buffer),
            taken=self.taken,
            stable=self.stable,
            dropped=self.dropped,
        )

    def __str__(self) -> str:
        return f"channel {self.name!r}" if self.name else f"a channel of maxsize {self.maxsize}"


class Sender(WritingEnd[T]):
    """The writing end of a pipe."""

    __slots__ = ("_pipe",)

    def __init__(self, pipe: Pipe[T]) -> None:
        super().__init__(pipe)
        self._pipe = pipe

    @property
    def _other_end(self) -> "Receiver[T]":
        return self._pipe.receiver

    async def send(self, item: T) -> None:
        pipe = self._pipe
        if not self._steps or len(pipe.buffer) >= pipe.limit or pipe.writer_waits:
            await self.wait_room()
        self._steps -= 1
        if len(pipe.buffer) < pipe.limit or pipe.make_room():
            pipe.buffer.append(item)
            if pipe.asker is not None:
                pipe.asker.wake()

    def send_nowait(self, item: T) -> None:
        pipe = self._pipe
        if pipe.writer_waits:
            raise self._in_use("send_nowait()")
        if not self.has_room():
            held = f"is full: {len(pipe.buffer)} items wait" if pipe.buffer else "is a rendezvous, and nobody waits"
            raise WouldBlock(f"{pipe} {held} to be received" if pipe.buffer else f"{pipe} {held} in receive()")
        self._steps = max(0, self._steps - 1)
        if len(pipe.buffer) < pipe.limit or pipe.make_room():
            pipe.buffer.append(item)
            if pipe.asker is not None:
                pipe.asker.wake()

    def has_room(self) -> bool:
        pipe = self._pipe
        if pipe.send_closed:
            raise ChannelClosed(f"the writing end of {pipe} was closed here; nothing can be sent any more")
        if pipe.receive_closed:
            raise ChannelClosed(f"the reader of {pipe} has closed; nothing can be sent any more")
        return len(pipe.buffer) < pipe.limit or pipe.policy != "block"

    async def drain(self) -> None:
        pipe = self._pipe
        if pipe.drainer is not None:
            raise self._in_use("another drain()")
        while not pipe.settled:
            pipe.drainer = park(self)
            try:
                await pipe.drainer.wait()
            finally:
                pipe.drainer = None

    async def aclose(self) -> None:
        pipe = self._pipe
        if not pipe.send_closed:
            pipe.send_closed = True
            pipe.close()

    def statistics(self) -> ChannelStats:
        return self._pipe.statistics()


class Receiver(ReadingEnd[T]):
    """The reading end of a pipe."""

    __slots__ = ("_pipe",)

    def __init__(self, pipe: Pipe[T]) -> None:
        super().__init__(pipe)
        self._pipe = pipe

    @property
    def _other_end(self) -> Sender[T]:
        return self._pipe.sender

    async def receive(self) -> T:
        pipe = self._pipe
        if not self._steps or not pipe.buffer or pipe.reader_asks:
            await self.wait_item()
        self._steps -= 1
        return pipe.take()

    def receive_nowait(self) -> T:
        pipe = self._pipe
        if pipe.reader_asks:
            raise self._in_use("receive_nowait()")
        pipe.ask_past()
        if not self.has_item():
            raise WouldBlock(f"{pipe} is empty")
        self._steps = max(0, self._steps - 1)
        return pipe.take()

    def has_item(self) -> bool:
        pipe = self._pipe
        if pipe.receive_closed:
            raise EndClosed(f"the reading end of {pipe} was closed here; nothing can be received any more")
        if pipe.buffer:
            return True
        if pipe.send_closed:
            pipe.ask_past()
            raise EndOfStream(f"the writer of {pipe} has closed, and everything it sent has been received")
        return False

    def peek(self) -> T:
        return self._pipe.buffer[0]

    def discard_oldest(self) -> bool:
        pipe = self._pipe
        if not pipe.buffer:
            return False
        pipe.buffer.popleft()
        pipe.dropped += 1
        for waiting in (pipe.writer, pipe.drainer):
            if waiting is not None:
                waiting.wake()
        return True

    @property
    def mark(self) -> Mark:
        return Mark(0, self._pipe.taken)

    def done(self, mark: Mark) -> None:
        self._check_done(mark)
        self._pipe.done_with(mark.sequence)

    def _check_done(self, mark: Mark) -> None:
        pipe, last = self._pipe, self.mark
        if pipe.ack != "manual":
            raise not_manual(pipe, pipe.ack)
        if (mark.epoch, mark.sequence) > (last.epoch, last.sequence):
            raise BadValue(f"{pipe}: done() got {mark}, but the last item handed over here is {last}")

    def ack_manually(self) -> None:
        pipe = self._pipe
        pipe.asked_past = pipe.stable
        pipe.ack = "manual"

    async def aclose(self) -> None:
        pipe = self._pipe
        if not pipe.receive_closed:
            pipe.receive_closed = True
            pipe.asked_past = pipe.taken
            pipe.dropped += len(pipe.buffer)
            pipe.buffer.clear()
            pipe.close()

    def statistics(self) -> ChannelStats:
        return self._pipe.statistics()
