"""A run, as its user follows it: what is printed, what a signal does, and with which code it ends.

first SIGINT, SIGTERM, SIGHUP, `geartrain stop` or the end of --for     stop in order, 0
second signal                                                        no grace, 128 + its number
third signal                                                         the guard kills everybody
"""

import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import anyio
import anyio.abc
import msgspec
from msgspec import Struct

from geartrain.engine.control import Control
from geartrain.engine.in_process import InProcess
from geartrain.engine.launcher import Launcher
from geartrain.engine.pipeline import Pipeline
from geartrain.engine.roll import Standing, Stream, Watcher
from geartrain.engine.signal import Signal
from geartrain.engine.sim_time import SimTime, Simulated
from geartrain.engine.simulate import simulate
from geartrain.engine.simulated_placed import run_placed
from geartrain.engine.simulation import Simulation, Stamp
from geartrain.errors import (
    BadValue,
    CannotLoad,
    Deadlock,
    Fault,
    GeartrainError,
    Livelock,
    PipelineFailed,
    PipelineFaulty,
    ProcessFailed,
)
from geartrain.faces.looks import Printer
from geartrain.faces.status import StatusLine, in_short
from geartrain.faces.supervise import STOPS
from geartrain.faces.target import pipeline_of
from geartrain.faces.web_address import cannot_be_shown
from geartrain.ports.clock import SimClock
from geartrain.ports.limits import raise_descriptor_limit
from geartrain.ports.process import signal_name
from geartrain.ports.run_directory import clear, dead_runs
from geartrain.rules.system import shown_at

FAILED = 1
FAULTY = 2
BY_SIGNAL = 128

LAST_LINES = 20


class RunOrder(Struct, frozen=True, kw_only=True):
    """What `geartrain run` was asked for."""

    target: str
    overrides: tuple[str, ...] = ()
    run_for_s: float | None = None
    grace_s: float = 5.0
    verbose: bool = False
    log_level: str | None = None
    in_process: bool = False
    # In virtual time, all of it in one process.
    sim: SimTime | None = None


class Follower(Watcher):
    """Prints a line when a daemon becomes ready, fails, restarts or ends, and each line of the processes."""

    def __init__(self, pipeline: Pipeline, status: StatusLine) -> None:
        spec = pipeline.whole
        names = [name for daemon in spec.daemons for name in (daemon.name, daemon.process)]
        self._shown_at = shown_at(spec)
        self._news = Printer(sys.stderr, names, status.erase)
        self._streams: dict[Stream, Printer] = {"out": Printer(sys.stdout, names, status.erase), "err": self._news}
        self.status = status

    def say(self, text: str) -> None:
        self.show(f"geartrain: {text}\n")

    def show(self, text: str) -> None:
        """Text that is laid out already."""
        self._news.text(text)

    def daemon_changed(self, standing: Standing) -> None:
        self.status.change()
        match standing.state:
            case "running":
                where = self._shown_at.get(standing.daemon)
                self._news.line(standing.daemon, f"is ready (pid {standing.pid}){f', at {where}' if where else ''}")
            case "restarting":
                self._news.line(standing.daemon, "is restarted")
            case "ended":
                self._news.line(standing.daemon, "has ended")
            case _:
                pass

    def daemon_failed(self, standing: Standing) -> None:
        self._news.line(standing.daemon, f"failed: {standing.last_error}", bad=True)

    def process_said(self, process: str, stream: Stream, line: str) -> None:
        self._streams[stream].line(process, line)


class Records(logging.Handler):
    """What the supervisor's own code logs, told as everything else is."""

    def __init__(self, follower: Follower) -> None:
        super().__init__()
        self._follower = follower

    def emit(self, record: logging.LogRecord) -> None:
        self._follower.say(self.format(record))


