"""The ends between daemons and the clock of their pipeline: one port stands for a pair of channels.

    a daemon    await deadlines.schedule_after(0.5, name="retry")         Deadlines
                async for fired in deadlines: ...
                async for change in planes: ...                           Planes
    the clock   async for asked in client.asks; client.tells              ClockClient

An end has no task of its own. What the clock tells is taken when the daemon looks: that is early enough, for who does
not look sees no deadline either. A new life of the clock says hello, and is told all that is pending as soon as there
is room.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from geartrain.engine.channel import open_channel
from geartrain.engine.ends import Asker, Channel, ChannelStats, ReceiveStream, SendStream
from geartrain.engine.signal import Lock
from geartrain.errors import (
    BadType,
    BadValue,
    ChannelClosed,
    ChannelInUse,
    PeerLost,
    PeerRefused,
    WireError,
    WouldBlock,
)
from geartrain.ports.clock import Clock, WallClock
from geartrain.ports.turns import Owner
from geartrain.rules.appointments import (
    MISSED,
    Appointment,
    Asked,
    DeadlineStats,
    Diary,
    Fired,
    Hello,
    Missed,
    PlaneChange,
    Rang,
    Told,
)
from geartrain.rules.checks import number, one_of, whole
from geartrain.rules.deadlines import ns_rounded_up
from geartrain.rules.deadlock import Waiting
from geartrain.rules.pipeline import MAXSIZE, Mark

T = TypeVar("T")

# Nobody makes an appointment for later than this, and a sum of it is still a time.
_LATEST_S = 1e9
# Of a moment: what fits into a message, and the clock takes. In 292 years.
_LATEST_NS = (1 << 63) - 1

_GONE = (ChannelClosed, PeerLost, PeerRefused, WireError)

_wall = WallClock()


class _ClockEnd(ReceiveStream[T]):
    """What a daemon holds of the pair: it asks by one channel, and is told by the other."""

    __slots__ = ("_asks", "_clock", "_diary", "_door", "_name", "_next", "_owes", "_told")

    wants_planes = False

    def __init__(
        self,
        asks: SendStream[Asked],
        told: ReceiveStream[Told],
        *,
        name: str = "",
        clock: Clock | None = None,
        life: int = 0,
    ) -> None:
        self._asks = asks
        self._told = told
        self._name = name
        self._clock = clock or _wall
        self._diary = Diary(life)
        self._door = Lock()
        # What was taken for the daemon, and it has not got yet.
        self._next: T | None = None
        # Whether the clock waits to hear what is pending.
        self._owes = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self}>"

    def __str__(self) -> str:
        return f"channel {self._name!r}" if self._name else "the channels of a clock"

    # -- what the daemon is told

    def _meant(self, told: Rang | PlaneChange) -> T | None:
        """What the daemon gets of a word of the clock."""
        raise NotImplementedError

    def _hear(self, told: Told) -> None:
        if isinstance(told, Hello):
            self._owes = True
            self._pay()
        else:
            self._next = self._meant(told)

    def has_item(self) -> bool:
        while self._next is None:
            if not self._told.has_item():
                return False
            self._hear(self._told.receive_nowait())
        return True

    async def wait_item(self) -> None:
        self._pay()
        while not self.has_item():
            await self._told.wait_item()

    async def receive(self) -> T:
        if self._next is None:
            # Here, and not in `has_item`, the loop goes round now and then.
            self._pay()
            self._hear(await self._told.receive())
            await self.wait_item()
        return self._taken()

    def receive_nowait(self) -> T:
        if not self.has_item():
            raise WouldBlock(f"{self} has nothing to tell now")
        return self._taken()

    def _taken(self) -> T:
        item, self._next = self._next, None
        assert item is not None
        return item

    def discard_oldest(self) -> bool:
        there = self.has_item()
        self._next = None
        return there

    @property
    def mark(self) -> Mark:
        return self._told.mark

    def done(self, mark: Mark) -> None:
        """What the clock tells is done with when it is taken: this changes nothing."""

    def ack_manually(self) -> None:
        """It is never otherwise."""

    def ask(self, asker: Asker) -> None:
        self._told.ask(asker)

    def withdraw(self) -> None:
        self._told.withdraw()

    def waiting_for(self, owner: Owner) -> Waiting:
        return self._told.waiting_for(owner)

    def statistics(self) -> ChannelStats:
        return self._told.statistics()

    # -- what the clock is asked

    async def _ask(self, word: Callable[[], Asked]) -> None:
        """Say a word that is true when there is room for it. To a clock that is gone for good nothing is said."""
        async with self._door:
            try:
                await self._asks.wait_room()
                while self._owes:
                    self._pay()
                    await self._asks.wait_room()
            except _GONE:
                word()
                return
            self._asks.send_nowait(word())

    def _pay(self) -> None:
        """Tell a clock that knows nothing what is pending, if there is room; else it says hello again."""
        if not self._owes:
            return
        try:
            self._asks.send_nowait(self._diary.begin(wants_planes=self.wants_planes))
        except (WouldBlock, ChannelInUse):
            return
        except _GONE:
            pass
        self._owes = False

    # -- its life

    def begin_again(self) -> None:
        """For another owner: what the last one has asked for concerns nobody."""
        self._diary.begin_life()
        self._next = None
        self._owes = True
        self._pay()

    async def aclose(self) -> None:
        """Nothing more is wanted: what is pending is forgotten."""
        await self._asks.aclose()
        await self._told.aclose()


class Deadlines(_ClockEnd[Fired]):
    """Deadlines of one daemon, kept by the clock of the pipeline: a stream of those that have come.

    Each is handed over once, also when the clock dies and is started again; then it may be late, and says so. What a
    former life of the daemon had scheduled never comes. When the clock is stopped the stream ends, and what is
    scheduled after that never comes either.
    """

    __slots__ = ()

    async def schedule_at(self, due_ns: int, name: str = "") -> Appointment:
        """At a moment of the daemon's clock (`ctx.clock.now_ns()`); one that is past comes at once, late.

        Cancelled, nothing is scheduled.
        """
        whole("schedule_at() due_ns", due_ns, least=0)
        if due_ns > _LATEST_NS:
            raise BadValue(f"schedule_at() due_ns must be below 2**63, which is in 292 years, got {due_ns!r}")
        _check_name(name)
        return await self._schedule(lambda: self._diary.once(due_ns, name))

    async def schedule_after(self, delay_s: float, name: str = "") -> Appointment:
        """In so many seconds from now. Cancelled, nothing is scheduled."""
        due_ns = self._clock.now_ns() + _ns("schedule_after() delay_s", delay_s)
        _check_name(name)
        return await self._schedule(lambda: self._diary.once(due_ns, name))

    async def schedule_every(self, period_s: float, name: str = "", missed: Missed = "skip") -> Appointment:
        """On the absolute grid now + period, now + 2 periods ... until it is cancelled.

        What had passed before it could be told is counted in `missed`, or with "burst" comes one after another.
        """
        one_of("schedule_every() missed", missed, MISSED)
        _check_name(name)
        period_ns = max(1, _ns("schedule_every() period_s", period_s, least=1e-9))
        now_ns = self._clock.now_ns()
        return await self._schedule(lambda: self._diary.periodic(now_ns, period_ns, name, missed))

    async def _schedule(self, make: Callable[[], Appointment]) -> Appointment:
        made: list[Appointment] = []

        def word() -> Asked:
            made.append(make())
            return self._diary.add(made[0])

        await self._ask(word)
        return made[0]

    async def cancel(self, appointment: Appointment) -> bool:
        """It does not come any more, from this moment on; then the clock is told. False when it has come before."""
        if not isinstance(appointment, Appointment):
            raise BadType(f"cancel() takes what schedule_at(), _after() or _every() has returned, got {appointment!r}")
        taken = self._next
        was_next = taken is not None and taken.number == appointment.number
        if was_next:
            self._next = None
        asked = self._diary.cancel(appointment.number)
        if asked is not None:
            await self._ask(lambda: asked)
        return was_next or asked is not None

    def deadline_stats(self) -> DeadlineStats:
        """What became of the deadlines of this life and of those before it in the same process."""
        return self._diary.stats()

    def _meant(self, told: Rang | PlaneChange) -> Fired | None:
        return self._diary.hear(told) if isinstance(told, Rang) else None


class Planes(_ClockEnd[PlaneChange]):
    """Which channels with `stale_after` go stale or are fresh again, until all of them have ended.

    Who begins hears first of those that are stale.
    """

    __slots__ = ("_stale",)

    wants_planes = True

    def __init__(
        self,
        asks: SendStream[Asked],
        told: ReceiveStream[Told],
        *,
        name: str = "",
        clock: Clock | None = None,
        life: int = 0,
    ) -> None:
        super().__init__(asks, told, name=name, clock=clock, life=life)
        self._stale: set[str] = set()

    def begin_again(self) -> None:
        self._stale.clear()
        super().begin_again()

    def _meant(self, told: Rang | PlaneChange) -> PlaneChange | None:
        """A new life of the clock tells again how everything is."""
        if not isinstance(told, PlaneChange) or told.stale == (told.channel in self._stale):
            return None
        (self._stale.add if told.stale else self._stale.discard)(told.channel)
        return told


@dataclass(frozen=True, slots=True)
class ClockClient:
    """The clock's ends of the pair: what one daemon asks, and by which it is told."""

    asks: ReceiveStream[Asked]
    tells: SendStream[Told]
    name: str = ""

    async def aclose(self) -> None:
        """Nothing more is asked, and nothing more told. Never waits."""
        await self.tells.aclose()
        await self.asks.aclose()


