"""What a process writes down can be read at any moment, and after any death; a file that cannot is refused in words."""

import errno
import gc
import os
import signal
import subprocess
import sys
from itertools import repeat
from pathlib import Path

import pytest

from geartrain.errors import PlaceRefused, SlotsUnreadable
from geartrain.ports.process import Exit
from geartrain.ports.process_table import boot_id
from geartrain.ports.slots import SPARE_DAEMONS, DaemonSlot, EndSlot, SlotFile, SlotReader, Slots
from geartrain.rules import slots
from geartrain.rules.grid import Cycle
from geartrain.rules.readings import DaemonReading, EndReading, Held, Phase, SlotState, Up
from geartrain.rules.slots import About, EndAbout

if sys.platform != "linux":
    pytest.skip("slots are for pipelines in many processes, which need Linux", allow_module_level=True)

ABOUT = About(
    process="p",
    daemons=("camera", "detector"),
    ends=(EndAbout("frames", "camera", True, 8), EndAbout("frames", "detector", False, 8)),
    boot=boot_id(),
)


def made(path: Path, former: SlotFile | None = None) -> tuple[SlotFile, Slots]:
    file = SlotFile.make(path, ABOUT, generation=1 if former else 0, former=former)
    file.born(os.getpid())
    assert file.fd is not None
    return file, Slots(os.dup(file.fd))


def camera(of: Slots) -> DaemonSlot:
    slot = of.daemon("camera")
    assert slot is not None
    return slot


def read(path: Path) -> DaemonReading:
    return SlotReader(path).poll().daemons[0]


CYCLE = Cycle(7, 1000, 7000, 7010, 400, lateness_ns=10, skipped_slots=2, actual_period_ns=990, jitter_ns=10)


def test_who_looks_reads_what_the_process_has_written(tmp_path: Path) -> None:
    _, process = made(tmp_path / "p")
    slot = camera(process)
    slot.starts(0, 5)
    slot.enters(Phase.RUN, 6)
    slot.has_budget(900)
    for took in (400, 800):
        slot.begins_body(7010)
        slot.ends_body(7010, took)
    slot.cycled(CYCLE)
    slot.begins_body(9000)
    assert read(tmp_path / "p") == DaemonReading(
        "camera", state=SlotState.RUNNING, phase=Phase.RUN, starts=1, executions=2, in_body_since_ns=9000, last_ns=800,
        ewma_ns=450, min_ns=400, max_ns=800, cycle=7, period_ns=1000, actual_period_ns=990, jitter_ns=10,
        max_jitter_ns=10, lateness_ns=10, max_lateness_ns=10, skipped=2, budget_ns=900, changed_ns=7810,
    )  # fmt: skip


def test_the_mean_follows_as_it_always_did(tmp_path: Path) -> None:
    _, process = made(tmp_path / "p")
    slot = camera(process)
    seen = []
    for took in (100_000, 200_000, 0):
        slot.ends_body(0, took)
        seen.append(read(tmp_path / "p").ewma_ns)
    assert seen == [100_000, 112_500, 98_438]
    assert (read(tmp_path / "p").min_ns, read(tmp_path / "p").max_ns) == (0, 200_000)
    assert sum(SlotReader(tmp_path / "p").buckets()["camera"]) == 3


def test_a_daemon_that_failed_stays_failed_until_it_is_well_again(tmp_path: Path) -> None:
    _, process = made(tmp_path / "p")
    slot = camera(process)
    slot.starts(0, 1)
    slot.begins_body(2)
    slot.fails(3)
    slot.stops(4)
    failed = read(tmp_path / "p")
    assert (failed.state, failed.errors, failed.in_body_since_ns) == (SlotState.ERROR, 1, 0)
    slot.starts(1, 5)
    slot.is_well(6)
    slot.stops(7)
    again = read(tmp_path / "p")
    assert (again.state, again.starts, again.stops, again.restarts) == (SlotState.STOPPED, 2, 2, 1)


def test_a_stop_before_any_start_leaves_it_unknown(tmp_path: Path) -> None:
    _, process = made(tmp_path / "p")
    camera(process).stops(1)
    assert (read(tmp_path / "p").state, read(tmp_path / "p").stops) == (SlotState.UNKNOWN, 1)


