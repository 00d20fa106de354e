"""What goes out on a stream, frame by frame. An empty frame says nothing: it is when the client is looked after."""

import time
from collections.abc import AsyncGenerator

import anyio

from geartrain.faces.web_events import Hub, Looks, reset
from geartrain.faces.web_limits import Limits

_ALIVE = b": still here\n\n"


class Stopping:
    """Whether the gateway is at its end, which every stream asks."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    @property
    def now(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._event.wait()


class _Pulse:
    """Says now and then that the stream is alive, when there is nothing else to say."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._last = time.monotonic()

    def beat(self, frames: bytes) -> bytes:
        now = time.monotonic()
        if not frames and now - self._last < self._every_s:
            return b""
        self._last = now
        return frames or _ALIVE


async def fault_frames(hub: Hub, last_id: int | None, limits: Limits, stopping: Stopping) -> AsyncGenerator[bytes]:
    """What was missed, and then every event as it comes."""
    client = hub.join(last_id)
    pulse = _Pulse(limits.keep_alive_s)
    try:
        yield _ALIVE
        while not stopping.now:
            await client.wait(limits.look_s)
            yield pulse.beat(b"".join(sent.frame() for sent in client.take()))
    finally:
        hub.leave(client)


async def lives(
    looks: Looks, every_s: float, seen: int | None, limits: Limits, stopping: Stopping
) -> AsyncGenerator[bytes]:
    """The newest look each time: who reads slowly gets fewer of them, and none late."""
    # A look that there has not been yet was a former observer's.
    if seen is not None and looks.last is not None and seen > looks.last.look:
        yield reset().frame()
    last, due, pulse = -1, time.monotonic(), _Pulse(limits.keep_alive_s)
    while not stopping.now:
        wait_s = due - time.monotonic()
        if wait_s > 0:
            await stopping.wait(min(wait_s, limits.look_s))
            yield pulse.beat(b"")
            continue
        live = await looks.wait_newer(last, limits.look_s)
        if live is None:
            yield pulse.beat(b"")
            continue
        last, due = live.look, max(due + every_s, time.monotonic())
        yield pulse.beat(b"id: %d\nevent: live\ndata: %s\n\n" % (last, looks.encoded(live)))
