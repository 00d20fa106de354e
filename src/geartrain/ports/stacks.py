"""Where each thread of another process stands, told by that process even when its loop hangs.

    the process     show_stacks(path)               from then on it writes its stacks there at each signal STACKS
    who asks        Stacks(path).ask(process)       signal, wait until it has written, read

What writes is `faulthandler`, in C and inside the signal handler: no line of Python has to run for it.
"""

import faulthandler
import os
import signal
from contextlib import suppress
from pathlib import Path

import anyio

from geartrain.errors import ProcessFailed
from geartrain.ports.linux import need_linux
from geartrain.ports.process import Process
from geartrain.ports.process_table import signals_of

# One that nobody else uses: SIGUSR1 and SIGUSR2 are for the daemons.
STACKS = signal.SIGRTMAX - 1

_LOOK_AGAIN_S = 0.002
_WITHIN_S = 2.0


def show_stacks(path: Path) -> None:
    """Let this process write the stacks of all its threads to this file whenever it is asked."""
    need_linux()
    # Never closed: it is the handler's. Whoever asks empties it, and what is appended begins at the front again.
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    faulthandler.register(STACKS, file, all_threads=True)


class Stacks:
    """Asks a process that writes its stacks to this file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._one_at_a_time = anyio.Lock()

    async def ask(self, process: Process) -> str:
        """The stacks of all its threads, as `faulthandler` writes them; `ProcessFailed` says why there are none."""
        async with self._one_at_a_time:
            _check(process)
            with suppress(FileNotFoundError):
                os.truncate(self._path, 0)
            process.signal(STACKS)
            with anyio.move_on_after(_WITHIN_S):
                while not self._is_whole(process.pid):
                    await anyio.sleep(_LOOK_AGAIN_S)
            return self._written(process.pid)

    def _is_whole(self, pid: int) -> bool:
        """The signal is blocked while its handler runs, and what is there has been written by the handler."""
        if not self._path.stat().st_size:
            return False
        signals = signals_of(pid)
        return signals is None or not (signals.blocks(STACKS) or signals.awaits(STACKS))

    def _written(self, pid: int) -> str:
        text = self._path.read_text(errors="replace")
        if text:
            return text
        if signals_of(pid) is None:
            raise ProcessFailed(f"process {pid} has ended before it could show its stacks")
        raise ProcessFailed(
            f"process {pid} has not shown its stacks within {_WITHIN_S:g} s: it is stuck in the kernel, "
            "blocks the signal for it, or has no room to write them"
        )


def _check(process: Process) -> None:
    """A process that does not expect the signal would be killed by it, and one that stands still never hears it."""
    signals = signals_of(process.pid)
    if signals is None:
        raise ProcessFailed(f"process {process.pid} has ended, and has no stacks")
    if process.stopped():
        raise ProcessFailed(
            f"process {process.pid} stands still by SIGSTOP, and shows its stacks only after `kill -CONT {process.pid}`"
        )
    if not signals.catches(STACKS):
        raise ProcessFailed(f"process {process.pid} has just been started, and cannot show its stacks yet")
