"""What a launcher sees to besides deaths: slow starts, loops that hang, cones, foreign programs, tcp."""

import logging
import signal
import sys
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from geartrain import Pipeline, RestartPolicy
from geartrain.engine.launcher import Launcher
from geartrain.engine.spare import Spare, Spares
from geartrain.errors import PipelineFailed, ProcessFailed
from tests.walks.parts import Middle, Sink, Slow, Source, TellsItsPid, forever, loud, sleeper

PATIENCE_S = 30

Loop = Literal["asyncio", "trio"]


async def run(pipeline: Pipeline) -> Launcher:
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        await launcher.live()
    return launcher


def numbers(ledger: Path) -> list[int]:
    return [int(line.split()[0]) for line in ledger.read_text().splitlines()]


async def test_a_daemon_that_is_not_ready_in_time_is_ended_and_its_threads_are_told(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("slow", backend=anyio_backend)
    pipeline.add(Slow, name="slow", start_within=3.0, config={"note": str(tmp_path / "note")})
    with pytest.raises(PipelineFailed, match=r"slow not ready within 3 s") as caught:
        await run(pipeline)
    assert "most recent call first" in str(caught.value)


async def test_a_daemon_that_is_not_ready_in_time_is_started_again_where_its_policy_says_so(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("slow", backend=anyio_backend)
    pipeline.add(Slow, name="slow", on_error="restart", start_within=3.0, config={"note": str(tmp_path / "note")})
    launcher = await run(pipeline)
    assert [standing.restarts for standing in launcher.roll.standings()] == [1]


@pytest.mark.parametrize(
    ("how", "told"), [("spins", "in sleeper"), ("sleeps", "in sleeper"), ("stops", "stands still by SIGSTOP")]
)
async def test_a_loop_that_hangs_is_reported_with_its_stacks_and_ended_where_that_is_wanted(
    anyio_backend: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str, told: str
) -> None:
    ledger = tmp_path / "ledger"
    pipeline = Pipeline("hangs", backend=anyio_backend)
    pipeline.add(sleeper, name="source", on_error="restart", config={"how": how})
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(ledger)})
    pipeline.connect("source.out", sink.frames)
    pipeline.process("source", cwd=tmp_path, hung_after=1.0, on_hang="kill")
    with caplog.at_level(logging.WARNING):
        launcher = await run(pipeline)
    assert set(numbers(ledger)) == set(range(10))
    assert told in caplog.text
    (standing, _) = launcher.roll.standings()
    assert standing.restarts == 1
    assert "its loop stood still for" in str(standing.last_error)


async def test_the_first_restart_is_at_once_and_base_is_the_delay_before_the_second(
    anyio_backend: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = Pipeline("again", backend=anyio_backend)
    source = pipeline.add(Source, name="source", config={"total": 10})
    slow = RestartPolicy(base=60, cap=60)
    middle = pipeline.add(Middle, name="middle", on_error="restart", restart=slow, config={"at": 3, "does": "die"})
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect(source.out, middle.frames)
    pipeline.connect(middle.out, sink.frames)
    await run(pipeline)
    assert "again in 0 s" in caplog.text


async def test_a_start_that_fails_under_ignore_leaves_the_others_with_nobody_to_wait_for(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("ignored", backend=anyio_backend)
    pipeline.add(Source, name="source", on_error="ignore", config={"total": 10})
    pipeline.process("source", cwd=tmp_path / "nowhere")
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect("source.out", sink.frames)
    launcher = await run(pipeline)
    assert [standing.state for standing in launcher.roll.standings()] == ["ended", "ended"]


async def test_a_stop_during_a_back_off_finds_nobody_late(anyio_backend: Loop, tmp_path: Path) -> None:
    pipeline = Pipeline("waits", backend=anyio_backend)
    long = RestartPolicy(base=100, cap=100)
    pipeline.add(forever, name="source", on_error="restart", restart=long)
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect("source.out", sink.frames)
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launcher.live)
            await launcher.gate.wait()
            # The first restart is at once.
            for restarts, state in ((1, "running"), (1, "restarting")):
                launcher.kill("source")
                while (launcher.roll.standings()[0].restarts, launcher.roll.standings()[0].state) != (restarts, state):
                    await anyio.sleep(0.01)
            assert await launcher.stop(20) == ()


async def test_who_is_started_again_just_before_a_stop_hears_of_it(anyio_backend: Loop, tmp_path: Path) -> None:
    pipeline = Pipeline("again", backend=anyio_backend)
    pipeline.add(forever, name="source", on_error="restart")
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect("source.out", sink.frames)
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launcher.live)
            await launcher.gate.wait()
            launcher.restart("source")
            assert await launcher.stop(20) == ()


