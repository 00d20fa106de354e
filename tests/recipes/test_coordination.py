"""select, batches and stoppable ticks: what is taken and what is left, who is answered, and when it ends.

That none of them loses or doubles an item when it is cancelled is tested in `engine/test_cancellation.py`.
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import anyio
import pytest

from geartrain import CallChannel, CallFailed, Channel, Context, Supervisor, open_calls, open_channel
from geartrain.errors import BadReply, BadType, BadValue, ChannelClosed, ChannelInUse, EndOfStream
from geartrain.ports.clock import SimClock, WallClock
from geartrain.ports.parking import take_turn
from geartrain.recipes.coordination import Pending, batcher_loop, cooperative_every, select, serve, submit


@pytest.fixture(params=["real time", "in turns"], autouse=True)
async def time_kind(request: pytest.FixtureRequest) -> None:
    if request.param == "in turns":
        # The first SimClock on a loop makes its waits take turns.
        SimClock()


async def settle() -> None:
    """Let everybody go on who can."""
    for _ in range(20):
        await take_turn()


def opened(maxsize: float, items: Iterable[int] = ()) -> Channel[int]:
    """A channel in which these items wait."""
    channel: Channel[int] = open_channel(maxsize)
    for item in items:
        channel.send.send_nowait(item)
    return channel


# How long somebody waits before the test calls it for ever. Nobody waits that long where the promises are kept.
PATIENCE_S = 5


class Task:
    """Something that is waited for in a task of its own, and how it ended; who waits for ever is fetched out."""

    def __init__(self, wait: Callable[[], Awaitable[object]]) -> None:
        self.result: object = None
        self.error: Exception | None = None
        self.is_over = False
        self._wait = wait
        self._scope = anyio.CancelScope(deadline=anyio.current_time() + PATIENCE_S)

    async def run(self) -> None:
        with self._scope:
            try:
                self.result = await self._wait()
            except Exception as error:
                self.error = error
            self.is_over = True

    def cancel(self) -> None:
        self._scope.cancel()


async def begin(tasks: anyio.abc.TaskGroup, wait: Callable[[], Awaitable[object]]) -> Task:
    """Start to wait for something, and return when it is under way."""
    task = Task(wait)
    tasks.start_soon(task.run)
    await settle()
    return task


# -- select -----------------------------------------------------------------------------------------------------------


async def test_select_gives_an_item_that_is_there_with_its_index_and_leaves_the_others_alone() -> None:
    channels = [opened(3), opened(3, [10, 11]), opened(3)]
    assert await select(*(channel.recv for channel in channels)) == (1, 10)
    assert [channel.recv.statistics().current_buffer_used for channel in channels] == [0, 1, 0]


@pytest.mark.parametrize("maxsize", [0, 1])
@pytest.mark.parametrize("speaks", [0, 1, 2])
async def test_select_waits_for_whichever_channel_has_an_item_first(maxsize: int, speaks: int) -> None:
    channels = [opened(maxsize) for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        selecting = await begin(tasks, lambda: select(*(channel.recv for channel in channels)))
        assert not selecting.is_over
        await channels[speaks].send.send(7)
        await settle()
        assert selecting.result == (speaks, 7)
    assert [channel.recv.statistics().taken for channel in channels] == [int(index == speaks) for index in range(3)]


async def test_of_channels_that_all_have_items_the_one_served_longest_ago_goes_first() -> None:
    channels = [opened(9, range(9)), opened(9, range(9)), opened(9, range(9))]
    served = [(await select(*(channel.recv for channel in channels)))[0] for _ in range(9)]
    assert served == [0, 1, 2] * 3


async def test_who_was_served_is_remembered_from_one_select_to_another() -> None:
    busy, rare = opened(9, range(9)), opened(9, range(9))
    await select(busy.recv)
    assert await select(busy.recv, rare.recv) == (1, 0)
    assert await select(rare.recv, busy.recv) == (1, 1)


async def test_of_several_writers_at_a_rendezvous_select_accepts_one() -> None:
    channels = [opened(0) for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        selecting = await begin(tasks, lambda: select(*(channel.recv for channel in channels)))
        for number, channel in enumerate(channels):
            tasks.start_soon(channel.send.send, number)
        await settle()
        assert selecting.is_over
        assert sum(channel.send.statistics().accepted for channel in channels) == 1
        assert sum(channel.send.statistics().waiters_send for channel in channels) == 2
        rest = [(await select(*(channel.recv for channel in channels)))[1] for _ in range(2)]
        assert isinstance(selecting.result, tuple)
        assert sorted([*rest, selecting.result[1]]) == [0, 1, 2]


async def test_channels_that_have_ended_are_passed_over_until_all_have() -> None:
    channels = [opened(2, [0]), opened(2), opened(2, [20, 21])]
    for channel in channels:
        await channel.send.aclose()
    got = sorted([await select(*(channel.recv for channel in channels)) for _ in range(3)])
    assert got == [(0, 0), (2, 20), (2, 21)]
    with pytest.raises(EndOfStream, match=r"^all channels of this select\(\) have ended$"):
        await select(*(channel.recv for channel in channels))


async def test_a_select_that_waits_goes_on_waiting_when_one_channel_ends_and_ends_with_the_last() -> None:
    first, second = opened(1), opened(1)
    async with anyio.create_task_group() as tasks:
        selecting = await begin(tasks, lambda: select(first.recv, second.recv))
        await first.send.aclose()
        await settle()
        assert not selecting.is_over
        await second.send.send(5)
        await settle()
        assert selecting.result == (1, 5)
        selecting = await begin(tasks, lambda: select(first.recv, second.recv))
        await second.send.aclose()
        await settle()
        assert isinstance(selecting.error, EndOfStream)


async def test_an_end_that_was_closed_by_its_owner_counts_as_ended() -> None:
    closed, other = opened(1), opened(1, [1])
    await closed.recv.aclose()
    assert await select(closed.recv, other.recv) == (1, 1)


async def test_a_select_that_was_cancelled_has_let_go_of_every_channel() -> None:
    channels = [opened(0), opened(1)]
    async with anyio.create_task_group() as tasks:
        selecting = await begin(tasks, lambda: select(*(channel.recv for channel in channels)))
        assert [channel.recv.statistics().waiters_receive for channel in channels] == [1, 1]
        selecting.cancel()
        await settle()
        assert [channel.recv.statistics().waiters_receive for channel in channels] == [0, 0]
        assert not channels[0].send.has_room()
        for channel in channels:
            receiving = await begin(tasks, channel.recv.receive)
            await channel.send.send(1)
            await settle()
            assert receiving.result == 1


async def test_a_tight_select_loop_lets_others_run_at_least_every_64_items() -> None:
    channel, rounds = opened(1_000, range(1_000)), 0

    async def look() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        for _ in range(1_000):
            await select(channel.recv)
        tasks.cancel_scope.cancel()
    assert rounds >= 1_000 // 64 - 1


async def test_a_select_of_nothing_is_refused() -> None:
    with pytest.raises(BadValue, match=r"^select\(\) requires at least one receiver$"):
        await select()


async def test_a_channel_named_twice_in_one_select_is_refused() -> None:
    channel = opened(1)
    with pytest.raises(ChannelInUse):
        await select(channel.recv, channel.recv)


# -- batches ----------------------------------------------------------------------------------------------------------

Requests = Channel[Pending[int, int]]


class Forward:
    """Multiplies by ten, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def __call__(self, batch: list[int]) -> list[int]:
        self.batches.append(batch)
        await take_turn()
        return [request * 10 for request in batch]


