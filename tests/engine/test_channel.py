"""What a channel promises: a contract for every transport, and what holds for channels inside a process besides.

A transport's own test inherits `ChannelContract` and gives it a fixture `opened`:

    class TestPigeons(ChannelContract):
        @pytest.fixture
        async def opened(self) -> AsyncIterator[Opener]: ...
"""

import itertools
import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio
import pytest

from geartrain import Channel, ChannelStats, Mark, ReceiveStream, SendStream, open_channel
from geartrain.errors import (
    BadType,
    BadValue,
    ChannelClosed,
    ChannelInUse,
    EndClosed,
    EndOfStream,
    GeartrainError,
    WouldBlock,
)
from geartrain.ports.clock import SimClock
from geartrain.ports.parking import take_turn
from geartrain.recipes.coordination import select
from geartrain.rules.pipeline import Policy

EVERY_SIZE = [0, 1, 2, 64, math.inf]
FINITE = [1, 2, 64]

every_size = pytest.mark.parametrize("maxsize", EVERY_SIZE)
every_finite_size = pytest.mark.parametrize("maxsize", FINITE)

# What is left of 0 to 9 when nobody receives.
every_policy = pytest.mark.parametrize(
    ("policy", "maxsize", "kept"),
    [
        ("latest", 1, [9]),
        ("drop_oldest", 1, [9]),
        ("drop_oldest", 3, [7, 8, 9]),
        ("drop_newest", 1, [0]),
        ("drop_newest", 3, [0, 1, 2]),
        ("drop_oldest", 10, list(range(10))),
        ("drop_newest", math.inf, list(range(10))),
    ],
)


class Opener(Protocol):
    """Opens both ends of a channel, wherever they are."""

    async def __call__(self, maxsize: float = 0, *, policy: Policy = "block", name: str = "") -> Channel[Any]: ...


# How long somebody waits before the test calls it for ever. Nobody waits that long where the promises are kept.
PATIENCE_S = 5


class Task:
    """Something that is waited for in a task of its own, and how it ended; who waits for ever is fetched out."""

    def __init__(self, wait: Callable[[], Awaitable[object]]) -> None:
        self.result: object = None
        self.error: GeartrainError | None = None
        self.is_over = False
        self._wait = wait
        self._scope = anyio.CancelScope(deadline=anyio.current_time() + PATIENCE_S)

    async def run(self) -> None:
        with self._scope:
            try:
                self.result = await self._wait()
            except GeartrainError as error:
                self.error = error
            self.is_over = True

    def cancel(self) -> None:
        self._scope.cancel()


async def fill(channel: Channel[Any], count: int) -> None:
    for number in range(count):
        await channel.send.send(number)


def assert_fair(seen_at: list[int]) -> None:
    """Another task, which looks whenever it may, has seen the loop of 1,000 items at these counts."""
    assert len(seen_at) >= 1_000 // 64
    # In two rounds of trio a task may run last and then first, so that another sees two helpings at once.
    assert max(later - earlier for earlier, later in itertools.pairwise(seen_at)) <= 2 * 64