async def test_a_spare_that_cannot_be_started_ends_nobody(
    anyio_backend: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_spares: Spares) -> Spare:
        raise ProcessFailed("no more of them")

    monkeypatch.setattr(Spares, "_started", refused)
    pipeline = Pipeline("warm", backend=anyio_backend, spares=1)
    source = pipeline.add(Source, name="source", config={"total": 100, "pause_s": 0.02})
    middle = pipeline.add(Middle, name="middle", on_error="restart", config={"at": 50, "does": "die"})
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect(source.out, middle.frames)
    pipeline.connect(middle.out, sink.frames)
    await run(pipeline)
    assert set(numbers(tmp_path / "ledger")) == set(range(100))
    assert "no spare can be started: no more of them" in caplog.text


async def test_a_spare_that_has_died_unseen_is_passed_over(anyio_backend: Loop, tmp_path: Path) -> None:
    pipeline = Pipeline("warm", backend=anyio_backend, spares=1)
    pipeline.add(forever, name="source", on_error="restart")
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect("source.out", sink.frames)
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launcher.live)
            while not launcher.spares.waiting:
                await anyio.sleep(0.01)
            (spare,) = launcher.spares.waiting
            spare.process.kill_group(signal.SIGKILL)
            await spare.process.wait_group()
            launcher.kill("source")
            while launcher.roll.standings()[0].state != "running" or launcher.roll.standings()[0].restarts != 1:
                await anyio.sleep(0.01)
            await launcher.stop()


async def test_a_spare_that_dies_while_it_is_told_who_it_is_is_replaced_by_a_process_of_its_own(
    anyio_backend: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[int] = []

    def dies(spares: Spares, _process: str) -> Spare | None:
        if died or not spares.waiting:
            return None
        spare = spares.waiting.pop()
        spare.process.kill_group(signal.SIGKILL)
        died.append(spare.process.pid)
        return spare

    monkeypatch.setattr(Spares, "take", dies)
    pipeline = Pipeline("warm", backend=anyio_backend, spares=1)
    source = pipeline.add(Source, name="source", config={"total": 200, "pause_s": 0.01})
    middle = pipeline.add(Middle, name="middle", on_error="restart")
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect(source.out, middle.frames)
    pipeline.connect(middle.out, sink.frames)
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launcher.live)
            while not launcher.spares.waiting:
                await anyio.sleep(0.01)
            launcher.kill("middle")
    assert died
    assert sorted(set(numbers(tmp_path / "ledger"))) == list(range(200))


async def test_an_error_of_megabytes_is_told_in_part_and_harms_nobody(anyio_backend: Loop, tmp_path: Path) -> None:
    pipeline = Pipeline("loud", backend=anyio_backend)
    pipeline.add(loud, name="loud", on_error="ignore")
    launcher = await run(pipeline)
    (report,) = launcher.reports
    assert report.error.startswith("ValueError: xxx")


async def test_a_spare_takes_the_place_of_a_process_that_died_and_another_one_waits_then(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("warm", backend=anyio_backend, spares=1)
    pipeline.add(forever, name="source", on_error="restart")
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect("source.out", sink.frames)
    launcher = Launcher(pipeline)

    async def spare(other_than: int = 0) -> int:
        while (pid := next((waits.process.pid for waits in launcher.spares.waiting), other_than)) == other_than:
            await anyio.sleep(0.01)
        return pid

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launcher.live)
            waits = await spare()
            launcher.kill("source")
            await spare(other_than=waits)
            (source, _) = launcher.roll.standings()
            assert (source.pid, source.state, source.restarts) == (waits, "running", 1)
            await launcher.stop()


