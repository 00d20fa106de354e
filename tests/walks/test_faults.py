"""What each way of dying means to a pipeline of real processes, for each policy and in each phase.

A source, an odd one in the middle, and a sink. A few cells here; all 63, on both loops, by `make soak`.

    how it dies            in        shutdown              restart                  ignore
    returns                any       ends well             ends well                ends well
    raises, also a group   on_start  fails, is named       made anew, ends well     the others end
                           run       fails, is named       made anew, ends well     the others end
                           on_stop   fails, is named       fails: no second try     ends well, is told
    sys.exit, os._exit,    on_start  its process fails     made anew, ends well     the others end
    SIGSEGV, SIGKILL       run       its process fails     made anew, ends well     the others end
                           on_stop   ends well, is told: it had finished, and nothing of it is needed any more

Its neighbours are never harmed: nobody of them is started again or has failed, and the sink cleans up exactly once.
"""

import logging
from contextlib import nullcontext
from itertools import cycle, product
from pathlib import Path
from typing import Literal, get_args

import anyio
import pytest

from geartrain import Pipeline, RestartPolicy
from geartrain.engine.launcher import Launcher
from geartrain.engine.roll import Standing
from geartrain.errors import PipelineFailed
from geartrain.ports.run_directory import live_runs
from geartrain.rules.lifecycle import OnError
from tests.walks.faulty import NeverReady, Odd, TidySink
from tests.walks.ledger import Ledger
from tests.walks.parts import Sink, Source, forever

PATIENCE_S = 60
TOTAL = 20

Loop = Literal["asyncio", "trio"]
Cell = tuple[OnError, str, str]

POLICIES: tuple[OnError, ...] = ("shutdown", "restart", "ignore")
PHASES = ("on_start", "run", "on_stop")
RAISES = {"raise": "OSError: the lens is dirty", "group": "OSError: the lens is dirty; ValueError: and scratched"}
ENDS = {"exit": "exit code 5", "vanish": "exit code 6", "crash": "killed by SIGSEGV", "die": "killed by SIGKILL"}
WAYS = ("return", *RAISES, *ENDS)

# Not those that test_pipelines.py has.
SHARP: tuple[Cell, ...] = (
    ("shutdown", "on_start", "die"),
    ("shutdown", "run", "exit"),
    ("shutdown", "on_stop", "crash"),
    ("restart", "on_start", "vanish"),
    ("restart", "run", "group"),
    ("restart", "on_stop", "raise"),
    ("ignore", "on_start", "group"),
    ("ignore", "on_stop", "raise"),
)


# -- the policy cross -----------------------------------------------------------------------------------------------


def with_an_odd_one(loop: Loop, folder: Path, policy: OnError, phase: str, does: str) -> Pipeline:
    pipeline = Pipeline("odd", backend=loop)
    source = pipeline.add(Source, name="source", config={"total": TOTAL})
    config: dict[str, object] = {"note": str(folder / "met"), "phase": phase, "does": does}
    odd = pipeline.add(Odd, name="odd", on_error=policy, config=config)
    sink = pipeline.add(TidySink, name="sink", config={"ledger": str(folder / "ledger"), "note": str(folder / "tidy")})
    pipeline.connect(source.out, odd.frames, maxsize=8)
    pipeline.connect(odd.out, sink.frames, maxsize=8)
    return pipeline


def how_it_fails(policy: OnError, phase: str, does: str) -> str | None:
    """The words of the failure that ends the pipeline; None where it ends well."""
    if does in RAISES and (policy == "shutdown" or (policy == "restart" and phase == "on_stop")):
        return rf"daemon 'odd' \(process 'odd', pid \d+\) in {phase}: {RAISES[does]}"
    if does in ENDS and policy == "shutdown" and phase != "on_stop":
        return rf"process 'odd' \(pid \d+\): {ENDS[does]}"
    return None


def lives_again(policy: OnError, phase: str, does: str) -> bool:
    return policy == "restart" and phase != "on_stop" and does != "return"


async def assert_the_policy_is_kept(loop: Loop, folder: Path, policy: OnError, phase: str, does: str) -> list[Standing]:
    """The answer is how everybody was at the end."""
    launcher = Launcher(with_an_odd_one(loop, folder, policy, phase, does))
    failure = how_it_fails(policy, phase, does)
    with anyio.fail_after(PATIENCE_S):
        with nullcontext() if failure is None else pytest.raises(PipelineFailed, match=failure):
            await launcher.live()

    source, odd, sink = launcher.roll.standings()
    assert [(other.restarts, other.last_error) for other in (source, sink)] == [(0, None)] * 2
    assert odd.restarts == lives_again(policy, phase, does)
    ledger = Ledger(folder)
    if phase == "on_stop" or does == "return" or lives_again(policy, phase, does):
        ledger.assert_complete(TOTAL)
    else:
        assert [number for number, _ in ledger.entries] == list(range(len(ledger.entries)))
        assert len(ledger.entries) <= 10
    if phase != "on_start" or failure is None:
        assert (folder / "tidy").read_text() == "tidy\n"
    assert live_runs() == ()
    return [source, odd, sink]


