"""The arbiter of leases: decides in one place who may do what where, and answers when that is durable.

    daemons   Acquire, Renew, Release ... ---->  one desk for each client ---> decide ---> journal.append
              Grant, Refusal, Lost ...    <----  replies, in order        <--- journal.sync, for many at once

What is decided follows from the journal, so it may die at any moment: a new life knows what was promised, says hello,
and is asked again what was not answered. A journal that cannot be written ends it, and nothing has been answered.
When a client is gone its session ends, and with it what it held; so does that of a former life of the same client.
"""

import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
from anyio.streams.buffered import BufferedByteReceiveStream

from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.in_turn import start_in_turn
from geartrain.engine.lease_socket import LINE_MOST, SOCKET, asked_in, line_of, short_path
from geartrain.engine.leases import LeaseClient
from geartrain.engine.options import new_number
from geartrain.engine.signal import Bell
from geartrain.errors import BadValue, ChannelClosed, GeartrainError, JournalDamaged, JournalInUse, PeerLost, WouldBlock
from geartrain.ports.clock import Clock, WallClock
from geartrain.ports.etcd import address_of
from geartrain.ports.journal import Journal, MemoryJournal
from geartrain.ports.lease_audit import AuditLog
from geartrain.ports.run_memory import RunMemory
from geartrain.rules.lease import State, Terms, decide
from geartrain.rules.lease_ledger import Ledger, decode, decode_snapshot, encode, encode_snapshot, fold_into
from geartrain.rules.lease_watch import Watched
from geartrain.rules.lease_words import (
    Audit,
    Begin,
    Close,
    Command,
    Happened,
    Hello,
    Open,
    Opened,
    Refusal,
    Said,
    Tick,
    Told,
    Watch,
)
from geartrain.rules.regions import Case

# After so many records what they came to is kept in their place.
_SNAPSHOT_EVERY = 50_000
_OPEN_WITHIN_S = 1.0
# Of a writer on another machine it is known only after a while that it is gone.
_OPEN_AFAR_WITHIN_S = 8.0
# A caller that asks and does not listen is not served any longer.
_UNTOLD_MOST = 1_000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Desk:
    """Where one client is served: its session, and what it has no room to be told of yet."""

    # Whether the first that it is told is that this is a new life.
    is_greeted = True
    # The watches of which something was not told, for there was no room.
    _behind: set[int]

    def __init__(self, client: LeaseClient) -> None:
        self.client = client
        self.session = 0
        self.secret = ""
        self._untold: deque[Told] = deque()
        self._news = Bell()
        self._waits_for_room = False
        self._behind = set()

    def __repr__(self) -> str:
        return f"<desk of {self.client.name!r}, session {self.session}>"

    def tell(self, word: Told) -> None:
        """Now, or when there is room. Never waits."""
        if not self._untold and not self._waits_for_room:
            try:
                self.client.tells.send_nowait(word)
                return
            except WouldBlock:
                pass
            except (ChannelClosed, PeerLost):
                return
        self._untold.append(word)
        self._news.ring()

    def tell_of(self, happened: Happened) -> None:
        """Who does not listen is told of so much, and then that it has missed something."""
        if len(self._untold) >= _UNTOLD_MOST:
            self._behind.add(happened.n)
            return
        if happened.n in self._behind:
            self._behind.remove(happened.n)
            self.tell(Happened(happened.session, happened.n, "missed"))
        self.tell(happened)

    async def hand_over(self) -> None:
        """Tell what there was no room for."""
        try:
            while True:
                while self._untold:
                    self._waits_for_room = True
                    try:
                        await self.client.tells.wait_room()
                    finally:
                        self._waits_for_room = False
                    self.client.tells.send_nowait(self._untold.popleft())
                await self._news.wait()
        except GeartrainError:
            # Nobody is there any more who could be told.
            self._untold.clear()


