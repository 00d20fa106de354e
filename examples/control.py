"""A robot cart that follows its goals: the main example, run by `make demo`.

    planner 1 Hz --goals--> policy 10 Hz --commands--> actuator 20 Hz --> the cart
                              ^                                             |
                              `------readings------ sensor 50 Hz <----------'

Every channel keeps only the latest item, so a slow reader holds nobody up and never acts on an old value. The sensor
loses its device now and then: its policy starts it again, and meanwhile the cart goes on with what it knows.

    control.py                       a minute of virtual time, on asyncio and on trio, and the two compared
    control.py --real 5              five seconds on the wall clock
    control.py --loop trio           the loop whose run is shown
"""

import argparse
import hashlib
import logging
import random
import time
from collections import Counter
from typing import Literal, TypeVar

import anyio
from msgspec import Struct

from geartrain import (
    Channel,
    ChannelStats,
    Clock,
    Context,
    Cycle,
    Daemon,
    DaemonFailurePhase,
    Observer,
    ReceiveStream,
    RestartPolicy,
    SendStream,
    SimClock,
    Supervisor,
    WallClock,
    daemon,
    open_channel,
    simulate,
)
from geartrain.recipes import cooperative_every

Backend = Literal["asyncio", "trio"]
T = TypeVar("T")

RATES_HZ = {"planner": 1, "policy": 10, "actuator": 20, "sensor": 50}
WAYPOINTS_M = (1.0, 2.5, 0.5, 3.0)
VIRTUAL_S = 60.0


class SensorLost(Exception):
    """The pretend device did not answer."""


class Cart:
    """The pretend hardware: a cart on a rail, and a device that measures where it is, and sometimes does not answer."""

    def __init__(self, log: "Log") -> None:
        self.position_m = 0.0
        self.log = log
        self._chance = random.Random("cart")

    def measure(self) -> float:
        if self._chance.random() < 1 / 600:
            raise SensorLost("the device does not answer")
        return self.position_m + self._chance.gauss(0, 0.005)

    def move(self, speed_m_s: float, for_s: float) -> None:
        self.position_m += speed_m_s * for_s


class Log:
    """Every event of a run, in order, so that two runs can be compared."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.lines: list[str] = []

    def note(self, who: str, what: str) -> None:
        self.lines.append(f"{self._clock.now_ns()} {who} {what}")


# -- the daemons ----------------------------------------------------------------------------------------------------


class Sensor(Daemon):
    """Made anew for every life: `sup.add(Sensor, ...)` is given the class, and so `self.count` starts at 0 again."""

    name = "sensor"

    def __init__(self, cart: Cart, out: SendStream[float]) -> None:
        self.cart = cart
        self.out = out
        self.count = 0

    async def run(self, ctx: Context) -> None:
        async for _ in cooperative_every(ctx, 1 / RATES_HZ["sensor"]):
            reading_m = self.cart.measure()
            self.count += 1
            self.cart.log.note(ctx.name, f"reading {self.count}: {reading_m:.6f}")
            await self.out.send(reading_m)


@daemon
async def planner(ctx: Context, log: Log, goals: SendStream[float]) -> None:
    """Every second, after some thought, the next goal."""
    index = 0
    async for _ in cooperative_every(ctx, 1 / RATES_HZ["planner"]):
        await ctx.clock.sleep(0.25)
        goal_m = WAYPOINTS_M[index // 5 % len(WAYPOINTS_M)]
        index += 1
        log.note(ctx.name, f"goal {goal_m}")
        await goals.send(goal_m)


@daemon
async def policy(
    ctx: Context, log: Log, goals: ReceiveStream[float], readings: ReceiveStream[float], commands: SendStream[float]
) -> None:
    """Ten times a second, how fast to go, by the newest goal and the newest reading."""
    goal_m = reading_m = 0.0
    async for _ in cooperative_every(ctx, 1 / RATES_HZ["policy"]):
        goal_m = newest(goals, goal_m)
        reading_m = newest(readings, reading_m)
        speed_m_s = max(-1.0, min(1.0, goal_m - reading_m))
        log.note(ctx.name, f"command {speed_m_s:.6f}")
        await commands.send(speed_m_s)


@daemon
async def actuator(ctx: Context, cart: Cart, commands: ReceiveStream[float]) -> None:
    """Twenty times a second, one small move by the newest command."""
    period_s = 1 / RATES_HZ["actuator"]
    speed_m_s = 0.0
    async for _ in cooperative_every(ctx, period_s):
        speed_m_s = newest(commands, speed_m_s)
        cart.move(speed_m_s, period_s)
        cart.log.note(ctx.name, f"at {cart.position_m:.6f}")


def newest(stream: ReceiveStream[T], known: T) -> T:
    """What has come, or else what was known before."""
    return stream.receive_nowait() if stream.has_item() else known


# -- the program ----------------------------------------------------------------------------------------------------


class Tally(Observer):
    """Counts what the supervisor reports."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_s = clock.now()
        self.cycles: Counter[str] = Counter()
        self.worst_lateness_ns: Counter[str] = Counter()
        self.failed_at_s: list[float] = []

    def on_cycle(self, daemon: str, cycle: Cycle) -> None:
        self.cycles[daemon] += 1
        self.worst_lateness_ns[daemon] = max(self.worst_lateness_ns[daemon], cycle.lateness_ns)

    def on_daemon_error(self, daemon: str, phase: DaemonFailurePhase, error: BaseException) -> None:
        self.failed_at_s.append(self._clock.now() - self._began_s)


