"""What the journal of an arbiter tells: whole or damaged and where, and who held what when."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from geartrain.errors import BadValue, JournalDamaged, PlaceRefused
from geartrain.faces import lease_calls
from geartrain.faces.lease import Wanted, compacted, standing, story, watched
from geartrain.ports.file_journal import SEGMENT_BYTES, FileJournal
from geartrain.ports.lease_audit import AuditLog
from geartrain.ports.process_table import boot_id
from geartrain.rules.journal_frames import FRAMES_AT, segment_name
from geartrain.rules.lease import State
from geartrain.rules.lease_ledger import encode, encode_snapshot
from geartrain.rules.lease_words import (
    Acquire,
    Begin,
    Claim,
    Command,
    Grant,
    Note,
    Open,
    Opened,
    Release,
    SetMode,
    Tick,
)
from tests.faces.conftest import Told

S = 1_000_000_000
NOON_NS = 1_800_000_000 * S
LEFT, RIGHT = Claim("workcell/left"), Claim("workcell/right")


class Arbiter:
    """Decides, and writes it down."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.journal = FileJournal(folder, segment_bytes=segment_bytes)
        self.audit = AuditLog(folder)
        self.state = State()

    def tell(self, command: Command, now_s: float) -> tuple[object, ...]:
        outcome = self.state.decide(command, int(now_s * S))
        for record in outcome.records:
            self.journal.append(encode(record))
        self.journal.sync()
        for audit in outcome.audit:
            self.audit.write(NOON_NS + int((now_s - 10) * S), audit)
        return outcome.replies


def arbitrated(folder: Path) -> None:
    """One arm takes left, lets it go and takes right, till its time is over."""
    arbiter = Arbiter(folder)
    arbiter.tell(Begin("a boot", NOON_NS), 10)
    (opened,) = arbiter.tell(Open("a secret", "arm", 60 * S), 11)
    assert isinstance(opened, Opened)
    (grant,) = arbiter.tell(Acquire(opened.session, 1, (LEFT,), 5 * S), 12)
    assert isinstance(grant, Grant)
    (moded,) = arbiter.tell(SetMode(opened.session, 2, grant.lease, grant.token, "s"), 13)
    arbiter.tell(Release(opened.session, 3, grant.lease, moded.token), 13.5)  # type: ignore[attr-defined]
    arbiter.tell(Acquire(opened.session, 4, (RIGHT,), 5 * S, label="welding"), 14)
    arbiter.tell(Tick(), 100)
    arbiter.tell(Acquire(opened.session, 5, (RIGHT,), 5 * S), 100)
    arbiter.journal.close()


def test_the_story_says_who_held_what_when_and_how_it_ended(tmp_path: Path) -> None:
    arbitrated(tmp_path)
    lines = list(story(tmp_path))
    told = [(line.what, line.label, [wanted.region for wanted in line.regions]) for line in lines]
    assert told[:6] == [
        ("arbiter began", "", []),
        ("session opened", "arm", []),
        ("granted", "arm", ["workcell/left"]),
        ("mode changed", "arm", ["workcell/left"]),
        ("released", "arm", ["workcell/left"]),
        ("granted", "welding", ["workcell/right"]),
    ]
    assert ("expired", "welding", ["workcell/right"]) in told
    assert [line.revision for line in lines if line.revision] == list(range(1, 9))
    assert lines[-1].what == "refused"
    assert lines[0].at == "2027-01-15T08:00:00.000+00:00"
    assert lines[4].at == "2027-01-15T08:00:03.500+00:00"
    assert lines[4].regions == (Wanted("workcell/left", "s"),)
    assert "a secret" not in repr(lines)


def test_a_region_tells_only_what_touches_it(tmp_path: Path) -> None:
    arbitrated(tmp_path)
    assert {line.what for line in story(tmp_path, "./workcell//left")} == {"granted", "mode changed", "released"}
    assert len({line.lease for line in story(tmp_path, "workcell") if line.lease}) == 2
    assert list(story(tmp_path, "elsewhere")) == []


def test_a_whole_journal_says_what_it_comes_to(tmp_path: Path) -> None:
    arbitrated(tmp_path)
    found = standing(tmp_path)
    assert (found.revision, found.records, found.segments, found.snapshot, found.leases) == (8, 8, 1, 0, 0)


