"""One process of a figure about leases: what it costs to hold one that is durable, through an arbiter beside it.

    python leases.py pair geartrain asyncio 1000 1.0 /tmp/folder    the median us of acquire and release, one at a time,
                                                                    behind 1,000 records in the journal
    python leases.py pair dos_kernel - 1000 1.0                     the same by the peer, which needs no arbiter
    python leases.py arbiter geartrain asyncio 1000 1.0 /tmp/folder beside it, until it is ended
    python leases.py hold | grant | turn | renew ...                per second, 64 outstanding: blocks of so many tasks,
                                                                    grants, grants with their releases, keep-alives
    python leases.py hand_over ...                                  the median us from a release to who waits
    python leases.py decision - - 10000 1.0                         the median us of a decision among so many leases
    python leases.py kept geartrain etcd 0 1.0                      the median us of a pair in one process, kept in an
                                                                    etcd of one member, started for it; or in files
    python leases.py recovery - - 300000 1.0                        records per second, understood again

The journal is on the disk under the folder for temporary files.
"""

import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

import anyio

from geartrain import LeaseArbiter, Supervisor, open_receive, open_send
from geartrain.actors.arbiter import recovered
from geartrain.engine.leases import LeaseClient, Leases, open_leases
from geartrain.ports.file_journal import FileJournal
from geartrain.rules.lease import State, decide
from geartrain.rules.lease_ledger import Ended, Granted, Lease, SessionOpened, encode
from geartrain.rules.lease_words import (
    Acquire,
    Alive,
    Asked,
    Claim,
    Grant,
    Open,
    Opened,
    Release,
    Renew,
    Shown,
    Told,
)

S = 1_000_000_000
OUTSTANDING = 64
WARM_UP = 50
# Two daemons, so that one can wait for the other.
DAEMONS = ("left", "right")
ASKED: Any = Asked
TOLD: Any = Told


# -- the arbiter ------------------------------------------------------------------------------------------------------


def fill(folder: Path, records: int) -> None:
    """Leases that were held and given back, as many records as that."""
    journal = FileJournal(folder)
    if records:
        journal.append(encode(SessionOpened(1, "filled", "", 10 * S)))
        for number in range(2, records + 1, 2):
            lease = Lease(number, number, 1, (Claim("workcell/left"),), number, number + 10 * S, 10 * S)
            journal.append(encode(Granted(number, number, lease)))
            journal.append(encode(Ended(number + 1, number, "released", 1, number + 1)))
            if number % 1000 == 0:
                journal.sync()
    journal.close()


async def arbiter(folder: Path, behind: int) -> None:
    fill(folder / "journal", behind)
    async with AsyncExitStack() as stack:
        clients = [
            LeaseClient(
                await stack.enter_async_context(open_receive(f"ipc://{folder}/{name}.asks", ASKED)),
                await stack.enter_async_context(open_send(f"ipc://{folder}/{name}.told", TOLD)),
                name,
            )
            for name in DAEMONS
        ]
        supervisor = await stack.enter_async_context(Supervisor())
        supervisor.add(LeaseArbiter(clients, directory=folder / "journal"), name="arbiter")
        await anyio.sleep_forever()


# -- who asks ---------------------------------------------------------------------------------------------------------


