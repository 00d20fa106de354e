"""A pipeline in which everybody waits in the end for the last one, which has item 21 in hand."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import anyio

from geartrain.errors import SlotsUnreadable
from geartrain.ports.process_table import below, signal_all
from geartrain.ports.run_directory import kept_states
from geartrain.ports.run_memory import RunMemory
from geartrain.rules.readings import EndReading

ROOT = Path(__file__).parent.parent.parent

Loop = Literal["asyncio", "trio"]


@contextmanager
def running(loop: Loop) -> Iterator["subprocess.Popen[bytes]"]:
    words = (sys.executable, "-m", "geartrain", "run", "tests/walks/holding.toml", "--backend", loop)
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            kill_all(process.pid)


def kill_all(guard: int) -> None:
    """The guard, its twin, the launcher, and then those that do the work."""
    signal_all([guard, *below(guard)], signal.SIGKILL)


async def until_it_stands() -> RunMemory:
    """Everybody waits for the last one, which has item 21 in hand."""
    while True:
        for state in kept_states():
            try:
                memory = RunMemory(state)
                ends = {(end.channel, end.sends): end for _, end in memory.look().ends()}
            except SlotsUnreadable:
                continue
            if len(ends) == 4 and stands(ends):
                return memory
            memory.close()
        await anyio.sleep(0.01)


def stands(ends: dict[tuple[str, bool], EndReading]) -> bool:
    """Who waits may still be told of as it was before it had met its reader: then nothing is in its channel."""
    last = ends["objects", False]
    full = [end.waits == 1 and end.accepted - end.taken == 8 for end in ends.values() if end.sends]
    return all(full) and last.in_hand == last.may_have == 21
