"""What pipelines in many processes ask of Linux by hand, and the refusal elsewhere. Standard library only."""

import os
import sys

from geartrain.errors import NotOnThisSystem

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def need_linux() -> None:
    """Say no early, and in words: what would fail later is a missing attribute somewhere deep inside."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        raise NotOnThisSystem(
            f"pipelines in many processes need Linux 5.4 or newer (pidfd, PDEATHSIG), and this is {sys.platform}; "
            "run all daemons in one process here"
        )


def die_with_parent(signal_number: int) -> None:
    """Let the kernel send this signal when the *thread* that started this process ends. It survives exec.

    Whoever calls this looks afterwards whether the parent is still there: it may have died just before.
    """
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def adopt_orphans() -> None:
    """Whoever is orphaned below this process becomes its child, and not init's, `setsid` or not."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    # Imported here, for it costs as much as all the rest of a process that never asks.
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong(number) for number in (value, 0, 0, 0)]
    if library.prctl(option, *arguments) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed")
