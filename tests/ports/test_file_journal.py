"""The journal in files: what was acknowledged is found again or missed loudly, and nothing else is ever found."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import anyio
import pytest

from geartrain.errors import GeartrainError, JournalDamaged, JournalInUse, JournalStopped
from geartrain.ports.file_journal import FileJournal, read_kept, records_kept, told_of_the_rest
from geartrain.ports.fs import RealFs
from geartrain.ports.journal import FEW, QUICK_NS
from geartrain.rules.journal_frames import (
    BLOCKS_AT,
    FRAMES_AT,
    IDENTITY_FILE,
    Record,
    Snapshot,
    segment_name,
    snapshot_name,
)
from tests.ports.pretend_fs import PretendFs

SMALL = 2 * FRAMES_AT
FIRST = segment_name(1)


def payload(revision: int, size: int = 0) -> bytes:
    return f"record {revision} ".encode().ljust(size, b".")


def opened(fs: PretendFs) -> FileJournal:
    return FileJournal("nowhere", segment_bytes=SMALL, fs=fs)


def written(count: int, size: int = 0, *, each: int = 1) -> PretendFs:
    """A disk with a journal of so many records, synced after so many each; nobody writes it any more."""
    fs = PretendFs()
    journal = opened(fs)
    for revision in range(1, count + 1):
        journal.append(payload(revision, size))
        if revision % each == 0:
            journal.sync()
    journal.close()
    return fs


def found_in(files: dict[str, bytes]) -> list[Record]:
    fs = PretendFs(files)
    kept = read_kept(fs)
    return [found.record for found in records_kept(fs, kept)] if kept else []


# -- what it promises -------------------------------------------------------------------------------------------------


def test_records_go_on_through_segments_and_are_found_in_order() -> None:
    fs = written(40, 1000)
    assert len([name for name in fs.names() if name.startswith("seg-")]) > 3
    again = opened(fs.after_a_kill())
    assert list(again.records()) == [Record(number, payload(number, 1000)) for number in range(1, 41)]
    assert again.said == ()


def test_a_batch_of_more_than_a_segment_has_a_segment_of_its_own() -> None:
    fs = written(40, 1000, each=20)
    assert [record.revision for record in opened(fs.after_a_power_cut()).records()] == list(range(1, 41))


def test_the_records_of_a_journal_that_is_open_are_those_that_are_durable() -> None:
    journal = opened(PretendFs())
    for number in range(1, 30):
        journal.append(payload(number, 1000))
        journal.sync()
    journal.append(b"not yet")
    assert [record.revision for record in journal.records()] == list(range(1, 30))
    journal.snapshot(20, b"the first twenty")
    assert [record.revision for record in journal.records()] == list(range(21, 31))


def test_a_snapshot_lets_go_of_what_only_older_ones_needed() -> None:
    fs = PretendFs()
    journal = opened(fs)
    for round_ in range(4):
        for _ in range(20):
            journal.append(payload(journal.revision + 1, 1000))
            journal.sync()
        journal.snapshot(journal.revision, f"round {round_}".encode())
    journal.close()
    assert sorted(name for name in fs.names() if name.startswith("snap-")) == [snapshot_name(60), snapshot_name(80)]
    assert segment_name(1) not in fs.names()
    again = opened(fs.after_a_power_cut())
    assert (again.state, list(again.records()), again.append(b"next")) == (Snapshot(80, b"round 3"), [], 81)


def test_when_the_newest_snapshot_is_damaged_the_one_before_it_serves() -> None:
    fs = PretendFs()
    journal = opened(fs)
    for number in range(1, 31):
        journal.append(payload(number, 1000))
    journal.snapshot(10, b"ten")
    journal.snapshot(30, b"thirty")
    journal.close()
    files = fs.contents()
    files[snapshot_name(30)] = flipped(files[snapshot_name(30)], 0)
    again = opened(PretendFs(files))
    assert again.state == Snapshot(10, b"ten")
    assert [record.revision for record in again.records()] == list(range(11, 31))
    assert snapshot_name(30) in again.said[0]
    again.append(b"more")
    again.snapshot(31, b"thirty-one")
    assert again.state == Snapshot(31, b"thirty-one")


def test_what_is_kept_in_case_of_need_is_looked_at_too() -> None:
    fs = PretendFs()
    journal = opened(fs)
    for number in range(1, 41):
        journal.append(payload(number, 1000))
        journal.sync()
        if number in (20, 40):
            journal.snapshot(number, b"up to %d" % number)
    journal.close()
    files = fs.contents()
    kept = read_kept(fs)
    assert kept is not None
    assert told_of_the_rest(fs, kept) == ()
    for name in files:
        if name in (snapshot_name(40), IDENTITY_FILE) or name in {segment.name for segment in kept.segments}:
            continue
        (said,) = (
            told_of_the_rest(PretendFs({**files, name: flipped(files[name], 8 * (FRAMES_AT + 40))}), kept)
            if name.startswith("seg-")
            else told_of_the_rest(PretendFs({**files, name: files[name][1:]}), kept)
        )
        assert said.startswith(f"{name}, byte ")
        assert said.endswith("needed only if the newest snapshot is lost")


@pytest.mark.parametrize(
    ("records", "took_ns", "in_the_loop"), [(1, 0, True), (FEW, 0, True), (FEW + 1, 0, False), (1, QUICK_NS, False)]
)
async def test_a_few_records_on_a_quick_disk_are_synced_in_the_loop_and_others_in_a_thread(
    anyio_backend: str, records: int, took_ns: int, in_the_loop: bool
) -> None:
    fs = PretendFs()
    journal = opened(fs)
    threads = set()
    fs.before = lambda operation, number: threads.add(threading.get_ident())
    for number in range(records):
        journal.append(payload(number))
    journal.took_ns = took_ns
    assert journal.sync_if_quick() == in_the_loop == (journal.durable == records)
    await journal.committed(records)
    assert (threads == {threading.get_ident()}) == in_the_loop
    assert len(threads) == 1


async def test_all_who_are_ready_append_before_the_first_of_them_syncs(anyio_backend: str) -> None:
    fs = PretendFs()
    journal = opened(fs)
    before = fs.done

    async def one() -> None:
        await journal.committed(journal.append(b"x"))

    async with anyio.create_task_group() as group:
        for _ in range(FEW):
            group.start_soon(one)
    assert fs.done - before == 4, "one sync"


def test_one_sync_serves_all_that_was_appended() -> None:
    fs = PretendFs()
    journal = opened(fs)
    before = fs.done
    for number in range(64):
        journal.append(payload(number))
    journal.sync()
    assert fs.done - before == 4, "a write and a sync of the records, and of the mark"


def test_records_are_found_with_their_places() -> None:
    fs = written(3)
    kept = read_kept(fs)
    assert kept is not None
    for found in records_kept(fs, kept):
        data = fs.read(found.file)
        assert data[found.offset + 16 :].startswith(found.record.payload)


# -- damage -----------------------------------------------------------------------------------------------------------


def torn() -> tuple[dict[str, bytes], int, int]:
    """200 acknowledged records and five that were written and never acknowledged: files, acknowledged, all."""
    fs = written(200, each=10)
    journal = opened(fs.after_a_kill())
    disk = journal.fs
    assert isinstance(disk, PretendFs)
    for number in range(201, 206):
        journal.append(payload(number))

    def before(operation: str, number: int) -> None:
        if operation == "sync":
            raise OSError(5, "the power goes")

    disk.before = before
    with pytest.raises(JournalStopped):
        journal.sync()
    assert journal.durable == 200
    return disk.contents(), 200, 205


def damage_or_records(files: dict[str, bytes]) -> tuple[JournalDamaged | None, list[Record]]:
    try:
        return None, found_in(files)
    except JournalDamaged as damage:
        return damage, []


def check(files: dict[str, bytes], name: str, at: int, acknowledged: int, appended: int) -> str:
    """Never a silent loss and never an invention, whatever was done to this byte."""
    damage, records = damage_or_records(files)
    if damage is not None:
        assert damage.file == name, damage
        assert damage.offset <= at, damage
        assert f"{name}, byte {damage.offset}: " in str(damage)
        return "refused"
    assert records == [Record(number, payload(number)) for number in range(1, len(records) + 1)]
    assert acknowledged <= len(records) <= appended
    return "kept"


def test_a_segment_cut_at_any_byte_has_lost_nothing_or_is_refused() -> None:
    files, acknowledged, appended = torn()
    whole = files[FIRST]
    answers = [
        check({**files, FIRST: whole[:cut]}, FIRST, cut, acknowledged, appended) for cut in range(len(whole))
    ]  # fmt: skip
    assert answers == sorted(answers, reverse=True), "a longer file is never worse"
    assert answers.index("kept") > FRAMES_AT + 200 * 16


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bits_of(files: dict[str, bytes], *, every: bool) -> Iterator[tuple[str, int]]:
    """The bits of all files; unless every one is wanted, one of each byte, and of zeros only if they follow something.

    It is another bit from byte to byte, and from one row of eight to the next.
    """
    for name, data in sorted(files.items()):
        for at in range(len(data)):
            if every:
                yield from ((name, 8 * at + bit) for bit in range(8))
            elif data[max(0, at - 64) : at + 1].strip(b"\0"):
                yield name, 8 * at + (at + at // 8) % 8


def test_no_bit_can_flip_without_notice_or_for_nothing() -> None:
    files, acknowledged, appended = torn()
    answers = {
        check({**files, name: flipped(files[name], bit)}, name, bit // 8, acknowledged, appended)
        for name, bit in bits_of(files, every=False)
    }
    assert answers == {"refused", "kept"}


def test_no_bit_of_a_newest_snapshot_can_flip_without_notice() -> None:
    """The one before it serves, and the records since: the same comes out."""
    fs = written(30)
    journal = opened(fs.after_a_kill())
    journal.snapshot(10, b"ten")
    journal.snapshot(20, b"twenty")
    journal.close()
    assert isinstance(journal.fs, PretendFs)
    files, name = journal.fs.contents(), snapshot_name(20)
    for bit in range(8 * len(files[name])):
        kept = read_kept(PretendFs({**files, name: flipped(files[name], bit)}))
        assert kept is not None
        assert (kept.state, kept.revision) == (Snapshot(10, b"ten"), 30)
        assert kept.said[0].startswith(f"{name}, byte 0: ")


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_no_bit_at_all_can_flip_without_notice_nor_those_of_zeros() -> None:
    files, acknowledged, appended = torn()
    for name, bit in bits_of(files, every=True):
        check({**files, name: flipped(files[name], bit)}, name, bit // 8, acknowledged, appended)


def test_bursts_and_misplaced_sectors_are_seen_seeds_0_to_1999() -> None:
    files, acknowledged, appended = torn()
    whole = files[FIRST]
    for seed in range(2000):
        roll = Random(seed)
        data = bytearray(whole)
        here, there = (roll.randrange(len(whole) // 512) * 512 for _ in range(2))
        match roll.choice(("zeros", "copy", "swap", "noise")):
            case "zeros":
                data[here : here + 512] = bytes(512)
            case "copy":
                data[here : here + 512] = whole[there : there + 512]
            case "swap":
                data[here : here + 512] = whole[there : there + 512]
                data[there : there + 512] = whole[here : here + 512]
            case _:
                data[here : here + 64] = roll.randbytes(64)
        check({**files, FIRST: bytes(data)}, FIRST, len(whole), acknowledged, appended)


def test_a_file_that_is_missing_is_missed() -> None:
    fs = PretendFs()
    journal = opened(fs)
    for number in range(1, 41):
        journal.append(payload(number, 1000))
        journal.sync()
        if number == 30:
            journal.snapshot(30, b"thirty")
    journal.close()
    files = fs.contents()
    needed = [name for name in files if name.startswith("seg-")]
    assert len(needed) > 4
    for name in needed[1:]:
        without = {other: data for other, data in files.items() if other != name and other != snapshot_name(30)}
        with pytest.raises(JournalDamaged):
            found_in(without)
    with pytest.raises(JournalDamaged, match="no segment at all, beside IDENTITY"):
        found_in({IDENTITY_FILE: files[IDENTITY_FILE]})
    with pytest.raises(JournalDamaged, match="no segment at all"):
        found_in({snapshot_name(30): files[snapshot_name(30)]})


def test_a_journal_that_ends_below_its_snapshot_has_lost_something() -> None:
    fs = written(20, 100)
    short = fs.contents()
    journal = opened(fs.after_a_kill())
    for _ in range(10):
        journal.append(b"more")
    journal.snapshot(30, b"thirty")
    snapshot = journal.fs.read(snapshot_name(30))
    with pytest.raises(JournalDamaged, match=r"record 20 is the last; expected all up to 30, of which there is a snap"):
        found_in({**short, snapshot_name(30): snapshot})


def test_files_of_another_journal_are_told_apart() -> None:
    one, other = written(5).contents(), written(5).contents()
    with pytest.raises(JournalDamaged, match="a segment of another journal"):
        found_in({**one, FIRST: other[FIRST]})


def test_an_older_state_of_the_same_segment_is_damage_when_its_mark_is_newer() -> None:
    fs = written(5)
    old = fs.contents()[FIRST]
    journal = opened(fs.after_a_kill())
    journal.append(b"six")
    journal.close()
    new = journal.fs.read(FIRST)
    with pytest.raises(JournalDamaged, match="nothing; expected record 6 of those acknowledged, up to 6"):
        found_in({**fs.contents(), FIRST: new[:FRAMES_AT] + old[FRAMES_AT:]})


def test_one_block_that_cannot_be_read_is_told_and_two_are_damage() -> None:
    files = written(5).contents()
    for at in BLOCKS_AT:
        data = bytearray(files[FIRST])
        data[at] ^= 1
        journal = opened(PretendFs({**files, FIRST: bytes(data)}))
        assert f"byte {at}: this block cannot be read" in journal.said[0]
        assert journal.revision == 5
        journal.append(b"six")
        journal.close()
        assert isinstance(journal.fs, PretendFs)
        assert opened(journal.fs.after_a_power_cut()).said == (), "both were written again"
    data = bytearray(files[FIRST])
    for at in BLOCKS_AT:
        data[at] ^= 1
    with pytest.raises(JournalDamaged, match=rf"{FIRST}, byte 0: neither of its two blocks can be read"):
        opened(PretendFs({**files, FIRST: bytes(data)}))


def test_identity_is_written_again_when_it_is_not_whole() -> None:
    files = written(5).contents()
    journal = opened(PretendFs({**files, IDENTITY_FILE: b"?"}))
    assert IDENTITY_FILE in journal.said[0]
    assert journal.fs.read(IDENTITY_FILE) == files[IDENTITY_FILE]


def test_a_stale_record_never_comes_back_behind_a_new_one_of_the_same_length() -> None:
    """Of an unacknowledged batch the first record was lost with the power, and the second was not."""
    fs = written(3)
    journal = opened(fs)
    at = journal._block.mark.at
    journal.append(b"aaaa")
    journal.append(b"bbbb")
    fs.fail(fs.done + 2, for_ever=True)
    with pytest.raises(JournalStopped):
        journal.sync()
    files = fs.contents()
    data = bytearray(files[FIRST])
    data[at : at + 20] = bytes(20)
    again = opened(PretendFs({**files, FIRST: bytes(data)}))
    assert again.revision == 3
    assert "was never acknowledged" in again.said[0]
    again.append(b"AAAA")
    again.close()
    assert isinstance(again.fs, PretendFs)
    assert [record.payload for record in opened(again.fs).records()][3:] == [b"AAAA"]


# -- failures ---------------------------------------------------------------------------------------------------------


class PowerCut(BaseException):
    """Nothing runs any more."""


class Life:
    """What one writer did: what it appended, what it was told is durable."""

    def __init__(self) -> None:
        self.appended = self.durable = 0
        self.journal: FileJournal | None = None

    def live(self, fs: PretendFs, past: int = 0) -> None:
        self.durable = past
        self.journal = journal = opened(fs)
        assert journal.revision >= past, "what was durable is there"
        self.appended = self.durable = journal.revision
        for batch in (1, 2, 1, 3, 1, 2):
            for _ in range(batch):
                self.appended += 1
                assert journal.append(payload(self.appended, 2000)) == self.appended
            journal.sync()
            self.durable = journal.durable
            if batch == 3:
                journal.snapshot(self.durable, b"up to %d" % self.durable)
        journal.close()


def check_disk(fs: PretendFs, life: Life) -> int:
    """Before or after what was under way, never anything else; and it can be written on."""
    journal = opened(fs)
    upto = journal.state.revision if journal.state else 0
    if journal.state:
        assert journal.state.state == b"up to %d" % upto
    records = list(journal.records())
    assert records == [Record(number, payload(number, 2000)) for number in range(upto + 1, journal.revision + 1)]
    assert life.durable <= journal.revision <= life.appended
    journal.append(payload(journal.revision + 1, 2000))
    journal.close()
    assert opened(fs.after_a_power_cut()).revision == journal.revision
    return journal.revision


def operations() -> int:
    fs = PretendFs()
    Life().live(fs)
    return fs.done


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
def test_whatever_operation_fails_the_journal_stops_and_keeps_what_it_has_promised(for_ever: bool) -> None:
    count = operations()
    assert count > 50
    for number in range(1, count + 1):
        fs, life = PretendFs(), Life()
        fs.fail(number, for_ever=for_ever)
        with pytest.raises(JournalStopped, match="Input/output error in") as stopped:
            life.live(fs)
        assert stopped.value.durable >= life.durable
        assert stopped.value.revision == life.appended
        assert fs.done == number, "nothing is tried again"
        fs.before = lambda operation, number: None
        if life.journal is not None:
            with pytest.raises(JournalStopped):
                life.journal.append(b"more")
            with pytest.raises(JournalStopped):
                life.journal.sync()
            life.journal.close()
        for seed in range(6):
            check_disk(fs.after_a_power_cut(Random(seed)), life)
            killed = fs.after_a_kill()
            found = opened(killed).revision
            # What a restarted writer has taken for true must not vanish with the power after that.
            assert opened(killed.after_a_power_cut(Random(seed))).revision == found
            kept = read_kept(killed.after_a_power_cut())
            assert kept is not None
            assert kept.segments[-1].block.mark.revision == found, "and nobody can cut it off unnoticed"
        check_disk(fs.after_a_kill(), life)


def test_a_segment_that_was_begun_just_before_the_end_is_missed_when_it_is_lost_later() -> None:
    fs = PretendFs()
    journal = opened(fs)
    journal.append(payload(1, 7000))
    journal.sync()
    journal.append(payload(2, 7000))
    seal = fs.done + 6
    fs.fail(seal, for_ever=True)
    with pytest.raises(JournalStopped, match=f"write {seal}"):
        journal.sync()
    again = opened(fs.after_a_kill())
    assert again.revision == 1
    again.append(payload(2, 100))
    again.close()
    assert isinstance(again.fs, PretendFs)
    files = again.fs.contents()
    assert len(found_in(files)) == 2
    del files[segment_name(2)]
    with pytest.raises(JournalDamaged, match=f"{segment_name(2)}, byte 0: no such file"):
        found_in(files)


def test_power_cut_before_any_operation_keeps_what_was_promised_seeds_0_to_15() -> None:
    for number in range(1, operations() + 1):
        fs, life = PretendFs(), Life()
        _cut_at(fs, number)
        with pytest.raises(PowerCut):
            life.live(fs)
        for seed in range(16):
            check_disk(fs.after_a_power_cut(Random(seed)), life)


def test_power_cuts_during_recoveries_keep_what_was_promised_seeds_0_to_299() -> None:
    for seed in range(300):
        roll = Random(seed)
        fs, life = PretendFs(), Life()
        past = 0
        for _ in range(4):
            _cut_at(fs, roll.randint(1, 60))
            try:
                life.live(fs, past)
            except PowerCut:
                past = life.durable
                fs = fs.after_a_power_cut(roll)
            else:
                past, fs = life.durable, fs.after_a_kill()
        check_disk(fs, life)


def _cut_at(fs: PretendFs, at: int) -> None:
    def before(operation: str, number: int) -> None:
        if number == at:
            raise PowerCut

    fs.before = before


def test_a_file_that_cannot_be_read_is_no_empty_journal() -> None:
    class Unreadable(PretendFs):
        def read(self, name: str) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(JournalStopped, match="Input/output error"):
        opened(Unreadable(written(3).contents()))


# -- real processes ---------------------------------------------------------------------------------------------------

WRITER = """
import sys
from geartrain.ports.file_journal import FileJournal
journal = FileJournal(sys.argv[1], segment_bytes=16384)
print(0, journal.revision, flush=True)
while True:
    for _ in range(3):
        journal.append(b"record %d " % (journal.revision + 1))
    appended = journal.revision
    journal.sync()
    sys.stdout.write(f"{journal.durable} {appended}\\n")
    sys.stdout.flush()
    if journal.durable % 60 == 0:
        journal.snapshot(journal.durable, b"%d" % journal.durable)