@dataclass(frozen=True, slots=True)
class ClockChannel(Generic[T]):
    """Both sides of the pair."""

    end: T
    client: ClockClient


def open_deadlines(maxsize: int = MAXSIZE, *, name: str = "", clock: Clock | None = None) -> ClockChannel[Deadlines]:
    """A pair between a daemon and a `ReactorClock` of this process."""
    asks, told = _opened(maxsize, name)
    return ClockChannel(
        Deadlines(asks.send, told.recv, name=name, clock=clock), ClockClient(asks.recv, told.send, name)
    )


def open_planes(maxsize: int = MAXSIZE, *, name: str = "") -> ClockChannel[Planes]:
    """The same for a daemon that wants to hear of planes."""
    asks, told = _opened(maxsize, name)
    return ClockChannel(Planes(asks.send, told.recv, name=name), ClockClient(asks.recv, told.send, name))


def _opened(maxsize: int, name: str) -> tuple[Channel[Asked], Channel[Told]]:
    whole("maxsize", maxsize, least=1)
    return open_channel(maxsize, name=name), open_channel(maxsize, name=f"{name}.told" if name else "")


def _ns(what: str, seconds: float, least: float = 0) -> int:
    return ns_rounded_up(number(what, seconds, least=least, most=_LATEST_S))


def _check_name(name: object) -> None:
    """Here, for in the process of the clock it would be the end of the channel."""
    if isinstance(name, str):
        return
    if callable(name):
        raise BadType(
            f"a deadline of a pipeline calls nothing, got {name!r}; give it a name, as name='retry', and take what "
            "comes by `async for fired in deadlines`"
        )
    raise BadType(f"a deadline's name must be a string, got {name!r}")
