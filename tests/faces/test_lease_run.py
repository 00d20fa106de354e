"""A lease around any program: it is held while that runs, and when it is lost nothing of the program goes on."""

import os
import pty
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from geartrain.errors import Fenced, JournalInUse, LeaseRefused
from geartrain.faces import lease_calls
from geartrain.faces.lease import held
from geartrain.ports.file_journal import FileJournal
from geartrain.rules.fence import FenceGate
from geartrain.rules.lease_words import Claim, Grant
from tests.faces.conftest import COMMAND, ROOT, Told

S = 1_000_000_000
LEFT = Claim("workcell/left")
# Says the process ids of itself and of one below it that is told nothing, and goes on for good.
TWO = "sleep 1000 & echo $$ $!; wait"


def holding(folder: Path, *words: str, ttl: str = "30s") -> "subprocess.Popen[str]":
    command = (*COMMAND, "lease", "run", "workcell/left", "--dir", str(folder), "--ttl", ttl, "--", *words)
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: "subprocess.Popen[str]") -> list[int]:
    assert process.stdout is not None
    return [int(word) for word in process.stdout.readline().split()]


def ends(process: "subprocess.Popen[str]") -> tuple[int, str]:
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def lives(pid: int) -> bool:
    """Not of one that has ended and is not waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def held_journal(folder: Path) -> FileJournal:
    """Between two renewals it comes free."""
    while True:
        try:
            return FileJournal(folder)
        except JournalInUse:
            continue


def test_it_ends_as_its_command_does_and_lets_go(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "lease", "run", "b", "--dir", str(tmp_path), "--", "sh", "-c",
         "echo $GEARTRAIN_LEASE $GEARTRAIN_LEASE_TOKEN; read line; exit 7"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    lease, token = said(process)
    (one,) = held(tmp_path)
    assert (one.lease, one.token) == (lease, token)
    process.communicate("go on\n", timeout=60)
    assert process.returncode == 7
    assert held(tmp_path) == []


def test_options_after_the_dashes_are_the_commands(told_here: Told, tmp_path: Path) -> None:
    words = (sys.executable, "-c", "import sys; sys.exit(len(sys.argv))", "--dir", "--", "--help")
    assert told_here("lease", "run", "a", "--dir", str(tmp_path), "--", *words).returncode == 4


def test_without_a_command_nothing_is_taken(told_here: Told, tmp_path: Path) -> None:
    found = told_here("lease", "run", "a", "--dir", str(tmp_path / "leases"))
    assert found.returncode == 2
    assert "there is no command" in found.stderr
    assert not (tmp_path / "leases").exists()


def test_a_command_that_cannot_be_started_leaves_nothing_held(told_here: Told, tmp_path: Path) -> None:
    found = told_here("lease", "run", "a", "--dir", str(tmp_path), "--", "/nowhere/to-be-found")
    assert (found.returncode, "'/nowhere/to-be-found' cannot be started" in found.stderr) == (2, True)
    assert held(tmp_path) == []


def test_what_is_taken_is_not_run(told_here: Told, tmp_path: Path) -> None:
    lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=60 * S)
    mark = tmp_path / "mark"
    found = told_here("lease", "run", "workcell", "--dir", str(tmp_path), "--", "touch", str(mark))
    assert (found.returncode, "it is taken" in found.stderr) == (1, True)
    assert not mark.exists()


def test_when_the_lease_is_lost_the_command_and_all_it_has_started_end(tmp_path: Path) -> None:
    process = holding(tmp_path, "sh", "-c", f"trap '' TERM; {TWO}", ttl="900ms")
    pids = said(process)
    (one,) = held(tmp_path)
    lease_calls.release(tmp_path, one.lease, one.token)
    code, err = ends(process)
    assert (code, "was lost, and its command was killed" in err) == (1, True)
    assert not any(lives(pid) for pid in pids)


def test_what_cannot_be_renewed_in_time_is_taken_for_lost(tmp_path: Path) -> None:
    process = holding(tmp_path, "sh", "-c", TWO, ttl="900ms")
    pids = said(process)
    journal = held_journal(tmp_path)
    code, err = ends(process)
    assert (code, "was lost" in err) == (1, True)
    assert not any(lives(pid) for pid in pids)
    journal.close()


def test_signals_are_for_the_command(tmp_path: Path) -> None:
    process = holding(tmp_path, "sh", "-c", "trap 'exit 9' TERM; sleep 1000 & echo $$ $!; wait")
    pids = said(process)
    process.send_signal(signal.SIGTERM)
    assert ends(process)[0] == 9
    assert not any(lives(pid) for pid in pids)
    assert held(tmp_path) == []


# As `lease run`, which is sent a signal when its command has just begun and before anything else is done.
AT_ONCE = """
import os, signal, sys
from pathlib import Path
from geartrain.faces import lease_calls, lease_run
from geartrain.rules.fence import FenceGate
from geartrain.rules.lease_words import Claim, Grant

