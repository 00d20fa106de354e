"""Who waits for leases, in the order they came, and who of them would wait for ever."""

from collections.abc import Iterator
from typing import TypeVar

from geartrain.rules.lease_index import Index, Place
from geartrain.rules.lease_words import Acquire, SetMode

# Who holds and waits: a session, and who in it.
Who = tuple[int, int]

K = TypeVar("K")


class Waiter:
    """One request that is not granted yet: for a lease, or for a lease in another mode."""

    __slots__ = ("ask", "due_ns", "places", "seq", "who")

    def __init__(self, seq: int, ask: Acquire | SetMode, who: Who, places: tuple[Place, ...], due_ns: int) -> None:
        self.seq = seq
        self.ask = ask
        self.who = who
        self.places = places
        self.due_ns = due_ns

    @property
    def raises(self) -> int:
        """The lease that is to be exclusive; 0 for a new one."""
        return self.ask.lease if isinstance(self.ask, SetMode) else 0

    @property
    def is_alone(self) -> bool:
        return isinstance(self.ask, Acquire) and self.ask.alone

    @property
    def is_reentrant(self) -> bool:
        return isinstance(self.ask, Acquire) and self.ask.reentrant

    @property
    def cls(self) -> str:
        return self.ask.cls if isinstance(self.ask, Acquire) else ""


class Queue:
    """All that wait, the first first; found by what they want, and by who they are."""

    def __init__(self) -> None:
        self.waiters: dict[int, Waiter] = {}
        self.index = Index()
        self.alone: dict[int, None] = {}
        self._last = 0
        self._by_request: dict[tuple[int, int], Waiter] = {}
        self._by_who: dict[Who, dict[int, Waiter]] = {}
        self._by_session: dict[int, dict[int, Waiter]] = {}
        self._by_class: dict[str, dict[int, Waiter]] = {}
        self._raising: dict[int, Waiter] = {}

    def __len__(self) -> int:
        return len(self.waiters)

    @property
    def next_seq(self) -> int:
        return self._last + 1

    def add(self, waiter: Waiter) -> None:
        self._last = waiter.seq
        self.waiters[waiter.seq] = waiter
        self.index.add(waiter.seq, waiter.places)
        self._by_request[waiter.ask.session, waiter.ask.n] = waiter
        self._by_who.setdefault(waiter.who, {})[waiter.seq] = waiter
        self._by_session.setdefault(waiter.ask.session, {})[waiter.seq] = waiter
        if waiter.is_alone:
            self.alone[waiter.seq] = None
        if waiter.cls:
            self._by_class.setdefault(waiter.cls, {})[waiter.seq] = waiter
        if waiter.raises:
            self._raising[waiter.raises] = waiter

    def remove(self, waiter: Waiter) -> None:
        del self.waiters[waiter.seq]
        self.index.remove(waiter.seq, waiter.places)
        del self._by_request[waiter.ask.session, waiter.ask.n]
        _drop(self._by_who, waiter.who, waiter.seq)
        _drop(self._by_session, waiter.ask.session, waiter.seq)
        self.alone.pop(waiter.seq, None)
        if waiter.cls:
            _drop(self._by_class, waiter.cls, waiter.seq)
        self._raising.pop(waiter.raises, None)

    def of_request(self, session: int, n: int) -> Waiter | None:
        return self._by_request.get((session, n))

    def of_session(self, session: int) -> list[Waiter]:
        return list(self._by_session.get(session, {}).values())

    def of(self, who: Who) -> list[Waiter]:
        return list(self._by_who.get(who, {}).values())

    def raising(self, lease: int) -> Waiter | None:
        return self._raising.get(lease)

    def first_of_class(self, cls: str, most: int) -> list[int]:
        """The first that wait for a place in this class."""
        return [seq for seq, _ in zip(self._by_class.get(cls, ()), range(most), strict=False)]

    def earlier(self, waiter: Waiter) -> Iterator[tuple[Waiter, Place]]:
        """Those that have come before it and are in its way, and with what."""
        for seq, place in self.index.in_the_way(waiter.places):
            if seq < waiter.seq:
                yield self.waiters[seq], place
        for seq in self.waiters if waiter.is_alone else self.alone:
            if seq >= waiter.seq:
                return
            other = self.waiters[seq]
            yield other, other.places[0]


def _drop(groups: dict[K, dict[int, Waiter]], group: K, seq: int) -> None:
    del groups[group][seq]
    if not groups[group]:
        del groups[group]
