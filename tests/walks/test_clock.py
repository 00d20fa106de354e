"""Deadlines of daemons in real processes, and what the death of the clock or of a daemon does to them."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from geartrain import Pipeline, ReactorClock
from geartrain.engine.launcher import Launcher
from tests.walks.timing import Gambler, Mortal, Sensor, Setter, Taker, Watchdog

PATIENCE_S = 30

Loop = Literal["asyncio", "trio"]


async def run(pipeline: Pipeline, during: Callable[[Launcher], Any] | None = None) -> Launcher:
    launcher = Launcher(pipeline)
    launcher.brief.log_level = "INFO"
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            if during is not None:
                tasks.start_soon(during, launcher)
            await launcher.live()
            tasks.cancel_scope.cancel()
    return launcher


def setting(loop: Loop, ledger: Path, **config: object) -> Pipeline:
    pipeline = Pipeline("timing", backend=loop)
    pipeline.add(Setter, name="setter", config={"ledger": str(ledger)} | config)
    return pipeline


def told(ledger: Path) -> dict[str, str]:
    lines = [line.split(" ", 1) for line in ledger.read_text().splitlines()[1:]]
    assert len({name for name, *_ in lines}) == len(lines), "something was told twice"
    return dict(lines)


async def test_a_daemon_has_deadlines_without_declaring_a_clock(anyio_backend: Loop, tmp_path: Path) -> None:
    launcher = await run(setting(anyio_backend, tmp_path / "ledger", total=10, gap_s=0.02))
    outcome = told(tmp_path / "ledger")
    assert outcome.pop("stats") == "12 1 1 0"
    assert int(outcome.pop("slots")) >= 10
    assert list(outcome) == [str(number) for number in range(10)]
    assert [(standing.daemon, standing.state) for standing in launcher.roll.standings()] == [
        ("setter", "ended"),
        ("clock", "ended"),
    ]


async def test_a_clock_that_shares_the_process_of_its_daemons_serves_them_as_well(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = setting(anyio_backend, tmp_path / "ledger", total=5, gap_s=0.02)
    pipeline.add(ReactorClock, name="time", process="setter")
    launcher = await run(pipeline)
    assert told(tmp_path / "ledger").keys() >= {str(number) for number in range(5)}
    assert [(standing.daemon, standing.state, standing.system) for standing in launcher.roll.standings()] == [
        ("setter", "ended", False),
        ("time", "ended", True),
    ]


async def test_the_run_is_over_when_those_whom_the_clock_serves_are_gone_however_they_went(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    pipeline = Pipeline("mortal", backend=anyio_backend)
    config: dict[str, object] = {"ledger": str(tmp_path / "ledger"), "does": "die"}
    pipeline.add(Mortal, name="mortal", on_error="ignore", config=config)
    launcher = await run(pipeline)
    assert re.search(r"5 (dropped|still pending)", "".join(launcher.last_lines["clock"]))
    assert {standing.state for standing in launcher.roll.standings()} == {"ended"}


async def test_a_clock_that_is_killed_loses_no_deadline_and_tells_none_twice(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"

    async def kill_the_clock(launcher: Launcher) -> None:
        while not ledger.exists() or "\n2 " not in ledger.read_text():
            await anyio.sleep(0.002)
        launcher.kill("clock")
        while "\n20 " not in ledger.read_text():
            await anyio.sleep(0.002)
        launcher.kill("clock")

    pipeline = setting(anyio_backend, ledger, total=60, gap_s=0.01)
    launcher = await run(pipeline, kill_the_clock)
    outcome = told(ledger)
    assert outcome.pop("stats").startswith("62 1 1 ")
    # The grid of the periodic one goes on where it was: what was missed is counted.
    assert int(outcome.pop("slots")) >= 60
    assert set(outcome) == {str(number) for number in range(60)}
    assert {standing.daemon: standing.restarts for standing in launcher.roll.standings()} == {"setter": 0, "clock": 2}


@pytest.mark.parametrize("does", ["raise", "die"])
async def test_what_a_former_life_of_a_daemon_had_scheduled_never_comes(
    anyio_backend: Loop, tmp_path: Path, does: str
) -> None:
    pipeline = Pipeline("mortal", backend=anyio_backend)
    config: dict[str, object] = {"ledger": str(tmp_path / "ledger"), "does": does}
    pipeline.add(Mortal, name="mortal", on_error="restart", config=config)
    launcher = await run(pipeline)
    assert (tmp_path / "ledger").read_text().splitlines() == ["fired second"]
    # The clock keeps them no longer.
    assert re.search(r"[56] dropped", "".join(launcher.last_lines["clock"]))


@pytest.mark.soak
async def test_whoever_dies_at_random_each_deadline_of_a_life_comes_once(anyio_backend: Loop, tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    pipeline = Pipeline("gamble", backend=anyio_backend)
    for name in names:
        config: dict[str, object] = {"ledger": str(tmp_path / name), "for_s": 3}
        pipeline.add(Gambler, name=name, on_error="restart", config=config)

    async def kill(launcher: Launcher) -> None:
        await launcher.gate.wait()
        with anyio.move_on_after(10):
            while True:
                await anyio.sleep(random.uniform(0.05, 0.6))
                who = random.choice([*names, "clock", "clock"])
                if who in launcher.present:
                    launcher.kill(who)

    await run(pipeline, kill)
    for name in names:
        lines = [tuple(line.split()) for line in (tmp_path / name).read_text().splitlines()]
        came = [line[1:] for line in lines if line[0] == "came"]
        assert len(came) == len(set(came))
        [last] = [line[1] for line in lines if line[0] == "done"]
        was_set = {line[1:] for line in lines if line[0] == "set" and line[1] == last}
        assert {line for line in came if line[0] == last} == was_set


# -- planes -----------------------------------------------------------------------------------------------------------

CHANNELS = {"over-ipc", "over-tcp", "inside"}


class Stalling:
    """A sensor that stands still, readers of each kind of channel, and a watchdog that writes down what it hears."""

    def __init__(self, loop: Loop, folder: Path) -> None:
        self.ledger, self.goes_on = folder / "ledger", folder / "goes on"
        self.pipeline = Pipeline("stalling", backend=loop)
        sensor = self.pipeline.add(Sensor, name="sensor", config={"goes_on": str(self.goes_on)})
        for name, process in (("over-ipc", "takers"), ("over-tcp", "takers"), ("inside", "sensor")):
            taker = self.pipeline.add(Taker, name=f"taker-{name}", process=process, on_error="restart")
            carrier: Literal["tcp", "auto"] = "tcp" if name == "over-tcp" else "auto"
            self.pipeline.connect(sensor.outs, taker.numbers, name=name, stale_after=0.15, transport=carrier)
        self.pipeline.add(Watchdog, name="watchdog", config={"ledger": str(self.ledger)})

    async def heard(self, word: str) -> None:
        """Return when the watchdog has heard this of all channels."""
        while not self.ledger.exists() or self._about(word) < CHANNELS:
            await anyio.sleep(0.005)

    def _about(self, word: str) -> set[str]:
        return {line.split(" ")[1] for line in self.ledger.read_text().splitlines() if line.startswith(word)}

    def check_ledger(self) -> None:
        lines = self.ledger.read_text().splitlines()
        assert sorted(lines) == sorted(f"{word} {channel}" for word in ("stale", "fresh") for channel in CHANNELS)


async def test_whatever_carries_a_channel_a_watchdog_hears_when_it_goes_stale_and_when_it_is_fresh_again(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    stalling = Stalling(anyio_backend, tmp_path)

    async def look(launcher: Launcher) -> None:
        await stalling.heard("stale")
        rows, _ = await launcher.channel_counts()
        assert {row.channel for row in rows if row.stale and (row.age_s or 0) > 0.15} == CHANNELS
        stale = {standing.daemon: standing.stale for standing in launcher.standings() if standing.stale}
        assert stale == {f"taker-{channel}": (channel,) for channel in CHANNELS}
        stalling.goes_on.touch()
        await stalling.heard("fresh")
        assert not any(standing.stale for standing in launcher.standings())
        await launcher.stop()

    await run(stalling.pipeline, look)
    stalling.check_ledger()


async def test_what_has_changed_while_the_clock_was_dead_is_told_by_the_next_one(
    anyio_backend: Loop, tmp_path: Path
) -> None:
    stalling = Stalling(anyio_backend, tmp_path)

    async def kill(launcher: Launcher) -> None:
        await stalling.heard("stale")
        stalling.goes_on.touch()
        launcher.kill("clock")
        launcher.kill("taker-over-ipc")
        await stalling.heard("fresh")
        await launcher.stop()

    await run(stalling.pipeline, kill)
    lines = stalling.ledger.read_text().splitlines()
    # A taker that is started again may let its channels go stale once more, and nothing is told twice.
    for channel in CHANNELS:
        about = [line.split(" ")[0] for line in lines if line.endswith(channel)]
        assert len(about) >= 2
        # The stop may come while one is stale.
        assert about == [("stale", "fresh")[number % 2] for number in range(len(about))]
