"""tee, merge, load_balance and worker_pool: who gets what, who waits for whom, and how they end.

That none of them loses or doubles an item when it is cancelled is tested in `engine/test_cancellation.py`.
"""

from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import anyio
import pytest

from geartrain import Channel, ReceiveStream, open_channel
from geartrain.engine.options import ChannelOptions
from geartrain.engine.remote import reading, writing
from geartrain.errors import BadType, BadValue, ChannelClosed, EndOfStream
from geartrain.ports.clock import SimClock
from geartrain.ports.inner import InnerTransport
from geartrain.ports.parking import take_turn
from geartrain.recipes.routing import load_balance, merge, tee, worker_pool
from geartrain.recipes.state import DropOldestSend


@pytest.fixture(params=["real time", "in turns"], autouse=True)
async def time_kind(request: pytest.FixtureRequest) -> None:
    if request.param == "in turns":
        # The first SimClock on a loop makes its waits take turns.
        SimClock()


async def settle() -> None:
    """Let everybody go on who can."""
    for _ in range(40):
        await take_turn()


def opened(maxsize: float, items: Iterable[int] = (), *, closed: bool = False) -> Channel[int]:
    """A channel in which these items wait."""
    channel: Channel[int] = open_channel(maxsize)
    for item in items:
        channel.send.send_nowait(item)
    if closed:
        close_now(channel)
    return channel


def close_now(channel: Channel[int]) -> None:
    """To close never waits."""
    with pytest.raises(StopIteration):
        next(channel.send.aclose().__await__())


def opened_results(maxsize: float) -> Channel[int | Exception]:
    return open_channel(maxsize)


def waiting_in(channel: Channel[Any]) -> list[Any]:
    items: list[Any] = []
    while True:
        try:
            if not channel.recv.has_item():
                return items
        except EndOfStream:
            return items
        items.append(channel.recv.receive_nowait())


def is_closed(channel: Channel[Any]) -> bool:
    return channel.send.statistics().open_send_streams == 0


async def into(inp: ReceiveStream[Any], got: list[Any]) -> None:
    async for item in inp:
        got.append(item)


