"""A shared value, and senders that never wait: what is kept, what is dropped, and that every drop is counted."""

import math

import anyio
import pytest

from geartrain import Channel, open_channel
from geartrain.errors import ChannelClosed, EndOfStream
from geartrain.ports.clock import SimClock
from geartrain.ports.parking import take_turn
from geartrain.recipes.state import CoalesceSend, DropNewestSend, DropOldestSend, Latest

Lossy = DropNewestSend[int] | DropOldestSend[int]


@pytest.fixture(params=["real time", "in turns"], autouse=True)
async def time_kind(request: pytest.FixtureRequest) -> None:
    if request.param == "in turns":
        # The first SimClock on a loop makes its waits take turns.
        SimClock()


async def settle() -> None:
    """Let everybody go on who can."""
    for _ in range(8):
        await take_turn()


def lossy(kind: str, channel: Channel[int]) -> Lossy:
    match kind:
        case "newest":
            return DropNewestSend(channel.send)
        case "oldest":
            return DropOldestSend(channel.send, channel.recv)
        case _:
            return CoalesceSend(channel.send, channel.recv)


every_kind = pytest.mark.parametrize("kind", ["newest", "oldest", "coalesce"])


async def test_latest_is_none_until_something_was_set_and_then_what_was_set_last() -> None:
    latest: Latest[int] = Latest()
    assert latest.get() is None
    for value in (1, 2, 0):
        latest.set(value)
        assert latest.get() == value
    assert latest.get() == 0


@pytest.mark.parametrize(
    ("kind", "maxsize", "kept"),
    [
        ("newest", 0, []),
        ("newest", 1, [0]),
        ("newest", 3, [0, 1, 2]),
        ("newest", 10, list(range(10))),
        ("oldest", 0, []),
        ("oldest", 1, [9]),
        ("oldest", 3, [7, 8, 9]),
        ("oldest", math.inf, list(range(10))),
        ("coalesce", 0, []),
        ("coalesce", 1, [9]),
        ("coalesce", 3, [9]),
        ("coalesce", math.inf, [9]),
    ],
)
@pytest.mark.parametrize("nowait", [False, True])
async def test_a_sender_keeps_what_its_name_says_counts_the_rest_and_never_waits(
    kind: str, maxsize: float, kept: list[int], nowait: bool
) -> None:
    channel: Channel[int] = open_channel(maxsize)
    out = lossy(kind, channel)
    with anyio.CancelScope() as scope:
        # Whoever waits here is caught.
        scope.cancel()
        for number in range(10):
            assert out.has_room()
            await out.wait_room()
            if nowait:
                out.send_nowait(number)
            else:
                await out.send(number)
    assert not scope.cancelled_caught
    await out.aclose()
    assert [item async for item in channel.recv] == kept
    assert out.dropped == 10 - len(kept)


@every_kind
@pytest.mark.parametrize("maxsize", [0, 1, 3])
async def test_a_reader_that_waits_gets_the_next_item_and_nothing_is_dropped(kind: str, maxsize: int) -> None:
    channel: Channel[int] = open_channel(maxsize)
    out = lossy(kind, channel)
    got: list[int] = []

    async def read() -> None:
        got.extend([item async for item in channel.recv])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        for number in range(5):
            await settle()
            await out.send(number)
        await settle()
        await out.aclose()
    assert got == [0, 1, 2, 3, 4]
    assert out.dropped == 0


@pytest.mark.parametrize("kind", ["oldest", "coalesce"])
async def test_an_item_that_a_rendezvous_has_kept_is_not_dropped_together_with_the_one_that_follows(kind: str) -> None:
    channel: Channel[int] = open_channel(0)
    out = lossy(kind, channel)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.recv.receive)
        await settle()
        # Accepted against a receive that is just being cancelled: this waits for the next one.
        tasks.cancel_scope.cancel()
        out.send_nowait(0)
    assert channel.recv.has_item()
    await out.send(1)
    assert out.dropped == 1
    assert channel.recv.has_item()


@every_kind
async def test_after_either_end_has_closed_every_way_of_sending_says_so_and_nothing_is_counted(kind: str) -> None:
    for close_reader in (True, False):
        channel: Channel[int] = open_channel(1)
        out = lossy(kind, channel)
        await (channel.recv.aclose() if close_reader else out.aclose())
        with pytest.raises(ChannelClosed):
            await out.send(1)
        with pytest.raises(ChannelClosed):
            out.send_nowait(1)
        with pytest.raises(ChannelClosed):
            out.has_room()
        with pytest.raises(ChannelClosed):
            await out.wait_room()
        assert out.dropped == 0


@every_kind
async def test_a_tight_send_loop_lets_others_run_at_least_every_64_items(kind: str) -> None:
    channel: Channel[int] = open_channel(2)
    out = lossy(kind, channel)
    rounds = 0

    async def look() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        for number in range(1_000):
            await out.send(number)
        tasks.cancel_scope.cancel()
    assert rounds >= 1_000 // 64 - 1


@every_kind
async def test_what_is_asked_of_the_sender_is_answered_by_the_channel(kind: str) -> None:
    channel: Channel[int] = open_channel(3)
    out = lossy(kind, channel)
    await out.send(1)
    assert out.statistics() == channel.send.statistics()
    assert await channel.recv.receive() == 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(out.drain)
        await settle()
        await channel.recv.aclose()
    with pytest.raises(ChannelClosed):
        out.has_room()


@every_kind
async def test_to_close_the_sender_is_to_close_the_channel(kind: str) -> None:
    channel: Channel[int] = open_channel(3)
    out = lossy(kind, channel)
    await out.send(1)
    await out.aclose()
    await out.aclose()
    assert await channel.recv.receive() == 1
    with pytest.raises(EndOfStream):
        await channel.recv.receive()


@pytest.mark.parametrize("kind", ["oldest", "coalesce"])
async def test_what_is_dropped_for_a_newer_item_is_counted_by_the_channel_too(kind: str) -> None:
    channel: Channel[int] = open_channel(1)
    out = lossy(kind, channel)
    for number in range(4):
        await out.send(number)
    stats = channel.send.statistics()
    assert (stats.accepted, stats.dropped, out.dropped) == (4, 3, 3)
