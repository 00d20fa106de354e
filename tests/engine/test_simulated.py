"""The channel in virtual time with microsteps: what one end does the other hears in the next one."""

import math
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import anyio
import pytest
from msgspec import Struct

from geartrain import (
    ChannelClosed,
    ChannelInUse,
    Context,
    Deadlock,
    EndOfStream,
    ReceiveStream,
    SendStream,
    SimClock,
    Supervisor,
    WouldBlock,
    simulate,
)
from geartrain.engine.ends import Channel
from geartrain.engine.in_turn import start_in_turn
from geartrain.engine.signal import Signal
from geartrain.engine.simulated import open_simulated
from geartrain.errors import BadType, BadValue, EndClosed, NotInUse, WireError
from geartrain.recipes.coordination import select
from geartrain.recipes.routing import load_balance, merge, tee
from geartrain.rules.pipeline import Policy

Loop = Literal["asyncio", "trio"]
Body = Callable[[Context], Awaitable[object]]


class Run:
    """Daemons by name, and what they told: each time with the instant."""

    def __init__(self, loop: Loop, clock_type: type[SimClock] = SimClock) -> None:
        self.loop: Loop = loop
        self.told: list[tuple[Any, ...]] = []
        self.records: list[tuple[Any, ...]] = []
        self.clock = clock_type(microsteps=True)

    def tell(self, *what: object) -> None:
        t_ns, k = self.clock.instant
        self.told.append((t_ns / 1e9, k, *what))

    def open(self, name: str, maxsize: float, **options: Any) -> Channel[Any]:
        options.setdefault("item_type", int)
        return open_simulated(name, maxsize, record=lambda *record: self.records.append(record), **options)

    def __call__(self, **daemons: Body) -> "Run":
        async def main() -> None:
            async with Supervisor(clock=self.clock) as sup:
                for name, body in daemons.items():
                    sup.spawn(body, name=name)
                await self.clock.run()

        simulate(main, backend=self.loop)
        return self


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    return Run(request.param)


# -- items and credit -------------------------------------------------------------------------------------------------


def test_an_item_is_seen_one_microstep_after_it_was_sent_and_its_room_one_after_it_was_taken(run: Run) -> None:
    channel = run.open("c", 1)

    async def writer(_: Context) -> None:
        for number in range(3):
            await channel.send.send(number)
            run.tell("sent", number)

    async def reader(_: Context) -> None:
        for _n in range(3):
            run.tell("took", await channel.recv.receive())

    run(writer=writer, reader=reader)
    assert run.told == [
        (0, 0, "sent", 0), (0, 1, "took", 0),
        (0, 2, "sent", 1), (0, 3, "took", 1),
        (0, 4, "sent", 2), (0, 5, "took", 2),
    ]  # fmt: skip
    assert run.records == [("c", 0, k, number, bytes([number - 1])) for k, number in ((1, 1), (3, 2), (5, 3))]


def test_nowait_forms_see_a_snapshot_that_only_their_own_daemon_changes(run: Run) -> None:
    channel = run.open("c", 2)

    async def a_writer(ctx: Context) -> None:
        for number in range(2):
            channel.send.send_nowait(number)
        with pytest.raises(WouldBlock, match="is full: 2 items"):
            channel.send.send_nowait(2)
        run.tell("full")
        await ctx.clock.sleep(0)
        await ctx.clock.sleep(0)
        channel.send.send_nowait(2)
        run.tell("room")

    async def reader(ctx: Context) -> None:
        with pytest.raises(WouldBlock, match="is empty"):
            channel.recv.receive_nowait()
        run.tell("empty")
        await ctx.clock.sleep(0)
        run.tell("took", channel.recv.receive_nowait())

    run(a=a_writer, b=reader)
    assert run.told == [(0, 0, "full"), (0, 0, "empty"), (0, 1, "took", 0), (0, 2, "room")]


def test_an_item_is_what_it_was_when_it_was_sent(run: Run) -> None:
    channel = run.open("c", 1, item_type=list[int])
    item = [1]

    async def writer(_: Context) -> None:
        await channel.send.send(item)
        item.append(2)

    async def reader(_: Context) -> None:
        run.tell(await channel.recv.receive())

    run(writer=writer, reader=reader)
    assert run.told == [(0, 1, [1])]


