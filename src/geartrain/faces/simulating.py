"""A test of a pipeline in virtual time: for each seed on both loops, which must do the same.

    @simulated(seeds=20)
    def test_nothing_is_lost(sim: Simulator) -> None:
        done = sim.run(pipeline(), run_for=60)
        assert done.taken == 600

What a test is given besides `sim` comes from pytest as ever.
"""

import inspect
from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any, Literal

from geartrain.engine.pipeline import Pipeline
from geartrain.engine.sim_time import SimTime, Simulated
from geartrain.engine.simulate import simulate
from geartrain.engine.simulation import Simulation
from geartrain.errors import BadType
from geartrain.rules.checks import whole
from geartrain.rules.microsteps import LIMIT
from geartrain.rules.pipeline import BACKENDS
from geartrain.rules.trace import Taken, first_difference


class Simulator:
    """Runs pipelines in virtual time, with the seed and on the loop whose turn it is."""

    def __init__(self, seed: int, backend: Literal["asyncio", "trio"]) -> None:
        self.seed = seed
        self.backend = backend
        self.runs: list[list[Taken]] = []

    def run(self, pipeline: Pipeline, *, run_for: float | None = None, livelock_after: int = LIMIT) -> Simulated:
        """Run it to its end, or for so many virtual seconds; whatever loop the pipeline says."""
        time = SimTime(seed=self.seed, run_for=run_for, livelock_after=livelock_after)
        return simulate(self._run, pipeline, time, backend=self.backend)

    async def _run(self, pipeline: Pipeline, time: SimTime) -> Simulated:
        simulation = Simulation(pipeline, time)
        simulation.events = []
        self.runs.append(simulation.events)
        await simulation.live()
        return simulation.outcome()


def simulated(*, seeds: int | Iterable[int] = 1) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test for the seeds 0, 1, ... or for those that are named, on asyncio and on trio.

    It fails when the test does, or when a pipeline did not do the same on both loops.
    """
    chosen = range(whole("simulated() seeds", seeds, least=1)) if isinstance(seeds, int) else tuple(seeds)
    return partial(_each_seed, seeds=chosen)


def _each_seed(test: Callable[..., None], seeds: Iterable[int]) -> Callable[..., None]:
    if inspect.iscoroutinefunction(test):
        raise BadType(f"{test.__name__} is an `async def`; under @simulated write a `def`: sim.run() has its own loop")
    signature = inspect.signature(test)
    if "sim" not in signature.parameters:
        raise BadType(f"{test.__name__} is under @simulated and must take `sim`, on which it runs its pipelines")

    @wraps(test)
    def for_each_seed(*args: Any, **others: Any) -> None:
        for seed in seeds:
            one, other = (_once(test, Simulator(seed, backend), args, others) for backend in BACKENDS)
            _must_be_alike(one, other)

    others = [parameter for name, parameter in signature.parameters.items() if name != "sim"]
    for_each_seed.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    return for_each_seed


def _once(test: Callable[..., None], sim: Simulator, args: tuple[Any, ...], others: dict[str, Any]) -> Simulator:
    try:
        test(*args, sim=sim, **others)
    except BaseException as error:
        error.add_note(f"simulated on {sim.backend}; again by @simulated(seeds=[{sim.seed}])")
        raise
    return sim


def _must_be_alike(one: Simulator, other: Simulator) -> None:
    for number, (first, second) in enumerate(zip(one.runs, other.runs, strict=True), 1):
        difference = first_difference(first, second)
        if difference is not None:
            raise AssertionError(
                f"with seed {one.seed} pipeline {number} of this test did not do the same on both loops; after "
                f"{difference.same} events that are alike: {difference.said}\n"
                f"  {one.backend:7}  {difference.first or 'has ended'}\n"
                f"  {other.backend:7}  {difference.second or 'has ended'}\n"
                "Something that it does is no part of virtual time: a real clock, chance without ctx.random, a thread"
            )
