"""A robot cart that follows its goals: one pipeline, in real time over five processes, or in exact virtual time in one.

    planner 1 Hz --goals--> policy 10 Hz --commands--> actuator 20 Hz, which moves the cart
                              ^                                 |
                              `--readings-- sensor 50 Hz <--positions

Every channel keeps only the latest item, so a slow reader holds nobody up and never acts on an old value. The sensor
loses its device now and then: its policy starts it again, and meanwhile the cart goes on with what it knows. Whatever
happens goes to a recorder, so that two runs can be compared.

    control.py                       a minute of virtual time, on asyncio and on trio, and the two compared
    control.py --real 3              about three seconds on the wall clock, in processes
    control.py --loop trio           the loop whose run is shown
"""

import argparse
import hashlib
import logging
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from geartrain import (
    ChannelClosed,
    Clock,
    Context,
    Daemon,
    EndOfStream,
    Pipeline,
    ReceiveStream,
    RestartPolicy,
    SendStream,
    SimClock,
    daemon,
    run,
)
from geartrain.recipes import Merge

Backend = Literal["asyncio", "trio"]
T = TypeVar("T")

RATES_HZ = {"planner": 1, "policy": 10, "actuator": 20, "sensor": 50}
WAYPOINTS_M = (1.0, 2.5, 0.5, 3.0)
VIRTUAL_S = 60


class Event(Struct):
    """Something that a daemon did in a cycle, and how late that was."""

    who: str
    what: str
    at_ns: int
    late_ns: int


class SensorLost(Exception):
    """The pretend device did not answer."""


# -- the daemons ----------------------------------------------------------------------------------------------------


@daemon
async def planner(ctx: Context, goals: SendStream[float], events: SendStream[Event], seconds: int) -> None:
    """Every second, after some thought, the next goal. When it has no more, the others end one after the other."""
    index = 0
    with until_a_neighbour_ends():
        async for due_s in ctx.clock.every(1 / RATES_HZ["planner"]):
            noted = event(ctx, due_s, f"goal {goal_of(index)}")
            await ctx.clock.sleep(0.25)
            await goals.send(goal_of(index))
            await events.send(noted)
            index += 1
            if index == seconds:
                return


