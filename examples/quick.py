"""Two daemons, one channel, and an hour that passes at once."""

from geartrain import Channel, Context, ReceiveStream, SendStream, SimClock, Supervisor, daemon, open_channel, simulate


@daemon
async def thermometer(ctx: Context, out: SendStream[float]) -> None:
    for celsius in (20.5, 21.0, 23.5):
        await ctx.clock.sleep(20 * 60)
        await out.send(celsius)
    await out.aclose()


@daemon
async def alarm(ctx: Context, readings: ReceiveStream[float]) -> None:
    async for celsius in readings:
        note = "too warm!" if celsius > 22 else "fine"
        print(f"{ctx.clock.now() / 60:.0f} min: {celsius} C, {note}")


async def main() -> None:
    clock = SimClock()  # a WallClock() would take the hour
    readings: Channel[float] = open_channel(maxsize=4)
    async with Supervisor(clock=clock) as sup:
        sup.add(thermometer(readings.send))
        sup.add(alarm(readings.recv))
        await clock.run()


if __name__ == "__main__":
    simulate(main)  # or simulate(main, backend="trio"): the same, event by event