class CallersDesk(Desk):
    """Where one is served who has come over the socket: a command, for a moment."""

    is_greeted = False

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self.session = 0
        self.secret = ""
        self._stream = stream
        self._untold: deque[Told] = deque()
        self._news = Bell()
        self._behind = set()

    def __repr__(self) -> str:
        return f"<desk of a caller, session {self.session}>"

    def tell(self, word: Told) -> None:
        self._untold.append(word)
        self._news.ring()

    async def hand_over(self) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                while self._untold:
                    await self._stream.send(line_of(self._untold.popleft()))
                await self._news.wait()

    async def listen(self, bench: "Bench") -> None:
        """Until it has gone, or says what nobody would."""
        lines = BufferedByteReceiveStream(self._stream)
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.DelimiterNotFound):
            while len(self._untold) < _UNTOLD_MOST:
                line = await lines.receive_until(b"\n", LINE_MOST)
                try:
                    asked = asked_in(line)
                except BadValue as error:
                    self.tell(Refusal(self.session, 0, "bad_request", str(error)))
                    continue
                bench.hear(self, asked)


class Bench:
    """Where it is decided: a state, its journal, and the replies that wait until what they tell is durable."""

    def __init__(self, journal: Journal, terms: Terms, clock: Clock, boot: str, wall_ns: int) -> None:
        self.state = State(recovered(journal), terms)
        self.watched = Watched(terms.case)
        # The last of it, until it is written down.
        self.audit: deque[Audit] = deque(maxlen=1000)
        self.decided = Bell()
        # Rung when something runs out sooner than is waited for.
        self.sooner = Bell()
        self.waited_for_ns: int | None = None
        self._journal = journal
        self._clock = clock
        self._desks: dict[int, Desk] = {}
        # With the revision that must be durable first.
        self._pending: deque[tuple[int, Desk, Told]] = deque()
        self.decide(Begin(boot, wall_ns), None)
        # As its record dates all that follows.
        self._wall_ns = wall_ns - self.state.now_ns

    @property
    def has_replies(self) -> bool:
        return bool(self._pending) or self._journal.durable < self._journal.revision

    def hear(self, desk: Desk, asked: Said) -> None:
        """A client speaks for its own session only. Whoever opens another one has forgotten the first."""
        if isinstance(asked, Open):
            if desk.session and asked.secret != desk.secret:
                self.leave(desk)
            desk.secret = asked.secret
        elif not desk.session and desk.is_greeted:
            # It was said to a former life. Who hears of this one says again what has had no answer.
            return
        elif not desk.session or asked.session != desk.session:
            n = getattr(asked, "n", 0)
            said = f"session {asked.session} is not open on this channel; open one"
            self._pending.append((self.state.revision, desk, Refusal(asked.session, n, "no_session", said)))
            self.decided.ring()
            return
        if isinstance(asked, Watch):
            self._watch(desk, asked)
        else:
            self.decide(asked, desk)

    def _watch(self, desk: Desk, asked: Watch) -> None:
        try:
            told: tuple[Told, ...] = self.watched.watch(asked, self.state.ledger)
        except GeartrainError as error:
            told = (Refusal(asked.session, asked.n, "bad_request", str(error)),)
        self._pending.extend((self.state.revision, desk, word) for word in told)
        self.decided.ring()

    def leave(self, desk: Desk) -> None:
        """Its client is gone, or begins anew: what it held it holds no more."""
        if desk.session:
            self.decide(Close(desk.session, died=True), None)
            self.watched.leave(desk.session)
            self._desks.pop(desk.session, None)
            desk.session = 0

    def decide(self, command: Command, desk: Desk | None) -> None:
        outcome = decide(self.state, command, self._clock.now_ns())
        for record in outcome.records:
            self._journal.append(encode(record))
        if self._journal.revision != self.state.revision:
            raise BadValue(f"{self._journal!r} has another writer: expected revision {self.state.revision}")
        for reply in outcome.replies:
            if desk is not None and isinstance(reply, Opened):
                desk.session = reply.session
                self._desks[reply.session] = desk
            whose = self._desks.get(reply.session) or desk
            if whose is not None:
                self._pending.append((self.state.revision, whose, reply))
        if self.watched:
            for happened in self.watched.after(outcome.records, self.state.revision - len(outcome.records) + 1):
                self._pending.append((self.state.revision, self._desks[happened.session], happened))
        self.audit.extend(outcome.audit)
        self.decided.ring()
        next_ns = self.state.next_ns()
        if next_ns is not None and (self.waited_for_ns is None or next_ns < self.waited_for_ns):
            self.sooner.ring()

    def release_replies(self) -> None:
        """Tell what is durable now."""
        durable = self._journal.durable
        while self._pending and self._pending[0][0] <= durable:
            _, desk, reply = self._pending.popleft()
            if isinstance(reply, Happened):
                desk.tell_of(reply)
            else:
                desk.tell(reply)

    def write_audit(self, log: AuditLog | None) -> None:
        """For those who ask afterwards: after the answers, which nothing of this holds up."""
        while log is not None and self.audit:
            audit = self.audit.popleft()
            log.write(self._wall_ns + audit.at_ns, audit)


