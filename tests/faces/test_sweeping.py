"""What a sweep over many seeds finds, and how it says it."""

import itertools
import multiprocessing
import re
from random import Random

import pytest

from geartrain import Context, Pipeline, ReceiveStream, SendStream, daemon
from geartrain.engine.sim_time import Simulated
from geartrain.errors import BadValue, CannotLoad
from geartrain.faces.sweeping import Sweep, seeds_of, simulate_seed, swept

HERE = "tests.faces.test_sweeping"


@daemon
async def throws(ctx: Context, dice: SendStream[int]) -> None:
    for _ in range(3):
        await ctx.clock.sleep(1)
        await dice.send(ctx.random.randint(1, 6))


@daemon
async def counts(ctx: Context, dice: ReceiveStream[int]) -> None:
    async for _ in dice:
        pass


@daemon
async def fears_a_six(ctx: Context, dice: ReceiveStream[int]) -> None:
    async for number in dice:
        if number == 6:
            raise ValueError(f"a six at {ctx.clock.now():g} s")


def game() -> Pipeline:
    p = Pipeline("game")
    p.add(throws, name="throws")
    p.add(counts, name="counts")
    p.connect("throws.dice", "counts.dice", maxsize=1)
    return p


def dangerous() -> Pipeline:
    p = Pipeline("game")
    p.add(throws, name="throws")
    p.add(fears_a_six, name="player")
    p.connect("throws.dice", "player.dice", maxsize=1)
    return p


@daemon
async def throws_for_ever(ctx: Context, dice: SendStream[int]) -> None:
    """But for few seeds, which throw a six at once."""
    if ctx.random.random() < 0.9:
        async for _ in ctx.clock.every(1):
            await dice.send(1)
    await dice.send(6)


def endless() -> Pipeline:
    p = Pipeline("game")
    p.add(throws_for_ever, name="throws")
    p.add(fears_a_six, name="player")
    p.connect("throws.dice", "player.dice", maxsize=1)
    return p


def below_sixteen(done: Simulated) -> None:
    thrown = [taken.item for taken in done.events]
    assert sum(thrown) < 16, f"{thrown} are too many"


def never_a_five(done: Simulated) -> bool:
    return 5 not in [taken.item for taken in done.events]


def test_all_seeds_are_simulated_when_nothing_breaks() -> None:
    verdicts = list(swept(Sweep(f"{HERE}:game"), range(12), cores=2))
    assert sorted(verdict.seed for verdict in verdicts) == list(range(12))
    assert {verdict.broken for verdict in verdicts} == {None}
    assert len({verdict.digest for verdict in verdicts}) > 6


def test_a_sweep_ends_with_what_it_has_found() -> None:
    *before, last = swept(Sweep(f"{HERE}:game", check=f"{HERE}:below_sixteen"), range(10_000), cores=2)
    assert {verdict.broken for verdict in before} <= {None}
    assert re.match(rf"{HERE}:below_sixteen: AssertionError: \[\d, \d, \d\] are too many", last.broken or "")
    again = simulate_seed(Sweep(f"{HERE}:game", check=f"{HERE}:below_sixteen"), last.seed)
    assert (again.digest, again.broken is None) == (last.digest, False)


def test_a_run_that_fails_is_broken_and_says_how() -> None:
    broken = {seed: simulate_seed(Sweep(f"{HERE}:dangerous"), seed).broken for seed in range(10)}
    assert any(said is not None and "ValueError: a six at" in said for said in broken.values())
    assert None in broken.values()


def test_a_sweep_that_is_left_leaves_nobody_at_work_on_a_run_without_an_end() -> None:
    before = set(multiprocessing.active_children())
    seeds = (seed for seed in itertools.count() if Random(f"{seed}: life 0 of throws").random() >= 0.9)
    verdicts = swept(Sweep(f"{HERE}:endless"), [next(seeds), 0, 1, 2], cores=2)
    assert "a six at" in (next(verdicts).broken or "")
    verdicts.close()  # type: ignore[attr-defined]
    assert set(multiprocessing.active_children()) <= before


def test_an_invariant_may_answer_that_it_is_false() -> None:
    verdicts = {simulate_seed(Sweep(f"{HERE}:game", check=f"{HERE}:never_a_five"), seed).broken for seed in range(10)}
    assert verdicts == {None, f"{HERE}:never_a_five is false"}


@pytest.mark.parametrize(("text", "seeds"), [("0..3", [0, 1, 2, 3]), ("7", [7]), ("5..5", [5])])
def test_seeds_are_said_with_both_ends(text: str, seeds: list[int]) -> None:
    assert list(seeds_of(text)) == seeds


@pytest.mark.parametrize("text", ["", "a", "3..1", "-1..3", "1...3", "1.5"])
def test_what_are_no_seeds_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="seeds"):
        seeds_of(text)


def test_what_cannot_be_swept_is_said_before_anything_starts() -> None:
    with pytest.raises(CannotLoad, match="nowhere"):
        next(swept(Sweep(f"{HERE}:nowhere"), range(3)))
    with pytest.raises(CannotLoad, match="a function that takes what a run came to"):
        next(swept(Sweep(f"{HERE}:game", check=f"{HERE}:HERE"), range(3)))
