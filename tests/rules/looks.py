"""Looks at a run, made by hand: what the files of a run would have said."""

from typing import Any

from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, PortRef
from geartrain.rules.readings import DaemonReading, EndReading, Phase, Poll, ProcessReading, SlotState
from geartrain.rules.run_memory import RunAbout, RunReading

S = 1_000_000_000
# When everything is looked at, unless something else is said.
NOW = 10 * S
# By the clock on the wall it is so much later.
WALL = 1_700_000_000 * S


def process(name: str = "p", **more: Any) -> ProcessReading:
    """One that is well."""
    known = {"generation": 1, "pid": 7, "alive": True, "heartbeat_ns": NOW} | more
    return ProcessReading(process=name, **known)


def slot(state: SlotState = SlotState.RUNNING, name: str = "d", **more: Any) -> DaemonReading:
    return DaemonReading(name, **({"state": state, "phase": Phase.RUN} | more))


def end(channel: str, daemon: str, *, sends: bool, **more: Any) -> EndReading:
    """One that has not moved for as long as is known."""
    return EndReading(channel, daemon, sends, 8, **({"incarnation": 1, "epoch": 1, "still_since_ns": 1} | more))


def poll(*slots: DaemonReading, ends: tuple[EndReading, ...] = (), **more: Any) -> Poll:
    return Poll(process=process(**more), daemons=slots, ends=ends)


def pipeline(*channels: str, **processes: str) -> PipelineSpec:
    """Channels as "name: writer -> reader"; each daemon is in a process of its name, unless one is said."""
    specs = []
    for text in channels:
        name, _, ends = text.partition(": ")
        writer, _, reader = ends.partition(" -> ")
        specs.append(ChannelSpec(name=name, writer=PortRef(writer, "out"), reader=PortRef(reader, "in"), maxsize=8))
    names = dict.fromkeys(ref.daemon for spec in specs for ref in (spec.writer, spec.reader) if ref)
    names |= dict.fromkeys(processes)
    return PipelineSpec(
        name="vision",
        daemons=tuple(
            DaemonSpec(name=name, process=processes.get(name, name), run=f"parts:{name.title()}") for name in names
        ),
        channels=tuple(specs),
    )


def reading(spec: PipelineSpec, *polls: Poll, now_ns: int = NOW, **more: Any) -> RunReading:
    about = RunAbout(run_id="vision-1", spec=spec, launcher=(1, 1, "boot"), began_wall_ns=0)
    known = {"alive": True, "wall_ns": WALL + now_ns} | more
    return RunReading(about=about, now_ns=now_ns, processes=polls, **known)
