"""What an observer is told, in which order, and that it cannot disturb."""

import logging
from typing import Any

import pytest

from geartrain import Context, Cycle, Observer, RestartPolicy, SimClock, Supervisor
from geartrain.ports.observer import current_watch
from geartrain.recipes import cooperative_every


class Notes(Observer):
    """Writes down every hook that is called."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.cycles: list[Cycle] = []

    def __getattribute__(self, name: str) -> Any:
        if name == "on_cycle" or not name.startswith(("on_", "pre_", "post_")):
            return super().__getattribute__(name)
        return lambda *facts: self.told.append((name, *facts))

    def on_cycle(self, daemon: str, cycle: Cycle) -> None:
        self.told.append(("on_cycle", daemon, cycle.index))
        self.cycles.append(cycle)


async def observed(notes: Observer, *bodies: Any, seconds: float = 10, **settings: Any) -> None:
    clock = SimClock()
    async with Supervisor(clock=clock, observer=notes, **settings) as sup:
        for body in bodies:
            sup.spawn(body)
        await clock.advance(seconds)
        await sup.stop(grace=0)


async def test_a_life_is_told_from_up_to_down() -> None:
    notes = Notes()

    async def quiet(ctx: Context) -> None:
        await ctx.clock.sleep(1)

    await observed(notes, quiet)
    assert notes.told == [
        ("on_executor_up",),
        ("on_daemon_start", "quiet", 0),
        ("on_daemon_stop", "quiet"),
        ("on_executor_down",),
    ]


async def test_a_fault_lasts_from_the_first_error_until_the_daemon_has_started_again() -> None:
    notes = Notes()
    errors = [RuntimeError("one"), RuntimeError("two")]
    left = list(errors)

    async def flaps(ctx: Context) -> None:
        if left:
            raise left.pop(0)

    await observed(notes, flaps, on_error="restart", restart=RestartPolicy(base=1))
    assert notes.told == [
        ("on_executor_up",),
        ("on_daemon_start", "flaps", 0),
        ("on_daemon_error", "flaps", "run", errors[0]),
        ("on_daemon_fault", "flaps"),
        ("on_executor_fault", "flaps"),
        ("on_daemon_start", "flaps", 1),
        ("on_daemon_clear", "flaps"),
        ("on_executor_clear",),
        ("on_daemon_error", "flaps", "run", errors[1]),
        ("on_daemon_fault", "flaps"),
        ("on_executor_fault", "flaps"),
        ("on_daemon_start", "flaps", 2),
        ("on_daemon_clear", "flaps"),
        ("on_executor_clear",),
        ("on_daemon_stop", "flaps"),
        ("on_executor_down",),
    ]


async def test_an_error_that_ends_the_supervisor_is_told_as_its_end() -> None:
    notes = Notes()

    async def breaks(ctx: Context) -> None:
        raise RuntimeError("broken")

    with pytest.raises(ExceptionGroup) as raised:
        await observed(notes, breaks)
    assert notes.told[-1] == ("on_executor_error", raised.value)


async def test_each_cycle_is_measured_against_its_grid() -> None:
    notes = Notes()
    bodies = iter([0.05, 0.25, 0.02, 0.0])

    async def loop(ctx: Context) -> None:
        async for _ in ctx.clock.every(0.1):
            if (body_s := next(bodies, None)) is None:
                return
            await ctx.clock.sleep(body_s)

    await observed(notes, loop)
    ms = 1_000_000
    assert [(cycle.due_ns // ms, cycle.took_ns // ms, cycle.skipped_slots) for cycle in notes.cycles] == [
        (100, 50, 0),
        (200, 250, 0),
        (500, 20, 2),
        (600, 0, 0),
        (700, 0, 0),
    ]
    assert [cycle.actual_period_ns for cycle in notes.cycles] == [None, 100 * ms, 300 * ms, 100 * ms, 100 * ms]
    assert [cycle.jitter_ns for cycle in notes.cycles] == [None, 0, 200 * ms, 0, 0]
    assert {cycle.lateness_ns for cycle in notes.cycles} == {0}
    assert {cycle.period_ns for cycle in notes.cycles} == {100 * ms}
    assert notes.told[2:5] == [
        ("pre_execute", "loop", 100 * ms),
        ("post_execute", "loop", 100 * ms, 50 * ms, True),
        ("on_cycle", "loop", 0),
    ]


async def test_a_body_that_raises_ends_its_cycle_as_failed() -> None:
    notes = Notes()

    async def loop(ctx: Context) -> None:
        async for _ in ctx.clock.every(0.1, first="now"):
            raise RuntimeError("broken")

    await observed(notes, loop, on_error="ignore")
    hooks = [told[0] for told in notes.told]
    assert hooks[2:5] == ["pre_execute", "post_execute", "on_daemon_error"]
    assert notes.told[3][-1] is False
    assert notes.cycles == []


async def test_cycles_belong_to_the_daemon_in_whose_tasks_they_run() -> None:
    notes = Notes()

    async def twice(ctx: Context, period: float) -> None:
        ticks = 0
        async for _ in cooperative_every(ctx, period):
            ticks += 1
            if ticks == 2:
                return

    clock = SimClock()
    async with Supervisor(clock=clock, observer=notes) as sup:
        sup.spawn(twice, 0.1, name="a")
        sup.spawn(twice, 0.15, name="b")
        await clock.run()
    assert [told[1] for told in notes.told if told[0] == "pre_execute"] == ["a", "b", "a", "b"]
    assert current_watch.get() is None


async def test_a_hook_that_raises_is_logged_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Observer):
        def on_daemon_start(self, daemon: str, attempt: int) -> None:
            raise ZeroDivisionError

    seen = []

    async def works(ctx: Context) -> None:
        seen.append(ctx.name)

    with caplog.at_level(logging.ERROR, logger="geartrain.observer"):
        await observed(Broken(), works)
    assert seen == ["works"]
    assert "an observer's hook raised" in caplog.text
