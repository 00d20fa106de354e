"""An arbiter on a disk that fails, loses power or is found again after a start of the machine; clients ask again."""

from collections.abc import Callable, Generator
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from geartrain.actors.arbiter import Bench, CallersDesk
from geartrain.errors import JournalStopped
from geartrain.ports.file_journal import FileJournal
from geartrain.rules.lease import Terms
from geartrain.rules.lease_ledger import Record, decode, encode_snapshot
from geartrain.rules.lease_words import (
    Acquire,
    Alive,
    Asked,
    Claim,
    Done,
    Grant,
    Open,
    Opened,
    Refusal,
    Release,
    Renew,
    SetMode,
    Shown,
    Told,
)
from tests.ports.pretend_fs import PretendFs
from tests.walks.histories import Event, Gone, Heard, Said, faults

S = 1_000_000_000
TERMS = Terms(grace_ns=0, session_ttl_ns=3600 * S)


class Ticking:
    """A clock that goes on by looking at it."""

    def __init__(self, at_ns: int = S) -> None:
        self.at_ns = at_ns

    def now_ns(self) -> int:
        self.at_ns += 1000
        return self.at_ns


class Listening(CallersDesk):
    """Whoever sits here hears at once."""

    def __init__(self, hear: Callable[[Told], None]) -> None:
        self.session, self.secret = 0, ""
        self._hear = hear

    def tell(self, word: Told) -> None:
        self._hear(word)


# What a client does: it says a word, and goes on with the answer.
Course = Generator[Asked, Told, None]


def visits(secret: str, rounds: int) -> Course:
    opened = yield Open(secret)
    assert isinstance(opened, Opened)
    session, n = opened.session, 0
    for number in range(rounds):
        n += 1
        grant = yield Acquire(session, n, (Claim("cell"), Claim(f"lock://{secret}-{number}")), 3600 * S)
        if not isinstance(grant, Grant):
            continue
        yield Renew(session, (Shown(grant.lease, grant.token),), 1000 + n)
        n += 1
        done = yield SetMode(session, n, grant.lease, grant.token, "s")
        assert isinstance(done, Done)
        n += 1
        yield Release(session, n, grant.lease, done.token)


class Client:
    """Says again to each life of the arbiter what no other has answered."""

    def __init__(self, world: "World", secret: str, rounds: int) -> None:
        self.world, self.secret = world, secret
        self.course = visits(secret, rounds)
        self.word: Asked | None = next(self.course)
        self.desk = Listening(self.hear)
        self.is_owed = False

    def hear(self, told: Told) -> None:
        self.world.events.append(Heard(self.world.clock.now_ns(), told))
        if not self.is_owed or not isinstance(told, Grant | Done | Refusal | Alive | Opened):
            return
        if getattr(told, "n", 0) == getattr(self.word, "n", 0):
            self.is_owed = False
            try:
                self.word = self.course.send(told)
            except StopIteration:
                self.word = None

    def say(self, bench: Bench) -> None:
        if self.word is None or self.is_owed:
            return
        if not self.desk.session and not isinstance(self.word, Open):
            bench.hear(self.desk, Open(self.secret))
        self.is_owed = True
        self.world.events.append(Said(self.world.clock.now_ns(), self.word))
        bench.hear(self.desk, self.word)


class World:
    """Two clients, a disk, and one life of an arbiter after the other."""

    def __init__(self) -> None:
        self.clock = Ticking()
        self.events: list[Event] = []
        self.records: dict[int, Record] = {}
        self.clients = [Client(self, secret, 12) for secret in ("left", "right")]

    def live(self, fs: PretendFs) -> None:
        """Until all have done what they wanted; or `JournalStopped`."""
        journal = FileJournal(fs=fs, folder=".", segment_bytes=16384)
        clock: Any = self.clock
        bench = Bench(journal, TERMS, clock, "boot", 0)
        rounds = 0
        while any(client.word is not None for client in self.clients):
            for client in self.clients:
                client.say(bench)
            journal.sync()
            self.keep(journal)
            rounds += 1
            if rounds % 8 == 0:
                # With what nobody has been told yet.
                journal.snapshot(bench.state.revision, encode_snapshot(bench.state.ledger.snapshot()))
            bench.release_replies()
        journal.sync()
        self.keep(journal)
        journal.close()

    def keep(self, journal: FileJournal) -> None:
        """All that is durable; what once was is never anything else."""
        for record in journal.records():
            word = decode(record.payload)
            assert self.records.setdefault(record.revision, word) == word

    def die(self) -> None:
        self.events.append(Gone(self.clock.now_ns()))
        for client in self.clients:
            client.desk, client.is_owed = Listening(client.hear), False

    def faults(self) -> list[str]:
        assert list(self.records) == list(range(1, len(self.records) + 1))
        return faults(self.events, list(self.records.values()))


