"""The keeper of services: gives each cycle to one replica, and writes that down before it says so.

    replicas   Report  ---->  what has ended is noted  --->  plan  --->  journal.append, durable
               Orders  <----  runs, and those to leave  <--------------
                              processes that must end are ended

What it knows follows from its journal: it may die at any moment, and its next life waits for those who may still run
what it had given. It sees the end of a replica's process by itself, so that another one gets the same cycle at once.
"""

import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import anyio
import anyio.abc
import anyio.to_thread

from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.ends import ReceiveStream, SendStream
from geartrain.engine.in_turn import start_in_turn
from geartrain.engine.signal import Bell
from geartrain.errors import GeartrainError, JournalDamaged, JournalInUse
from geartrain.ports.clock import Clock
from geartrain.ports.journal import Journal, MemoryJournal
from geartrain.ports.process import ended as process_ended
from geartrain.ports.process_table import Identity, is_alive, send_exactly
from geartrain.ports.run_memory import RunMemory
from geartrain.rules.service_words import (
    SHOWN_FILE,
    SHOWN_MOST,
    Begun,
    Joined,
    Kept,
    Orders,
    ReplicaShown,
    Report,
    ServiceShown,
    Who,
    encode_shown,
    kept_after,
    line,
    read_line,
    read_snapshot,
    snapshot,
)
from geartrain.rules.services import Member, Plan, Record, Run, Service, Stale, State, begin, ended, plan

# After so many records what they came to is kept in their place.
_SNAPSHOT_EVERY = 20_000
_OPEN_WITHIN_S = 1.0
# Orders that nobody has confirmed are said again after this.
_AGAIN_NS = 200_000_000
# How often others are shown how it is, at most.
_SHOW_NS = 100_000_000

# What a keeper of this process without a folder leaves to its next life, by the first of its channels.
_left: WeakKeyDictionary[object, MemoryJournal] = WeakKeyDictionary()


@dataclass(slots=True)
class Seat:
    """A replica as the keeper sees it. `desk` is the channel on which it speaks; a former keeper's is not known yet."""

    name: str
    life: int
    who: Who | None
    seen_ns: int
    desk: int | None = None
    number: int = 0
    said: Orders | None = None
    said_ns: int = 0


