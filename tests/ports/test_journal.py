"""What every journal promises, and then what the one in files promises beyond."""

from collections.abc import Callable, Iterator

import anyio
import pytest

from geartrain.errors import BadType, BadValue, NotInUse
from geartrain.ports.etcd_journal import EtcdJournal
from geartrain.ports.file_journal import FileJournal
from geartrain.ports.journal import Journal, MemoryJournal
from geartrain.rules.journal_frames import RECORD_BYTES_MAX, Record, Snapshot
from tests.ports.etcd_server import EtcdServer, etcd_server
from tests.ports.pretend_fs import PretendFs

Again = Callable[[Journal], Journal]


def after_a_crash_in_memory(journal: Journal) -> Journal:
    assert isinstance(journal, MemoryJournal)
    return journal.reopened()


def after_a_power_cut(journal: Journal) -> Journal:
    """Nothing that was not synced is there any more."""
    assert isinstance(journal, FileJournal)
    assert isinstance(journal.fs, PretendFs)
    return FileJournal("nowhere", fs=journal.fs.after_a_power_cut())


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    with etcd_server() as server:
        yield server


@pytest.fixture(params=["memory", "files", "etcd"])
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[Journal, Again]]:
    if request.param == "memory":
        yield MemoryJournal(), after_a_crash_in_memory
    elif request.param == "files":
        yield FileJournal("nowhere", fs=PretendFs()), after_a_power_cut
    else:
        server: EtcdServer = request.getfixturevalue("etcd")
        address, lives = server.address(), list[EtcdJournal]()

        def open_next() -> EtcdJournal:
            lives.append(EtcdJournal(address))
            return lives[-1]

        def after_a_crash_beside_etcd(journal: Journal) -> Journal:
            """It is as if it had gone silent: what it has not synced is nowhere, and its place is free."""
            lives.pop().abandon()
            return open_next()

        yield open_next(), after_a_crash_beside_etcd
        for journal in lives:
            journal.abandon()


def test_revisions_count_from_one_and_are_said_at_once(opened: tuple[Journal, Again]) -> None:
    journal, _ = opened
    assert [journal.revision, journal.append(b"a"), journal.append(b""), journal.revision] == [0, 1, 2, 2]
    assert journal.durable == 0
    journal.sync()
    assert journal.durable == 2


def test_what_was_synced_is_found_after_a_crash(opened: tuple[Journal, Again]) -> None:
    journal, again = opened
    journal.append(b"a")
    journal.append(b"b")
    journal.sync()
    journal.append(b"never synced")
    found = again(journal)
    assert list(found.records()) == [Record(1, b"a"), Record(2, b"b")]
    assert (found.state, found.revision, found.durable) == (None, 2, 2)


def test_after_a_snapshot_the_state_and_later_records_are_found_and_revisions_go_on(
    opened: tuple[Journal, Again],
) -> None:
    journal, again = opened
    for payload in (b"a", b"b", b"c"):
        journal.append(payload)
    journal.snapshot(3, b"abc")
    assert journal.durable == 3
    journal = again(journal)
    assert (journal.state, list(journal.records())) == (Snapshot(3, b"abc"), [])
    assert journal.append(b"d") == 4
    journal.sync()
    found = again(journal)
    assert (found.state, list(found.records())) == (Snapshot(3, b"abc"), [Record(4, b"d")])


def test_a_snapshot_of_an_earlier_revision_keeps_the_records_after_it(opened: tuple[Journal, Again]) -> None:
    journal, again = opened
    for payload in (b"a", b"b", b"c"):
        journal.append(payload)
    journal.snapshot(2, b"ab")
    assert (again(journal).state, list(again(journal).records())) == (Snapshot(2, b"ab"), [Record(3, b"c")])
    for revision in (1, 4):
        with pytest.raises(BadValue, match=f"between 2 and 3, got {revision}"):
            journal.snapshot(revision, b"?")


def test_a_snapshot_that_nobody_survived_still_holds_the_revision(opened: tuple[Journal, Again]) -> None:
    journal, again = opened
    for _ in range(5):
        journal.append(b"x")
    journal.snapshot(5, b"")
    journal = again(journal)
    journal.snapshot(5, b"")
    assert again(journal).append(b"y") == 6


async def test_whoever_waits_first_syncs_for_all(opened: tuple[Journal, Again]) -> None:
    journal, _ = opened
    done = []

    async def append_and_wait(payload: bytes) -> None:
        revision = journal.append(payload)
        await journal.committed(revision)
        assert journal.durable >= revision
        done.append(revision)

    async with anyio.create_task_group() as group:
        for number in range(64):
            group.start_soon(append_and_wait, str(number).encode())
    assert sorted(done) == list(range(1, 65))
    assert [record.revision for record in journal.records()] == sorted(done)


async def test_waiting_for_a_record_that_was_never_appended_is_refused(opened: tuple[Journal, Again]) -> None:
    with pytest.raises(BadValue, match="no record has revision 1 yet"):
        await opened[0].committed(1)


def test_what_can_be_no_record_is_refused_and_takes_no_revision(opened: tuple[Journal, Again]) -> None:
    journal, _ = opened
    with pytest.raises(BadValue, match="at most 65536 bytes, got 65537"):
        journal.append(bytes(RECORD_BYTES_MAX + 1))
    with pytest.raises(BadType, match="a record is bytes, got str"):
        journal.append("text")  # type: ignore[arg-type]
    assert journal.append(bytes(RECORD_BYTES_MAX)) == 1


def test_closing_keeps_what_nobody_waited_for_and_ends_all_use(opened: tuple[Journal, Again]) -> None:
    journal, again = opened
    journal.append(b"a release")
    journal.close()
    journal.close()
    with pytest.raises(NotInUse):
        journal.append(b"more")
    with pytest.raises(NotInUse):
        journal.sync()
    assert [record.payload for record in again(journal).records()] == [b"a release"]
