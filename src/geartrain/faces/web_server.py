"""Serves an ASGI application by anycorn, on asyncio and on trio, to clients of whom nothing good is assumed.

    socket --accept--> Connection --> anycorn (h11) --> the application
                       at most 512; a write takes at most 5 s; who has gone is noticed by asking the kernel

anycorn's own `serve` knows neither a limit of connections nor of the time of a write, and waits in a write for whoever
does not read. So each connection is handed to it by itself, in a stream that has both.
"""

import logging
import select
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, cast

import anyio
import anyio.abc
from anycorn.config import Config
from anycorn.tcp_server import tcp_server_handler
from anycorn.typing import ConnectionState, Framework
from anycorn.utils import wrap_app
from anycorn.worker_context import WorkerContext
from starlette.types import ASGIApp

from geartrain.faces.web_limits import Limits, Tally

# POLLRDHUP: the other side has closed, also if there are bytes of it that nobody has read.
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b'connection: close\r\n\r\n{"error_code":"too-many-connections","message":"all connections are in use; '
    b'come again","parameters":{}}'
)

log = logging.getLogger("geartrain.web")


class Connection(anyio.abc.ByteStream):
    """The stream of one client. A write that takes too long ends it, and so does its client's end.

    anycorn keeps a connection that has ended until it would have been idle for too long; `life` is what ends that wait.
    """

    def __init__(self, inner: anyio.abc.SocketStream, limits: Limits, tally: Tally, life: anyio.CancelScope) -> None:
        self._life = life
        self._is_over = False
        self._inner = inner
        self._limits = limits
        self._tally = tally
        self._poll = select.poll()
        self._poll.register(inner.extra(anyio.abc.SocketAttribute.raw_socket).fileno(), _GONE)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._inner.extra_attributes

    def is_gone(self) -> bool:
        """Whether the client has closed. Seen also where nobody reads, as while an answer goes on for ever."""
        return bool(self._poll.poll(0))

    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            while True:
                data = await self._inner.receive(max_bytes)
                if not self._is_over:
                    return data
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._end_soon()
            raise

    async def send(self, item: bytes) -> None:
        """As far as the kernel, within the time there is."""
        try:
            with anyio.fail_after(self._limits.write_s):
                await self._inner.send(item)
        except TimeoutError:
            self._tally.slow += 1
            # Closed at once: to say farewell politely would be another write.
            await anyio.aclose_forcefully(self._inner)
            raise

    async def send_eof(self) -> None:
        await self._inner.send_eof()

    async def aclose(self) -> None:
        """Closed when the client has closed, or a moment later: one that still sends would lose its answer by it."""
        self._is_over = True
        self._end_soon()

    def _end_soon(self) -> None:
        self._life.deadline = min(self._life.deadline, anyio.current_time() + self._limits.farewell_s)


async def serve(
    app: ASGIApp,
    opened: socket.socket,
    *,
    stop: Callable[[], Awaitable[object]],
    limits: Limits,
    tally: Tally,
) -> None:
    """Until `stop` returns; what is being answered then has a moment to end."""
    config, context = _config(limits), WorkerContext(None)
    wrapped = wrap_app(cast("Framework", app), 0, "asgi")

    async def answer(stream: anyio.abc.SocketStream) -> None:
        if tally.connections >= limits.connections:
            await _refuse(stream, tally)
            return
        tally.connections += 1
        try:
            with anyio.CancelScope() as life:
                connection = Connection(stream, limits, tally, life)
                state = ConnectionState({"connection": connection})
                await tcp_server_handler(wrapped, config, context, state)(connection)
        except Exception:
            # One client must not end the others.
            tally.broken += 1
            log.exception("a connection was given up")
        finally:
            await anyio.aclose_forcefully(stream)
            tally.connections -= 1

    async with anyio.create_task_group() as serving:
        async with await anyio.abc.SocketListener.from_socket(opened) as listener, anyio.create_task_group() as knocks:
            knocks.start_soon(partial(listener.serve, answer, task_group=serving))
            await stop()
            knocks.cancel_scope.cancel()
        await context.terminated.set()
        serving.cancel_scope.deadline = anyio.current_time() + limits.farewell_s


async def _refuse(stream: anyio.abc.SocketStream, tally: Tally) -> None:
    tally.refused += 1
    async with stream:
        with anyio.move_on_after(1):
            try:
                await stream.send(_FULL)
                await stream.send_eof()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                return


def _config(limits: Limits) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = log
    config.include_server_header = False
    config.h11_max_incomplete_size = limits.request_bytes
    config.h2_max_header_list_size = limits.request_bytes
    config.h2_max_concurrent_streams = 16
    config.keep_alive_timeout = limits.idle_s
    # How much of a body nobody reads waits: an application that wants none answers at once.
    config.max_app_queue_size = 2
    return config
