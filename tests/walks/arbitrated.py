"""Processes of a walk: an arbiter that may be killed at any moment, and clients that write down what they live through.

    python -m tests.walks.arbitrated arbiter asyncio FOLDER jumping
    python -m tests.walks.arbitrated clients trio FOLDER SEED COUNT

Beside FOLDER lie `gone`, with what the journal has let go of, `clients-SEED-NUMBER`, and `stop`, once they are to end.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import anyio
import anyio.abc
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream
from msgspec.structs import replace

from geartrain import LeaseArbiter, Supervisor, mono_ns
from geartrain.actors import arbiter as arbiters
from geartrain.engine.lease_socket import LINE_MOST, line_of, short_path
from geartrain.ports.file_journal import FileJournal
from geartrain.ports.fs import RealFs
from geartrain.ports.journal import Journal
from geartrain.rules.lease_words import (
    Acquire,
    Adopt,
    Alive,
    Claim,
    Done,
    Grant,
    Lost,
    Mode,
    Numbered,
    Open,
    Opened,
    Refusal,
    Release,
    Renew,
    SetMode,
    Shown,
    Told,
    Waiting,
)
from tests.walks import histories
from tests.walks.histories import Event, Gone, Heard, Left, Said

PATIENCE_S = 30
MS = 1_000_000
DAY_NS = 86_400_000_000_000
REGIONS = ("cell", "cell/left", "cell/right", "cell/left/arm", "lock://gpu", "lock://cpu", "store", "store/a", "table")
_BROKEN = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, anyio.IncompleteRead)
_told: msgspec.json.Decoder[Told] = msgspec.json.Decoder(Told)


# -- the arbiter ------------------------------------------------------------------------------------------------------


class Hoarding(RealFs):
    """Keeps what is removed, for those who look afterwards; and is slow now and then, so that a death meets more."""

    _chance = Random(0)

    def write(self, file: int, data: bytes, at: int) -> None:
        if self._chance.random() < 0.3:
            time.sleep(self._chance.uniform(0, 0.01))
        super().write(file, data, at)

    def remove(self, name: str) -> None:
        if name.endswith(".tmp"):
            super().remove(name)
        else:
            os.replace(self.folder / name, self.folder.parent / "gone" / name)


class Hoarder(LeaseArbiter):
    def open_journal(self) -> tuple[str, Journal]:
        assert self.directory is not None
        return str(self.directory), FileJournal(self.directory, segment_bytes=1 << 16, fs=Hoarding(self.directory))


def jump() -> None:
    """From now on the wall clock of this process is a day off, now before and now behind."""
    wall_ns, chance = time.time_ns, Random(os.getpid())

    def jumping_ns() -> int:
        return wall_ns() + chance.choice((-1, 1)) * chance.randrange(DAY_NS)

    time.time_ns = jumping_ns
    time.time = lambda: jumping_ns() / 1e9


async def arbitrate(folder: Path) -> None:
    # So often that some are killed while they do it.
    arbiters._SNAPSHOT_EVERY = 300
    async with Supervisor() as supervisor:
        # No grace: whatever is a moment too early shows.
        supervisor.add(Hoarder([], directory=folder, grace=0.0), name="arbiter")
        await anyio.sleep_forever()


# -- a client ---------------------------------------------------------------------------------------------------------


class Client:
    """One session at a time, one word at a time; what has had no answer is asked again by the same number."""

    def __init__(self, folder: Path, out: Path, name: str, chance: Random) -> None:
        self.folder, self.name, self.chance = folder, name, chance
        self._out = out.open("ab", buffering=0)
        self._stream: anyio.abc.SocketStream | None = None
        self._lives = 0
        self.held: dict[int, Grant] = {}
        self._begin()

    def _begin(self) -> None:
        self._lives += 1
        self._secret = f"{self.name}-{self._lives}"
        self.session = self._last = 0
        self._answered: Numbered | Renew | None = None

    def note(self, event: Event) -> None:
        self._out.write(histories.line_of(event))

    def number(self) -> int:
        self._last += 1
        return self._last

    async def live(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            await self.turn()
        # To leave by oneself is the end of what was bound to the session.
        await self.drop()

    async def turn(self) -> None:
        await self._be_there()
        if not self.held or (len(self.held) < 2 and self.chance.random() < 0.4):
            await self.acquire()
            return
        grant, roll = self.held[self.chance.choice(list(self.held))], self.chance.random()
        for upto, what in (
            (0.25, self.renew),
            (0.6, self.release),
            (0.68, self.set_mode),
            (0.74, self.hand_over),
            (0.77, self.rest),
            (0.9, self.again),
        ):
            if roll < upto:
                await what(grant)
                return
        await anyio.sleep(self.chance.uniform(0, 0.02))

    async def acquire(self) -> None:
        regions = self.chance.sample(REGIONS, self.chance.choice((1, 1, 2)))
        mode: Mode = "x" if self.chance.random() < 0.6 else "s"
        word = Acquire(
            self.session,
            self.number(),
            tuple(Claim(region, mode) for region in regions),
            ttl_ns=self.chance.randint(50, 2000) * MS,
            wait_ns=self.chance.choice((0, 0, 50, 300)) * MS,
            bind=self.chance.choice(("session", "ttl")),
            label="everybody",
        )
        told = await self.ask(word)
        if isinstance(told, Grant):
            self.held[told.lease] = told
            if self.chance.random() < 0.1:
                await self.ask(word)

    async def renew(self, grant: Grant) -> None:
        told = await self.ask(Renew(self.session, (Shown(grant.lease, grant.token),), self.number()))
        if isinstance(told, Alive) and grant.lease in told.lost:
            self.held.pop(grant.lease, None)

    async def rest(self, grant: Grant) -> None:
        """Hold it for long, and say nothing but that it is to last."""
        for _ in range(3):
            await anyio.sleep(grant.ttl_ns * 0.7 / 1e9)
            if grant.lease in self.held:
                await self.renew(grant)

    async def again(self, grant: Grant) -> None:
        """Ask what was answered, perhaps by a former life of the arbiter."""
        if self._answered is not None:
            await self.ask(self._answered)

    async def release(self, grant: Grant) -> None:
        if self.chance.random() < 0.1:
            await self.ask(Release(self.session, self.number(), grant.lease, grant.token + 1))
        self.held.pop(grant.lease, None)
        word = Release(self.session, self.number(), grant.lease, grant.token)
        await self.ask(word)
        if self.chance.random() < 0.1:
            await self.ask(word)
            await self.ask(replace(word, n=self.number()))
            await self.renew(grant)

    async def set_mode(self, grant: Grant) -> None:
        mode: Mode = self.chance.choice(("x", "s"))
        told = await self.ask(SetMode(self.session, self.number(), grant.lease, grant.token, mode, 50 * MS))
        if isinstance(told, Done) and grant.lease in self.held:
            self.held[grant.lease] = replace(grant, token=told.token)

    async def hand_over(self, grant: Grant) -> None:
        """From one session to the next, as of two programs that run one after the other."""
        await self.drop()
        self._begin()
        await self._be_there()
        for _ in range(3):
            told = await self.ask(Adopt(self.session, self.number(), grant.lease, grant.token))
            if isinstance(told, Done):
                self.held[grant.lease] = replace(grant, session=self.session, token=told.token)
                return

    # -- saying and hearing

    async def drop(self) -> None:
        self.held.clear()
        self.note(Left(mono_ns(), self.session))
        if self._stream is not None:
            await self._stream.aclose()
            self._stream = None

    async def ask(self, word: Numbered | Renew) -> Told | None:
        """The answer, None if there can be none any more."""
        while word.session == self.session:
            try:
                told = await self._answer(word)
                if isinstance(told, Grant | Done):
                    self._answered = word
                return told
            except _BROKEN:
                self._lose()
                await self._be_there()
            if isinstance(word, Renew):
                # Nobody remembers one: it is a new one, from now.
                word = replace(word, n=self.number())
        return None

    async def _answer(self, word: Numbered | Renew) -> Told:
        self.note(Said(mono_ns(), word))
        assert self._stream is not None
        await self._stream.send(line_of(word))
        return await self._heard(lambda told: getattr(told, "n", -1) == word.n)

    def _lose(self) -> None:
        self.note(Gone(mono_ns()))
        self._stream = None

    async def _be_there(self) -> None:
        """Connected, and known: by the same session, if there still is one."""
        with anyio.fail_after(PATIENCE_S):
            while self._stream is None:
                try:
                    with short_path(self.folder) as path:
                        self._stream = await anyio.connect_unix(path)
                    self._lines = BufferedByteReceiveStream(self._stream)
                    await self._stream.send(line_of(Open(self._secret, "everybody", 3000 * MS)))
                    opened = await self._heard(lambda told: isinstance(told, Opened))
                except _BROKEN:
                    self._stream = None
                    await anyio.sleep(0.005)
                    continue
                assert isinstance(opened, Opened)
                if opened.session != self.session:
                    self.note(Left(mono_ns(), self.session))
                    self.held.clear()
                    self.session, self._last, self._answered = opened.session, 0, None

    async def _heard(self, is_it: Callable[[Told], bool]) -> Told:
        with anyio.fail_after(PATIENCE_S):
            while True:
                told = _told.decode(await self._lines.receive_until(b"\n", LINE_MOST))
                self.note(Heard(mono_ns(), told))
                if isinstance(told, Lost):
                    self.held.pop(told.lease, None)
                elif isinstance(told, Refusal) and told.code == "no_session":
                    # Over: the next word is said in another one.
                    await self.drop()
                    self._begin()
                    raise anyio.EndOfStream
                elif not isinstance(told, Waiting) and is_it(told):
                    return told


async def clients(folder: Path, seed: str, count: int) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            name = f"clients-{seed}-{number}"
            client = Client(folder, folder.parent / name, name, Random(name))
            tasks.start_soon(client.live, (folder.parent / "stop").exists)


def main(role: str, loop: str, folder: str, *more: str) -> None:
    if role == "arbiter":
        if "jumping" in more:
            jump()
        anyio.run(arbitrate, Path(folder), backend=loop)
    else:
        seed, count = more
        anyio.run(clients, Path(folder), seed, int(count), backend=loop)


if __name__ == "__main__":
    main(*sys.argv[1:])
