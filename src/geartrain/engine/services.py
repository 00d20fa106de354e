"""The function of a service: what it is given, how it is found, and how it is called.

async def report(run: ServiceRun) -> None:      on the loop of its process
def tidy(run: ServiceRun) -> None:              in a thread of its own, so that the loop goes on
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread

from geartrain.engine.context import ClockLogger
from geartrain.engine.daemon import Daemon, DaemonFactory
from geartrain.engine.declare import load, place_of
from geartrain.engine.signal import Signal
from geartrain.errors import BadType, CannotLoad
from geartrain.ports.clock import Clock

Job = Callable[["ServiceRun"], Any]


@dataclass(frozen=True, slots=True)
class ServiceRun:
    """One cycle of a service, for the replica that it was given to.

    `token` is higher than that of every run of the service before: what must not be done twice compares it where it is
    done, for example by a `FenceGate`.
    """

    service: str
    replica: str
    cycle: int
    token: int
    clock: Clock
    logger: "ClockLogger | Any"
    left: Signal = field(default_factory=lambda: Signal("the end of a run"), repr=False)

    @property
    def is_leaving(self) -> bool:
        """Whether it is to make room. An async function is cancelled; a thread has to look."""
        return self.left.is_set()


def load_job(run: str, folder: Path | None = None) -> Job:
    """The function that is named as "module:function"."""
    return checked_job(load(run, folder), run)


def checked_job(found: object, title: str) -> Job:
    """What was found, if it is a function that can be given a `ServiceRun`."""
    if isinstance(found, DaemonFactory) or (isinstance(found, type) and issubclass(found, Daemon)):
        raise CannotLoad(f"{title} is a daemon, which runs all the time; a service runs a function once in each cycle")
    if isinstance(found, type) or not callable(found):
        raise CannotLoad(f"{title} is {found!r}; a service runs a function, as async def report(run: ServiceRun)")
    try:
        inspect.signature(found).bind(None)
    except TypeError as error:
        said = f"{title} cannot be called with one argument, the ServiceRun of its cycle: {error}"
        raise CannotLoad(said) from None
    except ValueError:
        pass  # Such as are written in C say nothing of their arguments.
    return found


def place_of_job(job: Job) -> str:
    """The text from which another process loads it."""
    if not inspect.isfunction(job):
        raise BadType(f"service() got {job!r}; expected a function at the top of a module")
    return place_of(job, job.__name__)


async def call_job(job: Job, run: ServiceRun) -> None:
    """Once, to its end. A thread cannot be cancelled: it is waited for."""
    if inspect.iscoroutinefunction(job) or inspect.iscoroutinefunction(type(job).__call__):
        await job(run)
        return
    async with run.clock.hold():
        await anyio.to_thread.run_sync(job, run)
