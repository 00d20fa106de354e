"""What a daemon is given: its clock, its logger, its name, its stop, its chance."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc

from geartrain.engine.in_turn import start_in_turn
from geartrain.engine.signal import Signal
from geartrain.ports.clock import Clock

if TYPE_CHECKING:
    from geartrain.engine.supervisor import Supervisor

    Adapter = logging.LoggerAdapter[logging.Logger]
else:
    Adapter = logging.LoggerAdapter


class ClockLogger(Adapter):
    """A logger whose records carry `sim_time`, the time of the daemon's clock."""

    def __init__(self, logger: logging.Logger, clock: Clock) -> None:
        super().__init__(logger)
        self._clock = clock

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {"sim_time": self._clock.now()} | dict(kwargs.get("extra") or {})
        return msg, kwargs


@dataclass(frozen=True, slots=True)
class Context:
    """One life of one daemon. A restarted daemon gets a new one."""

    clock: Clock
    cancel_scope: anyio.CancelScope
    logger: ClockLogger | logging.Logger
    name: str
    supervisor: "Supervisor"
    stop_event: Signal
    # Chance of its own for this life; under virtual time the same on every run with the same seed.
    random: Random
    # Whose channels cross processes has something to do in a step; anybody else has not.
    steps: Callable[[], AbstractAsyncContextManager[None]] = nullcontext

    @property
    def stopping(self) -> bool:
        """Whether the daemon has been asked to stop: finish what is in hand, then return."""
        return self.stop_event.is_set()

    def spawn(self, tasks: anyio.abc.TaskGroup, work: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """As `tasks.start_soon`. Under virtual time it begins in the turn of this call, whatever the loop does."""
        start_in_turn(tasks, work, *arguments)

    def event(self, what: str = "an event") -> Signal:
        """As `anyio.Event`. Under virtual time those who wait go on in the order in which they began to."""
        return Signal(what)

    def step(self) -> AbstractAsyncContextManager[None]:
        """`async with ctx.step():` makes all that is received inside stable together, when what is sent inside is.

        Left by an error or a cancellation, it makes nothing stable. Where nothing can be lost it does nothing.
        """
        return self.steps()
