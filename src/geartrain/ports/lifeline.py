"""No process outlives the one that started it: a pipe that ends with the parent, and a signal from the kernel.

    parent   Lifeline()                   holds the only writing end; cut() says "stop now" to all who hold the other
    child    hold_lifeline(fd, parent)    PDEATHSIG first: the kernel ends it with its parent, also when it stands still
                                          or sits in C; then a thread that reads, and ends its whole group

The signal works always, but only for the parent's death and for the process itself. The pipe works for a deliberate
end too and takes the group along, but not while the process is stopped or some C code keeps Python from running.
A program that knows nothing of this is started through `held`. Standard library only.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence

from geartrain.errors import NotInUse
from geartrain.ports.linux import die_with_parent, need_linux


class Lifeline:
    """The parent's end. `fd` is for the children to inherit: one pipe serves them all."""

    def __init__(self) -> None:
        need_linux()
        self.fd, self._end = os.pipe()
        self._cut = False

    def cut(self) -> None:
        """Whoever holds on to it ends at once, and everybody in its group."""
        if not self._cut:
            self._cut = True
            os.close(self._end)
            os.close(self.fd)


def hold_lifeline(fd: int, parent: int) -> None:
    """End when the parent ends, or cuts the line. To be called first of all, in the leader of a group of its own."""
    need_linux()
    if os.getpgrp() != os.getpid():
        raise NotInUse("a lifeline ends a whole process group, and this process does not lead one of its own")
    os.set_inheritable(fd, False)
    die_with_parent(signal.SIGKILL)
    # Who died before that line sends no signal any more.
    if os.getppid() != parent:
        _end_group()
    threading.Thread(target=_watch, args=(fd,), name="geartrain lifeline", daemon=True).start()


def held(arguments: Sequence[str]) -> tuple[str, ...]:
    """The command that runs this one so that it ends with the process that starts it."""
    return (sys.executable, "-m", "geartrain.ports.lifeline", str(os.getpid()), *arguments)


def _watch(fd: int) -> None:
    """Nobody ever writes: to read is to wait for the end."""
    os.read(fd, 1)
    _end_group()


def _end_group() -> None:
    # Not SIGTERM: who cuts the line has asked politely before, or is dead.
    os.killpg(0, signal.SIGKILL)


def _run_held(parent: int, arguments: Sequence[str]) -> None:
    """Become this program; what was asked of the kernel stays."""
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        _end_group()
    try:
        os.execvp(arguments[0], list(arguments))
    except OSError as error:
        # What a shell says.
        sys.exit(f"{arguments[0]!r} cannot be started: {error.strerror}")


if __name__ == "__main__":
    _run_held(int(sys.argv[1]), sys.argv[2:])
