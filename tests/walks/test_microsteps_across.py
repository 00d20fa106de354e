"""Virtual time over many processes: a net gives the same wherever its daemons live, and on whichever loops."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geartrain import SimClock, simulate
from geartrain.engine.simulated_many import Became, simulate_in_many
from geartrain.rules.grants import Brief
from tests.walks.nets import Net
from tests.walks.spread import together, whole
from tests.walks.test_microsteps import nets

ASYNCIO, TRIO, MIXED = ("asyncio",), ("trio",), ("asyncio", "trio")


def run(
    main: str, names: Sequence[str], *arguments: Any, loops: Sequence[str] = MIXED, **options: Any
) -> Mapping[str, Became]:
    """`main` in a process for each of these names."""
    briefs = [
        Brief(
            process=name, main=f"tests.walks.{main}", arguments=arguments, backend=loops[number % len(loops)],
            path=tuple(sys.path), limit=options.pop("limit", 100_000),
        )
        for number, name in enumerate(names)
    ]  # fmt: skip

    async def until_all_have_ended() -> Mapping[str, Became]:
        with anyio.fail_after(60):
            return await simulate_in_many(briefs, **options)

    return anyio.run(until_all_have_ended)


def spread(some: Sequence[Net], where: Sequence[str], loops: Sequence[str]) -> list[str]:
    names = sorted(set(where))
    became = run("spread:part", names, msgspec.to_builtins(some), where, loops=loops)
    for name, its in became.items():
        assert its.error is None, f"{name}: {its.trace}"
        assert not its.was_killed
    return together([became[name].result for name in names])


def check_nets(some: Sequence[Net], wheres: Sequence[tuple[Sequence[str], Sequence[str]]]) -> None:
    expected = together([simulate(whole, SimClock(microsteps=True), some)])
    for where, loops in wheres:
        assert spread(some, where, loops) == expected, f"in {where} on {loops}"


EACH = ["p0", "p1", "p2", "p3", "p4"]


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(nets(), min_size=10, max_size=10))
def test_nets_give_the_same_in_one_process_in_two_and_in_one_for_each_daemon(some: list[Net]) -> None:
    check_nets(some, [(["p", "q"], MIXED), (EACH, MIXED)])


@pytest.mark.soak
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(nets(), min_size=20, max_size=20))
def test_eight_hundred_nets_give_the_same_in_one_process_in_two_and_in_one_for_each_daemon(some: list[Net]) -> None:
    two, three = ["p", "q"], ["q", "q", "p", "r"]
    check_nets(some, [(["p"], ASYNCIO), (two, ASYNCIO), (three, TRIO), (EACH, ASYNCIO), (EACH, TRIO), (EACH, MIXED)])
