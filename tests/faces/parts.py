"""Daemons of the pipelines that the tests of the command line run."""

import os
import sys

import anyio
import sniffio

from geartrain import Context, Daemon, ReceiveStream, SendStream


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Source(Daemon):
    """Sends numbers; all the time, if nobody has said how many. One that does not look hears of no stop.

    One that stays does not return when it has sent them.
    """

    def __init__(self, out: SendStream[int], count: int | None = None, looks: bool = True, stays: bool = False) -> None:
        self.out = out
        self._stays = stays
        self._count = count
        self._looks = looks

    async def run(self, ctx: Context) -> None:
        number = 0
        while number != self._count and not (self._looks and ctx.stop_event.is_set()):
            await self.out.send(number)
            number += 1
            await anyio.sleep(0.001)
        if self._stays:
            await anyio.sleep_forever()


class Sink(Daemon):
    """Prints the first numbers; `fail_at` raises, `hang_at` never returns, and `break_at` waits for a debugger.

    One that stays does not end by itself, a deaf one not at all.
    """

    def __init__(
        self,
        inp: ReceiveStream[int],
        fail_at: int | None = None,
        hang_at: int | None = None,
        break_at: int | None = None,
        stays: bool = False,
        deaf: bool = False,
    ) -> None:
        self.inp = inp
        self._fail_at = fail_at
        self._hang_at = hang_at
        self._break_at = break_at
        self._stays = stays or deaf
        self._deaf = deaf

    async def run(self, ctx: Context) -> None:
        ctx.logger.info("looks for numbers")
        say(f"runs on {sniffio.current_async_library()}")
        sys.stderr.write(f"pid {os.getpid()}\n")
        with anyio.CancelScope(shield=self._deaf):
            async for number in self.inp:
                if number == self._fail_at:
                    raise ValueError(f"{number} is too much")
                if number == self._break_at:
                    breakpoint()
                while number == self._hang_at:
                    pass
                if number < 3:
                    say(f"got {number}")
            if self._stays:
                await anyio.sleep_forever()

    async def on_stop(self, ctx: Context) -> None:
        say("on_stop")