@dataclass(slots=True)
class Book:
    """One service: what is known of it, and who serves it."""

    service: Service
    kept: Kept
    seats: dict[str, Seat] = field(default_factory=dict)
    leaves_since: dict[int, int] = field(default_factory=dict)
    why: dict[str, tuple[str, str]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def state(self) -> State:
        return self.kept.state

    def members(self) -> tuple[Member, ...]:
        return tuple(Member(seat.name, seat.life, seat.seen_ns) for seat in self.seats.values())

    def note_refusals(self, made: Plan) -> None:
        """Told when the reason changes, for else nothing would be read any more."""
        now = {refusal.member: (str(refusal.why), refusal.said) for refusal in made.refusals}
        for name, (why, _) in now.items():
            if self.why.get(name, ("", ""))[0] != why:
                self.refused[why] = self.refused.get(why, 0) + 1
        self.why = now

    def orders_for(self, seat: Seat, cancels: Iterable[Run]) -> Orders:
        leaving = {run.token for run in cancels}
        runs = tuple(run for run in self.state.runs if (run.member, run.life) == (seat.name, seat.life))
        tokens = tuple(run.token for run in runs if run.token in leaving)
        return Orders(life=seat.life, runs=runs, cancels=tokens)

    def overdue(self, cancels: Iterable[Run], now_ns: int) -> list[Run]:
        """Those who were asked to leave, and have not within their grace."""
        asked = {run.token: run for run in cancels}
        self.leaves_since = {token: self.leaves_since.get(token, now_ns) for token in asked}
        return [asked[token] for token, since in self.leaves_since.items() if now_ns - since > self.service.grace_ns]

    def shown(self, now_ns: int) -> ServiceShown:
        return ServiceShown(
            service=self.service.name,
            every_s=self.service.every_ns / 1e9,
            cycle=self.service.cycle_at(now_ns),
            token=self.state.token,
            replicas=tuple(self._replica_shown(seat) for seat in sorted(self.seats.values(), key=lambda one: one.name)),
            counts=self.kept.counts,
            refused=dict(self.refused),
            records=self.kept.last[-SHOWN_MOST:],
        )

    def _replica_shown(self, seat: Seat) -> ReplicaShown:
        run = next((run for run in self.state.runs if run.member == seat.name), None)
        why, said = self.why.get(seat.name, ("", ""))
        return ReplicaShown(
            replica=seat.name,
            pid=None if seat.who is None else seat.who.pid,
            cycle=None if run is None else run.cycle,
            token=None if run is None else run.token,
            why="running" if run is not None else why,
            said="" if run is not None else said,
        )


class Keeper:
    """One life of the keeper: all books, their journal, and the channels to the replicas."""

    def __init__(
        self, ctx: Context, services: Sequence[Service], journal: Journal, tells: Sequence[SendStream[Orders]]
    ) -> None:
        self._ctx = ctx
        self._clock: Clock = ctx.clock
        self._journal = journal
        self._tells = tells
        self._tick_ns = min(max(1, service.silent_after_ns // 4) for service in services)
        self._news = Bell()
        self._is_new = False
        self._woken_ns: int | None = None
        self._warned: set[tuple[str, int]] = set()
        self._kept_revision = journal.state.revision if journal.state else 0
        kept = recovered(journal)
        self.books = {one.name: self._book(one, kept.get(one.name)) for one in services}
        self.tasks: anyio.abc.TaskGroup
        self.shown_in: Path | None = None
        self._shown_ns: int | None = None
        self._shown = b""

    def _book(self, service: Service, kept: Kept | None) -> Book:
        now_ns = self._clock.now_ns()
        if kept is None:
            book = Book(service, Kept(begin(service, now_ns)))
            self._write(book, Begun(book.state.open_from))
            return book
        book = Book(service, kept)
        # They may still run what a former life has given them. Each has the whole time to say so.
        for run in book.state.runs:
            joined = kept.who.get(run.member)
            if joined is not None and joined.life == run.life and _lives(joined.who):
                book.seats[run.member] = Seat(run.member, run.life, joined.who, now_ns)
        return book

    def _write(self, book: Book, what: Begun | Joined | Record) -> None:
        self._journal.append(line(book.service.name, what))
        book.kept = kept_after(book.kept, what)

    def _ring(self) -> None:
        self._is_new = True
        self._news.ring()

    # -- what it hears

    async def listen(self, desk: int, asks: ReceiveStream[Report]) -> None:
        """Until this replica is gone for good."""
        with suppress(GeartrainError):
            async for report in asks:
                self._hear(desk, report)
        for book in self.books.values():
            for seat in [seat for seat in book.seats.values() if seat.desk == desk]:
                del book.seats[seat.name]
        self._ring()

    def _hear(self, desk: int, report: Report) -> None:
        book, now_ns = self.books[report.service], self._clock.now_ns()
        for over in report.over:
            records = ended(book.service, book.state, over.token, over.outcome, now_ns, over.said)
            for record in () if isinstance(records, Stale) else records:
                self._write(book, record)
            self._ring()
        seat = book.seats.get(report.member)
        if seat is None or seat.life != report.life:
            if not _lives(report.who):
                # Its last word has come after its end.
                return
            seat = book.seats[report.member] = Seat(report.member, report.life, report.who, now_ns)
            self.watch(book, seat)
            self._ring()
        elif seat.desk is None:
            self._ring()
        seat.seen_ns, seat.desk = now_ns, desk
        if report.leaving and not report.running:
            del book.seats[report.member]
            self._ring()
        elif report.heard != seat.number and now_ns - seat.said_ns > _AGAIN_NS:
            seat.said = None
            self._ring()

    def watch(self, book: Book, seat: Seat) -> None:
        if seat.who is not None and seat.who.pid != os.getpid():
            start_in_turn(self.tasks, self._watch, book, seat, seat.who)

    async def _watch(self, book: Book, seat: Seat, who: Who) -> None:
        while _lives(who):
            # Looked at now and then: its number may have been another's before it was watched.
            with anyio.move_on_after(1):
                await process_ended(who.pid)
        if book.seats.get(seat.name) is seat:
            del book.seats[seat.name]
            self._ring()

    # -- what it does

    async def keep(self) -> None:
        for tells in self._tells:
            with suppress(GeartrainError):
                tells.send_nowait(Orders())
        while True:
            self._is_new = False
            self._woken_ns = await self._look()
            if not self._is_new:
                left_ns = max(0, self._woken_ns - self._clock.now_ns())
                with self._clock.move_on_after(left_ns / 1e9):
                    await self._news.wait()

    async def _look(self) -> int:
        """Plan, make durable, and only then tell. The answer is when to look again if nothing happens."""
        now_ns = self._clock.now_ns()
        self._forgive(now_ns)
        wakes_ns = [now_ns + self._tick_ns]
        words: list[tuple[Seat, Orders]] = []
        condemned: list[tuple[Book, Run]] = []
        for book in self.books.values():
            made = plan(book.service, book.state, book.members(), now_ns)
            for record in made.records:
                if isinstance(record, Run):
                    self._note_place(book, record)
                self._write(book, record)
            book.note_refusals(made)
            condemned += [(book, run) for run in (*made.ends, *book.overdue(made.cancels, now_ns))]
            words += [(seat, book.orders_for(seat, made.cancels)) for seat in book.seats.values()]
            wakes_ns += [made.wake_ns, *(since + book.service.grace_ns + 1 for since in book.leaves_since.values())]
        await self._commit()
        for seat, orders in words:
            self._tell(seat, orders)
        for book, run in condemned:
            self._end(book, run)
        wakes_ns.append(self._show(now_ns))
        return min(wake_ns for wake_ns in wakes_ns if wake_ns > now_ns)

    def _forgive(self, now_ns: int) -> None:
        """While this one stood still it has heard nobody: that is not counted against them."""
        late_ns = 0 if self._woken_ns is None else now_ns - self._woken_ns
        if late_ns > self._tick_ns:
            for book in self.books.values():
                for seat in book.seats.values():
                    seat.seen_ns = min(now_ns, seat.seen_ns + late_ns)

    def _note_place(self, book: Book, run: Run) -> None:
        known = book.kept.who.get(run.member)
        if known is None or known.life != run.life:
            self._write(book, Joined(run.member, run.life, book.seats[run.member].who))

    async def _commit(self) -> None:
        revision = self._journal.revision
        if isinstance(self._journal, MemoryJournal):
            # It waits for nothing, and virtual time knows nothing of threads.
            self._journal.sync()
        else:
            await self._journal.committed(revision)
        if self._journal.revision - self._kept_revision >= _SNAPSHOT_EVERY:
            self._kept_revision = self._journal.revision
            state = snapshot({name: book.kept for name, book in self.books.items()})
            if isinstance(self._journal, MemoryJournal):
                self._journal.snapshot(self._kept_revision, state)
            else:
                await anyio.to_thread.run_sync(self._journal.snapshot, self._kept_revision, state)

    def _tell(self, seat: Seat, orders: Orders) -> None:
        """Never waits: of several orders nobody has taken only the last one counts, and it says all."""
        if seat.desk is None or orders == seat.said:
            return
        seat.number += 1
        seat.said, seat.said_ns = orders, self._clock.now_ns()
        numbered = Orders(number=seat.number, life=orders.life, runs=orders.runs, cancels=orders.cancels)
        with suppress(GeartrainError):
            self._tells[seat.desk].send_nowait(numbered)

    def _end(self, book: Book, run: Run) -> None:
        """End the process of a run, for nobody else may have its cycle before."""
        seat = book.seats.get(run.member)
        if seat is None or seat.life != run.life:
            return
        if seat.who is None or seat.who.pid == os.getpid():
            said = "service %r: %s has cycle %d and does not leave; it is in this process, which is not ended"
        else:
            said = "service %r: %s has cycle %d and does not leave or say anything; its process is ended"
            send_exactly(Identity(seat.who.pid, seat.who.started_ticks, seat.who.boot), signal.SIGKILL)
        if (book.service.name, run.token) not in self._warned:
            self._warned.add((book.service.name, run.token))
            self._ctx.logger.warning(said, book.service.name, run.member, run.cycle)

    def _show(self, now_ns: int) -> int:
        """For `geartrain ps`; nobody depends on it. The answer is when to look whether it has changed."""
        far_ns = now_ns + self._tick_ns
        if self.shown_in is None:
            return far_ns
        if self._shown_ns is not None and now_ns - self._shown_ns < _SHOW_NS:
            return self._shown_ns + _SHOW_NS
        text = encode_shown(tuple(book.shown(now_ns) for book in self.books.values()))
        if text == self._shown:
            return far_ns
        self._shown, self._shown_ns = text, now_ns
        hidden = self.shown_in.with_suffix(".tmp")
        try:
            hidden.write_bytes(text)
            hidden.rename(self.shown_in)
        except OSError as error:
            self._ctx.logger.warning("%s cannot be written: %s", self.shown_in, error.strerror)
            self.shown_in = None
        return far_ns

    def in_short(self) -> str:
        counts = (f"{name}: {_counted(book.kept.counts)}" for name, book in self.books.items())
        return "; ".join(counts)


class ServiceKeeper(Daemon):
    """The keeper of all services of a pipeline, which adds it by itself.

    `asks` and `tells` are of the same replicas in the same order. Its journal is in the folder of the run's state, as
    `<its name>.journal`; in one process it is in memory, for the lives that it has there.
    """

    def __init__(
        self,
        services: list[Service],
        asks: list[ReceiveStream[Report]] | None = None,
        tells: list[SendStream[Orders]] | None = None,
        memory: RunMemory | None = None,
    ) -> None:
        self.services = services
        self.asks = asks or []
        self.tells = tells or []
        self.memory = memory

    async def _opened(self, ctx: Context) -> Journal:
        """One that a former life has not let go of yet is waited for."""
        if self.memory is None:
            return self._remembered()
        from geartrain.ports.file_journal import FileJournal

        until_s = ctx.clock.now() + _OPEN_WITHIN_S
        while True:
            try:
                return FileJournal(self.memory.state / f"{ctx.name}.journal")
            except JournalInUse:
                if ctx.clock.now() >= until_s:
                    raise
            await ctx.clock.sleep(0.01)

    def _remembered(self) -> Journal:
        key = self.asks[0] if self.asks else self
        left = _left.get(key)
        journal = _left[key] = MemoryJournal() if left is None else left.reopened()
        return journal

    async def run(self, ctx: Context) -> None:
        journal = await self._opened(ctx)
        try:
            for said in journal.said:
                ctx.logger.warning("%s", said)
            keeper = Keeper(ctx, self.services, journal, self.tells)
            if self.memory is not None:
                keeper.shown_in = self.memory.state / SHOWN_FILE
            async with anyio.create_task_group() as keeper.tasks:
                for book in keeper.books.values():
                    for seat in book.seats.values():
                        keeper.watch(book, seat)
                for desk, asks in enumerate(self.asks):
                    start_in_turn(keeper.tasks, keeper.listen, desk, asks)
                start_in_turn(keeper.tasks, keeper.keep)
                await ctx.stop_event.wait()
                keeper.tasks.cancel_scope.cancel()
            ctx.logger.info("%s", keeper.in_short())
        finally:
            journal.close()
        for tells in self.tells:
            await tells.aclose()


def recovered(journal: Journal) -> dict[str, Kept]:
    """What the records of a journal come to. Such as cannot be understood stop everything: they may be runs."""
    kept: dict[str, Kept] = {}
    revision = 0
    try:
        if journal.state is not None:
            revision = journal.state.revision
            kept = read_snapshot(journal.state.state)
        for record in journal.records():
            revision = record.revision
            found = read_line(record.payload)
            kept[found.service] = kept_after(kept.get(found.service), found.what)
    except (ValueError, AssertionError) as error:
        raise JournalDamaged(f"record {revision}", 0, str(error), "a record of services") from error
    return kept


def _lives(who: Who | None) -> bool:
    return who is None or is_alive(Identity(who.pid, who.started_ticks, who.boot))


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{many} {name}" for name, many in sorted(counts.items())) or "nothing has run"
