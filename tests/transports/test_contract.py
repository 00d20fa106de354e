"""The contract of channels, kept over links: ipc and tcp, both ends on one loop, and each end on a loop of its own."""

import asyncio
import itertools
import math
import re
import socket
import sys
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import anyio
import anyio.from_thread
import pytest

from geartrain import Channel, ChannelStats, Mark, ReceiveStream, open_pair, open_receive, open_send
from geartrain.engine import wire
from geartrain.engine.ends import Asker
from geartrain.errors import BadValue, GeartrainError
from geartrain.ports.parking import take_turn
from geartrain.ports.transport import Hear, LinkSettings
from geartrain.ports.turns import Owner
from geartrain.rules.deadlock import Waiting
from geartrain.rules.pipeline import Policy
from geartrain_zmq.link import ZmqLink
from geartrain_zmq.transport import ZmqTransport
from tests.engine.test_channel import PATIENCE_S, ChannelContract, Opener

T = TypeVar("T")

# A link always has a bound. This one stands in for none: no test of the contract sends so much.
ROOMY = 10_000

_numbers = itertools.count()


def new_address(folder: Path, scheme: str) -> str:
    if scheme == "ipc":
        return f"ipc://{folder}/{next(_numbers)}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


# -- when nothing is on its way ---------------------------------------------------------------------------------------


class Traffic:
    """How many frames were handed to links, and how many came out of them."""

    def __init__(self) -> None:
        self._links: list[_CountedLink] = []

    def watch(self, link: ZmqLink) -> "_CountedLink":
        watched = _CountedLink(link)
        self._links.append(watched)
        return watched

    @property
    def said(self) -> int:
        return sum(link.said for link in self._links)

    @property
    def heard(self) -> int:
        return sum(link.heard for link in self._links)


class _CountedLink:
    """A link that counts whole frames. The empty ones only say that somebody is there."""

    def __init__(self, link: ZmqLink) -> None:
        self.said = 0
        self.heard = 0
        self._link = link

    def send(self, peer: bytes, frame: bytes | bytearray) -> bool:
        # Counted before it can be heard: who looks in between sees one frame on its way, never one too many heard.
        self.said += bool(frame)
        taken = self._link.send(peer, frame)
        self.said -= bool(frame) and not taken
        return taken

    async def run(self, hear: Hear) -> NoReturn:
        def hear_and_count(peer: bytes, frame: bytes | memoryview) -> None:
            hear(peer, frame)
            self.heard += bool(frame)

        await self._link.run(hear_and_count)

    def reachable(self, peer: bytes) -> bool:
        return self._link.reachable(peer)

    async def aclose(self) -> None:
        await self._link.aclose()


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    traffic = Traffic()
    plain = ZmqTransport.open

    def open_watched(self: ZmqTransport, address: str, *, bind: bool, settings: LinkSettings) -> _CountedLink:
        return traffic.watch(plain(self, address, bind=bind, settings=settings))

    monkeypatch.setattr(ZmqTransport, "open", open_watched)
    # What a reader keeps to itself for a moment would be on its way, and not be seen.
    monkeypatch.setattr(wire, "_SOON_S", 0)
    return traffic


async def go_round() -> None:
    for _ in range(12):
        await take_turn()


# What a channel over a link does not keep yet, by the beginning of a test's name.
NOT_YET: dict[str, str] = {}


