"""Processes: real ones with real signals, and the pretended ones by the same contract."""

import hashlib
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from geartrain.errors import BadValue, NotInUse, NotOnThisSystem, ProcessFailed
from geartrain.ports.process import (
    Command,
    Exit,
    PretendProcesses,
    Process,
    RealProcess,
    RealProcesses,
    Role,
    ended,
)
from geartrain.ports.process_table import look_at

pytestmark = pytest.mark.usefixtures("nothing_left")

# What a process of these tests does first, where it is to be deaf or to leave somebody behind.
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
WITH_OTHERS = "import subprocess; subprocess.Popen(['sleep', '1000'])"
SLEEP = "import time; time.sleep(1000)"


def python(*statements: str, **more: Any) -> Command:
    return Command((sys.executable, "-c", "\n".join(statements)), **more)


async def answer(command: Command) -> tuple[Exit, bytes]:
    """How the process ended, and what it had written."""
    reader, writer = os.pipe()
    more = {name: getattr(command, name) for name in command.__struct_fields__ if name != "out"}
    process = RealProcesses().spawn(Command(**more, out=writer))
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        with anyio.fail_after(20):
            found = await process.wait_group()
        return found, file.read()


async def started(*statements: str) -> tuple[RealProcess, str]:
    """A process that has run these statements and sleeps, and the line that they have printed."""
    reader, writer = os.pipe()
    process = RealProcesses().spawn(python(*statements, "print(flush=True)", SLEEP, out=writer))
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        with anyio.fail_after(20):
            await anyio.wait_readable(reader)
        return process, file.readline().decode().strip()


# -- the contract of both -------------------------------------------------------------------------------------------

Start = Callable[..., Any]


async def _start_real(*, deaf: bool = False, leaves_others: bool = False) -> Process:
    process, _ = await started(DEAF if deaf else "", WITH_OTHERS if leaves_others else "")
    return process


async def _start_pretended(*, deaf: bool = False, leaves_others: bool = False) -> Process:
    role = Role(deaf_to=frozenset({signal.SIGTERM} if deaf else ()), leaves_others=leaves_others)
    return PretendProcesses(lambda _: role).spawn(Command(("a",)))


@pytest.fixture(params=[_start_real, _start_pretended], ids=["real", "pretended"])
def start(request: pytest.FixtureRequest) -> Start:
    begin: Start = request.param
    return begin


async def test_a_process_that_is_signalled_says_by_which_signal_it_ended(start: Start) -> None:
    process = await start()
    assert not process.group_is_empty()
    process.signal(signal.SIGTERM)
    with anyio.fail_after(10):
        found = await process.wait()
    assert (found, str(found)) == (Exit(signal=15), "killed by SIGTERM")
    assert process.group_is_empty()


async def test_a_deaf_process_is_ended_by_kill(start: Start) -> None:
    process = await start(deaf=True)
    process.signal(signal.SIGTERM)
    assert not process.group_is_empty()
    process.signal(signal.SIGKILL)
    with anyio.fail_after(10):
        assert str(await process.wait()) == "killed by SIGKILL"


async def test_the_group_is_not_empty_while_somebody_else_of_it_lives(start: Start) -> None:
    process = await start(leaves_others=True)
    process.signal(signal.SIGKILL)
    with anyio.fail_after(10):
        await process.wait()
        assert not process.group_is_empty()
        process.kill_group(signal.SIGKILL)
        assert await process.wait_group() == Exit(signal=9)
    assert process.group_is_empty()


async def test_many_may_wait_and_one_that_is_cancelled_loses_nothing(start: Start) -> None:
    process = await start()
    got: list[Exit] = []

    async def wait() -> None:
        got.append(await process.wait())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(wait)
            async with anyio.create_task_group() as others:
                others.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                others.cancel_scope.cancel()
            process.kill_group(signal.SIGKILL)
        assert await process.wait_group() == Exit(signal=9)
    assert got == [Exit(signal=9)] * 3


async def test_a_stopped_process_is_seen_and_hears_only_kill(start: Start) -> None:
    process = await start()
    process.signal(signal.SIGSTOP)
    with anyio.fail_after(10):
        while not process.stopped():
            await anyio.lowlevel.checkpoint()
        process.signal(signal.SIGTERM)
        assert process.stopped()
        process.kill_group(signal.SIGKILL)
        assert await process.wait_group() == Exit(signal=9)
    assert not process.stopped()


async def test_who_has_ended_hears_nothing(start: Start) -> None:
    process = await start()
    process.signal(signal.SIGKILL)
    with anyio.fail_after(10):
        await process.wait_group()
    process.signal(signal.SIGTERM)
    process.kill_group(signal.SIGKILL)
    assert await process.wait() == Exit(signal=9)


