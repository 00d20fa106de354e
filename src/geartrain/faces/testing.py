"""A pipeline under test: it is run to its end, what it prints is kept, and what it leaves behind is found.

    result = await run_pipeline(p)                         in processes of its own
    result = await run_pipeline(p, in_process=True)        in the present one
    result = await run_pipeline(p, clock=SimClock())       in the present one, in virtual time, which passes by itself
    result = run_pipeline.blocking(p, ...)                 the same for a test without a loop

Whatever a run starts has its mark in its environment, and what has the mark afterwards was left behind.
"""

import os
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from msgspec import Struct

from geartrain.engine.in_process import InProcess
from geartrain.engine.pipeline import Pipeline
from geartrain.engine.roll import Standing, Stream, Watcher
from geartrain.engine.simulate import simulate
from geartrain.errors import PipelineFailed
from geartrain.ports.clock import Clock, SimClock
from geartrain.ports.process_table import Entry, command_of, has_ended, has_in_environment, signal_all, table
from geartrain.rules.orders import Report

if TYPE_CHECKING:
    from geartrain.engine.launcher import Launcher

# What a test waits for, when it says nothing else.
TIMEOUT_S = 60.0

# Of each process so many lines are kept.
LINES_KEPT = 1000

# Who was told to end may need a moment for it.
_PATIENCE_S = 1.0

_MARK = "GEARTRAIN_UNDER_TEST"


class RunResult(Struct, frozen=True):
    """What a run has to tell that ended well.

    `printed` are the last lines of each process, out and err; what is printed in the present process is pytest's.
    `failures` are those that a policy has absorbed.
    """

    printed: dict[str, list[str]]
    restarts: dict[str, int]
    failures: list[Report]


class _Heard(Watcher):
    """What a run says. Once it is cut off, who was alive then stays noted."""

    def __init__(self, patience: anyio.CancelScope) -> None:
        self.printed: dict[str, deque[str]] = {}
        self.alive: dict[str, None] = {}
        self._patience = patience

    def process_said(self, process: str, stream: Stream, line: str) -> None:
        self.printed.setdefault(process, deque(maxlen=LINES_KEPT)).append(line)

    def daemon_changed(self, standing: Standing) -> None:
        if self._patience.cancel_called:
            return
        if standing.state == "ended":
            self.alive.pop(standing.daemon, None)
        else:
            self.alive[standing.daemon] = None


class _Trail(Struct, frozen=True):
    """How that is found which a run has left behind."""

    pipeline: str
    mark: str
    folder: Path | None


class PipelineRunner:
    """What the fixture `run_pipeline` is: it runs pipelines, any number of them, one after the other."""

    def __init__(self, attach: Callable[[str, str], None], state_home: Path) -> None:
        """`attach` takes a title and a text for the report of the test; the logs of processes go to `state_home`."""
        self._attach = attach
        self._state_home = state_home
        self._trails: list[_Trail] = []

    async def __call__(
        self, pipeline: Pipeline, *, in_process: bool = False, clock: Clock | None = None, timeout: float = TIMEOUT_S
    ) -> RunResult:
        """Run a pipeline until every daemon has returned; in the present process also when a `clock` is given.

        Raises what `Pipeline.run` raises, and `TimeoutError` when it has not ended within `timeout` seconds.
        """
        with anyio.move_on_after(timeout) as patience:
            heard = _Heard(patience)
            try:
                return await self._run(pipeline, heard, clock, in_process=in_process or clock is not None)
            finally:
                for process, lines in heard.printed.items():
                    self._attach(f"output of process {process}", "\n".join(lines))
        alive = ", ".join(heard.alive) or "nobody"
        raise TimeoutError(f"pipeline {pipeline.name!r} has not ended within {timeout:g} s; still alive: {alive}")

    async def _run(self, pipeline: Pipeline, heard: _Heard, clock: Clock | None, *, in_process: bool) -> RunResult:
        with _marked() as mark:
            run = InProcess(pipeline, clock, heard) if in_process else self._launcher(pipeline, heard)
            folder = None if isinstance(run, InProcess) else run.run.folder
            self._trails.append(_Trail(pipeline.name, mark, folder))
            try:
                if isinstance(run, InProcess) and isinstance(clock, SimClock):
                    await run.live_in_virtual_time(clock)
                else:
                    await run.live()
            except PipelineFailed as error:
                self._attach(f"traceback from pipeline {pipeline.name}", error.trace or str(error))
                raise
        return RunResult(
            printed={process: list(lines) for process, lines in heard.printed.items()},
            restarts={standing.daemon: standing.restarts for standing in run.roll.standings()},
            failures=run.reports,
        )

    def _launcher(self, pipeline: Pipeline, heard: _Heard) -> "Launcher":
        from geartrain.engine.launcher import Launcher  # who runs nothing in processes needs no Linux

        # The runs that a user may want to look into are not pushed out by those of tests.
        with _in_environment("XDG_STATE_HOME", str(self._state_home)):
            return Launcher(pipeline, watcher=heard)

    def blocking(
        self, pipeline: Pipeline, *, in_process: bool = False, clock: Clock | None = None, timeout: float = TIMEOUT_S
    ) -> RunResult:
        """The same for a test that has no loop: on that of the pipeline."""
        work = partial(self, pipeline, in_process=in_process, clock=clock, timeout=timeout)
        backend = pipeline.spec.backend
        return simulate(work, backend=backend) if isinstance(clock, SimClock) else anyio.run(work, backend=backend)

    def left_behind(self) -> str:
        """What the runs have left behind, in words; nothing, if they have not. Processes are ended now."""
        return "\n".join(found for trail in self._trails for found in _left_of(trail))


def _left_of(trail: _Trail) -> Iterator[str]:
    left = list(_alive_with(trail.mark))
    for process in left:
        yield f"pipeline {trail.pipeline!r} has left process {process.pid} behind: {command_of(process.pid)}"
    signal_all([process.pid for process in left], signal.SIGKILL)
    if trail.folder is not None and trail.folder.exists():
        files = ", ".join(sorted(path.name for path in trail.folder.iterdir())) or "nothing"
        yield f"pipeline {trail.pipeline!r} has left its folder {trail.folder} behind, with {files} in it"


def _alive_with(mark: str) -> Iterator[Entry]:
    """Those that do not end by themselves in a moment."""
    if sys.platform != "linux":
        return
    give_up_at = time.monotonic() + _PATIENCE_S
    found = [process for process in table() if not process.is_dead and has_in_environment(process.pid, _MARK, mark)]
    for process in found:
        within_s = max(0.0, give_up_at - time.monotonic())
        if process.pid != os.getpid() and not has_ended(process.pid, within_s):
            yield process


@contextmanager
def _marked() -> Iterator[str]:
    mark = secrets.token_hex(8)
    with _in_environment(_MARK, mark):
        yield mark


@contextmanager
def _in_environment(name: str, value: str) -> Iterator[None]:
    former = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if former is None:
            del os.environ[name]
        else:
            os.environ[name] = former