async def ask(tasks: anyio.abc.TaskGroup, requests: Requests, numbers: Iterable[int]) -> list[Task]:
    """Callers who wait, each for the answer to its number."""
    return [await begin(tasks, partial(submit, requests.send, number)) for number in numbers]


async def test_a_batch_is_what_is_there_already_and_everybody_gets_its_own_answer() -> None:
    requests: Requests = open_channel(10)
    forward = Forward()
    async with anyio.create_task_group() as tasks:
        callers = await ask(tasks, requests, range(5))
        tasks.start_soon(batcher_loop, requests.recv, forward)
        await settle()
        assert forward.batches == [[0, 1, 2, 3, 4]]
        assert [caller.result for caller in callers] == [0, 10, 20, 30, 40]
        await requests.send.aclose()


async def test_a_batch_holds_max_batch_requests_at_most() -> None:
    requests: Requests = open_channel(10)
    forward = Forward()
    async with anyio.create_task_group() as tasks:
        callers = await ask(tasks, requests, range(7))
        tasks.start_soon(lambda: batcher_loop(requests.recv, forward, max_batch=3))
        await settle()
        await requests.send.aclose()
    assert forward.batches == [[0, 1, 2], [3, 4, 5], [6]]
    assert [caller.result for caller in callers] == [number * 10 for number in range(7)]