def operations() -> int:
    fs, world = PretendFs(), World()
    world.live(fs)
    assert world.faults() == []
    return fs.done


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("end", ["kill", "power cut"])
def test_whatever_operation_fails_who_asks_the_next_life_again_has_it_exactly_once(end: str, for_ever: bool) -> None:
    """What was under way when a write, a sync or a rename failed may have been done; nobody is told what is not so."""
    count = operations()
    assert count > 100
    for number in range(1, count + 1):
        fs, world = PretendFs(), World()
        fs.fail(number, for_ever=for_ever)
        with pytest.raises(JournalStopped):
            world.live(fs)
        heard = len(world.events)
        world.die()
        world.live(fs.after_a_kill() if end == "kill" else fs.after_a_power_cut(Random(number)))
        assert len(world.events) > heard
        assert world.faults() == [], f"operation {number} of {count}"


def test_a_power_cut_at_any_operation_and_another_while_it_recovers_break_no_promise_seeds_0_to_99() -> None:
    count = operations()
    for seed in range(100):
        fs, world, chance = PretendFs(), World(), Random(seed)
        for most in (count, 12, 12):
            fs.fail(chance.randint(1, most), for_ever=True)
            with suppress(JournalStopped):
                world.live(fs)
            world.die()
            fs = fs.after_a_power_cut(Random(seed))
        world.live(fs)
        assert world.faults() == [], f"seed {seed}"


# -- clocks -----------------------------------------------------------------------------------------------------------


def answered(bench: Bench, journal: FileJournal, word: Asked, desk: CallersDesk, told: list[Told]) -> Told:
    bench.hear(desk, word)
    journal.sync()
    bench.release_replies()
    return told[-1]


def life(fs: PretendFs, boot: str, wall_ns: int, at_ns: int, claim: str) -> tuple[Ticking, Callable[[str], Told]]:
    """One of an arbiter, and how to ask it for a minute of a region."""
    clock: Any = Ticking(at_ns)
    journal = FileJournal(fs=fs, folder=".")
    bench = Bench(journal, TERMS, clock, boot, wall_ns)
    told: list[Told] = []
    desk = Listening(told.append)
    opened = answered(bench, journal, Open(claim), desk, told)
    assert isinstance(opened, Opened)
    numbers = iter(range(1, 100))

    def ask(region: str) -> Told:
        word = Acquire(opened.session, next(numbers), (Claim(region),), 60 * S, bind="ttl")
        return answered(bench, journal, word, desk, told)

    return clock, ask


WALLS = [0, 10**18, 10**18 - 86_400 * S, 10**18 + 86_400 * S]


@pytest.mark.parametrize("wall_ns", WALLS)
def test_a_lease_ends_at_its_time_in_the_next_life_whatever_the_wall_clock_says(wall_ns: int) -> None:
    fs = PretendFs()
    _, ask = life(fs, "boot", 10**18, 1000 * S, "left")
    grant = ask("cell")
    assert isinstance(grant, Grant)
    clock, again = life(fs.after_a_kill(), "boot", wall_ns, 1030 * S, "right")
    assert isinstance(again("cell"), Refusal)
    clock.at_ns = 1059 * S
    assert isinstance(again("cell/arm"), Refusal)
    clock.at_ns = 1061 * S
    later = again("cell")
    assert isinstance(later, Grant)
    assert later.token > grant.token


@pytest.mark.parametrize("at_ns", [5 * S, 990 * S, 10**6 * S], ids=["sooner", "about then", "later"])
@pytest.mark.parametrize("wall_ns", WALLS)
def test_after_a_start_of_the_machine_a_lease_lasts_for_all_that_was_left_of_it(wall_ns: int, at_ns: int) -> None:
    """Its clock begins anew; nobody knows how long it was off, and no clock that people set is asked."""
    fs = PretendFs()
    _, ask = life(fs, "one boot", 10**18, 1000 * S, "left")
    grant = ask("cell")
    assert isinstance(grant, Grant)
    clock, again = life(fs.after_a_power_cut(), "another", wall_ns, at_ns, "right")
    assert isinstance(again("cell"), Refusal)
    clock.at_ns = at_ns + 59 * S
    assert isinstance(again("cell"), Refusal)
    clock.at_ns = at_ns + 61 * S
    later = again("cell")
    assert isinstance(later, Grant)
    assert later.token > grant.token
