"""What the gateway answers: JSON, a refusal in words, or a stream of events."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

import anyio
import msgspec
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

JSON = "application/json"


class Refused(Exception):
    """A request that is not answered as wished. `parameters` are what it was about."""

    def __init__(self, status: int, error_code: str, message: str, **parameters: object) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.message = message
        self.parameters = parameters

    def answer(self) -> Response:
        return refusal(self.status, self.error_code, self.message, **self.parameters)


def refusal(status: int, error_code: str, message: str, **parameters: object) -> Response:
    body = {"error_code": error_code, "message": message, "parameters": parameters}
    return Response(msgspec.json.encode(body), status, media_type=JSON)


def answer(what: object) -> Response:
    return Response(msgspec.json.encode(what), media_type=JSON, headers={"cache-control": "no-store"})


class _Line(Protocol):
    """A connection that can be asked whether its client is still there."""

    def is_gone(self) -> bool: ...


def line_of(scope: Scope) -> _Line | None:
    line: _Line | None = scope.get("state", {}).get("connection")
    return line


class EventStream(Response):
    """Frames, for as long as there are any and somebody is there. Its place is given back whatever happens.

    `frames` yields an empty one now and then: this is when it is looked whether the client has gone.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: Callable[[], AsyncGenerator[bytes]], leave: Callable[[], None]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        # Its length is not known.
        del self.headers["content-length"]
        self._frames = frames
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
                await self._send_all(line_of(scope), send)
                tasks.cancel_scope.cancel()
        finally:
            self._leave()

    async def _send_all(self, line: _Line | None, send: Send) -> None:
        async with aclosing(self._frames()) as frames:
            async for frame in frames:
                if line is not None and line.is_gone():
                    return
                if frame:
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            scope.cancel()
            return