@pytest.mark.parametrize("maxsize", [0, 1, 4])
async def test_many_tasks_may_submit_through_one_stream_and_are_served_in_the_order_of_their_coming(
    maxsize: int,
) -> None:
    requests: Requests = open_channel(maxsize)
    forward = Forward()
    async with anyio.create_task_group() as tasks:
        callers = await ask(tasks, requests, range(10))
        tasks.start_soon(batcher_loop, requests.recv, forward)
        await settle()
        for _ in range(10):
            await settle()
        await requests.send.aclose()
    assert [number for batch in forward.batches for number in batch] == [*range(10)]
    assert [caller.result for caller in callers] == [number * 10 for number in range(10)]


async def test_a_batch_waits_max_queue_delay_from_its_first_request_and_goes_when_it_is_full() -> None:
    clock = SimClock()
    requests: Requests = open_channel(10)
    forward = Forward()
    answered: list[tuple[int, float]] = []

    async def ask_at(number: int, at_s: float) -> None:
        await clock.sleep(at_s)
        await submit(requests.send, number)
        answered.append((number, clock.now()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: batcher_loop(requests.recv, forward, max_batch=3, max_queue_delay=1.0, clock=clock))
        # 0 and 1 wait out the second that began with 0; 2, 3 and 4 are a full batch; 5 is alone.
        for number, at_s in enumerate([0.5, 1.25, 2.0, 2.25, 2.5, 5.0]):
            tasks.start_soon(ask_at, number, at_s)
        await settle()
        await clock.run()
        await requests.send.aclose()
    assert forward.batches == [[0, 1], [2, 3, 4], [5]]
    assert sorted(answered) == [(0, 1.5), (1, 1.5), (2, 2.5), (3, 2.5), (4, 2.5), (5, 6.0)]


async def test_requests_of_the_moment_in_which_a_batch_goes_are_in_it_or_in_the_next_and_never_lost() -> None:
    clock = SimClock()
    requests: Requests = open_channel(0)
    forward = Forward()
    answers: list[int] = []

    async def ask_at(number: int, at_s: float) -> None:
        await clock.sleep(at_s)
        answers.append(await submit(requests.send, number))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: batcher_loop(requests.recv, forward, max_queue_delay=1.0, clock=clock))
        for number in range(12):
            tasks.start_soon(ask_at, number, 0.5 * (number // 2))
        await settle()
        await clock.run()
        await requests.send.aclose()
    assert sorted(answers) == [number * 10 for number in range(12)]


async def test_without_a_delay_a_lone_request_does_not_wait_for_company() -> None:
    requests: Requests = open_channel(10)
    forward = Forward()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(batcher_loop, requests.recv, forward)
        for number in range(3):
            assert await submit(requests.send, number) == number * 10
        await requests.send.aclose()
    assert forward.batches == [[0], [1], [2]]


async def test_the_last_batch_is_answered_when_no_more_will_come() -> None:
    clock = SimClock()
    requests: Requests = open_channel(10)
    forward = Forward()
    async with anyio.create_task_group() as tasks:
        callers = await ask(tasks, requests, range(2))
        await requests.send.aclose()
        # Nobody drives the clock: the end cuts the delay short.
        await batcher_loop(requests.recv, forward, max_batch=5, max_queue_delay=60, clock=clock)
    assert [caller.result for caller in callers] == [0, 10]


async def test_a_batcher_without_requests_ends_with_its_source_and_forwards_nothing() -> None:
    requests: Requests = open_channel(1)
    await requests.send.aclose()
    forward = Forward()
    await batcher_loop(requests.recv, forward)
    assert forward.batches == []


async def test_what_forward_raises_is_raised_to_everybody_in_the_batch_and_the_next_batch_is_answered() -> None:
    requests: Requests = open_channel(10)
    error = ValueError("no batch with 1 in it")

    async def forward(batch: list[int]) -> list[int]:
        if 1 in batch:
            raise error
        return batch

    async with anyio.create_task_group() as tasks:
        callers = await ask(tasks, requests, range(4))
        tasks.start_soon(lambda: batcher_loop(requests.recv, forward, max_batch=2))
        await settle()
        await requests.send.aclose()
    assert [caller.error for caller in callers] == [error, error, None, None]
    assert [caller.result for caller in callers[2:]] == [2, 3]


async def test_a_forward_that_answers_with_another_number_of_responses_is_an_error_to_everybody() -> None:
    requests: Requests = open_channel(10)

    async def forward(batch: list[int]) -> list[int]:
        return batch[:1]

    async with anyio.create_task_group() as tasks:
        callers = await ask(tasks, requests, range(3))
        tasks.start_soon(batcher_loop, requests.recv, forward)
        await settle()
        await requests.send.aclose()
    assert [type(caller.error) for caller in callers] == [BadReply] * 3
    assert str(callers[0].error) == "forward returned 1 responses for 3 requests"
    assert isinstance(callers[0].error, RuntimeError)


async def test_a_caller_that_has_left_is_not_answered_and_does_not_hold_up_the_others() -> None:
    requests: Requests = open_channel(10)
    forward = Forward()
    async with anyio.create_task_group() as tasks:
        callers = await ask(tasks, requests, range(3))
        callers[1].cancel()
        await settle()
        tasks.start_soon(batcher_loop, requests.recv, forward)
        await settle()
        await requests.send.aclose()
    assert [caller.result for caller in callers] == [0, None, 20]


async def test_a_caller_that_leaves_the_queue_has_sent_nothing_and_the_next_in_it_goes_on() -> None:
    requests: Requests = open_channel(0)
    forward = Forward()
    async with anyio.create_task_group() as tasks:
        callers = await ask(tasks, requests, range(3))
        callers[0].cancel()
        callers[1].cancel()
        await settle()
        tasks.start_soon(batcher_loop, requests.recv, forward)
        await settle()
        await requests.send.aclose()
    assert callers[2].result == 20
    assert forward.batches == [[2]]


async def test_to_submit_when_the_batcher_has_closed_says_so() -> None:
    requests: Requests = open_channel(1)
    await requests.recv.aclose()
    with pytest.raises(ChannelClosed):
        await submit(requests.send, 1)


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        ({"max_batch": 0}, BadValue, "max_batch must be >= 1, got 0"),
        ({"max_batch": 2.0}, BadType, "max_batch must be a whole number, got 2.0"),
        ({"max_queue_delay": -0.1}, BadValue, "max_queue_delay must be >= 0, got -0.1"),
        ({"max_queue_delay": "1s"}, BadType, "max_queue_delay must be a number, got '1s'"),
        ({"max_queue_delay": 0.1}, BadValue, "max_queue_delay > 0 requires a clock for the timer"),
    ],
)
async def test_a_batcher_that_makes_no_sense_is_refused(
    wrong: dict[str, Any], kind: type[Exception], said: str
) -> None:
    requests: Requests = open_channel(1)
    with pytest.raises(kind) as refusal:
        await batcher_loop(requests.recv, Forward(), **wrong)
    assert str(refusal.value) == said


