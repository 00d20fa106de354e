"""What every place for leases promises, and then what the one in etcd promises when etcd fails."""

import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest

from geartrain import EtcdAway, LeaseArbiter, LeaseLost, LeaseRefused, Pipeline, Supervisor
from geartrain.engine.leases import open_leases
from geartrain.errors import BadValue, JournalDamaged, JournalInUse, JournalStopped
from geartrain.faces import lease_calls
from geartrain.faces.lease import compacted, held, standing, story
from geartrain.faces.lease_calls import Writer
from geartrain.ports import lease_backend
from geartrain.ports.clock import mono_ns
from geartrain.ports.etcd import Address, address_of, get
from geartrain.ports.etcd_journal import EtcdJournal
from geartrain.ports.lease_backend import Backend, InEtcd, InFiles, InMemory, backend_of
from geartrain.rules.lease_ledger import decode
from geartrain.rules.lease_words import (
    Acquire,
    Adopt,
    Alive,
    Asked,
    Claim,
    Close,
    Done,
    Grant,
    Mode,
    Note,
    Open,
    Opened,
    Refusal,
    Release,
    Renew,
    Shown,
    Told,
)
from tests.faces.conftest import COMMAND
from tests.ports.etcd_server import EtcdServer, Wire, etcd_server
from tests.walks.histories import Event, Heard, Said, faults

S = 1_000_000_000
both_loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    with etcd_server() as server:
        yield server


@pytest.fixture
def own_etcd() -> Iterator[EtcdServer]:
    """One that a test may stop and kill."""
    with etcd_server() as server:
        yield server


