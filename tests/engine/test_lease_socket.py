"""An arbiter beside its pipeline: commands ask it over a socket while it writes the journal."""

import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from geartrain import LeaseRefused, Supervisor
from geartrain.actors.arbiter import LeaseArbiter
from geartrain.engine.lease_socket import SOCKET, Asker
from geartrain.engine.leases import Leases, open_leases
from geartrain.faces import lease_calls
from geartrain.faces.lease import held, story
from geartrain.rules.lease_words import Acquire, Claim, Grant, Note, Open, Opened

Loop = Literal["asyncio", "trio"]
both_loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])
S = 1_000_000_000
LEFT = Claim("workcell/left")


def beside(loop: Loop, folder: Path, body: Callable[[Leases], Awaitable[None]]) -> None:
    """An arbiter with leases for one daemon, for as long as the body takes."""

    async def main() -> None:
        with anyio.fail_after(60):
            async with Supervisor() as supervisor:
                pair = open_leases(name="daemon")
                supervisor.add(LeaseArbiter([pair.client], directory=folder), name="arbiter")
                while (asker := Asker.of(folder)) is None:
                    await anyio.lowlevel.checkpoint()
                asker.close()
                await body(pair.leases)
                await supervisor.stop()

    anyio.run(main, backend=loop)


async def asked(call: Callable[..., object], *words: object, **more: object) -> object:
    return await anyio.to_thread.run_sync(partial(call, *words, **more), abandon_on_cancel=True)


@both_loops
def test_a_command_whose_connection_has_ended_is_said_again_by_its_name_and_has_one_lease(
    loop: Loop, tmp_path: Path
) -> None:
    """While it waits, and after it was granted."""

    async def body(leases: Leases) -> None:
        async with leases.hold("workcell"):
            dies = Asker.of(tmp_path)
            assert dies is not None
            opened = await asked(dies.answer, Open("a secret", "dies"), 10)
            assert isinstance(opened, Opened)
            word = Acquire(opened.session, 1, (LEFT,), 60 * S, 50 * S, "ttl", request="weld 1")
            dies.tell(word)
            dies.close()
        grants = [
            await asked(lease_calls.acquire, tmp_path, (LEFT,), ttl_ns=60 * S, wait_ns=50 * S, request="weld 1")
            for _ in range(2)
        ]
        tokens = {grant.token for grant in grants if isinstance(grant, Grant)}
        assert [one.token for one in held(tmp_path)] == list(tokens)

    beside(loop, tmp_path, body)


@both_loops
def test_daemons_and_commands_keep_each_other_out(loop: Loop, tmp_path: Path) -> None:
    async def body(leases: Leases) -> None:
        async with leases.hold("workcell"):
            with pytest.raises(LeaseRefused) as refused:
                await asked(lease_calls.acquire, tmp_path, (LEFT,), ttl_ns=S)
            assert refused.value.code == "conflict"
        grant = await asked(lease_calls.acquire, tmp_path, (LEFT,), ttl_ns=60 * S)
        assert isinstance(grant, Grant)
        with pytest.raises(LeaseRefused):
            async with leases.hold("workcell"):
                raise AssertionError
        await asked(lease_calls.renew, tmp_path, grant.lease, grant.token)
        with pytest.raises(LeaseRefused) as refused:
            await asked(lease_calls.renew, tmp_path, grant.lease, grant.token + 1)
        assert refused.value.code == "not_holder"
        await asked(lease_calls.release, tmp_path, grant.lease, grant.token)
        async with leases.hold("workcell"):
            pass

    beside(loop, tmp_path, body)


@both_loops
def test_a_lease_of_a_command_outlives_the_command_and_the_arbiter(loop: Loop, tmp_path: Path) -> None:
    grants = []

    async def body(leases: Leases) -> None:
        grants.append(await asked(lease_calls.acquire, tmp_path, (LEFT,), ttl_ns=60 * S))

    beside(loop, tmp_path, body)
    (grant,) = grants
    assert isinstance(grant, Grant)
    assert [one.lease for one in held(tmp_path)] == [grant.lease]
    lease_calls.release(tmp_path, grant.lease, grant.token)
    assert held(tmp_path) == []


@both_loops
def test_a_command_waits_in_the_queue_of_the_arbiter(loop: Loop, tmp_path: Path) -> None:
    async def body(leases: Leases) -> None:
        granted: list[object] = []

        async def wait() -> None:
            granted.append(await asked(lease_calls.acquire, tmp_path, (LEFT,), ttl_ns=S, wait_ns=50 * S))

        async with anyio.create_task_group() as tasks:
            async with leases.hold("workcell"):
                tasks.start_soon(wait)
                # It is in the queue when others are refused what is free because of it.
                while not await _is_refused(leases, "workcell/left"):
                    await anyio.lowlevel.checkpoint()
                assert granted == []
        assert len(granted) == 1

    beside(loop, tmp_path, body)


async def _is_refused(leases: Leases, region: str) -> bool:
    try:
        async with leases.hold(region):
            return False
    except LeaseRefused:
        return True


@both_loops
def test_what_is_noted_reaches_the_audit(loop: Loop, tmp_path: Path) -> None:
    async def body(leases: Leases) -> None:
        await asked(lease_calls.note, tmp_path, lambda session: Note(session, "intent", "welder 3"))

    beside(loop, tmp_path, body)
    assert [line.said for line in story(tmp_path) if line.what == "intent"] == ["welder 3"]


@both_loops
def test_nonsense_over_the_socket_is_refused_and_harms_nobody(loop: Loop, tmp_path: Path) -> None:
    def nonsense() -> list[object]:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(30)
            asking.connect(str(tmp_path / SOCKET))
            asking.sendall(b'["what", "is", "this"]\n')
            answer: list[object] = json.loads(asking.makefile().readline())
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(30)
            asking.connect(str(tmp_path / SOCKET))
            with suppress(ConnectionError):
                asking.sendall(b"x" * 1_000_000)
            return answer

    async def body(leases: Leases) -> None:
        answer = await asked(nonsense)
        assert isinstance(answer, list)
        assert answer[0] == "refusal"
        assert answer[3] == "bad_request"
        async with leases.hold("workcell"):
            pass

    beside(loop, tmp_path, body)