"""


def kill_in_the_middle(folder: Path, after_lines: int) -> int:
    """SIGKILL a writer once it has said so many lines; what it has said to be durable, all that it could say read."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    lines = [writer.stdout.readline() for _ in range(after_lines)]
    writer.send_signal(signal.SIGKILL)
    lines += writer.stdout.read().splitlines(keepends=True)
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL
    said = [line for line in lines if line.endswith("\n")]
    return max((int(line.split()[0]) for line in said), default=0)


def kills(folder: Path, rounds: int, seed: int) -> None:
    roll = Random(seed)
    for _ in range(rounds):
        durable = kill_in_the_middle(folder, roll.randint(1, 120))
        journal = FileJournal(folder, segment_bytes=SMALL)
        upto = journal.state.revision if journal.state else 0
        assert not journal.state or journal.state.state == b"%d" % upto
        assert [record.payload for record in journal.records()] == [
            payload(number) for number in range(upto + 1, journal.revision + 1)
        ]
        assert journal.revision >= durable
        journal.close()


def test_a_writer_that_is_killed_has_lost_nothing_that_it_had_acknowledged_seed_1(tmp_path: Path) -> None:
    kills(tmp_path / "journal", rounds=5, seed=1)


@pytest.mark.soak
def test_two_hundred_kills_lose_nothing_seed_2(tmp_path: Path) -> None:
    kills(tmp_path / "journal", rounds=200, seed=2)


