"""Daemons of a pipeline that is spread over processes in virtual time: rates, lossy channels, calls, a crash."""

from geartrain import Caller, CallFailed, Calls, CallTimeout, Context, Daemon, ReceiveStream, SendStream


class Ticker(Daemon):
    """Two items a second, and a word of chance with each."""

    def __init__(self, out: SendStream[float], count: int = 20) -> None:
        self.out = out
        self.count = count

    async def on_start(self, ctx: Context) -> None:
        await ctx.clock.sleep(0.25)

    async def run(self, ctx: Context) -> None:
        async for _ in ctx.clock.every(0.5):
            await self.out.send(ctx.random.random())
            self.count -= 1
            if not self.count:
                return


class Asker(Daemon):
    """Asks about each item, and hands on what it is told."""

    def __init__(self, inp: ReceiveStream[float], oracle: Caller[float, float], out: SendStream[list[float]]) -> None:
        self.inp, self.oracle, self.out = inp, oracle, out

    async def run(self, ctx: Context) -> None:
        async for item in self.inp:
            try:
                answer = await self.oracle.call(item, timeout=2)
            except (CallFailed, CallTimeout):
                answer = -1.0
            await self.out.send([item, answer, ctx.clock.now()])


class Oracle(Daemon):
    """Takes its time, and now and then crashes."""

    def __init__(self, calls: Calls[float, float]) -> None:
        self.calls = calls

    async def run(self, ctx: Context) -> None:
        async for call in self.calls:
            await ctx.clock.sleep(0.1 + call.request / 3)
            if call.request > 0.8 and not call.redelivered:
                raise RuntimeError("too much")
            await call.reply(call.request * 2)


class Slow(Daemon):
    """A slow reader of what is newest."""

    def __init__(self, inp: ReceiveStream[list[float]]) -> None:
        self.inp = inp

    async def run(self, ctx: Context) -> None:
        async for _ in self.inp:
            await ctx.clock.sleep(0.7)


class Fails(Daemon):
    def __init__(self, inp: ReceiveStream[float]) -> None:
        self.inp = inp

    async def run(self, ctx: Context) -> None:
        async for _ in self.inp:
            raise RuntimeError("on purpose")


class Mute(Daemon):
    """Waits to hear something before it says something."""

    def __init__(self, inp: ReceiveStream[int], out: SendStream[int]) -> None:
        self.inp, self.out = inp, out

    async def run(self, ctx: Context) -> None:
        async for item in self.inp:
            await self.out.send(item)
