"""What a supervisor tells of budgets is in the slots of its process, and is a fault for whoever looks from outside."""

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from geartrain import Context, SimClock, Supervisor, daemon
from geartrain.engine.written import Written
from geartrain.ports.process_table import boot_id
from geartrain.ports.slots import SlotFile, SlotReader, Slots
from geartrain.rules.faults import FaultCode
from geartrain.rules.health import Condition, Health, Limits, classify, classify_process, health
from geartrain.rules.readings import DaemonReading, Held, Poll
from geartrain.rules.slots import About
from geartrain.rules.symptoms import symptoms

if sys.platform != "linux":
    pytest.skip("slots are for pipelines in many processes, which need Linux", allow_module_level=True)

MS = 1_000_000


@daemon
async def loop(ctx: Context, *took_s: float, handler_takes_s: float | None = None) -> None:
    """Bodies take what is said, and after that nothing."""

    async def instead() -> None:
        await ctx.clock.sleep(handler_takes_s or 0.0)

    left = list(took_s)
    async for _ in ctx.clock.every(0.020, instead=None if handler_takes_s is None else instead):
        if left:
            await ctx.clock.sleep(left.pop(0))


class Program:
    """Two daemons, `a` with a budget of 1 ms, in a process with one of 10 ms; and who looks at it from outside."""

    def __init__(self, path: Path) -> None:
        self.file = SlotFile.make(path, About(process="p", daemons=("a", "b"), boot=boot_id()), generation=1)
        self.file.born(os.getpid())
        assert self.file.fd is not None
        written = Written(Slots(os.dup(self.file.fd)))
        written.has_budgets(10 * MS, {"a": 1 * MS, "b": None})
        written.strike()
        self.clock = SimClock()
        self.supervisor = Supervisor(clock=self.clock, observer=written, budget=0.010)
        self._reader = SlotReader(path)

    async def ticks(self, count: int) -> Poll:
        await self.clock.advance(count * 0.020)
        return self._reader.poll()

    def close(self) -> None:
        self._reader.close()
        self.file.handed_over()


@asynccontextmanager
async def running(path: Path, a: tuple[float, ...], b: tuple[float, ...] = (), **said: float) -> AsyncIterator[Program]:
    program = Program(path)
    async with program.supervisor as sup:
        sup.add(loop(*a, **said), name="a", budget=0.001)
        sup.add(loop(*b), name="b")
        yield program
        await sup.stop(grace=0)
    program.close()


def codes(poll: Poll) -> dict[str, str]:
    return {symptom.key.code: symptom.said for symptom in symptoms(poll, time.monotonic_ns(), Limits())}


def conditions(poll: Poll) -> list[Condition]:
    now_ns = time.monotonic_ns()
    return [classify(poll.process, slot, now_ns, Limits()) for slot in poll.daemons]


def of(poll: Poll, name: str) -> DaemonReading:
    return next(slot for slot in poll.daemons if slot.daemon == name)


async def test_a_daemon_over_its_budget_is_a_fault_with_what_it_took_and_may_take(tmp_path: Path) -> None:
    async with running(tmp_path / "slots", (0.003,)) as program:
        poll = await program.ticks(5)
        a = of(poll, "a")
        assert (a.held, a.overruns, a.executions) == (Held.OVER_BUDGET, 1, 1)
        assert (a.held_took_ns, a.budget_ns) == (3 * MS, 1 * MS)
        assert codes(poll) == {FaultCode.TASK_BUDGET_EXCEEDED: "its body took 3 ms, and may take 1 ms"}
        assert conditions(poll)[0] is Condition.FAULTED
        assert health(Condition.FAULTED) is Health.ERROR
        assert (poll.process.budget_ns, poll.process.fault_since_ns) == (10 * MS, 0)


async def test_a_cleared_fault_lasts_no_more_and_what_was_counted_stays(tmp_path: Path) -> None:
    async with running(tmp_path / "slots", (0.003,)) as program:
        await program.ticks(2)
        program.supervisor.clear_fault("a")
        poll = await program.ticks(3)
        a = of(poll, "a")
        assert (a.held, a.held_since_ns, a.overruns, a.executions) == (Held.NOT, 0, 1, 4)
        assert Condition.FAULTED not in conditions(poll)
        (symptom,) = symptoms(poll, time.monotonic_ns(), Limits())
        assert (symptom.lasts, symptom.total) == (False, 1)
        # Not what a body took that was quick enough.
        assert symptom.said == "its body took 3 ms, and may take 1 ms"


async def test_a_process_over_its_budget_is_one_fault_and_who_is_held_with_it_has_none(tmp_path: Path) -> None:
    async with running(tmp_path / "slots", (), (0.015,)) as program:
        poll = await program.ticks(3)
        assert [slot.held for slot in poll.daemons] == [Held.WITH_ITS_PROCESS] * 2
        said = "a body took 15 ms, and may take 10 ms in this process"
        assert codes(poll) == {FaultCode.EXECUTOR_BUDGET_EXCEEDED: said}
        assert classify_process(poll, time.monotonic_ns(), Limits()) is Condition.FAULTED
        program.supervisor.clear_executor_fault()
        poll = await program.ticks(1)
        assert [slot.held for slot in poll.daemons] == [Held.NOT] * 2
        assert codes(poll) == {}
        assert classify_process(poll, time.monotonic_ns(), Limits()) is Condition.RUNNING


async def test_a_handler_that_overruns_while_its_process_is_held_makes_the_fault_its_own(tmp_path: Path) -> None:
    async with running(tmp_path / "slots", (), (0.015,), handler_takes_s=0.002) as program:
        poll = await program.ticks(4)
        a = of(poll, "a")
        assert (a.held, a.held_took_ns) == (Held.OVER_BUDGET, 2 * MS)
        program.supervisor.clear_executor_fault()
        poll = await program.ticks(1)
        assert [slot.held for slot in poll.daemons] == [Held.OVER_BUDGET, Held.NOT]
