"""What goes over the two channels of a call port, and which replies still find somebody who waits.

    Caller     Request(life, number, item) ------>  Calls         one channel: block, done with when it is answered
               <------ Reply(life, number, item)                  the other: done with when it is taken

A call has a number of its own in the life of its client. Who withdraws a call forgets its number; a reply that comes
all the same is late, and so is every reply to a former life.
"""

from collections import deque
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from geartrain.rules.pipeline import ChannelSpec, Mark

Q = TypeVar("Q")
A = TypeVar("A")

# The end of a traceback says most, and an answer must fit into its channel.
TRACE_MOST = 16 * 1024
MESSAGE_MOST = 4 * 1024


class Failure(Struct, frozen=True, array_like=True):
    """How a server failed to answer: what was raised over there, and in which daemon."""

    kind: str
    message: str
    trace: str
    daemon: str


class Request(Struct, Generic[Q], frozen=True, array_like=True):
    """A call on its way to the server."""

    life: int
    number: int
    item: Q


class Reply(Struct, Generic[A], frozen=True, array_like=True):
    """What came of a call: an item, or else a failure."""

    life: int
    number: int
    item: A | None = None
    failure: Failure | None = None


class RequestHead(Struct, frozen=True, array_like=True):
    """What can be read of any request, whatever its item is."""

    life: int
    number: int


class CallStats(Struct, frozen=True):
    """What became of the calls of one client, since its port was opened. `late` replies found nobody who waited."""

    calls: int
    answered: int
    failed: int
    withdrawn: int
    late: int


class Book:
    """The calls of one client: those that wait for a reply, and those whose reply nobody wants any more."""

    def __init__(self, life: int, most: int) -> None:
        self.life = life
        self.most = most
        self._number = 0
        self._waiting: set[int] = set()
        self._withdrawn: set[int] = set()
        self._calls = self._answered = self._failed = self._left = self._late = 0

    @property
    def has_room(self) -> bool:
        """A call that was withdrawn holds its place until the server is done with it: it still has the work."""
        return len(self._waiting) + len(self._withdrawn) < self.most

    def next_request(self, item: Q) -> Request[Q]:
        """The request of the next call. Until `begin` nothing has happened."""
        return Request(self.life, self._number + 1, item)

    def begin(self) -> None:
        """The request is on its way."""
        self._number += 1
        self._calls += 1
        self._waiting.add(self._number)

    def withdraw(self, number: int) -> None:
        """Nobody waits for this reply any more. After an answer it changes nothing."""
        if number in self._waiting:
            self._waiting.remove(number)
            self._withdrawn.add(number)
            self._left += 1

    def expects(self, life: int, number: int, *, failed: bool) -> bool:
        """A reply has come: whether somebody waits for it."""
        if life != self.life or number not in self._waiting:
            self._late += 1
            if life == self.life:
                self._withdrawn.discard(number)
            return False
        self._waiting.remove(number)
        self._answered += not failed
        self._failed += failed
        return True

    def begin_life(self) -> None:
        """The client is made anew: what its former life asked for concerns nobody."""
        self.life += 1
        self._left += len(self._waiting)
        self._waiting.clear()
        self._withdrawn.clear()

    def stats(self) -> CallStats:
        return CallStats(self._calls, self._answered, self._failed, self._left, self._late)


class Answered:
    """Up to which request everything is answered. They may be answered in any order, and are done with in theirs."""

    def __init__(self) -> None:
        self._taken: deque[Mark] = deque()
        self._done: set[Mark] = set()

    def took(self, mark: Mark) -> None:
        self._taken.append(mark)

    def answered(self, mark: Mark) -> Mark | None:
        """The mark up to which all is answered now, if that is further than before."""
        self._done.add(mark)
        upto = None
        while self._taken and self._taken[0] in self._done:
            upto = self._taken.popleft()
            self._done.remove(upto)
        return upto

    def forget(self) -> None:
        """Another begins: what was taken and not done with comes again."""
        self._taken.clear()
        self._done.clear()


def halves(channel: ChannelSpec) -> tuple[ChannelSpec, ChannelSpec]:
    """The two channels that an entry between call ports stands for: of the requests, and of the replies.

    A request is stable when it is answered, so that it comes again to the next server when this one dies. A reply is
    stable when it is taken, so that the two are no cycle that waits for itself. (ADR 17)
    """
    requests = msgspec.structs.replace(channel, ack="manual")
    return requests, channel.back("replies")