class Running:
    """One run, and how it came to its end."""

    def __init__(
        self, launcher: Launcher | InProcess, follower: Follower, grace_s: float, tasks: anyio.abc.TaskGroup
    ) -> None:
        self._launcher = launcher
        self._follower = follower
        self._grace_s = grace_s
        self._tasks = tasks
        self._stopped: Signal | None = None
        self._signals: list[int] = []
        self._cut_short = False
        self._began_s = time.monotonic()

    def in_short(self) -> str:
        """How the run is, in one line."""
        stopping = self._stopped is not None
        return in_short(self._launcher.spec.name, self._launcher.roll.standings(), self.elapsed_s, stopping=stopping)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def ask_stop(self) -> None:
        if self._stopped is None:
            self._stopped = Signal("the stop of the run")
            self._tasks.start_soon(self._stop, self._stopped, self._grace_s)

    def hear(self, number: int) -> None:
        """The first signal stops, the second does not wait any longer."""
        self._signals.append(number)
        if len(self._signals) == 1:
            self.ask_stop()
        else:
            self._follower.status.end()
            self._follower.say(f"{signal_name(number)} again: nobody is waited for; the next one kills")
            self._cut_short = True
            self._tasks.start_soon(self._launcher.end_now)

    async def _stop(self, stopped: Signal, grace_s: float) -> None:
        waited_for = ", ".join(self._launcher.roll.unfinished())
        self._follower.say(f"stopping; waiting for {waited_for}" if waited_for else "stopping")
        late = await self._launcher.stop(grace_s)
        if late and not self._cut_short:
            self._cut_short = True
            self._follower.say(f"ended by force: {', '.join(late)}")
        stopped.set()

    async def stop_after(self, seconds: float) -> None:
        await self._launcher.gate.wait()
        await anyio.sleep(seconds)
        self._follower.say("the time is over")
        self.ask_stop()

    async def code(self) -> int:
        """The exit code of a run that nobody's failure has ended."""
        if self._stopped is not None:
            await self._stopped.wait()
        return BY_SIGNAL + self._signals[-1] if self._cut_short and self._signals else 0


@contextmanager
def heard() -> Iterator[AsyncIterator[signal.Signals]]:
    """The signals that end a run, from now on, and those that came before."""
    with anyio.open_signal_receiver(*(signal.Signals(number) for number in STOPS)) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        yield signals


def _told(pipeline: Pipeline, status: StatusLine, log_level: str | None, clock: SimClock | None = None) -> Follower:
    follower = Follower(pipeline, status)
    records = Records(follower)
    if clock is not None:
        records.addFilter(Stamp(clock))
        records.setFormatter(logging.Formatter("t=%(sim_t).9f k=%(sim_k)d %(message)s"))
    logging.getLogger().addHandler(records)
    if log_level is not None:
        logging.getLogger().setLevel(log_level)
    return follower


async def live(order: RunOrder) -> int:
    with heard() as signals:
        pipeline = pipeline_of(order.target, order.overrides)
        if faults := tuple(cannot_be_shown(pipeline.whole)):
            raise PipelineFaulty(faults)
        for dead in dead_runs():
            clear(dead)
        status = StatusLine(sys.stderr)
        follower = _told(pipeline, status, order.log_level)
        launcher = Launcher(pipeline, watcher=follower)
        launcher.brief.log_level = order.log_level
        async with anyio.create_task_group() as tasks:
            running = Running(launcher, follower, order.grace_s, tasks)
            await tasks.start(Control(launcher, running.ask_stop).serve)
            if status.is_wanted:
                tasks.start_soon(status.keep, running.in_short)
            code = await _until_over(order, launcher, running, follower, signals, tasks)
    return code


async def live_here(order: RunOrder, pipeline: Pipeline) -> int:
    """All of it in this process. Its daemons write to the terminal themselves, so no line of it is kept for ours."""
    with heard() as signals:
        follower = _told(pipeline, StatusLine(sys.stderr), order.log_level)
        here = InProcess(pipeline, watcher=follower)
        async with anyio.create_task_group() as tasks:
            running = Running(here, follower, order.grace_s, tasks)
            code = await _until_over(order, here, running, follower, signals, tasks)
    return code


async def live_simulated(order: RunOrder, pipeline: Pipeline) -> int:
    """All of it in this process, in virtual time. The digest comes last, however the run has ended."""
    assert order.sim is not None
    with heard() as signals:
        clock = order.sim.new_clock()
        follower = _told(pipeline, StatusLine(sys.stderr), order.log_level, clock)
        simulation = Simulation(pipeline, order.sim, follower, clock)
        async with anyio.create_task_group() as tasks:
            running = Running(simulation, follower, order.grace_s, tasks)
            code = await _until_over(order, simulation, running, follower, signals, tasks)
        done = simulation.outcome()
        follower.say(_passed(done, running.elapsed_s))
    sys.stdout.write(f"digest {done.digest}\n")
    return code