class Point(Struct):
    x: int


def test_an_item_of_another_type_than_the_readers_is_refused_by_name(run: Run) -> None:
    channel = run.open("c", 1, item_type=Point)

    async def writer(_: Context) -> None:
        await channel.send.send("no point")

    async def reader(_: Context) -> None:
        with pytest.raises(WireError, match=r"channel 'c': reader expects .*Point"):
            await channel.recv.receive()

    run(writer=writer, reader=reader)


def test_a_channel_without_a_bound_takes_all_and_a_writer_that_never_stops_lets_others_go_on(run: Run) -> None:
    channel = run.open("c", math.inf)

    async def writer(_: Context) -> None:
        for number in range(3000):
            await channel.send.send(number)
        run.tell("sent")

    async def reader(_: Context) -> None:
        for _n in range(3000):
            await channel.recv.receive()
        run.tell("took")

    run(writer=writer, reader=reader)
    assert run.told == [(0, 2, "sent"), (0, 3, "took")]


@pytest.mark.parametrize("stages", [40])
def test_a_message_of_time_t_is_handled_by_all_before_anybody_sees_the_next(run: Run, stages: int) -> None:
    chain = [run.open(f"c{number:02}", 1) for number in range(stages)]

    async def source(ctx: Context) -> None:
        for number in range(3):
            await ctx.clock.sleep(1)
            await chain[0].send.send(number)

    def stage(inp: ReceiveStream[int], out: SendStream[int] | None) -> Body:
        async def forward(_: Context) -> None:
            for _n in range(3):
                item = await inp.receive()
                run.tell(item)
                if out is not None:
                    await out.send(item)

        return forward

    outs: list[SendStream[int] | None] = [*(channel.send for channel in chain[1:]), None]
    bodies = {f"s{n:02}": stage(channel.recv, out) for n, (channel, out) in enumerate(zip(chain, outs, strict=True))}
    run(source=source, **bodies)
    assert run.told == [(n + 1, k, n) for n in range(3) for k in range(1, stages + 1)]


# -- policies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "maxsize", "kept"),
    [("latest", 1, [4]), ("drop_oldest", 2, [3, 4]), ("drop_newest", 2, [0, 1]), ("drop_newest", 0, [0])],
)
def test_a_lossy_channel_drops_at_its_reader_when_an_item_too_many_arrives(
    run: Run, policy: Policy, maxsize: int, kept: list[int]
) -> None:
    channel = run.open("c", maxsize, policy=policy)

    async def writer(ctx: Context) -> None:
        for number in range(5):
            await channel.send.send(number)
        await ctx.clock.sleep(1)
        known = channel.send.statistics()
        run.tell(known.accepted, known.taken, known.dropped)
        await channel.send.aclose()

    async def reader(_: Context) -> None:
        run.tell([item async for item in channel.recv])

    run(writer=writer, reader=reader)
    assert run.told == [(1, 0, 5, len(kept), 5 - len(kept)), (1, 1, kept)]
    assert [record[3] for record in run.records] == [number + 1 for number in kept]


# -- closing ----------------------------------------------------------------------------------------------------------


def test_the_end_comes_after_the_last_item(run: Run) -> None:
    channel = run.open("c", 3)

    async def writer(_: Context) -> None:
        await channel.send.send(1)
        await channel.send.aclose()
        with pytest.raises(ChannelClosed, match="was closed here"):
            await channel.send.send(2)

    async def reader(_: Context) -> None:
        run.tell(await channel.recv.receive())
        with pytest.raises(EndOfStream):
            await channel.recv.receive()
        run.tell("end")

    run(writer=writer, reader=reader)
    assert run.told == [(0, 1, 1), (0, 1, "end")]