class LeaseArbiter(Daemon):
    """The arbiter of a pipeline. `clients` are those who take `Leases`; the pipeline connects them.

    Its journal is in `directory`, which may be `etcd://HOST:PORT/PREFIX`; without one in the folder of the run's state,
    as `<its name>.leases`, and where a run has no folder, in the memory of its process, for the lives that it has
    there. `budgets` are how many of a class there may be at once; `grace` is how many seconds a lease is kept beyond
    its time, for a holder that counts less exactly.
    """

    def __init__(
        self,
        clients: list[LeaseClient] | None = None,
        directory: Path | None = None,
        budgets: Mapping[str, int] | None = None,
        grace: float = 0.5,
        case: Case = "fold",
        memory: RunMemory | None = None,
    ) -> None:
        self.clients = clients or []
        self.address = None if directory is None else address_of(directory)
        self.directory = None if directory is None or self.address is not None else Path(directory)
        self.memory = memory
        self.terms = Terms(case=case, grace_ns=round(grace * 1e9), budgets=dict(budgets or {}))

    def open_journal(self) -> tuple[str, Journal]:
        """Its own, for this life, and how it is known again in the next. Whoever has another kind overrides this."""
        if self.address is not None:
            from geartrain.ports.etcd_journal import EtcdJournal

            return str(self.address), EtcdJournal(self.address)
        if self.directory is None:
            return self._remembered()
        # Only who keeps leases on a disk needs what the journal needs.
        from geartrain.ports.file_journal import FileJournal

        return str(self.directory), FileJournal(self.directory)

    def _remembered(self) -> tuple[str, Journal]:
        """What a former life of this process has left to whoever serves the same clients."""
        left: list[tuple[str, MemoryJournal]] = self.clients[0].left if self.clients else []
        known, journal = left.pop() if left else (f"in memory {new_number():x}", MemoryJournal())
        left.append((known, journal.reopened()))
        return left[-1]

    async def _opened(self, ctx: Context) -> tuple[str, Journal]:
        """A command that writes the journal for a moment is waited for."""
        is_far = self.address is not None
        until_s = ctx.clock.now() + (_OPEN_AFAR_WITHIN_S if is_far else _OPEN_WITHIN_S)
        while True:
            try:
                return await anyio.to_thread.run_sync(self.open_journal) if is_far else self.open_journal()
            except JournalInUse:
                if ctx.clock.now() >= until_s:
                    raise
            await ctx.clock.sleep(0.01)

    async def run(self, ctx: Context) -> None:
        if self.address is None and self.directory is None and self.memory is not None:
            self.directory = self.memory.state / f"{ctx.name}.leases"
        known, journal = await self._opened(ctx)
        try:
            for said in journal.said:
                ctx.logger.warning("%s", said)
            bench = Bench(journal, self.terms, ctx.clock, *self._life())
            log = None if self.directory is None else AuditLog(self.directory)
            try:
                await self._serve(ctx, bench, journal, log, Hello(known))
            finally:
                bench.write_audit(log)
                if log is not None:
                    log.close()
        finally:
            journal.close()

    def _life(self) -> tuple[str, int]:
        """Which boot of the machine this is, and what the wall clock says; without a journal nobody asks."""
        return (
            ("", 0)
            if self.directory is None and self.address is None
            else (_BOOT_ID.read_text().strip(), time.time_ns())
        )

    async def _serve(self, ctx: Context, bench: Bench, journal: Journal, log: AuditLog | None, hello: Hello) -> None:
        async with anyio.create_task_group() as tasks:
            for desk in [Desk(client) for client in self.clients]:
                desk.tell(hello)
                start_in_turn(tasks, desk.hand_over)
                start_in_turn(tasks, _listen, bench, desk)
            start_in_turn(tasks, _keep_time, bench, ctx.clock)
            start_in_turn(tasks, _keep_journal, bench, journal, log)
            if self.directory is not None and isinstance(ctx.clock, WallClock):
                # Who is not in the pipeline lives in real time.
                start_in_turn(tasks, _serve_callers, ctx, bench, self.directory)
            await ctx.stop_event.wait()
            tasks.cancel_scope.cancel()
        for client in self.clients:
            await client.tells.aclose()
        leases = bench.state.ledger.leases
        ctx.logger.info("%d leases are held, at revision %d", len(leases), bench.state.revision)


