"""What the door to a journal's folder does, on a real one."""

import os
from pathlib import Path

import pytest

from geartrain.errors import JournalInUse
from geartrain.ports.fs import RealFs


def test_a_folder_is_made_with_those_above_it_and_for_its_owner_only(tmp_path: Path) -> None:
    fs = RealFs(tmp_path / "some" / "where")
    fs.prepare()
    fs.prepare()
    assert fs.folder.stat().st_mode & 0o777 == 0o700


def test_a_write_that_takes_only_a_part_goes_on_until_all_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: real(file, data[:3], at))
    fs = RealFs(tmp_path)
    file = fs.open("some", fresh=True)
    fs.write(file, b"ten bytes.", 2)
    fs.sync(file)
    fs.close(file)
    assert fs.read("some") == b"\0\0ten bytes."


def test_a_fresh_file_is_empty_and_another_one_must_be_there(tmp_path: Path) -> None:
    fs = RealFs(tmp_path)
    (tmp_path / "some").write_bytes(b"old")
    fs.close(fs.open("some"))
    assert fs.read("some") == b"old"
    fs.close(fs.open("some", fresh=True))
    assert fs.read("some") == b""
    with pytest.raises(FileNotFoundError):
        fs.open("other")


def test_a_file_takes_the_place_of_another_or_is_gone(tmp_path: Path) -> None:
    fs = RealFs(tmp_path)
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"2")
    fs.rename("one", "two")
    fs.sync_folder()
    assert (fs.names(), fs.read("two")) == (["two"], b"1")
    fs.remove("two")
    assert fs.names() == []


def test_a_held_file_is_refused_with_the_pid_of_who_holds_it_until_it_is_closed(tmp_path: Path) -> None:
    fs = RealFs(tmp_path)
    held = fs.lock("LOCK")
    with pytest.raises(JournalInUse, match=f"process {os.getpid()}: ask that one") as refused:
        fs.lock("LOCK")
    assert refused.value.pid == os.getpid()
    fs.close(held)
    fs.close(fs.lock("LOCK"))


def test_a_lock_file_that_was_taken_away_locks_nobody_out_of_a_new_one(tmp_path: Path) -> None:
    fs = RealFs(tmp_path)
    held = fs.lock("LOCK")
    fs.remove("LOCK")
    again = fs.lock("LOCK")
    with pytest.raises(JournalInUse):
        fs.lock("LOCK")
    fs.close(held)
    fs.close(again)