def test_a_reader_that_closes_drops_what_is_there_and_on_its_way_and_the_writer_hears_it_one_microstep_later(
    run: Run,
) -> None:
    channel = run.open("c", 2)

    async def reader(_: Context) -> None:
        await channel.recv.receive()
        await channel.recv.aclose()
        run.tell("closed")
        with pytest.raises(EndClosed):
            await channel.recv.receive()

    async def writer(_: Context) -> None:
        with pytest.raises(ChannelClosed, match="the reader of channel 'c' has closed"):
            while True:
                await channel.send.send(0)
                run.tell("sent")
        run.tell("heard")
        await channel.send.drain()

    run(reader=reader, writer=writer)
    assert run.told == [(0, 0, "sent"), (0, 0, "sent"), (0, 1, "closed"), (0, 2, "heard")]
    assert channel.recv.statistics().dropped == 1


# -- acknowledging ----------------------------------------------------------------------------------------------------


def test_drain_returns_one_microstep_after_the_reader_has_asked_past_the_last_item(run: Run) -> None:
    channel = run.open("c", 2)

    async def writer(_: Context) -> None:
        await channel.send.send(1)
        await channel.send.drain()
        run.tell("drained")
        await channel.send.aclose()

    async def reader(ctx: Context) -> None:
        await channel.recv.receive()
        await ctx.clock.sleep(1)
        with pytest.raises(EndOfStream):
            await channel.recv.receive()

    run(writer=writer, reader=reader)
    assert run.told == [(1, 1, "drained")]


def test_with_manual_acks_an_item_is_stable_when_the_reader_says_so(run: Run) -> None:
    channel = run.open("c", 2, ack="manual")

    async def writer(_: Context) -> None:
        for number in range(2):
            await channel.send.send(number)
        await channel.send.drain()
        run.tell("drained")

    async def reader(ctx: Context) -> None:
        for _n in range(2):
            await channel.recv.receive()
        await ctx.clock.sleep(1)
        channel.recv.done(channel.recv.mark)

    run(writer=writer, reader=reader)
    assert run.told == [(1, 1, "drained")]


def test_done_is_refused_for_what_was_not_handed_over_and_without_manual_acks(run: Run) -> None:
    manual, batch = run.open("c", 2, ack="manual"), run.open("d", 2)

    async def writer(_: Context) -> None:
        for channel in (manual, batch):
            await channel.send.send(1)

    async def reader(_: Context) -> None:
        await manual.recv.receive()
        await batch.recv.receive()
        with pytest.raises(BadValue, match="the last item handed over"):
            manual.recv.done(manual.recv.mark.__class__(0, 2))
        with pytest.raises(BadValue, match="manual"):
            batch.recv.done(batch.recv.mark)
        batch.recv.ack_manually()
        batch.recv.done(batch.recv.mark)

    run(writer=writer, reader=reader)


# -- rendezvous -------------------------------------------------------------------------------------------------------


def test_a_rendezvous_takes_a_microstep_to_offer_and_one_to_hear_of_it(run: Run) -> None:
    channel = run.open("c", 0)

    async def writer(_: Context) -> None:
        with pytest.raises(WouldBlock, match="nobody knows whether its reader waits"):
            channel.send.send_nowait(0)
        await channel.send.wait_room()
        for number in range(2):
            await channel.send.send(number)
            run.tell("sent", number)

    async def reader(_: Context) -> None:
        for _n in range(2):
            run.tell("took", await channel.recv.receive())

    run(writer=writer, reader=reader)
    assert run.told == [(0, 1, "took", 0), (0, 2, "sent", 0), (0, 3, "took", 1), (0, 4, "sent", 1)]


def test_an_offer_that_times_out_is_withdrawn_and_was_not_sent(run: Run) -> None:
    channel = run.open("c", 0)

    async def writer(ctx: Context) -> None:
        with ctx.clock.move_on_after(1) as scope:
            await channel.send.send(1)
        run.tell("gave up", scope.cancelled_caught)
        await channel.send.send(2)

    async def reader(ctx: Context) -> None:
        await ctx.clock.sleep(2)
        run.tell("took", await channel.recv.receive())

    run(writer=writer, reader=reader)
    # Withdrawn at (1, 0), heard at (1, 1), answered for (1, 2).
    assert run.told == [(1, 2, "gave up", True), (2, 0, "took", 2)]
    assert channel.send.statistics().accepted == 1