async def test_without_anything_to_be_started_again_nobody_waits(anyio_backend: Loop, tmp_path: Path) -> None:
    def spares(**options: Any) -> int:
        pipeline = Pipeline("warm", backend=anyio_backend, spares=options.pop("spares", None))
        pipeline.add(Slow, name="slow", config={"note": str(tmp_path / "note")}, **options)
        launcher = Launcher(pipeline)
        launcher.brief.close()
        launcher.run.close()
        return launcher.spares.wanted

    assert spares() == 0
    assert spares(on_error="restart") == 1
    assert spares(on_error="restart", spares=0) == 0
    assert spares(spares=3) == 3


async def test_who_wants_to_be_made_anew_with_its_writer_is(anyio_backend: Loop, tmp_path: Path) -> None:
    pipeline = Pipeline("cone", backend=anyio_backend)
    source = pipeline.add(Source, name="source", config={"total": 20})
    middle = pipeline.add(Middle, name="middle", on_error="restart", config={"at": 10})
    end = pipeline.add(TellsItsPid, name="end", on_error="restart", config={"note": str(tmp_path / "pids")})
    pipeline.connect(source.out, middle.frames)
    pipeline.connect(middle.out, end.frames, on_peer_restart="restart")
    await run(pipeline)
    assert len(set((tmp_path / "pids").read_text().split())) == 2


def program(source: str) -> list[str]:
    return [sys.executable, "-c", source]


async def test_a_foreign_program_runs_beside_the_daemons_and_what_it_prints_is_kept(anyio_backend: Loop) -> None:
    pipeline = Pipeline("foreign", backend=anyio_backend)
    pipeline.add_command(program("import os; print(os.environ['GREETING'], os.getcwd())"), name="hello")
    pipeline.process("hello", env={"GREETING": "good morning"}, cwd="/")
    launcher = await run(pipeline)
    assert launcher.last_lines["hello"] == ["good morning /"]


async def test_a_foreign_program_that_fails_ends_the_pipeline_with_what_it_said(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("foreign", backend=anyio_backend)
    pipeline.add_command(program("import sys; sys.exit('no such camera')"), name="broken")
    pipeline.add(Slow, name="other", config={"note": str(tmp_path / "note")})
    with pytest.raises(PipelineFailed, match=r"process 'broken' \(pid \d+\): exit code 1\n +no such camera"):
        await run(pipeline)


async def test_a_foreign_program_is_started_again_as_its_policy_says(anyio_backend: Loop, tmp_path: Path) -> None:
    fails_once = f"import os,sys; p={str(tmp_path / 'tried')!r}; e=os.path.exists(p); open(p,'w'); sys.exit(not e)"
    pipeline = Pipeline("foreign", backend=anyio_backend)
    pipeline.add_command(program(fails_once), name="second-time", on_error="restart")
    launcher = await run(pipeline)
    assert [standing.restarts for standing in launcher.roll.standings()] == [1]


async def test_a_stop_asks_a_foreign_program_by_sigterm_and_what_it_started_ends_with_it(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    waits = "import subprocess,time; subprocess.Popen(['sleep','100']); print('up', flush=True); time.sleep(100)"
    pipeline = Pipeline("foreign", backend=anyio_backend)
    pipeline.add_command(program(waits), name="waits")
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launcher.live)
            await launcher.gate.wait()
            late = await launcher.stop()
    assert late == ()
    assert launcher.reports == []


async def test_channels_over_tcp_have_keys_and_survive_a_kill(anyio_backend: Loop, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    pipeline = Pipeline("far", backend=anyio_backend)
    source = pipeline.add(Source, name="source", config={"total": 100})
    middle = pipeline.add(Middle, name="middle", on_error="restart", config={"at": 50, "does": "die"})
    sink = pipeline.add(Sink, name="sink", config={"ledger": str(ledger)})
    options: dict[str, Any] = {"transport": "tcp", "maxsize": 8}
    pipeline.connect(source.out, middle.frames, **options)
    pipeline.connect(middle.out, sink.frames, **options)
    launcher = Launcher(pipeline)
    address, curve = launcher.brief.place_of(pipeline.spec.channels[0], stays=False, sends=True)
    assert address.startswith("tcp://127.0.0.1:")
    assert curve is not None
    with anyio.fail_after(PATIENCE_S):
        await launcher.live()
    assert set(numbers(ledger)) == set(range(100))
