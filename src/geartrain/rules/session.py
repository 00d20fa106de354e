"""What is sent, what must be sent again, and what is never needed again: the two ends of a channel, without any I/O.

    Writer                                            Reader
    append, accept   number 1, 2, 3 ...
    flush            Data(first, items) ------------> arrived       new, repeated, or a gap
                                                      take          hands over in order
    Flow             <------ taken, stable, granted   ask           the one in hand is stable
    forget what is stable

Numbers are counted from 1 in each life (epoch) of the writer; closing takes a number like an item. What flows back is
absolute. A batch is kept until it is stable, and sent again from where a reader says it is: a reader that was away
goes on where it was, a new one begins after what is stable, with everything that was ever sent marked as repeated.

The owner of an end may move `free` items without asking: up to there nothing is to be decided. It counts `free` down
itself, one by one, which is all that a message costs here.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from geartrain.errors import ChannelClosed, GeartrainError, WireError
from geartrain.rules import frames
from geartrain.rules.frames import (
    ABORTED,
    LAST,
    REPEATED,
    SKIPPED,
    Again,
    Beat,
    Bye,
    Control,
    Data,
    Done,
    Flow,
    Hello,
    Life,
)
from geartrain.rules.meeting import End, Saying, Self
from geartrain.rules.pipeline import Mark

LOSSY = ("latest", "drop_oldest", "drop_newest")

# How many deaths of its writer a reader remembers.
_LOSSES_MOST = 1000

# A batch is sent when it holds half the window, or this many bytes, or when the loop would go idle.
BATCH_BYTES = 64 * 1024


class Batch(Struct):
    """A sealed data frame, kept until it is stable, and the message that follows it if its item is large."""

    first: int
    last: int
    frame: bytearray
    payload: bytes | memoryview | None = None

    @property
    def size(self) -> int:
        return len(self.frame) + (0 if self.payload is None else len(self.payload))


class Poison(Struct, frozen=True):
    """An item that was set aside: reader after reader died with it in hand."""

    epoch: int
    number: int
    deaths: int
    item: bytes | memoryview
    encoded: bool


class Writer(End):
    """The writing end: numbers items, keeps them until they are stable, and sends again what was missed."""

    writes = True

    def __init__(
        self,
        me: Self,
        now_ns: int,
        *,
        max_bytes: int,
        retain: int,
        max_deliveries: int | None = None,
        lives: tuple[Life, ...] = (),
    ) -> None:
        super().__init__(me, now_ns)
        self.taken = 0
        self.stable = 0
        self.granted = me.settings.maxsize
        self.limit = min(me.settings.maxsize, retain)
        self.free = 0
        self.dropped = 0
        self.set_aside = 0
        self.closing = False
        self.reader_done = False
        self.discards = False
        self.repeats = False
        self.max_bytes = max_bytes
        self.batch = frames.new_batch()
        self.size = len(self.batch)
        self.poison: deque[Poison] = deque()
        self.upto = 0
        self._half = max(1, me.settings.maxsize // 2)
        self._overflow: deque[bytes] = deque()
        self._first_open = 1
        self._kept: deque[Batch] = deque()
        self._kept_bytes = 0
        self._sent = 0
        self._ever_sent = 0
        self._met: int | None = None
        self._sent_again = 0
        self._retain = retain
        self._trial = Trial(max_deliveries)
        self._lives = lives

    def hello(self) -> Hello:
        return Hello(
            protocol=frames.PROTOCOL,
            writes=True,
            incarnation=self.me.incarnation,
            epoch=self.me.epoch,
            issued=self.me.issued,
            type_name=self.me.type_name,
            settings=self.me.settings,
            stable=self.stable,
            lives=self._lives,
        )

    # -- the owner's side

    @property
    def alone(self) -> bool:
        return self.reader_done

    @property
    def lives(self) -> tuple[Life, ...]:
        """Earlier lives, the oldest first."""
        return self._lives

    @property
    def accepted(self) -> int:
        return self.upto - self.free

    def has_room(self) -> bool:
        """Whether an item may be accepted now; raises what a send must raise."""
        if self.failure is not None:
            raise self.failure
        if self.closing:
            raise ChannelClosed(f"the writing end of {self._named()} was closed here; nothing can be sent any more")
        if self.reader_done and not self.discards:
            raise ChannelClosed(f"the reader of {self._named()} has closed; nothing can be sent any more")
        return self.accepted < self.limit

    def fail(self, error: GeartrainError) -> None:
        super().fail(error)
        self._set_limit()

    @property
    def why_full(self) -> str:
        """What keeps the writer from sending, in words."""
        if self.accepted < self.granted and self.accepted - self.stable >= self._retain:
            return f"waits for stable: {self.accepted - self.stable} items are not done with"
        if self.me.settings.maxsize == 0 and self.accepted == self.taken:
            return "is a rendezvous, and nobody waits in receive()"
        return f"is full: {self.accepted - self.taken} items wait to be received"

    @property
    def offered(self) -> int:
        """How many items the owner has sent, whatever became of them."""
        return self.accepted - self.closing + self.dropped + len(self._overflow)

    def accept(self) -> None:
        """The item that was just appended to `batch` gets its number."""
        if self.free:
            self.free -= 1
        else:
            self.upto += 1
        self.size = len(self.batch)

    def undo(self) -> None:
        """What was appended to `batch` since the last item is not an item."""
        del self.batch[self.size :]

    def accept_payload(self, item: bytes | memoryview) -> None:
        """A large item gets its number, and will be a message of its own behind an announcement."""
        self.hold()
        self._seal(0)
        self.upto += 1
        self.batch += frames.encode_size(len(item))
        self._seal(frames.PAYLOAD, item)

    @property
    def ripe(self) -> bool:
        """The batch is worth a frame."""
        return self.accepted - self._first_open + 1 >= self._half or self.size >= BATCH_BYTES

    def allow(self, most: int) -> int:
        """Let the owner accept up to `most` items without looking; the one that makes the batch ripe is not among."""
        accepted = self.accepted
        unripe = self._first_open + self._half - 2 - accepted
        self.free = max(0, min(most, self.limit - accepted, unripe))
        self.upto = accepted + self.free
        return self.free

    def hold(self) -> None:
        """Before the next item the owner must look."""
        self.upto -= self.free
        self.free = 0

    def mark_repeats(self, repeats: bool) -> None:
        """From now on the items come of repeated ones, and are marked as such; or not any more."""
        if repeats != self.repeats:
            self.hold()
            self._seal(0)
            self.repeats = repeats

    def overflow(self, item: bytes) -> None:
        """There is no room, and the policy is lossy: the encoded item waits for some, and the rest is dropped."""
        if self.discards:
            self.dropped += 1
            return
        self._overflow.append(item)
        if len(self._overflow) > max(1, self.me.settings.maxsize):
            self.dropped += 1
            if self.me.settings.policy == "drop_newest":
                self._overflow.pop()
            else:
                self._overflow.popleft()

    def flush(self) -> None:
        """Say everything that may be said."""
        self.hold()
        self._seal(0)
        self._send_kept()

    def close(self, *, aborted: bool = False) -> None:
        """Nothing comes after this. It is said like an item, and stable when the reader has heard it."""
        if self.closing:
            return
        self.hold()
        self._take_back(len(self._overflow))
        self._seal(0)
        self.closing = True
        self.upto += 1
        self._seal(LAST | (ABORTED if aborted else 0))
        self._send_kept()

    def lose_reader(self, *, discards: bool) -> None:
        """There will never be a reader any more, and none has said so. What is sent is refused, or discarded."""
        self.reader_done = True
        self.discards = discards
        self._set_limit()
        self._kept.clear()
        self._kept_bytes = 0

    @property
    def settled(self) -> bool:
        """Nothing is left that the reader might still need from us."""
        return (self.stable >= self.accepted and not self._overflow) or self.reader_done

    def _set_limit(self) -> None:
        """Up to which number an item is accepted."""
        self.limit = min(self.granted, self.stable + self._retain)
        if self.failure is not None or self.closing or self.reader_done or self._kept_bytes >= self.max_bytes:
            self.limit = 0
        if self.upto > self.limit:
            self.hold()

    def _take_back(self, most: int) -> None:
        """What has overflowed gets its numbers, in a batch of its own: none may be larger than the window."""
        self._seal(0)
        for _ in range(min(most, len(self._overflow))):
            self.batch += self._overflow.popleft()
            self.accept()
            if self.size >= BATCH_BYTES:
                self._seal(0)

    def _seal(self, flags: int, payload: bytes | memoryview | None = None) -> None:
        last = self.accepted
        count = last - self._first_open + 1
        if count == 0:
            return
        items = 0 if flags & LAST else count
        flags |= REPEATED if self.repeats and items else 0
        frames.seal(self.batch, flags=flags, epoch=self.me.epoch, first=self._first_open, count=items)
        batch = Batch(self._first_open, last, self.batch, payload)
        self._kept.append(batch)
        self._kept_bytes += batch.size
        self.batch = frames.new_batch()
        self.size = len(self.batch)
        self._first_open = last + 1
        self._set_limit()

    # -- the peer's side

    def _misfit(self, hello: Hello) -> str | None:
        misfit = super()._misfit(hello)
        if misfit is not None or hello.epoch != self.me.epoch or not hello.expects:
            return misfit
        if hello.expects > self._ever_sent + 1:
            return f"{self._named()}: its reader expects item {hello.expects} of {self._ever_sent}"
        return self._senseless(_flow_in(hello))

    def _meet(self, hello: Hello) -> None:
        if hello.incarnation != self._met:
            self._begin_anew(died=self._met is not None)
            self._met = hello.incarnation
        if hello.epoch == self.me.epoch and hello.expects:
            self._flow(_flow_in(hello))
            self._sent = hello.expects - 1
        else:
            self._sent = self.stable
        self._sent_again = 0
        self._go_on()

    def _begin_anew(self, *, died: bool) -> None:
        """Another reader, however much it knows: what was sent may have been in its predecessor's hand."""
        self.taken = self.stable
        self.granted = self.stable + self.me.settings.maxsize
        for batch in self._kept:
            if batch.first <= self._ever_sent:
                frames.mark_repeated(batch.frame)
        if died and self.me.settings.policy not in LOSSY:
            self._trial.reader_died(self.stable, self._ever_sent)
            self._single_out()
        self._set_limit()

    def _single_out(self) -> None:
        """What is on trial travels alone, and what has killed enough readers not at all."""
        kept = self._kept
        self._kept = deque()
        for batch in kept:
            self._kept.extend(self._ones_of(batch) if batch.first <= self._trial.upto else [batch])
        self._kept_bytes = sum(batch.size for batch in self._kept)

    def _ones_of(self, batch: Batch) -> list[Batch]:
        flags = frames.flags_of(batch.frame)
        if flags & (LAST | SKIPPED):
            return [batch]
        if batch.payload is not None:
            return [self._skipped(batch.first, batch.payload, encoded=False) or batch]
        return [
            self._skipped(number, item, encoded=True)
            or Batch(number, number, frames.single(item, flags=REPEATED, epoch=self.me.epoch, number=number))
            for number, item in enumerate(frames.split(batch.frame), batch.first)
            if number > self.stable
        ]

    def _skipped(self, number: int, item: bytes | memoryview, *, encoded: bool) -> Batch | None:
        """A place holder for an item that was set aside."""
        deaths = self._trial.found_guilty(number)
        if not deaths:
            return None
        self.set_aside += 1
        self.poison.append(Poison(self.me.epoch, number, deaths, item, encoded))
        return Batch(number, number, frames.single(b"", flags=SKIPPED, epoch=self.me.epoch, number=number))

    def _go_on(self) -> None:
        """There may be room now for what has overflowed."""
        if self._overflow and self.accepted < self.limit:
            self._take_back(self.limit - self.accepted)
            self._seal(0)
        self._send_kept()

    def _listen(self, word: Control | Data) -> None:
        match word:
            case Flow(epoch) if epoch == self.me.epoch:
                if senseless := self._senseless(word):
                    raise WireError(senseless)
                self._flow(word)
                self._go_on()
            case Again(epoch, expects) if epoch == self.me.epoch and self.stable < expects <= self._sent:
                self._send_again(expects)
            case Done():
                self.reader_done = True
                self._set_limit()
                self._say(Bye())
            case Bye():
                self.bye_heard = True
            case Flow() | Again() | Beat():
                return
            case _:
                raise WireError(f"{self._named()}: its reader said {_kind(word)}, which only a writer may say")

    def _send_again(self, expects: int) -> None:
        """The same only once until the next beat: a peer that does not read could make us hold any number of copies."""
        if expects > self._sent_again:
            self._sent_again = expects
            self._trial.asked = True
            self._sent = expects - 1
            self._send_kept()

    def _beat(self) -> Control:
        self._sent_again = 0
        return Beat(self._sent)

    def _senseless(self, flow: Flow) -> str | None:
        """What cannot be in what a reader says of itself."""
        if not flow.stable <= flow.taken <= self._ever_sent:
            said = f"to have taken {flow.taken} items and to be done with {flow.stable}"
            return f"{self._named()}: its reader claims {said}, of {self._ever_sent} that were sent"
        maxsize = self.me.settings.maxsize
        if flow.granted > flow.taken + max(1, maxsize):
            granted = flow.granted - flow.taken
            return f"{self._named()}: its reader grants {granted} items at once; maxsize is {maxsize}"
        return None

    def _flow(self, flow: Flow) -> None:
        if flow.taken > self.taken:
            self._is_idle = False
        # A late duplicate must not take back what a newer one gave.
        self.taken = max(self.taken, flow.taken)
        self.stable = max(self.stable, flow.stable)
        self.granted = max(self.granted, flow.granted)
        while self._kept and self._kept[0].last <= self.stable:
            self._kept_bytes -= self._kept.popleft().size
        self._trial.heard(asks=flow.asks and flow.taken >= self._sent, stable=self.stable)
        self._set_limit()

    def _send_kept(self) -> None:
        if not self.connected or self.peer is None or self._sent >= self.accepted:
            return
        for batch in self._kept:
            if batch.last <= self._sent:
                continue
            # A closing takes a number but no room.
            if batch.last > self.granted and not frames.flags_of(batch.frame) & LAST:
                break
            if not self._trial.may_go(batch):
                break
            self.said.append(Saying(self.peer, batch.frame))
            if batch.payload is not None:
                self.said.append(Saying(self.peer, batch.payload))
            self._sent = batch.last
        self._ever_sent = max(self._ever_sent, self._sent)


