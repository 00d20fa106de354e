"""A body that takes longer than it may is the last, until somebody clears that: on both loops, in virtual time."""

import logging
from typing import Any

import pytest

from geartrain import Context, NotHeld, Observer, RestartPolicy, SimClock, Supervisor, UnknownDaemon, daemon
from geartrain.errors import BadType, BadValue
from geartrain.recipes import cooperative_every
from geartrain.rules.budgets import HeldFor

MS = 1_000_000


class Notes(Observer):
    """Writes down the hooks that are about budgets, or all of them."""

    WORDS = ("overrun", "held", "released")

    def __init__(self, *, everything: bool = False) -> None:
        self._everything = everything
        self.told: list[tuple[Any, ...]] = []
        self.cycles: list[int] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith(("on_", "pre_", "post_")):
            return super().__getattribute__(name)
        if name == "on_cycle":
            return lambda _, cycle: self.cycles.append(cycle.index)
        wanted = self._everything or any(word in name for word in self.WORDS)
        return lambda *facts: self.told.append((name, *facts)) if wanted else None


class Program:
    """Periodic daemons whose bodies take what they are told, every 5 ms."""

    def __init__(self, *, budget: float | None = None, everything: bool = False) -> None:
        self.clock = SimClock()
        self.notes = Notes(everything=everything)
        self.supervisor = Supervisor(clock=self.clock, observer=self.notes, budget=budget)
        self.entered: dict[str, list[float]] = {}
        self.handled: dict[str, list[float]] = {}

    def add(
        self,
        name: str,
        *took_s: float,
        budget: float | None = None,
        handler_takes_s: float | None = None,
        cooperative: bool = False,
    ) -> None:
        """Bodies take what is said, and after that nothing."""
        entered, handled, left = self.entered.setdefault(name, []), self.handled.setdefault(name, []), list(took_s)

        @daemon(name=name)
        async def loop(ctx: Context) -> None:
            async def instead() -> None:
                handled.append(ctx.clock.now())
                await ctx.clock.sleep(handler_takes_s or 0.0)

            handler = None if handler_takes_s is None else instead
            ticks = cooperative_every(ctx, 0.005) if cooperative else ctx.clock.every(0.005, instead=handler)
            async for _ in ticks:
                entered.append(ctx.clock.now())
                if left:
                    await ctx.clock.sleep(left.pop(0))

        self.supervisor.add(loop(), budget=budget)

    async def __aenter__(self) -> "Program":
        await self.supervisor.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.supervisor.stop(grace=0)
        await self.supervisor.__aexit__(*error)

    async def ticks(self, count: int) -> None:
        await self.clock.advance(count * 0.005)


async def test_one_overrun_is_the_last_body_and_is_told_once() -> None:
    program = Program()
    program.add("ctrl", 0.003, budget=0.001)
    async with program:
        await program.ticks(5)
        assert program.entered["ctrl"] == [0.005]
        assert program.notes.told == [
            ("on_overrun", "ctrl", 3 * MS, 1 * MS),
            ("on_daemon_held", "ctrl", 3 * MS, 1 * MS),
        ]
        health = program.supervisor.snapshot()["ctrl"]
        assert (health.overruns, health.passed_ticks) == (1, 4)
        assert health.held is not None
        assert (health.held.why, health.held.took_ns, health.held.since_ns) == (HeldFor.ITS_BUDGET, 3 * MS, 8 * MS)


async def test_a_body_of_exactly_its_budget_is_no_overrun() -> None:
    program = Program(budget=0.001)
    program.add("ctrl", 0.001, 0.001, budget=0.001)
    async with program:
        await program.ticks(4)
    assert len(program.entered["ctrl"]) == 4
    assert program.notes.told == []


async def test_a_cleared_daemon_goes_on_at_its_next_tick_and_its_count_goes_on_too() -> None:
    program = Program()
    program.add("ctrl", 0.003, 0.003, budget=0.001)
    async with program:
        await program.ticks(3)
        program.supervisor.clear_fault("ctrl")
        await program.ticks(3)
        assert program.entered["ctrl"] == [0.005, 0.020]
        assert [told[0] for told in program.notes.told] == [
            "on_overrun",
            "on_daemon_held",
            "on_daemon_released",
            "on_overrun",
            "on_daemon_held",
        ]
        assert program.supervisor.snapshot()["ctrl"].overruns == 2


