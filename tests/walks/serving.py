"""Functions of services, which run in processes of their own and write down what they do."""

import os
import time
from pathlib import Path

import anyio

from geartrain import Context, Daemon, ServiceRun


def note(run: ServiceRun, what: str) -> None:
    """One line in one write, so that lines of several processes do not mix."""
    with open(os.environ["SERVING"], "ab", buffering=0) as ledger:
        ledger.write(f"{what} {run.cycle} {run.token} {run.replica} {os.getpid()}\n".encode())


def is_enough() -> bool:
    return Path(f"{os.environ['SERVING']}.enough").exists()


async def works(run: ServiceRun) -> None:
    note(run, "begins")
    await anyio.sleep(0.05)
    note(run, "ends")


async def works_long(run: ServiceRun) -> None:
    """Until somebody says that it is enough."""
    note(run, "begins")
    while not is_enough():
        await anyio.sleep(0.01)
    note(run, "ends")


async def fails(run: ServiceRun) -> None:
    note(run, "begins")
    raise ValueError("no paper")


async def stays(run: ServiceRun) -> None:
    """Does not leave when it is asked to."""
    note(run, "begins")
    with anyio.CancelScope(shield=True):
        await anyio.sleep(60)


def waits_in_a_thread(run: ServiceRun) -> None:
    note(run, "begins")
    time.sleep(0.05)
    note(run, "ends")


class Still(Daemon):
    """Does nothing, until it is stopped."""

    async def run(self, ctx: Context) -> None:
        await ctx.stop_event.wait()
