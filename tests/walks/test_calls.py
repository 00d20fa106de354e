"""Request and reply between real processes: real deaths, and a ledger of what came of each call."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from geartrain import Pipeline, RestartPolicy
from geartrain.engine.launcher import Launcher
from tests.walks.calling import Asker, Handler, Mortal, Server

PATIENCE_S = 30

Loop = Literal["asyncio", "trio"]


class Ledger:
    """What an asker has written down, by number."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger"

    @property
    def entries(self) -> dict[str, str]:
        return dict(line.split(" ", 1) for line in self.path.read_text().splitlines())


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


async def run(pipeline: Pipeline, during: Callable[[Launcher], Any] | None = None) -> Launcher:
    launcher = Launcher(pipeline)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            if during is not None:
                tasks.start_soon(during, launcher)
            await launcher.live()
            tasks.cancel_scope.cancel()
    return launcher


def asking(loop: Loop, ledger: Ledger, *, total: int, server: dict[str, Any], **asker: Any) -> Pipeline:
    """One that asks, and a server; the server runs the other loop."""
    pipeline = Pipeline("asking", backend=loop)
    config: dict[str, object] = {"ledger": str(ledger.path), "total": total} | asker
    client = pipeline.add(Asker, name="asker", config=config)
    said: dict[str, object] = {key: server.pop(key) for key in ("at", "does", "most") if key in server}
    served = pipeline.add(Server, name="server", config=said, **{"on_error": "restart"} | server)
    pipeline.connect(client.svc, served.calls, maxsize=8)
    if "process" not in server:
        pipeline.process("server", backend="trio" if loop == "asyncio" else "asyncio")
    return pipeline


async def test_calls_of_several_tasks_are_answered_each_to_its_own(anyio_backend: Loop, ledger: Ledger) -> None:
    launcher = await run(asking(anyio_backend, ledger, total=100, server={}, at_once=10))
    assert ledger.entries == {str(number): "answered" for number in range(100)}
    counted = {row.channel: (row.writer, row.accepted, row.stable) for row in launcher.ledger.rows()}
    assert counted == {"svc": ("asker", 100, 100), "svc.replies": ("server", 100, 100)}


async def test_daemons_of_one_process_call_each_other_too(anyio_backend: Loop, ledger: Ledger) -> None:
    await run(asking(anyio_backend, ledger, total=50, server={"process": "asker", "at": 20}, at_once=4))
    assert set(ledger.entries) == {str(number) for number in range(50)}
    assert ledger.entries["20"] == "again"


@pytest.mark.parametrize("does", ["raise", "die"])
async def test_a_call_that_its_server_died_with_is_answered_by_the_next_one(
    anyio_backend: Loop, ledger: Ledger, does: str
) -> None:
    await run(asking(anyio_backend, ledger, total=100, server={"at": 50, "does": does}, at_once=4))
    assert set(ledger.entries) == {str(number) for number in range(100)}
    assert ledger.entries["50"] == "again"
    assert set(ledger.entries.values()) == {"answered", "again"}


async def test_a_request_that_kills_every_server_fails_its_call_and_the_others_are_answered(
    anyio_backend: Loop, ledger: Ledger
) -> None:
    policy = RestartPolicy(base=0.01, max_retries=10)
    server = {"at": 3, "does": "die", "most": 9, "restart": policy}
    await run(asking(anyio_backend, ledger, total=6, server=server))
    outcomes = ledger.entries
    assert outcomes.pop("3").startswith(":ServerDied:")
    assert set(outcomes) == {"0", "1", "2", "4", "5"}


async def test_a_call_that_takes_too_long_is_withdrawn_and_the_next_ones_are_answered(
    anyio_backend: Loop, ledger: Ledger
) -> None:
    await run(asking(anyio_backend, ledger, total=6, server={"at": 2, "does": "dawdle"}, timeout_s=0.2))
    assert ledger.entries == {str(n): "CallTimeout" if n == 2 else "answered" for n in range(6)}


async def test_what_the_handler_of_a_server_raises_travels_to_the_caller(anyio_backend: Loop, ledger: Ledger) -> None:
    pipeline = Pipeline("handled", backend=anyio_backend)
    client = pipeline.add(Asker, name="asker", config={"ledger": str(ledger.path), "total": 3})
    server = pipeline.add(Handler, name="server")
    pipeline.connect(client.svc, server.calls)
    launcher = await run(pipeline)
    assert ledger.entries == {"0": "answered", "1": "server:OSError:the lens is dirty:True", "2": "answered"}
    assert launcher.reports == []


@pytest.mark.parametrize(
    "server",
    [
        {"does": "leave"},
        {"does": "raise", "on_error": "ignore"},
        {"does": "die", "on_error": "ignore"},
    ],
    ids=lambda server: server["does"],
)
async def test_when_the_server_is_gone_for_good_calls_fail_at_once(
    anyio_backend: Loop, ledger: Ledger, server: dict[str, Any]
) -> None:
    await run(asking(anyio_backend, ledger, total=9, server={"at": 4} | server, at_once=2))
    gone = {number for number, outcome in ledger.entries.items() if outcome == "ServerGone"}
    assert len(ledger.entries) == 9
    assert {"4", "6", "7", "8"} <= gone
    assert not gone & {"0", "1", "2"}


async def test_a_client_that_is_started_again_never_gets_the_answers_to_its_former_life(
    anyio_backend: Loop, ledger: Ledger, tmp_path: Path
) -> None:
    pipeline = Pipeline("mortal", backend=anyio_backend)
    config = {"ledger": str(ledger.path), "total": 20, "lives": str(tmp_path / "lives")}
    client = pipeline.add(Mortal, name="client", on_error="restart", config=config)
    other = pipeline.add(Asker, name="other", config={"ledger": str(tmp_path / "other"), "total": 20})
    server = pipeline.add(
        Server, name="server", config={"at": 100, "does": "outlive", "lives": str(tmp_path / "lives")}
    )
    pipeline.connect(client.svc, server.calls, name="first")
    pipeline.connect(other.svc, server.calls, name="second")
    await run(pipeline)
    outcomes = ledger.entries
    assert int(outcomes.pop("late")) > 0
    assert outcomes == {str(number): str(number) for number in range(20)}