class Report(Struct, frozen=True):
    """What there is to say of one run."""

    backend: Backend
    passed_s: float
    took_s: float
    cycles: dict[str, int]
    worst_lateness_ns: dict[str, int]
    restarts: dict[str, int]
    failed_at_s: list[float]
    channels: dict[str, ChannelStats]
    log: list[str]

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.log).encode()).hexdigest()[:12]


async def program(backend: Backend, clock: Clock, seconds: float) -> Report:
    """The whole pipeline, for so many seconds of its clock."""
    log = Log(clock)
    cart = Cart(log)
    tally = Tally(clock)
    goals: Channel[float] = open_channel(policy="latest", name="goals")
    readings: Channel[float] = open_channel(policy="latest", name="readings")
    commands: Channel[float] = open_channel(policy="latest", name="commands")
    began_s, real_s = clock.now(), time.perf_counter()

    async with Supervisor(clock=clock, observer=tally, logger=quiet_logger()) as sup:
        again = RestartPolicy(base=0.2, max_retries=5, within=10)
        sup.add(planner(log, goals.send))
        sup.add(policy(log, goals.recv, readings.recv, commands.send))
        sup.add(actuator(cart, commands.recv))
        sup.add(Sensor, cart, readings.send, on_error="restart", restart=again)
        await pass_time(clock, seconds)
        passed_s = clock.now() - began_s
        sup.signal_stop()
        if isinstance(clock, SimClock):
            await clock.run()  # time for those who finish what they have begun

    return Report(
        backend=backend,
        passed_s=passed_s,
        took_s=time.perf_counter() - real_s,
        cycles=tally.cycles,
        worst_lateness_ns=tally.worst_lateness_ns,
        restarts={name: health.restart_count for name, health in sup.snapshot().items()},
        failed_at_s=tally.failed_at_s,
        channels={
            "goals": goals.recv.statistics(),
            "readings": readings.recv.statistics(),
            "commands": commands.recv.statistics(),
        },
        log=log.lines,
    )


async def pass_time(clock: Clock, seconds: float) -> None:
    if isinstance(clock, SimClock):
        await clock.advance(seconds)
    else:
        await clock.sleep(seconds)


def quiet_logger() -> logging.Logger:
    """The summary tells of every restart, so the log need not."""
    logger = logging.getLogger("control")
    logger.setLevel(logging.ERROR)
    return logger


def run(backend: Backend = "asyncio", seconds: float = VIRTUAL_S) -> Report:
    """In virtual time."""
    return simulate(program, backend, SimClock(), seconds, backend=backend)


def run_real(backend: Backend, seconds: float) -> Report:
    """On the wall clock."""
    return anyio.run(program, backend, WallClock(), seconds, backend=backend)


# -- what is printed ------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A robot cart, controlled by daemons.")
    parser.add_argument("--loop", choices=["asyncio", "trio"], default="asyncio", help="the loop whose run is shown")
    parser.add_argument("--real", type=float, metavar="SECONDS", help="run on the wall clock for so long")
    options = parser.parse_args(arguments)
    if options.real is not None:
        shown = run_real(options.loop, options.real)
        print(f"{shown.passed_s:.2f} s on the wall clock, on {shown.backend}.\n")
        print(summary(shown))
        return 0
    shown = run(options.loop)
    print(f"{shown.passed_s:g} s of virtual time passed in {shown.took_s:.2f} s of real time, on {shown.backend}.\n")
    print(summary(shown))
    other = run("trio" if options.loop == "asyncio" else "asyncio")
    print(verdict(shown, other))
    return 0 if shown.log == other.log else 1


def summary(report: Report) -> str:
    lines = ["daemon      rate   cycles   restarts   worst lateness"]
    lines += [
        f"{name:9}{rate:4} Hz{report.cycles[name]:9}{report.restarts[name]:11}"
        f"{report.worst_lateness_ns[name] / 1e6:14.3f} ms"
        for name, rate in RATES_HZ.items()
    ]
    lines += ["", "channel     sent    taken    dropped   (each keeps only the latest item)"]
    lines += [f"{name:9}{its.accepted:7}{its.taken:9}{its.dropped:11}" for name, its in report.channels.items()]
    lines += ["", failures(report), ""]
    return "\n".join(lines)


def failures(report: Report) -> str:
    if not report.failed_at_s:
        return "The sensor never lost its device."
    times = ", ".join(f"{failed_s:.2f} s" for failed_s in report.failed_at_s)
    return f"The sensor lost its device at {times}.\nEach time it was started again, and the other daemons went on."


def verdict(one: Report, other: Report) -> str:
    if one.log == other.log:
        return (
            f"The same program on {other.backend} took {other.took_s:.2f} s and logged the same {len(one.log)} events "
            f"in the same order (digest {one.digest} on both)."
        )
    pairs = zip(one.log, other.log, strict=False)
    index = next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one.log), len(other.log)))
    return (
        f"The runs DIFFER from event {index} on:\n"
        f"  {one.backend}: {one.log[index : index + 1]}\n  {other.backend}: {other.log[index : index + 1]}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
