"""Leases for programs that come and go, each a process of its own: whatever they do at once, and however they end."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geartrain.actors.arbiter import Bench, recovered
from geartrain.engine.lease_socket import SOCKET
from geartrain.errors import BadValue, JournalInUse, LeaseRefused
from geartrain.faces import lease_calls
from geartrain.faces.lease import Held, held, standing
from geartrain.ports import lease_backend, lease_line
from geartrain.ports.clock import WallClock, mono_ns
from geartrain.ports.file_journal import FileJournal
from geartrain.rules.lease import Terms, as_recorded
from geartrain.rules.lease_words import Claim, Note
from tests.faces.conftest import COMMAND, ROOT, Told

S = 1_000_000_000
LEFT, RIGHT = Claim("workcell/left"), Claim("workcell/right")


def started(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, "lease", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def data(told: "subprocess.CompletedProcess[str]") -> Any:
    return json.loads(told.stdout)


def held_if_any(folder: Path) -> list[Held]:
    try:
        return held(folder)
    except BadValue:
        return []


@pytest.fixture
def now_ns(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Time that is set by hand, for all who look at it here."""
    at = [100 * S]

    def move(ns: int) -> None:
        at[0] += ns

    monkeypatch.setattr(lease_calls, "mono_ns", lambda: at[0])
    monkeypatch.setattr("geartrain.faces.lease.mono_ns", lambda: at[0])
    monkeypatch.setattr(lease_line, "mono_ns", lambda: at[0])
    monkeypatch.setattr(lease_backend, "mono_ns", lambda: at[0])
    return move


def test_of_8_processes_with_one_label_exactly_one_gets_the_region(tmp_path: Path) -> None:
    words = ("acquire", "workcell/left", "--dir", str(tmp_path / "leases"), "--label", "arm", "--format", "json")
    processes = [started(*words) for _ in range(8)]
    ends = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    granted = [json.loads(out) for out, _, code in ends if code == 0]
    refused = [json.loads(out) for out, _, code in ends if code == 1]
    assert (len(granted), len(refused)) == (1, 7), ends
    assert {one["refused"] for one in refused} == {"conflict"}
    assert all(one["conflicts"][0]["lease"] == granted[0]["lease"] for one in refused)


def test_what_is_printed_is_the_lease_its_token_and_its_regions(told_here: Told, tmp_path: Path) -> None:
    where = ("--dir", str(tmp_path / "leases"), "--format", "json")
    grant = data(told_here("lease", "acquire", "workcell//left", "lock://gpu", "--label", "arm", *where))
    assert grant["regions"] == ["workcell/left", "lock://gpu"]
    assert grant["ttl_s"] == 30
    listed = data(told_here("lease", "ls", *where))
    assert [listed[key] for key in ("lease", "token", "regions", "modes", "label", "bind")] == [
        grant["lease"], grant["token"], ["workcell/left", "lock://gpu"], ["x", "x"], "arm", "ttl",
    ]  # fmt: skip
    assert 0 < listed["left_s"] <= 30.25
    refused = told_here("lease", "acquire", "workcell", *where)
    assert (refused.returncode, data(refused)["refused"]) == (1, "conflict")
    (conflict,) = data(refused)["conflicts"]
    assert conflict == {
        "lease": grant["lease"], "session": conflict["session"], "label": "arm", "region": "workcell/left", "mode": "x",
    }  # fmt: skip
    released = told_here("lease", "release", str(grant["lease"]), "--token", str(grant["token"]), *where)
    assert (released.returncode, data(released)) == (0, {"released": grant["lease"]})
    assert told_here("lease", "ls", *where).stdout == ""


def test_shared_ones_are_held_together_and_an_exclusive_one_is_not(tmp_path: Path) -> None:
    shared = Claim("workcell", "s")
    first = lease_calls.acquire(tmp_path, (shared,), ttl_ns=S)
    second = lease_calls.acquire(tmp_path, (shared,), ttl_ns=S)
    assert second.token > first.token
    with pytest.raises(LeaseRefused, match="it is taken"):
        lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=S)