class Ends:
    """The two channels of each daemon to the arbiter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = AsyncExitStack()

    async def of(self, name: str) -> tuple[Any, Any]:
        return (
            await self.stack.enter_async_context(open_send(f"ipc://{self.folder}/{name}.asks", ASKED)),
            await self.stack.enter_async_context(open_receive(f"ipc://{self.folder}/{name}.told", TOLD)),
        )

    async def leases(self) -> list[Leases]:
        return [Leases(*await self.of(name), name=name) for name in DAEMONS]


async def pair(ends: Ends, seconds: float) -> float:
    left, _ = await ends.leases()
    took_ns = []
    for _ in range(WARM_UP):
        async with left.hold("workcell/left"):
            pass
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        started_ns = time.perf_counter_ns()
        async with left.hold("workcell/left"):
            pass
        # A release is not waited for; the next grant of the same region is, and that comes after it.
        took_ns.append(time.perf_counter_ns() - started_ns)
    return median(took_ns) / 1e3


async def hold(ends: Ends, seconds: float) -> float:
    left, _ = await ends.leases()
    async with left.hold("workcell"):
        pass
    count, started = 0, time.perf_counter()

    async def one(number: int) -> None:
        nonlocal count
        while time.perf_counter() - started < seconds:
            async with left.hold(f"lock://{number}"):
                count += 1

    async with anyio.create_task_group() as tasks:
        for number in range(OUTSTANDING):
            tasks.start_soon(one, number)
    return count / (time.perf_counter() - started)


class Talk:
    """Words as they are, with so many unanswered, as many daemons together would have."""

    def __init__(self, asks: Any, told: Any) -> None:
        self.asks, self.told = asks, told
        self.session = self.last = 0

    @classmethod
    async def begun(cls, ends: Ends) -> "Talk":
        await ends.of(DAEMONS[1])
        talk = cls(*await ends.of(DAEMONS[0]))
        await talk.asks.send(Open("secret"))
        while not isinstance(told := await talk.told.receive(), Opened):
            pass
        talk.session = told.session
        return talk

    async def acquire(self) -> None:
        self.last += 1
        claims = (Claim(f"cell/{self.last}"),)
        await self.asks.send(Acquire(self.session, self.last, claims, 60 * S))

    async def for_seconds(
        self, seconds: float, kind: type[Any], again: Callable[[Any], Coroutine[Any, Any, None]]
    ) -> float:
        """How many such answers come in a second, when each is followed by the next question."""
        count, started = 0, time.perf_counter()
        while (took_s := time.perf_counter() - started) < seconds:
            for told in [await self.told.receive()]:
                if isinstance(told, kind):
                    count += 1
                    await again(told)
        return count / took_s


async def grant(ends: Ends, seconds: float) -> float:
    talk = await Talk.begun(ends)
    for _ in range(OUTSTANDING):
        await talk.acquire()

    async def again(told: Grant) -> None:
        await talk.acquire()

    return await talk.for_seconds(seconds, Grant, again)


async def turn(ends: Ends, seconds: float) -> float:
    talk = await Talk.begun(ends)
    for _ in range(OUTSTANDING):
        await talk.acquire()

    async def again(told: Grant) -> None:
        talk.last += 1
        await talk.asks.send(Release(talk.session, talk.last, told.lease, told.token))
        await talk.acquire()

    return await talk.for_seconds(seconds, Grant, again)


async def renew(ends: Ends, seconds: float) -> float:
    talk = await Talk.begun(ends)
    leases: deque[Shown] = deque()
    for _ in range(OUTSTANDING):
        await talk.acquire()
        while not isinstance(told := await talk.told.receive(), Grant):
            pass
        leases.append(Shown(told.lease, told.token))

    async def again(_: Alive | None = None) -> None:
        talk.last += 1
        leases.rotate()
        await talk.asks.send(Renew(talk.session, (leases[0],), talk.last))

    for _ in range(OUTSTANDING):
        await again()
    return await talk.for_seconds(seconds, Alive, again)


async def hand_over(ends: Ends, seconds: float) -> float:
    left, right = await ends.leases()
    released_ns, took_ns = [0], list[int]()

    async def waits() -> None:
        async with right.hold("workcell", wait=10):
            took_ns.append(time.perf_counter_ns() - released_ns[-1])

    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        async with anyio.create_task_group() as tasks:
            async with left.hold("workcell", wait=10):
                tasks.start_soon(waits)
                # Long enough for it to be in the queue; not a part of the figure.
                await anyio.sleep(0.01)
                released_ns.append(time.perf_counter_ns())
    return median(took_ns) / 1e3


ASKING = {"pair": pair, "hold": hold, "grant": grant, "turn": turn, "renew": renew, "hand_over": hand_over}


async def ask(role: str, folder: Path, seconds: float) -> float:
    ends = Ends(folder)
    async with ends.stack:
        return await ASKING[role](ends, seconds)


# -- without an arbiter -----------------------------------------------------------------------------------------------


def decision(held: int, seconds: float) -> float:
    """To be granted and to give back, half of it."""
    state = State()
    session = 1
    decide(state, Open("secret"), 1)
    for n in range(1, held + 1):
        decide(state, Acquire(session, n, (Claim(f"cell/{n}"),), 3600 * S), 1)
    took_ns = []
    until, n = time.perf_counter() + seconds, held
    while time.perf_counter() < until:
        n += 2
        started_ns = time.perf_counter_ns()
        outcome = decide(state, Acquire(session, n, (Claim("other/place"),), 3600 * S), n)
        lease = outcome.replies[0]
        assert isinstance(lease, Grant)
        decide(state, Release(session, n + 1, lease.lease, lease.token), n)
        took_ns.append((time.perf_counter_ns() - started_ns) / 2)
    return median(took_ns) / 1e3


def recovery(records: int, seconds: float) -> float:
    with tempfile.TemporaryDirectory(prefix="geartrain-leases-") as folder:
        fill(Path(folder), records)
        started = time.perf_counter()
        journal = FileJournal(folder)
        ledger = recovered(journal)
        took_s = time.perf_counter() - started
        assert ledger.revision == journal.revision >= records
        return ledger.revision / took_s


def kept(where: str, seconds: float) -> float:
    """In one process with its arbiter, so that only where leases are kept makes a difference."""
    with tempfile.TemporaryDirectory(prefix="geartrain-leases-") as folder:
        if where == "files":
            return anyio.run(_kept, Path(folder) / "leases", seconds)
        # This is run as a file, which finds nothing beside it.
        sys.path.insert(0, str(Path(__file__).parents[2]))
        from tests.ports.etcd_server import EtcdServer

        server = EtcdServer(Path(folder), synced=True)
        try:
            server.start()
            return anyio.run(_kept, Path(str(server.address())), seconds)
        finally:
            server.kill()


async def _kept(place: Path, seconds: float) -> float:
    async with Supervisor() as supervisor:
        channel = open_leases()
        supervisor.add(LeaseArbiter([channel.client], place), name="arbiter")
        async with channel.leases.hold("workcell/left"):
            pass
        took_ns = list[int]()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            started_ns = time.perf_counter_ns()
            async with channel.leases.hold("workcell/left"):
                pass
            took_ns.append(time.perf_counter_ns() - started_ns)
        await supervisor.stop()
    return median(took_ns) / 1e3


def peers_pair(behind: int, seconds: float) -> float:
    """By its library, durable. Its journal is as long as told at the beginning, with what it has written itself."""
    from dos import lane_lease  # type: ignore[import-not-found,unused-ignore]
    from dos.config import default_config  # type: ignore[import-not-found,unused-ignore]

    with tempfile.TemporaryDirectory(prefix="geartrain-leases-") as folder:
        config = default_config(folder)

        def once() -> None:
            granted = lane_lease.acquire(config, lane="left", kind="keyword", tree=["workcell/left"], owner="bench")
            if not (granted.journaled and lane_lease.release(config, lane="left", owner="bench")):
                sys.exit(f"it was not granted, or not released: {granted}")

        once()
        journal = config.paths.lane_journal
        journal.write_bytes(journal.read_bytes() * (behind // 2))
        took_ns = list[int]()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(took_ns) < 3:
            started_ns = time.perf_counter_ns()
            once()
            took_ns.append(time.perf_counter_ns() - started_ns)
    return median(took_ns) / 1e3


def main(role: str, library: str, loop: str, count: str, seconds: str, *folder: str) -> None:
    if library == "dos_kernel":
        print(peers_pair(int(count), float(seconds)))
    elif role == "kept":
        print(kept(loop, float(seconds)))
    elif role == "arbiter":
        anyio.run(arbiter, Path(*folder), int(count), backend=loop)
    elif role in ASKING:
        print(anyio.run(ask, role, Path(*folder), float(seconds), backend=loop))
    else:
        print({"decision": decision, "recovery": recovery}[role](int(count), float(seconds)))


if __name__ == "__main__":
    main(*sys.argv[1:])