begin = lease_run._new

def begun(*words):
    process = begin(*words)
    os.kill(os.getpid(), signal.SIGTERM)
    return process

lease_run._new = begun
folder = Path(sys.argv[1])
grant = lease_calls.acquire(folder, (Claim("workcell/left"),), ttl_ns=30_000_000_000)
sys.exit(lease_run.run_held(folder, grant, ("sh", "-c", "sleep 1000 & wait")))
"""


def test_a_signal_that_comes_when_the_command_has_just_begun_is_for_it_too(tmp_path: Path) -> None:
    words = (sys.executable, "-c", AT_ONCE, str(tmp_path))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")
    assert held(tmp_path) == []


def test_a_command_that_a_signal_has_ended_is_told_by_its_code(tmp_path: Path) -> None:
    process = holding(tmp_path, "sh", "-c", "echo $$; kill -KILL $$")
    said(process)
    assert ends(process)[0] == 128 + signal.SIGKILL


def test_when_it_is_killed_itself_its_command_ends_and_the_lease_lives_for_its_time(tmp_path: Path) -> None:
    process = holding(tmp_path, "sh", "-c", "echo $$; exec sleep 1000")
    (pid,) = said(process)
    command = os.pidfd_open(pid)
    process.kill()
    ends(process)
    with open(command) as ended:
        assert select.select([ended], [], [], 30)[0]
    with pytest.raises(LeaseRefused):
        lease_calls.acquire(tmp_path, (LEFT,), ttl_ns=S)
    assert [one.regions for one in held(tmp_path)] == [("workcell/left",)]


# Tells its token, and once more when it is asked to: it writes to what has a gate.
TELLS = "echo $GEARTRAIN_LEASE_TOKEN; while read line; do echo $GEARTRAIN_LEASE_TOKEN; done"


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_the_command_of_one_that_is_frozen_is_refused_by_the_gate_of_what_it_writes_to(
    tmp_path: Path, rounds: int
) -> None:
    """Nobody kills it then: what runs the command is frozen, and the command is not."""
    gate = FenceGate("workcell/left")
    refused = 0
    for _ in range(rounds):
        words = (*COMMAND, "lease", "run", "workcell/left", "--dir", str(tmp_path), "--ttl", "300ms", "--")
        process = subprocess.Popen(
            (*words, "sh", "-c", TELLS), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        (token,) = said(process)
        gate.admit(token)
        # Frozen with the journal in its hands it would keep out everybody.
        journal = held_journal(tmp_path)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        journal.close()
        newer = granted_at_last(tmp_path)
        gate.admit(newer.token)
        process.stdin.write("go on\n")
        process.stdin.flush()
        late = said(process)
        assert late == [token]
        try:
            gate.admit(late[0])
        except Fenced:
            refused += 1
        lease_calls.release(tmp_path, newer.lease, newer.token)
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=60) == 1
        process.communicate()
    assert refused == rounds


def granted_at_last(folder: Path) -> Grant:
    while True:
        with suppress(LeaseRefused, JournalInUse):
            return lease_calls.acquire(folder, (LEFT,), ttl_ns=60 * S)


def test_what_is_typed_at_its_terminal_is_for_the_command(tmp_path: Path) -> None:
    command = (*COMMAND, "lease", "run", "a", "--dir", str(tmp_path), "--", "sh", "-c", "read line; echo got $line")
    pid, terminal = pty.fork()
    if not pid:
        os.execv(command[0], command)
    os.write(terminal, b"hello\n")
    come = b""
    # The end of a terminal is an error.
    with suppress(OSError):
        while b"got hello" not in come:
            come += os.read(terminal, 1000)
    assert b"got hello" in come
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