class ChannelContract:
    """Every channel keeps this, whatever carries its items."""

    # -- what differs from transport to transport -------------------------------------------------------------------

    async def settle(self) -> None:
        """Let everything happen that can."""
        for _ in range(12):
            await take_turn()

    # Whether the room of a rendezvous stays with the writer when the receive that gave it is cancelled.
    keeps_room_given = False

    def plain(self, error: BaseException) -> str:
        """What an error says, without the place where the channel is."""
        return str(error)

    def untold(self, maxsize: float) -> float:
        """How many places may be free that the writer has not been told of, while the reader does not wait."""
        return 0

    def totals(self, channel: Channel[Any]) -> tuple[int, int, int]:
        """How many items were accepted, taken and dropped, by whatever end."""
        stats = channel.recv.statistics()
        return stats.accepted, stats.taken, stats.dropped

    async def begin(self, tasks: anyio.abc.TaskGroup, wait: Callable[[], Awaitable[object]]) -> Task:
        """Start to wait for something, and return when it is under way."""
        task = Task(wait)
        tasks.start_soon(task.run)
        await self.settle()
        return task

    # -- order and bounds -------------------------------------------------------------------------------------------

    @every_size
    async def test_items_arrive_once_each_and_in_order(self, opened: Opener, maxsize: float) -> None:
        channel = await opened(maxsize)

        async def write() -> None:
            await fill(channel, 300)
            await channel.send.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            assert [item async for item in channel.recv] == list(range(300))

    @every_size
    async def test_never_more_than_maxsize_items_are_accepted_and_not_taken_however_greedy_the_writer(
        self, opened: Opener, maxsize: float
    ) -> None:
        channel = await opened(maxsize)
        total, sent, taken, most = 400, 0, 0, 0
        untold = self.untold(maxsize)

        async def write() -> None:
            nonlocal sent, most
            for number in range(total):
                await channel.send.send(number)
                sent += 1
                stats = channel.send.statistics()
                most = max(most, stats.accepted - stats.taken)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await self.settle()
            for taken in range(1, 100):
                assert await channel.recv.receive() == taken - 1
                # Sometimes the writer may catch up, sometimes the reader hurries on.
                if taken % 3:
                    await self.settle()
                    assert min(total, taken + maxsize - untold) <= sent <= min(total, taken + maxsize)
            tasks.cancel_scope.cancel()
        # A rendezvous accepts one item against the receive that waits for it.
        assert most == (1 if maxsize == 0 else min(maxsize, total))

    @every_finite_size
    async def test_a_writer_waits_at_the_bound_and_goes_on_by_one_item_for_each_that_is_taken(
        self, opened: Opener, maxsize: int
    ) -> None:
        channel = await opened(maxsize)
        async with anyio.create_task_group() as tasks:
            await fill(channel, maxsize)
            first = await self.begin(tasks, lambda: channel.send.send("first"))
            assert not first.is_over
            await channel.recv.receive()
            await self.settle()
            assert first.is_over
            second = await self.begin(tasks, lambda: channel.send.send("second"))
            assert not second.is_over
            tasks.cancel_scope.cancel()

    async def test_without_a_bound_the_writer_never_waits_for_the_reader(self, opened: Opener) -> None:
        channel = await opened(math.inf)
        await fill(channel, 5_000)
        assert channel.send.statistics().accepted == 5_000
        assert channel.send.has_room()

    # -- the rendezvous ---------------------------------------------------------------------------------------------

    async def test_a_rendezvous_accepts_an_item_only_against_a_receive_that_waits(self, opened: Opener) -> None:
        channel = await opened(0)
        async with anyio.create_task_group() as tasks:
            sending = await self.begin(tasks, lambda: channel.send.send("x"))
            assert not sending.is_over
            assert channel.send.statistics().accepted == 0
            assert await channel.recv.receive() == "x"
            await self.settle()
            assert sending.is_over

    async def test_a_rendezvous_accepts_one_item_for_one_receive(self, opened: Opener) -> None:
        channel = await opened(0)
        async with anyio.create_task_group() as tasks:
            receiving = await self.begin(tasks, channel.recv.receive)
            sending = await self.begin(tasks, lambda: fill(channel, 2))
            assert receiving.result == 0
            assert not sending.is_over
            assert channel.send.statistics().accepted == 1
            assert await channel.recv.receive() == 1

    async def test_a_rendezvous_has_room_when_the_reader_asks(self, opened: Opener) -> None:
        channel = await opened(0)
        assert not channel.send.has_room()
        with pytest.raises(WouldBlock):
            channel.send.send_nowait("x")
        async with anyio.create_task_group() as tasks:
            receiving = await self.begin(tasks, channel.recv.receive)
            assert channel.send.has_room()
            receiving.cancel()

    async def test_the_room_of_a_receive_that_was_cancelled_is_for_one_item_at_most(self, opened: Opener) -> None:
        channel = await opened(0)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                receiving = await self.begin(tasks, channel.recv.receive)
                receiving.cancel()
                await self.settle()
            assert channel.send.has_room() == self.keeps_room_given
            sent = 0
            with pytest.raises(WouldBlock):
                for sent in range(3):
                    channel.send.send_nowait(sent)
            assert sent == int(self.keeps_room_given)

    async def test_an_item_whose_receive_is_cancelled_waits_for_the_next_one_at_most(self, opened: Opener) -> None:
        channel = await opened(0)
        async with anyio.create_task_group() as tasks:
            receiving = await self.begin(tasks, channel.recv.receive)
            channel.send.send_nowait("kept")
            receiving.cancel()
            await self.settle()
            sending = await self.begin(tasks, lambda: channel.send.send("next"))
            got = [receiving.result] if receiving.result else []
            assert not sending.is_over
            assert [*got, *[await channel.recv.receive() for _ in range(2 - len(got))]] == ["kept", "next"]

    # -- without waiting --------------------------------------------------------------------------------------------

    @every_finite_size
    async def test_send_nowait_fills_the_channel_and_then_would_block(self, opened: Opener, maxsize: int) -> None:
        channel = await opened(maxsize)
        for number in range(maxsize):
            assert channel.send.has_room()
            channel.send.send_nowait(number)
        assert not channel.send.has_room()
        with pytest.raises(WouldBlock):
            channel.send.send_nowait("too many")
        assert [await channel.recv.receive() for _ in range(maxsize)] == list(range(maxsize))
        assert channel.send.statistics().accepted == maxsize

    @every_finite_size
    async def test_who_may_not_wait_is_told_that_the_channel_is_full_or_empty(
        self, opened: Opener, maxsize: int
    ) -> None:
        channel = await opened(maxsize, name="prices")
        with pytest.raises(WouldBlock) as refusal:
            channel.recv.receive_nowait()
        assert self.plain(refusal.value) == "channel 'prices' is empty"
        await fill(channel, maxsize)
        with pytest.raises(WouldBlock) as refusal:
            channel.send.send_nowait("too many")
        assert self.plain(refusal.value) == f"channel 'prices' is full: {maxsize} items wait to be received"

    async def test_who_may_not_wait_is_told_that_nobody_waits_at_the_other_end_of_a_rendezvous(
        self, opened: Opener
    ) -> None:
        channel = await opened(0, name="prices")
        with pytest.raises(WouldBlock) as refusal:
            channel.send.send_nowait("x")
        assert self.plain(refusal.value) == "channel 'prices' is a rendezvous, and nobody waits in receive()"

    async def test_receive_nowait_takes_what_is_there_and_then_would_block(self, opened: Opener) -> None:
        channel = await opened(2)
        assert not channel.recv.has_item()
        with pytest.raises(WouldBlock):
            channel.recv.receive_nowait()
        await fill(channel, 2)
        await self.settle()
        assert channel.recv.has_item()
        assert [channel.recv.receive_nowait(), channel.recv.receive_nowait()] == [0, 1]
        with pytest.raises(WouldBlock):
            channel.recv.receive_nowait()

    @pytest.mark.parametrize("maxsize", [0, 1, 2])
    async def test_wait_room_returns_when_send_nowait_would_succeed_and_takes_nothing(
        self, opened: Opener, maxsize: int
    ) -> None:
        channel = await opened(maxsize)
        async with anyio.create_task_group() as tasks:
            await fill(channel, maxsize)
            waiting = await self.begin(tasks, channel.send.wait_room)
            assert not waiting.is_over
            if maxsize:
                await channel.recv.receive()
                await self.settle()
            else:
                receiving = await self.begin(tasks, channel.recv.receive)
            assert waiting.is_over
            await channel.send.wait_room()
            assert channel.send.statistics().accepted == maxsize
            channel.send.send_nowait("x")
            assert channel.send.statistics().accepted == maxsize + 1
            await self.settle()
            assert maxsize or receiving.result == "x"

    @pytest.mark.parametrize("maxsize", [0, 1, 2])
    async def test_wait_item_returns_when_receive_nowait_would_succeed_and_takes_nothing(
        self, opened: Opener, maxsize: int
    ) -> None:
        channel = await opened(maxsize)
        async with anyio.create_task_group() as tasks:
            waiting = await self.begin(tasks, channel.recv.wait_item)
            assert not waiting.is_over
            await channel.send.send("x")
            await self.settle()
            assert waiting.is_over
            await channel.recv.wait_item()
            assert channel.recv.statistics().taken == 0
            assert channel.recv.receive_nowait() == "x"
            assert not channel.recv.has_item()

    async def test_wait_item_meets_the_end_of_the_channel(self, opened: Opener) -> None:
        channel = await opened(1)
        await fill(channel, 1)
        await channel.send.aclose()
        await channel.recv.wait_item()
        assert await channel.recv.receive() == 0
        with pytest.raises(EndOfStream):
            await channel.recv.wait_item()
        await channel.recv.aclose()
        with pytest.raises(EndClosed):
            await channel.recv.wait_item()

    async def test_what_can_be_done_at_once_is_done_in_a_cancelled_scope_too(self, opened: Opener) -> None:
        channel = await opened(2)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await channel.send.wait_room()
            await fill(channel, 2)
        assert not scope.cancelled_caught
        await self.settle()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await channel.recv.wait_item()
            assert [await channel.recv.receive(), await channel.recv.receive()] == [0, 1]
        assert not scope.cancelled_caught

    @pytest.mark.parametrize("maxsize", [0, 1])
    async def test_what_has_to_wait_in_a_cancelled_scope_does_nothing(self, opened: Opener, maxsize: int) -> None:
        channel = await opened(maxsize)
        await fill(channel, maxsize)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await channel.send.send("x")
        assert scope.cancelled_caught
        assert [await channel.recv.receive() for _ in range(maxsize)] == list(range(maxsize))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await channel.recv.receive()
        assert scope.cancelled_caught
        assert channel.send.statistics().accepted == channel.recv.statistics().taken == maxsize

    # -- fairness ---------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("maxsize", "policy"), [(math.inf, "block"), (1, "latest"), (8, "drop_oldest")])
    async def test_a_tight_send_loop_lets_others_run_at_least_every_64_items(
        self, opened: Opener, maxsize: float, policy: Policy
    ) -> None:
        channel = await opened(maxsize, policy=policy)
        sent, seen_at = 0, [0]

        async def look() -> None:
            while sent < 1_000:
                seen_at.append(sent)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            while sent < 1_000:
                await channel.send.send(sent)
                sent += 1
        seen_at.append(1_000)
        assert_fair(seen_at)

    async def test_a_tight_receive_loop_lets_others_run_at_least_every_64_items(self, opened: Opener) -> None:
        channel = await opened(math.inf)
        await fill(channel, 1_000)
        taken, seen_at = 0, [0]

        async def look() -> None:
            while taken < 1_000:
                seen_at.append(taken)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            while taken < 1_000:
                await channel.recv.receive()
                taken += 1
        seen_at.append(1_000)
        assert_fair(seen_at)

    # -- drain and stable -------------------------------------------------------------------------------------------

    async def test_there_is_nothing_to_drain_before_the_first_item(self, opened: Opener) -> None:
        channel = await opened(1)
        with anyio.fail_after(5):
            await channel.send.drain()

    @pytest.mark.parametrize("maxsize", [0, 1, 2])
    async def test_drain_returns_when_the_reader_has_asked_past_everything(self, opened: Opener, maxsize: int) -> None:
        channel = await opened(maxsize)
        async with anyio.create_task_group() as tasks:
            receiving = await self.begin(tasks, channel.recv.receive)
            await channel.send.send("a")
            await self.settle()
            assert receiving.result == "a"
            draining = await self.begin(tasks, channel.send.drain)
            assert not draining.is_over
            asking = await self.begin(tasks, channel.recv.receive)
            assert draining.is_over
            assert draining.error is None
            asking.cancel()

    async def test_drain_waits_for_what_is_still_in_the_buffer(self, opened: Opener) -> None:
        channel = await opened(4)
        async with anyio.create_task_group() as tasks:
            await fill(channel, 2)
            draining = await self.begin(tasks, channel.send.drain)
            await channel.recv.receive()
            await self.settle()
            assert not draining.is_over
            await channel.recv.receive()
            await self.settle()
            assert not draining.is_over
            asking = await self.begin(tasks, channel.recv.receive)
            assert draining.is_over
            asking.cancel()

    async def test_drain_returns_when_the_reader_closes(self, opened: Opener) -> None:
        channel = await opened(4)
        async with anyio.create_task_group() as tasks:
            await fill(channel, 3)
            await channel.recv.receive()
            draining = await self.begin(tasks, channel.send.drain)
            assert not draining.is_over
            await channel.recv.aclose()
        assert draining.is_over
        assert draining.error is None

    async def test_drain_returns_when_the_reader_has_met_the_end_of_a_closed_channel(self, opened: Opener) -> None:
        channel = await opened(4)
        async with anyio.create_task_group() as tasks:
            await fill(channel, 3)
            await channel.send.aclose()
            draining = await self.begin(tasks, channel.send.drain)
            assert not draining.is_over
            assert [item async for item in channel.recv] == [0, 1, 2]
            await self.settle()
            was_over = draining.is_over
            tasks.cancel_scope.cancel()
        assert was_over

    async def test_drain_returns_when_a_reader_that_never_waits_finds_nothing_more(self, opened: Opener) -> None:
        channel = await opened(4)
        async with anyio.create_task_group() as tasks:
            await fill(channel, 1)
            draining = await self.begin(tasks, channel.send.drain)
            channel.recv.receive_nowait()
            with pytest.raises(WouldBlock):
                channel.recv.receive_nowait()
            await self.settle()
            was_over = draining.is_over
            tasks.cancel_scope.cancel()
        assert was_over

    async def test_drain_returns_when_what_was_left_is_discarded(self, opened: Opener) -> None:
        channel = await opened(4)
        async with anyio.create_task_group() as tasks:
            await fill(channel, 1)
            draining = await self.begin(tasks, channel.send.drain)
            channel.recv.discard_oldest()
            await self.settle()
            was_over = draining.is_over
            tasks.cancel_scope.cancel()
        assert was_over

    async def test_drain_that_is_cancelled_can_be_called_again(self, opened: Opener) -> None:
        channel = await opened(4)
        async with anyio.create_task_group() as tasks:
            await fill(channel, 1)
            first = await self.begin(tasks, channel.send.drain)
            first.cancel()
            await self.settle()
            second = await self.begin(tasks, channel.send.drain)
            await channel.recv.receive()
            asking = await self.begin(tasks, channel.recv.receive)
            assert second.is_over
            asking.cancel()

    async def test_an_item_is_stable_once_the_next_is_asked_for_and_stays_so(self, opened: Opener) -> None:
        channel = await opened(4)
        stable = []

        async def note() -> None:
            await self.settle()
            stable.append(channel.send.statistics().stable)

        async with anyio.create_task_group() as tasks:
            await fill(channel, 2)
            await note()
            await channel.recv.receive()
            await note()
            await channel.recv.receive()
            await note()
            asking = await self.begin(tasks, channel.recv.receive)
            await note()
            asking.cancel()
            await note()
        assert stable == [0, 0, 1, 2, 2]

    async def test_an_item_stays_stable_when_a_select_that_asked_past_it_has_gone_on(self, opened: Opener) -> None:
        left, right = await opened(4), await opened(4)
        await fill(left, 1)
        await left.recv.receive()
        async with anyio.create_task_group() as tasks:
            selecting = await self.begin(tasks, lambda: select(left.recv, right.recv))
            assert left.send.statistics().stable == 1
            await right.send.send("x")
            await self.settle()
            assert selecting.result == (1, "x")
        assert left.send.statistics().stable == 1

    # -- marks and figures ------------------------------------------------------------------------------------------

    async def test_the_mark_is_the_number_of_the_item_handed_over_last(self, opened: Opener) -> None:
        channel = await opened(4)
        before = channel.recv.mark
        await fill(channel, 4)
        await self.settle()
        marks = []
        for number in range(4):
            (await channel.recv.receive()) if number % 2 else channel.recv.receive_nowait()
            marks.append(channel.recv.mark)
        assert [mark.sequence for mark in marks] == [1, 2, 3, 4]
        assert before < marks[0] < marks[3]
        assert marks[3] == Mark(marks[0].epoch, 4, redelivered=False)

    async def test_statistics_say_how_the_channel_stands(self, opened: Opener) -> None:
        channel = await opened(2)
        assert channel.send.statistics() == ChannelStats(0, 2, 1, 1, 0, 0)
        async with anyio.create_task_group() as tasks:
            sending = await self.begin(tasks, lambda: fill(channel, 3))
            assert channel.send.statistics() == ChannelStats(2, 2, 1, 1, 1, 0, accepted=2)
            await channel.recv.receive()
            await self.settle()
            assert sending.is_over
            assert channel.recv.statistics() == ChannelStats(2, 2, 1, 1, 0, 0, accepted=3, taken=1)
            for _ in range(2):
                await channel.recv.receive()
            receiving = await self.begin(tasks, channel.recv.receive)
            assert channel.recv.statistics() == ChannelStats(0, 2, 1, 1, 0, 1, accepted=3, taken=3, stable=3)
            await channel.send.aclose()
            await self.settle()
            assert receiving.is_over
        closed = channel.recv.statistics()
        assert (closed.open_send_streams, closed.open_receive_streams, closed.waiters_receive) == (0, 1, 0)
        await channel.recv.aclose()
        await self.settle()
        closed = channel.send.statistics()
        assert (closed.open_send_streams, closed.open_receive_streams, closed.stable) == (0, 0, 3)

    async def test_what_is_discarded_counts_as_dropped_and_not_as_taken(self, opened: Opener) -> None:
        channel = await opened(2)
        await fill(channel, 2)
        await self.settle()
        await channel.recv.receive()
        assert channel.recv.discard_oldest()
        stats = channel.recv.statistics()
        assert (stats.accepted, stats.taken, stats.dropped, stats.current_buffer_used) == (2, 1, 1, 0)

    async def test_to_discard_another_item_does_not_give_up_the_one_in_hand(self, opened: Opener) -> None:
        channel = await opened(2)
        await fill(channel, 2)
        await self.settle()
        await channel.recv.receive()
        in_hand = channel.recv.mark
        assert channel.recv.discard_oldest()
        assert channel.recv.mark == in_hand
        assert channel.recv.statistics().stable == 0

    async def test_the_end_of_a_channel_is_no_item_in_its_figures(self, opened: Opener) -> None:
        channel = await opened(2)
        await fill(channel, 2)
        await channel.send.aclose()
        assert [item async for item in channel.recv] == [0, 1]
        await self.settle()
        for end in (channel.send, channel.recv):
            stats = end.statistics()
            assert (stats.accepted, stats.taken, stats.stable, stats.current_buffer_used) == (2, 2, 2, 0)

    async def test_what_a_closing_reader_has_not_taken_is_counted_as_dropped(self, opened: Opener) -> None:
        channel = await opened(4)
        await fill(channel, 3)
        await self.settle()
        await channel.recv.receive()
        await channel.recv.aclose()
        await self.settle()
        stats = channel.recv.statistics()
        assert (stats.accepted, stats.taken, stats.dropped, stats.current_buffer_used) == (3, 1, 2, 0)

    # -- policies ---------------------------------------------------------------------------------------------------

    @every_policy
    @pytest.mark.parametrize("nowait", [False, True])
    async def test_a_full_channel_drops_what_its_policy_says_and_the_writer_never_waits(
        self, opened: Opener, policy: Policy, maxsize: float, kept: list[int], nowait: bool
    ) -> None:
        channel = await opened(maxsize, policy=policy)
        await self.send_ten_without_a_wait(channel, nowait=nowait)
        await self.settle()
        assert [item async for item in channel.recv] == kept

    @every_policy
    @pytest.mark.parametrize("nowait", [False, True])
    async def test_what_a_policy_drops_is_counted(
        self, opened: Opener, policy: Policy, maxsize: float, kept: list[int], nowait: bool
    ) -> None:
        channel = await opened(maxsize, policy=policy)
        await self.send_ten_without_a_wait(channel, nowait=nowait)
        await self.settle()
        assert len([item async for item in channel.recv]) == len(kept)
        await self.settle()
        assert self.totals(channel) == (10, len(kept), 10 - len(kept))

    async def send_ten_without_a_wait(self, channel: Channel[Any], *, nowait: bool) -> None:
        with anyio.CancelScope() as scope:
            # Whoever waits here is caught.
            scope.cancel()
            for number in range(10):
                assert channel.send.has_room()
                await channel.send.wait_room()
                if nowait:
                    channel.send.send_nowait(number)
                else:
                    await channel.send.send(number)
        assert not scope.cancelled_caught
        await channel.send.aclose()

    @pytest.mark.parametrize("nowait", [False, True])
    async def test_a_rendezvous_that_drops_the_newest_drops_all_that_nobody_waits_for(
        self, opened: Opener, nowait: bool
    ) -> None:
        channel = await opened(0, policy="drop_newest")
        await self.send_ten_without_a_wait(channel, nowait=nowait)
        assert [item async for item in channel.recv] == []
        assert self.totals(channel) == (10, 0, 10)

    async def test_a_rendezvous_that_drops_the_newest_hands_over_what_a_reader_waits_for(self, opened: Opener) -> None:
        await self.pass_five_on_to_a_reader_that_waits(await opened(0, policy="drop_newest"))

    @pytest.mark.parametrize(("policy", "maxsize"), [("latest", 1), ("drop_oldest", 2), ("drop_newest", 1)])
    async def test_a_reader_that_waits_gets_the_next_item_whatever_the_policy(
        self, opened: Opener, policy: Policy, maxsize: int
    ) -> None:
        await self.pass_five_on_to_a_reader_that_waits(await opened(maxsize, policy=policy))

    async def pass_five_on_to_a_reader_that_waits(self, channel: Channel[Any]) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                receiving = await self.begin(tasks, channel.recv.receive)
                await channel.send.send(number)
                await self.settle()
                assert receiving.result == number
        assert channel.send.statistics().dropped == 0

    async def test_latest_keeps_one_item_whether_that_is_said_or_not(self, opened: Opener) -> None:
        for size in (0, 1):
            channel = await opened(size, policy="latest")
            assert channel.send.statistics().max_buffer_size == 1
            await self.send_ten_without_a_wait(channel, nowait=False)
            await self.settle()
            assert [item async for item in channel.recv] == [9]

    # -- discarding -------------------------------------------------------------------------------------------------

    async def test_discarding_takes_the_oldest_away_and_lets_a_waiting_writer_go_on(self, opened: Opener) -> None:
        channel = await opened(2)
        assert not channel.recv.discard_oldest()
        async with anyio.create_task_group() as tasks:
            sending = await self.begin(tasks, lambda: fill(channel, 3))
            assert channel.recv.discard_oldest()
            await self.settle()
            assert sending.is_over
            assert [await channel.recv.receive(), await channel.recv.receive()] == [1, 2]
        assert not channel.recv.discard_oldest()
        assert channel.recv.statistics().dropped == 1

    # -- closing ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("maxsize", [1, 2, 64])
    async def test_after_the_writer_has_closed_the_reader_gets_what_was_sent_and_then_the_end(
        self, opened: Opener, maxsize: int
    ) -> None:
        channel = await opened(maxsize, name="prices")
        await fill(channel, maxsize)
        await channel.send.aclose()
        assert [await channel.recv.receive() for _ in range(maxsize)] == list(range(maxsize))
        said = "the writer of channel 'prices' has closed, and everything it sent has been received"
        for _ in range(2):
            with pytest.raises(EndOfStream) as end:
                await channel.recv.receive()
            assert self.plain(end.value) == said
            with pytest.raises(EndOfStream):
                channel.recv.receive_nowait()
            with pytest.raises(EndOfStream):
                channel.recv.has_item()
        assert not isinstance(end.value, ChannelClosed)

    @pytest.mark.parametrize("maxsize", [0, 1])
    async def test_a_reader_that_waits_meets_the_end_when_the_writer_closes(self, opened: Opener, maxsize: int) -> None:
        channel = await opened(maxsize)
        async with anyio.create_task_group() as tasks:
            receiving = await self.begin(tasks, channel.recv.receive)
            await channel.send.aclose()
        assert isinstance(receiving.error, EndOfStream)

    async def test_an_item_kept_by_a_rendezvous_is_received_before_the_end(self, opened: Opener) -> None:
        channel = await opened(0)
        async with anyio.create_task_group() as tasks:
            receiving = await self.begin(tasks, channel.recv.receive)
            channel.send.send_nowait("kept")
            await channel.send.aclose()
            receiving.cancel()
            await self.settle()
        got = [] if receiving.result is None else [receiving.result]
        assert [*got, *[item async for item in channel.recv]] == ["kept"]

    @pytest.mark.parametrize("maxsize", [0, 1])
    @pytest.mark.parametrize("wait", ["send", "wait_room"])
    async def test_a_writer_that_waits_is_told_when_the_reader_closes(
        self, opened: Opener, maxsize: int, wait: str
    ) -> None:
        channel = await opened(maxsize, name="prices")
        await fill(channel, maxsize)
        async with anyio.create_task_group() as tasks:
            sending = await self.begin(
                tasks, channel.send.wait_room if wait == "wait_room" else lambda: channel.send.send("x")
            )
            await channel.recv.aclose()
        assert isinstance(sending.error, ChannelClosed)
        assert self.plain(sending.error) == "the reader of channel 'prices' has closed; nothing can be sent any more"
        assert channel.send.statistics().accepted == maxsize

    @pytest.mark.parametrize("policy", ["block", "latest", "drop_oldest", "drop_newest"])
    async def test_after_the_reader_has_closed_every_way_of_sending_says_so(
        self, opened: Opener, policy: Policy
    ) -> None:
        channel = await opened(1, policy=policy, name="prices")
        await channel.recv.aclose()
        await self.settle()
        sends: list[Callable[[], Awaitable[None]]] = [lambda: channel.send.send("x"), channel.send.wait_room]
        for send in sends:
            with pytest.raises(ChannelClosed, match=r"the reader of channel 'prices'.* has closed; nothing"):
                await send()
        with pytest.raises(ChannelClosed):
            channel.send.send_nowait("x")
        with pytest.raises(ChannelClosed):
            channel.send.has_room()
        with anyio.fail_after(5):
            await channel.send.drain()

    @pytest.mark.parametrize("policy", ["block", "latest", "drop_oldest", "drop_newest"])
    async def test_after_the_writer_has_closed_its_end_it_cannot_send_any_more(
        self, opened: Opener, policy: Policy
    ) -> None:
        channel = await opened(1, policy=policy)
        await channel.send.aclose()
        sends: list[Callable[[], Awaitable[None]]] = [lambda: channel.send.send("x"), channel.send.wait_room]
        for send in sends:
            with pytest.raises(ChannelClosed, match="was closed here"):
                await send()
        with pytest.raises(ChannelClosed, match="was closed here"):
            channel.send.send_nowait("x")
        with pytest.raises(ChannelClosed, match="was closed here"):
            channel.send.has_room()

    async def test_a_writer_that_has_closed_its_end_is_told_which_it_was(self, opened: Opener) -> None:
        channel = await opened(1, name="prices")
        await channel.send.aclose()
        with pytest.raises(ChannelClosed) as closed:
            await channel.send.send("x")
        assert self.plain(closed.value) == (
            "the writing end of channel 'prices' was closed here; nothing can be sent any more"
        )

    @pytest.mark.parametrize("item_waits", [False, True])
    async def test_a_reading_end_that_was_closed_by_its_owner_is_both_closed_and_ended(
        self, opened: Opener, item_waits: bool
    ) -> None:
        channel = await opened(2, name="prices")
        await fill(channel, int(item_waits))
        await channel.recv.aclose()
        said = "the reading end of channel 'prices' was closed here; nothing can be received any more"
        with pytest.raises(EndClosed) as closed:
            await channel.recv.receive()
        assert self.plain(closed.value) == said
        assert isinstance(closed.value, ChannelClosed)
        assert isinstance(closed.value, EndOfStream)
        with pytest.raises(EndClosed):
            channel.recv.receive_nowait()
        with pytest.raises(EndClosed):
            channel.recv.has_item()
        assert [item async for item in channel.recv] == []

    async def test_an_end_that_is_closed_while_its_own_task_waits_in_it_tells_that_task(self, opened: Opener) -> None:
        writing, reading = await opened(1), await opened(1)
        async with anyio.create_task_group() as tasks:
            await fill(writing, 1)
            sending = await self.begin(tasks, lambda: writing.send.send("x"))
            receiving = await self.begin(tasks, reading.recv.receive)
            await writing.send.aclose()
            await reading.recv.aclose()
        assert type(sending.error) is ChannelClosed
        assert "was closed here" in str(sending.error)
        assert type(receiving.error) is EndClosed
        assert [item async for item in writing.recv] == [0]

    async def test_to_close_again_changes_nothing_from_either_side(self, opened: Opener) -> None:
        channel = await opened(2)
        await fill(channel, 1)
        await channel.send.aclose()
        await channel.send.aclose()
        assert await channel.recv.receive() == 0
        await channel.recv.aclose()
        before = channel.recv.statistics()
        await channel.recv.aclose()
        await channel.send.aclose()
        await self.settle()
        assert channel.recv.statistics() == before

    async def test_to_close_never_waits_however_full_the_channel_is(self, opened: Opener) -> None:
        full, waited_for = await opened(1), await opened(0)
        await fill(full, 1)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await full.send.aclose()
            await full.recv.aclose()
            await waited_for.recv.aclose()
            await waited_for.send.aclose()
        assert not scope.cancelled_caught

    # -- one task at a time -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("maxsize", [0, 1])
    @pytest.mark.parametrize("first", ["send", "wait_room"])
    async def test_a_second_writer_beside_one_that_waits_is_refused_and_told_what_to_do(
        self, opened: Opener, maxsize: int, first: str
    ) -> None:
        channel = await opened(maxsize, name="prices")
        await fill(channel, maxsize)
        async with anyio.create_task_group() as tasks:
            waiting = await self.begin(
                tasks, channel.send.wait_room if first == "wait_room" else lambda: channel.send.send("first")
            )
            for name, second in {"send": lambda: channel.send.send("x"), "wait": channel.send.wait_room}.items():
                with pytest.raises(ChannelInUse) as refusal:
                    await second()
                assert self.plain(refusal.value) == (
                    "a task is waiting in the writing end of channel 'prices', and another send() came beside it; "
                    "one task writes to a channel: give each writer a channel of its own and merge() them"
                ), name
            with pytest.raises(ChannelInUse, match=r"and send_nowait\(\) came beside it"):
                channel.send.send_nowait("x")
            await self.settle()
            assert not waiting.is_over
            assert not channel.send.has_room()
            assert channel.send.statistics().accepted == maxsize
            got = [await channel.recv.receive() for _ in range(maxsize + (first == "send"))]
            assert got == [*range(maxsize), *["first"] * (first == "send")]
            tasks.cancel_scope.cancel()
        await self.settle()

    @pytest.mark.parametrize("maxsize", [0, 1])
    async def test_a_second_reader_beside_one_that_waits_is_refused_and_told_what_to_do(
        self, opened: Opener, maxsize: int
    ) -> None:
        channel, other = await opened(maxsize, name="prices"), await opened(1)
        async with anyio.create_task_group() as tasks:
            waiting = await self.begin(tasks, channel.recv.receive)
            with pytest.raises(ChannelInUse) as refusal:
                await channel.recv.receive()
            assert self.plain(refusal.value) == (
                "a task is waiting in the reading end of channel 'prices', and another receive() came beside it; "
                "one task reads from a channel: use tee() or load_balance() to serve several"
            )
            with pytest.raises(ChannelInUse, match=r"and another receive\(\) came beside it"):
                await channel.recv.wait_item()
            with pytest.raises(ChannelInUse, match=r"and receive_nowait\(\) came beside it"):
                channel.recv.receive_nowait()
            with pytest.raises(ChannelInUse, match=r"and select\(\) came beside it"):
                await select(other.recv, channel.recv)
            assert not channel.recv.has_item()
            await channel.send.send("x")
            await self.settle()
            assert waiting.result == "x"
        # The select that was refused has let go of the end it had already asked.
        await other.send.send("y")
        assert await other.recv.receive() == "y"

    async def test_a_reader_beside_a_select_that_waits_is_refused(self, opened: Opener) -> None:
        channel, other = await opened(1), await opened(1)
        async with anyio.create_task_group() as tasks:
            selecting = await self.begin(tasks, lambda: select(channel.recv, other.recv))
            with pytest.raises(ChannelInUse):
                await channel.recv.receive()
            await other.send.send("x")
            await self.settle()
            assert selecting.result == (1, "x")

    async def test_a_second_drain_beside_one_that_waits_is_refused(self, opened: Opener) -> None:
        channel = await opened(1)
        await fill(channel, 1)
        async with anyio.create_task_group() as tasks:
            await self.begin(tasks, channel.send.drain)
            second = await self.begin(tasks, channel.send.drain)
            tasks.cancel_scope.cancel()
        assert isinstance(second.error, ChannelInUse)
        assert "and another drain() came beside it" in str(second.error)

    @pytest.mark.parametrize("maxsize", [0, 1])
    async def test_an_end_is_free_again_when_who_waited_in_it_was_cancelled(self, opened: Opener, maxsize: int) -> None:
        channel = await opened(maxsize)
        async with anyio.create_task_group() as tasks:
            await fill(channel, maxsize)
            sending = await self.begin(tasks, lambda: channel.send.send("cancelled"))
            sending.cancel()
            await self.settle()
            assert [await channel.recv.receive() for _ in range(maxsize)] == list(range(maxsize))
            receiving = await self.begin(tasks, channel.recv.receive)
            receiving.cancel()
            await self.settle()
            await self.begin(tasks, lambda: channel.send.send("x"))
            assert await channel.recv.receive() == "x"


