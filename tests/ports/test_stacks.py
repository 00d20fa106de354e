"""A real process shows where it stands, whatever it does; one that cannot is named, and comes to no harm."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from geartrain.errors import ProcessFailed
from geartrain.ports.process import Command, RealProcess, RealProcesses
from geartrain.ports.stacks import Stacks

pytestmark = pytest.mark.usefixtures("nothing_left")

SHOWS = """
from geartrain.ports.stacks import show_stacks
from pathlib import Path
show_stacks(Path({path!r}))
"""
SPINS = """
def spins():
    print(flush=True)
    while True:
        pass
spins()
"""
SLEEPS = "import time; print(flush=True); time.sleep(1000)"
MANY_THREADS = """
import threading
for _ in range(20):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@asynccontextmanager
async def living(*statements: str) -> AsyncIterator[RealProcess]:
    """A process that has come to the line that it prints."""
    reader, writer = os.pipe()
    process = RealProcesses().spawn(Command((sys.executable, "-c", "\n".join(statements)), out=writer))
    os.close(writer)
    with os.fdopen(reader, "rb"), anyio.fail_after(30):
        try:
            await anyio.wait_readable(reader)
            yield process
        finally:
            process.kill_group(signal.SIGKILL)
            with anyio.CancelScope(shield=True):
                await process.wait_group()


async def test_a_process_that_spins_shows_where_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "stacks"
    async with living(SHOWS.format(path=str(path)), MANY_THREADS, SPINS) as process:
        stacks = Stacks(path)
        for _ in range(20):
            text = await stacks.ask(process)
            assert text.count("hread 0x") == 21
            # The interrupted thread comes last, so that this is a whole one.
            assert 'File "<string>", line' in text
            assert text.endswith("in <module>\n")


async def test_those_who_ask_at_once_each_get_one_answer(tmp_path: Path) -> None:
    path = tmp_path / "stacks"
    answers = []
    async with living(SHOWS.format(path=str(path)), SLEEPS) as process:
        stacks = Stacks(path)

        async def ask() -> None:
            answers.append(await stacks.ask(process))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
    assert [answer.count("Current thread") for answer in answers] == [1, 1, 1]


async def test_a_process_that_stands_still_is_said_to_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "stacks"
    async with living(SHOWS.format(path=str(path)), SLEEPS) as process:
        process.signal(signal.SIGSTOP)
        while not process.stopped():
            await anyio.sleep(0.001)
        with anyio.fail_after(1), pytest.raises(ProcessFailed, match=f"process {process.pid} stands still by SIGSTOP"):
            await Stacks(path).ask(process)


async def test_a_process_that_does_not_expect_the_question_is_not_killed_by_it(tmp_path: Path) -> None:
    async with living(SLEEPS) as process:
        with pytest.raises(ProcessFailed, match="has just been started, and cannot show its stacks yet"):
            await Stacks(tmp_path / "stacks").ask(process)
        with anyio.move_on_after(0.05):
            await process.wait()
            pytest.fail("it has ended")


async def test_a_process_that_blocks_the_signal_is_waited_for_so_long_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geartrain.ports.stacks._WITHIN_S", 0.05)
    path = tmp_path / "stacks"
    blocks = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))"
    async with living(SHOWS.format(path=str(path)), blocks, SLEEPS) as process:
        with pytest.raises(ProcessFailed, match=r"has not shown its stacks within 0\.05 s"):
            await Stacks(path).ask(process)


async def test_a_process_that_has_ended_has_no_stacks(tmp_path: Path) -> None:
    async with living(SLEEPS) as process:
        process.kill_group(signal.SIGKILL)
        await process.wait()
        with pytest.raises(ProcessFailed, match=f"process {process.pid} has ended"):
            await Stacks(tmp_path / "stacks").ask(process)
