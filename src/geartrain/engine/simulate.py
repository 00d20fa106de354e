"""Running a program on a loop that knows when it is quiet, so that virtual time costs no polling.

async def main():
    clock = SimClock()
    async with Supervisor(clock=clock) as sup:
        ...
        await clock.run()

simulate(main)                      # on asyncio
simulate(main, backend="trio")      # the same, event by event
"""

from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar, TypeVarTuple, cast

from geartrain.engine.daemon import checked_function
from geartrain.ports.parking import run_quietly

R = TypeVar("R")
Args = TypeVarTuple("Args")


def simulate(main: Callable[[*Args], Awaitable[R]], *args: *Args, backend: Literal["asyncio", "trio"] = "asyncio") -> R:
    """Run `await main(*args)` to its end, and return what it returns."""
    checked_function("simulate()", main)
    return cast(R, run_quietly(backend, main, *args))
