"""What carries one end of a channel over a link: the session above, the transport below.

    hear    a frame from the link goes to the session, answers go back, and whoever waits here looks again
    tick    beats, knocks and patience

A peer that says what it must not is refused with the reason, and its end fails by a `WireError`; the process lives on.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import anyio
import msgspec

from geartrain.engine.ends import Asker
from geartrain.engine.signal import Bell
from geartrain.engine.tap import Tap
from geartrain.errors import GeartrainError, WireError
from geartrain.ports.parking import Alarm, call_later
from geartrain.ports.plane_words import PlaneWords
from geartrain.ports.transport import Link
from geartrain.ports.turns import Wait
from geartrain.rules import frames
from geartrain.rules.frames import Control, Data, WhoAreYou
from geartrain.rules.meeting import End, Saying
from geartrain.rules.session import Loss, Poison, Reader, Writer

T = TypeVar("T")

# How soon an end whose link is lost looks for its peer again.
_KNOCK_S = 0.05

# How long a reader that waits keeps to itself that it is done with what it had, unless somebody needs to know.
_SOON_S = 0.002

_log = logging.getLogger("geartrain.remote")


class Wire(Generic[T]):
    """The carrier of one end."""

    def __init__(self, session: End, link: Link) -> None:
        self.session = session
        self.writer: Wait | None = None
        self.writer_waits = False
        self.asker: Asker | None = None
        self.reader_asks = False
        self._link = link
        self._changed = Bell()
        self.closed = False
        self._next_tick: Alarm | None = None

    def __str__(self) -> str:
        return self.session.me.label

    def begin_asking(self, asker: Asker | None) -> None:
        self.reader_asks = True
        self.asker = asker

    def stop_asking(self) -> None:
        self.reader_asks = False
        self.asker = None

    # -- the link

    async def feed(self) -> None:
        """Feed the session with what comes, until the link will never bring anything any more."""
        try:
            await self._link.run(self.hear)
        except GeartrainError as error:
            self.session.fail(error)
            self.look_again()

    def tick(self) -> None:
        """Feed the session with time, now and whenever it wants to."""
        self.session.tick(time.monotonic_ns())
        self.speak()
        self.look_again()
        now_ns = time.monotonic_ns()
        self._tick_in((self.session.next_tick_ns(now_ns) - now_ns) / 1e9)

    def _tick_in(self, seconds: float) -> None:
        if self.closed:
            return
        if self._next_tick is not None:
            self._next_tick.cancel()
        self._next_tick = call_later(seconds, self.tick)

    def speak(self) -> None:
        """Hand over what the session wants to say. What the link does not take, the session says again later."""
        session = self.session
        if not session.said:
            return
        for saying in session.words():
            if not self._link.send(saying.peer, saying.frame) and saying.peer == session.peer:
                session.lose_link()
                session.said.clear()
                self._tick_in(_KNOCK_S)
        session.spoke(time.monotonic_ns())

    def look_again(self) -> None:
        """Something may have changed: everybody who waits here looks."""
        if self.writer is not None:
            self.writer.wake()
        if self.asker is not None:
            self.asker.wake()
        self._changed.ring()

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Return when it holds, or when this end has failed."""
        while not holds() and self.session.failure is None:
            await self._changed.wait()

    def hear(self, peer: bytes, frame: bytes | memoryview) -> None:
        session = self.session
        if session.failure is not None:
            # Whoever had to be told has been told. An end that fails stays failed, and answers no flood.
            return
        known = peer == session.peer
        try:
            if not (known and session.connected and self._hear_from_peer(frame)):
                word = self._word_in(frame) if len(frame) else None
                reachable = known or session.peer is None or self._link.reachable(session.peer)
                session.hear(peer, word, time.monotonic_ns(), present_is_reachable=reachable)
        except WireError as error:
            if known and session.connected:
                session.break_off(error)
            else:
                _log.debug("%s: a frame from a stranger was thrown away: %s", self, error)
        self.speak()
        self.look_again()

    def _word_in(self, frame: bytes | memoryview) -> Control | Data:
        try:
            return frames.decode(frame)
        except WireError as error:
            raise WireError(f"{self}: {error}") from error

    def _hear_from_peer(self, frame: bytes | memoryview) -> bool:
        """Understand what the session need not hear of. False: it is for the session."""
        return False

    @property
    def peer_is_there(self) -> bool:
        peer = self.session.peer
        return self.session.connected and peer is not None and self._link.reachable(peer)

    async def close(self) -> None:
        self.closed = True
        if self._next_tick is not None:
            self._next_tick.cancel()
        await self._link.aclose()


class WritingWire(Wire[T]):
    """The carrier of a writing end."""

    session: Writer

    def __init__(self, session: Writer, link: Link, set_aside: Callable[[Poison], None]) -> None:
        super().__init__(session, link)
        self.set_aside = set_aside
        self.progressed: Callable[[], None] | None = None

    def tap(self) -> Tap:
        """From now on the frames go through a tap, until it is taken out again."""
        tap = self._link = Tap(self._link)
        return tap

    def untap(self, tap: Tap) -> None:
        tap.is_open = False
        self._link = tap.link

    def look_again(self) -> None:
        while self.session.poison:
            self.set_aside(self.session.poison.popleft())
        if self.progressed is not None:
            self.progressed()
        super().look_again()


