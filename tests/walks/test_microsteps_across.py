"""Virtual time over many processes: a net gives the same wherever its daemons live, and on whichever loops."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geartrain import SimClock, SimTime, simulate
from geartrain import run as simulated_run
from geartrain.engine.simulated_many import Became, simulate_in_many
from geartrain.errors import ProcessFailed
from geartrain.rules.grants import Brief
from geartrain.rules.trace import digest_of
from tests.walks.nets import ROUNDS, Edge, Net, Step
from tests.walks.spread import together, whole
from tests.walks.test_microsteps import nets

SLEEP = Step("sleep", 0, 1)
ASYNCIO, TRIO, MIXED = ("asyncio",), ("trio",), ("asyncio", "trio")


def run(
    main: str, names: Sequence[str], *arguments: Any, loops: Sequence[str] = MIXED, limit: int = 100_000, **options: Any
) -> Mapping[str, Became]:
    """`main` in a process for each of these names."""
    briefs = [
        Brief(
            process=name,
            main=f"tests.walks.{main}",
            arguments=arguments,
            backend=loops[number % len(loops)],
            path=tuple(sys.path),
            limit=limit,
        )
        for number, name in enumerate(names)
    ]

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


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(nets(), min_size=10, max_size=10))
def test_nets_give_the_same_in_one_process_in_two_and_in_one_for_each_daemon(some: list[Net]) -> None:
    check_nets(some, [(["p", "q"], MIXED), (EACH, MIXED)])


@pytest.mark.soak
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(nets(), min_size=20, max_size=20))
def test_eight_hundred_nets_give_the_same_in_one_process_in_two_and_in_one_for_each_daemon(some: list[Net]) -> None:
    two, three = ["p", "q"], ["q", "q", "p", "r"]
    check_nets(some, [(["p"], ASYNCIO), (two, ASYNCIO), (three, TRIO), (EACH, ASYNCIO), (EACH, TRIO), (EACH, MIXED)])


def test_a_message_of_time_t_goes_through_forty_stages_in_two_processes_before_anybody_sees_the_next() -> None:
    stages, repeats = 40, 3
    edges = [Edge(number, number + 1, number % 2) for number in range(stages)]
    source, forward = [SLEEP, Step("send")] * repeats, [Step("receive"), Step("send")] * repeats
    chain = Net(edges, [source, *[forward] * (stages - 1), [Step("receive")] * repeats])
    # Neighbours are never in the same process, so each step is heard over there.
    check_nets([chain], [(["p", "q"], MIXED)])
    became = run("spread:part", ["p", "q"], msgspec.to_builtins([chain]), ["p", "q"])
    taken = Counter(record[1] for its in became.values() for record in its.result[0][1])
    assert set(taken.values()) == {stages}
    assert len(taken) == repeats * ROUNDS


def test_the_control_example_is_the_same_run_in_one_process_and_in_those_it_declares(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
        make = import_module("control").pipeline
        one, declared = (
            simulated_run(make("asyncio", 5, tmp_path / placement), clock=SimTime(seed=3, placement=placement))
            for placement in ("one", "declared")
        )
    assert (one.digest, one.taken) == (declared.digest, declared.taken)
    assert one.taken > 100


# -- the digest ------------------------------------------------------------------------------------------------------

TALK = Net([Edge(0, 1), Edge(1, 0, 2)], [[Step("send"), Step("receive")], [Step("receive"), Step("send"), SLEEP]])


def digest_in(where: Sequence[str]) -> str:
    became = run("spread:digested", sorted(set(where)), msgspec.to_builtins(TALK), where)
    return digest_of({channel: part for its in became.values() for channel, part in its.result.items()})


def test_the_digest_of_a_run_is_put_together_from_what_each_process_has_read() -> None:
    assert digest_in(["p"]) == digest_in(["p", "q"])


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_process_that_is_killed_leaves_and_time_goes_on_for_the_others() -> None:
    became = run("spread:one_is_killed", "abc", "")
    assert became["a"].was_killed
    # What it said in its last microstep was never reported.
    assert became["b"].result[:-1] == [[second * 10**9, 1, second] for second in range(3)]
    assert became["b"].result[-1][2] == "end"
    assert became["c"].result == [[second * 10**9, 0, "lives"] for second in range(1, 7)]


def test_daemons_that_wait_for_each_other_across_processes_are_named_everywhere() -> None:
    became = run("spread:each_waits_for_the_other", "abc", "")
    for its in became.values():
        (said,) = its.result
        assert "a waits to receive from channel 'ba', written by b" in said
        assert "b waits to receive from channel 'ab', written by a" in said
        assert "c " not in said


def test_an_instant_without_end_across_processes_is_found() -> None:
    became = run("spread:none_sleeps", "ab", "", limit=50)
    for name, its in became.items():
        said, *awake = its.result
        assert "time does not pass: at t=0 s there were 50 microsteps" in said
        assert awake == [name]


def test_a_process_that_is_never_quiet_is_named_with_its_stack() -> None:
    with pytest.raises(ProcessFailed, match=r"(?s)process 'a' has not become quiet within 3 s.*one_is_never_quiet"):
        run("spread:one_is_never_quiet", "ab", "", stall_after_s=3.0)


def test_a_process_that_fails_says_how_and_the_others_go_on() -> None:
    became = run("spread:one_fails", "ab", "")
    assert (became["a"].kind, became["a"].error) == ("RuntimeError", "on purpose")
    assert "one_fails" in became["a"].trace
    assert became["b"].result == "went on"
