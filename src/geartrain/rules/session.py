"""Who may send what, what must be sent again, and who is the peer: the two ends of a channel, without any I/O.

    Writer                                            Reader
    append, accept   number 1, 2, 3 ...
    flush            Data(first, items) ------------> arrived       new, repeated, or a gap
                                                      take          hands over in order
    Flow             <------ taken, stable, granted   ask           the one in hand is stable
    forget what is stable

Numbers are counted from 1 in each life (epoch) of the writer; closing takes a number like an item. What flows back is
absolute. A batch is kept until it is stable, and sent again from where a reader says it is: a reader that was away
goes on where it was, a new one begins after what is stable, with everything that was ever sent marked as repeated.

Both ends are fed with `hear` and `tick`, and leave what they want to say in `said`; time is an argument.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from geartrain.errors import ChannelClosed, GeartrainError, PeerLost, PeerRefused
from geartrain.rules import frames
from geartrain.rules.frames import (
    ABORTED,
    LAST,
    REPEATED,
    Again,
    Beat,
    Bye,
    Control,
    Data,
    Done,
    Flow,
    Hello,
    Refused,
    Settings,
    WhoAreYou,
)
from geartrain.rules.pipeline import Mark

LOSSY = ("latest", "drop_oldest", "drop_newest")


class Self(Struct, frozen=True):
    """Who an end is, and how patient. An `issued` epoch comes from a supervisor, and beats an older one at once."""

    settings: Settings
    type_name: str
    incarnation: int
    epoch: int
    issued: bool = False
    binds: bool = False
    heartbeat_ns: int = 5_000_000_000
    lost_after_ns: int | None = 30_000_000_000
    connect_within_ns: int | None = None


class Saying(Struct, frozen=True):
    """A frame to be sent to a peer. The connecting side knows one peer only, the empty one."""

    peer: bytes
    frame: bytes | bytearray


# How often a connecting end that hears nothing says Hello again.
_KNOCK_NS = 100_000_000


class End:
    """What writer and reader have in common: finding the peer, keeping it, telling it apart from others."""

    writes: bool

    def __init__(self, me: Self, now_ns: int) -> None:
        self.me = me
        self.said: deque[Saying] = deque()
        self.peer: bytes | None = None if me.binds else b""
        self.other: Hello | None = None
        self.connected = False
        self.failure: GeartrainError | None = None
        self._opened_ns = now_ns
        self._heard_ns = now_ns
        self._said_ns = now_ns
        self._knocked_ns: int | None = None
        self._busy = ""

    # -- to be filled in by the two ends

    def hello(self) -> Hello:
        raise AssertionError("an end says who it is")

    def _meet(self, hello: Hello) -> None:
        """The peer is who we want: agree on where to go on."""

    def _listen(self, word: Control | Data) -> None:
        """Something from the peer that only this end understands."""

    def _beat(self) -> Control:
        """What is said when there was nothing to say for a while: it also heals what was lost."""
        return Beat()

    # -- what comes in

    def hear(self, peer: bytes, word: Control | Data | None, now_ns: int, *, present_is_reachable: bool = True) -> None:
        """A frame has come (None: a transport's empty one). `present_is_reachable` is about the peer we have."""
        if peer != self.peer:
            self._hear_stranger(peer, word, now_ns, present_is_reachable)
            return
        self._heard_ns = now_ns
        match word:
            case Hello():
                self._hear_hello(peer, word)
            case WhoAreYou():
                self.connected = False
                self._say(self.hello())
            case Refused(reason, final):
                self._hear_refusal(reason, final)
            case _ if not self.connected:
                self._say(WhoAreYou() if self.me.binds else self.hello())
            case None | Beat():
                self._listen(word or Beat())
            case _:
                self._listen(word)

    def tick(self, now_ns: int) -> None:
        """Time has passed: knock, beat, or give up."""
        if self.failure is not None:
            return
        if not self.connected:
            self._knock(now_ns)
        elif now_ns - self._said_ns >= self.me.heartbeat_ns:
            self._said_ns = now_ns
            self._say(self._beat())
        patience_ns = self.me.lost_after_ns
        if self.other is not None and patience_ns is not None and now_ns - self._heard_ns >= patience_ns:
            self.fail(PeerLost(f"{self._named()}: the {self._other_role} was silent for {patience_ns / 1e9:g} s"))

    def next_tick_ns(self, now_ns: int) -> int:
        """When `tick` has something to do again, if nothing happens before."""
        if not self.connected and not self.me.binds:
            return (now_ns if self._knocked_ns is None else self._knocked_ns) + _KNOCK_NS
        return min(self._said_ns + self.me.heartbeat_ns, now_ns + self.me.heartbeat_ns)

    def fail(self, error: GeartrainError) -> None:
        """This end is of no use any more, and this is why."""
        self.failure = error

    def lose_link(self) -> None:
        """The transport says that nobody is at the other end now."""
        self.connected = False

    def words(self) -> Iterator[Saying]:
        """Take what is to be sent."""
        while self.said:
            yield self.said.popleft()

    def spoke(self, now_ns: int) -> None:
        """Something was sent: there is no need for a beat."""
        self._said_ns = now_ns

    # -- finding the peer

    def _hear_stranger(self, peer: bytes, word: Control | Data | None, now_ns: int, present_is_reachable: bool) -> None:
        if not isinstance(word, Hello):
            self.said.append(Saying(peer, frames.encode(WhoAreYou())))
        elif self._may_take_over(word, now_ns, present_is_reachable):
            self._heard_ns = now_ns
            self._hear_hello(peer, word)
        else:
            busy = Refused(f"{self._named()} has a live {self._other_role} already", final=False)
            self.said.append(Saying(peer, frames.encode(busy)))

    def _may_take_over(self, hello: Hello, now_ns: int, present_is_reachable: bool) -> bool:
        present = self.other
        if present is None or hello.incarnation == present.incarnation or not present_is_reachable:
            return True
        if hello.issued and hello.epoch > present.epoch:
            return True
        return now_ns - self._heard_ns >= 3 * self.me.heartbeat_ns

    def _hear_hello(self, peer: bytes, hello: Hello) -> None:
        reason = self._misfit(hello)
        if reason is not None:
            self.said.append(Saying(peer, frames.encode(Refused(reason, final=True))))
            if self.other is None:
                self.fail(PeerRefused(reason))
            return
        self.peer = peer
        self.other = hello
        self.connected = True
        if self.me.binds:
            self._say(self.hello())
        self._meet(hello)

    def _misfit(self, hello: Hello) -> str | None:
        mine, theirs = self.me.settings, hello.settings
        if hello.protocol != frames.PROTOCOL:
            return f"{self._named()} speaks protocol {frames.PROTOCOL}, its peer speaks {hello.protocol}"
        if hello.writes == self.writes:
            return f"{self._named()}: both ends are {'writers' if self.writes else 'readers'}"
        if mine.shape != theirs.shape:
            writer, reader = (self.me.type_name, hello.type_name)[:: 1 if self.writes else -1]
            return f"{self._named()}: writer sends {writer}, reader expects {reader}"
        for name in ("channel", "maxsize", "policy", "ack", "keep"):
            if getattr(mine, name) != getattr(theirs, name):
                return f"{self._named()}: {name} is {getattr(mine, name)!r} here and {getattr(theirs, name)!r} there"
        return None

    def _hear_refusal(self, reason: str, final: bool) -> None:
        self._busy = reason
        if final and self.failure is None:
            self.fail(PeerRefused(reason))

    def _knock(self, now_ns: int) -> None:
        within_ns = self.me.connect_within_ns
        if self.other is None and within_ns is not None and now_ns - self._opened_ns >= within_ns:
            if self._busy:
                self.fail(PeerRefused(self._busy))
            else:
                self.fail(PeerLost(f"{self._named()}: no {self._other_role} came within {within_ns / 1e9:g} s"))
        elif not self.me.binds and (self._knocked_ns is None or now_ns - self._knocked_ns >= _KNOCK_NS):
            self._knocked_ns = now_ns
            self._say(self.hello())

    def _say(self, word: Control) -> None:
        if self.peer is not None:
            self.said.append(Saying(self.peer, frames.encode(word)))

    @property
    def _other_role(self) -> str:
        return "reader" if self.writes else "writer"

    def _named(self) -> str:
        return f"channel {self.me.settings.channel!r}" if self.me.settings.channel else "a channel without a name"


class Batch(Struct):
    """A sealed data frame, kept until it is stable."""

    first: int
    last: int
    frame: bytearray


class Writer(End):
    """The writing end: numbers items, keeps them until they are stable, and sends again what was missed."""

    writes = True

    def __init__(
        self, me: Self, now_ns: int, *, max_bytes: int, retain: int, accepted_before: int | None = None
    ) -> None:
        super().__init__(me, now_ns)
        self.accepted = 0
        self.taken = 0
        self.stable = 0
        self.granted = me.settings.maxsize
        self.limit = min(me.settings.maxsize, retain)
        self.dropped = 0
        self.closing = False
        self.reader_done = False
        self.max_bytes = max_bytes
        self.batch = frames.new_batch()
        self._aside: deque[bytes] = deque()
        self._first_open = 1
        self._kept: deque[Batch] = deque()
        self._kept_bytes = 0
        self._sent = 0
        self._ever_sent = 0
        self._met: int | None = None
        self._retain = retain
        self._accepted_before = accepted_before

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
            accepted_before=self._accepted_before,
        )

    # -- the owner's side

    def has_room(self) -> bool:
        """Whether an item may be accepted now; raises what a send must raise."""
        if self.failure is not None:
            raise self.failure
        if self.closing:
            raise ChannelClosed(f"the writing end of {self._named()} was closed here")
        if self.reader_done:
            raise ChannelClosed(f"the reader of {self._named()} has closed; nothing can be sent any more")
        return self.accepted < self.limit

    def fail(self, error: GeartrainError) -> None:
        super().fail(error)
        self._set_limit()

    def _set_limit(self) -> None:
        """Up to which number an item is accepted at once: the one thing a send looks at."""
        self.limit = min(self.granted, self.stable + self._retain)
        if self.failure is not None or self.closing or self.reader_done or self._kept_bytes >= self.max_bytes:
            self.limit = 0

    @property
    def waits_for(self) -> str:
        """What keeps the writer from sending, in words."""
        if self.accepted < self.granted and self.accepted - self.stable >= self._retain:
            return "waits for stable"
        return "waits for room"

    def accept(self) -> int:
        """The item that was just appended to `batch` gets its number. How many the batch holds now."""
        self.accepted += 1
        return self.accepted - self._first_open + 1

    def set_aside(self, item: bytes) -> None:
        """There is no room, and the policy is lossy: the encoded item waits for some, and the rest is dropped."""
        self._aside.append(item)
        if len(self._aside) > max(1, self.me.settings.maxsize):
            self.dropped += 1
            if self.me.settings.policy == "drop_newest":
                self._aside.pop()
            else:
                self._aside.popleft()

    def _take_back(self, most: int) -> None:
        """What was set aside gets its numbers, in a batch of its own: none may be larger than the window."""
        self._seal(0)
        for _ in range(min(most, len(self._aside))):
            self.batch += self._aside.popleft()
            self.accepted += 1

    def flush(self) -> None:
        """Say everything that may be said."""
        self._seal(0)
        self._send_kept()

    def close(self, *, aborted: bool = False) -> None:
        """Nothing comes after this. It is said like an item, and stable when the reader has heard it."""
        if self.closing:
            return
        self._take_back(len(self._aside))
        self._seal(0)
        self.closing = True
        self.accepted += 1
        self._seal(LAST | (ABORTED if aborted else 0))
        self._set_limit()
        self._send_kept()

    @property
    def settled(self) -> bool:
        """Nothing is left that the reader might still need from us."""
        return (self.stable >= self.accepted and not self._aside) or self.reader_done

    # -- the peer's side

    def _meet(self, hello: Hello) -> None:
        if hello.incarnation != self._met:
            self._met = hello.incarnation
            self._begin_anew()
        if hello.epoch == self.me.epoch and hello.expects:
            self._flow(hello.taken, hello.stable, hello.granted)
            self._sent = hello.expects - 1
        else:
            self._sent = self.stable
        self._go_on()

    def _go_on(self) -> None:
        """There may be room now for what was set aside."""
        if self._aside and self.accepted < self.limit:
            self._take_back(self.limit - self.accepted)
            self._seal(0)
        self._send_kept()

    def _begin_anew(self) -> None:
        """Another reader, however much it knows: what was sent may have been in its predecessor's hand."""
        self.taken = self.stable
        self.granted = self.stable + self.me.settings.maxsize
        for batch in self._kept:
            if batch.first <= self._ever_sent:
                frames.mark_repeated(batch.frame)
        self._set_limit()

    def _listen(self, word: Control | Data) -> None:
        match word:
            case Flow(epoch, taken, stable, granted) if epoch == self.me.epoch:
                self._flow(taken, stable, granted)
                self._go_on()
            case Again(epoch, expects) if epoch == self.me.epoch and expects > self.stable:
                self._sent = min(self._sent, expects - 1)
                self._send_kept()
            case Done():
                self.reader_done = True
                self._set_limit()
                self._say(Bye())
            case _:
                return

    def _beat(self) -> Control:
        return Beat(self._sent)

    def _flow(self, taken: int, stable: int, granted: int) -> None:
        # A late duplicate must not take back what a newer one gave.
        self.taken = max(self.taken, taken)
        self.stable = max(self.stable, stable)
        self.granted = max(self.granted, granted)
        while self._kept and self._kept[0].last <= self.stable:
            self._kept_bytes -= len(self._kept.popleft().frame)
        self._set_limit()

    def _seal(self, flags: int) -> None:
        count = self.accepted - self._first_open + 1
        if count == 0:
            return
        items = 0 if flags & LAST else count
        frames.seal(self.batch, flags=flags, epoch=self.me.epoch, first=self._first_open, count=items)
        self._kept.append(Batch(self._first_open, self.accepted, self.batch))
        self._kept_bytes += len(self.batch)
        self.batch = frames.new_batch()
        self._first_open = self.accepted + 1
        self._set_limit()

    def _send_kept(self) -> None:
        if not self.connected or self.peer is None or self._sent >= self.accepted:
            return
        for batch in self._kept:
            if batch.last <= self._sent:
                continue
            # A closing takes a number but no room.
            if batch.last > self.granted and not batch.frame[1] & LAST:
                break
            self.said.append(Saying(self.peer, batch.frame))
            self._sent = batch.last
        self._ever_sent = max(self._ever_sent, self._sent)


