"""Nobody outlives the process that started it: real parents, really killed."""

import os
import signal
import sys
import time
from collections.abc import Callable
from random import Random

import anyio
import anyio.lowlevel
import pytest

from geartrain.ports.lifeline import Lifeline, held
from geartrain.ports.process import Command, Exit, RealProcess, RealProcesses, ended
from geartrain.ports.process_table import look_at

Alive = Callable[[], list[int]]

# Starts the program in its first argument, which holds the line, and cuts the line when there is something to read.
PARENT = """
import os, sys
from geartrain.ports.lifeline import Lifeline
from geartrain.ports.process import Command, RealProcesses
line = Lifeline()
words = (sys.executable, "-c", sys.argv[1], str(line.fd), str(os.getpid()))
child = RealProcesses().spawn(Command(words, keep_open=(line.fd,)))
os.read(int(sys.argv[2]), 1)
line.cut()
os.read(int(sys.argv[2]), 1)
"""
HOLD = """
import ctypes, os, signal, subprocess, sys, time
from geartrain.ports.lifeline import hold_lifeline
hold_lifeline(int(sys.argv[1]), int(sys.argv[2]))
"""
SHAPES = {
    "spins": "while True: pass",
    "sleeps": "time.sleep(1000)",
    "sits in C": "ctypes.PyDLL(None).sleep(1000)",
    "stands still": "os.kill(os.getpid(), signal.SIGSTOP)",
}
SAY_PID = "print(os.getpid(), flush=True)\n"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


class Family:
    """A parent that can be killed or told to cut the line, and its child."""

    def __init__(self, parent: RealProcess, child: int, tell: int) -> None:
        self.parent = parent
        self.child = child
        self._tell = tell

    def cut(self) -> None:
        os.write(self._tell, b".")

    async def over(self) -> None:
        self.parent.kill_group(signal.SIGKILL)
        await self.parent.wait_group()
        os.close(self._tell)


def start_parent(child_program: str, out: int | None = None) -> tuple[RealProcess, int]:
    heard, tell = os.pipe()
    words = (sys.executable, "-c", PARENT, child_program, str(heard))
    parent = RealProcesses().spawn(Command(words, out=out, keep_open=(heard,)))
    os.close(heard)
    return parent, tell


async def family(program: str) -> Family:
    reader, writer = os.pipe()
    parent, tell = start_parent(HOLD + program, out=writer)
    os.close(writer)
    return Family(parent, await number_from(reader), tell)


async def number_from(reader: int) -> int:
    """The line that a process says, to its end: it may be written in two pieces."""
    with os.fdopen(reader, "rb") as file:
        with anyio.fail_after(20):
            await anyio.wait_readable(reader)
        return int(file.readline())


async def stands_still(pid: int) -> None:
    with anyio.fail_after(10):
        while not ((entry := look_at(pid)) and entry.is_stopped):
            await anyio.lowlevel.checkpoint()


async def all_ended(alive: Alive) -> None:
    with anyio.fail_after(10):
        while left := alive():
            await ended(left[0])


async def seconds_until(pid: int) -> float:
    began = time.monotonic()
    with anyio.fail_after(10):
        await ended(pid)
    return time.monotonic() - began


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_child_is_gone_within_200_ms_of_its_parents_death_whatever_it_does(
    shape: str, nothing_left: Alive
) -> None:
    """The best of three rounds, since the machine has other work too."""
    took = []
    for _ in range(3):
        pair = await family(DEAF + SAY_PID + SHAPES[shape])
        if shape == "stands still":
            await stands_still(pair.child)
        pair.parent.signal(signal.SIGKILL)
        took.append(await seconds_until(pair.child))
        await pair.over()
    assert min(took) < 0.2


@pytest.mark.parametrize("shape", ["spins", "sleeps"])
async def test_a_child_is_gone_within_200_ms_of_the_cut_while_its_parent_lives(shape: str, nothing_left: Alive) -> None:
    took = []
    for _ in range(3):
        pair = await family(DEAF + SAY_PID + SHAPES[shape])
        pair.cut()
        took.append(await seconds_until(pair.child))
        entry = look_at(pair.parent.pid)
        assert entry is not None
        assert not entry.is_dead
        await pair.over()
    assert min(took) < 0.2


async def test_a_cut_takes_the_whole_group_along(nothing_left: Alive) -> None:
    """A program that the child has started knows nothing of the line."""
    pair = await family("print(subprocess.Popen(['sleep', '1000']).pid, flush=True)\n" + SHAPES["sleeps"])
    pair.cut()
    await seconds_until(pair.child)
    await pair.over()
    await all_ended(nothing_left)