def test_a_compacted_journal_comes_to_the_same_and_tokens_go_on(tmp_path: Path) -> None:
    arbiter = Arbiter(tmp_path)
    arbiter.tell(Begin("a boot", NOON_NS), 10)
    (opened,) = arbiter.tell(Open("a secret", "arm", 60 * S), 11)
    arbiter.tell(Acquire(opened.session, 1, (LEFT,), 5 * S), 12)  # type: ignore[attr-defined]
    arbiter.journal.close()
    before = standing(tmp_path)
    assert compacted(tmp_path).records == 3
    assert compacted(tmp_path).records == 0
    after = standing(tmp_path)
    assert (after.snapshot, after.revision) == (3, 3)
    assert (after.leases, after.sessions) == (before.leases, before.sessions) == (1, 1)


def test_a_record_that_no_arbiter_has_written_is_damage_with_its_place(tmp_path: Path) -> None:
    arbitrated(tmp_path)
    journal = FileJournal(tmp_path)
    journal.append(b"\xc1")
    journal.close()
    with pytest.raises(JournalDamaged, match="a record of leases cannot be read") as refused:
        standing(tmp_path)
    assert refused.value.file == segment_name(1)
    assert refused.value.offset > FRAMES_AT


def test_a_record_that_does_not_fit_those_before_it_is_damage(tmp_path: Path) -> None:
    source = tmp_path / "source"
    arbitrated(source)
    journal = FileJournal(source)
    payloads = [record.payload for record in journal.records()]
    journal.close()
    odd = FileJournal(tmp_path / "odd")
    for payload in (payloads[0], payloads[2]):
        odd.append(payload)
    odd.close()
    with pytest.raises(JournalDamaged, match=r"record 2 \(Granted\) does not fit those before it"):
        standing(tmp_path / "odd")


