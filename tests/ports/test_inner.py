"""Links that stay inside the process keep the contract of links, but for what only a network can do."""

import anyio
import anyio.lowlevel
import pytest

from geartrain.engine.options import ChannelOptions
from geartrain.engine.remote import reading, writing
from geartrain.errors import WireError
from geartrain.ports.inner import InnerTransport
from geartrain.ports.transport import LinkSettings

SETTINGS = LinkSettings(1000)


async def test_items_arrive_in_order_and_an_owner_that_begins_again_gets_what_was_not_finished() -> None:
    transport, options = InnerTransport(), ChannelOptions(maxsize=4)
    async with (
        reading(transport, "inner://x", int, bind=True, options=options) as numbers,
        writing(transport, "inner://x", int, bind=False, options=options) as out,
    ):
        for number in (1, 2, 3):
            await out.send(number)
        assert [await numbers.receive(), await numbers.receive()] == [1, 2]
        numbers.begin_again()
        with anyio.fail_after(5):
            got = [(await numbers.receive(), numbers.mark.redelivered) for _ in range(2)]
            assert got == [(2, True), (3, True)]
            await out.aclose()
            assert [number async for number in numbers] == []


async def test_an_end_waits_for_the_other_and_a_third_is_refused() -> None:
    transport = InnerTransport()
    first = transport.open("inner://x", bind=True, settings=SETTINGS)
    assert not first.send(b"", b"frame")
    with pytest.raises(WireError, match="bound already"):
        transport.open("inner://x", bind=True, settings=SETTINGS)
    second = transport.open("inner://x", bind=False, settings=SETTINGS)
    assert second.send(b"", b"frame")
    assert first.reachable(b"inner")
    await second.aclose()
    assert not first.reachable(b"inner")


async def test_a_flood_leaves_others_their_turns() -> None:
    transport = InnerTransport()
    bound = transport.open("inner://x", bind=True, settings=SETTINGS)
    other = transport.open("inner://x", bind=False, settings=SETTINGS)
    for _ in range(1000):
        other.send(b"", b"frame")
    heard = turns = 0

    def hear(_peer: bytes, _frame: bytes | memoryview) -> None:
        nonlocal heard
        heard += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bound.run, hear)
        while heard < 1001:
            turns += 1
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert turns > 1000 // 64
