"""What a daemon is given."""

from typing import Literal

import pytest

from geartrain import Context, RestartPolicy, SimClock, Supervisor, simulate

Loop = Literal["asyncio", "trio"]
both_loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])


def draws(loop: Loop, seed: int, *names: str) -> dict[str, list[float]]:
    """What two lives of each daemon draw."""
    drawn: dict[str, list[float]] = {name: [] for name in names}

    async def gambler(ctx: Context) -> None:
        drawn[ctx.name].append(ctx.random.random())
        if len(drawn[ctx.name]) == 1:
            raise RuntimeError("once more")

    async def main() -> None:
        clock = SimClock(seed=seed)
        async with Supervisor(clock=clock, on_error="restart", restart=RestartPolicy(base=0.1)) as sup:
            for name in names:
                sup.spawn(gambler, name=name)
            await clock.run()

    simulate(main, backend=loop)
    return drawn


@both_loops
def test_chance_is_the_same_on_every_run_with_the_same_seed_and_another_with_another(loop: Loop) -> None:
    first = draws(loop, 7, "a", "b")
    assert draws(loop, 7, "b", "a") == first
    assert draws(loop, 8, "a", "b") != first


@both_loops
def test_every_daemon_and_every_life_of_it_has_chance_of_its_own(loop: Loop) -> None:
    drawn = draws(loop, 7, "a", "b")
    assert len({*drawn["a"], *drawn["b"]}) == 4


def test_both_loops_draw_alike() -> None:
    assert draws("asyncio", 7, "a", "b") == draws("trio", 7, "a", "b")