def test_a_lease_is_kept_for_all_of_its_time_and_free_afterwards(tmp_path: Path, now_ns: Callable[[int], None]) -> None:
    first = lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=5 * S)
    now_ns(5 * S)
    with pytest.raises(LeaseRefused):
        lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=5 * S)
    now_ns(lease_backend.GRACE_NS)
    assert held(tmp_path) == []
    assert lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=5 * S).token > first.token


def test_a_renewed_lease_has_its_whole_time_once_more_and_no_more(
    tmp_path: Path, now_ns: Callable[[int], None]
) -> None:
    grant = lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=5 * S)
    now_ns(4 * S)
    lease_calls.renew(tmp_path, grant.lease, grant.token)
    assert held(tmp_path)[0].left_s == 5.25
    now_ns(5 * S + lease_backend.GRACE_NS)
    assert held(tmp_path) == []


def test_what_has_run_out_is_not_renewed_also_when_others_came_since(
    tmp_path: Path, now_ns: Callable[[int], None]
) -> None:
    grant = lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=S)
    now_ns(2 * S)
    for _ in range(2):
        with pytest.raises(LeaseRefused, match="had run out before") as refused:
            lease_calls.renew(tmp_path, grant.lease, grant.token)
        assert refused.value.code == "expired"
        lease_calls.acquire(tmp_path, (RIGHT,), ttl_ns=S // 10)
        now_ns(S)


def test_a_wrong_token_ends_renews_and_adopts_nothing(tmp_path: Path) -> None:
    grant = lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S)
    for call, code in (
        (lease_calls.release, "not_holder"),
        (lease_calls.renew, "not_holder"),
        (lease_calls.adopt, "holder_lives"),
    ):
        with pytest.raises(LeaseRefused) as refused:
            call(tmp_path, grant.lease, grant.token + 1)
        assert refused.value.code == code
    assert held(tmp_path)[0].token == grant.token


def test_who_releases_twice_hears_that_it_has_ended(tmp_path: Path) -> None:
    grant = lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S)
    lease_calls.release(tmp_path, grant.lease, grant.token)
    with pytest.raises(LeaseRefused, match="has ended: released") as refused:
        lease_calls.release(tmp_path, grant.lease, grant.token)
    assert refused.value.code == "not_held"


def test_who_adopts_gets_a_higher_token_and_the_old_one_is_void(tmp_path: Path) -> None:
    grant = lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S)
    done = lease_calls.adopt(tmp_path, grant.lease, grant.token, "heir")
    assert done.token > grant.token
    with pytest.raises(LeaseRefused):
        lease_calls.release(tmp_path, grant.lease, grant.token)
    lease_calls.release(tmp_path, grant.lease, done.token)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_a_name_that_is_more_than_a_line_is_refused_and_nothing_is_made(tmp_path: Path, separator: str) -> None:
    folder = tmp_path / "leases"
    with pytest.raises(BadValue, match=r"U\+[0-9A-F]{4}"):
        lease_calls.acquire(folder, (Claim(f"left{separator}right"),), ttl_ns=S)
    with pytest.raises(BadValue, match=r"U\+[0-9A-F]{4}"):
        lease_calls.acquire(folder, (LEFT,), ttl_ns=S, label=f"arm{separator}")
    assert not folder.exists()