async def live_placed(order: RunOrder, pipeline: Pipeline) -> int:
    """In virtual time in many processes. A signal cuts it short: they can only be ended together."""
    assert order.sim is not None
    began_s = time.monotonic()
    cut_by: list[int] = []
    with heard() as signals:
        follower = _told(pipeline, StatusLine(sys.stderr), order.log_level)
        async with anyio.create_task_group() as tasks:

            async def cut_short() -> None:
                cut_by.append(await anext(signals))
                tasks.cancel_scope.cancel()

            tasks.start_soon(cut_short)
            try:
                done = await run_placed(pipeline, order.sim)
            except (PipelineFailed, Deadlock, Livelock, ProcessFailed) as error:
                follower.say(f"the run has failed: {error}")
                tasks.cancel_scope.cancel()
                return FAILED
            tasks.cancel_scope.cancel()
    if cut_by:
        follower.say(f"{signal_name(cut_by[0])}: the simulation is cut short, and has no digest")
        return BY_SIGNAL + cut_by[0]
    follower.say(_passed(done, time.monotonic() - began_s))
    sys.stdout.write(f"digest {done.digest}\n")
    return 0


def _passed(done: Simulated, took_s: float) -> str:
    return f"{done.passed_ns / 1e9:g} s of virtual time have passed in {took_s:.3g} s"


async def _until_over(
    order: RunOrder,
    run: Launcher | InProcess,
    running: Running,
    follower: Follower,
    signals: AsyncIterator[signal.Signals],
    tasks: anyio.abc.TaskGroup,
) -> int:
    # Nothing is heard before the run lives: it could not be stopped.
    tasks.start_soon(_hear, signals, running)
    if order.run_for_s is not None and order.sim is None:
        tasks.start_soon(running.stop_after, order.run_for_s)
    code = await _outcome(run, running, follower)
    tasks.cancel_scope.cancel()
    return code


async def _outcome(run: Launcher | InProcess, running: Running, follower: Follower) -> int:
    try:
        await run.live()
    except (PipelineFailed, Deadlock, Livelock) as error:
        follower.say(f"the run has failed: {error}")
        if isinstance(error, PipelineFailed) and error.trace:
            follower.show(f"\n{error.trace}")
        if isinstance(run, Launcher):
            _say_more(run, follower)
        return FAILED
    except BadValue as error:
        # A trace that cannot be written: nothing was begun.
        follower.say(str(error))
        return FAULTY
    except SystemExit as ended:
        follower.say(f"a daemon has ended the program: sys.exit({'' if ended.code is None else repr(ended.code)})")
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return await running.code()


def _say_more(launcher: Launcher, follower: Follower) -> None:
    """What the process that failed printed last."""
    if launcher.failure is not None:
        process = launcher.failure.process
        lines = launcher.last_lines.get(process, [])[-LAST_LINES:]
        if lines:
            follower.show("".join([f"\nthe last lines of process {process}:\n", *(f"    {line}\n" for line in lines)]))
    follower.say(f"what everybody was about then: geartrain post-mortem {launcher.run.run_id}")


async def _hear(signals: AsyncIterator[signal.Signals], running: Running) -> None:
    async for number in signals:
        running.hear(number)


# -- what cannot run ------------------------------------------------------------------------------------------------


def in_lines(faults: Sequence[Fault], *, verbose: bool) -> Iterator[str]:
    """Each fault in a line, with the traceback of its import where that is wanted."""
    for fault in faults:
        yield str(fault)
        if verbose and fault.trace:
            yield fault.trace.rstrip("\n")


def refusal(error: GeartrainError, *, verbose: bool) -> str:
    """What cannot be done, for stderr."""
    if isinstance(error, PipelineFaulty):
        return "".join(f"{line}\n" for line in in_lines(error.faults, verbose=verbose))
    trace = error.trace if verbose and isinstance(error, CannotLoad) else ""
    return f"geartrain: {error}\n{trace}"


def main(text: str) -> int:
    order = msgspec.json.decode(text, type=RunOrder)
    raise_descriptor_limit()
    try:
        if order.sim is not None:
            pipeline = pipeline_of(order.target, order.overrides)
            if order.sim.placement != "one":
                return anyio.run(live_placed, order, pipeline)
            return simulate(live_simulated, order, pipeline, backend=pipeline.spec.backend)
        if order.in_process:
            pipeline = pipeline_of(order.target, order.overrides)
            return anyio.run(live_here, order, pipeline, backend=pipeline.spec.backend)
        # The supervisor's own loop, whatever those of the processes are.
        return anyio.run(live, order)
    except GeartrainError as error:
        sys.stderr.write(refusal(error, verbose=order.verbose))
        return FAULTY
