"""Arms that move through fenced channels, for real processes and for one."""

import os
import signal
from pathlib import Path

from geartrain import Context, Daemon, Fenced, LeaseLost, Leases, ReceiveStream, SendStream

CELL = "workcell/left"


def note(ledger: Path, line: str) -> None:
    with ledger.open("a") as file:
        file.write(f"{line}\n")


class Sleepy(Daemon):
    """Holds the cell, sends, and is frozen before what it sent has left it."""

    def __init__(self, leases: Leases, moves: SendStream[int], ledger: Path, rounds: int, ttl_s: float) -> None:
        self.leases = leases
        self.moves = moves
        self.ledger = ledger
        self.rounds = rounds
        self.ttl_s = ttl_s

    async def run(self, ctx: Context) -> None:
        for number in range(1, self.rounds + 1):
            try:
                async with self.leases.hold(CELL, ttl=self.ttl_s, wait=20) as lease:
                    # What is sent goes out when nobody has anything to do: not before the freeze.
                    await self.moves.send(number)
                    note(self.ledger, f"asleep {os.getpid()} {lease.token}")
                    os.kill(os.getpid(), signal.SIGSTOP)
                    try:
                        await self.moves.send(-number)
                    except Fenced:
                        note(self.ledger, "told 0 0")
                    await ctx.clock.sleep(60)
            except LeaseLost:
                note(self.ledger, f"woke {number} 0")


class Taking(Daemon):
    """Takes the cell whenever the other sleeps, is received, and wakes it."""

    def __init__(
        self, leases: Leases, moves: SendStream[int], heard: ReceiveStream[int], ledger: Path, rounds: int
    ) -> None:
        self.leases = leases
        self.moves = moves
        self.heard = heard
        self.ledger = ledger
        self.rounds = rounds

    def lines(self, what: str) -> list[str]:
        text = self.ledger.read_text() if self.ledger.exists() else ""
        return [line for line in text.splitlines() if line.startswith(what)]

    async def run(self, ctx: Context) -> None:
        for number in range(1, self.rounds + 1):
            while len(self.lines("asleep")) < number:
                await ctx.clock.sleep(0.005)
            process = int(self.lines("asleep")[-1].split()[1])
            async with self.leases.hold(CELL, ttl=5, wait=20):
                await self.moves.send(1000 + number)
                while await self.heard.receive() != 1000 + number:
                    pass
                os.kill(process, signal.SIGCONT)
            while len(self.lines("woke")) < number:
                await ctx.clock.sleep(0.005)


class Cell(Daemon):
    """Does what it is told, tells so, and how many moves were refused."""

    def __init__(
        self, slow: ReceiveStream[int], quick: ReceiveStream[int], heard: SendStream[int], ledger: Path
    ) -> None:
        self.slow = slow
        self.quick = quick
        self.heard = heard
        self.ledger = ledger

    async def run(self, ctx: Context) -> None:
        async for number in self.quick:
            note(self.ledger, f"moved {number} 0")
            await self.heard.send(number)
        async for number in self.slow:
            note(self.ledger, f"moved {number} 0")
        note(self.ledger, f"refused {self.slow.statistics().refused} 0")


class Stale(Daemon):
    """Sends one item, then one more that is still here when it is frozen; says so, and ends when it is woken."""

    def __init__(self, leases: Leases, moves: SendStream[int], ledger: Path) -> None:
        self.leases = leases
        self.moves = moves
        self.ledger = ledger

    async def run(self, ctx: Context) -> None:
        try:
            async with self.leases.hold(CELL, ttl=0.2, wait=20):
                await self.moves.send(1)
                note(self.ledger, f"asleep {os.getpid()} 0")
                os.kill(os.getpid(), signal.SIGSTOP)
                await ctx.clock.sleep(60)
        except LeaseLost:
            note(self.ledger, "woke 0 0")


class Waking(Daemon):
    """Takes the cell, is received by a reader that is killed, and wakes the other: the next reader waits for both."""

    def __init__(self, leases: Leases, moves: SendStream[int], ledger: Path) -> None:
        self.leases = leases
        self.moves = moves
        self.ledger = ledger

    async def run(self, ctx: Context) -> None:
        while not (self.ledger.exists() and "asleep" in self.ledger.read_text()):
            await ctx.clock.sleep(0.005)
        process = int(self.ledger.read_text().split()[1])
        async with self.leases.hold(CELL, ttl=5, wait=20):
            await self.moves.send(2)
            while "killed" not in self.ledger.read_text():
                await ctx.clock.sleep(0.005)
            os.kill(process, signal.SIGCONT)


class Mortal(Daemon):
    """Is killed with its first move in hand. In its next life it hears of the old mover before the new one."""

    def __init__(self, slow: ReceiveStream[int], quick: ReceiveStream[int], ledger: Path) -> None:
        self.slow = slow
        self.quick = quick
        self.ledger = ledger

    async def run(self, ctx: Context) -> None:
        if not (self.ledger.exists() and "killed" in self.ledger.read_text()):
            number = await self.quick.receive()
            note(self.ledger, f"killed {number} 0")
            os.kill(os.getpid(), signal.SIGKILL)
        # Nothing of the newer lease is received in this life before the older one has been refused.
        async for number in self.slow:
            note(self.ledger, f"moved {number} 0")
        note(self.ledger, f"refused {self.slow.statistics().refused} 0")
        async for number in self.quick:
            note(self.ledger, f"moved {number} {int(self.quick.mark.redelivered)}")
