"""Cancellation never loses or doubles an item: on the plain channel, and in every recipe.

A scene is played again and again. Each time the task under test is cancelled one suspension later than the time
before, and once more in the run after that; then it is run to its end on the same channels, and every item must have
arrived exactly as it would have without the interruptions.

    for k in 0, 1, 2, ...      cancelled at its k-th suspension, until it has no k-th one any more
      run, cancelled at k
      run again, cancelled at k
      run to the end           the items sent == the items that arrived, in order
"""

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
import pytest
from anyio.lowlevel import checkpoint

from geartrain import Channel, ReceiveStream, SendStream, open_channel, simulate
from geartrain.errors import EndOfStream
from geartrain.ports.clock import SimClock
from geartrain.ports.parking import take_turn
from geartrain.recipes.coordination import Pending, batcher_loop, select, submit
from geartrain.recipes.routing import load_balance, merge, tee, worker_pool
from geartrain.recipes.state import CoalesceSend, DropNewestSend, DropOldestSend
from geartrain.rules.pipeline import Policy

T = TypeVar("T")

Work = Callable[[], Coroutine[Any, Any, None]]


# -- the worlds it is tried in ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """A loop, and how its waits work: bare, or in turns on a foreign loop, or in turns on a loop of ours."""

    loop: str
    waits: str

    def run(self, main: Work) -> None:
        async def guarded() -> None:
            if self.waits != "in real time":
                # The first SimClock on a loop makes its waits take turns.
                SimClock()
            with anyio.fail_after(10):
                await main()

        if self.waits == "simulated":
            simulate(guarded, backend="trio" if self.loop == "trio" else "asyncio")
        else:
            anyio.run(guarded, backend=self.loop)

    def __str__(self) -> str:
        return f"{self.loop} {self.waits}"


WORLDS = [World(loop, waits) for loop in ("asyncio", "trio") for waits in ("in real time", "in turns", "simulated")]

in_every_world = pytest.mark.parametrize("world", WORLDS, ids=str)
in_every_virtual_world = pytest.mark.parametrize(
    "world", [world for world in WORLDS if world.waits != "in real time"], ids=str
)


# -- how a task is cancelled ------------------------------------------------------------------------------------------


class Cut(Awaitable[None]):
    """Work that cancels its scope at its k-th suspension, counted from 0.

    What the work yields to its loop, and what the loop sends or throws in, is passed through untouched. The scope is
    cancelled just before the k-th yield is passed on: the loop meets the cancellation where the task parks.
    """

    def __init__(self, work: Work, k: int, scope: anyio.CancelScope) -> None:
        self.came_to_it = False
        self._work = work
        self._left = k
        self._scope = scope

    def __await__(self) -> Generator[Any, Any, None]:
        inner = self._work().__await__()
        go_on: Callable[[], Any] = partial(next, inner)
        while True:
            try:
                suspension = go_on()
            except StopIteration:
                return
            if self._left == 0:
                self.came_to_it = True
                self._scope.cancel()
            self._left -= 1
            try:
                answer = yield suspension
            except BaseException as met:
                go_on = partial(inner.throw, met)
            else:
                go_on = partial(inner.send, answer)


@dataclass(frozen=True)
class Outcome:
    came_to_it: bool
    finished: bool


# Runs some work and cancels it at the k-th chance.
Cutter = Callable[[Work, int], Coroutine[Any, Any, Outcome]]


async def at_its_suspensions(work: Work, k: int) -> Outcome:
    with anyio.CancelScope() as scope:
        cut = Cut(work, k, scope)
        await cut
    return Outcome(cut.came_to_it, finished=not scope.cancelled_caught)


async def from_outside(work: Work, k: int) -> Outcome:
    """By another task, after everybody else has had k chances to go on."""
    finished = came_to_it = False

    async def run() -> None:
        nonlocal finished
        with scope:
            await work()
            finished = True

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        for _ in range(k):
            await take_turn()
        came_to_it = not finished
        scope.cancel()
    return Outcome(came_to_it, finished)


