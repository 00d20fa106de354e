"""Which run a command means, and where its logs lie."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from geartrain.errors import BadValue, ProcessFailed
from geartrain.ports.run_directory import Run, kept_states, live_runs
from geartrain.rules.nearest import did_you_mean

# A follower is not waited for by anybody, so it looks again instead of being told.
_LOOK_AGAIN_S = 0.1

_READ_BYTES = 64 * 1024


class NothingRuns(ProcessFailed):
    """There is no run that is alive."""


def pipeline_name(run_id: str) -> str:
    return run_id.rpartition("-")[0]


def live_run(named: str | None) -> Run:
    """The run of this id or of this pipeline; without a name the only one."""
    runs = live_runs()
    if not runs:
        raise NothingRuns("no pipeline is running; `geartrain run FILE` starts one")
    ids = [run.run_id for run in runs]
    found = runs if named is None else [run for run in runs if named in (run.run_id, pipeline_name(run.run_id))]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadValue(f"several runs are alive, name one of them: {', '.join(run.run_id for run in found)}")
    raise BadValue(f"no run is called {named!r}; {did_you_mean(str(named), ids)}")


def state_of(named: str | None) -> Path:
    """The folder with what a run leaves: the live one, else the last one that was."""
    alive = [run.run_id for run in live_runs()]
    states = kept_states()
    found = [path for path in states if named is None or named in (path.name, pipeline_name(path.name))]
    if not found:
        names = [path.name for path in states]
        raise BadValue(
            f"nothing is kept of a run {named!r}; {did_you_mean(named, names)}"
            if named
            else "nothing is kept of any run"
        )
    living = [path for path in found if path.name in alive]
    if len(living) > 1:
        raise BadValue(f"several runs are alive, name one of them: {', '.join(path.name for path in living)}")
    return (living or found)[0]


# -- logs -----------------------------------------------------------------------------------------------------------


class Log:
    """The lines of one stream of one process, the former file first."""

    def __init__(self, path: Path) -> None:
        self.process, self.stream = path.name.removesuffix(".log").rsplit(".", 1)
        self._path = path
        self._file: int | None = None
        self._offset = 0
        self._rest = b""

    def former(self) -> Iterator[str]:
        """What was written before the present file began."""
        before = self._path.with_name(f"{self._path.name}.1")
        if before.exists():
            yield from before.read_text(errors="replace").splitlines()

    def new(self) -> Iterator[str]:
        """The whole lines that have come since last time."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return
        if found.st_ino != self._file:
            self._file, self._offset = found.st_ino, 0
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            while chunk := file.read(_READ_BYTES):
                self._offset += len(chunk)
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)


def logs_in(state: Path, process: str | None) -> tuple[Log, ...]:
    """The logs of a run, or of one process of it."""
    logs = tuple(Log(path) for path in sorted(state.glob("*.log")))
    known = sorted({log.process for log in logs})
    if process is not None and process not in known:
        raise BadValue(f"there is no log of {process!r}; {did_you_mean(process, known)}")
    return tuple(log for log in logs if process in (None, log.process))


def followed(state: Path, logs: Sequence[Log]) -> Iterator[tuple[Log, str]]:
    """What comes, until the run is over."""
    alive = True
    while alive:
        # Looked at before the reading: what was written before the end is read after it.
        alive = any(run.run_id == state.name for run in live_runs())
        for log in logs:
            yield from ((log, line) for line in log.new())
        if alive:
            time.sleep(_LOOK_AGAIN_S)
