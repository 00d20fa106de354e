"""Who the peer of a channel's end is: finding it, keeping it, telling it apart from others, and giving it up.

    connecting end                  bound end
    Hello      ------------------>  is there a peer already? silent? the same one, come back?
               <------------------  Hello, or Refused
    ...        <----------------->  anything, or a Beat when there was nothing to say for a while

Time is an argument: an end is fed with `hear` and `tick`, and leaves what it wants to say in `said`.
"""

from collections import deque
from collections.abc import Iterator

from msgspec import Struct

from geartrain.errors import GeartrainError, PeerLost, PeerRefused
from geartrain.rules import frames
from geartrain.rules.frames import Beat, Control, Data, Hello, Refused, Settings, WhoAreYou


class Self(Struct, frozen=True):
    """Who an end is, and how patient. An `issued` epoch comes from a supervisor, and beats an older one at once.

    The label is for messages: the channel and its address, in words.
    """

    label: str
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
    frame: bytes | bytearray | memoryview


# How often a connecting end that hears nothing says Hello again, and how often a stranger is told the same.
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
        self.bye_heard = False
        self.failure: GeartrainError | None = None
        self._opened_ns = now_ns
        self._heard_ns = now_ns
        self._said_ns = now_ns
        self._is_idle = False
        self._knocked_ns: int | None = None
        self._busy = ""
        self._told_ns = now_ns
        self._told_strangers: set[tuple[bytes, type[Control]]] = set()

    # -- to be filled in by the two ends

    @property
    def over(self) -> bool:
        """The peer has said its last: there is no place for anybody after it."""
        return False

    @property
    def alone(self) -> bool:
        """There is nobody at the other end any more, so there is nobody to wait for."""
        return False

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
                self._hear_hello(peer, word, now_ns)
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
        elif now_ns >= self._next_beat_ns:
            self._said_ns = now_ns
            self._is_idle = True
            self._say(self._beat())
        patience_ns = self.me.lost_after_ns
        if self.other is not None and patience_ns is not None and now_ns - self._heard_ns >= patience_ns:
            self.fail(PeerLost(f"{self._named()}: the {self._other_role} was silent for {patience_ns / 1e9:g} s"))

    def next_tick_ns(self, now_ns: int) -> int:
        """When `tick` has something to do again, if nothing happens before."""
        if self.failure is not None:
            return now_ns + self.me.heartbeat_ns
        due = [self._next_beat_ns if self.connected else now_ns + self.me.heartbeat_ns]
        if not self.connected and not self.me.binds:
            due.append((now_ns if self._knocked_ns is None else self._knocked_ns) + _KNOCK_NS)
        if self.other is None and self.me.connect_within_ns is not None:
            due.append(self._opened_ns + self.me.connect_within_ns)
        if self.other is not None and self.me.lost_after_ns is not None:
            due.append(self._heard_ns + self.me.lost_after_ns)
        return min(due)

    @property
    def _next_beat_ns(self) -> int:
        """Soon after work has stopped, then half as often: within the three heartbeats of silence that are allowed."""
        return self._said_ns + self.me.heartbeat_ns * (2 if self._is_idle else 1)

    def fail(self, error: GeartrainError) -> None:
        """This end is of no use any more, and this is why."""
        self.failure = error

    def break_off(self, error: GeartrainError) -> None:
        """The peer has said what it must not: it is told so, and this end is of no use any more."""
        self._say(Refused(str(error), final=True))
        self.fail(error)

    def heard(self, now_ns: int) -> None:
        """The peer has said something that was understood elsewhere."""
        self._heard_ns = now_ns

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
            self._tell_stranger(peer, WhoAreYou(), now_ns)
        elif self._may_take_over(word, now_ns, present_is_reachable):
            self._heard_ns = now_ns
            self._hear_hello(peer, word, now_ns)
        else:
            taken = "has ended" if self.over else f"has a live {self._other_role} already"
            self._tell_stranger(peer, Refused(f"{self._named()} {taken}", final=False), now_ns)

    def _tell_stranger(self, peer: bytes, word: Control, now_ns: int) -> None:
        """Who talks on and on is told the same only now and then: what it does not read, we would have to hold."""
        if now_ns - self._told_ns >= _KNOCK_NS:
            self._told_ns = now_ns
            self._told_strangers.clear()
        if (peer, type(word)) not in self._told_strangers:
            self._told_strangers.add((peer, type(word)))
            self.said.append(Saying(peer, frames.encode(word)))

    def _may_take_over(self, hello: Hello, now_ns: int, present_is_reachable: bool) -> bool:
        present = self.other
        if present is None or hello.incarnation == present.incarnation:
            return True
        if self.over:
            return False
        if not present_is_reachable:
            return True
        # Who was not told by a supervisor who it is, has no reason to believe that others were.
        if self.me.issued and hello.issued and hello.epoch > present.epoch:
            return True
        return now_ns - self._heard_ns >= 3 * self.me.heartbeat_ns

    def _hear_hello(self, peer: bytes, hello: Hello, now_ns: int) -> None:
        reason = self._misfit(hello)
        if reason is not None:
            self._tell_stranger(peer, Refused(reason, final=True), now_ns)
            # Somebody who comes beside the peer we have does not matter; but that may be itself, with other words.
            if self.other is None or peer == self.peer:
                self.fail(PeerRefused(reason))
            return
        self.peer = peer
        self.other = hello
        self.connected = True
        self._is_idle = False
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
        for name in ("channel", "maxsize", "max_bytes", "policy", "ack", "keep"):
            if getattr(mine, name) != getattr(theirs, name):
                return f"{self._named()}: {name} is {getattr(mine, name)!r} here and {getattr(theirs, name)!r} there"
        return None

    def _hear_refusal(self, reason: str, final: bool) -> None:
        if not reason.startswith(self._named()):
            reason = f"{self._named()} was refused by its {self._other_role}: {reason}"
        self._busy = reason
        if self.failure is not None:
            return
        if final:
            self.fail(PeerRefused(reason))
        elif self.other is not None:
            # The peer that we had met has somebody else now: we were away, and were replaced.
            self.fail(PeerRefused(f"{reason}: another {self._role} has taken the place of this one"))

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
    def _role(self) -> str:
        return "writer" if self.writes else "reader"

    @property
    def _other_role(self) -> str:
        return "reader" if self.writes else "writer"

    def _named(self) -> str:
        return self.me.label