def test_a_body_that_is_held_back_says_why_and_since_when(tmp_path: Path) -> None:
    _, process = made(tmp_path / "p")
    slot = camera(process)
    slot.overruns()
    slot.is_held(Held.OVER_BUDGET, 5, 3000)
    held = read(tmp_path / "p")
    assert (held.overruns, held.held, held.held_since_ns, held.held_took_ns) == (1, Held.OVER_BUDGET, 5, 3000)
    slot.is_held(Held.NOT, 0, 0)
    assert (read(tmp_path / "p").held, read(tmp_path / "p").overruns) == (Held.NOT, 1)


def test_an_end_says_what_has_changed_and_since_when_it_has_not(tmp_path: Path) -> None:
    _, process = made(tmp_path / "p")
    end: EndSlot = process.end("frames", sends=False)
    told = (1, 2, 10, 9, 8, 0, 1, 0, 9, 9, 1, 0, 0, 0, 0, 0)
    end.tell(told, 100)
    end.tell(told, 200)
    (_, reading) = SlotReader(tmp_path / "p").poll().ends
    assert reading == EndReading("frames", "detector", False, 8, *told, 100)
    end.holds(10, 12)
    (_, reading) = SlotReader(tmp_path / "p").poll().ends
    assert (reading.in_hand, reading.may_have, reading.taken) == (10, 12, 9)


def test_the_next_life_of_a_process_goes_on_counting_where_the_last_one_was(tmp_path: Path) -> None:
    former, process = made(tmp_path / "p.0")
    slot = camera(process)
    slot.starts(0, 1)
    slot.begins_body(2)
    slot.ends_body(2, 700)
    slot.begins_body(3)
    former.died()
    former.comes_again()
    _, process = made(tmp_path / "p.1", former)
    fresh = read(tmp_path / "p.1")
    assert (fresh.executions, fresh.max_ns, fresh.state, fresh.in_body_since_ns) == (1, 700, SlotState.UNKNOWN, 0)
    camera(process).ends_body(9, 900)
    poll = SlotReader(tmp_path / "p.1").poll()
    assert (poll.daemons[0].executions, poll.daemons[0].max_ns) == (2, 900)
    assert (poll.process.generation, poll.process.restarts, poll.process.deaths) == (1, 1, 1)
    assert sum(SlotReader(tmp_path / "p.1").buckets()["camera"]) == 2


def test_daemons_that_come_late_take_the_slots_to_spare_and_then_are_counted(tmp_path: Path) -> None:
    _, process = made(tmp_path / "p")
    for number in range(SPARE_DAEMONS):
        late = process.daemon(f"late-{number}")
        assert late is not None
        late.starts(0, number)
    assert process.daemon("too late") is None
    assert process.daemon("too late") is None
    poll = SlotReader(tmp_path / "p").poll()
    assert [daemon.daemon for daemon in poll.daemons[2:]] == [f"late-{number}" for number in range(SPARE_DAEMONS)]
    assert all(daemon.starts == 1 for daemon in poll.daemons[2:])
    assert poll.process.dropped == 2


def test_a_process_is_alive_only_as_long_as_it_is_itself(tmp_path: Path) -> None:
    file, process = made(tmp_path / "p")
    process.become(Up.UP)
    process.strike()
    alive = SlotReader(tmp_path / "p").poll().process
    assert alive.alive
    assert (alive.pid, alive.up, alive.heartbeats, alive.exit_code) == (os.getpid(), Up.UP, 1, None)
    assert file.heartbeat_ns == alive.heartbeat_ns > 0
    other = SlotFile.make(tmp_path / "q", ABOUT, generation=0)
    other.born(os.getpid())
    other._words[slots.STARTED_AT] += 1  # Its number is somebody else's now.
    assert not SlotReader(tmp_path / "q").poll().process.alive
    file.ended(Exit(signal=signal.SIGKILL))
    ended = SlotReader(tmp_path / "p").poll().process
    assert (ended.alive, ended.exit_code) == (False, -signal.SIGKILL)


