"""A run is shown over HTTP while it runs, by a daemon that serves the others and is none of them."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from geartrain import Pipeline, RestartPolicy
from geartrain.engine.launcher import Launcher
from geartrain.faces.gateway import WebObserver
from tests.faces.web_parts import Line
from tests.walks.beating import Beating
from tests.walks.parts import Sink, Source

PATIENCE_S = 30

Loop = Literal["asyncio", "trio"]


class Shown:
    """A run that goes on for ever, and where it is shown."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def ask(self, path: str) -> Any:
        """What is answered, as soon as somebody answers."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                try:
                    async with await anyio.connect_unix(self._path) as stream:
                        answer = await Line(stream).ask(f"/api/v1/{path}")
                        if answer.status == 200:
                            return answer.json()
                except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, AssertionError):
                    # It has just died, or has not begun.
                    pass
                await anyio.sleep(0.01)

    async def until(self, path: str, wanted: Any) -> Any:
        with anyio.fail_after(PATIENCE_S):
            while not wanted(found := await self.ask(path)):
                await anyio.sleep(0.01)
        return found

    @asynccontextmanager
    async def stream(self, path: str, headers: dict[str, str] | None = None) -> AsyncIterator[Line]:
        async with await anyio.connect_unix(self._path) as stream:
            line = Line(stream)
            await line.begin(f"/api/v1/{path}", headers=headers)
            assert (await line.head()).status == 200
            yield line

    async def kill(self, process: str) -> None:
        os.kill((await self.ask(f"components/{process}/data/executor"))["data"]["pid"], signal.SIGKILL)


@asynccontextmanager
async def shown(tmp_path: Path, backend: Loop, on_error: Literal["restart", "ignore"]) -> AsyncIterator[Shown]:
    pipeline = Pipeline("shown", backend=backend)
    source = pipeline.add(
        Source, name="source", process="eyes", config={"total": 10**9, "pause_s": 0.002}, on_error=on_error
    )
    sink = pipeline.add(Sink, name="sink", process="brain", config={"ledger": str(tmp_path / "ledger")})
    pipeline.connect(source.out, sink.frames)
    # Whatever becomes of the others, the run goes on.
    pipeline.add(Beating, name="keeper", process="brain", config={"cycles": 10**9})
    at = {"bind": f"unix:{tmp_path / 'shown'}", "poll": "20ms"}
    at_once = RestartPolicy(base=0.01, factor=1)
    pipeline.add(WebObserver, name="observer", process="observer", on_error="restart", restart=at_once, config=at)
    launcher = Launcher(pipeline)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(launcher.live)
        with anyio.fail_after(PATIENCE_S):
            await launcher.gate.wait()
        yield Shown(tmp_path / "shown")
        await launcher.end_now()


async def test_a_run_is_shown_with_everybody_in_it_and_the_observer_too(tmp_path: Path, anyio_backend: Loop) -> None:
    async with shown(tmp_path, anyio_backend, "restart") as run:
        live = await run.until("live?once=true", lambda live: live["channels"] and live["channels"][0]["taken"] > 10)
        graph = await run.ask("graph")
    assert [process["name"] for process in live["processes"]] == ["eyes", "brain", "observer"]
    assert {daemon["name"]: daemon["system"] for daemon in live["daemons"]} == {
        "source": False, "sink": False, "keeper": False, "observer": True,
    }  # fmt: skip
    assert (live["channels"][0]["writer"], live["channels"][0]["reader"]) == ("source", "sink")
    assert [(edge["source"], edge["target"]) for edge in graph["edges"]] == [("source", "sink")]
    assert all(process["online"] for process in live["processes"])


async def test_a_killed_process_is_told_to_who_listens_and_stays_readable(tmp_path: Path, anyio_backend: Loop) -> None:
    async with shown(tmp_path, anyio_backend, "ignore") as run:
        await run.until("live?once=true", lambda live: all(process["online"] for process in live["processes"]))
        async with run.stream("faults/stream") as stream:
            await run.kill("eyes")
            event = await stream.until("fault_raised")
        assert (event.data["fault"]["fault_code"], event.data["x-medkit"]["entity_id"]) == ("PROCESS_DEAD", "eyes")
        found = await run.ask("components/eyes/faults/PROCESS_DEAD")
        # That it has died is seen at once; how, is written down by who collects it.
        executor = await run.until("components/eyes/data/executor", lambda told: told["data"]["exit_code"] is not None)
    assert found["environment_data"]["snapshots"]
    assert (executor["data"]["online"], executor["data"]["exit_code"]) == (False, -signal.SIGKILL)


async def test_an_observer_that_was_killed_goes_on_and_tells_its_clients(tmp_path: Path, anyio_backend: Loop) -> None:
    async with shown(tmp_path, anyio_backend, "ignore") as run:
        await run.until("live?once=true", lambda live: all(process["online"] for process in live["processes"]))
        async with run.stream("faults/stream") as stream:
            await run.kill("eyes")
            last = await stream.until("fault_raised")
        before = (await run.ask("apps/source/data/liveness"))["data"]["starts"]
        await run.kill("observer")
        await run.until("components/observer/data/executor", lambda executor: executor["data"]["generation"] > 1)
        async with run.stream("faults/stream", {"last-event-id": str(last.id)}) as stream:
            assert (await stream.event()).event == "reset"
            again = await stream.until("fault_raised")
        after = (await run.ask("apps/source/data/liveness"))["data"]["starts"]
    assert last.id is not None
    assert again.id is not None
    assert again.id > last.id
    assert again.data["fault"]["fault_code"] == "PROCESS_DEAD"
    assert again.data["fault"]["occurrence_count"] == 1
    assert after == before


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.soak)])
async def test_however_often_the_observer_is_killed_nobody_else_notices(
    tmp_path: Path, anyio_backend: Loop, kills: int
) -> None:
    own, frames = "components/observer/data/executor", "apps/sink/data/channels"

    def only(found: Any) -> Any:
        (channel,) = found["data"].values()
        return channel

    async with shown(tmp_path, anyio_backend, "restart") as run:
        taken = only(await run.ask(frames))["taken"]
        for _ in range(kills):
            former = (await run.ask(own))["data"]["pid"]
            await run.kill("observer")
            await run.until(own, lambda found, former=former: found["data"]["pid"] not in (None, former))
            channel = await run.until(frames, lambda found, taken=taken: only(found)["taken"] > taken)
            taken = only(channel)["taken"]
        observer = (await run.ask(own))["data"]
        others = [(await run.ask(f"components/{name}/data/executor"))["data"] for name in ("eyes", "brain")]
        channel = only(await run.ask(frames))
    assert (observer["restarts"], observer["deaths"]) == (kills, kills)
    assert [(other["restarts"], other["generation"]) for other in others] == [(0, 1), (0, 1)]
    assert (channel["dropped"], channel["lost"]) == (0, 0)


async def test_while_the_observer_is_stopped_the_others_work_and_then_it_tells_all_of_it(
    tmp_path: Path, anyio_backend: Loop
) -> None:
    async with shown(tmp_path, anyio_backend, "restart") as run:
        ledger = tmp_path / "ledger"
        before = await run.until("apps/keeper/data/timing", lambda found: found["data"]["executions"] > 10)
        pid = (await run.ask("components/observer/data/executor"))["data"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            written = ledger.stat().st_size
            with anyio.fail_after(PATIENCE_S):
                while ledger.stat().st_size < written + 1000:
                    await anyio.sleep(0.01)
        finally:
            os.kill(pid, signal.SIGCONT)
        after = await run.ask("apps/keeper/data/timing")
    assert after["data"]["executions"] > before["data"]["executions"]
    assert after["data"]["overruns"] == 0