async def test_the_handler_runs_at_the_ticks_of_the_body_and_its_overruns_count_without_another_fault() -> None:
    program = Program()
    program.add("ctrl", 0.003, budget=0.001, handler_takes_s=0.002)
    async with program:
        await program.ticks(4)
        assert program.entered["ctrl"] == [0.005]
        assert program.handled["ctrl"] == [0.010, 0.015, 0.020]
        assert [told[0] for told in program.notes.told] == ["on_overrun", "on_daemon_held", "on_overrun", "on_overrun"]
        assert program.supervisor.snapshot()["ctrl"].overruns == 3


async def test_a_handler_is_measured_like_the_body_in_whose_place_it_runs() -> None:
    program = Program(everything=True)
    program.add("ctrl", 0.003, budget=0.001, handler_takes_s=0.001)
    async with program:
        await program.ticks(3)
        assert [told for told in program.notes.told if told[0] == "post_execute"] == [
            ("post_execute", "ctrl", 5 * MS, 3 * MS, True),
            ("post_execute", "ctrl", 10 * MS, 1 * MS, True),
        ]


async def test_the_budget_of_the_executor_is_for_each_body_and_holds_everybody_at_their_own_next_tick() -> None:
    program = Program(budget=0.010)
    program.add("a", 0.015)
    program.add("b")
    async with program:
        await program.ticks(3)
        assert program.supervisor.snapshot()["b"].held is None
        # At 20 ms the body of `a` has just ended; `b` was there a moment before, or comes now.
        await program.ticks(2)
        assert len(program.entered["a"]) == 1
        held = program.supervisor.snapshot()["b"].held
        assert held is not None
        assert (held.why, held.daemon, held.took_ns) == (HeldFor.ITS_EXECUTOR, "a", 15 * MS)
        assert [told[0] for told in program.notes.told].count("on_executor_held") == 1
        assert ("on_executor_held", "a", 15 * MS, 10 * MS) in program.notes.told
        assert "on_daemon_held" not in [told[0] for told in program.notes.told]
        assert {told[1] for told in program.notes.told if told[0] == "on_daemon_held_with_executor"} == {"a", "b"}


async def test_a_clear_of_the_executor_frees_only_those_who_were_held_with_it() -> None:
    program = Program(budget=0.010)
    program.add("a", 0.015, budget=0.001)
    program.add("b")
    async with program:
        await program.ticks(5)
        told = [told[0] for told in program.notes.told]
        assert told[:3] == ["on_overrun", "on_daemon_held", "on_executor_held"]
        del program.notes.told[:]
        before = len(program.entered["b"])
        program.supervisor.clear_executor_fault()
        assert program.notes.told == [("on_daemon_released", "b"), ("on_executor_released",)]
        await program.ticks(2)
        assert len(program.entered["b"]) == before + 2
        assert len(program.entered["a"]) == 1
        program.supervisor.clear_fault("a")
        await program.ticks(2)
        assert len(program.entered["a"]) == 3


async def test_a_handler_that_overruns_makes_the_fault_its_own() -> None:
    program = Program(budget=0.010)
    program.add("a", 0.015)
    program.add("b", budget=0.001, handler_takes_s=0.002)
    async with program:
        await program.ticks(7)
        program.supervisor.clear_executor_fault()
        assert ("on_daemon_held", "b", 2 * MS, 1 * MS) not in program.notes.told
        assert ("on_daemon_released", "b") not in program.notes.told
        health = program.supervisor.snapshot()["b"]
        assert health.held is not None
        assert health.held.why is HeldFor.ITS_BUDGET


async def test_a_clear_of_nothing_is_refused_and_told_nobody() -> None:
    program = Program(budget=0.010)
    program.add("ctrl", budget=0.001)
    async with program:
        await program.ticks(2)
        with pytest.raises(NotHeld, match="'ctrl' is not held"):
            program.supervisor.clear_fault("ctrl")
        with pytest.raises(UnknownDaemon, match="did you mean 'ctrl'"):
            program.supervisor.clear_fault("ctlr")
        with pytest.raises(NotHeld, match="the executor is not held"):
            program.supervisor.clear_executor_fault()
        assert not issubclass(NotHeld, UnknownDaemon)
        await program.ticks(1)
    assert program.notes.told == []


