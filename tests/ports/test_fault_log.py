"""What became of faults is read again as it was written, whatever became of who wrote it."""

from pathlib import Path

import pytest

from geartrain.ports.fault_log import FaultLog, faults_in
from geartrain.rules.faults import Change, Fault, FaultCode, FaultKey, FaultStatus, Frame, Seen, Severity
from tests.rules.looks import end, process, slot


def change(number: int, seen: Seen | None = None) -> Change:
    fault = Fault(
        key=FaultKey("d", FaultCode.APP_ERROR), status=FaultStatus.CONFIRMED, severity=Severity.ERROR,
        said="it failed", first_ns=1, last_ns=number, occurrences=number, streak=1, total=number, mark=3,
    )  # fmt: skip
    return Change(number=number, fault=fault, frame=None if seen is None else Frame.of(seen, number))


@pytest.mark.parametrize("seen", [slot(errors=3), process(deaths=2), end("frames", "d", sends=True), None])
def test_what_is_written_is_read_again(tmp_path: Path, seen: Seen | None) -> None:
    log = FaultLog(tmp_path)
    assert faults_in(tmp_path) == ()
    log.write(change(1, seen))
    log.close()
    (found,) = faults_in(tmp_path)
    assert found == change(1, seen)
    if seen is not None:
        assert found.frame is not None
        assert found.frame.seen == seen


@pytest.mark.parametrize("left", [b'{"number": 2, "fau', b"\xff\xfe\n", b'{"number": "two"}\n', b"\n\n"])
def test_a_line_that_is_none_is_passed_over_and_spoils_no_other(tmp_path: Path, left: bytes) -> None:
    log = FaultLog(tmp_path)
    log.write(change(1))
    log.close()
    with (tmp_path / "faults.jsonl").open("ab") as file:
        file.write(left)
    again = FaultLog(tmp_path)
    assert faults_in(tmp_path) == (change(1),)
    again.write(change(2))
    again.close()
    assert faults_in(tmp_path) == (change(1), change(2))


def test_a_file_that_has_grown_long_is_put_aside_and_read_too(tmp_path: Path) -> None:
    log = FaultLog(tmp_path, most_bytes=700)
    for number in range(1, 6):
        log.write(change(number))
    log.close()
    assert (tmp_path / "faults.jsonl.1").exists()
    kept = [found.number for found in faults_in(tmp_path)]
    assert kept == list(range(kept[0], 6))
    assert len(kept) > 1


def test_of_a_run_without_faults_there_are_none(tmp_path: Path) -> None:
    assert faults_in(tmp_path) == ()