class ReadingWire(Wire[T]):
    """The carrier of a reading end: decodes items, a whole batch at once."""

    session: Reader

    def __init__(self, session: Reader, link: Link, item_type: Any) -> None:
        super().__init__(session, link)
        self._decoder: msgspec.msgpack.Decoder[list[Any]] = msgspec.msgpack.Decoder(list[item_type])
        self._to_item: Callable[[bytes | memoryview], Any] | None = {
            bytes: bytes, bytearray: bytearray, memoryview: memoryview
        }.get(item_type)  # fmt: skip
        self._announced: Data | None = None
        self._tells_soon = False
        self.mourns: Callable[[Loss], None] | None = None
        # What others judge by when something has come last.
        self.plane: PlaneWords | None = None
        self._mourned: tuple[Loss, ...] = ()

    def _hear_from_peer(self, frame: bytes | memoryview) -> bool:
        announced, self._announced = self._announced, None
        if announced is not None and self._is_payload(announced, frame):
            assert self._to_item is not None
            if self.session.wants(announced):
                self._arrived(announced, [self._to_item(frame)])
        elif frames.is_data(frame):
            data = self._word_in(frame)
            assert isinstance(data, Data)
            if data.flags & frames.PAYLOAD:
                self._expect(data)
            elif self.session.wants(data):
                self._arrived(data, self._items_of(data))
        else:
            return False
        self.session.heard(time.monotonic_ns())
        return True

    def _arrived(self, data: Data, items: list[Any]) -> None:
        expected = self.session.expects
        self.session.arrived(data, items)
        # What comes once more, to this reader or the one before it, says nothing of how its writer is.
        if self.plane is not None and items and self.session.expects > expected and not data.flags & frames.REPEATED:
            self.plane.tick()

    def _is_payload(self, announced: Data, frame: bytes | memoryview) -> bool:
        try:
            return frames.is_payload(announced, frame)
        except WireError as error:
            raise WireError(f"{self}: {error}") from error

    def look_again(self) -> None:
        if self.plane is not None and self.session.said_over and not self.plane.is_over:
            self.plane.end()
        losses = self.session.losses
        if losses is not self._mourned:
            known, self._mourned = self._mourned, losses
            for loss in losses:
                if self.mourns is not None and loss not in known:
                    self.mourns(loss)
        super().look_again()

    def begin_again(self) -> None:
        """As a new reader, over the same link."""
        old = self.session
        me = msgspec.structs.replace(old.me, incarnation=old.me.incarnation + 1)
        self.session = Reader(me, time.monotonic_ns())
        self._announced = None
        if old.peer is not None and me.binds:
            self.session.said.append(Saying(old.peer, frames.encode(WhoAreYou())))
            self.speak()
        self.tick()

    def _expect(self, data: Data) -> None:
        if self._to_item is None:
            raise WireError(f"{self}: writer announced bytes, reader expects {self.session.me.type_name}")
        self._announced = data

    def _items_of(self, data: Data) -> list[Any]:
        try:
            return frames.items_of(data, self._decoder)
        except WireError as error:
            other = self.session.other
            theirs = other.type_name if other is not None else "?"
            mine = self.session.me.type_name
            raise WireError(f"{self}: writer sends {theirs}, reader expects {mine}: {error}") from error

    def begin_asking(self, asker: Asker | None) -> None:
        super().begin_asking(asker)
        self.ask()

    def ask(self) -> None:
        """The owner wants the next item, and may be about to sleep."""
        self.session.ask()
        self.session.flow()
        self.speak()
        if self.session.keeps_to_itself:
            self.tell_soon()

    def tell_soon(self) -> None:
        """A writer that waits hears of every free place, also when its reader is elsewhere."""
        if not self._tells_soon:
            self._tells_soon = True
            call_later(_SOON_S, self._tell)

    def _tell(self) -> None:
        self._tells_soon = False
        if not self.closed:
            # What is taken after this is told the same way: the owner comes by again.
            self.session.hold()
            self.session.flow(at_once=True)
            self.speak()


@asynccontextmanager
async def running(wire: Wire[Any]) -> AsyncIterator[None]:
    """The tasks of a wire, for as long as its end is open. An error of the body comes out as it is."""
    body_error: BaseException | None = None
    # Who is cancelled still says goodbye, and hears the answer: the feeding ends with the end, not before.
    feeding = anyio.CancelScope(shield=True)

    async def feed() -> None:
        with feeding:
            await wire.feed()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed)
            wire.tick()
            try:
                yield
            except Exception as error:
                body_error = error
            finally:
                feeding.cancel()
                tasks.cancel_scope.cancel()
    finally:
        await wire.close()
    if body_error is not None:
        raise body_error
