"""A channel between two daemons of one process of a pipeline: the plain one, and what a pipeline asks of it besides.

    writer's daemon  --->  [ x y z ]  --->  reader's daemon        nothing is encoded, nothing is copied
                     <---  stable                                  only where the wiring needs it

Both ends die together with their process, so nothing is kept for that. A daemon alone may be made anew: what it had in
hand comes again then, marked as a repeat, and what it died of too often is set aside. Where items come of what another
process still keeps, the ends take part in custody (`rules/custody.py`) as those over links do.

Numbers are those of the items in this life of the process: `gone` is the number of the last that left the buffer.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from geartrain.engine.channel import Pipe, Receiver, Sender
from geartrain.engine.ends import BUDGET, ChannelStats
from geartrain.engine.options import new_number
from geartrain.engine.tap import Tap
from geartrain.ports.parking import here
from geartrain.ports.plane_words import PlaneWords
from geartrain.ports.tally import Tally
from geartrain.ports.transport import Hear
from geartrain.rules import frames
from geartrain.rules.counts import EndCounts
from geartrain.rules.custody import NOTHING_TO_LOSE
from geartrain.rules.pipeline import Ack, Keep, Mark, Policy
from geartrain.rules.session import Poison

T = TypeVar("T")

# Stands for an item that is not there any more, where its number is still needed.
_VOID: Final[Any] = object()


class Shelf(Pipe[T]):
    """What both ends share. It is careful only while somebody must know of each item."""

    __slots__ = (
        "aside",
        "asked",
        "careful",
        "deaths",
        "epoch",
        "gaps",
        "hand",
        "hand_repeated",
        "held",
        "is_kept",
        "keep",
        "keeps",
        "looks",
        "max_deliveries",
        "notes",
        "plane",
        "progressed",
        "redelivered",
        "released",
        "repeated",
        "repeats",
        "set_aside",
        "tally",
        "telling",
        "tells_taken",
        "took",
        "voids",
    )

    sender: "InsideSend[T]"
    receiver: "InsideReceive[T]"

    def __init__(
        self,
        name: str,
        maxsize: int,
        *,
        policy: Policy,
        ack: Ack,
        keep: Keep,
        takes_part: bool,
        epoch: int,
        max_deliveries: int | None = None,
        aside: Callable[[Poison], None] | None = None,
    ) -> None:
        super().__init__(maxsize, policy, ack, name)
        self.sender = InsideSend(self)
        self.receiver = InsideReceive(self, ack, takes_part=takes_part)
        self.keep = keep
        self.epoch = epoch
        self.max_deliveries = max_deliveries
        self.aside = aside
        self.tally: Tally | None = None
        # What others judge by when something has come last.
        self.plane: PlaneWords | None = None
        self.telling = False
        # Whether somebody must know of the next item that is sent.
        self.notes = False
        # What left the buffer without being taken: dropped, or set aside.
        self.voids = 0
        # So many stand in the buffer for what was set aside.
        self.gaps = 0
        self.redelivered = 0
        self.set_aside = 0
        # The last that the reader asked past, and how many have died of those that it had in hand then.
        self.asked = 0
        self.deaths: dict[int, int] = {}
        # The item in hand; and, where more than one may be, all that were taken and are not stable.
        self.hand: T = _VOID
        self.hand_repeated = False
        self.held: deque[T] = deque()
        self.keeps = ack == "manual"
        self.is_kept = False
        self.tells_taken = takes_part and keep == "taken"
        # The numbers of the items that are repeats, and whether the next to be sent is one. Only while there are some,
        # or somebody waits for what is taken, each item is looked at.
        self.repeated: deque[int] = deque()
        self.repeats = False
        self.looks = self.tells_taken
        self.careful = self.keeps or self.looks
        self.took: Callable[[Mark], None] | None = None
        self.released: Callable[[Mark], None] | None = None
        self.progressed: Callable[[], None] | None = None

    @property
    def gone(self) -> int:
        return self.taken + self.voids

    @property
    def accepted(self) -> int:
        return self.gone + len(self.buffer)

    @property
    def stable(self) -> int:
        if self.policy != "block" or self.keep == "taken":
            return self.gone
        return self.asked_past if self.keeps else max(self.asked_past, self.gone - 1, 0)

    @property
    def settled(self) -> bool:
        return self.receive_closed or (not self.buffer and self.stable == self.gone)

    # -- the reader's side

    def take(self) -> T:
        if self.careful:
            return self._take_with_care()
        item = self.hand = self.buffer.popleft()
        self.taken += 1
        if self.writer is not None:
            self.writer.wake()
        return item

    def _take_with_care(self) -> T:
        if self.looks:
            self._ask_by_taking()
        item = self.hand = self.buffer.popleft()
        self.taken += 1
        if self.keeps:
            self.held.append(item)
        if self.looks:
            self._note_repeat()
        if self.writer is not None:
            self.writer.wake()
        return item

    def _ask_by_taking(self) -> None:
        """Who takes the next item asks past the last, also where nobody had to wait."""
        if self.asked < self.gone:
            self.ask_past()

    def _note_repeat(self) -> None:
        repeat = bool(self.repeated) and self.repeated[0] == self.gone
        if repeat:
            self.repeated.popleft()
            self.redelivered += 1
        self.hand_repeated = repeat
        if self.took is not None:
            self.took(self.mark)
        self._pass_voids()
        self.looks = self.tells_taken or repeat or self.gaps > 0 or bool(self.repeated)
        self.careful = self.keeps or self.looks
        if self.tells_taken and self.progressed is not None:
            self.progressed()

    @property
    def mark(self) -> Mark:
        return Mark(self.epoch, self.gone, self.hand_repeated)

    def _pass_voids(self) -> None:
        """Nobody takes what is not there."""
        while self.buffer and self.buffer[0] is _VOID:
            self.held.append(self.buffer.popleft())
            self.voids += 1
            self.gaps -= 1

    def ask_past(self) -> None:
        gone = self.asked = self.taken + self.voids
        if self.ack == "manual":
            return
        if self.is_kept or self.hand_repeated:
            self.release(Mark(self.epoch, gone))
        else:
            self.done_with(gone)

    def release(self, upto: Mark) -> None:
        """The reader will never need again what is up to here; who keeps it for what came of it may."""
        if self.released is not None and (self.is_kept or self.hand_repeated or self.ack == "manual"):
            self.released(upto)
        if not self.is_kept:
            self.done_with(upto.sequence)

    def done_with(self, number: int) -> None:
        if self.keeps:
            for _ in range(min(number - self.asked_past, len(self.held))):
                self.held.popleft()
        super().done_with(number)
        if self.progressed is not None:
            self.progressed()

    def keep_all(self) -> None:
        """From now on an item is held until it is done with."""
        if not self.keeps:
            self.asked_past = self.stable
            if self.gone > self.asked_past:
                self.held.append(self.hand)
            self.keeps = self.careful = True

    def drop(self) -> bool:
        """Throw away what waits longest."""
        if not self.buffer:
            return False
        self.keep_all()
        self.buffer.popleft()
        self.held.append(_VOID)
        self.voids += 1
        self.dropped += 1
        for waiting in (self.writer, self.drainer):
            if waiting is not None:
                waiting.wake()
        return True

    def begin_again(self, ack: Ack) -> None:
        """For another reader: what the last one had not finished comes again, marked as a repeat."""
        self._blame()
        self.keep_all()
        back = () if self.policy != "block" or self.keep == "taken" else tuple(self.held)
        first = self.gone - len(back) + 1
        real = [number for number, item in enumerate(back, first) if item is not _VOID]
        self.gaps += len(back) - len(real)
        self.voids -= len(back) - len(real)
        self.taken -= len(real)
        self.repeated.extendleft(reversed(real))
        self.buffer.extendleft(reversed(back))
        self.held.clear()
        self.asked = self.asked_past = self.gone
        self.hand = _VOID
        self.hand_repeated = self.is_kept = False
        self.took = self.released = None
        self.ack = ack
        # Where something is void its number must be passed like the others.
        self.keeps = ack == "manual" or self.gaps > 0
        self.looks = self.tells_taken or self.gaps > 0 or bool(self.repeated)
        self.careful = self.keeps or self.looks
        self._pass_voids()

    def _blame(self) -> None:
        """Whoever died had the item in hand that it took last, unless it was waiting for the next."""
        number = self.gone
        if self.max_deliveries is None or self.asked >= number or self.policy != "block":
            return
        deaths = self.deaths.get(number, 0) + 1
        self.deaths = {other: count for other, count in self.deaths.items() if other > self.stable} | {number: deaths}
        if deaths < self.max_deliveries:
            return
        self.keep_all()
        if self.aside is not None:
            self.aside(Poison(self.epoch, number, deaths, _as_bytes(self.hand), encoded=True))
        self.held.pop()
        self.held.append(_VOID)
        self.taken -= 1
        self.voids += 1
        self.set_aside += 1

    # -- the writer's side

    def make_room(self) -> bool:
        self.voids += 1
        return super().make_room()

    def note_sent(self, item: T) -> None:
        """An item has just been sent, of which somebody must know."""
        if self.tells and not self.telling:
            self.telling = True
            here().put_off(self._tell)
        if self.repeats:
            self.repeated.append(self.accepted)
            self.looks = self.careful = True
        tap = self.sender.tapped
        if tap is not None:
            flags = frames.REPEATED if self.repeats else 0
            tap.send(b"", frames.single(_as_bytes(item), flags=flags, epoch=self.epoch, number=self.accepted))
        self.look_again()

    def look_again(self) -> None:
        """Whether somebody must know of the next."""
        self.notes = self.repeats or self.sender.tapped is not None or (self.tells and not self.telling)

    @property
    def tells(self) -> bool:
        """Whether somebody outside hears of what is sent."""
        return self.tally is not None or self.plane is not None

    def tell_plane(self, plane: PlaneWords) -> None:
        """From now on this is told of whatever is sent, and of the end."""
        self.plane = plane
        self.look_again()

    def close(self) -> None:
        if self.plane is not None:
            self.plane.end()
        super().close()

    def count_in(self, tally: Tally) -> None:
        """From now on what is accepted is counted where it outlives this process."""
        self.tally = tally
        self.epoch = tally.epoch
        self.look_again()

    def _tell(self) -> None:
        """How many there were is written before the loop sleeps, not for each of them."""
        self.telling = False
        if self.tally is not None:
            self.tally.word[0] = self.accepted
        if self.plane is not None:
            self.plane.tick()
        self.look_again()

    def counts(self, *, sends: bool, incarnation: int) -> EndCounts:
        known = self.statistics()
        return EndCounts(
            channel=self.name,
            sends=sends,
            incarnation=incarnation,
            epoch=self.epoch,
            accepted=known.accepted,
            taken=known.taken,
            stable=known.stable,
            dropped=known.dropped if sends else 0,
            redelivered=0 if sends else known.redelivered,
            set_aside=known.set_aside,
            lives=self.tally.lives if self.tally is not None and sends else (),
        )

    @property
    def pulse(self) -> tuple[int, ...]:
        return (self.taken, self.voids, len(self.buffer), self.asked_past, self.writer_waits, self.reader_asks,
                self.send_closed, self.receive_closed)  # fmt: skip

    def statistics(self) -> ChannelStats:
        return ChannelStats(
            current_buffer_used=len(self.buffer),
            max_buffer_size=self.maxsize,
            open_send_streams=int(not self.send_closed),
            open_receive_streams=int(not self.receive_closed),
            waiters_send=int(self.writer_waits),
            waiters_receive=int(self.reader_asks),
            accepted=self.accepted,
            taken=self.taken,
            stable=max(0, self.stable - self.voids),
            dropped=self.dropped,
            redelivered=self.redelivered,
            set_aside=self.set_aside,
        )


class InsideSend(Sender[T]):
    """The writing end."""

    __slots__ = ("_incarnation", "_shelf", "tapped")

    def __init__(self, shelf: Shelf[T]) -> None:
        super().__init__(shelf)
        self._shelf = shelf
        self._incarnation = new_number()
        self.tapped: Tap | None = None

    async def send(self, item: T) -> None:
        shelf = self._shelf
        if not self._steps or len(shelf.buffer) >= shelf.limit or shelf.writer_waits:
            await self.wait_room()
        self._steps -= 1
        if len(shelf.buffer) < shelf.limit or shelf.make_room():
            shelf.buffer.append(item)
            if shelf.notes:
                shelf.note_sent(item)
            if shelf.asker is not None:
                shelf.asker.wake()

    def send_nowait(self, item: T) -> None:
        sent = self._shelf.accepted
        super().send_nowait(item)
        if self._shelf.notes and self._shelf.accepted > sent:
            self._shelf.note_sent(item)

    @property
    def accepted(self) -> int:
        return self._shelf.accepted

    @property
    def safe(self) -> int:
        """Up to here nothing can be lost any more."""
        shelf = self._shelf
        return NOTHING_TO_LOSE if shelf.policy != "block" or shelf.receive_closed else shelf.stable

    def mark_repeats(self, repeats: bool) -> None:
        """From now on what is sent comes of repeated items, and is marked as such; or not any more."""
        if self._shelf.repeats != repeats:
            self._shelf.repeats = repeats
            self._shelf.look_again()

    def watch(self, progressed: Callable[[], None]) -> None:
        """Call this whenever `safe` may have grown."""
        self._shelf.progressed = progressed

    def tap(self) -> Tap:
        """Look at what is sent from now on; `untap` ends it."""
        self.tapped = Tap(_Nowhere())
        self._shelf.look_again()
        return self.tapped

    def untap(self, tap: Tap) -> None:
        tap.is_open = False
        self.tapped = None
        self._shelf.look_again()

    @property
    def pulse(self) -> tuple[int, ...]:
        """Where nothing of this has changed, nothing of its statistics has."""
        return self._shelf.pulse

    def counts(self) -> EndCounts:
        return self._shelf.counts(sends=True, incarnation=self._incarnation)


class InsideReceive(Receiver[T]):
    """The reading end."""

    __slots__ = ("_ack", "_incarnation", "_shelf", "_takes_part")

    def __init__(self, shelf: Shelf[T], ack: Ack, *, takes_part: bool) -> None:
        super().__init__(shelf)
        self._shelf = shelf
        self._ack: Ack = ack
        self._takes_part = takes_part
        self._incarnation = new_number()

    def discard_oldest(self) -> bool:
        return self._shelf.drop()

    def tell_plane(self, plane: PlaneWords) -> None:
        """From now on this is told of whatever comes, and of the end."""
        self._shelf.tell_plane(plane)

    @property
    def mark(self) -> Mark:
        return self._shelf.mark

    def done(self, mark: Mark) -> None:
        self._check_done(mark)
        if mark.epoch == self._shelf.epoch:
            self._shelf.release(mark)

    def ack_manually(self) -> None:
        self._shelf.keep_all()
        self._shelf.ack = "manual"

    @property
    def is_manual(self) -> bool:
        return self._shelf.ack == "manual"

    def keep_with(
        self, took: Callable[[Mark], None], released: Callable[[Mark], None], *, if_needed: bool = False
    ) -> None:
        """From now on somebody else is told what is in hand; and decides when it is stable, unless nothing needs it."""
        shelf = self._shelf
        shelf.took, shelf.released = took, released
        if self._takes_part or not if_needed:
            shelf.keep_all()
            shelf.is_kept = True

    def settle(self, upto: Mark, *, at_once: bool) -> None:
        if self._shelf.is_kept and upto.epoch == self._shelf.epoch:
            self._shelf.done_with(upto.sequence)

    def begin_again(self) -> None:
        """For another owner: what the last one had not finished comes again, marked as a repeat."""
        self._shelf.begin_again(self._ack)
        self._steps = BUDGET

    async def aclose(self) -> None:
        shelf = self._shelf
        if not shelf.receive_closed:
            shelf.receive_closed = True
            shelf.dropped += len(shelf.buffer)
            shelf.voids += len(shelf.buffer)
            shelf.buffer.clear()
            shelf.done_with(shelf.gone)
            shelf.close()

    def which_in_hand(self) -> int:
        """The number of the item that was taken last and is not done with, or 0."""
        shelf = self._shelf
        return 0 if shelf.reader_asks or shelf.receive_closed else shelf.gone

    @property
    def pulse(self) -> tuple[int, ...]:
        """Where nothing of this has changed, nothing of its statistics has."""
        return self._shelf.pulse

    def counts(self) -> EndCounts:
        return self._shelf.counts(sends=False, incarnation=self._incarnation)


class _Nowhere:
    """What stands for the link where there is none: what is sent there has been handed over already."""

    def send(self, peer: bytes, frame: bytes | bytearray | memoryview) -> bool:
        return True

    async def run(self, hear: Hear) -> NoReturn:
        raise AssertionError("nothing comes from nowhere")

    def reachable(self, peer: bytes) -> bool:
        return True

    async def aclose(self) -> None: ...


def _as_bytes(item: object) -> bytes:
    """An item that somebody wants to look at. What cannot be encoded is told in words."""
    try:
        return msgspec.msgpack.encode(item)
    except (TypeError, ValueError, RecursionError):
        return msgspec.msgpack.encode(repr(item))