async def as_asyncio_does(work: Work, k: int) -> Outcome:
    """Likewise, by `task.cancel()`: that strikes also a task which was woken already and has not run yet."""
    task = asyncio.create_task(work())
    for _ in range(k):
        await take_turn()
    came_to_it = not task.done()
    task.cancel()
    finished = False
    try:
        await task
        finished = True
    except asyncio.CancelledError:
        pass
    return Outcome(came_to_it, finished)


# -- scenes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A task under test, which can be run again, those around it, and what must be true in the end."""

    work: Work
    others: Sequence[Work]
    check: Callable[[], None]


async def explore(new_scene: Callable[[], Scene], cutter: Cutter) -> None:
    """Play the scene, with a cut one chance later each time, until there is none left."""
    for k in itertools.count():
        scene = new_scene()
        async with anyio.create_task_group() as tasks:
            for other in scene.others:
                tasks.start_soon(other)
            outcome = again = await cutter(scene.work, k)
            if not again.finished:
                again = await cutter(scene.work, k)
            if not again.finished:
                await scene.work()
        try:
            scene.check()
        except AssertionError as wrong:
            wrong.add_note(f"after being cancelled at {k}")
            raise
        if not outcome.came_to_it:
            assert k > 0, "the scene has no suspension at all"
            return


def in_this_world(world: World, new_scene: Callable[[], Scene], cutters: Sequence[Cutter] = ()) -> None:
    """Explore the scene with every way of cancelling that this world has."""
    natively = [as_asyncio_does] if world.loop == "asyncio" else []
    for cutter in cutters or [at_its_suspensions, from_outside, *natively]:
        world.run(partial(explore, new_scene, cutter))


def writes(out: SendStream[T], items: Iterable[T], *, pause: int = 0) -> Work:
    """Send what has not been sent yet, then close."""
    left = deque(items)

    async def write() -> None:
        while left:
            await out.send(left[0])
            left.popleft()
            for _ in range(pause):
                await take_turn()
        await out.aclose()

    return write


def writes_by_wait_room(out: SendStream[T], items: Iterable[T]) -> Work:
    left = deque(items)

    async def write() -> None:
        while left:
            await out.wait_room()
            out.send_nowait(left.popleft())
        await out.aclose()

    return write


def reads(inp: ReceiveStream[T], into: list[T], *, pause: int = 0) -> Work:
    async def read() -> None:
        while True:
            try:
                into.append(await inp.receive())
            except EndOfStream:
                return
            for _ in range(pause):
                await take_turn()

    return read


def reads_impatiently(inp: ReceiveStream[T], into: list[T]) -> Work:
    """Ask for an item, give up at once, after a while, after longer, and then wait for it; and so on."""

    async def take() -> None:
        into.append(await inp.receive())

    async def read() -> None:
        for patience in itertools.cycle([0, 1, 2, 1_000]):
            try:
                await at_its_suspensions(take, patience)
            except EndOfStream:
                return
            await take_turn()

    return read


def reads_by_select(inps: Sequence[ReceiveStream[T]], into: list[tuple[int, T]]) -> Work:
    async def read() -> None:
        while True:
            try:
                into.append(await select(*inps))
            except EndOfStream:
                return

    return read


ITEMS = range(5)
# More than go through an end before the loop goes round.
MANY = range(150)


# -- the plain channel ------------------------------------------------------------------------------------------------

sizes = pytest.mark.parametrize("maxsize", [0, 1, 3])
pauses = pytest.mark.parametrize("pause", [0, 1])


@in_every_world
@sizes
@pauses
def test_a_writer_that_is_cancelled_anywhere_has_sent_exactly_what_it_has_sent(
    world: World, maxsize: int, pause: int
) -> None:
    def new_scene() -> Scene:
        channel: Channel[int] = open_channel(maxsize)
        got: list[int] = []

        def check() -> None:
            assert got == [*ITEMS]

        return Scene(writes(channel.send, ITEMS), [reads(channel.recv, got, pause=pause)], check)

    in_this_world(world, new_scene)


@in_every_world
@sizes
def test_a_writer_that_is_cancelled_while_it_waits_for_room_has_taken_none(world: World, maxsize: int) -> None:
    def new_scene() -> Scene:
        channel: Channel[int] = open_channel(maxsize)
        got: list[int] = []

        def check() -> None:
            assert got == [*ITEMS]

        # To wait for room and then not to wait is exact where nobody takes the room away: not at a rendezvous.
        work = writes_by_wait_room(channel.send, ITEMS) if maxsize else writes(channel.send, ITEMS)
        return Scene(work, [reads(channel.recv, got)], check)

    in_this_world(world, new_scene)


