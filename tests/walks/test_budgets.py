"""Who takes too long is held in its process, is seen held from outside, and goes on when somebody clears it."""

from collections.abc import Callable
from typing import Literal

import anyio
import anyio.to_thread
import pytest

from geartrain import Pipeline
from geartrain.engine.control import AskClear, Control, ask
from geartrain.engine.launcher import Launcher
from geartrain.errors import BadValue
from geartrain.ports.run_memory import RunMemory
from geartrain.rules.readings import DaemonReading, Held
from geartrain.rules.run_memory import RunReading
from tests.walks.beating import Beating, Overruns

PATIENCE_S = 30

# More than a busy machine makes of a body that takes nothing.
BUDGET_S, TAKES_S = 1.0, 1.5

Loop = Literal["asyncio", "trio"]


def daemon(reading: RunReading, name: str) -> DaemonReading:
    (found,) = (daemon for _, daemon in reading.daemons() if daemon.daemon == name)
    return found


async def look_until(memory: RunMemory, wanted: Callable[[RunReading], bool]) -> RunReading:
    while not wanted(reading := memory.look()):
        await anyio.sleep(0.01)
    return reading


async def test_who_is_over_budget_is_held_with_its_process_until_it_is_cleared(anyio_backend: Loop) -> None:
    pipeline = Pipeline("budgets", backend=anyio_backend)
    pipeline.add(Overruns, name="slow", process="both", budget=BUDGET_S, config={"takes_s": TAKES_S})
    pipeline.add(Beating, name="mate", process="both", config={"cycles": 10**9})
    pipeline.process("both", budget=BUDGET_S)
    pipeline.add(Beating, name="apart", config={"cycles": 10**9})
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            await tasks.start(Control(launcher, lambda: None).serve)
            tasks.start_soon(launcher.live)
            await launcher.gate.wait()
            memory = RunMemory(launcher.brief.state)
            held = await look_until(memory, lambda now: daemon(now, "mate").held == Held.WITH_ITS_PROCESS)
            slow = daemon(held, "slow")
            assert (slow.held, slow.overruns, slow.executions) == (Held.OVER_BUDGET, 1, 1)
            assert slow.held_took_ns >= TAKES_S * 1e9
            assert slow.held_since_ns > 0
            assert slow.budget_ns == BUDGET_S * 1e9
            (process,) = (poll.process for poll in held.processes if poll.process.process == "both")
            assert (process.budget_ns, process.fault_took_ns) == (BUDGET_S * 1e9, slow.held_took_ns)
            assert daemon(held, "mate").budget_ns == 0
            # What is in another process is not concerned.
            assert daemon(held, "apart").held == Held.NOT

            await anyio.to_thread.run_sync(ask, launcher.run.folder, AskClear("slow"))
            free = await look_until(memory, lambda now: daemon(now, "slow").executions > 1)
            assert (daemon(free, "slow").held, daemon(free, "slow").overruns) == (Held.NOT, 1)
            beats = daemon(held, "mate").executions
            free = await look_until(memory, lambda now: daemon(now, "mate").executions > beats)
            assert daemon(free, "mate").held == Held.NOT
            (process,) = (poll.process for poll in free.processes if poll.process.process == "both")
            assert (process.fault_since_ns, process.fault_took_ns) == (0, 0)

            with pytest.raises(BadValue, match="daemon 'slow' is not held"):
                await anyio.to_thread.run_sync(ask, launcher.run.folder, AskClear("slow"))
            memory.close()
            await launcher.end_now()
            tasks.cancel_scope.cancel()
