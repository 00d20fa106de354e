"""Whether this machine can run pipelines, and what dead runs have left: what `geartrain doctor` looks at."""

import sys
from collections.abc import Callable, Iterator
from typing import Literal

from msgspec import Struct

from geartrain.errors import GeartrainError
from geartrain.ports.limits import raise_descriptor_limit
from geartrain.ports.linux import need_linux
from geartrain.ports.places import runtime_folder
from geartrain.ports.run_directory import clear, dead_runs, kept_states, live_runs

# A channel needs a few, and so does a process.
_FEW_DESCRIPTORS = 1024

Verdict = Literal["ok", "warning", "fault"]


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    said: str


def findings(*, clearing: bool) -> Iterator[Finding]:
    """Everything that is worth knowing; with `clearing`, what dead runs have left is removed."""
    yield _look("system", _system)
    yield _look("descriptors", _descriptors)
    yield _look("run directory", lambda: ("ok", str(runtime_folder())))
    yield _look("logs", lambda: ("ok", f"of {len(kept_states())} runs"))
    yield _look("live runs", lambda: ("ok", ", ".join(run.run_id for run in live_runs()) or "none"))
    yield _look("dead runs", lambda: _dead(clearing=clearing))


def _look(what: str, looking: Callable[[], tuple[Verdict, str]]) -> Finding:
    try:
        return Finding(what, *looking())
    except GeartrainError as error:
        return Finding(what, "fault", str(error))


def _system() -> tuple[Verdict, str]:
    need_linux()
    return "ok", f"{sys.platform}, Python {sys.version.partition(' ')[0]}"


def _descriptors() -> tuple[Verdict, str]:
    limit = raise_descriptor_limit()
    if limit < _FEW_DESCRIPTORS:
        return "warning", f"at most {limit} for each process; larger pipelines need more: `ulimit -n 4096` as root"
    return "ok", f"at most {limit} for each process"


def _dead(*, clearing: bool) -> tuple[Verdict, str]:
    dead = dead_runs()
    if not dead:
        return "ok", "none"
    if not clearing:
        return "warning", f"{', '.join(run.run_id for run in dead)}; `geartrain doctor --clear` removes what they left"
    stay = [run.run_id for run in dead if not clear(run)]
    if stay:
        return "warning", f"{', '.join(stay)}: some of their processes are still alive"
    return "ok", f"cleared {', '.join(run.run_id for run in dead)}"