@pytest.mark.parametrize("times", [("--ttl", "0s"), ("--ttl", "25h"), ("--wait", "25h")])
def test_a_time_that_is_none_is_refused_and_nothing_is_made(told_here: Told, tmp_path: Path, times: tuple[str]) -> None:
    found = told_here("lease", "acquire", "cell", "--dir", str(tmp_path / "leases"), *times)
    assert (found.returncode, "at most 86400 s" in found.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_journal_only_acquire_makes_one(told_here: Told, tmp_path: Path) -> None:
    where = ("--dir", str(tmp_path / "leases"))
    for words in (("release", "1", "--token", "1"), ("renew", "1", "--token", "1"), ("adopt", "1", "--token", "1")):
        found = told_here("lease", *words, *where)
        assert (found.returncode, "there is no journal" in found.stderr) == (2, True)
    assert not (tmp_path / "leases").exists()


def test_while_another_process_writes_it_ends_with_4_and_says_which(
    told_here: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_calls, "BUSY_FOR_S", 0.0)
    journal = FileJournal(tmp_path)
    found = told_here("lease", "acquire", "workcell/left", "--dir", str(tmp_path))
    journal.close()
    assert (found.returncode, f"process {os.getpid()}" in found.stderr) == (4, True)


def test_a_damaged_journal_grants_nothing_and_names_file_and_byte(told_here: Told, tmp_path: Path) -> None:
    lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S)
    lease_calls.acquire(tmp_path, (RIGHT,), ttl_ns=60 * S)
    (segment,) = [path for path in tmp_path.iterdir() if path.suffix == ".wal" or path.name.startswith("seg")]
    text = bytearray(segment.read_bytes())
    at = text.index(b"workcell/left")
    text[at] ^= 1
    segment.write_bytes(text)
    found = told_here("lease", "acquire", "elsewhere", "--dir", str(tmp_path))
    assert (found.returncode, f"{segment.name}, byte " in found.stderr) == (65, True)


def test_a_command_that_is_killed_leaves_nothing_that_locks_others_out(tmp_path: Path) -> None:
    """At whichever moment: what it had got lives for its time, and what it had not is free."""
    for _ in range(6):
        process = started("acquire", "workcell/left", "--dir", str(tmp_path), "--ttl", "1ms")
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=S, wait_ns=10 * S)
    assert standing(tmp_path).said == ()


def test_a_command_that_was_killed_and_is_said_again_by_its_name_has_one_lease(tmp_path: Path, told_here: Told) -> None:
    """Whether it had been granted by then or not."""
    for number in range(4):
        words = (
            "acquire",
            f"cell/{number}",
            "--dir",
            str(tmp_path),
            "--request-id",
            f"weld {number}",
            "--format",
            "json",
        )
        process = started(*words)
        while not number % 2 and not any(one.regions == (f"cell/{number}",) for one in held_if_any(tmp_path)):
            assert process.poll() is None or process.returncode == 0
        process.kill()
        process.communicate(timeout=30)
        grants = [data(told_here("lease", *words)) for _ in range(2)]
        assert grants[0] == grants[1]
        assert [one.token for one in held(tmp_path) if one.regions == (f"cell/{number}",)] == [grants[0]["token"]]
    where = ("--dir", str(tmp_path), "--format", "json")
    ends = ("release", str(grants[0]["lease"]), "--token", str(grants[0]["token"]), "--request-id", "done", *where)
    assert [told_here("lease", *ends).returncode for _ in range(2)] == [0, 0]
    again = told_here("lease", *words)
    assert (again.returncode, data(again)["refused"]) == (1, "not_held")