async def is_over_by_itself(work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Whether it ends without anybody doing anything."""
    over = False

    async def run() -> None:
        nonlocal over
        await work()
        over = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await settle()
        ended = over
        tasks.cancel_scope.cancel()
    return ended


# -- tee --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maxsize", [0, 1, 4])
async def test_tee_sends_every_item_to_every_destination_in_order_and_then_closes_them(maxsize: int) -> None:
    source = opened(100, range(100), closed=True)
    dests = [opened(maxsize) for _ in range(3)]
    got: list[list[int]] = [[], [], []]
    async with anyio.create_task_group() as tasks:
        for dest, items in zip(dests, got, strict=True):
            tasks.start_soon(into, dest.recv, items)
        await tee(source.recv, *(dest.send for dest in dests))
    assert got == [[*range(100)]] * 3


async def test_the_slowest_destination_of_a_tee_sets_the_pace() -> None:
    source, slow, fast = opened(100, range(100)), opened(2), opened(100)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tee, source.recv, slow.send, fast.send)
        await settle()
        assert source.recv.statistics().taken == 2
        assert await slow.recv.receive() == 0
        await settle()
        assert source.recv.statistics().taken == 3
        assert waiting_in(fast) == [0, 1, 2]
        tasks.cancel_scope.cancel()


async def test_a_tee_takes_nothing_while_one_of_its_destinations_has_no_room() -> None:
    source, full, free = opened(1, [7]), opened(1, [0]), opened(1)
    assert not await is_over_by_itself(lambda: tee(source.recv, full.send, free.send))
    assert waiting_in(source) == [7]
    assert waiting_in(free) == []


@pytest.mark.parametrize("maxsize", [0, 1])
async def test_one_task_may_read_the_destinations_of_a_tee_one_after_another(maxsize: int) -> None:
    source, left, right = opened(3, range(3), closed=True), opened(maxsize), opened(maxsize)
    got: list[int] = []
    with anyio.move_on_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tee, source.recv, left.send, right.send)
            for _ in range(3):
                got.append(await left.recv.receive())
                got.append(await right.recv.receive())
    assert got == [0, 0, 1, 1, 2, 2]


async def test_a_tee_whose_reader_has_closed_says_so_and_takes_nothing_more() -> None:
    source, gone, other = opened(3, range(3)), opened(1), opened(5)
    await gone.recv.aclose()
    with pytest.raises(ChannelClosed, match="has closed"):
        await tee(source.recv, gone.send, other.send)
    assert waiting_in(source) == [0, 1, 2]
    assert waiting_in(other) == []


# -- merge ------------------------------------------------------------------------------------------------------------


async def test_merge_sends_the_items_of_every_source_in_their_order_and_then_closes_the_destination() -> None:
    sources = [opened(50, range(first, first + 50), closed=True) for first in (0, 100, 200)]
    dest, got = opened(1), list[int]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(into, dest.recv, got)
        await merge([source.recv for source in sources], dest.send)
    for first in (0, 100, 200):
        assert [item for item in got if first <= item < first + 100] == [*range(first, first + 50)]
    assert len(got) == 150


async def test_busy_sources_are_served_in_turn() -> None:
    sources = [opened(50, [number] * 50, closed=True) for number in range(3)]
    dest = opened(200)
    await merge([source.recv for source in sources], dest.send)
    got = waiting_in(dest)
    assert [sorted(got[at : at + 3]) for at in range(0, 150, 3)] == [[0, 1, 2]] * 50


async def test_a_source_that_ends_early_is_passed_over() -> None:
    ended, busy, dest = opened(2, [0, 1], closed=True), opened(5, range(10, 15), closed=True), opened(10)
    await merge([ended.recv, busy.recv], dest.send)
    assert sorted(waiting_in(dest)) == [0, 1, 10, 11, 12, 13, 14]


async def test_a_merge_waits_for_whichever_source_speaks_next() -> None:
    quiet, dest, got = opened(0), opened(0), list[int]()
    talking = opened(0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(into, dest.recv, got)
        tasks.start_soon(merge, [quiet.recv, talking.recv], dest.send)
        for number in range(3):
            await talking.send.send(number)
            await settle()
            assert got == [*range(number + 1)]
        await quiet.send.send(100)
        await settle()
        assert got[-1] == 100
        await quiet.send.aclose()
        await talking.send.aclose()


async def test_a_merge_takes_nothing_while_its_destination_has_no_room() -> None:
    sources, dest = [opened(1, [1]), opened(1, [2])], opened(1, [0])
    assert not await is_over_by_itself(lambda: merge([source.recv for source in sources], dest.send))
    assert [waiting_in(source) for source in sources] == [[1], [2]]


async def test_a_merge_whose_reader_has_closed_says_so_and_takes_nothing_more() -> None:
    source, dest = opened(1, [1]), opened(1)
    await dest.recv.aclose()
    with pytest.raises(ChannelClosed, match="has closed"):
        await merge([source.recv], dest.send)
    assert waiting_in(source) == [1]


# -- load_balance -----------------------------------------------------------------------------------------------------


async def test_load_balance_deals_the_items_out_in_turn_and_then_closes_the_destinations() -> None:
    source, dests = opened(10, range(10), closed=True), [opened(10) for _ in range(3)]
    await load_balance(source.recv, [dest.send for dest in dests])
    assert all(is_closed(dest) for dest in dests)
    assert [waiting_in(dest) for dest in dests] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]


async def test_load_balance_waits_for_the_destination_whose_turn_it_is_and_takes_nothing_meanwhile() -> None:
    source, full, free = opened(10, range(10)), opened(1), opened(10)
    assert not await is_over_by_itself(lambda: load_balance(source.recv, [full.send, free.send]))
    assert (waiting_in(full), waiting_in(free)) == ([0], [1])
    assert source.recv.statistics().taken == 2


# -- lossy sources ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tee", "merge", "load_balance"])
@pytest.mark.parametrize("maxsize", [0, 1])
async def test_a_recipe_goes_on_when_the_item_it_waited_for_is_dropped_for_a_newer_one(kind: str, maxsize: int) -> None:
    source, dest = opened(maxsize), opened(1, [100])
    out = DropOldestSend(source.send, source.recv)
    routes: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "tee": lambda: tee(source.recv, dest.send),
        "merge": lambda: merge([source.recv], dest.send),
        "load_balance": lambda: load_balance(source.recv, [dest.send]),
    }
    got: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(routes[kind])
        for number in range(5):
            await settle()
            await out.send(number)
        await settle()
        tasks.start_soon(into, dest.recv, got)
        await settle()
        await out.send(5)
        await settle()
        await out.aclose()
    assert got[0] == 100
    assert got[-1] == 5
    assert got[1:] == sorted(set(got[1:]))
    assert len(got) - 1 + out.dropped == 6


@pytest.mark.parametrize("kind", ["tee", "merge", "load_balance"])
@pytest.mark.parametrize("maxsize", [0, 1])
async def test_a_recipe_goes_on_when_the_item_it_waited_for_is_discarded(kind: str, maxsize: int) -> None:
    source, dest = opened(maxsize), opened(1, [100])
    routes: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "tee": lambda: tee(source.recv, dest.send),
        "merge": lambda: merge([source.recv], dest.send),
        "load_balance": lambda: load_balance(source.recv, [dest.send]),
    }
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(routes[kind])
        await settle()
        if source.send.has_room():
            source.send.send_nowait(0)
        await settle()
        source.recv.discard_oldest()
        assert await dest.recv.receive() == 100
        await settle()
        await source.send.send(1)
        assert await dest.recv.receive() == 1
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["tee", "merge", "load_balance"])
async def test_a_recipe_ends_when_the_item_it_waited_for_is_discarded_and_no_more_will_come(kind: str) -> None:
    source, dest = opened(1, [0]), opened(1, [100])
    routes: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "tee": lambda: tee(source.recv, dest.send),
        "merge": lambda: merge([source.recv], dest.send),
        "load_balance": lambda: load_balance(source.recv, [dest.send]),
    }
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(routes[kind])
        await settle()
        source.recv.discard_oldest()
        await source.send.aclose()
        assert await dest.recv.receive() == 100
    assert is_closed(dest)


async def test_a_merge_serves_the_others_when_the_item_it_waited_for_is_discarded() -> None:
    quiet, talking, dest = opened(1, [0]), opened(1), opened(1, [100])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(merge, [quiet.recv, talking.recv], dest.send)
        await settle()
        quiet.recv.discard_oldest()
        await talking.send.send(1)
        assert await dest.recv.receive() == 100
        await settle()
        served = waiting_in(dest)
        tasks.cancel_scope.cancel()
    assert served == [1]


# -- how they end -----------------------------------------------------------------------------------------------------

Route = Callable[[Channel[int], Channel[int]], Coroutine[Any, Any, None]]

every_route = pytest.mark.parametrize(
    "route",
    [
        pytest.param(lambda source, dest: tee(source.recv, dest.send), id="tee"),
        pytest.param(lambda source, dest: merge([source.recv], dest.send), id="merge"),
        pytest.param(lambda source, dest: load_balance(source.recv, [dest.send]), id="load_balance"),
    ],
)


@every_route
async def test_a_recipe_ends_with_its_source_and_closes_its_output(route: Route) -> None:
    source, dest = opened(3, range(3), closed=True), opened(4)
    assert await is_over_by_itself(lambda: route(source, dest))
    assert is_closed(dest)
    assert waiting_in(dest) == [0, 1, 2]


@every_route
async def test_a_recipe_ends_with_its_source_even_when_its_output_is_just_full(route: Route) -> None:
    source, dest = opened(3, range(3), closed=True), opened(3)
    assert await is_over_by_itself(lambda: route(source, dest))
    assert is_closed(dest)
    assert waiting_in(dest) == [0, 1, 2]


@every_route
async def test_a_recipe_that_is_cancelled_leaves_its_output_open_so_that_it_can_be_run_again(route: Route) -> None:
    source, dest = opened(3, range(3)), opened(10)
    assert not await is_over_by_itself(lambda: route(source, dest))
    assert not is_closed(dest)
    close_now(source)
    assert await is_over_by_itself(lambda: route(source, dest))
    assert waiting_in(dest) == [0, 1, 2]


async def test_outputs_are_left_open_where_that_is_asked_for() -> None:
    def source() -> Channel[int]:
        return opened(2, range(2), closed=True)

    async def same(item: int) -> int:
        return item

    merged, results, balanced = opened(5), opened_results(5), [opened(5), opened(5)]
    await merge([source().recv], merged.send, close_dest=False)
    await load_balance(source().recv, [dest.send for dest in balanced], close_dests=False)
    await worker_pool(source().recv, results.send, same, close_results=False)
    assert not any([is_closed(merged), is_closed(results), *map(is_closed, balanced)])
    await merged.send.send(99)
    assert waiting_in(merged) == [0, 1, 99]


async def test_a_recipe_with_nothing_to_read_from_or_to_write_to_is_refused() -> None:
    channel = opened(1)
    with pytest.raises(BadValue, match=r"^tee\(\) requires at least one destination$"):
        await tee(channel.recv)
    with pytest.raises(BadValue, match=r"^merge\(\) requires at least one source$"):
        await merge([], channel.send)
    with pytest.raises(BadValue, match=r"^load_balance\(\) requires at least one destination$"):
        await load_balance(channel.recv, [])


# -- worker_pool ------------------------------------------------------------------------------------------------------


class Shop:
    """Workers whose jobs take as long as the test says."""

    def __init__(self) -> None:
        self.at_work: list[int] = []
        self.most_at_work = 0
        self.begun: list[int] = []
        self._may_finish: set[int] = set()

    def finish(self, *jobs: int) -> None:
        self._may_finish.update(jobs)

    async def handle(self, job: int) -> int:
        self.begun.append(job)
        self.at_work.append(job)
        self.most_at_work = max(self.most_at_work, len(self.at_work))
        while job not in self._may_finish:
            await take_turn()
        self.at_work.remove(job)
        return job * 10


async def test_a_pool_works_on_as_many_items_at_a_time_as_it_has_workers() -> None:
    incoming, results, shop = opened(10, range(10), closed=True), opened_results(10), Shop()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: worker_pool(incoming.recv, results.send, shop.handle, workers=3))
        await settle()
        assert sorted(shop.at_work) == [0, 1, 2]
        shop.finish(1)
        await settle()
        assert sorted(shop.at_work) == [0, 2, 3]
        shop.finish(*range(10))
    assert shop.most_at_work == 3
    assert sorted(waiting_in(results)) == [job * 10 for job in range(10)]


async def test_results_come_in_the_order_of_finishing() -> None:
    incoming, results, shop = opened(3, range(3), closed=True), opened_results(10), Shop()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: worker_pool(incoming.recv, results.send, shop.handle, workers=3))
        for job in (2, 0, 1):
            shop.finish(job)
            await settle()
    assert waiting_in(results) == [20, 0, 10]
    assert is_closed(results)


@pytest.mark.parametrize(("workers", "buffer", "taken"), [(1, 0, 1), (1, 2, 3), (3, 0, 3), (2, 1, 4)])
async def test_a_pool_takes_no_more_than_its_workers_and_their_buffers_hold(
    workers: int, buffer: int, taken: int
) -> None:
    incoming, results, shop = opened(20, range(20)), opened_results(0), Shop()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            lambda: worker_pool(incoming.recv, results.send, shop.handle, workers=workers, worker_buffer=buffer)
        )
        await settle()
        assert incoming.recv.statistics().taken == taken
        # Results that nobody fetches hold the pool up as well.
        shop.finish(*range(20))
        await settle()
        assert incoming.recv.statistics().taken == taken
        await results.recv.receive()
        await settle()
        assert incoming.recv.statistics().taken == taken + 1
        tasks.cancel_scope.cancel()


async def test_an_item_of_a_pool_is_stable_when_its_result_and_all_before_are_delivered() -> None:
    incoming, results, shop = opened(3, range(3), closed=True), opened_results(10), Shop()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: worker_pool(incoming.recv, results.send, shop.handle, workers=3))
        for job, stable in ((1, 0), (0, 2), (2, 3)):
            shop.finish(job)
            await settle()
            assert incoming.send.statistics().stable == stable


async def test_a_pool_whose_channel_begins_again_meets_each_item_of_the_former_one_alone(tmp_path: Path) -> None:
    options, transport, shop = ChannelOptions(maxsize=8, aside=tmp_path, supervised=True), InnerTransport(), Shop()
    results = opened_results(10)
    async with (
        reading(transport, "inner://jobs", int, bind=True, options=options) as recv,
        writing(transport, "inner://jobs", int, bind=False, options=options) as send,
        anyio.create_task_group() as tasks,
    ):
        for job in range(4):
            await send.send(job)
        async with anyio.create_task_group() as first:
            first.start_soon(lambda: worker_pool(recv, results.send, shop.handle, workers=3))
            shop.finish(1)
            while len(shop.begun) < 4:
                await take_turn()
            first.cancel_scope.cancel()
        assert waiting_in(results) == [10]
        shop.at_work.clear()
        shop.most_at_work = 0
        recv.begin_again()
        tasks.start_soon(lambda: worker_pool(recv, results.send, shop.handle, workers=3))
        while not shop.at_work:
            await take_turn()
        await settle()
        assert shop.at_work == [0]
        shop.finish(0, 2, 3)
        await send.aclose()
    assert waiting_in(results) == [0, 10, 20, 30]
    assert shop.most_at_work == 1


async def test_what_a_handler_raises_is_its_result_and_the_pool_goes_on() -> None:
    incoming, results = opened(3, range(3), closed=True), opened_results(5)
    error = ValueError("bad job")

    async def handle(item: int) -> int:
        if item == 1:
            raise error
        return item

    await worker_pool(incoming.recv, results.send, handle)
    assert waiting_in(results) == [0, error, 2]


class EndOfProgram(BaseException):
    """Stands for SystemExit and KeyboardInterrupt, which would end the tests as well."""


async def test_a_handler_that_ends_the_program_ends_the_pool_and_its_item_is_not_lost() -> None:
    incoming, results = opened(3, range(3), closed=True), opened_results(5)
    hopeless = True

    async def handle(item: int) -> int:
        if item == 1 and hopeless:
            raise EndOfProgram
        return item

    with pytest.raises(BaseExceptionGroup) as ended:
        await worker_pool(incoming.recv, results.send, handle)
    assert [type(error) for error in ended.value.exceptions] == [EndOfProgram]
    hopeless = False
    await worker_pool(incoming.recv, results.send, handle)
    assert waiting_in(results) == [0, 1, 2]


async def test_a_pool_without_work_ends_with_its_source() -> None:
    incoming, results, shop = opened(1, closed=True), opened_results(1), Shop()
    await worker_pool(incoming.recv, results.send, shop.handle, workers=4)
    assert is_closed(results)
    assert shop.begun == []


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        ({"workers": 0}, BadValue, "workers must be >= 1, got 0"),
        ({"workers": 1.5}, BadType, "workers must be a whole number, got 1.5"),
        ({"worker_buffer": -1}, BadValue, "worker_buffer must be >= 0, got -1"),
    ],
)
async def test_a_pool_that_makes_no_sense_is_refused(wrong: dict[str, Any], kind: type[Exception], said: str) -> None:
    incoming, results, shop = opened(1), opened_results(1), Shop()
    with pytest.raises(kind) as refusal:
        await worker_pool(incoming.recv, results.send, shop.handle, **wrong)
    assert str(refusal.value) == said


async def test_a_pool_whose_results_nobody_reads_any_more_says_so_plainly() -> None:
    incoming = opened(2, [1, 2])
    results: Channel[int | Exception] = open_channel(2)
    await results.recv.aclose()

    async def handle(item: int) -> int:
        return item

    with pytest.raises(ChannelClosed):
        await worker_pool(incoming.recv, results.send, handle)
