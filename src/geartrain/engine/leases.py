"""The ends between daemons and the arbiter of leases: one port stands for a pair of channels.

    a daemon     async with leases.hold("workcell/left", ttl=5, wait=1) as lease: ...        Leases
    the arbiter  async for asked in client.asks; client.tells                                LeaseClient

While a lease is held a task renews it at a third of its time. What has not been renewed is taken for lost by its holder
before the arbiter may give it to another: the holder counts from before it asked, the arbiter from after that, and adds
a grace. Then the block is cancelled, and `LeaseLost` comes out of it. What can be harmed by who is late all the same,
frozen or in a thread, looks at `lease.token` (`FenceGate`).

The end has no other task: of those who wait for an answer one listens for all. A new life of the arbiter says hello,
and is asked again what it has not answered; by the number of a request it knows what it has done already.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Literal, get_args

import anyio
import anyio.abc
from msgspec import Struct

from geartrain.engine.channel import open_channel
from geartrain.engine.ends import Channel, ReceiveStream, SendStream
from geartrain.engine.in_turn import start_in_turn
from geartrain.engine.options import new_number
from geartrain.engine.signal import Lock, Signal
from geartrain.errors import (
    BadValue,
    ChannelClosed,
    ChannelInUse,
    EndOfStream,
    Fenced,
    LeaseLost,
    LeaseRefused,
    NotInUse,
    PeerLost,
    PeerRefused,
    WireError,
    WouldBlock,
)
from geartrain.ports.clock import Clock, WallClock
from geartrain.ports.parking import Alarm, call_later
from geartrain.rules.checks import number, one_of, whole
from geartrain.rules.deadlines import ns_rounded_up
from geartrain.rules.lease_words import (
    MODES,
    Acquire,
    Adopt,
    Alive,
    Bind,
    Claim,
    Done,
    Grant,
    Happened,
    Hello,
    Lost,
    Mode,
    Numbered,
    Offer,
    Open,
    Opened,
    Refusal,
    Release,
    Renew,
    Reply,
    Said,
    SetMode,
    Shown,
    Told,
    Watch,
    Withdraw,
)
from geartrain.rules.pipeline import MAXSIZE
from geartrain.rules.regions import canonical, covers, key_of

if TYPE_CHECKING:
    from geartrain.ports.journal import MemoryJournal

_GONE = (ChannelClosed, EndOfStream, PeerLost, PeerRefused, WireError)
_DAY_S = 86_400.0
HeldBy = Literal["session", "ttl"]
HELD_BY: tuple[HeldBy, ...] = get_args(HeldBy)
# A holder stops this much before its time: clocks of one machine do not differ, rounding does.
_EARLY = 100
# So much of what happens is kept for who watches and does not look.
_UNSEEN_MOST = 1_000
# Who holds a lease for longer than this has a task that renews it.
_MOMENT_S = 0.002

_wall = WallClock()


class Lease:
    """What is held: the token that resources want to see, and whether it has been lost."""

    __slots__ = (
        "_leases",
        "is_offered",
        "lease",
        "lost",
        "mode",
        "regions",
        "renew_at_ns",
        "token",
        "ttl_ns",
        "until_ns",
        "why",
    )

    def __init__(self, leases: "Leases", grant: Grant, asked_ns: int) -> None:
        self._leases = leases
        self.lease = grant.lease
        self.token = grant.token
        self.regions = tuple(claim.region for claim in grant.claims)
        # All claims of a lease are in one mode.
        self.mode: Mode = grant.claims[0].mode
        self.ttl_ns = grant.ttl_ns
        self.lost = Signal(f"the loss of lease {grant.lease}")
        # How it was lost.
        self.why = ""
        self.is_offered = False
        self.renewed(asked_ns)

    def __repr__(self) -> str:
        return f"<Lease {self.lease} on {', '.join(self.regions)}, token {self.token}{', lost' if self.why else ''}>"

    def renewed(self, asked_ns: int) -> None:
        """It was asked for at this time, and has been given."""
        self.until_ns = asked_ns + self.ttl_ns - self.ttl_ns // _EARLY
        self.renew_at_ns = asked_ns + self.ttl_ns // 3

    def lose(self, why: str) -> None:
        """It is nobody's, or somebody else's. A second time changes nothing."""
        if not self.why:
            self.why = why
            self.lost.set()

    async def set_mode(self, mode: Mode, wait: float = 0.0) -> None:
        """Make it shared, or exclusive, within so many seconds. It has another token then."""
        one_of("set_mode() mode", mode, MODES)
        wait_ns = ns_rounded_up(number("set_mode() wait", wait, least=0, most=_DAY_S))
        done = await self._leases.ask(lambda session, n: SetMode(session, n, self.lease, self.token, mode, wait_ns))
        assert isinstance(done, Done)

    async def offer(self, to: int) -> None:
        """The daemon whose session this is (`Leases.session`) may adopt it. When it does so this block is over.

        Until then it stays here. The block is cancelled, and no error comes out of it: this was wanted.
        """
        whole("offer() to", to, least=1)
        # From now on it may be gone, whatever becomes of the answer.
        self.is_offered = True
        await self._leases.ask(lambda session, n: Offer(session, n, self.lease, self.token, to))


class Taken(Struct, frozen=True):
    """A lease that nobody renews: it lasts until its time is over or it is released, whoever has its token."""

    lease: int
    token: int
    regions: tuple[str, ...]


class Watching:
    """What becomes of leases, one after the other: `async for happened in leases.watch("workcell"): ...`

    It ends with the arbiter, or by `aclose()`.
    """

    def __init__(self, leases: "Leases", n: int, regions: tuple[str, ...]) -> None:
        self._leases = leases
        self._come: deque[Happened] = deque()
        self.n = n
        self.regions = regions
        # With whom it was said, of all arbiters and sessions there were; 0 when with none, and -1 when it is over.
        self.said_to = 0

    def __aiter__(self) -> "Watching":
        return self

    async def __anext__(self) -> Happened:
        while not self._come:
            if self.said_to < 0 or not await self._leases.look(self):
                raise StopAsyncIteration
        return self._come.popleft()

    def has_item(self) -> bool:
        return bool(self._come)

    def put(self, happened: Happened) -> None:
        """Who does not look is told so much, and then that it has missed something."""
        if len(self._come) < _UNSEEN_MOST:
            self._come.append(happened)
        elif self._come[-1].what != "missed":
            self._come.append(Happened(happened.session, happened.n, "missed"))

    async def aclose(self) -> None:
        """Nothing more is told. Never waits."""
        self.said_to = -1
        self._come.clear()
        self._leases.leave(self)


class Hold:
    """`async with` it. A lease for as long as the block lasts."""

    def __init__(self, leases: "Leases", make: Callable[[int, int], Acquire | Adopt]) -> None:
        self._leases = leases
        self._make = make
        self._tasks: anyio.abc.TaskGroup | None = None
        self._alarm: Alarm | None = None
        self._has_keeper = False
        self._is_used = False
        self._guard = anyio.CancelScope()
        self._lease: Lease | None = None

    async def __aenter__(self) -> Lease:
        if self._is_used:
            raise NotInUse("a hold is for one block; call hold() once more for another")
        self._is_used = True
        try:
            lease = self._lease = await self._leases.acquire(self._make)
        except BaseException:
            # Nothing is held, and it may be tried again.
            self._is_used = False
            raise
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._keep_soon(lease)
        self._guard.__enter__()
        return lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._lease is not None
        assert self._tasks is not None
        # What the guard has cancelled is told as a loss; any other error goes through as it is, not in a group.
        caught = self._guard.__exit__(kind, error, trace)
        if self._alarm is not None:
            self._alarm.cancel()
        if self._has_keeper:
            self._tasks.cancel_scope.cancel()
        is_cancelled = error is not None and not caught and isinstance(error, anyio.get_cancelled_exc_class())
        try:
            await self._tasks.__aexit__(*((kind, error, trace) if is_cancelled else (None, None, None)))
        finally:
            self._leases.let_go(self._lease)
        if self._lease.why == "adopted" and self._lease.is_offered:
            return caught
        if self._lease.why and (error is None or caught):
            said = f"lease {self._lease.lease} on {', '.join(self._lease.regions)} has ended: {self._lease.why}"
            raise LeaseLost(f"{said}; look at what it was to protect, and acquire it anew", self._lease.why)
        return None

    def _keep_soon(self, lease: Lease) -> None:
        """What is held for a moment only needs no task: that costs as much as to ask for the lease.

        Virtual time does not pass in such a moment.
        """
        if self._leases.is_in_real_time:
            # Whose the task is, is a variable of the context.
            start = partial(copy_context().run, self._start_keeper, lease)
            self._alarm = call_later(min(_MOMENT_S, lease.ttl_ns / 1e10), start)
        else:
            self._start_keeper(lease)

    def _start_keeper(self, lease: Lease) -> None:
        assert self._tasks is not None
        self._has_keeper = True
        start_in_turn(self._tasks, self._keep, lease)

    async def _keep(self, lease: Lease) -> None:
        await self._leases.keep(lease)
        self._guard.cancel()


class Leases:
    """Leases for one daemon, from the arbiter of the pipeline."""

    def __init__(
        self,
        asks: SendStream[Said],
        told: ReceiveStream[Told],
        *,
        name: str = "",
        clock: Clock | None = None,
    ) -> None:
        self._asks = asks
        self._told = told
        self._name = name
        self._clock = clock or _wall
        self._door = Lock()
        self._pays = Lock()
        # Those who wait while another listens, and for what.
        self._followers: dict[Signal, Callable[[], bool]] = {}
        self._listens = False
        self._last = 0
        # Which journal the arbiter has.
        self._journal = ""
        # Counts the arbiters and sessions there were: who watches must tell each.
        self._told_by = 1
        self._begin()

    def _begin(self) -> None:
        self._secret = f"{new_number():x}-{new_number():x}"
        self._session = 0
        self._session_ttl_ns = 0
        # Whether the arbiter that lives now has not heard of us.
        self._owes = True
        # What is not answered yet, and what nobody waits for but must be said.
        self._asked: dict[int, Numbered] = {}
        self._debts: dict[int, Numbered] = {}
        self._unsent: dict[int, Numbered] = {}
        self._answers: dict[int, Reply] = {}
        self._held: dict[int, Lease] = {}
        self._watches: dict[int, Watching] = {}
        # In which mode a lease will be when this is done.
        self._modes: dict[int, Mode] = {}
        # When it was asked to renew what, by which token.
        self._renewals: dict[int, tuple[int, int, Lease]] = {}

    def __repr__(self) -> str:
        return f"<Leases over {self}, {len(self._held)} held>"

    def __str__(self) -> str:
        return f"channel {self._name!r}" if self._name else "the channels of an arbiter"

    @property
    def is_in_real_time(self) -> bool:
        return isinstance(self._clock, WallClock)

    # -- what a daemon does

    def hold(
        self,
        *regions: str,
        mode: Mode = "x",
        ttl: float = 10.0,
        wait: float = 0.0,
        label: str = "",
        cls: str = "",
        alone: bool = False,
        reentrant: bool = False,
        delay: float = 0.0,
        bind: HeldBy = "session",
    ) -> Hold:
        """All of these regions for as long as the block lasts; `LeaseRefused` if they cannot be had within `wait`.

        Who stops to renew has lost them after `ttl` seconds. A task that holds something already and asks for what
        meets it is refused, unless it says `reentrant`. When the process of the holder dies they are free at once; with
        `bind="ttl"` when their time is over, or somebody has adopted them.
        """
        one_of("hold() bind", bind, HELD_BY)
        return Hold(self, _asking("hold()", regions, mode, ttl, wait, delay, (bind, cls, label), (alone, reentrant)))

    async def take(
        self,
        *regions: str,
        mode: Mode = "x",
        ttl: float = 10.0,
        wait: float = 0.0,
        label: str = "",
        cls: str = "",
        alone: bool = False,
        delay: float = 0.0,
    ) -> Taken:
        """All of these regions for `ttl` seconds, whatever becomes of this daemon, or until somebody releases them.

        Who has lease and token may `adopt` it meanwhile. Cancelled, nothing is taken.
        """
        make = _asking("take()", regions, mode, ttl, wait, delay, ("ttl", cls, label), (alone, False))
        grant = await self.ask(make)
        assert isinstance(grant, Grant)
        return Taken(grant.lease, grant.token, tuple(claim.region for claim in grant.claims))

    def token_for(self, region: str) -> int:
        """The token of what is held now, exclusively, and covers all of this region; `Fenced` where nothing does.

        It is asked by the clock, not by whether the loss has been told: who was frozen asks before it hears anything.
        """
        key = key_of(region, "keep")
        covering = [
            lease for lease in self._held.values() if any(covers(key_of(its, "keep"), key) for its in lease.regions)
        ]
        now_ns = self._clock.now_ns()
        living = [lease for lease in covering if not lease.why and now_ns < lease.until_ns]
        tokens = [lease.token for lease in living if lease.mode == "x"]
        if not tokens:
            raise Fenced(f"{region!r} is fenced, and {_why_not(covering, living, tuple(self._held.values()))}")
        return max(tokens)

    async def release(self, lease: int, token: int) -> None:
        """Others may have what was taken. `LeaseRefused` if it has ended, or has another token by now."""
        await self.ask(lambda session, n: Release(session, n, lease, token))

    def adopt(self, lease: int, token: int = 0) -> Hold:
        """Hold a lease for as long as the block lasts that was offered to this daemon, or, by its token, was taken.

        So is one held with `bind="ttl"` whose holder has died. It has another token then, and the old one is void.
        Cancelled while it is asked for, it may have been adopted all the same, and ends with its time.
        """
        whole("adopt() lease", lease, least=1)
        whole("adopt() token", token, least=0)
        return Hold(self, lambda session, n: Adopt(session, n, lease, token, anyio.get_current_task().id))

    def watch(self, *regions: str) -> Watching:
        """What becomes of the leases that meet these regions, of whoever: first those that are held."""
        if not regions:
            raise BadValue("watch() needs at least one region; '/' is all paths, and a lock is watched by its name")
        self._last += 1
        watching = self._watches[self._last] = Watching(self, self._last, tuple(map(canonical, regions)))
        return watching

    async def session(self) -> int:
        """How the arbiter knows this life of the daemon: what another needs to `offer` it a lease."""
        try:
            await self._open()
        except _GONE as error:
            raise self._no_arbiter() from error
        return self._session

    # -- for a watch

    async def look(self, watching: Watching) -> bool:
        """Until something has come for it, or something is to be said first. False when the arbiter is gone."""
        try:
            await self._open()
            if watching.said_to != self._told_by:
                if watching.said_to:
                    watching.put(Happened(self._session, watching.n, "missed"))
                watching.said_to = self._told_by
                await self._say(Watch(self._session, watching.n, watching.regions))
            beat_ns = self._clock.now_ns() + self._session_ttl_ns // 3
            await self._wait_until(beat_ns, lambda: watching.has_item() or watching.said_to != self._told_by)
            if not watching.has_item() and watching.said_to == self._told_by:
                await self._say(Renew(self._session, ()))
        except _GONE:
            return False
        return True

    def leave(self, watching: Watching) -> None:
        if self._watches.pop(watching.n, None) is not None and self._session:
            self._say_if_room(Watch(self._session, watching.n, ()))

    # -- for a hold

    async def acquire(self, make: Callable[[int, int], Acquire | Adopt]) -> Lease:
        """Cancelled, nothing is held."""
        asked_ns = self._clock.now_ns()
        grant = await self.ask(make)
        assert isinstance(grant, Grant)
        lease = Lease(self, grant, asked_ns)
        self._held[lease.lease] = lease
        try:
            # How long one has waited does not count, but when it was granted is not known here.
            while not lease.why and self._clock.now_ns() >= lease.renew_at_ns:
                await self._renew(lease)
            if lease.why:
                said = f"{self}: lease {lease.lease} was granted, and has ended before it was used: {lease.why}"
                raise LeaseLost(f"{said}; acquire it anew", lease.why)
        except BaseException as error:
            self.let_go(lease)
            if isinstance(error, _GONE):
                raise self._no_arbiter() from error
            raise
        return lease

    async def keep(self, lease: Lease) -> None:
        """Renew it again and again; return when it is lost, which is before anybody else may have it."""
        while not lease.why:
            left_ns = lease.until_ns - self._clock.now_ns()
            if left_ns <= 0:
                lease.lose("it could not be renewed in time")
                break
            try:
                with self._clock.move_on_after(left_ns / 1e9):
                    await self._wait_until(lease.renew_at_ns, lambda: bool(lease.why))
                    if not lease.why:
                        await self._renew(lease)
            except _GONE:
                # Nobody renews it any more, and nobody else is given it before its time.
                await self._clock.wait_until_ns(lease.until_ns)
                lease.lose("the arbiter is gone")

    async def _renew(self, lease: Lease) -> None:
        """Ask for another while; what has come of it the lease says."""
        self._last += 1
        n, now_ns = self._last, self._clock.now_ns()
        self._renewals[n] = now_ns, lease.token, lease
        try:
            await self._open()
            await self._say(Renew(self._session, (Shown(lease.lease, lease.token),), n))
            await self._listen(lambda: bool(lease.why) or n not in self._renewals)
        finally:
            self._renewals.pop(n, None)

    def let_go(self, lease: Lease) -> None:
        """It is not needed any more. Never waits: if it cannot be said now, it is said before the next word."""
        self._held.pop(lease.lease, None)
        if not lease.why:
            self._last += 1
            self._say_soon(Release(self._session, self._last, lease.lease, lease.token))

    async def ask(self, make: Callable[[int, int], Numbered]) -> Grant | Done:
        """What is answered; `LeaseRefused` if it is no. Cancelled, it is not done, or undone."""
        while True:
            try:
                await self._open()
                word, reply = await self._ask(make)
            except _GONE as error:
                raise self._no_arbiter() from error
            if isinstance(reply, Grant | Done):
                return reply
            assert isinstance(reply, Refusal)
            # A session that is over has nothing, and who wants something new may want it in the next.
            if reply.code != "no_session" or not isinstance(word, Acquire | Adopt):
                raise LeaseRefused(f"{self}: {reply.said}", reply.code, reply.conflicts)

    def _no_arbiter(self) -> LeaseRefused:
        return LeaseRefused(f"{self}: the arbiter is gone, and grants nothing any more", "no_arbiter")

    async def _ask(self, make: Callable[[int, int], Numbered]) -> tuple[Numbered, Reply]:
        self._last += 1
        n = self._last
        word = self._asked[n] = make(self._session, n)
        if isinstance(word, SetMode):
            self._modes[n] = word.mode
        try:
            await self._say(word)
            if not isinstance(word, Acquire | SetMode) or 3 * word.wait_ns < self._session_ttl_ns:
                await self._listen(lambda: n in self._answers)
            while n not in self._answers:
                # Who waits for long must say now and then that it is still there.
                beat_ns = self._clock.now_ns() + self._session_ttl_ns // 3
                await self._wait_until(beat_ns, lambda: n in self._answers)
                if n not in self._answers:
                    await self._say(Renew(self._session, ()))
        except BaseException:
            if isinstance(word, Acquire | SetMode):
                self._last += 1
                self._say_soon(Withdraw(word.session, self._last, n))
            raise
        finally:
            del self._asked[n]
            reply = self._answers.pop(n, None)
        assert reply is not None
        return word, reply

    # -- listening

    async def _wait_until(self, until_ns: int, done: Callable[[], bool]) -> None:
        """Listen until it is so, or until this time."""
        left_ns = until_ns - self._clock.now_ns()
        if left_ns > 0:
            with self._clock.move_on_after(left_ns / 1e9):
                await self._listen(done)

    async def _listen(self, done: Callable[[], bool]) -> None:
        """One listens for all, and wakes those for whom it has heard something; when it leaves another one listens."""
        while not done():
            if self._listens:
                await self._follow(done)
                continue
            self._listens, stays = True, False
            try:
                # Who was to say it may have been cancelled.
                await self._pay()
                self._hear(await self._told.receive())
                while self._told.has_item():
                    self._hear(self._told.receive_nowait())
                await self._pay()
                stays = not done()
            finally:
                self._listens = False
                self._wake(leaves=not stays)

    async def _follow(self, done: Callable[[], bool]) -> None:
        heard = Signal("an answer of the arbiter")
        self._followers[heard] = done
        try:
            await heard.wait()
        finally:
            del self._followers[heard]
            if heard.is_set() and not self._listens and not done():
                # It was to listen from now on, and may have been cancelled.
                self._wake(leaves=True)

    def _wake(self, *, leaves: bool) -> None:
        heir: Signal | None = None
        for heard, done in self._followers.items():
            if heard.is_set():
                continue
            if done():
                heard.set()
            elif heir is None:
                heir = heard
        if leaves and heir is not None:
            heir.set()

    def _hear(self, told: Told) -> None:
        match told:
            case Hello(journal):
                self._owes = True
                self._told_by += 1
                self._renewals.clear()
                if self._journal not in ("", journal):
                    self._session_is_over("the arbiter has begun anew, and knows nothing of it")
                self._journal = journal
            case Opened(session, secret, ttl_ns) if secret == self._secret:
                self._opened(session, ttl_ns)
            case Alive(_, lost, n):
                if n in self._renewals:
                    self._renewed(lost, *self._renewals.pop(n))
            case Happened(_, n) if n in self._watches:
                self._watches[n].put(told)
            case Lost(_, number, why):
                self._lost(number, why)
            case Refusal(session, _, "no_session") if session == self._session:
                self._session_is_over("its session is over")
            case Grant(_, n) | Done(_, n) | Refusal(_, n) if n in self._asked:
                self._answers[n] = told
                self._debts.pop(n, None)
                self._is_done(told)
            case Done(_, n) | Refusal(_, n):
                self._debts.pop(n, None)
                self._is_done(told)
            case _:
                pass

    def _renewed(self, lost: tuple[int, ...], asked_ns: int, token: int, lease: Lease) -> None:
        if lease.lease not in lost:
            lease.renewed(asked_ns)
        elif lease.token == token:
            lease.lose("it had ended before it was renewed")
        # Else it has had another token since it was asked, and is renewed by that.

    def _lost(self, number: int, why: str) -> None:
        if number in self._held:
            self._held[number].lose(why)
        for n, answer in self._answers.items():
            if isinstance(answer, Grant) and answer.lease == number:
                # It comes right after its grant, before that was looked at.
                said = f"lease {number} was granted, and has ended since: {why}; acquire it anew"
                self._answers[n] = Refusal(answer.session, n, "expired" if why == "expired" else "not_held", said)

    def _is_done(self, told: Grant | Done | Refusal) -> None:
        """Which mode a lease has, and by which token, is known when it is heard: who asked may not wait any more."""
        mode = self._modes.pop(told.n, None)
        if mode is None or not isinstance(told, Done):
            return
        lease = self._held.get(told.lease)
        if lease is not None and told.token >= lease.token:
            lease.token, lease.mode = told.token, mode

    def _opened(self, session: int, ttl_ns: int) -> None:
        if self._session not in (0, session):
            self._forget("the arbiter does not know of it any more")
        self._session, self._session_ttl_ns = session, ttl_ns

    def _session_is_over(self, why: str) -> None:
        """Another one, by another secret: to the old one there is no way back."""
        self._forget(why)
        self._told_by += 1
        self._session = 0
        self._secret = f"{new_number():x}-{new_number():x}"
        self._owes = True

    def _forget(self, why: str) -> None:
        self._lose_all(why)
        self._debts.clear()
        self._unsent.clear()
        self._modes.clear()
        for n in self._asked:
            # Whatever it was, it was asked in a session that is no more.
            self._answers[n] = Refusal(0, n, "no_session", why)

    def _lose_all(self, why: str) -> None:
        for lease in self._held.values():
            lease.lose(why)
        self._renewals.clear()

    # -- saying

    async def _open(self) -> None:
        await self._pay()
        await self._listen(lambda: self._session != 0)

    async def _pay(self) -> None:
        """Tell an arbiter that has not heard of us who we are, and what we wait for.

        Who comes meanwhile waits until it is said, and says it all again if this one is cancelled.
        """
        if not self._owes and not self._pays.is_held:
            return
        async with self._pays:
            if not self._owes:
                return
            self._owes = False
            again = [*self._debts.values(), *self._asked.values()]
            try:
                await self._say(Open(self._secret, self._name))
                for word in again:
                    if word.session and (word.n in self._asked or word.n in self._debts):
                        await self._say(word)
            except BaseException:
                self._owes = True
                raise

    async def _say(self, word: Said) -> None:
        async with self._door:
            while self._unsent:
                n, unsent = next(iter(self._unsent.items()))
                await self._asks.send(unsent)
                # What is forgotten meanwhile with its session is not there any more, and another may be.
                self._unsent.pop(n, None)
            await self._asks.send(word)

    def _say_soon(self, word: Numbered) -> None:
        """It is owed until it is answered; a new arbiter hears it again."""
        self._debts[word.n] = word
        try:
            self._asks.send_nowait(word)
        except (WouldBlock, ChannelInUse):
            self._unsent[word.n] = word
        except _GONE:
            self._debts.clear()

    def _say_if_room(self, word: Said) -> bool:
        with suppress(WouldBlock, ChannelInUse, *_GONE):
            self._asks.send_nowait(word)
            return True
        return False

    # -- its life

    def begin_again(self) -> None:
        """For another owner: what the last one held is lost to it, and the arbiter ends its session."""
        self._lose_all("its daemon has died")
        self._begin()
        # Said at once, so that nobody waits for what a former life held.
        if self._say_if_room(Open(self._secret, self._name)):
            self._owes = False

    async def aclose(self) -> None:
        """Nothing more is wanted: what is held ends."""
        await self._asks.aclose()
        await self._told.aclose()


def _why_not(covering: list[Lease], living: list[Lease], held: tuple[Lease, ...]) -> str:
    """What is wrong with what is held, and what to do."""
    if living:
        return f"{living[0]!r} is a shared one; hold it with mode='x' to send"
    if covering:
        lost = covering[-1]
        return (
            f"{lost!r} has been lost: {lost.why or 'its time is over'}; acquire it anew, and look at what has changed"
        )
    others = f"only {', '.join(map(repr, held))} is held here" if held else "nothing is held here"
    return f"{others}, which does not cover it; send within `async with leases.hold(...)` of it"


def _asking(
    who: str,
    regions: tuple[str, ...],
    mode: Mode,
    ttl: float,
    wait: float,
    delay: float,
    kind: tuple[Bind, str, str],
    how: tuple[bool, bool],
) -> Callable[[int, int], Acquire]:
    """What makes the request, of arguments that make sense."""
    one_of(f"{who} mode", mode, MODES)
    if not regions:
        raise BadValue(f"{who} needs at least one region, as 'workcell/left' or 'lock://gpu'")
    claims = tuple(Claim(canonical(region), mode) for region in regions)
    ttl_ns = ns_rounded_up(number(f"{who} ttl", ttl, least=0.01, most=_DAY_S))
    wait_ns = ns_rounded_up(number(f"{who} wait", wait, least=0, most=_DAY_S))
    delay_ns = ns_rounded_up(number(f"{who} delay", delay, least=0, most=_DAY_S))

    def make(session: int, n: int) -> Acquire:
        owner = anyio.get_current_task().id
        return Acquire(session, n, claims, ttl_ns, wait_ns, *kind, owner, *how, delay_ns)

    return make


@dataclass(frozen=True, slots=True)
class LeaseClient:
    """The arbiter's ends of the pair: what one daemon asks, and by which it is told.

    `left` is what an arbiter of this process without a folder leaves to its next life.
    """

    asks: ReceiveStream[Said]
    tells: SendStream[Told]
    name: str = ""
    left: "list[tuple[str, MemoryJournal]]" = field(default_factory=list, compare=False, repr=False)

    async def aclose(self) -> None:
        """Nothing more is asked, and nothing more told. Never waits."""
        await self.tells.aclose()
        await self.asks.aclose()


@dataclass(frozen=True, slots=True)
class LeaseChannel:
    """Both sides of the pair."""

    leases: Leases
    client: LeaseClient


def open_leases(maxsize: int = MAXSIZE, *, name: str = "", clock: Clock | None = None) -> LeaseChannel:
    """A pair between a daemon and a `LeaseArbiter` of this process."""
    whole("maxsize", maxsize, least=1)
    asks: Channel[Said] = open_channel(maxsize, name=name)
    told: Channel[Told] = open_channel(maxsize, name=f"{name}.told" if name else "")
    return LeaseChannel(Leases(asks.send, told.recv, name=name, clock=clock), LeaseClient(asks.recv, told.send, name))
