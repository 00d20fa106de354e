"""Fenced channels: who may send, and what is received."""

import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from geartrain import (
    Context,
    Daemon,
    EndOfStream,
    Fenced,
    Leases,
    Pipeline,
    ReceiveStream,
    SendStream,
    WouldBlock,
    open_channel,
)
from geartrain.engine.ends import Channel
from geartrain.engine.fenced import FencedReceive, FencedSend, Fences
from geartrain.errors import PipelineFaulty
from geartrain.ports.clock import SimClock
from geartrain.recipes.coordination import select
from geartrain.rules.fence import Sealed

PATIENCE_S = 20


def _opened(maxsize: int, *, name: str) -> Channel[Any]:
    return open_channel(maxsize, name=name)


class Held(Leases):
    """Holds what it is told to hold."""

    def __init__(self, token: int) -> None:
        self.token = token

    def token_for(self, region: str) -> int:
        if not self.token:
            raise Fenced(f"{region!r} is fenced, and nothing is held here")
        return self.token


# -- the ends ---------------------------------------------------------------------------------------------------------


async def test_two_channels_of_one_region_have_one_gate(caplog: pytest.LogCaptureFixture) -> None:
    gate = Fences().gate("cell")
    old, new = (_opened(8, name=name) for name in ("old", "new"))
    slow: FencedReceive[str] = FencedReceive(old.recv, "old", gate)
    quick: FencedReceive[str] = FencedReceive(new.recv, "new", gate)
    for item in ("a", "b", "c"):
        old.send.send_nowait(Sealed(5, item))
    assert await slow.receive() == "a"
    new.send.send_nowait(Sealed(9, "x"))
    with caplog.at_level(logging.WARNING):
        assert await quick.receive() == "x"
        old.send.send_nowait(Sealed(9, "d"))
        assert await slow.receive() == "d"
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1, "each token is told of once"
    assert "channel 'old'" in told[0]
    assert "token 5 is too late for 'cell': 9 was here" in told[0]
    known = slow.statistics()
    assert (known.taken, known.refused, known.dropped, known.current_buffer_used) == (2, 2, 0, 0)


async def test_what_is_refused_frees_its_room_and_ends_nobodys_wait() -> None:
    gate = Fences().gate("cell")
    both = _opened(2, name="moves")
    end: FencedReceive[int] = FencedReceive(both.recv, "moves", gate)
    assert gate.lets_in(9, "another")
    leases = Held(5)
    out: FencedSend[int] = FencedSend(both.send, "moves", "cell", [leases])
    got: list[int] = []

    async def read() -> None:
        async for item in end:
            got.append(item)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            for number in range(10):
                await out.send(number)
            leases.token = 10
            await out.send(10)
            await out.aclose()
    assert (got, end.statistics().refused) == ([10], 10)


async def test_nobody_sees_what_is_refused_whichever_way_it_looks() -> None:
    gate = Fences().gate("cell")
    both, other = _opened(8, name="moves"), _opened(8, name="other")
    end: FencedReceive[int] = FencedReceive(both.recv, "moves", gate)
    gate.lets_in(9, "another")
    both.send.send_nowait(Sealed(5, 1))
    with pytest.raises(WouldBlock):
        end.receive_nowait()
    both.send.send_nowait(Sealed(5, 2))
    assert not end.has_item()
    both.send.send_nowait(Sealed(5, 3))
    other.send.send_nowait(7)
    with anyio.fail_after(PATIENCE_S):
        assert await select(end, other.recv) == (1, 7)
        both.send.send_nowait(Sealed(5, 4))
        both.send.send_nowait(Sealed(9, 5))
        assert await select(end, other.recv) == (0, 5)
    both.send.send_nowait(Sealed(5, 6))
    await both.send.aclose()
    with pytest.raises(EndOfStream):
        await end.receive()


async def test_what_is_done_by_mark_is_what_was_seen() -> None:
    """A refused item is never in hand: between two that are, nothing is done that the reader has not named."""
    gate = Fences().gate("cell")
    both: Channel[Any] = open_channel(8, ack="manual", name="moves")
    end: FencedReceive[int] = FencedReceive(both.recv, "moves", gate)
    both.send.send_nowait(Sealed(9, 1))
    assert await end.receive() == 1
    first = end.mark
    both.send.send_nowait(Sealed(5, 2))
    both.send.send_nowait(Sealed(9, 3))
    assert await end.receive() == 3
    assert end.statistics().stable == 0
    end.done(first)
    assert end.statistics().stable == 1
    end.done(end.mark)
    assert (end.statistics().stable, end.statistics().taken) == (2, 2)


async def test_who_holds_nothing_hears_so_before_it_waits_for_room() -> None:
    both = _opened(1, name="moves")
    leases = Held(5)
    out: FencedSend[int] = FencedSend(both.send, "moves", "cell", [leases])
    await out.send(1)
    leases.token = 0
    with pytest.raises(Fenced, match="channel 'moves': 'cell' is fenced, and nothing is held here"):
        await out.send(2)