class Trial:
    """Which item kills its readers. After a death all that the reader may have had in hand is suspect, and goes alone.

    A suspect is sent only to a reader that says it is waiting, and nothing behind it before that reader waits again, so
    that a death names exactly one item. The first death counts for every suspect, later ones for the one that was out.
    """

    def __init__(self, most: int | None) -> None:
        self.asked = False
        self.upto = 0
        self._most = most
        self._out = 0
        self._deaths: dict[int, int] = {}

    def reader_died(self, stable: int, ever_sent: int) -> None:
        if self._most is None:
            return
        if self._out > stable:
            self._deaths[self._out] += 1
        for number in range(max(stable, self.upto) + 1, ever_sent + 1):
            self._deaths[number] = 1
        self.upto = max(self.upto, ever_sent)
        self._out = 0
        self.asked = False

    def found_guilty(self, number: int) -> int:
        """How many readers have died of it, if they are enough."""
        deaths = self._deaths.get(number, 0)
        return deaths if self._most is not None and deaths >= self._most else 0

    def heard(self, *, asks: bool, stable: int) -> None:
        """What the reader says of itself; who asks has nothing in hand."""
        if asks:
            self.asked = True
            self._out = 0
        if stable >= self.upto:
            self._deaths.clear()

    def may_go(self, batch: Batch) -> bool:
        flags = frames.flags_of(batch.frame)
        if batch.first > self.upto or flags & LAST:
            return not self._out
        if not self.asked:
            return False
        if not flags & SKIPPED:
            self.asked = False
            self._out = batch.first
        return True