@in_every_world
@sizes
@pauses
def test_a_reader_that_is_cancelled_anywhere_has_lost_nothing(world: World, maxsize: int, pause: int) -> None:
    def new_scene() -> Scene:
        channel: Channel[int] = open_channel(maxsize)
        got: list[int] = []

        def check() -> None:
            assert got == [*ITEMS]

        return Scene(reads(channel.recv, got), [writes(channel.send, ITEMS, pause=pause)], check)

    in_this_world(world, new_scene)


@in_every_world
def test_nor_is_anything_lost_where_the_loop_goes_round_after_many_items(world: World) -> None:
    def writer() -> Scene:
        channel: Channel[int] = open_channel(len(MANY))
        got: list[int] = []

        def check() -> None:
            while channel.recv.has_item():
                got.append(channel.recv.receive_nowait())
                if len(got) == len(MANY):
                    break
            assert got == [*MANY]

        return Scene(writes(channel.send, MANY), [], check)

    def reader() -> Scene:
        channel: Channel[int] = open_channel(len(MANY))
        got: list[int] = []
        for number in MANY:
            channel.send.send_nowait(number)

        def check() -> None:
            assert got == [*MANY]

        return Scene(reads(channel.recv, got), [channel.send.aclose], check)

    in_this_world(world, writer)
    in_this_world(world, reader)


@in_every_world
@sizes
def test_nothing_is_lost_when_both_ends_are_cancelled(world: World, maxsize: int) -> None:
    async def both(writer_at: int, reader_at: int) -> None:
        channel: Channel[int] = open_channel(maxsize)
        got: list[int] = []

        async def cut_twice(work: Work, k: int) -> None:
            for _ in range(2):
                if (await at_its_suspensions(work, k)).finished:
                    return
            await work()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cut_twice, writes(channel.send, ITEMS), writer_at)
            tasks.start_soon(cut_twice, reads(channel.recv, got), reader_at)
        assert got == [*ITEMS], (writer_at, reader_at)

    async def every_pair() -> None:
        for writer_at, reader_at in itertools.product(range(8), repeat=2):
            await both(writer_at, reader_at)

    world.run(every_pair)


@in_every_world
@pytest.mark.parametrize(
    ("policy", "maxsize"), [("latest", 1), ("drop_oldest", 2), ("drop_newest", 0), ("drop_newest", 2)]
)
@pytest.mark.parametrize("who", ["writer", "reader"])
def test_with_a_policy_every_item_is_received_or_counted_as_dropped_and_none_twice(
    world: World, policy: Policy, maxsize: int, who: str
) -> None:
    def new_scene() -> Scene:
        channel: Channel[int] = open_channel(maxsize, policy=policy)
        got: list[int] = []
        items = MANY if who == "writer" else ITEMS
        write = writes(channel.send, items, pause=int(who == "reader"))
        read = reads(channel.recv, got, pause=int(who == "writer"))

        def check() -> None:
            stats = channel.send.statistics()
            assert got == sorted(set(got))
            assert (stats.accepted, stats.taken) == (len(items), len(got))
            assert len(got) + stats.dropped == len(items)
            assert policy == "drop_newest" or got[-1] == items[-1]

        return Scene(write, [read], check) if who == "writer" else Scene(read, [write], check)

    in_this_world(world, new_scene)