@pytest.mark.parametrize("missed", ["the parent is another one", "the line is cut already"])
async def test_an_end_that_came_before_the_line_was_held_counts(missed: str, nothing_left: Alive) -> None:
    line = Lifeline()
    inherited = os.dup(line.fd)
    parent = os.getpid()
    if missed == "the line is cut already":
        line.cut()
    else:
        parent += 1
    child = RealProcesses().spawn(
        Command((sys.executable, "-c", HOLD + SHAPES["sleeps"], str(inherited), str(parent)), keep_open=(inherited,))
    )
    os.close(inherited)
    with anyio.fail_after(10):
        assert await child.wait_group() == Exit(signal=signal.SIGKILL)
    line.cut()


async def test_the_line_is_not_handed_on_to_grandchildren(nothing_left: Alive) -> None:
    line = Lifeline()
    program = (
        HOLD + "raise SystemExit(subprocess.call(['test', '-e', f'/proc/self/fd/{sys.argv[1]}'], close_fds=False))"
    )
    child = RealProcesses().spawn(
        Command((sys.executable, "-c", program, str(line.fd), str(os.getpid())), keep_open=(line.fd,))
    )
    with anyio.fail_after(10):
        assert await child.wait_group() == Exit(code=1)
    line.cut()


async def test_a_process_in_a_group_of_somebody_else_does_not_hold_a_line(nothing_left: Alive) -> None:
    """It would end that group."""
    program = f"import subprocess, sys\nraise SystemExit(subprocess.call([sys.executable, '-c', {HOLD!r}, '0', '0']))"
    reader, writer = os.pipe()
    child = RealProcesses().spawn(Command((sys.executable, "-c", program), err=writer))
    os.close(writer)
    with anyio.fail_after(10):
        assert await child.wait_group() == Exit(code=1)
    with os.fdopen(reader) as said:
        assert "this process does not lead one of its own" in said.read()


async def test_to_cut_twice_is_to_cut_once(nothing_left: Alive) -> None:
    line = Lifeline()
    line.cut()
    line.cut()


# -- programs that know nothing of it -------------------------------------------------------------------------------


async def test_a_foreign_program_that_is_held_ends_with_its_parent(nothing_left: Alive) -> None:
    program = """
import os, sys
from geartrain.ports.lifeline import held
from geartrain.ports.process import Command, RealProcesses
child = RealProcesses().spawn(Command(held(("sh", "-c", "echo $$; exec sleep 1000"))))
os.read({}, 1)
"""
    waits, tell = os.pipe()
    reader, writer = os.pipe()
    words = (sys.executable, "-c", program.format(waits))
    parent = RealProcesses().spawn(Command(words, out=writer, keep_open=(waits,)))
    os.close(waits)
    os.close(writer)
    pid = await number_from(reader)
    parent.signal(signal.SIGKILL)
    await seconds_until(pid)
    await parent.wait_group()
    os.close(tell)


async def test_a_program_whose_parent_died_before_it_was_held_is_not_run(nothing_left: Alive) -> None:
    _python, *module, parent = held(())
    child = RealProcesses().spawn(Command((sys.executable, *module, str(int(parent) + 1), "sleep", "1000")))
    with anyio.fail_after(10):
        assert await child.wait_group() == Exit(signal=signal.SIGKILL)


async def test_a_held_program_has_its_arguments_and_its_exit_code(nothing_left: Alive) -> None:
    child = RealProcesses().spawn(Command(held(("sh", "-c", 'exit "$1"', "sh", "7"))))
    with anyio.fail_after(10):
        assert await child.wait_group() == Exit(code=7)


async def test_a_held_program_that_does_not_exist_says_so(nothing_left: Alive) -> None:
    reader, writer = os.pipe()
    child = RealProcesses().spawn(Command(held(("no-such-program",)), err=writer))
    os.close(writer)
    with anyio.fail_after(10):
        assert await child.wait_group() == Exit(code=1)
    with os.fdopen(reader) as said:
        assert said.read() == "'no-such-program' cannot be started: No such file or directory\n"


# -- at any instant -------------------------------------------------------------------------------------------------


@pytest.mark.soak
async def test_two_hundred_parents_killed_at_random_instants_leave_no_child(nothing_left: Alive) -> None:
    """Also between the start of a child and the moment it holds the line."""
    chance = Random("lifeline")
    for _ in range(200):
        parent, tell = start_parent(HOLD + SHAPES[chance.choice(list(SHAPES))])
        with anyio.move_on_after(chance.random() * 0.2):
            await parent.wait()
        parent.kill_group(signal.SIGKILL)
        with anyio.fail_after(10):
            await parent.wait_group()
        await all_ended(nothing_left)
        os.close(tell)
