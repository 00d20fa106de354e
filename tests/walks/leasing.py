"""Daemons that share a work cell, for real processes: each enters what it does in one ledger."""

import os
import signal
from pathlib import Path

import anyio

from geartrain import Context, Daemon, LeaseLost, LeaseRefused, Leases, mono_ns


class Arm(Daemon):
    """Goes into the cell so many times, and says when it is in and when it is out, with the token of its lease."""

    def __init__(self, leases: Leases, ledger: Path, title: str, times: int, stay_s: float, ttl_s: float = 2) -> None:
        self.leases = leases
        self.ledger = ledger
        self.title = title
        self.times = times
        self.stay_s = stay_s
        self.ttl_s = ttl_s

    def say(self, what: str, token: int) -> None:
        with self.ledger.open("a") as file:
            file.write(f"{what} {self.title} {token} {mono_ns()}\n")

    async def run(self, ctx: Context) -> None:
        done = 0
        while done < self.times:
            try:
                async with self.leases.hold("workcell/left", ttl=self.ttl_s, wait=20, label=self.title) as lease:
                    self.say("in", lease.token)
                    await ctx.clock.sleep(self.stay_s)
                    self.say("out", lease.token)
                done += 1
            except LeaseLost:
                self.say("lost", 0)
            except LeaseRefused as refused:
                self.say(refused.code, 0)
                await anyio.sleep(0.01)
        await ctx.clock.sleep(0.05)


class Doomed(Arm):
    """Is killed in the cell, in its first life."""

    async def run(self, ctx: Context) -> None:
        if self.ledger.exists() and "in doomed" in self.ledger.read_text():
            self.say("again", 0)
            return
        async with self.leases.hold("workcell/left", ttl=300, label=self.title) as lease:
            self.say("in", lease.token)
            await ctx.clock.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