async def _listen(bench: Bench, desk: Desk) -> None:
    """Until the client has closed, or is gone."""
    with suppress(GeartrainError):
        async for asked in desk.client.asks:
            bench.hear(desk, asked)
    bench.leave(desk)
    await desk.client.tells.aclose()


async def _serve_callers(ctx: Context, bench: Bench, directory: Path) -> None:
    """Those who are not in the pipeline. Without them an arbiter does all the rest."""
    try:
        with short_path(directory) as path:
            listener = await anyio.create_unix_listener(path, mode=0o600)
    except OSError as error:
        ctx.logger.warning("nobody outside the pipeline can ask for leases in %s: %s", directory, error.strerror)
        return
    try:
        async with listener:
            await listener.serve(partial(_serve_caller, bench))
    finally:
        with suppress(OSError):
            (directory / SOCKET).unlink()


async def _serve_caller(bench: Bench, stream: anyio.abc.SocketStream) -> None:
    desk = CallersDesk(stream)
    async with stream:
        try:
            async with anyio.create_task_group() as tasks:
                start_in_turn(tasks, desk.hand_over)
                await desk.listen(bench)
                tasks.cancel_scope.cancel()
        finally:
            bench.leave(desk)


async def _keep_time(bench: Bench, clock: Clock) -> None:
    """What runs out does so at its time, also when nobody asks for anything."""
    while True:
        next_ns = bench.waited_for_ns = bench.state.next_ns()
        if next_ns is None:
            await bench.sooner.wait()
        elif next_ns <= clock.now_ns():
            bench.decide(Tick(), None)
        else:
            with clock.move_on_after((next_ns - clock.now_ns()) / 1e9):
                await bench.sooner.wait()


async def _keep_journal(bench: Bench, journal: Journal, log: AuditLog | None) -> None:
    """Make durable what was decided, all of it at once, and only then tell it."""
    kept = journal.state.revision if journal.state else 0
    while True:
        while bench.has_replies:
            if isinstance(journal, MemoryJournal):
                # It waits for nothing, and virtual time knows nothing of threads.
                journal.sync()
            elif not journal.sync_if_quick():
                # Whoever had something to say when this task was woken has said it: that was one round of the loop ago.
                await journal.committed(journal.revision)
            bench.release_replies()
            bench.write_audit(log)
            if journal.revision - kept >= _SNAPSHOT_EVERY:
                kept = bench.state.revision
                state = encode_snapshot(bench.state.ledger.snapshot())
                if isinstance(journal, MemoryJournal):
                    journal.snapshot(kept, state)
                else:
                    await anyio.to_thread.run_sync(partial(journal.snapshot, kept, state))
        await bench.decided.wait()


def recovered(journal: Journal) -> Ledger:
    """What the records of a journal come to. Such as cannot be understood stop everything: they may be leases."""
    ledger = Ledger()
    try:
        if journal.state is not None:
            ledger = Ledger.of(decode_snapshot(journal.state.state))
        # What a record says of its own revision is checked by the ledger.
        fold_into(ledger, (decode(record.payload) for record in journal.records()))
        if ledger.revision != journal.revision:
            raise BadValue(f"its records come to revision {ledger.revision}, and its last is {journal.revision}")
    except BadValue as error:
        raise JournalDamaged(f"record {ledger.revision + 1}", 0, str(error), "a record of leases") from error
    return ledger