class Loss(Struct, frozen=True):
    """A writer died. `lost` of the items it had accepted never came, or None where nobody has counted them."""

    epoch: int
    lost: int | None


class _Run:
    """Items that wait to be taken and have their numbers, their epoch and their mark in common: `next` and on."""

    __slots__ = ("epoch", "left", "next", "repeated")

    def __init__(self, epoch: int, first: int, count: int, repeated: bool) -> None:
        self.epoch = epoch
        self.next = first
        self.left = count
        self.repeated = repeated


class Reader(End):
    """The reading end: takes each item once, in order, and says what it has taken and will never need again."""

    writes = False

    def __init__(self, me: Self, now_ns: int) -> None:
        super().__init__(me, now_ns)
        self.epoch = 0
        self.expects = 0
        self.granted = 0
        self.items: deque[Any] = deque()
        self.free = 0
        self.dropped = 0
        self.redelivered = 0
        self.skipped = 0
        # The first life of the writer that was met, and what came in all before the present one.
        self.began = 0
        self._arrived_before = 0
        # Only the owner says what is done with; asking for more does not.
        self.manual = me.settings.ack == "manual"
        # Who else must be done with an item before it is stable: what came of it is on its way.
        self._keeper: Callable[[Mark], None] | None = None
        self.losses: tuple[Loss, ...] = ()
        self.done = False
        self._runs: deque[_Run] = deque()
        # The item in hand: its life, its number if all that is free had been taken, and whether it is a repeat.
        self._hand_epoch = 0
        self._upto = 0
        self._hand_repeated = False
        # Below these nothing is open, whatever the hand says: where a life begins, what was skipped, what was settled.
        self._passed = 0
        self._settled = 0
        self._empty: set[int] = set()
        self._tell_at = 0
        self._told: Flow | None = None
        self._asking = False
        self._ended = 0
        self._end_flags = 0
        # Whether the end is ours: nobody has said it.
        self._orphan = False
        self._asked_again = 0
        self._lossy = me.settings.policy in LOSSY

    def hello(self) -> Hello:
        return Hello(
            protocol=frames.PROTOCOL,
            writes=False,
            incarnation=self.me.incarnation,
            epoch=self.epoch,
            issued=self.me.issued,
            type_name=self.me.type_name,
            settings=self.me.settings,
            expects=self.expects,
            taken=self.taken,
            stable=self.stable,
            granted=self.granted,
        )

    def _misfit(self, hello: Hello) -> str | None:
        misfit = super()._misfit(hello)
        if misfit is None and hello.epoch == 0:
            return f"{self._named()}: its writer does not say which life it lives"
        return misfit

    # -- the owner's side

    @property
    def taken(self) -> int:
        if self._lossy:
            return max(0, self.expects - 1)
        if self._hand_epoch != self.epoch:
            return self._passed
        in_hand = self._upto - self.free
        return in_hand if in_hand > self._passed else self._passed

    @property
    def stable(self) -> int:
        settings = self.me.settings
        if self._lossy or settings.keep == "taken":
            return self.taken
        if self.manual or self._keeper is not None or self._hand_epoch != self.epoch:
            return self._settled
        return max(self._settled, self._upto - self.free - 1)

    @property
    def handed_over(self) -> int:
        """How many of the items that have come the owner has taken."""
        return max(0, self.arrived_items - len(self.items) - self.dropped)

    @property
    def arrived_items(self) -> int:
        """How many items have come, in all lives of the writer that were met."""
        return max(0, self._arrived_before + self._arrived_now - self.skipped)

    @property
    def settled_items(self) -> int:
        """How many of them will never be needed again. Nobody could send those of an earlier life once more."""
        return min(self._arrived_before + self.stable, self.arrived_items)

    @property
    def _arrived_now(self) -> int:
        return max(0, self.expects - 1 - (self.over and not self._orphan))

    @property
    def mark(self) -> Mark:
        """Which item the owner took last."""
        return Mark(self._hand_epoch, self._upto - self.free, self._hand_repeated)

    @property
    def over(self) -> bool:
        return self._ended != 0

    @property
    def said_over(self) -> bool:
        """Whether the writer has closed, and not just gone."""
        return self.over and not self._orphan and not self.aborted

    @property
    def alone(self) -> bool:
        return self.over

    @property
    def ended(self) -> bool:
        """The writer has closed, and everything before that was taken."""
        return self._ended != 0 and not self.items

    @property
    def aborted(self) -> bool:
        return bool(self._end_flags & ABORTED)

    def ask(self) -> None:
        """The owner wants the next item: the one it had in hand will never be needed again."""
        self._asking = True
        self.ask_past()
        if self.ended:
            self._passed = self._ended
            self.settle_upto(self._settled)

    def ask_past(self) -> None:
        """The owner looks for more: the one it had in hand will never be needed again."""
        self.hold()
        if not self.manual:
            self.release(Mark(self.epoch, self.taken))

    def take(self) -> Any:
        """The next item, which is now in the owner's hand."""
        if not self.free:
            self._free_some(1)
        self.free -= 1
        self._asking = False
        self.redelivered += self._hand_repeated
        return self.items.popleft()

    def allow(self, most: int) -> int:
        """Let the owner take up to `most` items without looking; the one after which to speak up is not among them."""
        # Never into the next batch: what is in hand keeps its mark.
        if self._hand_repeated or self._lossy or not self.items or not self._runs[0].left:
            return 0
        self._free_some(min(most, self._tell_at - self.taken - 1))
        return self.free

    def discard(self) -> None:
        """Throw the oldest away. What is in hand stays there, and stays what the mark is about."""
        self.hold()
        while not self._runs[0].left:
            self._runs.popleft()
        run = self._runs[0]
        if run.epoch == self.epoch:
            self._empty.add(run.next)
            self._passed = max(self._passed, run.next)
            self.settle_upto(self._settled)
        run.next += 1
        run.left -= 1
        self.items.popleft()
        self.dropped += 1

    def hold(self) -> None:
        """Before the next item the owner must look."""
        if self.free:
            run = self._runs[0]
            run.next -= self.free
            run.left += self.free
            self._upto -= self.free
            self.free = 0

    def _free_some(self, most: int) -> None:
        self.hold()
        while not self._runs[0].left:
            self._runs.popleft()
        run = self._runs[0]
        count = min(run.left, most)
        if count > 0:
            self._hand_epoch = run.epoch
            self._hand_repeated = run.repeated
            run.next += count
            run.left -= count
            self._upto = run.next - 1
            self.free = count

    def be_manual(self) -> None:
        """From now on the owner says with `release` what is done with."""
        self._stand()
        self.manual = True

    def keep_with(self, keeper: Callable[[Mark], None]) -> None:
        """From now on what is released is stable when the keeper says so, with `settle`."""
        self._stand()
        self._keeper = keeper

    def _stand(self) -> None:
        """What is stable by the rule so far stays stable by the next."""
        self.hold()
        self.settle_upto(self.stable)

    def release(self, mark: Mark) -> None:
        """The owner will never need again what is up to this mark."""
        (self._keeper or self.settle)(mark)

    def settle(self, mark: Mark) -> None:
        """Nobody will. A mark of another life of the writer says nothing of this one."""
        if mark.epoch == self.epoch:
            self.settle_upto(min(mark.sequence, self.taken))

    def settle_upto(self, number: int) -> None:
        """Up to here nothing will be needed again, nor what follows it without an item."""
        self._settled = max(self._settled, number)
        if self._empty:
            while self._settled + 1 in self._empty:
                self._settled += 1
                self._passed = max(self._passed, self._settled)
            self._empty = {number for number in self._empty if number > self._settled}

    def flow(self, *, at_once: bool = False) -> None:
        """Say how far we are: at once, or when it is worth a frame."""
        taken = self.taken
        if not self.connected or self.epoch == 0 or not (at_once or self._is_worth_a_frame(taken)):
            return
        now = self._flow()
        self._tell_at = 0 if self.me.settings.ack == "each" else taken + max(1, self.me.settings.maxsize // 2)
        if now != self._told:
            self._told = now
            self._say(now)

    @property
    def keeps_to_itself(self) -> bool:
        """The owner is further than the writer knows."""
        return self._told is None or self._told.stable != self.stable

    def _is_worth_a_frame(self, taken: int) -> bool:
        told, settings = self._told, self.me.settings
        if told is None or settings.ack == "each":
            return True
        if self._asking and not self.items:
            # A rendezvous waits for the owner to ask, and so does an item on trial, also the first one.
            return taken >= self._tell_at or settings.maxsize == 0 or self._hand_repeated or told.taken == taken
        # With nothing left to take the owner is about to ask, and more is known then; unless there is no credit left.
        return taken >= self._tell_at and (bool(self.items) or self.expects > told.granted)

    def _flow(self) -> Flow:
        # A rendezvous has room for the item that is asked for, and no other.
        taken = self.taken
        window = self.me.settings.maxsize or int(self._asking)
        self.granted = max(self.granted, taken + window)
        return Flow(self.epoch, taken, self.stable, self.granted, self._asking and not self.items)

    def _beat(self) -> Control:
        return self._flow() if self.epoch else Beat()

    def lose_writer(self, lives: tuple[Life, ...] = ()) -> None:
        """There will never be a writer any more, and none has said so: what has come is all there is."""
        if self.over:
            return
        self._orphan = True
        self._ended = max(1, self.expects)
        self._end_flags = LAST
        if lives:
            self._mourn(lives)

    def close(self) -> None:
        """The owner wants nothing more."""
        if self.done:
            return
        self.done = True
        self.hold()
        self.dropped += len(self.items)
        self.items.clear()
        self._runs.clear()
        self._say(Done())

    # -- the peer's side

    def wants(self, data: Data) -> bool:
        """Whether a data frame is worth decoding. What is beyond what was granted is not even looked at."""
        if data.epoch != self.epoch or self.done:
            return False
        self._check(data)
        return True

    def arrived(self, data: Data, items: list[Any]) -> None:
        """A frame that is wanted, decoded. What came before is dropped, what comes too early is asked for again."""
        takes_number_only = data.flags & (LAST | SKIPPED)
        count = _numbers_in(data)
        known = self.expects - data.first
        if known < 0:
            self._ask_again()
        elif known < count:
            self._is_idle = False
            self.expects = data.first + count
            if self._orphan:
                # It was still on its way when its writer was found dead.
                self._ended = self.expects
            if takes_number_only:
                self._pass(data)
            else:
                self._keep(data, items[known:] if known else items)

    def _check(self, data: Data) -> None:
        count = _numbers_in(data)
        if count == 0 or data.first == 0:
            raise WireError(f"{self._named()}: its writer sent a frame without items, or from number 0")
        if data.count and data.flags & (LAST | SKIPPED):
            raise WireError(f"{self._named()}: its writer sent items in a frame that may have none")
        if self._ended and data.first > self._ended and not self._orphan:
            raise WireError(f"{self._named()}: its writer sent item {data.first} after the end, {self._ended}")
        if data.first + count - 1 > self.granted and not data.flags & LAST:
            raise WireError(
                f"{self._named()}: its writer sent up to item {data.first + count - 1}, beyond {self.granted}, "
                "the last it was granted"
            )

    def _pass(self, data: Data) -> None:
        self._empty.add(data.first)
        if data.flags & LAST:
            self._ended = data.first
            self._end_flags = data.flags
            self._say(Bye())
        elif self.items or not self._asking:
            raise WireError(f"{self._named()}: its writer set item {data.first} aside, for which nobody had asked")
        else:
            # It is sent only to a reader that waits, so everything before it was taken.
            self.skipped += 1
            self._passed = data.first
            self.settle_upto(self._settled)
            self.flow(at_once=True)

    def _keep(self, data: Data, items: list[Any]) -> None:
        first = self.expects - len(items)
        self._runs.append(_Run(data.epoch, first, len(items), bool(data.flags & REPEATED)))
        self.items.extend(items)
        if self._lossy:
            self._let_go()
            self.flow()

    def _let_go(self) -> None:
        """A lossy reader keeps no more than it has room for."""
        self.hold()
        while len(self.items) > max(1, self.me.settings.maxsize):
            if self.me.settings.policy != "drop_newest":
                self.discard()
                continue
            self.dropped += 1
            self.items.pop()
            self._runs[-1].left -= 1
            if not self._runs[-1].left:
                self._runs.pop()

    def _meet(self, hello: Hello) -> None:
        if hello.epoch != self.epoch:
            self._begin_life(hello)
        self._told = None
        self._tell_at = 0
        self._asked_again = 0
        self.hold()
        if self.done:
            self._say(Done())
        else:
            self.flow(at_once=True)

    def _begin_life(self, hello: Hello) -> None:
        self._arrived_before += self._arrived_now
        self.began = self.began or hello.epoch
        if self.epoch:
            self._mourn(hello.lives)
        self.epoch = hello.epoch
        self.expects = hello.stable + 1
        self._passed = self._settled = hello.stable
        self.granted = 0
        self._ended = 0
        self._empty.clear()

    def _mourn(self, lives: tuple[Life, ...]) -> None:
        self.losses = (*self.losses, *self._lost(lives))[-_LOSSES_MOST:]

    def _lost(self, lives: tuple[Life, ...]) -> list[Loss]:
        """What died with the life we knew, and with those after it that we have never met."""
        arrived = self.expects - 1
        known = [
            Loss(life.epoch, life.accepted - arrived)
            for life in lives
            if life.epoch == self.epoch and life.accepted >= arrived
        ]
        unmet = [Loss(life.epoch, life.accepted) for life in lives if life.epoch > self.epoch]
        if self.epoch and (self._lossy or not known):
            return [Loss(self.epoch, None), *unmet]
        return [*known, *unmet]

    def _listen(self, word: Control | Data) -> None:
        match word:
            case Beat(sent):
                if sent >= self.expects > 0:
                    self._asked_again = 0
                    self._ask_again()
            case Bye():
                self.bye_heard = True
            case _:
                raise WireError(f"{self._named()}: its writer said {_kind(word)}, which only a reader may say")

    def _ask_again(self) -> None:
        if self._asked_again != self.expects:
            self._asked_again = self.expects
            self._say(Again(self.epoch, self.expects))


def _numbers_in(data: Data) -> int:
    """How many numbers a frame takes."""
    return 1 if data.flags & (LAST | SKIPPED) else data.count


def _flow_in(hello: Hello) -> Flow:
    return Flow(hello.epoch, hello.taken, hello.stable, hello.granted)


def _kind(word: Control | Data) -> str:
    return type(word).__name__
