"""Nothing of a run stays behind: a small program above the supervisor that sweeps up after it. Standard library only.

    python -m geartrain.engine.guard [--run-directory DIR] -- command...

    guard        adopts whoever is orphaned below, hands signals on, exits as the command did
      twin         the same once more, a fork: whichever of the two is killed, the other one sweeps
        command      in a session of its own; the kernel ends it with its parent

SIGINT, SIGTERM and SIGHUP go to the command, the first time and the second; the third ends everything with SIGKILL.
All signals are taken one by one from a blocking wait, so no handler ever interrupts anything.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from geartrain.errors import GeartrainError
from geartrain.ports.linux import adopt_orphans, die_with_parent, need_linux
from geartrain.ports.places import check_private, remove_folder
from geartrain.ports.process_table import below, signal_all

USAGE = "usage: python -m geartrain.engine.guard [--run-directory DIR] -- command..."

# Blocked, so that they can be waited for. SIGUSR1 is what the kernel sends the twin when its parent has died.
_STOPS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_PARENT_DIED = signal.SIGUSR1
_HEARD = _STOPS | {signal.SIGCHLD, _PARENT_DIED}
_PATIENCE = 2

_LOOK_AGAIN_S = 0.005
# A process that is stuck in the kernel, or has become another user's, cannot be ended from here.
_GIVE_UP_S = 5.0
_CANNOT_START = 127
_FORCED = 128 + signal.SIGKILL


class Job(NamedTuple):
    """What is to be run, and the folder that goes when it is over."""

    command: tuple[str, ...]
    run_directory: Path | None


def job_of(arguments: Sequence[str]) -> Job | None:
    """What the command line asks for; None when it is not understood."""
    match arguments:
        case ["--run-directory", folder, "--", first, *rest]:
            return Job((first, *rest), Path(folder))
        case ["--", first, *rest]:
            return Job((first, *rest), None)
        case _:
            return None


def main(arguments: Sequence[str]) -> int:
    need_linux()
    job = job_of(arguments)
    if job is None:
        _say(USAGE)
        return 2
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    # Where it is ignored, which is inherited, the kernel throws away how a child ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return _guard(job, None, lambda parent: _be_the_twin(job, mask, parent))


def _be_the_twin(job: Job, mask: Collection[int], parent: int) -> int:
    die_with_parent(_PARENT_DIED)
    if os.getppid() != parent:
        return _FORCED
    return _guard(job, parent, lambda twin: _become(job.command, mask, twin))


def _guard(job: Job, parent: int | None, body: Callable[[int], int]) -> int:
    """Watch over one child until it is over, then over nobody. The answer is the exit code."""
    adopt_orphans()
    code = _until_over(_fork(body), parent)
    _sweep()
    if job.run_directory is not None:
        _remove(job.run_directory)
    return code


def _fork(body: Callable[[int], int]) -> int:
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        # The terminal's Ctrl-C reaches the outermost guard and nobody else.
        os.setsid()
        os._exit(body(parent))
    return child


def _become(command: Sequence[str], mask: Collection[int], parent: int) -> int:
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        return _FORCED
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        os.execvp(command[0], list(command))
    except OSError as error:
        _say(f"{command[0]!r} cannot be started: {error.strerror}")
        return _CANNOT_START


def _until_over(child: int, parent: int | None) -> int:
    stops = 0
    while True:
        heard = signal.sigwaitinfo(_HEARD).si_signo
        if heard == signal.SIGCHLD:
            code = _collect().get(child)
            if code is not None:
                return code
        elif heard == _PARENT_DIED:
            # Anybody may send that signal.
            if parent is not None and os.getppid() != parent:
                return _FORCED
        else:
            stops += 1
            if stops > _PATIENCE:
                return 128 + heard
            os.kill(child, heard)


def _collect() -> dict[int, int]:
    """Everybody who has ended, with the exit code; own children and adopted ones."""
    ended = {}
    while (found := _next_ended()) is not None:
        pid, status = found
        code = os.waitstatus_to_exitcode(status)
        ended[pid] = code if code >= 0 else 128 - code
    return ended


def _next_ended() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _sweep() -> None:
    """End everybody below. Who is orphaned by that comes here, so it is done until nobody comes."""
    give_up_at = time.monotonic() + _GIVE_UP_S
    while left := _children_left():
        if time.monotonic() > give_up_at:
            _say(f"geartrain: processes that cannot be ended, another user's or stuck in the kernel: {left}")
            return
        signal_all(left, signal.SIGKILL)
        signal.sigtimedwait({signal.SIGCHLD}, _LOOK_AGAIN_S)


def _children_left() -> list[int]:
    _collect()
    return below(os.getpid())


def _remove(folder: Path) -> None:
    """The run directory, unless the other guard has."""
    if not os.path.lexists(folder):
        return
    try:
        check_private(folder)
        remove_folder(folder)
    except GeartrainError as error:
        _say(f"geartrain: the run directory stays: {error}")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)  # noqa: T201  # a program's own words to its user


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