class TestInsideAProcess(ChannelContract):
    """The channel of `open_channel`, in real time and while waits take turns."""

    @pytest.fixture(params=["real time", "in turns"])
    async def opened(self, request: pytest.FixtureRequest) -> Opener:
        if request.param == "in turns":
            # The first SimClock on a loop makes its waits take turns.
            SimClock()

        async def opened(maxsize: float = 0, *, policy: Policy = "block", name: str = "") -> Channel[Any]:
            return open_channel(maxsize, policy=policy, name=name)

        return opened


# -- what holds inside a process besides ------------------------------------------------------------------------------


async def test_an_item_is_handed_over_as_it_is_none_included() -> None:
    item = object()
    channel: Channel[object] = open_channel(3)
    for thing in (None, item, False):
        await channel.send.send(thing)
    assert [await channel.recv.receive() for _ in range(3)] == [None, item, False]


async def test_what_is_sent_can_be_received_at_once() -> None:
    channel: Channel[int] = open_channel(1)
    channel.send.send_nowait(1)
    assert channel.recv.has_item()
    assert channel.recv.receive_nowait() == 1
    assert channel.send.has_room()


@pytest.mark.parametrize(
    ("maxsize", "policy", "said"),
    [
        (-1, "block", "maxsize cannot be negative, got -1"),
        (-(10**30), "drop_newest", f"maxsize cannot be negative, got -{10**30}"),
        (2, "latest", "policy 'latest' keeps exactly one item, so maxsize must be 1 or left out, got 2"),
        (math.inf, "latest", "policy 'latest' keeps exactly one item, so maxsize must be 1 or left out, got inf"),
        (0, "drop_oldest", "policy 'drop_oldest' needs a maxsize of at least 1: at 0 there is no oldest item to drop"),
        (1, "blok", "policy must be one of 'block', 'latest', 'drop_oldest', 'drop_newest', got 'blok'"),
    ],
)
def test_a_channel_that_makes_no_sense_is_refused_with_what_was_met_and_expected(
    maxsize: float, policy: Any, said: str
) -> None:
    with pytest.raises(BadValue) as refusal:
        open_channel(maxsize, policy=policy)
    assert str(refusal.value) == said
    assert isinstance(refusal.value, ValueError)