# Each on one of the loops here, in turn; on both by `make soak`.
@pytest.mark.parametrize(
    ("anyio_backend", "policy", "phase", "does"),
    [(loop, *cell) for loop, cell in zip(cycle(get_args(Loop)), SHARP, strict=False)],
)
async def test_each_way_of_dying_means_what_its_policy_says(
    anyio_backend: Loop, tmp_path: Path, policy: OnError, phase: str, does: str
) -> None:
    await assert_the_policy_is_kept(anyio_backend, tmp_path, policy, phase, does)


@pytest.mark.soak
@pytest.mark.parametrize(("policy", "phase", "does"), [*product(POLICIES, PHASES, WAYS)])
async def test_every_way_of_dying_means_what_its_policy_says(
    anyio_backend: Loop, tmp_path: Path, policy: OnError, phase: str, does: str
) -> None:
    await assert_the_policy_is_kept(anyio_backend, tmp_path, policy, phase, does)


@pytest.mark.parametrize("does", ["leave", "slip away"])
async def test_who_leaves_with_0_before_its_daemon_has_returned_has_died(
    anyio_backend: Loop, tmp_path: Path, does: str
) -> None:
    _, odd, _ = await assert_the_policy_is_kept(anyio_backend, tmp_path, "restart", "run", does)
    assert str(odd.last_error).endswith("exit code 0, before its daemons had returned")


async def test_a_death_after_everything_is_done_ends_nobody_and_is_told(
    anyio_backend: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await assert_the_policy_is_kept(anyio_backend, tmp_path, "shutdown", "on_stop", "die")
    assert "killed by SIGKILL, after it had finished" in caplog.text


# -- who never gets ready -------------------------------------------------------------------------------------------


async def test_who_never_gets_ready_ends_the_pipeline_after_its_retries_with_the_first_cause(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    tries = tmp_path / "tries"
    pipeline = Pipeline("never", backend=anyio_backend)
    retries = RestartPolicy(base=0.01, max_retries=3)
    pipeline.add(NeverReady, name="never", on_error="restart", restart=retries, config={"note": str(tries)})
    with pytest.raises(PipelineFailed, match=r"in on_start: OSError: no such camera, said 1 times"):
        with anyio.fail_after(PATIENCE_S):
            await Launcher(pipeline).live()
    assert tries.stat().st_size == 4


async def test_who_never_gets_ready_is_tried_ever_more_rarely_is_shown_and_can_be_stopped(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("never", backend=anyio_backend)
    rarely = RestartPolicy(base=0.01, factor=1000, cap=3600)
    config = {"note": str(tmp_path / "tries")}
    pipeline.add(NeverReady, name="never", on_error="restart", restart=rarely, config=config)
    launcher = Launcher(pipeline)

    def standing() -> Standing:
        (found,) = launcher.roll.standings()
        return found

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launcher.live)
            # The first restart is at once, the second after 10 ms, and the third would be after 10 s.
            while standing().restarts < 2:
                await anyio.sleep(0.01)
            assert standing().state == "restarting"
            assert standing().last_error == "OSError: no such camera, said 3 times (in on_start)"
            began = anyio.current_time()
            assert await launcher.stop(grace_s=30) == ()
            assert anyio.current_time() - began < 5
    assert (tmp_path / "tries").stat().st_size == 3


# -- two at once ----------------------------------------------------------------------------------------------------


async def test_two_runs_of_one_pipeline_know_nothing_of_each_other(anyio_backend: Loop, tmp_path: Path) -> None:
    def one(name: str) -> tuple[Launcher, Ledger]:
        (tmp_path / name).mkdir()
        ledger = Ledger(tmp_path / name)
        pipeline = Pipeline("twice", backend=anyio_backend)
        pipeline.add(forever, name="source")
        sink = pipeline.add(Sink, name="sink", config={"ledger": str(ledger.path)})
        pipeline.connect("source.out", sink.frames)
        return Launcher(pipeline), ledger

    (first, first_ledger), (second, second_ledger) = one("first"), one("second")

    async def live_until_it_fails() -> None:
        with pytest.raises(PipelineFailed, match="killed by SIGKILL"):
            await second.live()

    async def grows(ledger: Ledger) -> None:
        had = len(ledger.entries)
        while len(ledger.entries) <= had:
            await anyio.sleep(0.01)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.live)
            async with anyio.create_task_group() as second_life:
                second_life.start_soon(live_until_it_fails)
                await grows(first_ledger)
                await grows(second_ledger)
                assert {run.run_id for run in live_runs()} == {first.run.run_id, second.run.run_id}
                second.kill("sink")
            assert [run.run_id for run in live_runs()] == [first.run.run_id]
            await grows(first_ledger)
            await first.stop()
    first_ledger.assert_complete(len(first_ledger.entries))
    assert live_runs() == ()
