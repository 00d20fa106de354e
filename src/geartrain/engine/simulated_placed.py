"""A pipeline in virtual time, its daemons in one process, in those it declares, or in one each: the same run.

    run_placed(pipeline, SimTime(placement="each"))     a process for each place, with the pipeline as data
        part                                            in each of them: the daemons that are at home there

The digest is put together from the hashes of the channels, each taken where the channel is read.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from geartrain.engine.pipeline import Pipeline
from geartrain.engine.sim_time import PLACEMENTS, Placement, SimTime, Simulated
from geartrain.engine.simulated_many import Became, simulate_in_many
from geartrain.engine.simulated_node import Outpost
from geartrain.engine.simulation import Simulation, write_trace
from geartrain.errors import Deadlock, Fault, Livelock, PipelineFailed, PipelineFaulty
from geartrain.rules.checks import one_of
from geartrain.rules.grants import Brief, encode
from geartrain.rules.pipeline import Backend, PipelineSpec
from geartrain.rules.system import unobserved
from geartrain.rules.trace import Head, digest_of


class Part(Struct, frozen=True):
    """What one process has of a run: the hashes of the channels it reads, and its outcome, whose digest is of these."""

    channels: dict[str, bytes]
    outcome: Simulated


def where_each_lives(spec: PipelineSpec, placement: Placement) -> Mapping[str, str]:
    """The process of each daemon."""
    one_of("placement", placement, PLACEMENTS)
    if placement == "one":
        return {daemon.name: spec.name for daemon in spec.daemons}
    return {daemon.name: daemon.process if placement == "declared" else daemon.name for daemon in spec.daemons}


async def run_placed(
    pipeline: Pipeline,
    time: SimTime,
    *,
    backends: Mapping[str, Backend] | None = None,
) -> Simulated:
    """Simulate it, in processes of its own. `backends` are the loops of those that have another one than it says."""
    pipeline.checked()
    spec = unobserved(pipeline.whole)
    where = where_each_lives(spec, time.placement)
    if unfit := _unfit(spec, where):
        raise PipelineFaulty(unfit)
    folder = None if pipeline.folder is None else str(pipeline.folder)
    arguments = (encode(pipeline.spec), folder, where, encode(replace(time, trace=None)), time.trace is not None)
    briefs = [
        Brief(
            process=process,
            main="geartrain.engine.simulated_placed:part",
            arguments=arguments,
            backend=(backends or {}).get(process, spec.backend),
            seed=time.seed,
            limit=time.livelock_after,
            path=tuple(sys.path),
        )
        for process in sorted(set(where.values()))
    ]
    became = await simulate_in_many(briefs, stall_after_s=time.stall_after, one_fails_all=True)
    for process, its in became.items():
        if its.error is not None:
            raise _failure(its)
        if its.was_killed:
            raise PipelineFailed(f"process {process!r} was killed from outside: what came of the run says nothing")
    return _together(spec, time, [msgspec.convert(became[brief.process].result, Part) for brief in briefs])


async def part(
    outpost: Outpost, data: bytes, folder: str | None, where: dict[str, str], time: bytes, keeps_events: bool
) -> Part:
    """What this process has of the run."""
    outpost.where = where
    spec = msgspec.msgpack.decode(data, type=PipelineSpec)
    pipeline = Pipeline.from_spec(spec, None if folder is None else Path(folder))
    sim_time = msgspec.msgpack.decode(time, type=SimTime)
    here = Simulation(pipeline, sim_time, clock=outpost.clock, outpost=outpost)
    here.events = [] if keeps_events else None
    outpost.living = here.living
    await here.live()
    return Part(here.channels(), here.outcome())


def _together(spec: PipelineSpec, time: SimTime, parts: Sequence[Part]) -> Simulated:
    outcomes = [part.outcome for part in parts]
    if time.trace is not None:
        # Of one instant any order will do: whoever compares traces sorts it.
        events = sorted(taken for its in outcomes for taken in its.events)
        write_trace(time.trace, Head(pipeline=spec.name, seed=time.seed), events)
    return Simulated(
        digest=digest_of({name: its for part in parts for name, its in part.channels.items()}),
        seed=time.seed,
        passed_ns=max(its.passed_ns for its in outcomes),
        taken=sum(its.taken for its in outcomes),
        restarts={name: count for its in outcomes for name, count in its.restarts.items()},
        failures=tuple(failure for its in outcomes for failure in its.failures),
    )


def _unfit(spec: PipelineSpec, where: Mapping[str, str]) -> tuple[Fault, ...]:
    if len(set(where.values())) == 1:
        return ()
    said = "is judged by one clock in one process: a simulation over many has no budgets of channels yet"
    return tuple(
        Fault(spec.file, f"channels.{channel.name}.stale_after", said)
        for channel in spec.channels
        if channel.budget_ns is not None
    )


def _failure(its: Became) -> Exception:
    error: Any = its.error
    match its.kind:
        case "Deadlock":
            return Deadlock(error)
        case "Livelock":
            return Livelock(error, ())
        case "PipelineFailed":
            return PipelineFailed(error, its.trace)
        case kind:
            return PipelineFailed(f"{kind}: {error}", its.trace)
