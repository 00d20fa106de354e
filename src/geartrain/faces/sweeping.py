"""Many seeds of one simulation, on all cores: the first that breaks something is named, and the line that repeats it.

Every core has a process that simulates one seed after the other, with all that its daemons print thrown away. None of
them outlives the command.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from typing import Any

from msgspec import Struct

from geartrain.engine.declare import load
from geartrain.engine.sim_time import SimTime, Simulated
from geartrain.engine.simulate import simulate
from geartrain.engine.simulation import Simulation
from geartrain.errors import BadValue, CannotLoad, Deadlock, Livelock, PipelineFailed, in_words
from geartrain.faces.target import pipeline_of
from geartrain.ports.linux import die_with_parent

# What is asked of each run that has ended well: it raises, or answers False, when something is broken.
Invariant = Callable[[Simulated], object]

# So many seeds are handed out ahead for each core.
_AHEAD = 2


class Sweep(Struct, frozen=True):
    """What is simulated again and again."""

    target: str
    overrides: tuple[str, ...] = ()
    run_for_s: float | None = None
    check: str | None = None


class Verdict(Struct, frozen=True):
    """What one seed came to: its digest, and what was broken, if anything was."""

    seed: int
    digest: str
    broken: str | None = None


def seeds_of(text: str) -> range:
    """The seeds of "0..999", both included, or of "7"."""
    first, dots, last = text.partition("..")
    try:
        seeds = range(int(first), int(last if dots else first) + 1)
    except ValueError:
        raise BadValue(f"seeds are said as 0..999, or as one number; got {text!r}") from None
    if seeds.start < 0 or not seeds:
        raise BadValue(f"seeds {text!r} are none: the first is 0 or more, and the last no less than the first")
    return seeds


def swept(sweep: Sweep, seeds: Sequence[int], cores: int | None = None) -> Iterator[Verdict]:
    """The verdicts as they come, until one of them is broken, or all are there."""
    simulate_seed(sweep, None)
    workers = min(cores or os.cpu_count() or 1, len(seeds))
    # Begun anew, and not forked: what this process has loaded and opened is none of theirs.
    fresh = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=fresh, initializer=_begin, initargs=(os.getpid(),))
    left = iter(seeds)
    running: set[Future[Verdict]] = set()
    try:
        while True:
            for seed in left:
                running.add(pool.submit(simulate_seed, sweep, seed))
                if len(running) >= workers * _AHEAD:
                    break
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for verdict in sorted((future.result() for future in done), key=lambda one: one.seed):
                yield verdict
                if verdict.broken is not None:
                    return
    finally:
        # What still runs may be without an end, and nobody wants to know any more.
        if running:
            for child in set(multiprocessing.active_children()) - others:
                child.kill()
        pool.shutdown(cancel_futures=True)


def _begin(parent: int) -> None:
    if sys.platform == "linux":
        die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    # Ctrl-C is for the command, which ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sink = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(sink, stream)


def simulate_seed(sweep: Sweep, seed: int | None) -> Verdict:
    """Simulate one seed, and ask the invariant. Without a seed it is only seen whether that can be done."""
    pipeline = pipeline_of(sweep.target, sweep.overrides)
    pipeline.checked()
    invariant = _no_question if sweep.check is None else _invariant(sweep.check)
    if seed is None:
        return Verdict(0, "")
    work = partial(_run, SimTime(seed=seed, run_for=sweep.run_for_s), pipeline)
    done, error = simulate(work, backend=pipeline.spec.backend)
    if error is not None:
        return Verdict(seed, done.digest, in_words(error))
    try:
        answer = invariant(done)
    except Exception as broken:
        return Verdict(seed, done.digest, f"{sweep.check}: {in_words(broken)}")
    return Verdict(seed, done.digest, f"{sweep.check} is false" if answer is False else None)


async def _run(time: SimTime, pipeline: Any) -> tuple[Simulated, Exception | None]:
    simulation = Simulation(pipeline, time)
    simulation.events = []
    try:
        await simulation.live()
    except (PipelineFailed, Deadlock, Livelock) as error:
        return simulation.outcome(), error
    return simulation.outcome(), None


def _invariant(text: str) -> Invariant:
    found: Any = load(text)
    if not callable(found):
        raise CannotLoad(f"{text} is {found!r}; --check names a function that takes what a run came to")
    invariant: Invariant = found
    return invariant


def _no_question(_done: Simulated) -> None:
    """A run is in order when nobody has failed."""