# -- pretended only -------------------------------------------------------------------------------------------------


async def test_a_pretended_process_ends_as_the_test_says_and_remembers_its_command() -> None:
    processes = PretendProcesses()
    command = Command(("camera", "--fast"))
    process = processes.spawn(command)
    process.ends(Exit(code=3))
    process.ends(Exit(code=4))
    assert await process.wait() == Exit(code=3)
    assert [known.command for known in processes.started] == [command]
    process.signal(signal.SIGTERM)
    assert process.heard == []


async def test_a_pretended_process_can_be_refused() -> None:
    processes = PretendProcesses(lambda command: Role(refused="no such program"))
    with pytest.raises(ProcessFailed, match="'camera' cannot be started: no such program"):
        processes.spawn(Command(("camera",)))
    assert processes.started == []


# -- real only ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("pass", "exit code 0"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os._exit(255)", "exit code 255"),
        ("import os; os.abort()", "killed by SIGABRT"),
        ("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 35)", "killed by signal 35"),
    ],
)
async def test_an_exit_is_told_in_words(statement: str, words: str) -> None:
    no_core = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))"
    found, _ = await answer(python(no_core, statement))
    assert str(found) == words


async def test_a_process_leads_its_own_session_and_group() -> None:
    _, said = await answer(python("import os; print(os.getpid() == os.getsid(0) == os.getpgrp())"))
    assert said == b"True\n"


async def test_a_bootstrap_of_any_size_arrives_and_is_found_only_once() -> None:
    bootstrap = os.urandom(3_000_000)
    child = python(
        "import hashlib, os, subprocess, sys",
        "from geartrain.ports.process import take_bootstrap",
        "print(hashlib.sha256(take_bootstrap()).hexdigest())",
        "print(subprocess.run(['cat'], capture_output=True, close_fds=False).stdout)",
        "print(os.listdir('/proc/self/fd')[:-1], sys.argv)",
        bootstrap=bootstrap,
    )
    found, said = await answer(child)
    assert found == Exit(code=0)
    assert said.decode().splitlines() == [
        hashlib.sha256(bootstrap).hexdigest(),
        "b''",
        "['0', '1', '2'] ['-c']",
    ]


async def test_without_a_bootstrap_there_is_nothing_to_read() -> None:
    assert (await answer(python("import sys; print(sys.stdin.read() == '')")))[1] == b"True\n"


async def test_environment_folder_niceness_and_descriptors_are_as_the_command_says(tmp_path: Path) -> None:
    kept, other = os.pipe()
    os.set_inheritable(other, True)
    child = python(
        "import os",
        f"print(os.environ['WORD'], os.getcwd(), os.nice(0), os.path.exists('/proc/self/fd/{other}'))",
        f"os.fstat({kept})",
        environment={**os.environ, "WORD": "yes"},
        folder=str(tmp_path),
        nice=3,
        keep_open=(kept,),
    )
    found, said = await answer(child)
    os.close(kept)
    os.close(other)
    assert found == Exit(code=0)
    assert said.decode() == f"yes {tmp_path} {os.nice(0) + 3} False\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (Command(("no-such-program",)), "'no-such-program' cannot be started: No such file or directory"),
        (Command(("/etc/passwd",)), "cannot be started: Permission denied"),
        (Command(("true",), folder="/no/such/folder"), r"cannot be started: No such file or directory \(/no/such"),
        (Command(("true", "x" * 3_000_000)), "cannot be started: Argument list too long"),
    ],
)
async def test_what_cannot_be_started_says_why(command: Command, words: str) -> None:
    with pytest.raises(ProcessFailed, match=words):
        RealProcesses().spawn(command)


async def test_a_nice_program_that_does_not_exist_ends_as_in_a_shell() -> None:
    reader, writer = os.pipe()
    process = RealProcesses().spawn(Command(("no-such-program",), nice=1, err=writer))
    os.close(writer)
    with os.fdopen(reader) as said:
        with anyio.fail_after(10):
            assert await process.wait_group() == Exit(code=127)
        assert "no-such-program" in said.read()


@pytest.mark.parametrize("arguments", [(), ("true", "a\0b")])
def test_a_command_that_is_none_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(BadValue, match="a command is a program and its arguments"):
        RealProcesses().spawn(Command(arguments))