@in_every_virtual_world
@pytest.mark.parametrize("maxsize", [0, 1])
def test_no_item_is_lost_to_a_timeout_of_the_very_moment_in_which_it_is_sent(world: World, maxsize: int) -> None:
    async def main() -> None:
        clock = SimClock()
        channel: Channel[int] = open_channel(maxsize)
        sent: list[int] = []
        got: list[int] = []
        missed: list[str] = []

        async def write() -> None:
            for number in range(30):
                await clock.sleep(0.3)
                with clock.move_on_after(0.1 * (number % 3)) as scope:
                    await channel.send.send(number)
                    sent.append(number)
                missed.extend(["send"] * scope.cancelled_caught)
            await channel.send.aclose()

        async def read() -> None:
            for round_ in itertools.count():
                # On the moment of a send, between two, and on the end of a writer's patience.
                with clock.move_on_after((0.3, 0.15, 0.1)[round_ // 10 % 3]) as scope:
                    try:
                        got.append(await channel.recv.receive())
                    except EndOfStream:
                        return
                missed.extend(["receive"] * scope.cancelled_caught)
                await clock.sleep(0.3 * (round_ % 4))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            tasks.start_soon(read)
            await clock.run()
        assert {*missed} == {"send", "receive"}
        assert got == sent
        assert len(sent) >= 5

    world.run(main)


# -- the recipes ------------------------------------------------------------------------------------------------------

Reads = Callable[[ReceiveStream[int], list[int]], Work]

moods = pytest.mark.parametrize("read", [reads, reads_impatiently])
shapes = pytest.mark.parametrize(("into", "out_of"), [(0, 0), (1, 0), (0, 1), (3, 2)])


def opened(count: int, maxsize: float) -> list[Channel[int]]:
    return [open_channel(maxsize) for _ in range(count)]


def filled(count: int, items: Sequence[int]) -> list[Channel[int]]:
    """Channels in which all items wait already, and which are closed."""
    channels = opened(count, len(items))
    for channel in channels:
        for item in items:
            channel.send.send_nowait(item)
    return channels


def closing(channels: Iterable[Channel[int]]) -> Work:
    async def close() -> None:
        for channel in channels:
            await channel.send.aclose()

    return close


def left_in(channel: Channel[int]) -> list[int]:
    """What waits in a closed channel."""
    items = []
    try:
        while True:
            items.append(channel.recv.receive_nowait())
    except EndOfStream:
        return items


@in_every_world
@shapes
@moods
def test_tee_gives_every_item_to_every_destination_once(world: World, into: int, out_of: int, read: Reads) -> None:
    def new_scene() -> Scene:
        source: Channel[int] = open_channel(into)
        dests = opened(2, out_of)
        got: list[list[int]] = [[], []]

        def check() -> None:
            assert got == [[*ITEMS], [*ITEMS]]

        return Scene(
            lambda: tee(source.recv, *(dest.send for dest in dests)),
            [writes(source.send, ITEMS), read(dests[0].recv, got[0]), reads(dests[1].recv, got[1], pause=1)],
            check,
        )

    in_this_world(world, new_scene)


@in_every_world
@shapes
@moods
def test_merge_passes_every_item_on_once_and_those_of_one_source_in_order(
    world: World, into: int, out_of: int, read: Reads
) -> None:
    def new_scene() -> Scene:
        sources = opened(2, into)
        dest: Channel[int] = open_channel(out_of)
        got: list[int] = []

        def check() -> None:
            assert [item for item in got if item < 100] == [0, 1, 2]
            assert [item for item in got if item >= 100] == [100, 101, 102]

        return Scene(
            lambda: merge([source.recv for source in sources], dest.send),
            [
                writes(sources[0].send, range(3)),
                writes(sources[1].send, range(100, 103), pause=1),
                read(dest.recv, got),
            ],
            check,
        )

    in_this_world(world, new_scene)


@in_every_world
@shapes
@moods
def test_load_balance_gives_every_item_to_one_destination_once(
    world: World, into: int, out_of: int, read: Reads
) -> None:
    def new_scene() -> Scene:
        source: Channel[int] = open_channel(into)
        dests = opened(2, out_of)
        got: list[list[int]] = [[], []]

        def check() -> None:
            assert sorted(got[0] + got[1]) == [*ITEMS]
            assert got == [sorted(got[0]), sorted(got[1])]

        return Scene(
            lambda: load_balance(source.recv, [dest.send for dest in dests]),
            [writes(source.send, ITEMS), read(dests[0].recv, got[0]), reads(dests[1].recv, got[1], pause=1)],
            check,
        )

    in_this_world(world, new_scene)


@in_every_world
def test_nor_do_they_lose_what_is_in_their_hand_where_the_loop_goes_round(world: World) -> None:
    def teeing() -> Scene:
        (source,), dests = filled(1, MANY), opened(3, math.inf)

        def check() -> None:
            assert [left_in(dest) for dest in dests] == [[*MANY]] * 3

        return Scene(lambda: tee(source.recv, *(dest.send for dest in dests)), [closing([source])], check)

    def merging() -> Scene:
        sources, (dest,) = filled(3, MANY), opened(1, math.inf)

        def check() -> None:
            assert sorted(left_in(dest)) == sorted([*MANY] * 3)

        return Scene(lambda: merge([source.recv for source in sources], dest.send), [closing(sources)], check)

    def balancing() -> Scene:
        (source,), dests = filled(1, MANY), opened(2, math.inf)

        def check() -> None:
            halves = [left_in(dest) for dest in dests]
            assert sorted(halves[0] + halves[1]) == [*MANY]
            assert halves == [sorted(half) for half in halves]

        return Scene(lambda: load_balance(source.recv, [dest.send for dest in dests]), [closing([source])], check)

    for new_scene in (teeing, merging, balancing):
        in_this_world(world, new_scene)


@in_every_world
@pytest.mark.parametrize("maxsize", [0, 1, 3])
def test_select_takes_every_item_once_and_those_of_one_channel_in_order(world: World, maxsize: int) -> None:
    def new_scene() -> Scene:
        channels = opened(3, maxsize)
        got: list[tuple[int, int]] = []

        def check() -> None:
            assert [[item for index, item in got if index == number] for number in range(3)] == [[0, 1, 2]] * 3

        return Scene(
            reads_by_select([channel.recv for channel in channels], got),
            [writes(channel.send, range(3), pause=number) for number, channel in enumerate(channels)],
            check,
        )

    in_this_world(world, new_scene)


@in_every_world
@pytest.mark.parametrize(("workers", "buffer", "maxsize"), [(1, 0, 0), (1, 1, 1), (2, 0, 1), (3, 1, 0)])
def test_a_worker_pool_delivers_each_result_exactly_once(world: World, workers: int, buffer: int, maxsize: int) -> None:
    def new_scene() -> Scene:
        incoming: Channel[int] = open_channel(maxsize)
        results: Channel[int | Exception] = open_channel(maxsize)
        got: list[int | Exception] = []

        async def handle(item: int) -> int:
            for _ in range(item % 3):
                await checkpoint()
            return item * 10

        def check() -> None:
            delivered = [item for item in got if isinstance(item, int)]
            assert sorted(delivered) == [item * 10 for item in ITEMS]
            assert workers > 1 or delivered == sorted(delivered)

        return Scene(
            lambda: worker_pool(incoming.recv, results.send, handle, workers=workers, worker_buffer=buffer),
            [writes(incoming.send, ITEMS), reads(results.recv, got)],
            check,
        )

    in_this_world(world, new_scene)


def asking(requests: SendStream[Pending[int, int]], answers: dict[int, list[int]]) -> Work:
    """Several callers at once, who put their answers down; then no more will come."""

    async def ask(number: int) -> None:
        answer = await submit(requests, number)
        answers.setdefault(number, []).append(answer)

    async def ask_all() -> None:
        async with anyio.create_task_group() as callers:
            for number in ITEMS:
                callers.start_soon(ask, number)
        await requests.aclose()

    return ask_all


async def times_ten(batch: list[int]) -> list[int]:
    await checkpoint()
    await take_turn()
    return [request * 10 for request in batch]


@in_every_world
@pytest.mark.parametrize(("maxsize", "max_batch"), [(0, 2), (3, 1), (3, 4)])
def test_a_batcher_answers_every_caller_exactly_once(world: World, maxsize: int, max_batch: int) -> None:
    def new_scene() -> Scene:
        requests: Channel[Pending[int, int]] = open_channel(maxsize)
        answers: dict[int, list[int]] = {}

        def check() -> None:
            assert answers == {number: [number * 10] for number in ITEMS}

        return Scene(
            lambda: batcher_loop(requests.recv, times_ten, max_batch=max_batch),
            [asking(requests.send, answers)],
            check,
        )

    in_this_world(world, new_scene)


@in_every_virtual_world
def test_a_batcher_that_waits_for_a_batch_to_fill_answers_every_caller_exactly_once(world: World) -> None:
    def new_scene() -> Scene:
        clock = SimClock()
        requests: Channel[Pending[int, int]] = open_channel(1)
        answers: dict[int, list[int]] = {}

        async def drive() -> None:
            while len(answers) < len(ITEMS):
                await clock.advance(0.05)

        def check() -> None:
            assert answers == {number: [number * 10] for number in ITEMS}

        return Scene(
            lambda: batcher_loop(requests.recv, times_ten, max_batch=3, max_queue_delay=0.1, clock=clock),
            [asking(requests.send, answers), drive],
            check,
        )

    # Somebody outside who takes turns lets no time pass, so it would never come to the end.
    in_this_world(world, new_scene, [at_its_suspensions])


@in_every_world
@pytest.mark.parametrize("maxsize", [0, 1])
def test_a_caller_that_submits_again_after_being_cancelled_gets_the_answer_to_its_own_request(
    world: World, maxsize: int
) -> None:
    def new_scene() -> Scene:
        requests: Channel[Pending[int, int]] = open_channel(maxsize)
        answers: list[tuple[int, int]] = []

        async def work() -> None:
            for number in range(len(answers), len(ITEMS)):
                answers.append((number, await submit(requests.send, number)))
            await requests.send.aclose()

        def check() -> None:
            assert answers == [(number, number * 10) for number in ITEMS]

        return Scene(work, [lambda: batcher_loop(requests.recv, times_ten, max_batch=2)], check)

    in_this_world(world, new_scene)


def lossy(kind: str, channel: Channel[int]) -> DropNewestSend[int] | DropOldestSend[int]:
    match kind:
        case "newest":
            return DropNewestSend(channel.send)
        case "oldest":
            return DropOldestSend(channel.send, channel.recv)
        case _:
            return CoalesceSend(channel.send, channel.recv)


@in_every_world
@pytest.mark.parametrize("kind", ["newest", "oldest", "coalesce"])
@pytest.mark.parametrize("maxsize", [0, 1, 3])
@pytest.mark.parametrize("who", ["writer", "reader"])
def test_with_a_lossy_sender_every_item_is_received_or_counted_as_dropped_and_none_twice(
    world: World, kind: str, maxsize: int, who: str
) -> None:
    def new_scene() -> Scene:
        channel: Channel[int] = open_channel(maxsize)
        out = lossy(kind, channel)
        got: list[int] = []
        items = MANY if who == "writer" else ITEMS
        write = writes(out, items, pause=int(who == "reader"))
        read = reads(channel.recv, got, pause=int(who == "writer"))

        def check() -> None:
            assert got == sorted(set(got))
            assert len(got) + out.dropped == len(items)
            assert kind == "newest" or maxsize == 0 or got[-1] == items[-1]

        return Scene(write, [read], check) if who == "writer" else Scene(read, [write], check)

    in_this_world(world, new_scene)


# -- the instrument itself --------------------------------------------------------------------------------------------


@in_every_world
def test_the_instrument_finds_an_item_that_is_lost(world: World) -> None:
    def new_scene() -> Scene:
        source: Channel[int] = open_channel(1)
        dest: Channel[int] = open_channel(1)
        got: list[int] = []

        async def careless() -> None:
            """Takes an item before there is room for it, and loses it when it is cancelled then."""
            async for item in source.recv:
                await dest.send.send(item)
            await dest.send.aclose()

        def check() -> None:
            assert got == [*ITEMS]

        return Scene(careless, [writes(source.send, ITEMS), reads(dest.recv, got, pause=3)], check)

    with pytest.raises(AssertionError):
        in_this_world(world, new_scene, [at_its_suspensions])


@in_every_world
def test_the_instrument_cuts_at_every_suspension_there_is(world: World) -> None:
    reached: list[int] = []

    async def main() -> None:
        async def work() -> None:
            for step in range(4):
                await checkpoint()
                done.append(step)

        for k in itertools.count():
            done: list[int] = []
            outcome = await at_its_suspensions(work, k)
            reached.append(len(done))
            if not outcome.came_to_it:
                assert outcome.finished
                return
            assert not outcome.finished

    world.run(main)
    assert sorted(set(reached)) == [0, 1, 2, 3, 4]
