"""A pipeline in virtual time is the same run wherever its daemons live."""

from pathlib import Path
from typing import Literal

import anyio
import pytest
from msgspec.structs import replace

from geartrain import Deadlock, Pipeline, PipelineFailed, SimTime, run
from geartrain.engine.sim_time import PLACEMENTS, Simulated
from geartrain.engine.simulated_placed import run_placed, where_each_lives
from geartrain.errors import BadValue, PipelineFaulty
from geartrain.rules.pipeline import Backend
from geartrain.rules.trace import first_difference, taken_in
from tests.walks.placed import Asker, Fails, Mute, Oracle, Slow, Ticker

SEVEN = SimTime(seed=7)
Where = Literal["one", "declared", "each"]


def asking() -> Pipeline:
    pipeline = Pipeline("asking")
    ticker = pipeline.add(Ticker, process="p")
    asker = pipeline.add(Asker, process="q")
    oracle = pipeline.add(Oracle, process="p", on_error="restart")
    slow = pipeline.add(Slow, process="q")
    pipeline.connect(ticker.out, asker.inp, maxsize=2)
    pipeline.connect(asker.oracle, oracle.calls)
    pipeline.connect(asker.out, slow.inp, policy="latest")
    return pipeline


def placed(pipeline: Pipeline, placement: Where, time: SimTime = SEVEN, **backends: Backend) -> Simulated:
    async def within_a_minute() -> Simulated:
        with anyio.fail_after(60):
            return await run_placed(pipeline, replace(time, placement=placement), backends=backends)

    return anyio.run(within_a_minute)


def test_a_pipeline_has_the_same_digest_in_one_process_in_those_it_declares_and_in_one_for_each_daemon() -> None:
    alone = run(asking(), clock=SEVEN)
    assert placed(asking(), "one", asking="trio").digest == alone.digest
    declared = placed(asking(), "declared", q="trio")
    each = placed(asking(), "each", Oracle="trio", Slow="trio")
    for other in (declared, each):
        assert (other.digest, other.taken, other.restarts) == (alone.digest, alone.taken, alone.restarts)
    assert alone.restarts["Oracle"] > 0


def test_a_run_that_is_stopped_when_time_is_up_is_the_same_too(tmp_path: Path) -> None:
    traces = [tmp_path / "alone", tmp_path / "each"]
    times = [SimTime(seed=7, run_for=3.3, trace=str(trace)) for trace in traces]
    assert placed(asking(), "each", times[1]).digest == run(asking(), clock=times[0]).digest
    alone, each = ([*taken_in(trace.read_bytes().splitlines()[1:], trace.name)] for trace in traces)
    assert first_difference(alone, each) is None
    assert len(each) > 10


def test_run_takes_the_placement_from_its_time() -> None:
    assert run(asking(), clock=replace(SEVEN, placement="declared")).digest == run(asking(), clock=SEVEN).digest


def test_another_seed_is_another_run() -> None:
    assert placed(asking(), "declared", SimTime(seed=8)).digest != run(asking(), clock=SEVEN).digest


def test_a_failure_that_is_not_absorbed_ends_the_run_everywhere_and_is_told() -> None:
    pipeline = Pipeline("failing")
    ticker, fails = pipeline.add(Ticker, config={"count": 1_000_000_000}), pipeline.add(Fails)
    pipeline.connect(ticker.out, fails.inp)
    with pytest.raises(PipelineFailed, match="on purpose"):
        placed(pipeline, "each")


def test_daemons_that_wait_for_each_other_over_processes_are_a_deadlock() -> None:
    pipeline = Pipeline("mute")
    one, other = pipeline.add(Mute, name="one"), pipeline.add(Mute, name="other")
    pipeline.connect(one.out, other.inp, name="there", keep="taken")
    pipeline.connect(other.out, one.inp, name="back", keep="taken")
    with pytest.raises(Deadlock, match=r"(?s)one waits to receive from channel 'back', written by other.*other waits"):
        placed(pipeline, "each")


def test_what_is_judged_by_one_clock_is_refused_over_many_processes() -> None:
    pipeline = Pipeline("judged")
    ticker, fails = pipeline.add(Ticker), pipeline.add(Fails)
    pipeline.connect(ticker.out, fails.inp, stale_after=1.0)
    with pytest.raises(PipelineFaulty, match="stale_after"):
        placed(pipeline, "each")


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_daemon_has_a_place(placement: Where) -> None:
    expected = {"one": {"asking"}, "declared": {"p", "q"}, "each": {"Ticker", "Asker", "Oracle", "Slow"}}
    assert set(where_each_lives(asking().spec, placement).values()) == expected[placement]


def test_another_placement_is_refused() -> None:
    with pytest.raises(BadValue, match="placement"):
        where_each_lives(asking().spec, "everywhere")  # type: ignore[arg-type]