@pytest.mark.parametrize(
    ("maxsize", "policy", "said"),
    [
        (1.5, "block", "maxsize must be a whole number or math.inf, got 1.5"),
        (1.0, "block", "maxsize must be a whole number or math.inf, got 1.0"),
        (math.nan, "block", "maxsize must be a whole number or math.inf, got nan"),
        (-math.inf, "block", "maxsize must be a whole number or math.inf, got -inf"),
        (True, "block", "maxsize must be a whole number or math.inf, got True"),
        ("4", "block", "maxsize must be a whole number or math.inf, got '4'"),
        (None, "block", "maxsize must be a whole number or math.inf, got None"),
        (1, None, "policy must be one of 'block', 'latest', 'drop_oldest', 'drop_newest', got None"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused_with_what_was_met_and_expected(
    maxsize: Any, policy: Any, said: str
) -> None:
    with pytest.raises(BadType) as refusal:
        open_channel(maxsize, policy=policy)
    assert str(refusal.value) == said
    assert isinstance(refusal.value, TypeError)


def test_a_channel_is_named_in_messages_or_else_described() -> None:
    named: Channel[int] = open_channel(4, name="prices")
    nameless: Channel[int] = open_channel(4)
    assert repr(named.send) == "<writing end of channel 'prices'>"
    assert repr(named.recv) == "<reading end of channel 'prices'>"
    assert repr(nameless.send) == "<writing end of a channel of maxsize 4>"


def test_the_ends_are_streams_that_others_may_write_too() -> None:
    channel: Channel[int] = open_channel()
    assert isinstance(channel.send, SendStream)
    assert isinstance(channel.recv, ReceiveStream)


MODULE_LEVEL: Channel[str] = open_channel(1)


def test_a_channel_belongs_to_no_loop_and_goes_on_in_the_next_one() -> None:
    async def use(name: str) -> None:
        async def write() -> None:
            for number in range(4):
                await MODULE_LEVEL.send.send(f"{name} {number}")

        # Somebody waits and is cancelled, at each end, and both sides wait for each other.
        with anyio.move_on_after(0):
            await MODULE_LEVEL.recv.receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            assert [await MODULE_LEVEL.recv.receive() for _ in range(4)] == [f"{name} {number}" for number in range(4)]
        await MODULE_LEVEL.send.send("left over")
        with anyio.move_on_after(0):
            await MODULE_LEVEL.send.send("not sent")
        assert await MODULE_LEVEL.recv.receive() == "left over"
        with pytest.raises(WouldBlock):
            MODULE_LEVEL.recv.receive_nowait()

    async def use_in_turns(name: str) -> None:
        SimClock()
        await use(name)

    for number, (main, backend) in enumerate(
        [(use, "asyncio"), (use, "trio"), (use_in_turns, "asyncio"), (use, "asyncio"), (use_in_turns, "trio")]
    ):
        anyio.run(main, f"run {number}", backend=backend)


def test_an_item_left_in_a_channel_by_one_loop_is_received_in_the_next() -> None:
    channel: Channel[str] = open_channel(2)

    async def receive() -> str:
        return await channel.recv.receive()

    anyio.run(channel.send.send, "from asyncio", backend="asyncio")
    assert anyio.run(receive, backend="trio") == "from asyncio"
    anyio.run(channel.send.send, "from trio", backend="trio")
    assert anyio.run(receive, backend="asyncio") == "from trio"


def test_without_a_running_loop_what_can_be_done_at_once_is_done() -> None:
    channel: Channel[int] = open_channel(1)
    channel.send.send_nowait(1)
    assert channel.recv.receive_nowait() == 1
    with pytest.raises(WouldBlock):
        channel.recv.receive_nowait()
