"""What `@simulated` promises to a test of a pipeline."""

import time

import pytest

from geartrain import Context, Pipeline, ReceiveStream, SendStream, daemon
from geartrain.engine.declare import Target
from geartrain.errors import BadType, BadValue
from geartrain.testing import Simulator, simulated


@daemon
async def throws(ctx: Context, dice: SendStream[int]) -> None:
    for _ in range(10):
        await ctx.clock.sleep(ctx.random.random())
        await dice.send(ctx.random.randint(1, 6))


@daemon
async def times(ctx: Context, dice: SendStream[int]) -> None:
    for _ in range(10):
        await dice.send(time.perf_counter_ns())


@daemon
async def counts(ctx: Context, dice: ReceiveStream[int]) -> None:
    async for _ in dice:
        pass


def game(thrower: Target = throws) -> Pipeline:
    p = Pipeline("game")
    p.add(thrower, name="thrower")
    p.add(counts, name="counts")
    p.connect("thrower.dice", "counts.dice", maxsize=2)
    return p


RUNS: list[tuple[int, str]] = []


@simulated(seeds=3)
def test_a_test_is_run_for_each_seed_on_both_loops(sim: Simulator, tmp_path: object) -> None:
    RUNS.append((sim.seed, sim.backend))
    assert sim.run(game()).taken == 10
    assert tmp_path
    if len(RUNS) == 6:
        assert [(seed, loop) for seed in range(3) for loop in ("asyncio", "trio")] == RUNS


class TestInAClass:
    @simulated(seeds=[5])
    def test_it_works_in_a_class_too(self, sim: Simulator) -> None:
        assert sim.seed == 5
        assert sim.run(game()).seed == 5


def test_a_pipeline_that_differs_from_run_to_run_fails_and_its_first_event_is_named() -> None:
    @simulated()
    def test(sim: Simulator) -> None:
        sim.run(game(times))

    with pytest.raises(AssertionError, match=r"(?s)seed 0.*after 0 events.*the payload.*asyncio .*#1.*trio .*#1"):
        test()


def test_a_test_that_fails_says_with_which_seed_and_on_which_loop() -> None:
    @simulated(seeds=[4, 2])
    def test(sim: Simulator) -> None:
        assert (sim.seed, sim.backend) != (2, "trio")

    with pytest.raises(AssertionError) as failed:
        test()
    assert failed.value.__notes__ == ["simulated on trio; again by @simulated(seeds=[2])"]


def test_what_cannot_be_simulated_is_refused_where_it_is_written() -> None:
    async def waits(sim: Simulator) -> None: ...

    def forgets() -> None: ...

    with pytest.raises(BadType, match=r"sim\.run\(\) has its own loop"):
        simulated()(waits)  # type: ignore[arg-type]
    with pytest.raises(BadType, match=r"forgets .* must take `sim`"):
        simulated()(forgets)
    with pytest.raises(BadValue, match="seeds"):
        simulated(seeds=0)
