"""The recipes as daemons: each does what its function does, closes what it wrote, and may be made from a file."""

from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from geartrain import Channel, Context, Daemon, RestartPolicy, Supervisor, open_channel
from geartrain.engine.declare import build, load_daemon, signature_of
from geartrain.errors import CannotLoad, ChannelClosed, DaemonError, EndOfStream
from geartrain.recipes.ready_made import WorkerPool


def opened(maxsize: int = 8) -> Channel[Any]:
    return open_channel(maxsize)


def filled(*items: object) -> Channel[Any]:
    """A channel in which these items wait, and whose writer has closed."""
    channel = opened()
    for item in items:
        channel.send.send_nowait(item)
    with pytest.raises(StopIteration):
        next(channel.send.aclose().__await__())
    return channel


def waiting_in(channel: Channel[Any]) -> list[Any]:
    """What waits in a channel whose writer has closed."""
    items = []
    with pytest.raises(EndOfStream):
        while True:
            items.append(channel.recv.receive_nowait())
    return items


async def run(daemon: Daemon) -> None:
    async with Supervisor() as supervisor:
        supervisor.add(daemon)


def made(name: str, ends: dict[str, Any], **config: object) -> Daemon:
    return build(load_daemon(f"geartrain.recipes:{name}"), ends, config)


@pytest.mark.parametrize(
    ("name", "ports"),
    [
        ("Tee", ["source expects T", "dests sends T *"]),
        ("Merge", ["sources expects T *", "dest sends T"]),
        ("LoadBalance", ["source expects T", "dests sends T *"]),
        ("WorkerPool", ["incoming expects Req", "results sends Resp"]),
    ],
)
def test_a_recipe_has_its_ports_and_carries_any_type(name: str, ports: list[str]) -> None:
    signature = signature_of(load_daemon(f"geartrain.recipes:{name}"))
    assert [f"{port.name} {port.does}{' *' if port.many else ''}" for port in signature.ports] == ports
    assert all(port.item.variable for port in signature.ports)


async def test_a_tee_sends_every_item_to_every_destination_and_closes_them() -> None:
    one, two = opened(), opened()
    await run(made("Tee", {"source": filled(1, 2, 3).recv, "dests": [one.send, two.send]}))
    assert (waiting_in(one), waiting_in(two)) == ([1, 2, 3], [1, 2, 3])


async def test_a_merge_sends_the_items_of_all_its_sources_and_closes_its_destination() -> None:
    dest = opened()
    await run(made("Merge", {"sources": [filled(1, 2).recv, filled(10, 20).recv], "dest": dest.send}))
    assert sorted(waiting_in(dest)) == [1, 2, 10, 20]


async def test_a_load_balance_deals_items_out_in_turn_and_closes_its_destinations() -> None:
    one, two = opened(), opened()
    await run(made("LoadBalance", {"source": filled(1, 2, 3).recv, "dests": [one.send, two.send]}))
    assert (waiting_in(one), waiting_in(two)) == ([1, 3], [2])


# -- the pool ---------------------------------------------------------------------------------------------------------


async def double(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return 2 * number


class Count:
    """How many are in the handler at once."""

    now = 0
    most = 0


async def count_together(number: int) -> int:
    Count.now += 1
    Count.most = max(Count.most, Count.now)
    await anyio.lowlevel.checkpoint()
    Count.now -= 1
    return number


def pool_of(incoming: Channel[Any], results: Channel[Any], handler: str, **config: object) -> Daemon:
    ends = {"incoming": incoming.recv, "results": results.send}
    return made("WorkerPool", ends, handle=f"{__name__}:{handler}", **config)


async def test_a_pool_handles_items_by_a_function_that_is_named_and_closes_its_results() -> None:
    results = opened()
    await run(pool_of(filled(1, 2, 3), results, "double"))
    assert sorted(waiting_in(results)) == [2, 4, 6]


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_pool_handles_as_many_items_at_once_as_it_has_workers(workers: int) -> None:
    Count.now = Count.most = 0
    results = opened()
    await run(pool_of(filled(*range(8)), results, "count_together", workers=workers, worker_buffer=2))
    assert Count.most == workers
    assert sorted(waiting_in(results)) == list(range(8))


async def test_what_the_handler_of_a_pool_raises_is_the_failure_of_the_daemon() -> None:
    results = opened()
    with pytest.raises(ExceptionGroup) as failure:
        await run(pool_of(filled(1, -2, 3), results, "double"))
    (error,) = failure.value.exceptions
    assert isinstance(error, DaemonError)
    assert repr(error.__cause__) == "ValueError('-2 is negative')"


async def test_a_pool_that_is_started_again_goes_on_behind_the_item_that_failed() -> None:
    results, incoming = opened(), filled(1, -2, 3)
    async with Supervisor(on_error="restart", restart=RestartPolicy(base=0)) as supervisor:
        supervisor.add_factory(lambda: pool_of(incoming, results, "double"), name="pool")
    assert sorted(waiting_in(results)) == [2, 6]


async def test_a_pool_whose_results_nobody_wants_any_more_says_so_plainly() -> None:
    results = opened()
    await results.recv.aclose()
    with pytest.raises(ExceptionGroup) as failure:
        await run(pool_of(filled(1), results, "double"))
    (error,) = failure.value.exceptions
    assert isinstance(error.__cause__, ChannelClosed)


@pytest.mark.parametrize("maxsize", [0, 1])
async def test_a_pool_that_is_cancelled_at_any_step_loses_and_doubles_nothing(maxsize: int) -> None:
    for steps in range(40):
        results, incoming = opened(maxsize), filled(*range(5))
        delivered: list[int] = []
        await live_for(steps, pool_of(incoming, results, "count_together", workers=2), results, delivered)
        await live_for(10_000, pool_of(incoming, results, "count_together", workers=2), results, delivered)
        assert sorted(delivered) == list(range(5)), steps


async def live_for(steps: int, pool: Daemon, results: Channel[int], delivered: list[int]) -> None:
    """Let a pool and its reader go for so many rounds of the loop, or until the results end; then cancel the pool."""
    ended = False

    async def read() -> None:
        nonlocal ended
        async for result in results.recv:
            delivered.append(result)
        ended = True

    async def work() -> None:
        await pool.run(cast("Context", None))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(work)
        for _ in range(steps):
            if ended:
                break
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("handle", "words"),
    [("nowhere:handle", "there is no module 'nowhere'"), (f"{__name__}:NAME", "is a str; expected an `async def`")],
)
def test_a_pool_without_a_handler_is_refused_when_it_is_made(handle: str, words: str) -> None:
    with pytest.raises(CannotLoad, match=words):
        WorkerPool(opened().recv, opened().send, handle)


NAME = "no handler"