def test_a_disk_that_fails_leaves_open_whether_it_was_granted_and_the_name_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sync has failed; here what was written is found all the same."""
    sync = FileJournal.sync

    def fails(journal: FileJournal) -> None:
        sync(journal)
        raise OSError("no answer")

    lease_calls.acquire(tmp_path, (RIGHT,), ttl_ns=60 * S)
    with monkeypatch.context() as patch:
        patch.setattr(FileJournal, "sync", fails)
        with pytest.raises(OSError, match="no answer"):
            lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S, request="weld 1")
    grants = [lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S, request="weld 1") for _ in range(2)]
    assert len({grant.token for grant in grants}) == 1
    assert [one.regions for one in held(tmp_path)] == [(RIGHT.region,), (LEFT.region,)]


def test_a_name_overtakes_those_who_wait_only_for_what_it_has_got(tmp_path: Path) -> None:
    grant = lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S, request="weld 1")
    place = lease_line.PlaceInLine(tmp_path, lease_line.Waits(claims=(LEFT,), label="b", until_ns=mono_ns() + 60 * S))
    assert lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S, request="weld 1").token == grant.token
    lease_calls.release(tmp_path, grant.lease, grant.token)
    with pytest.raises(LeaseRefused, match="came first"):
        lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S, request="weld 2")
    place.leave()


def test_who_waits_gets_it_when_it_comes_free(tmp_path: Path) -> None:
    grant = lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S)
    waits = started("acquire", "workcell", "--dir", str(tmp_path), "--wait", "50s", "--format", "json")
    while not list(lease_line.waiting(tmp_path)):
        assert waits.poll() is None
    lease_calls.release(tmp_path, grant.lease, grant.token)
    out, _ = waits.communicate(timeout=60)
    assert json.loads(out)["regions"] == ["workcell"]
    assert list(lease_line.waiting(tmp_path)) == []


def test_nobody_overtakes_who_waits_and_a_dead_one_keeps_nobody_out(tmp_path: Path) -> None:
    lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S)
    waits = started("acquire", "workcell", "--dir", str(tmp_path), "--wait", "50s", "--label", "first")
    while not list(lease_line.waiting(tmp_path)):
        assert waits.poll() is None
    with pytest.raises(LeaseRefused, match="came first") as refused:
        lease_calls.acquire(tmp_path, (RIGHT,), ttl_ns=S)
    assert [one.label for one in refused.value.conflicts] == ["first"]  # type: ignore[attr-defined]
    lease_calls.acquire(tmp_path, (Claim("elsewhere"),), ttl_ns=S)
    waits.kill()
    waits.communicate(timeout=30)
    lease_calls.acquire(tmp_path, (RIGHT,), ttl_ns=S)


def test_who_has_waited_in_vain_is_told_so(tmp_path: Path) -> None:
    lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S)
    with pytest.raises(LeaseRefused, match="has not ended in time") as refused:
        lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=S, wait_ns=S // 20)
    assert refused.value.code == "timeout"
    assert list(lease_line.waiting(tmp_path)) == []


def test_many_commands_leave_a_journal_that_is_read_as_fast_as_a_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_calls, "SNAPSHOT_EVERY", 10)
    tokens = []
    for _ in range(9):
        grant = lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S)
        lease_calls.release(tmp_path, grant.lease, grant.token)
        tokens.append(grant.token)
    found = standing(tmp_path)
    assert found.revision - found.snapshot < 20
    assert tokens == sorted(set(tokens))


def test_a_command_compares_regions_as_the_arbiter_of_the_folder_does_and_leaves_it_its_terms(
    tmp_path: Path, told_here: Told
) -> None:
    terms = Terms(case="keep", budgets={"lift": 1})
    journal = FileJournal(tmp_path)
    Bench(journal, terms, WallClock(), "another boot", 1)
    journal.sync()
    journal.close()
    lease_calls.acquire(tmp_path, (Claim("Cell"),), ttl_ns=60 * S)
    lease_calls.acquire(tmp_path, (Claim("cell"),), ttl_ns=60 * S)
    assert told_here("lease", "compact", "--dir", str(tmp_path)).returncode == 0
    with pytest.raises(LeaseRefused, match="'Cell'"):
        lease_calls.acquire(tmp_path, (Claim("Cell/door"),), ttl_ns=60 * S)
    assert [one.regions for one in held(tmp_path)] == [("Cell",), ("cell",)]
    journal = FileJournal(tmp_path)
    assert as_recorded(recovered(journal), Terms()) == terms
    journal.close()


def test_a_note_changes_nothing_that_is_held(tmp_path: Path) -> None:
    grant = lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S)
    before = held(tmp_path)[0].token
    lease_calls.note(tmp_path, lambda session: Note(session, "halt", "the arm is too hot", grant.lease))
    assert held(tmp_path)[0].token == before


def test_a_journal_in_use_is_tried_until_its_time_is_over(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    with pytest.raises(JournalInUse):
        lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=S, busy_for_s=0.0)
    journal.close()
    lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=S, busy_for_s=0.0)


def test_an_arbiter_that_stands_still_is_one_that_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = FileJournal(tmp_path)
    monkeypatch.setattr(lease_calls, "_ANSWER_WITHIN_S", 0.01)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / SOCKET))
        listening.listen()
        with pytest.raises(JournalInUse):
            lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=S)
    journal.close()