async def test_the_numbers_of_cycles_count_the_ticks_that_passed() -> None:
    program = Program()
    program.add("ctrl", 0.003, budget=0.001)
    async with program:
        await program.ticks(3)
        program.supervisor.clear_fault("ctrl")
        await program.ticks(3)
    assert program.notes.cycles[:3] == [0, 3, 4]


async def test_a_held_daemon_that_is_asked_to_stop_leaves_its_loop_by_itself() -> None:
    program = Program()
    program.add("plain", 0.003, budget=0.001)
    program.add("cooperative", 0.003, budget=0.001, cooperative=True)
    async with program:
        await program.ticks(3)
        program.supervisor.signal_stop()
        await program.ticks(1)
        assert {health.state for health in program.supervisor.snapshot().values()} == {"stopped"}
    assert [len(entered) for entered in program.entered.values()] == [1, 1]


async def test_a_body_that_was_left_is_not_judged() -> None:
    """What came after the loop would be taken for a part of it."""
    notes, clock = Notes(), SimClock()

    @daemon
    async def leaves(ctx: Context) -> None:
        async for _ in ctx.clock.every(0.005):
            break
        await ctx.clock.sleep(1)

    async with Supervisor(clock=clock, observer=notes) as sup:
        sup.add(leaves(), budget=0.001)
        await clock.run()
    assert notes.told == []


async def test_a_new_life_of_a_daemon_is_held_as_the_one_before() -> None:
    notes, clock = Notes(), SimClock()
    entered = []

    @daemon
    async def flaps(ctx: Context) -> None:
        async def instead() -> None:
            if ctx.supervisor.snapshot()["flaps"].restart_count == 0:
                raise RuntimeError("the handler broke")

        async for _ in ctx.clock.every(0.005, instead=instead):
            entered.append(ctx.clock.now())
            await ctx.clock.sleep(0.003)

    async with Supervisor(clock=clock, observer=notes) as sup:
        sup.add_factory(flaps, on_error="restart", restart=RestartPolicy(base=0.1), budget=0.001)
        await clock.advance(1)
        assert sup.snapshot()["flaps"].restart_count == 1
        assert entered == [0.005]
        await sup.stop(grace=0)


async def test_budgets_need_no_observer_and_are_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock, entered = SimClock(), []

    @daemon(name="ctrl")
    async def loop(ctx: Context) -> None:
        async for _ in ctx.clock.every(0.005):
            entered.append(ctx.clock.now())
            await ctx.clock.sleep(0.003)

    with caplog.at_level(logging.INFO, logger="geartrain"):
        async with Supervisor(clock=clock, budget=0.002) as sup:
            sup.add(loop(), budget=0.001)
            await clock.advance(0.025)
            sup.clear_fault("ctrl")
            await sup.stop(grace=0)
    assert entered == [0.005]
    assert "daemon 'ctrl' is held until its fault is cleared: a body took 3 ms, and may take 1 ms" in caplog.text
    assert "all daemons are held until the fault of the executor is cleared: a body of 'ctrl' took 3 ms" in caplog.text
    assert "daemon 'ctrl' is held no more" in caplog.text


async def test_without_budgets_nobody_is_guarded() -> None:
    clock, guards = SimClock(), []

    @daemon
    async def loop(ctx: Context) -> None:
        guards.append(ctx.clock.every(1)._guard)  # type: ignore[attr-defined]

    async with Supervisor(clock=clock, observer=Notes()) as sup:
        sup.add(loop())
        sup.add(loop(), name="guarded", budget=1)
        await clock.run()
    assert guards[0] is None
    assert guards[1] is not None


@pytest.mark.parametrize(
    ("budget", "error"), [(0, BadValue), (-1, BadValue), (float("inf"), BadValue), ("5ms", BadType), (True, BadType)]
)
async def test_a_budget_that_is_none_is_refused(budget: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="Supervisor budget"):
        Supervisor(budget=budget)

    @daemon
    async def idle(_: Context) -> None: ...

    with pytest.raises(error, match="daemon 'idle' budget"):
        Supervisor().add(idle(), budget=budget)


async def test_a_handler_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(BadType, match="every\\(\\) instead"):
        SimClock().every(1, instead="stop")  # type: ignore[arg-type]