# -- calls ------------------------------------------------------------------------------------------------------------


async def test_several_clients_are_served_one_call_at_a_time_and_in_turn_until_all_have_closed() -> None:
    ports: list[CallChannel[int, int]] = [open_calls(), open_calls()]
    served: list[int] = []

    async def handle(number: int) -> int:
        served.append(number)
        await settle()
        assert served[-1] == number
        if number == 11:
            raise OSError("eleven")
        return -number

    async with anyio.create_task_group() as tasks:
        callers = [await begin(tasks, partial(ports[number // 10].caller.call, number)) for number in (0, 1, 2, 10, 11)]
        for port in ports:
            await port.caller.aclose()
        with anyio.fail_after(PATIENCE_S):
            await serve(handle, *(port.calls for port in ports))
        await settle()
    assert served == [0, 10, 1, 11, 2]
    assert [caller.result for caller in callers[:4]] == [0, -1, -2, -10]
    assert isinstance(callers[4].error, CallFailed)


async def test_a_server_of_several_that_is_started_again_takes_up_what_it_had_in_hand() -> None:
    port: CallChannel[int, int] = open_calls()

    async def never(number: int) -> int:
        await anyio.sleep_forever()
        return number

    async def negative(number: int) -> int:
        return -number

    async with anyio.create_task_group() as tasks:
        caller = await begin(tasks, partial(port.caller.call, 5))
        async with anyio.create_task_group() as first_life:
            first_life.start_soon(serve, never, port.calls)
            await settle()
            first_life.cancel_scope.cancel()
        await port.caller.aclose()
        await serve(negative, port.calls)
        await settle()
    assert caller.result == -5


# -- ticks ------------------------------------------------------------------------------------------------------------


async def ticks_until_stopped(stop_at_s: float, period_s: float, body_s: float = 0.0) -> tuple[list[float], float]:
    """The ticks a daemon saw that was asked to stop at this time, and when it ended."""
    clock, ticks, ended = SimClock(), list[float](), list[float]()

    async def daemon(ctx: Context) -> None:
        async for at_s in cooperative_every(ctx, period_s):
            ticks.append(at_s)
            await ctx.clock.sleep(body_s)
        ended.append(ctx.clock.now())

    async with Supervisor(clock=clock) as supervisor:
        supervisor.spawn(daemon)
        await clock.advance(stop_at_s)
        supervisor.signal_stop()
        await clock.run()
    return ticks, ended[0]


async def test_ticks_come_on_the_grid_and_end_as_soon_as_the_daemon_is_asked_to_stop() -> None:
    assert await ticks_until_stopped(2.25, 0.5) == ([0.5, 1.0, 1.5, 2.0], 2.25)


async def test_a_daemon_asked_to_stop_before_its_first_tick_sees_none() -> None:
    assert await ticks_until_stopped(0.0, 10.0) == ([], 0.0)


async def test_the_body_of_a_tick_is_finished_before_the_ticks_end() -> None:
    assert await ticks_until_stopped(1.25, 1.0, body_s=0.5) == ([1.0], 1.5)


async def test_slots_missed_by_a_long_body_are_skipped() -> None:
    assert await ticks_until_stopped(7.5, 1.0, body_s=2.25) == ([1.0, 4.0, 7.0], 9.25)


@pytest.mark.parametrize("period_s", [0, -1, float("inf")])
async def test_a_period_that_makes_no_sense_is_refused(period_s: float) -> None:
    refused: list[Exception] = []

    async def daemon(ctx: Context) -> None:
        try:
            cooperative_every(ctx, period_s)
        except BadValue as refusal:
            refused.append(refusal)

    async with Supervisor(clock=WallClock()) as supervisor:
        supervisor.spawn(daemon)
    assert str(refused[0]) == f"every() period must be positive, got {period_s!r}"


async def test_a_forward_that_returns_no_list_answers_everybody_with_an_error() -> None:
    requests: Channel[Pending[int, int]] = open_channel(4)

    async def forgets_to_return(_: list[int]) -> list[int]:
        return None  # type: ignore[return-value]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(batcher_loop, requests.recv, forgets_to_return)
        with pytest.raises(BadReply, match="returned None"):
            await submit(requests.send, 1)
        await requests.send.aclose()
