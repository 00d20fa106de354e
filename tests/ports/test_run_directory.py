"""Where a run lives: one's own folder or none, and nothing of anybody else's is ever touched."""

import fcntl
import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import anyio
import msgspec
import pytest

from geartrain.errors import BadValue, NotOnThisSystem, PlaceRefused, ProcessFailed
from geartrain.ports import run_directory
from geartrain.ports.places import remove_folder
from geartrain.ports.process import Command, RealProcesses
from geartrain.ports.process_table import Identity, identity_of, is_alive, look_at, members, send_exactly
from geartrain.ports.run_directory import (
    KEPT_RUNS,
    Run,
    RunDirectory,
    all_runs,
    clear,
    dead_runs,
    live_runs,
    new_run,
    state_dir,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give folders away")
NOBODY = 65534


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the folders of runs lie."""
    for name in ("run", "state"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "run" / "geartrain"


@pytest.fixture
def run() -> Iterator[RunDirectory]:
    made = new_run("vision")
    yield made
    made.close()


def in_folder(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


HOLD_A_RUN = """
import os, subprocess, sys
from geartrain.ports.run_directory import new_run
run = new_run("vision")
other = subprocess.Popen(["sleep", "1000"])
run.record("camera", other.pid)
print(other.pid, flush=True)
sys.stdin.read()
"""


@contextmanager
def a_run_elsewhere() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A run of another process, and the process that it has entered."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        camera = int(holder.stdout.readline())
        try:
            yield holder, camera
        finally:
            holder.kill()
            end(camera)


def end(pid: int) -> None:
    """Of a process that is not our child."""
    who = identity_of(pid)
    if who is not None:
        pidfd = os.pidfd_open(pid)
        send_exactly(who, signal.SIGKILL)
        select.select([pidfd], [], [], 10)
        os.close(pidfd)


# -- a run ----------------------------------------------------------------------------------------------------------


def test_a_run_has_a_private_folder_that_goes_with_it(base: Path) -> None:
    run = new_run("vision")
    assert run.folder.parent == base
    assert run.folder.name == run.run_id
    assert run.run_id.startswith("vision-")
    assert stat.S_IMODE(run.folder.stat().st_mode) == 0o700
    (run.folder / "sockets").mkdir()
    (run.folder / "sockets" / "frames").touch()
    run.close()
    run.close()
    assert list(base.iterdir()) == []


def test_two_runs_of_one_pipeline_have_two_folders() -> None:
    runs = [new_run("vision") for _ in range(20)]
    assert len({run.run_id for run in runs}) == 20
    assert {run.run_id for run in live_runs()} == {run.run_id for run in runs}
    for run in runs:
        run.close()
    assert all_runs() == ()


def test_without_a_runtime_folder_runs_lie_in_a_private_one_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = new_run("vision")
    assert run.folder.parent == tmp_path / f"geartrain-{os.getuid()}"
    run.close()


def test_paths_of_sockets_are_short_and_one_for_each_name(run: RunDirectory) -> None:
    names = [f"{number} {'a long name of a channel ' * 10}" for number in range(1000)]
    paths = {run.socket_path(name) for name in names}
    assert len(paths) == 1000
    assert {len(path.name) for path in paths} == {12}
    assert run.socket_path("frames") == run.socket_path("frames")


def test_a_name_too_long_for_sockets_is_refused_at_the_start_and_a_shorter_one_is_not(base: Path) -> None:
    """The system takes 107 bytes; here by how much it is too long is said exactly."""
    with pytest.raises(PlaceRefused, match=r"the system takes 107; make the pipeline's name (\d+) bytes shorter") as no:
        new_run("é" * 60)
    words = str(no.value).partition("name ")[2]
    room = 120 - int(words.split()[0])
    if room > 0:
        new_run("x" * room).close()
    with pytest.raises(PlaceRefused, match="name 1 bytes shorter"):
        new_run("x" * (room + 1))
    assert in_folder(base) == []


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a\0b"])
def test_a_name_that_is_no_word_is_refused(name: str, run: RunDirectory) -> None:
    with pytest.raises(BadValue, match="a pipeline is named by one word"):
        new_run(name)
    with pytest.raises(BadValue, match="a process is named by one word"):
        run.record(name, os.getpid())
    with pytest.raises(BadValue, match="a run is named by one word"):
        state_dir(name)


def test_another_system_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    for door in (lambda: new_run("vision"), all_runs, lambda: state_dir("vision-1")):
        with pytest.raises(NotOnThisSystem, match="this is win32"):
            door()


# -- who belongs to it ----------------------------------------------------------------------------------------------


def test_a_process_is_entered_with_its_start_time_and_taken_off_again(run: RunDirectory) -> None:
    run.record("camera", os.getpid())
    me = identity_of(os.getpid())
    (seen,) = live_runs()
    assert seen.processes == (("camera", me),)
    assert seen.left_over == ()
    run.forget("camera")
    run.forget("camera")
    assert live_runs()[0].processes == ()


def test_a_number_that_nobody_has_is_not_entered(run: RunDirectory) -> None:
    with pytest.raises(ProcessFailed, match="there is no process"):
        run.record("camera", 2**22 + 1)


def test_a_number_that_was_used_again_is_not_taken_for_the_process() -> None:
    me = identity_of(os.getpid())
    assert me is not None
    assert is_alive(me)
    assert me.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for stranger in (me._replace(started_ticks=me.started_ticks - 1), me._replace(boot="another")):
        assert not is_alive(stranger)
        assert not send_exactly(stranger, signal.SIGKILL)
    assert send_exactly(me, signal.SIGCONT)


def test_a_signal_to_who_is_gone_says_so() -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        who = identity_of(child.pid)
        assert who is not None
        assert send_exactly(who, signal.SIGKILL)
    assert not send_exactly(who, signal.SIGKILL)


def test_a_program_with_a_strange_name_is_read_all_the_same(tmp_path: Path) -> None:
    strange = tmp_path / "a) Z 1 (b"
    strange.symlink_to("/bin/sleep")
    with subprocess.Popen([strange, "1000"], start_new_session=True) as child:
        entry = look_at(child.pid)
        assert entry is not None
        assert (entry.parent, entry.group, entry.is_dead) == (os.getpid(), child.pid, False)
        assert members(child.pid) == [child.pid]
        child.kill()


# -- the living and the dead ----------------------------------------------------------------------------------------


def test_a_run_is_alive_as_long_as_its_process_and_then_what_it_left_can_be_cleared() -> None:
    with a_run_elsewhere() as (holder, camera):
        (run,) = live_runs()
        assert dead_runs() == ()
        assert not clear(run)
        holder.kill()
        holder.wait()
        (dead,) = dead_runs()
        assert dead.run_id == run.run_id
        assert [who.pid for who in dead.left_over] == [camera]
        assert not clear(dead)
        end(camera)
        assert clear(dead)
        assert not clear(dead)
        assert all_runs() == ()


def test_a_process_of_the_run_does_not_keep_it_alive() -> None:
    """What the run starts does not inherit its lock."""
    with a_run_elsewhere() as (holder, camera):
        holder.kill()
        holder.wait()
        assert look_at(camera) is not None
        assert live_runs() == ()


def test_many_may_look_at_once_and_do_not_take_each_other_for_the_run(run: RunDirectory, base: Path) -> None:
    run.close()
    dead = base / "vision-dead"
    dead.mkdir(mode=0o700)
    (dead / "run.lock").touch()
    with open(dead / "run.lock") as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        assert [found.run_id for found in dead_runs()] == ["vision-dead"]


def test_a_folder_in_the_making_is_nobodys_until_it_is_old(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_run("vision").close()
    (base / ".vision-1234").mkdir(mode=0o700)
    assert all_runs() == ()
    monkeypatch.setattr(run_directory, "_MAKING_S", -1.0)
    (left,) = dead_runs()
    assert clear(left)
    assert list(base.iterdir()) == []


def test_a_new_run_is_not_seen_before_it_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = fcntl.flock
    seen: list[tuple[Run, ...]] = []

    def look_first(file: int, how: int) -> None:
        if how & fcntl.LOCK_EX:
            seen.append(all_runs())
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", look_first)
    new_run("vision").close()
    assert seen == [()]


def test_a_private_folder_of_a_script_is_no_run(base: Path) -> None:
    new_run("vision").close()
    (base / "my-script").mkdir(mode=0o700)
    assert all_runs() == ()
    assert not clear(Run("my-script", base / "my-script", alive=False))
    assert (base / "my-script").exists()


def test_a_record_that_was_cut_short_hides_nothing_else(run: RunDirectory) -> None:
    run.record("camera", os.getpid())
    (run.folder / "detector.process").write_bytes(b"[12")
    assert [name for name, _ in live_runs()[0].processes] == ["camera"]


# -- what is not ours -----------------------------------------------------------------------------------------------


def test_a_planted_link_is_neither_used_nor_removed(base: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o700)
    (precious / "run.lock").touch()
    base.symlink_to(precious)
    with pytest.raises(PlaceRefused, match="must be a folder of yours"):
        new_run("vision")
    base.unlink()
    base.mkdir(mode=0o700)
    (base / "vision-1").symlink_to(precious)
    assert all_runs() == ()
    assert not clear(Run("vision-1", base / "vision-1", alive=False))
    assert (precious / "run.lock").exists()


def test_a_link_inside_a_folder_is_removed_and_not_followed(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (run.folder / "link").symlink_to(tmp_path / "precious")
    (run.folder / "dangling").symlink_to(tmp_path / "nowhere")
    run.close()
    assert not run.folder.exists()
    assert (tmp_path / "precious" / "file").exists()


def test_a_folder_itself_that_is_a_link_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    with pytest.raises(PlaceRefused, match="cannot be removed"):
        remove_folder(tmp_path / "link")
    assert (tmp_path / "precious" / "file").exists()


@as_root
def test_somebody_elses_folder_is_neither_used_nor_removed(base: Path) -> None:
    base.mkdir(mode=0o700)
    os.chown(base, NOBODY, NOBODY)
    with pytest.raises(PlaceRefused, match="must be a folder of yours"):
        new_run("vision")
    os.chown(base, os.getuid(), os.getgid())
    theirs = base / "vision-1"
    theirs.mkdir(mode=0o700)
    (theirs / "run.lock").touch()
    os.chown(theirs, NOBODY, NOBODY)
    assert all_runs() == ()
    assert not clear(Run("vision-1", theirs, alive=False))
    assert (theirs / "run.lock").exists()


def test_a_folder_that_lets_others_in_is_refused(base: Path) -> None:
    base.mkdir()
    base.chmod(0o755)
    with pytest.raises(PlaceRefused, match="nobody else can enter"):
        new_run("vision")


@contextmanager
def powerless() -> Iterator[None]:
    """As a user for whom permissions count."""
    if os.getuid() == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(os.getuid())


@pytest.mark.parametrize("door", [lambda: new_run("vision"), lambda: state_dir("vision-1")])
def test_where_nothing_may_be_written_the_start_says_so(door: Callable[[], object], tmp_path: Path) -> None:
    for name in ("run", "state"):
        (tmp_path / name).chmod(0o555)
    with powerless(), pytest.raises(PlaceRefused, match="cannot be made: Permission denied"):
        door()


def test_a_runtime_folder_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/no/such/folder")
    with pytest.raises(PlaceRefused, match="/no/such/folder/geartrain cannot be made: No such file"):
        new_run("vision")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk in memory, on which there is room for one folder and hardly more."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=3", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a disk can be mounted by root only")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_is_named_and_nothing_is_left_half_made(full_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(full_disk))
    with pytest.raises(PlaceRefused, match=r"of a new run cannot be made: No space left on device"):
        new_run("vision")
    assert list((full_disk / "geartrain").iterdir()) == []


def test_a_record_on_a_full_disk_fails_in_words_and_the_former_one_stays(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.record("camera", os.getpid())

    def full(_path: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(PlaceRefused, match=r"'camera' cannot be entered as a process of vision-.*No space left"):
        run.record("camera", os.getpid())
    assert [name for name, _ in live_runs()[0].processes] == ["camera"]


# -- state ----------------------------------------------------------------------------------------------------------


def test_the_state_of_a_run_lies_in_a_private_folder_that_outlives_it(tmp_path: Path) -> None:
    run = new_run("vision")
    state = state_dir(run.run_id)
    run.close()
    assert state == tmp_path / "state" / "geartrain" / "runs" / run.run_id
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert state_dir(run.run_id) == state


def test_without_a_state_home_it_lies_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for unusable in ("", "not/absolute"):
        monkeypatch.setenv("XDG_STATE_HOME", unusable)
        assert state_dir("vision-1") == tmp_path / "home" / ".local" / "state" / "geartrain" / "runs" / "vision-1"


def test_the_last_ten_are_kept_and_those_of_live_runs_and_what_is_not_ours(tmp_path: Path, run: RunDirectory) -> None:
    oldest = state_dir(run.run_id)
    runs = oldest.parent
    (runs / "note.txt").touch()
    (tmp_path / "precious").mkdir()
    (runs / "link").symlink_to(tmp_path / "precious")
    os.utime(oldest, ns=(0, 0))
    for number in range(15):
        folder = state_dir(f"vision-{number:02}")
        (folder / "camera.out").touch()
        os.utime(folder, ns=(0, number + 1))
    kept = [f"vision-{number:02}" for number in range(15 - KEPT_RUNS, 15)]
    assert sorted(path.name for path in runs.iterdir()) == sorted([run.run_id, "link", "note.txt", *kept])


# -- at any instant -------------------------------------------------------------------------------------------------


@pytest.mark.soak
async def test_two_hundred_runs_killed_at_random_instants_are_all_cleared(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = Random("runs")
    monkeypatch.setattr(run_directory, "_MAKING_S", -1.0)
    program = "from geartrain.ports.run_directory import new_run\nwhile True: new_run('vision').close()"
    for _ in range(200):
        child = RealProcesses().spawn(Command((sys.executable, "-c", program)))
        with anyio.move_on_after(chance.random() * 0.15):
            await child.wait()
        child.kill_group(signal.SIGKILL)
        with anyio.fail_after(10):
            await child.wait_group()
        assert live_runs() == ()
        assert False not in map(clear, dead_runs())
        assert in_folder(base) == []


def test_an_identity_survives_its_file() -> None:
    me = identity_of(os.getpid())
    assert msgspec.json.decode(msgspec.json.encode(me), type=Identity) == me