def test_a_journal_that_is_being_written_is_whole_to_whoever_looks(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.DEVNULL)
    try:
        fs, last = RealFs(folder), 0
        while last < 1500:
            kept = read_kept(fs) if folder.is_dir() else None
            if kept is not None:
                assert kept.revision >= last
                last = kept.revision
    finally:
        writer.kill()
        writer.wait()


def test_a_second_writer_is_refused_and_told_who_is_the_first(tmp_path: Path) -> None:
    with_pid = f"is being written by process {os.getpid()}"
    first = FileJournal(tmp_path)
    with pytest.raises(JournalInUse, match=with_pid) as refused:
        FileJournal(tmp_path)
    assert refused.value.pid == os.getpid()
    code = f"from geartrain.ports.file_journal import FileJournal; FileJournal({str(tmp_path)!r})"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert with_pid in other.stderr
    first.append(b"still mine")
    first.close()
    assert FileJournal(tmp_path).revision == 1


FILLER = """
import resource, sys
from geartrain.errors import JournalStopped
from geartrain.ports.file_journal import FileJournal
journal = FileJournal(sys.argv[1], segment_bytes=1 << 17)
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
try:
    while True:
        journal.append(b"record %d ".ljust(500) % (journal.revision + 1))
        journal.sync()
except JournalStopped as stopped:
    print(stopped.durable, stopped.revision, stopped)
try:
    journal.append(b"more")
except JournalStopped:
    print("stopped")
"""


def fill(folder: Path, how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLER, str(folder), how], capture_output=True, text=True, check=True, timeout=60
    )
    first, last = done.stdout.splitlines()
    durable, revision = map(int, first.split()[:2])
    assert last == "stopped"
    assert "has failed (" in first
    kept = read_kept(RealFs(folder))
    assert kept is not None
    assert durable <= kept.revision <= revision
    assert durable > 50


def test_when_no_file_may_grow_the_journal_stops_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    fill(tmp_path / "journal", "limit")
    journal = FileJournal(tmp_path / "journal")
    journal.append(b"there is room again")
    journal.close()


def test_when_the_disk_is_full_the_journal_stops_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        (disk / "ballast").write_bytes(bytes(400_000))
        fill(disk / "journal", "full")
        (disk / "ballast").unlink()
        journal = FileJournal(disk / "journal", segment_bytes=1 << 17)
        journal.append(b"there is room again")
        journal.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_everything_raised_is_an_error_of_geartrains(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GeartrainError):
        FileJournal(tmp_path / "file")
