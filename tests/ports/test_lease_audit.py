"""The log of the audit: what is written is read, it stays small, and nothing that goes wrong there reaches anybody."""

import os
from pathlib import Path

import pytest

from geartrain.ports.lease_audit import AUDIT_FILE, AuditLog, read_audit
from geartrain.rules.lease_audit import Audited
from geartrain.rules.lease_words import Note, Noted


def noted(number: int) -> Noted:
    return Noted(number, Note(1, "intent", f"number {number}"))


def test_what_was_written_is_read_by_anybody_also_after_another_life(tmp_path: Path) -> None:
    for life in range(2):
        log = AuditLog(tmp_path)
        for number in range(3):
            log.write(10 * life + number, noted(number))
        log.close()
    assert [audited.wall_ns for audited in read_audit(tmp_path)] == [0, 1, 2, 10, 11, 12]


def test_a_line_that_a_killed_writer_left_does_not_swallow_the_next(tmp_path: Path) -> None:
    (tmp_path / AUDIT_FILE).write_bytes(b'{"wall_ns": 1, "aud')
    log = AuditLog(tmp_path)
    log.write(2, noted(2))
    assert read_audit(tmp_path) == (Audited(2, noted(2)),)


def test_the_newest_lines_are_kept_in_a_bounded_room(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, bytes_max=1000)
    for number in range(200):
        log.write(number, noted(number))
    found = [audited.wall_ns for audited in read_audit(tmp_path)]
    assert found == list(range(200 - len(found), 200))
    assert len(found) >= 10
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000


def test_what_cannot_be_written_is_counted_and_disturbs_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path / "not there")
    log.write(1, noted(1))
    assert log.lost == 1
    (tmp_path / "not there").mkdir()
    log.write(2, noted(2))
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:5]))
    log.write(3, noted(3))
    monkeypatch.undo()
    log.write(4, noted(4))
    assert log.lost == 2
    assert [audited.wall_ns for audited in read_audit(tmp_path / "not there")] == [2, 4]


def test_where_there_is_no_log_nothing_is_read(tmp_path: Path) -> None:
    assert read_audit(tmp_path / "nothing") == ()
