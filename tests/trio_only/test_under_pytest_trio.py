"""geartrain under trio's own test tools: native nurseries, and trio's clock that jumps by itself."""

import pytest
import trio
import trio.testing

from geartrain import Context, SimClock, Supervisor, WallClock, open_channel
from geartrain.engine.ends import Channel


@pytest.mark.trio
async def test_a_supervisor_lives_in_a_native_nursery(nursery: trio.Nursery) -> None:
    channel: Channel[int] = open_channel(0)
    clock = SimClock()

    async def host(task_status: trio.TaskStatus[Supervisor]) -> None:
        async with Supervisor(clock=clock) as sup:
            task_status.started(sup)
            await trio.sleep_forever()

    sup: Supervisor = await nursery.start(host)
    sup.spawn(lambda _: channel.send.send(1), name="writer")
    assert await channel.recv.receive() == 1
    nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_the_wall_clock_obeys_a_loop_whose_time_jumps(autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()
    with WallClock().move_on_after(3600) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() - begun == pytest.approx(3600)


@pytest.mark.trio
async def test_virtual_time_works_beside_trios_own(autojump_clock: trio.testing.MockClock) -> None:
    clock = SimClock()
    seen = []

    async def sleeps(ctx: Context) -> None:
        await ctx.clock.sleep(5)
        seen.append((ctx.clock.now(), trio.current_time() - begun))

    begun = trio.current_time()
    async with Supervisor(clock=clock) as sup:
        sup.spawn(sleeps)
        await clock.run()
    assert seen == [(5.0, 0.0)]
