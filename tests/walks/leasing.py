"""Daemons that share a work cell, for real processes: each enters what it does in one ledger."""

import fcntl
import os
import signal
from pathlib import Path

import anyio
import msgspec

from geartrain import Context, Daemon, Fenced, FenceGate, LeaseLost, LeaseRefused, Leases, mono_ns
from geartrain.rules.fence import Seen


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


class Frozen(Daemon):
    """Goes into the cell, is frozen there, and writes when it wakes, before anything can tell it that it is late."""

    def __init__(self, leases: Leases, ledger: Path, rounds: int, ttl_s: float) -> None:
        self.leases = leases
        self.ledger = ledger
        self.rounds = rounds
        self.ttl_s = ttl_s

    async def run(self, ctx: Context) -> None:
        for _ in range(self.rounds):
            try:
                async with self.leases.hold("workcell/left", ttl=self.ttl_s, wait=20, label="frozen") as lease:
                    write(self.ledger, "frozen", lease.token)
                    note(self.ledger, f"asleep {os.getpid()} {lease.token}")
                    os.kill(os.getpid(), signal.SIGSTOP)
                    write(self.ledger, "late", lease.token)
                    await ctx.clock.sleep(60)
            except LeaseLost:
                note(self.ledger, f"knows {os.getpid()} 0")


class Next(Frozen):
    """Goes into the cell as soon as it is free, writes, and wakes who is frozen."""

    async def run(self, ctx: Context) -> None:
        for number in range(self.rounds):
            while count(self.ledger, "asleep") <= number:
                await ctx.clock.sleep(0.01)
            async with self.leases.hold("workcell/left", ttl=5, wait=20, label="next") as lease:
                write(self.ledger, "next", lease.token)
                pid = [line.split()[1] for line in self.ledger.read_text().splitlines() if line.startswith("asleep")][
                    -1
                ]
                os.kill(int(pid), signal.SIGCONT)
                while count(self.ledger, "knows") <= number:
                    await ctx.clock.sleep(0.01)


def write(ledger: Path, who: str, token: int) -> None:
    """The resource: one file that says who may write, and what was written; with a gate that outlives everybody."""
    seen = ledger.with_suffix(".seen")
    with ledger.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        gate = FenceGate("workcell/left", msgspec.json.decode(seen.read_bytes(), type=Seen) if seen.exists() else None)
        try:
            gate.admit(token)
        except Fenced:
            note(ledger, f"fenced {who} {token}")
            return
        seen.write_bytes(msgspec.json.encode(gate.seen))
        note(ledger, f"written {who} {token}")


def note(ledger: Path, line: str) -> None:
    with ledger.open("a") as file:
        file.write(f"{line}\n")


def count(ledger: Path, word: str) -> int:
    return ledger.read_text().count(word) if ledger.exists() else 0