class Loss(Struct, frozen=True):
    """A writer died. `lost` of the items it had accepted never came, or None where nobody has counted them."""

    epoch: int
    lost: int | None


class _Run:
    """Items of one batch that wait to be taken."""

    __slots__ = ("epoch", "first", "items", "next", "repeated")

    def __init__(self, epoch: int, first: int, items: list[Any], repeated: bool) -> None:
        self.epoch = epoch
        self.first = first
        self.items = items
        self.repeated = repeated
        self.next = 0


class Reader(End):
    """The reading end: takes each item once, in order, and says what it has taken and will never need again."""

    writes = False

    def __init__(self, me: Self, now_ns: int) -> None:
        super().__init__(me, now_ns)
        self.epoch = 0
        self.expects = 0
        self.taken = 0
        self.stable = 0
        self.granted = 0
        self.dropped = 0
        self.redelivered = 0
        self._hand: tuple[int, int, bool] = (0, 0, False)
        self._tell_at = 0
        self.losses: tuple[Loss, ...] = ()
        self.done = False
        self.bye_heard = False
        self.waiting = 0
        self._asking = False
        self._ended = 0
        self._end_flags = 0
        self._runs: deque[_Run] = deque()
        self._told: Flow | None = None
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

    # -- the owner's side

    @property
    def has_item(self) -> bool:
        return self.waiting > 0

    @property
    def mark(self) -> Mark:
        """Which item the owner took last."""
        return Mark(*self._hand)

    @property
    def ended(self) -> bool:
        """The writer has closed, and everything before that was taken."""
        return self._ended != 0 and not self.waiting

    @property
    def aborted(self) -> bool:
        return bool(self._end_flags & ABORTED)

    def ask(self) -> None:
        """The owner wants the next item: the one it had in hand will never be needed again."""
        if self.me.settings.ack != "manual":
            self.stable = self.taken
        self._asking = True
        self._grant()
        if self.ended:
            self.taken = self.stable = self._ended

    def take(self) -> Any:
        """The next item, which is now in the owner's hand."""
        run = self._runs[0]
        item = run.items[run.next]
        number = run.first + run.next
        run.next += 1
        if run.next == len(run.items):
            self._runs.popleft()
        self.waiting -= 1
        self._hand = (run.epoch, number, run.repeated)
        if run.repeated:
            # It may be what killed its last reader: the writer should know exactly which it was.
            self.redelivered += 1
            self._tell_at = 0
        if run.epoch == self.epoch and not self._lossy:
            self.taken = number
            if self.me.settings.keep == "taken":
                self.stable = number
            self._asking = False
            self._grant()
        return item

    def _grant(self) -> None:
        """Up to where the writer may go. A rendezvous has room for the item that is asked for, and no other."""
        self.granted = max(self.granted, self.taken + (self.me.settings.maxsize or self._asking))

    def settle(self, mark: Mark) -> None:
        """With `ack="manual"`: everything up to this mark will never be needed again."""
        if mark.epoch == self.epoch:
            self.stable = max(self.stable, min(mark.sequence, self.taken))

    def flow(self, *, at_once: bool) -> None:
        """Say how far we are: at once, or when it is worth a frame."""
        if self.taken < self._tell_at and not at_once:
            return
        now = self._flow()
        if not self.connected or now == self._told or self.epoch == 0:
            return
        self._told = now
        self._tell_at = 0 if self.me.settings.ack == "each" else self.taken + max(1, self.me.settings.maxsize // 2)
        self._say(now)

    def _flow(self) -> Flow:
        return Flow(self.epoch, self.taken, self.stable, self.granted)

    def _beat(self) -> Control:
        return self._flow() if self.epoch else Beat()

    def close(self) -> None:
        """The owner wants nothing more."""
        if self.done:
            return
        self.done = True
        self._runs.clear()
        self.dropped += self.waiting
        self.waiting = 0
        self._say(Done())

    # -- the peer's side

    def arrived(self, data: Data, items: list[Any]) -> None:
        """A data frame of the peer, decoded. What came before is dropped, what comes too early is asked for again."""
        if data.epoch != self.epoch or self.done:
            return
        count = max(len(items), 1)
        if data.first > self.expects:
            self._ask_again()
            return
        if data.first + count <= self.expects:
            return
        known = self.expects - data.first
        self.expects = data.first + count
        if data.flags & LAST:
            self._ended = data.first
            self._end_flags = data.flags
            return
        self._runs.append(
            _Run(data.epoch, self.expects - len(items) + known, items[known:], bool(data.flags & REPEATED))
        )
        self.waiting += len(items) - known
        if self._lossy:
            self._let_go()
            self.flow(at_once=False)

    def _let_go(self) -> None:
        """A lossy reader takes what comes, and keeps no more than it has room for."""
        self.taken = self.stable = self.expects - 1
        most = max(1, self.me.settings.maxsize)
        self.granted = self.taken + most
        while self.waiting > most:
            self.dropped += 1
            self.waiting -= 1
            if self.me.settings.policy == "drop_newest":
                self._runs[-1].items.pop()
                if self._runs[-1].next == len(self._runs[-1].items):
                    self._runs.pop()
            else:
                run = self._runs[0]
                run.next += 1
                if run.next == len(run.items):
                    self._runs.popleft()

    def _meet(self, hello: Hello) -> None:
        if hello.epoch != self.epoch:
            if self.epoch:
                lost = None if hello.accepted_before is None else hello.accepted_before - (self.expects - 1)
                self.losses = (*self.losses, Loss(self.epoch, lost))
            self.epoch = hello.epoch
            self.expects = hello.stable + 1
            self.taken = self.stable = hello.stable
            self.granted = 0
            self._grant()
            self._ended = 0
        self._told = None
        self._tell_at = 0
        self._asked_again = 0
        if self.done:
            self._say(Done())
        else:
            self.flow(at_once=True)

    def _listen(self, word: Control | Data) -> None:
        match word:
            case Beat(sent) if sent >= self.expects > 0:
                self._asked_again = 0
                self._ask_again()
            case Bye():
                self.bye_heard = True
            case _:
                return

    def _ask_again(self) -> None:
        if self._asked_again != self.expects:
            self._asked_again = self.expects
            self._say(Again(self.epoch, self.expects))
