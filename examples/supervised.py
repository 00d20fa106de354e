"""A daemon that fails is started again, later and later; a healthy stretch forgives; a crash loop ends it all.

Five minutes of virtual time, printed as they pass. The policy: pauses of 0.5 s, 1 s, 2 s, and when a fourth failure
comes within a minute it is over. What is raised then is what began that series, not what came last.
"""

import logging
from collections.abc import Iterator

from geartrain import Context, Daemon, DaemonError, RestartPolicy, SimClock, Supervisor, simulate


class DeviceLost(Exception):
    """The pretend device does not answer."""


class Device:
    """The pretend device: how many seconds it lasts after each start, and what it says when it stops."""

    def __init__(self) -> None:
        self._lives: Iterator[tuple[int, str]] = iter(
            [
                (0, "unplugged"),
                (0, "still unplugged"),
                (300, "the fan has stopped"),
                (0, "too hot"),
                (0, "too hot"),
                (0, "too hot"),
            ]
        )

    def start(self) -> tuple[int, str]:
        return next(self._lives)


class Recorder(Daemon):
    """Reads from the device once a second. Each life is a new object: `self.samples` starts at 0."""

    name = "recorder"

    def __init__(self, device: Device) -> None:
        self.device = device
        self.samples = 0

    async def run(self, ctx: Context) -> None:
        say(ctx, f"starts, with {self.samples} samples")
        lasts_s, last_words = self.device.start()
        for _ in range(lasts_s):
            await ctx.clock.sleep(1)
            self.samples += 1
        say(ctx, f"fails, with {self.samples} samples: {last_words}")
        raise DeviceLost(last_words)


def say(ctx: Context, what: str) -> None:
    print(f"{ctx.clock.now():6.1f} s  {ctx.name} {what}")


async def main() -> None:
    clock = SimClock()
    again = RestartPolicy(base=0.5, factor=2, max_retries=3, within=60)
    logger = logging.getLogger("supervised")
    logger.setLevel(logging.ERROR)  # every restart is logged as a warning, with its traceback
    try:
        async with Supervisor(clock=clock, logger=logger) as sup:
            sup.add(Recorder, Device(), on_error="restart", restart=again)
            await clock.run()
    except* DaemonError as failures:
        for failure in failures.exceptions:
            print(f"{clock.now():6.1f} s  given up: {failure}")
    health = sup.snapshot()["recorder"]
    print(f"It was started again {health.restart_count} times; its last error was: {health.last_error}.")


if __name__ == "__main__":
    simulate(main)