def test_where_there_is_no_journal_none_is_made(tmp_path: Path) -> None:
    for look in (standing, compacted, story):
        with pytest.raises(BadValue, match=r"there is no journal in .*: say with --dir where it is"):
            look(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_who_was_refused_and_why_stands_where_it_happened(tmp_path: Path) -> None:
    arbiter = Arbiter(tmp_path)
    arbiter.tell(Begin("a boot", NOON_NS), 10)
    (one,) = arbiter.tell(Open("a secret", "left arm", 60 * S), 11)
    (two,) = arbiter.tell(Open("another", "right arm", 60 * S), 11)
    arbiter.tell(Acquire(one.session, 1, (LEFT,), 5 * S), 12)  # type: ignore[attr-defined]
    arbiter.tell(Acquire(two.session, 1, (LEFT,), 5 * S), 13)  # type: ignore[attr-defined]
    arbiter.tell(Acquire(two.session, 2, (RIGHT,), 5 * S), 14)  # type: ignore[attr-defined]
    arbiter.journal.close()
    lines = story(tmp_path)
    assert [line.what for line in lines][3:] == ["granted", "refused", "granted"]
    assert lines[4].said.startswith("conflict: it is taken: lease 4 of session 2 on 'workcell/left' (x)")
    assert [line.what for line in story(tmp_path, "workcell/left")] == ["granted", "refused"]


def test_behind_a_snapshot_what_happened_in_this_boot_is_dated_by_what_the_clocks_say_now(tmp_path: Path) -> None:
    for boot, is_dated in ((boot_id(), True), ("another", False)):
        folder = tmp_path / boot
        arbiter = Arbiter(folder, segment_bytes=16384)
        arbiter.tell(Begin(boot, NOON_NS), 10)
        (opened,) = arbiter.tell(Open("a secret", "arm", 600 * S), 11)
        for number in range(1, 400):
            arbiter.tell(Acquire(opened.session, number, (LEFT,), S, bind="ttl"), 10 + 2 * number)  # type: ignore[attr-defined]
            if number == 200:
                arbiter.journal.snapshot(arbiter.state.revision, encode_snapshot(arbiter.state.ledger.snapshot()))
        arbiter.journal.close()
        lines = story(folder)
        assert lines[0].revision > 1, "the start is not kept any more"
        assert all(bool(line.at) == is_dated for line in lines)


def test_a_note_is_no_record(tmp_path: Path) -> None:
    arbiter = Arbiter(tmp_path)
    arbiter.tell(Begin("a boot", NOON_NS), 10)
    (opened,) = arbiter.tell(Open("a secret", "arm", 60 * S), 11)
    arbiter.tell(Note(opened.session, "halt", "stop it"), 12)  # type: ignore[attr-defined]
    arbiter.journal.close()
    assert [(line.revision, line.what) for line in story(tmp_path)] == [
        (1, "arbiter began"), (2, "session opened"), (0, "halt"),
    ]  # fmt: skip


def test_what_cannot_be_read_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for look in (standing, story, compacted):
        with pytest.raises(PlaceRefused, match="cannot be read: Not a directory"):
            look(tmp_path / "file")


# -- the commands -----------------------------------------------------------------------------------------------------


def test_the_commands_say_it_in_words_and_in_json(tmp_path: Path, told_here: Told) -> None:
    arbitrated(tmp_path)
    where = ("--dir", str(tmp_path))
    assert told_here("lease", "fsck", *where).stdout == "whole up to revision 8: 0 leases, 0 sessions\n"
    (found,) = map(json.loads, told_here("lease", "fsck", "--format", "json", *where).stdout.splitlines())
    assert found["revision"] == 8
    table = told_here("lease", "journal", *where).stdout.splitlines()
    assert table[0].split() == ["REV", "AT", "WHAT", "LEASE", "TOKEN", "SESSION", "LABEL", "REGIONS", "SAID"]
    assert "workcell/left (x)" in table[3]
    lines = [json.loads(line) for line in told_here("lease", "journal", "--format", "json", *where).stdout.splitlines()]
    assert lines[2]["regions"] == [{"region": "workcell/left", "mode": "x"}]
    said = told_here("lease", "compact", *where).stdout
    assert said == "8 records up to revision 8 have become a snapshot of 0 leases and 0 sessions\n"


def test_a_damaged_journal_ends_with_65_and_names_file_and_place(tmp_path: Path, told_here: Told) -> None:
    arbitrated(tmp_path)
    path = tmp_path / segment_name(1)
    data = bytearray(path.read_bytes())
    data[FRAMES_AT + 20] ^= 1
    path.write_bytes(data)
    for command in ("fsck", "journal", "compact"):
        done = told_here("lease", command, "--dir", str(tmp_path))
        assert done.returncode == 65
        assert f"{segment_name(1)}, byte {FRAMES_AT}: " in done.stderr
        assert done.stdout == ""
    assert path.read_bytes() == data, "nothing is changed"


def test_a_journal_in_use_is_looked_at_and_not_compacted(tmp_path: Path, told_here: Told) -> None:
    arbitrated(tmp_path)
    journal = FileJournal(tmp_path)
    where = ("--dir", str(tmp_path))
    assert told_here("lease", "fsck", *where).returncode == 0
    done = told_here("lease", "compact", *where)
    assert done.returncode == 4
    assert "is being written by process" in done.stderr
    journal.close()


def test_no_journal_is_a_refusal_with_what_to_do(tmp_path: Path, told_here: Told) -> None:
    done = told_here("lease", "fsck", "--dir", str(tmp_path / "nothing"))
    assert done.returncode == 2
    assert "say with --dir where it is" in done.stderr


def test_who_watches_sees_what_happens_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arbitrated(tmp_path)
    looks = []

    def meanwhile(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=S)

    monkeypatch.setattr("geartrain.faces.lease.time", SimpleNamespace(sleep=meanwhile, monotonic=lambda: len(looks)))
    what = [line.what for line in watched(tmp_path, for_s=4) if line.what != "arbiter began"]
    assert [one for one in what if one != "expired"] == ["session opened", "granted", "session ended"]


def test_what_is_to_be_halted_and_what_is_about_to_begin_stands_in_the_journal(told_here: Told, tmp_path: Path) -> None:
    arbitrated(tmp_path)
    where = ("--dir", str(tmp_path))
    assert told_here("lease", "spawn", "welder 3", *where).returncode == 0
    assert told_here("lease", "halt", "6", "the arm is too hot", *where).returncode == 0
    noted = [(line.what, line.lease, line.said) for line in story(tmp_path) if line.what in ("halt", "intent")]
    assert noted == [("intent", 0, "welder 3"), ("halt", 6, "the arm is too hot")]
    assert told_here("lease", "spawn", "two\u2028lines", *where).returncode == 2
