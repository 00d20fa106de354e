"""A daemon in the middle is done with an item when what came of it is safe; a step makes several items one."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import pytest

from geartrain import Channel, Context, SimClock, Supervisor, WouldBlock, open_channel
from geartrain.engine.hands import Hands
from geartrain.engine.options import ChannelOptions
from geartrain.engine.remote import RemoteReceive, RemoteSend, reading, writing
from geartrain.errors import BadValue, NotInUse
from geartrain.ports.inner import InnerTransport
from geartrain.rules.pipeline import Ack, Mark


@dataclass
class Edge:
    """Both ends of a channel with links, and what the reader's code has not asked for yet."""

    send: RemoteSend[int]
    recv: RemoteReceive[int]

    async def receive(self, count: int) -> list[int]:
        return [await self.recv.receive() for _ in range(count)]

    async def safe(self, count: int) -> None:
        """Return when so many of its items will never be needed again."""
        with anyio.fail_after(5):
            while self.send.statistics().stable < count:
                await anyio.lowlevel.checkpoint()

    async def assert_unsafe(self, count: int) -> None:
        """After all that could have been said has been: so many, and no more, are done with."""
        with anyio.move_on_after(0.05):
            await self.safe(count + 1)
        assert self.send.statistics().stable == count


@asynccontextmanager
async def edges(*acks: Ack) -> AsyncIterator[list[Edge]]:
    transport = InnerTransport()
    async with AsyncExitStack() as stack:
        opened = []
        for place, ack in enumerate(acks):
            address, options = f"inner://{place}", ChannelOptions(maxsize=8, ack=ack, supervised=True)
            recv = await stack.enter_async_context(reading(transport, address, int, bind=True, options=options))
            send = await stack.enter_async_context(writing(transport, address, int, bind=False, options=options))
            # A writer that is left with something that nobody took would wait for it.
            stack.push_async_callback(recv.aclose)
            opened.append(Edge(send, recv))
        yield opened


async def ask_for_more(recv: RemoteReceive[int]) -> None:
    with anyio.move_on_after(0.02):
        await recv.wait_item()


async def test_a_step_makes_stable_together_what_was_received_in_it_when_what_was_sent_in_it_is() -> None:
    async with edges("batch", "batch", "batch") as (left, right, out):
        hands = Hands([left.recv, right.recv], [out.send])
        for number in (1, 2, 3):
            await left.send.send(number)
            await right.send.send(10 * number)
        async with hands.step():
            await left.receive(2)
            await right.receive(2)
            await out.send.send(33)
        await left.assert_unsafe(0)
        assert await out.receive(1) == [33]
        await left.assert_unsafe(0)
        await ask_for_more(out.recv)
        await left.safe(2)
        await right.safe(2)


async def test_what_was_received_before_a_step_is_not_part_of_it() -> None:
    async with edges("batch", "batch") as (left, right):
        hands = Hands([left.recv, right.recv], [])
        await left.send.send(1)
        await right.send.send(10)
        await left.receive(1)
        async with hands.step():
            await right.receive(1)
        await right.safe(1)
        await left.assert_unsafe(0)
        await ask_for_more(left.recv)
        await left.safe(1)


@pytest.mark.parametrize("ends", ["error", "cancellation"])
async def test_a_step_that_is_left_otherwise_makes_nothing_stable(ends: str) -> None:
    async with edges("batch") as (edge,):
        hands = Hands([edge.recv], [])
        for number in (1, 2, 3):
            await edge.send.send(number)
        if ends == "error":
            with pytest.raises(ZeroDivisionError):
                async with hands.step():
                    await edge.receive(3)
                    raise ZeroDivisionError
        else:
            with anyio.CancelScope() as scope:
                async with hands.step():
                    await edge.receive(3)
                    scope.cancel()
                    await anyio.sleep_forever()
        await edge.assert_unsafe(0)
        edge.recv.begin_again()
        assert await edge.receive(1) == [1]
        assert edge.recv.mark.redelivered


async def test_a_step_within_a_step_is_refused() -> None:
    async with edges("batch") as (edge,):
        hands = Hands([edge.recv], [])
        async with hands.step():
            with pytest.raises(NotInUse, match="a step is open in this daemon already"):
                async with hands.step():
                    pass
        async with hands.step():
            pass


async def test_done_is_for_the_manual_input_and_waits_for_what_was_sent_until_then() -> None:
    async with edges("manual", "batch") as (edge, out):
        Hands([edge.recv], [out.send])
        for number in (1, 2, 3):
            await edge.send.send(number)
        await edge.receive(2)
        second = edge.recv.mark
        await edge.receive(1)
        await out.send.send(12)
        edge.recv.done(second)
        await edge.assert_unsafe(0)
        await out.receive(1)
        await ask_for_more(out.recv)
        await edge.safe(2)
        await edge.assert_unsafe(2)