async def test_a_lease_that_is_lost_while_there_was_no_room_sends_nothing() -> None:
    both = _opened(1, name="moves")
    leases = Held(5)
    out: FencedSend[int] = FencedSend(both.send, "moves", "cell", [leases])
    await out.send(1)
    refused: list[Fenced] = []

    async def send() -> None:
        try:
            await out.send(2)
        except Fenced as error:
            refused.append(error)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            leases.token = 0
            assert (await both.recv.receive()).item == 1
    assert len(refused) == 1
    assert both.recv.statistics().accepted == 1


def test_a_gate_that_is_made_anew_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    assert Fences(tmp_path).gate("cell").lets_in(9, "moves")
    beside = Fences(tmp_path).gate("cell")
    assert not beside.lets_in(8, "moves")
    assert beside.lets_in(9, "moves")
    assert Fences(tmp_path).gate("elsewhere").lets_in(1, "moves")


# -- in a pipeline ----------------------------------------------------------------------------------------------------

Body = Callable[[Leases, SendStream[int]], Coroutine[Any, Any, None]]
_bodies: list[Body] = []


class Arm(Daemon):
    def __init__(self, leases: Leases, moves: SendStream[int], body: int) -> None:
        self.leases = leases
        self.moves = moves
        self.body = body

    async def run(self, ctx: Context) -> None:
        await _bodies[self.body](self.leases, self.moves)


class NoLeases(Daemon):
    def __init__(self, moves: SendStream[int]) -> None:
        self.moves = moves

    async def run(self, ctx: Context) -> None: ...


_moved: list[int] = []


class Cell(Daemon):
    def __init__(self, moves: ReceiveStream[int]) -> None:
        self.moves = moves

    async def run(self, ctx: Context) -> None:
        async for number in self.moves:
            _moved.append(number)


def armed(body: Body, **settings: Any) -> Pipeline:
    _bodies.append(body)
    _moved.clear()
    pipeline = Pipeline("fenced")
    arm = pipeline.add(Arm, name="arm", config={"body": len(_bodies) - 1})
    cell = pipeline.add(Cell, name="cell")
    pipeline.connect(arm.moves, cell.moves, name="moves", fenced="workcell/left", **settings)
    return pipeline


async def simulate(pipeline: Pipeline) -> None:
    with anyio.fail_after(PATIENCE_S):
        await pipeline.run(in_process=True)


async def test_who_holds_the_region_or_more_of_it_sends() -> None:
    async def body(leases: Leases, moves: SendStream[int]) -> None:
        async with leases.hold("workcell/left"):
            await moves.send(1)
        async with leases.hold("workcell"):
            await moves.send(2)
        async with leases.hold("elsewhere", "workcell"):
            moves.send_nowait(3)

    await simulate(armed(body))
    assert _moved == [1, 2, 3]


async def test_who_does_not_is_told_what_it_holds_and_what_to_do() -> None:
    said: list[str] = []

    async def body(leases: Leases, moves: SendStream[int]) -> None:
        async def tried() -> None:
            with pytest.raises(Fenced) as caught:
                await moves.send(0)
            said.append(str(caught.value))

        await tried()
        async with leases.hold("workcell/right"):
            await tried()
        async with leases.hold("workcell/left/gripper"):
            await tried()
        async with leases.hold("workcell/left", mode="s"):
            await tried()
        async with leases.hold("workcell/left"):
            await moves.send(1)
        await tried()

    await simulate(armed(body))
    assert _moved == [1]
    for met, words in zip(
        said,
        ("nothing is held here", "workcell/right", "workcell/left/gripper", "mode='x'", "nothing is held"),
        strict=True,
    ):
        assert "channel 'moves': 'workcell/left' is fenced" in met
        assert words in met


@pytest.mark.parametrize("policy", ["block", "latest", "drop_oldest", "drop_newest"])
async def test_it_goes_with_every_policy(policy: Any) -> None:
    async def body(leases: Leases, moves: SendStream[int]) -> None:
        async with leases.hold("workcell/left"):
            await moves.send(1)

    await simulate(armed(body, policy=policy))
    assert _moved == [1]


@pytest.mark.parametrize("microsteps", [False, True])
async def test_in_virtual_time_it_is_the_same(microsteps: bool) -> None:
    async def body(leases: Leases, moves: SendStream[int]) -> None:
        async with leases.hold("workcell/left", ttl=1):
            for number in range(5):
                await moves.send(number)
        with pytest.raises(Fenced):
            await moves.send(99)

    with anyio.fail_after(PATIENCE_S):
        await armed(body).run(in_process=True, clock=SimClock(microsteps=microsteps))
    assert _moved == [0, 1, 2, 3, 4]


def test_a_writer_that_takes_no_leases_is_refused_before_anything_starts() -> None:
    pipeline = Pipeline("fenced")
    arm, cell = pipeline.add(NoLeases, name="arm"), pipeline.add(Cell, name="cell")
    pipeline.connect(arm.moves, cell.moves, name="moves", fenced="workcell/left")
    with pytest.raises(PipelineFaulty, match=r"channels\.moves\.fenced: 'arm' sends what is fenced by 'workcell/left'"):
        pipeline.checked()