@pytest.fixture(params=["files", "memory", "etcd"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "files":
        return InFiles(tmp_path / "leases")
    return InMemory() if request.param == "memory" else InEtcd(request.getfixturevalue("etcd").address())


@contextmanager
def writer(backend: Backend) -> Iterator[Writer]:
    """One process after another, as commands are."""
    one = Writer(backend)
    try:
        yield one
        one.commit()
    finally:
        one.close()


def asked(backend: Backend, make: Callable[[int], Asked], secret: str = "a") -> Told:
    """In a life of the writer of its own: what is known there was kept."""
    with writer(backend) as one:
        opened = one.answer(Open(secret))
        assert isinstance(opened, Opened)
        return one.answer(make(opened.session))


def acquire(*regions: str, mode: Mode = "x", ttl_s: float = 60, n: int = 1) -> Callable[[int], Asked]:
    claims = tuple(Claim(region, mode) for region in regions)
    return lambda session: Acquire(session, n, claims, round(ttl_s * S), 0, "ttl")


def release(grant: Grant, n: int) -> Callable[[int], Asked]:
    return lambda session: Release(session, n, grant.lease, grant.token)


def granted(told: Told) -> Grant:
    assert isinstance(told, Grant), told
    return told


def code(told: Told) -> str:
    assert isinstance(told, Refusal), told
    return told.code


# -- what all of them promise -----------------------------------------------------------------------------------------


def test_all_claims_are_granted_or_none(backend: Backend) -> None:
    granted(asked(backend, acquire("b")))
    assert code(asked(backend, acquire("a", "b"), "other")) == "conflict"
    granted(asked(backend, acquire("a"), "third"))


def test_shared_ones_are_held_together_and_an_exclusive_one_is_not(backend: Backend) -> None:
    granted(asked(backend, acquire("a", mode="s"), "1"))
    granted(asked(backend, acquire("a/b", mode="s"), "2"))
    assert code(asked(backend, acquire("a"), "3")) == "conflict"


def test_who_asks_again_by_the_same_number_gets_the_same_answer(backend: Backend) -> None:
    first = granted(asked(backend, acquire("a")))
    assert asked(backend, acquire("a")) == first
    assert code(asked(backend, acquire("a"), "other")) == "conflict"


def test_tokens_never_go_back_through_releases_and_snapshots(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_calls, "SNAPSHOT_EVERY", 3)
    tokens = []
    for n in range(6):
        grant = granted(asked(backend, acquire("a", n=2 * n + 1)))
        tokens.append(grant.token)
        assert isinstance(asked(backend, release(grant, 2 * n + 2)), Done)
    assert tokens == sorted(set(tokens))


def test_only_who_shows_its_token_releases_renews_and_adopts(backend: Backend) -> None:
    grant = granted(asked(backend, acquire("a")))
    wrong = Shown(grant.lease, grant.token - 1)
    assert code(asked(backend, lambda session: Release(session, 2, grant.lease, wrong.token))) == "not_holder"
    alive = asked(backend, lambda session: Renew(session, (wrong,), 3))
    assert isinstance(alive, Alive)
    assert alive.lost == (grant.lease,)
    with writer(backend) as one:
        opened = one.answer(Open("a"))
        assert isinstance(opened, Opened)
        one.answer(Close(opened.session))
    adopted = granted(asked(backend, lambda session: Adopt(session, 1, grant.lease, grant.token), "heir"))
    assert adopted.token > grant.token
    assert code(asked(backend, release(grant, 1), "other")) == "not_holder"
    assert isinstance(asked(backend, release(adopted, 2), "heir"), Done)


def test_what_was_decided_and_not_committed_was_granted_to_nobody(backend: Backend) -> None:
    one = Writer(backend)
    opened = one.answer(Open("gone"))
    assert isinstance(opened, Opened)
    granted(one.answer(acquire("a")(opened.session)))
    # It dies there: nobody was answered.
    one.close()
    granted(asked(backend, acquire("a"), "other"))


def test_a_lease_is_kept_for_all_of_its_time_and_free_afterwards(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_ns = [100 * S]
    monkeypatch.setattr(lease_backend, "mono_ns", lambda: at_ns[0])
    with writer(backend):
        pass
    # By the clock of one writer, that all backends give.
    one = Writer(backend)
    try:
        opened, other = one.answer(Open("a", "", 300 * S)), one.answer(Open("b", "", 300 * S))
        assert isinstance(opened, Opened)
        assert isinstance(other, Opened)
        granted(one.answer(acquire("a", ttl_s=5)(opened.session)))
        at_ns[0] += 5 * S + backend.grace_ns - 1
        assert code(one.answer(acquire("a")(other.session))) == "conflict"
        at_ns[0] += 1
        granted(one.answer(acquire("a", n=2)(other.session)))
    finally:
        one.close()


def test_a_second_writer_is_refused_while_the_first_one_lives(tmp_path: Path, etcd: EtcdServer) -> None:
    for backend in (InFiles(tmp_path / "leases"), InEtcd(etcd.address())):
        with writer(backend), pytest.raises(JournalInUse):
            Writer(backend)


def test_of_many_at_once_exactly_one_is_granted(backend: Backend) -> None:
    if isinstance(backend, InMemory):
        pytest.skip("a memory is of one process, which asks once at a time")
    won: list[str] = []

    def one(name: str) -> None:
        while True:
            with suppress(JournalInUse):
                if isinstance(asked(backend, acquire("a"), name), Grant):
                    won.append(name)
                return

    threads = [threading.Thread(target=one, args=(f"{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


# -- etcd -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["etcd://", "etcd://127.0.0.1:2379", "etcd://nowhere/leases", "etcd://:1/a"])
def test_a_place_that_is_none_is_refused_with_what_is_expected(place: str) -> None:
    with pytest.raises(BadValue, match="expected etcd://HOST:PORT/PREFIX"):
        backend_of(place)


def test_as_a_path_an_address_is_the_same_one_and_a_folder_is_none() -> None:
    expected = Address(("10.0.0.1:2379", "10.0.0.2:2379"), "factory/left")
    assert address_of("etcd://10.0.0.1:2379,10.0.0.2:2379/factory/left") == expected
    assert address_of(Path(str(expected))) == expected
    assert address_of(Path("etcd/leases")) is None


def test_in_a_pipeline_file_an_arbiter_may_be_told_where_etcd_is() -> None:
    pipeline = Pipeline("cell")
    pipeline.add(LeaseArbiter, name="arbiter", config={"directory": "etcd://127.0.0.1:2379/cell"})
    assert pipeline.check() == ()
    assert LeaseArbiter([], Path("etcd://127.0.0.1:2379/cell")).address == Address(("127.0.0.1:2379",), "cell")


def test_what_only_files_can_be_asked_is_refused_of_etcd() -> None:
    place = Path("etcd://127.0.0.1:1/a")
    for ask in (standing, story, compacted, lambda place: lease_calls.note(place, lambda _: Note(0, "halt", "hot"))):
        with pytest.raises(BadValue, match=r"cannot be asked of etcd://127.0.0.1:1/a: .*`lease ls`"):
            ask(place)


def test_without_httpx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpx", None)
    with pytest.raises(BadValue, match=r"pip install 'geartrain\[etcd\]'"):
        EtcdJournal(Address(("127.0.0.1:1",), "a"))


def test_where_no_etcd_is_it_is_said_and_nothing_is_granted() -> None:
    with pytest.raises(EtcdAway, match=r"127.0.0.1:1 has not answered"):
        lease_calls.acquire(Path("etcd://127.0.0.1:1/a"), (Claim("a"),), ttl_ns=S)


@pytest.mark.parametrize("lost", [b'"compare"', b"kv/txn", b"lease/grant", b"kv/range"])
def test_of_an_answer_that_is_lost_nothing_is_done_twice(etcd: EtcdServer, lost: bytes) -> None:
    wire = Wire(etcd.port)
    try:
        direct = etcd.address()
        far = InEtcd(Address((wire.member,), direct.prefix))
        wire.lose_the_answer_to(lost)
        grant = granted(asked(far, acquire("a")))
        assert wire.lost == 1
        assert [one.token for one in held(Path(str(direct)))] == [grant.token]
        assert asked(InEtcd(direct), acquire("a")) == grant
    finally:
        wire.close()


def test_of_the_commit_whose_answer_is_lost_nothing_is_done_twice(etcd: EtcdServer) -> None:
    wire = Wire(etcd.port)
    try:
        direct = etcd.address()
        with writer(InEtcd(Address((wire.member,), direct.prefix))) as one:
            opened = one.answer(Open("a"))
            assert isinstance(opened, Opened)
            grant = granted(one.answer(acquire("a")(opened.session)))
            wire.lose_the_answer_to(b"kv/txn")
            one.commit()
            assert wire.lost == 1
        assert asked(InEtcd(direct), acquire("a")) == grant
        assert len(held(Path(str(direct)))) == 1
    finally:
        wire.close()


def test_a_writer_that_was_followed_writes_nothing_more(etcd: EtcdServer) -> None:
    """It stood still, and its place went to another one: what it has decided is void, and it is told so."""
    backend = InEtcd(etcd.address())
    former = Writer(backend)
    opened = former.answer(Open("former"))
    assert isinstance(opened, Opened)
    granted(former.answer(acquire("a")(opened.session)))
    journal = former._journal
    assert isinstance(journal, EtcdJournal)
    journal.ask("lease/revoke", {"ID": journal._lease})
    grant = granted(asked(backend, acquire("a"), "next"))
    with pytest.raises(JournalInUse):
        former.commit()
    with suppress(JournalStopped):
        former.close()
    assert [one.token for one in held(Path(str(backend.address)))] == [grant.token]


def test_what_etcd_compacts_is_of_no_use_to_us(etcd: EtcdServer) -> None:
    backend = InEtcd(etcd.address())
    grant = granted(asked(backend, acquire("a")))
    journal = backend.looked_at()
    told = journal.ask("kv/range", {"key": "YQ=="})
    journal.ask("kv/compaction", {"revision": told["header"]["revision"], "physical": True})
    journal.close()
    assert asked(backend, acquire("a")) == grant
    assert granted(asked(backend, acquire("b"), "other")).token > grant.token


@pytest.mark.parametrize("name", ["head", "rec"])
def test_a_journal_of_which_something_is_missing_is_refused(etcd: EtcdServer, name: str) -> None:
    backend = InEtcd(etcd.address())
    granted(asked(backend, acquire("a")))
    with writer(backend) as one:
        journal = one._journal
        assert isinstance(journal, EtcdJournal)
        key = "head" if name == "head" else f"rec/{journal._firsts[0]:020}"
        journal.ask("kv/deleterange", get(f"{backend.address.prefix}/{key}")["request_range"])
    with pytest.raises(JournalDamaged):
        Writer(backend)


def test_leases_are_kept_when_etcd_is_killed_and_started_again(own_etcd: EtcdServer) -> None:
    backend = InEtcd(own_etcd.address())
    grant = granted(asked(backend, acquire("a")))
    own_etcd.kill()
    with pytest.raises(EtcdAway):
        Writer(backend)
    own_etcd.start()
    assert code(asked(backend, acquire("a"), "other")) == "conflict"
    assert isinstance(asked(backend, release(grant, 2)), Done)
    assert granted(asked(backend, acquire("a"), "other")).token > grant.token


def test_no_two_hold_at_a_time_while_etcd_is_killed_and_comes_again(own_etcd: EtcdServer) -> None:
    """Of three who take turns, each as short-lived commands; what is not answered is asked again."""
    backend, events, lock = InEtcd(own_etcd.address()), list[Event](), threading.Lock()

    def note(event: Event) -> None:
        with lock:
            events.append(event)

    def told(name: str, make: Callable[[int], Asked]) -> Told:
        def said(session: int) -> Asked:
            word = make(session)
            note(Said(mono_ns(), word))
            return word

        while True:
            try:
                answer = asked(backend, said, name)
            except (JournalInUse, JournalStopped, EtcdAway):
                time.sleep(random.uniform(0.01, 0.05))
                continue
            note(Heard(mono_ns(), answer))
            return answer

    def one(name: str) -> None:
        for turn in range(4):
            grant = told(name, acquire("cell", n=2 * turn + 1))
            if isinstance(grant, Grant):
                told(name, release(grant, 2 * turn + 2))

    threads = [threading.Thread(target=one, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    own_etcd.kill()
    own_etcd.start()
    for thread in threads:
        thread.join()
    journal = backend.looked_at()
    records = [decode(record.payload) for record in journal.records()]
    journal.close()
    found = faults(sorted(events, key=lambda event: event.at_ns), records)
    # The clock of etcd begins anew when etcd does, and a record says so.
    assert [fault for fault in found if "goes back in time" not in fault] == []
    assert any(isinstance(event, Heard) and isinstance(event.told, Grant) for event in events)


def test_while_etcd_stands_still_a_commit_is_indeterminate_and_asked_again_it_is_exact(own_etcd: EtcdServer) -> None:
    backend = InEtcd(own_etcd.address())
    one = Writer(backend)
    opened = one.answer(Open("a"))
    assert isinstance(opened, Opened)
    granted(one.answer(acquire("a")(opened.session)))
    own_etcd.signal(signal.SIGSTOP)
    try:
        with pytest.raises(JournalStopped, match="not known"):
            one.commit()
        one.close()
    finally:
        own_etcd.signal(signal.SIGCONT)
    told = None
    while told is None:
        with suppress(JournalInUse):
            told = asked(backend, acquire("a"))
    grant = granted(told)
    # Whether the first was done or not: there is one lease, and all agree which.
    assert [one.token for one in held(Path(str(backend.address)))] == [grant.token]
    assert code(asked(backend, acquire("a"), "other")) == "conflict"


def test_the_clock_that_etcd_keeps_is_common_to_all_and_one_that_has_gone_back_is_let_go_of(
    etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = InEtcd(etcd.address())
    journal = EtcdJournal(backend.address)
    try:
        first = backend.life(journal, "another machine", 0)
        again = backend.life(journal, first.boot, 0)
        assert again.boot == first.boot
        assert again.now_ns() >= first.now_ns() - S
        # As with a new leader, for which all of it is left once more.
        assert backend.life(journal, first.boot, 3600 * S).boot != first.boot
        monkeypatch.setattr(lease_backend, "_hourglass_ns", lambda journal, lease: 3600 * S)
        later = backend.life(journal, first.boot, 3599 * S)
        assert (later.boot, later.now_ns() >= 3600 * S) == (first.boot, True)
    finally:
        journal.close()


def test_commands_one_right_after_the_other_agree_on_one_clock(etcd: EtcdServer) -> None:
    """Else what is left of a lease would be left of it for ever, as long as somebody looks often enough."""
    backend, boots = InEtcd(etcd.address()), set()
    for number in range(8):
        granted(asked(backend, acquire(f"lock://{number}"), f"{number}"))
        with writer(backend) as one:
            boots.add(one.state.ledger.boot)
    assert len(boots) == 1


def test_a_lease_runs_out_by_the_clock_of_etcd_whichever_machine_looks(
    etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, passed_ns = InEtcd(etcd.address()), [0]
    # Each life of a writer is on a machine of its own: they share no clock but that.
    monkeypatch.setattr(lease_backend, "_hourglass_ns", lambda journal, lease: passed_ns[0])
    granted(asked(backend, acquire("a", ttl_s=10)))
    passed_ns[0] = 10 * S + backend.grace_ns - S
    assert code(asked(backend, acquire("a"), "other")) == "conflict"
    passed_ns[0] += 2 * S
    granted(asked(backend, acquire("a"), "third"))


def test_a_program_is_killed_in_time_when_etcd_is_away(own_etcd: EtcdServer) -> None:
    place = str(own_etcd.address())
    words = ("lease", "run", "cell", "--ttl", "2s", "--dir", place, "--", "sh", "-c", "echo begun; exec sleep 100")
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        own_etcd.signal(signal.SIGSTOP)
        _, said = process.communicate(timeout=30)
        own_etcd.signal(signal.SIGCONT)
    assert process.returncode == 1
    assert "was lost, and its command was killed" in said


@both_loops
def test_an_arbiter_keeps_its_leases_in_etcd_and_a_next_life_knows_them(loop: str, etcd: EtcdServer) -> None:
    place = str(etcd.address())
    tokens: list[int] = []

    async def main() -> None:
        async with Supervisor() as supervisor:
            pair = open_leases()
            supervisor.add(LeaseArbiter([pair.client], Path(place)))
            with anyio.fail_after(20):
                async with pair.leases.hold("a") as lease:
                    tokens.append(lease.token)
                taken = None
                with suppress(LeaseRefused):
                    taken = await pair.leases.take("cell", ttl=60)
                assert (taken is not None) == (len(tokens) == 1)
            await supervisor.stop()

    for _ in range(2):
        anyio.run(main, backend=loop)
    assert tokens == sorted(set(tokens))
    assert [one.regions for one in held(Path(place))] == [("cell",)]


@both_loops
def test_what_a_holder_does_is_cancelled_in_time_when_etcd_is_away(loop: str, own_etcd: EtcdServer) -> None:
    place = str(own_etcd.address())

    async def main() -> None:
        async with Supervisor() as supervisor:
            pair = open_leases()
            supervisor.add_factory(
                partial(LeaseArbiter, [pair.client], Path(place)), name="arbiter", on_error="restart"
            )
            with anyio.fail_after(30):
                with pytest.raises(LeaseLost):
                    async with pair.leases.hold("cell", ttl=1.0):
                        own_etcd.signal(signal.SIGSTOP)
                        await anyio.sleep_forever()
                own_etcd.signal(signal.SIGCONT)
            await supervisor.stop()

    anyio.run(main, backend=loop)


def test_commands_keep_leases_in_etcd(etcd: EtcdServer) -> None:
    place = str(etcd.address())

    def told(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*COMMAND, "lease", *words, "--dir", place], capture_output=True, text=True)

    first = told("acquire", "cell", "--format", "json")
    assert (first.returncode, first.stderr) == (0, "")
    refused = told("acquire", "cell/arm", "--format", "json")
    assert refused.returncode == 1
    shown = told("ls", "--format", "json")
    assert '"regions":["cell"]' in shown.stdout
