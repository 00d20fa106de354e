"""A task whose place in the queue is taken where it is started, so that the order is the same on every loop."""

from collections.abc import Awaitable, Callable
from functools import partial

import anyio.abc

from geartrain.ports.parking import here
from geartrain.ports.turns import Wait


def start_in_turn(tasks: anyio.abc.TaskGroup, work: Callable[..., Awaitable[object]], *arguments: object) -> None:
    """Start a task; under virtual time its first step comes in the turn of this call."""
    spot = here()
    turn: Wait | None = None
    if spot.turns is not None:
        turn = spot.park()
        turn.wake()
    tasks.start_soon(_after, turn, partial(work, *arguments))


async def _after(turn: Wait | None, work: Callable[[], Awaitable[object]]) -> None:
    if turn is not None:
        await turn.wait()
    await work()