class LinkContract(ChannelContract):
    """The contract, where what one end does is seen by the other when the link has brought it there."""

    traffic: Traffic
    keeps_room_given = True

    def plain(self, error: BaseException) -> str:
        return re.sub(r" at \w+://[^\s,;]+", "", str(error))

    def untold(self, maxsize: float) -> float:
        # The reader says how far it is when half the window is free, and whenever it waits.
        return 0 if maxsize < 2 else min(maxsize, ROOMY) // 2 - 1

    def totals(self, channel: Channel[Any]) -> tuple[int, int, int]:
        writer, reader = channel.send.statistics(), channel.recv.statistics()
        return writer.accepted, reader.taken, writer.dropped + reader.dropped

    @pytest.fixture(autouse=True)
    def _mark_what_is_not_kept_yet(self, request: pytest.FixtureRequest, anyio_backend: str) -> None:
        for name, reason in NOT_YET.items():
            if request.node.name.startswith(name.format(loop=anyio_backend)):
                request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    # A rendezvous needs a reader that waits, which a writer that never waits cannot know of in time: so such a channel
    # is refused where it is written.

    async def refused(self, opened: Opener) -> None:
        with pytest.raises(BadValue, match="policy 'drop_newest' over a link needs a maxsize of at least 1"):
            await opened(0, policy="drop_newest")

    @pytest.mark.parametrize("nowait", [False, True])
    async def test_a_rendezvous_that_drops_the_newest_drops_all_that_nobody_waits_for(
        self, opened: Opener, nowait: bool
    ) -> None:
        await self.refused(opened)

    async def test_a_rendezvous_that_drops_the_newest_hands_over_what_a_reader_waits_for(self, opened: Opener) -> None:
        await self.refused(opened)

    @pytest.fixture
    async def opened(self, folder: Path, scheme: str, traffic: Traffic) -> AsyncIterator[Opener]:
        self.traffic = traffic
        async with AsyncExitStack() as stack:

            async def opened(maxsize: float = 0, *, policy: Policy = "block", name: str = "") -> Channel[Any]:
                size = ROOMY if maxsize == math.inf else int(maxsize)
                return await stack.enter_async_context(
                    self.both(new_address(folder, scheme), maxsize=size, policy=policy, name=name, insecure=True)
                )

            yield opened

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        tmp_path.chmod(0o700)
        return tmp_path

    @abstractmethod
    def both(self, address: str, **said: Any) -> Any:
        """Both ends of a channel at an address."""

    async def everybody_goes_round(self) -> None:
        await go_round()

    async def settle(self) -> None:
        """Let everything happen that can: until every frame has been heard and none is said in answer."""
        with anyio.fail_after(PATIENCE_S):
            # A frame that was heard in the last round may have its answer in the next.
            before = (-1, -1)
            while before != (now := (self.traffic.said, self.traffic.heard)) or now[0] != now[1]:
                before = now
                await self.everybody_goes_round()


class OnOneLoop(LinkContract):
    def both(self, address: str, **said: Any) -> Any:
        return open_pair(address, Any, **said)


class TestIpc(OnOneLoop):
    @pytest.fixture
    def scheme(self) -> str:
        return "ipc"


class TestTcp(OnOneLoop):
    @pytest.fixture
    def scheme(self) -> str:
        return "tcp"


# -- the reader on the other loop -------------------------------------------------------------------------------------


def call_soon_here() -> Callable[[Callable[[], object]], object]:
    """What lets another thread have something done on this loop, without waiting for it."""
    if sys.modules["asyncio"]._get_running_loop() is not None:
        return asyncio.get_running_loop().call_soon_threadsafe
    import trio

    return trio.lowlevel.current_trio_token().run_sync_soon