async def test_at_a_sink_done_is_stable_at_once() -> None:
    async with edges("manual") as (edge,):
        Hands([edge.recv], [])
        await edge.send.send(1)
        await edge.receive(1)
        await ask_for_more(edge.recv)
        await edge.assert_unsafe(0)
        edge.recv.done(edge.recv.mark)
        await edge.safe(1)


async def test_done_in_a_step_counts_at_its_end_and_the_step_says_nothing_of_what_is_not_done() -> None:
    async with edges("manual") as (edge,):
        hands = Hands([edge.recv], [])
        await edge.send.send(1)
        await edge.send.send(2)
        async with hands.step():
            await edge.receive(1)
            edge.recv.done(edge.recv.mark)
            await edge.receive(1)
            await edge.assert_unsafe(0)
        await edge.safe(1)
        await edge.assert_unsafe(1)


async def test_what_comes_of_a_held_repeat_is_marked_until_the_repeat_is_done() -> None:
    async with edges("manual", "batch") as (edge, out):
        Hands([edge.recv], [out.send])
        await edge.send.send(1)
        await edge.receive(1)
        edge.recv.begin_again()
        Hands([edge.recv], [out.send])
        await edge.receive(1)
        repeat = edge.recv.mark
        await edge.send.send(2)
        await edge.receive(1)
        await out.send.send(12)
        edge.recv.done(repeat)
        await out.send.send(22)
        got = [(await out.recv.receive(), out.recv.mark.redelivered) for _ in range(2)]
        assert got == [(12, True), (22, False)]


async def test_who_holds_items_may_acknowledge_manually_whatever_the_channel_says() -> None:
    async with edges("batch") as (edge,):
        for number in (1, 2, 3):
            await edge.send.send(number)
        await edge.receive(2)
        edge.recv.ack_manually()
        second = edge.recv.mark
        await edge.receive(1)
        await ask_for_more(edge.recv)
        await edge.assert_unsafe(1)
        edge.recv.done(second)
        await edge.safe(2)


async def test_done_where_it_means_nothing_says_why() -> None:
    async with edges("batch", "manual") as (batch, manual):
        with pytest.raises(BadValue, match=r'done\(\) is for channels with ack="manual", and .* has ack=\'batch\''):
            batch.recv.done(batch.recv.mark)
        await manual.send.send(1)
        await manual.receive(1)
        with pytest.raises(BadValue, match="but the last item handed over here is"):
            manual.recv.done(Mark(manual.recv.mark.epoch, 2))


async def test_the_end_of_a_channel_is_stable_when_all_before_it_is_done() -> None:
    async with edges("manual") as (edge,):
        await edge.send.send(1)
        await edge.receive(1)
        edge.recv.done(edge.recv.mark)
        await edge.send.aclose()
        assert [number async for number in edge.recv] == []
        with anyio.fail_after(5):
            await edge.send.drain()


# -- without links ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", [None, SimClock])
async def test_in_a_supervisor_without_links_a_step_does_nothing(clock: type[SimClock] | None) -> None:
    channel: Channel[int] = open_channel(8)
    results: list[int] = []

    async def adds(ctx: Context) -> None:
        while True:
            async with ctx.step():
                results.append(await channel.recv.receive() + await channel.recv.receive())
            if len(results) == 2:
                return

    for number in range(4):
        channel.send.send_nowait(number)
    async with Supervisor(clock=None if clock is None else clock()) as supervisor:
        supervisor.spawn(adds)
    assert results == [1, 5]


async def test_in_a_process_an_item_of_a_manual_channel_is_stable_when_it_is_done() -> None:
    channel: Channel[int] = open_channel(8, ack="manual")
    for number in range(3):
        channel.send.send_nowait(number)
    for _ in range(3):
        await channel.recv.receive()
    first = Mark(0, 1)
    with pytest.raises(WouldBlock):
        channel.recv.receive_nowait()
    assert channel.send.statistics().stable == 0
    channel.recv.done(first)
    assert channel.send.statistics().stable == 1
    with anyio.move_on_after(0.01) as patience:
        await channel.send.drain()
    assert patience.cancelled_caught
    channel.recv.done(channel.recv.mark)
    await channel.send.drain()


async def test_done_in_a_process_where_it_means_nothing_says_why() -> None:
    channel: Channel[int] = open_channel(8, name="numbers")
    with pytest.raises(BadValue, match=r"channel 'numbers' has ack='batch'"):
        channel.recv.done(channel.recv.mark)
    manual: Channel[int] = open_channel(8, ack="manual")
    with pytest.raises(BadValue, match="but the last item handed over here is"):
        manual.recv.done(Mark(0, 1))