async def test_without_descriptors_a_start_fails_in_words_and_leaves_nothing() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes = RealProcesses()
    first_free = os.dup(0)
    os.close(first_free)
    failed = 0
    try:
        for free in range(10):
            resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + free, hard))
            try:
                process = processes.spawn(Command(("true",), bootstrap=b"x"))
            except ProcessFailed as error:
                assert "Too many open files" in str(error)  # noqa: PT017  # where it begins to work is not ours to say
                failed += 1
            else:
                break
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert failed >= 2
    with anyio.fail_after(10):
        assert await process.wait_group() == Exit(code=0)


def test_a_process_is_started_from_the_main_thread_only() -> None:
    seen: list[BaseException] = []

    def spawn() -> None:
        try:
            RealProcesses().spawn(Command(("true",)))
        except NotInUse as error:
            seen.append(error)

    thread = threading.Thread(target=spawn)
    thread.start()
    thread.join()
    assert "from the main thread" in str(seen)


def test_another_system_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(NotOnThisSystem, match=r"need Linux .*this is darwin; run all daemons in one process"):
        RealProcesses()


async def test_an_exit_is_known_where_children_are_ignored() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert (await answer(python("raise SystemExit(7)")))[0] == Exit(code=7)
    finally:
        signal.signal(signal.SIGCHLD, before)


async def test_a_leader_keeps_its_number_until_its_group_is_empty() -> None:
    """Given to somebody else, it would let a stranger be killed."""
    process, other = await started("import subprocess", "print(subprocess.Popen(['sleep', '1000']).pid, end='')")
    process.signal(signal.SIGKILL)
    with anyio.fail_after(10):
        await process.wait()
        leader = look_at(process.pid)
        assert leader is not None
        assert leader.is_dead
        os.kill(int(other), signal.SIGKILL)
        await process.wait_group()
    assert look_at(process.pid) is None


async def test_an_orphan_that_nobody_collects_does_not_keep_a_group_alive() -> None:
    """Not every init collects orphans: here the group's last member stays a zombie below a parent of another group."""
    process, pids = await started(
        "import os, time",
        "reader, writer = os.pipe()",
        "if os.fork() == 0:",
        "    orphan = os.fork()",
        "    if orphan == 0:",
        "        time.sleep(1000)",
        "    os.setpgid(0, 0)",
        "    print(os.getpid(), orphan, end='', flush=True)",
        "    os.write(writer, b'.')",
        "    time.sleep(1000)",
        "os.read(reader, 1)",
    )
    keeper, orphan = map(int, pids.split())
    process.signal(signal.SIGKILL)
    with anyio.fail_after(10):
        await process.wait()
        assert not process.group_is_empty()
        os.kill(orphan, signal.SIGKILL)
        assert await process.wait_group() == Exit(signal=9)
        left = look_at(orphan)
        assert left is not None
        assert left.is_dead
        os.kill(keeper, signal.SIGKILL)
        await ended(keeper)


async def test_a_hundred_exits_are_seen_without_a_thread() -> None:
    processes = RealProcesses()
    threads = threading.active_count()
    children = [processes.spawn(Command(("sleep", "1000"))) for _ in range(100)]
    exits: list[Exit] = []

    async def wait(process: Process) -> None:
        exits.append(await process.wait_group())

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for child in children:
                tasks.start_soon(wait, child)
            await anyio.wait_all_tasks_blocked()
            assert threading.active_count() == threads
            for child in children:
                child.kill_group(signal.SIGKILL)
    assert exits == [Exit(signal=9)] * 100


@pytest.mark.soak
async def test_two_hundred_random_ends_leave_nothing() -> None:
    """Children with children, deaf ones and stopped ones, ended at a random instant of their start."""
    chance = Random("processes")
    processes = RealProcesses()
    for _ in range(200):
        command = python(chance.choice(["", DEAF]), chance.choice(["", WITH_OTHERS]), SLEEP)
        child = processes.spawn(command)
        with anyio.move_on_after(chance.random() * 0.06):
            await child.wait()
        for _ in range(chance.randrange(4)):
            child.signal(chance.choice([signal.SIGTERM, signal.SIGSTOP, signal.SIGCONT, signal.SIGINT]))
        child.kill_group(signal.SIGKILL)
        with anyio.fail_after(10):
            await child.wait_group()
        assert child.group_is_empty()


async def test_an_exit_is_seen_soon() -> None:
    """Readiness and no polling: the best of several rounds, since the machine has other work too."""
    took = []
    for _ in range(5):
        process, _ = await started("pass")
        process.signal(signal.SIGKILL)
        began = time.monotonic()
        with anyio.fail_after(10):
            await process.wait_group()
        took.append(time.monotonic() - began)
    assert min(took) < 0.1