def test_a_hook_leaves_nothing_allocated(tmp_path: Path) -> None:
    _, process = made(tmp_path / "p")
    slot, end = camera(process), process.end("frames", sends=True)

    def beats(count: int, keep: list[object] | None = None) -> int:
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in repeat(None, count):
            slot.starts(1, 5)
            slot.begins_body(123_456_789)
            slot.ends_body(123_456_789, 54_321)
            slot.cycled(CYCLE)
            slot.fails(5)
            slot.is_well(6)
            slot.stops(9)
            end.tell((1, 2, slot._number, 9, 8, 0, 1, 0, 9, 9, 1, 0, 0, 0, 0, 0), 777_777)
            end.holds(10_000, 10_001)
            process.strike()
            if keep is not None:
                keep.append(object())
        return sys.getallocatedblocks() - before

    # What the interpreter keeps of its first rounds is no hook's.
    beats(1000)
    assert beats(1000) - beats(100) == 0
    assert beats(1000, keep=[]) - beats(100, keep=[]) > 500


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:-1], "it is shorter than its header says"),
        (lambda data: data[:40], "it is shorter than its header says"),
        (lambda data: b"", "it is shorter than its header says"),
        (lambda data: b"x" * len(data), "it is no slot file"),
        (lambda data: data[:8] + b"\x63" + data[9:], "it was written by another version"),
        (lambda data: data[:-1] + b"?", "what it is about cannot be read"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    made(tmp_path / "p")
    (tmp_path / "q").write_bytes(damage((tmp_path / "p").read_bytes()))
    with pytest.raises(SlotsUnreadable, match=said) as refused:
        SlotReader(tmp_path / "q")
    assert str(tmp_path / "q") in str(refused.value)


def test_a_file_that_is_cut_while_it_is_looked_at_is_refused_and_kills_nobody(tmp_path: Path) -> None:
    SlotFile.make(tmp_path / "p", ABOUT, generation=0)
    reader = SlotReader(tmp_path / "p")
    os.truncate(tmp_path / "p", 100)
    with pytest.raises(SlotsUnreadable, match="shorter"):
        reader.poll()
    with pytest.raises(SlotsUnreadable, match="cannot be read"):
        SlotReader(tmp_path / "nowhere")
    (tmp_path / "link").symlink_to(tmp_path / "p")
    with pytest.raises(SlotsUnreadable, match="cannot be read"):
        SlotReader(tmp_path / "link")


def test_a_file_is_private_allocated_at_once_and_never_taken_from_somebody(tmp_path: Path) -> None:
    SlotFile.make(tmp_path / "p", ABOUT, generation=0)
    found = (tmp_path / "p").stat()
    assert found.st_mode & 0o777 == 0o600
    assert found.st_blocks * 512 >= found.st_size
    with pytest.raises(PlaceRefused, match="cannot be made"):
        SlotFile.make(tmp_path / "p", ABOUT, generation=0)


def test_where_there_is_no_room_for_a_file_nothing_is_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(PlaceRefused, match="cannot be made: No space left"):
        SlotFile.make(tmp_path / "p", ABOUT, generation=0)
    assert os.listdir("/proc/self/fd") == before
    assert list(tmp_path.iterdir()) == []


# It publishes records all of whose words are the same, as fast as it can.
WRITER = """
import sys
from geartrain.ports.slots import Slots
from geartrain.rules.slots import DAEMON
slot = Slots(int(sys.argv[1])).daemon("camera")
print("ready", flush=True)
n = 0
while True:
    n += 1
    for at in range(DAEMON.fields):
        slot._record[at] = n
    slot._publish()
"""


def writer(fd: int) -> "subprocess.Popen[bytes]":
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(fd)], pass_fds=(fd,), stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


def is_whole(reading: DaemonReading) -> bool:
    return len({getattr(reading, field) for field in slots.DAEMON_FIELDS}) == 1


@pytest.mark.parametrize("looks", [2_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_no_record_is_torn_while_its_writer_goes_on(tmp_path: Path, looks: int) -> None:
    file = SlotFile.make(tmp_path / "p", ABOUT, generation=0)
    assert file.fd is not None
    child = writer(file.fd)
    try:
        reader = SlotReader(tmp_path / "p")
        seen = {reading for _ in range(looks) if not is_whole(reading := reader.poll().daemons[0])}
        assert not seen
        assert reader.poll().daemons[0].state > 0
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("kills", [3, pytest.param(300, marks=pytest.mark.soak)])
def test_no_record_is_torn_by_the_death_of_its_writer(tmp_path: Path, kills: int) -> None:
    for number in range(kills):
        file = SlotFile.make(tmp_path / f"p.{number}", ABOUT, generation=0)
        assert file.fd is not None
        child = writer(file.fd)
        reader = SlotReader(tmp_path / f"p.{number}")
        while reader.poll().daemons[0].state < 50 + number:
            pass
        child.kill()
        child.communicate()
        last = reader.poll().daemons[0]
        assert is_whole(last)
        assert last.state >= 50 + number
