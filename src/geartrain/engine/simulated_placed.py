"""A pipeline in virtual time, its daemons in one process, in those it declares, or in one each: the same run.

    run_placed(pipeline, "each")     a process for each place, with the pipeline as data
        part                         in each of them: the daemons that are at home there

The digest is put together from the hashes of the channels, each taken where the channel is read.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from geartrain.engine.in_process import InProcess
from geartrain.engine.pipeline import Pipeline
from geartrain.engine.simulated_many import STALL_AFTER_S, Became, simulate_in_many
from geartrain.engine.simulated_node import Outpost
from geartrain.errors import Deadlock, Fault, Livelock, PipelineFailed, PipelineFaulty
from geartrain.rules.checks import one_of
from geartrain.rules.grants import Brief
from geartrain.rules.pipeline import Backend, PipelineSpec
from geartrain.rules.system import unobserved
from geartrain.rules.trace import digest_of

Placement = Literal["one", "declared", "each"]
PLACEMENTS: tuple[Placement, ...] = ("one", "declared", "each")


class Placed(Struct, frozen=True):
    """How a run went: its digest, and the hash of each channel it is made of."""

    digest: str
    channels: Mapping[str, bytes]
    # Who was killed from outside; then the digest says nothing.
    killed: tuple[str, ...] = ()


def where_each_lives(spec: PipelineSpec, placement: Placement) -> Mapping[str, str]:
    """The process of each daemon."""
    one_of("placement", placement, PLACEMENTS)
    if placement == "one":
        return {daemon.name: spec.name for daemon in spec.daemons}
    return {daemon.name: daemon.process if placement == "declared" else daemon.name for daemon in spec.daemons}


async def run_placed(
    pipeline: Pipeline,
    placement: Placement = "declared",
    *,
    seed: int = 0,
    backends: Mapping[str, Backend] | None = None,
    stall_after_s: float = STALL_AFTER_S,
) -> Placed:
    """Run it until nothing is left to do. `backends` are the loops of those processes that have another one."""
    pipeline.checked()
    spec = unobserved(pipeline.whole)
    where = where_each_lives(spec, placement)
    if unfit := _unfit(spec, where):
        raise PipelineFaulty(unfit)
    folder = None if pipeline.folder is None else str(pipeline.folder)
    data = msgspec.msgpack.encode(pipeline.spec)
    briefs = [
        Brief(
            process=process,
            main="geartrain.engine.simulated_placed:part",
            arguments=(data, folder, where),
            backend=(backends or {}).get(process, spec.backend),
            seed=seed,
            path=tuple(sys.path),
        )
        for process in sorted(set(where.values()))
    ]
    became = await simulate_in_many(briefs, stall_after_s=stall_after_s, one_fails_all=True)
    for its in became.values():
        if its.error is not None:
            raise _failure(its)
    channels = {name: part for its in became.values() for name, part in (its.result or {}).items()}
    return Placed(digest_of(channels), channels, tuple(name for name, its in became.items() if its.was_killed))


async def part(outpost: Outpost, data: bytes, folder: str | None, where: dict[str, str]) -> Mapping[str, bytes]:
    """What this process has of the run; the hashes of the channels that are read here."""
    outpost.where = where
    spec = msgspec.msgpack.decode(data, type=PipelineSpec)
    pipeline = Pipeline.from_spec(spec, None if folder is None else Path(folder))
    here = InProcess(pipeline, outpost.clock, record=outpost.record, outpost=outpost)
    outpost.living = here.living
    await here.live_in_virtual_time(outpost.clock)
    return outpost.digest.channels()


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