class _Errand:
    """A call that is made over there and waited for here. Cancelled here, it is cancelled there; what it has got by
    then is kept."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal, call: Callable[[], Awaitable[Any]]) -> None:
        self._portal = portal
        self._call = call
        self._scope: anyio.CancelScope | None = None
        self._is_given_up = False
        self._is_over = anyio.Event()
        self._soon = call_soon_here()
        self._result: Any = None
        self._error: BaseException | None = None
        self._was_cancelled = False

    async def _run(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                if self._is_given_up:
                    self._scope.cancel()
                self._result = await self._call()
            self._was_cancelled = self._scope.cancelled_caught
        except (GeartrainError, StopAsyncIteration) as error:
            self._error = error
        self._soon(self._is_over.set)

    async def wait(self) -> Any:
        self._portal.start_task_soon(self._run)
        try:
            await self._is_over.wait()
        except anyio.get_cancelled_exc_class():
            self._portal.start_task_soon(self._cancel)
            with anyio.CancelScope(shield=True):
                await self._is_over.wait()
            if self._was_cancelled:
                raise
        if self._error is not None:
            raise self._error
        return self._result

    async def _cancel(self) -> None:
        self._is_given_up = True
        if self._scope is not None:
            self._scope.cancel()


class _AskerThere:
    """Wakes the asker on its own loop, as long as it asks."""

    def __init__(self, asker: Asker) -> None:
        self._asker: Asker | None = asker
        self._soon = call_soon_here()

    def wake(self) -> None:
        self._soon(self._wake_here)

    def _wake_here(self) -> None:
        if self._asker is not None:
            self._asker.wake()

    def withdraw(self) -> None:
        self._asker = None


class Forwarded(ReceiveStream[T]):
    """A reading end that lives on the loop of another thread."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal, there: ReceiveStream[T]) -> None:
        self._portal = portal
        self._there = there
        self._asking: _AskerThere | None = None

    def _call(self, what: Callable[..., Any], *args: object) -> Any:
        return self._portal.call(what, *args)

    async def receive(self) -> T:
        item: T = await _Errand(self._portal, self._there.receive).wait()
        return item

    async def wait_item(self) -> None:
        await _Errand(self._portal, self._there.wait_item).wait()

    async def aclose(self) -> None:
        self._call(self._there.aclose)

    def receive_nowait(self) -> T:
        item: T = self._call(self._there.receive_nowait)
        return item

    def has_item(self) -> bool:
        return bool(self._call(self._there.has_item))

    def discard_oldest(self) -> bool:
        return bool(self._call(self._there.discard_oldest))

    @property
    def mark(self) -> Mark:
        mark: Mark = self._call(lambda: self._there.mark)
        return mark

    def done(self, mark: Mark) -> None:
        self._call(self._there.done, mark)

    def ack_manually(self) -> None:
        self._call(self._there.ack_manually)

    def statistics(self) -> ChannelStats:
        stats: ChannelStats = self._call(self._there.statistics)
        return stats

    def ask(self, asker: Asker) -> None:
        asking = _AskerThere(asker)
        self._call(self._there.ask, asking)
        self._asking = asking

    def withdraw(self) -> None:
        if self._asking is not None:
            self._asking.withdraw()
            self._asking = None
            self._call(self._there.withdraw)

    def waiting_for(self, owner: Owner) -> Waiting:
        waiting: Waiting = self._call(self._there.waiting_for, owner)
        return waiting


class TestEachEndOnALoopOfItsOwn(LinkContract):
    """The writer here, the reader on the other kind of loop in another thread."""

    portal: anyio.from_thread.BlockingPortal

    @pytest.fixture
    def scheme(self) -> str:
        return "ipc"

    @pytest.fixture(autouse=True)
    def loop_there(self, anyio_backend: str) -> Iterator[None]:
        other = {"asyncio": "trio", "trio": "asyncio"}[anyio_backend]
        with anyio.from_thread.start_blocking_portal(other) as self.portal:
            yield

    @asynccontextmanager
    async def both(self, address: str, **said: Any) -> AsyncIterator[Channel[Any]]:
        with ExitStack() as there:
            recv = there.enter_context(self.portal.wrap_async_context_manager(open_receive(address, Any, **said)))
            async with open_send(address, Any, **said) as send:
                await send.wait_connected()
                await _Errand(self.portal, recv.wait_connected).wait()
                try:
                    yield Channel(send, Forwarded(self.portal, recv))
                finally:
                    self.portal.call(recv.aclose)

    async def everybody_goes_round(self) -> None:
        await go_round()
        with anyio.CancelScope(shield=True):
            await _Errand(self.portal, go_round).wait()
        await go_round()