def goal_of(index: int) -> float:
    return WAYPOINTS_M[index // 5 % len(WAYPOINTS_M)]


@daemon
async def policy(
    ctx: Context,
    goals: ReceiveStream[float],
    readings: ReceiveStream[float],
    commands: SendStream[float],
    events: SendStream[Event],
) -> None:
    """Ten times a second, how fast to go, by the newest goal and the newest reading."""
    goal_m = reading_m = 0.0
    with until_a_neighbour_ends():
        async for due_s in ctx.clock.every(1 / RATES_HZ["policy"]):
            goal_m = newest(goals, goal_m)
            reading_m = newest(readings, reading_m)
            speed_m_s = max(-1.0, min(1.0, goal_m - reading_m))
            await events.send(event(ctx, due_s, f"command {speed_m_s:.6f}"))
            await commands.send(speed_m_s)


@daemon
async def actuator(
    ctx: Context, commands: ReceiveStream[float], positions: SendStream[float], events: SendStream[Event]
) -> None:
    """Twenty times a second, one small move by the newest command. It is the cart, too."""
    period_s = 1 / RATES_HZ["actuator"]
    position_m = speed_m_s = 0.0
    with until_a_neighbour_ends():
        async for due_s in ctx.clock.every(period_s):
            speed_m_s = newest(commands, speed_m_s)
            position_m += speed_m_s * period_s
            await events.send(event(ctx, due_s, f"at {position_m:.6f}"))
            await positions.send(position_m)


class Sensor(Daemon):
    """Made anew for every life, and so `self.count` starts at 0 again."""

    def __init__(self, positions: ReceiveStream[float], readings: SendStream[float], events: SendStream[Event]) -> None:
        self.positions = positions
        self.readings = readings
        self.events = events
        self.count = 0

    async def run(self, ctx: Context) -> None:
        # In virtual time it is always the same moment at which a life begins, and so the same chance.
        chance = random.Random(ctx.clock.now_ns())
        position_m = 0.0
        with until_a_neighbour_ends():
            async for due_s in ctx.clock.every(1 / RATES_HZ["sensor"]):
                position_m = newest(self.positions, position_m)
                if chance.random() < 1 / 600:
                    await self.events.send(event(ctx, due_s, "lost"))
                    raise SensorLost("the device does not answer")
                reading_m = position_m + chance.gauss(0, 0.005)
                self.count += 1
                await self.events.send(event(ctx, due_s, f"reading {self.count}: {reading_m:.6f}"))
                await self.readings.send(reading_m)


class Recorder(Daemon):
    """Writes what happens into a file, a line each."""

    def __init__(self, events: ReceiveStream[Event], path: Path) -> None:
        self.events = events
        self.path = path

    async def run(self, ctx: Context) -> None:
        with self.path.open("wb") as file:
            async for noted in self.events:
                file.write(msgspec.json.encode(noted) + b"\n")


def newest(stream: ReceiveStream[T], known: T) -> T:
    """What has come, or else what was known before."""
    return stream.receive_nowait() if stream.has_item() else known


@contextmanager
def until_a_neighbour_ends() -> Iterator[None]:
    with suppress(EndOfStream, ChannelClosed):
        yield


def event(ctx: Context, due_s: float, what: str) -> Event:
    now_ns = ctx.clock.now_ns()
    return Event(ctx.name, what, now_ns, now_ns - round(due_s * 1e9))


# -- the pipeline ---------------------------------------------------------------------------------------------------


def pipeline(backend: Backend, seconds: int, record: Path) -> Pipeline:
    p = Pipeline("control", backend)
    p.add(planner, name="planner", config={"seconds": seconds})
    p.add(policy, name="policy")
    p.add(actuator, name="actuator")
    again = RestartPolicy(base=0.2, max_retries=5, within=10)
    sensor = p.add(Sensor, name="sensor", on_error="restart", restart=again)
    everything = p.add(Merge[Event], name="everything", process="recorder")
    recorder = p.add(Recorder, name="recorder", config={"path": record})
    p.connect("planner.goals", "policy.goals", policy="latest")
    p.connect("policy.commands", "actuator.commands", policy="latest")
    p.connect("actuator.positions", sensor.positions, policy="latest")
    p.connect(sensor.readings, "policy.readings", policy="latest")
    for name in RATES_HZ:
        p.connect(f"{name}.events", everything.sources, name=f"events-of-{name}")
    p.connect(everything.dest, recorder.events)
    return p


class Report(Struct, frozen=True):
    """What there is to say of one run."""

    backend: Backend
    took_s: float
    events: list[Event]

    @property
    def passed_s(self) -> float:
        times = [noted.at_ns for noted in self.events]
        return (max(times) - min(times)) / 1e9

    @property
    def digest(self) -> str:
        return hashlib.sha256(msgspec.json.encode(self.events)).hexdigest()[:12]

    def of(self, who: str) -> list[Event]:
        return [noted for noted in self.events if noted.who == who]

    @property
    def lost_at_s(self) -> list[float]:
        return [(noted.at_ns - self.events[0].at_ns) / 1e9 for noted in self.events if noted.what == "lost"]


def simulated(backend: Backend = "asyncio", seconds: int = VIRTUAL_S) -> Report:
    """In this process, in virtual time."""
    return _report(backend, seconds, SimClock())


def real(backend: Backend, seconds: int) -> Report:
    """In processes of its own, on the wall clock."""
    return _report(backend, seconds, None)


def _report(backend: Backend, seconds: int, clock: Clock | None) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record"
        began_s = time.perf_counter()
        run(pipeline(backend, seconds, record), in_process=clock is not None, clock=clock)
        took_s = time.perf_counter() - began_s
        events = [msgspec.json.decode(line, type=Event) for line in record.read_bytes().splitlines()]
    return Report(backend, took_s, events)


# -- what is printed ------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A robot cart, controlled by daemons.")
    parser.add_argument("--loop", choices=["asyncio", "trio"], default="asyncio", help="the loop whose run is shown")
    parser.add_argument("--real", type=int, metavar="SECONDS", help="run in processes, on the wall clock, for so long")
    options = parser.parse_args(arguments)
    if options.real is not None:
        shown = real(options.loop, options.real)
        print(f"{shown.passed_s:.2f} s on the wall clock, in five processes on {shown.backend}.\n")
        print(summary(shown))
        return 0
    shown = simulated(options.loop)
    print(f"{shown.passed_s:g} s of virtual time passed in {shown.took_s:.2f} s of real time, on {shown.backend}.\n")
    print(summary(shown))
    other = simulated("trio" if options.loop == "asyncio" else "asyncio")
    print(verdict(shown, other))
    return 0 if shown.events == other.events else 1


def summary(report: Report) -> str:
    lines = ["daemon      rate   cycles   worst lateness"]
    for name, rate in RATES_HZ.items():
        mine = report.of(name)
        late_ms = max(noted.late_ns for noted in mine) / 1e6
        lines.append(f"{name:9}{rate:4} Hz{len(mine):9}{late_ms:14.3f} ms")
    return "\n".join([*lines, "", failures(report), ""])


def failures(report: Report) -> str:
    if not report.lost_at_s:
        return "The sensor never lost its device."
    times = ", ".join(f"{lost_s:.2f} s" for lost_s in report.lost_at_s)
    return f"The sensor lost its device at {times}.\nEach time it was started again, and the other daemons went on."


def verdict(one: Report, other: Report) -> str:
    if one.events == other.events:
        return (
            f"The same pipeline on {other.backend} took {other.took_s:.2f} s and did the same {len(one.events)} things "
            f"in the same order (digest {one.digest} on both)."
        )
    pairs = zip(one.events, other.events, strict=False)
    index = next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one.events), len(other.events)))
    return (
        f"The runs DIFFER from event {index} on:\n"
        f"  {one.backend}: {one.events[index : index + 1]}\n  {other.backend}: {other.events[index : index + 1]}"
    )


if __name__ == "__main__":
    # The summary tells of every restart, so the log need not.
    logging.basicConfig(level=logging.ERROR)
    raise SystemExit(main())
