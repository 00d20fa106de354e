"""Who may come in, asked before anything else: the right host, origin and token, and no more than fits.

A page of somebody else's, in the browser of somebody who may come in, must not read the run. So a name that is not ours
is refused (its owner may have pointed it at this machine after the page was loaded), and so is a request that says it
comes from another page. Browsers say both by themselves, and no page can make them lie.
"""

import hmac
import ipaddress
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geartrain.faces.web_answers import refusal
from geartrain.faces.web_limits import Limits, Tally

# What is behind the token: all that says something of the run. The page itself says nothing.
_SECRET = ("/api/", "/metrics")
_COMES_FROM_HERE = ("localhost",)


class Guard:
    """In front of the application. `hosts` are names by which clients may call it besides localhost and numbers."""

    def __init__(
        self, app: ASGIApp, *, token: str | None, hosts: tuple[str, ...], limits: Limits, tally: Tally
    ) -> None:
        self._app = app
        self._token = token
        self._hosts = frozenset(host.lower() for host in hosts)
        self._limits = limits
        self._tally = tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            self._tally.denied += 1
            await send({"type": "websocket.close", "code": 1003})
            return
        self._tally.requests += 1
        gone = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_discard, receive, gone)
            await self._answer(scope, _deaf(gone), send)
            tasks.cancel_scope.cancel()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        denied = self._denied(scope)
        if denied is None:
            await self._app(scope, receive, send)
            return
        self._tally.denied += 1
        status, code, message = denied
        answer = refusal(status, code, message)
        if status == 401:
            answer.headers["www-authenticate"] = "Bearer"
        if status in (411, 413):
            answer.headers["connection"] = "close"
        await answer(scope, receive, send)

    def _denied(self, scope: Scope) -> tuple[int, str, str] | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_ours(host):
            return 403, "host-not-allowed", f"{host!r} is not a name of this gateway; allow_hosts says which are"
        if origin is not None and origin.lower() != f"{scope['scheme']}://{host}".lower():
            return 403, "origin-not-allowed", f"pages of {origin!r} may not read this"
        if scope["path"].startswith(_SECRET) and not self._has_token(scope, headers):
            return 401, "token-required", "say the token, as `Authorization: Bearer ...` or ?token=..."
        return self._too_big(scope, headers)

    def _too_big(self, scope: Scope, headers: Headers) -> tuple[int, str, str] | None:
        if "transfer-encoding" in headers:
            return 411, "length-required", "a request says its length; a body is of no use here anyway"
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()) or int(length) > self._limits.request_bytes:
            return 413, "request-too-large", f"a request has at most {self._limits.request_bytes} bytes"
        return None

    def _is_ours(self, host: str) -> bool:
        """A number is nobody's name: it cannot have been pointed somewhere else."""
        with suppress(ValueError):
            name = urlsplit(f"//{host}").hostname or ""
            if name in _COMES_FROM_HERE or name in self._hosts:
                return True
            ipaddress.ip_address(name)
            return True
        return False

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        if self._token is None:
            return True
        said = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        scheme, _, word = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            said.append(word.strip())
        return any(hmac.compare_digest(word.encode(), self._token.encode()) for word in said)


async def _discard(receive: Receive, gone: anyio.Event) -> None:
    """Throw away what the client sends until it has gone.

    Nothing here wants a body; but anycorn hands it over before it says that the client has gone, or that its own answer
    is over, and waits for ever where nobody takes it.
    """
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


def _deaf(gone: anyio.Event) -> Receive:
    """What the application hears: a request without a body, and then that the client has gone."""
    has_heard = False

    async def receive() -> Message:
        nonlocal has_heard
        if not has_heard:
            has_heard = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    return receive
