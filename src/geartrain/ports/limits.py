"""How many descriptors this process may have open: as many as can be had, and a word at the start if too few."""

import os
import sys

from geartrain.errors import LimitTooLow
from geartrain.ports.linux import need_linux

if sys.platform == "linux":
    import resource


def raise_descriptor_limit() -> int:
    """Take all the hard limit gives, and say how many that is."""
    need_linux()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def need_descriptors(count: int) -> None:
    """Refuse at the start what would run out of descriptors later, where a library spins instead of saying so."""
    limit = raise_descriptor_limit()
    in_use = len(os.listdir("/proc/self/fd"))
    if in_use + count > limit:
        raise LimitTooLow(
            f"this run needs about {count} descriptors more than the {in_use} in use, and the limit is {limit}; "
            f"raise it with `ulimit -n {in_use + count}` as root, or with LimitNOFILE= in a systemd unit"
        )