def test_an_offer_that_was_taken_before_it_could_be_withdrawn_is_sent_and_the_cancellation_is_met_next(
    run: Run,
) -> None:
    channel = run.open("c", 0)

    async def writer(ctx: Context) -> None:
        with ctx.clock.move_on_after(1) as scope:
            await channel.send.send(1)
            run.tell("sent")
            await ctx.clock.sleep(5)
        run.tell("cancelled", scope.cancelled_caught)

    async def reader(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        run.tell("took", channel.recv.receive_nowait())

    run(reader=reader, writer=writer)
    assert run.told == [(1, 0, "took", 1), (1, 1, "sent"), (1, 1, "cancelled", True)]


def test_a_writer_hears_at_its_offer_that_the_reader_has_closed(run: Run) -> None:
    channel = run.open("c", 0)

    async def writer(_: Context) -> None:
        with pytest.raises(ChannelClosed):
            await channel.send.send(1)
        run.tell("heard")

    async def reader(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        await channel.recv.aclose()

    run(reader=reader, writer=writer)
    assert run.told == [(1, 1, "heard")]


# -- timeouts ---------------------------------------------------------------------------------------------------------


def test_a_message_sent_at_a_moment_never_beats_a_timer_of_that_moment(run: Run) -> None:
    channel = run.open("c", 1)

    async def a_writer(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        await channel.send.send(1)

    async def reader(ctx: Context) -> None:
        with ctx.clock.move_on_after(1) as scope:
            await channel.recv.receive()
        run.tell("timed out", scope.cancelled_caught)
        run.tell(await channel.recv.receive())

    run(a=a_writer, reader=reader)
    assert run.told == [(1, 0, "timed out", True), (1, 1, 1)]


def test_a_message_beats_a_sleep_of_no_length_that_ends_in_the_same_microstep(run: Run) -> None:
    channel = run.open("c", 1)

    async def writer(_: Context) -> None:
        await channel.send.send(1)

    async def reader(ctx: Context) -> None:
        async def nap() -> None:
            await ctx.clock.sleep(0)
            run.tell("nap")

        async with anyio.create_task_group() as tasks:
            start_in_turn(tasks, nap)
            run.tell(await channel.recv.receive())

    run(writer=writer, reader=reader)
    assert run.told == [(0, 1, 1), (0, 1, "nap")]


# -- select and recipes -----------------------------------------------------------------------------------------------


def test_select_takes_what_came_first_and_of_one_microstep_by_channel_whatever_the_order_of_its_arguments(
    run: Run,
) -> None:
    late, early, same = run.open("a", 2), run.open("c", 2), run.open("b", 2)

    async def writer(ctx: Context) -> None:
        await early.send.send(1)
        await same.send.send(2)
        await same.send.send(3)
        await ctx.clock.sleep(0)
        await late.send.send(4)

    async def reader(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        for order in ((late, early, same), (same, early, late), (early, late, same), (early, same, late)):
            index, item = await select(*(channel.recv for channel in order))
            run.tell(str(order[index].recv), item)

    run(writer=writer, reader=reader)
    assert [item for *_, item in run.told] == [2, 3, 1, 4]


def test_select_waits_for_the_first_and_leaves_the_others(run: Run) -> None:
    first, second = run.open("a", 1), run.open("b", 1)

    async def writer(ctx: Context) -> None:
        await second.send.send(2)
        await first.send.send(1)
        await ctx.clock.sleep(1)
        await first.send.aclose()
        await second.send.aclose()

    async def reader(_: Context) -> None:
        with pytest.raises(EndOfStream):
            while True:
                run.tell(*await select(second.recv, first.recv))

    run(writer=writer, reader=reader)
    assert run.told == [(0, 1, 1, 1), (0, 1, 0, 2)]


@pytest.mark.parametrize("maxsize", [0, 1, 3])
def test_recipes_move_every_item_once(run: Run, maxsize: int) -> None:
    sources = [run.open(f"in{n}", maxsize) for n in range(2)]
    merged = run.open("merged", maxsize)
    copies = [run.open(f"copy{n}", maxsize) for n in range(2)]
    halves = [run.open(f"half{n}", maxsize) for n in range(2)]

    def source(out: SendStream[int], first: int) -> Body:
        async def body(ctx: Context) -> None:
            for number in range(first, first + 5):
                await out.send(number)
                await ctx.clock.sleep(0.1)
            await out.aclose()

        return body

    def sink(inp: ReceiveStream[int], name: str) -> Body:
        async def body(_: Context) -> None:
            run.tell(name, [item async for item in inp])

        return body

    run(
        source0=source(sources[0].send, 0),
        source1=source(sources[1].send, 10),
        merge=lambda _: merge([source.recv for source in sources], merged.send),
        tee=lambda _: tee(merged.recv, *(copy.send for copy in copies)),
        balance=lambda _: load_balance(copies[0].recv, [half.send for half in halves]),
        **{f"sink{n}": sink(end.recv, f"sink{n}") for n, end in enumerate((copies[1], *halves))},
    )
    took = {name: items for _, _, name, items in run.told}
    assert sorted(took["sink0"]) == [*range(5), *range(10, 15)]
    assert sorted(took["sink1"] + took["sink2"]) == sorted(took["sink0"])


# -- inside a daemon --------------------------------------------------------------------------------------------------


def test_child_tasks_and_signals_go_in_the_order_in_which_they_began(run: Run) -> None:
    async def parent(ctx: Context) -> None:
        signal = Signal()

        async def child(number: int) -> None:
            await signal.wait()
            run.tell(number)
            try:
                await ctx.clock.sleep(10)
            finally:
                run.tell("out", number)

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                start_in_turn(tasks, child, number)
            await ctx.clock.sleep(1)
            signal.set()
            await ctx.clock.sleep(1)
            tasks.cancel_scope.cancel()

    run(parent=parent)
    assert run.told == [(1, 0, n) for n in range(5)] + [(2, 0, "out", n) for n in range(5)]


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_second_task_at_an_end_is_refused(run: Run) -> None:
    empty, offered = run.open("c", 1), run.open("d", 0)

    async def daemon(ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            start_in_turn(tasks, empty.recv.receive)
            start_in_turn(tasks, offered.send.send, 1)
            await ctx.clock.sleep(0)
            for use in (empty.recv.receive, lambda: offered.send.send(2), offered.send.wait_room):
                with pytest.raises(ChannelInUse):
                    await use()
            with pytest.raises(ChannelInUse):
                empty.recv.receive_nowait()
            with pytest.raises(ChannelInUse):
                offered.send.send_nowait(2)
            tasks.cancel_scope.cancel()

    async def reader(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        run.tell(offered.recv.has_item())

    run(daemon=daemon, reader=reader)
    assert run.told == [(1, 0, False)]


def test_daemons_that_wait_for_each_other_are_a_deadlock_that_names_them(run: Run) -> None:
    there, back = run.open("there", 1), run.open("back", 1)

    async def left(_: Context) -> None:
        await there.send.send(await back.recv.receive())

    async def right(_: Context) -> None:
        await back.send.send(await there.recv.receive())

    with pytest.RaisesGroup(pytest.RaisesExc(Deadlock, match=r"(?s)left waits to receive from channel 'back'.*right")):
        run(left=left, right=right)


def test_a_channel_without_a_name_or_with_a_senseless_bound_is_refused() -> None:
    with pytest.raises(BadValue, match="needs a name"):
        open_simulated("", 1)
    with pytest.raises(BadType, match="must be a string"):
        open_simulated(1, 1)  # type: ignore[arg-type]
    with pytest.raises(BadValue, match="cannot be negative"):
        open_simulated("c", -1)


async def test_where_there_are_no_microsteps_the_channel_is_refused() -> None:
    channel = open_simulated("c", 1)
    with pytest.raises(NotInUse, match="none is at work here"):
        await channel.send.send(1)
    assert channel.send.statistics().accepted == 0
