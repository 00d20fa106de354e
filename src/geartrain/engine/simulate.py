"""Running a program on a loop that knows when it is quiet, so that virtual time costs no polling.

async def main():
    clock = SimClock()
    async with Supervisor(clock=clock) as sup:
        ...
        await clock.run()

simulate(main)                      # on asyncio
simulate(main, backend="trio")      # the same, event by event
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar, TypeVarTuple, cast

from geartrain.errors import BadType
from geartrain.ports.parking import run_quietly

R = TypeVar("R")
Args = TypeVarTuple("Args")


def simulate(main: Callable[[*Args], Awaitable[R]], *args: *Args, backend: Literal["asyncio", "trio"] = "asyncio") -> R:
    """Run `await main(*args)` to its end, and return what it returns."""
    _check_main(main)
    return cast(R, run_quietly(backend, main, *args))


def _check_main(main: object) -> None:
    if inspect.iscoroutine(main):
        main.close()
        raise BadType("simulate() expected the function itself: write simulate(main, *args), not simulate(main(...))")
    if not callable(main) or (inspect.isfunction(main) and not inspect.iscoroutinefunction(inspect.unwrap(main))):
        raise BadType(f"simulate() expected an `async def`, got {main!r}")
