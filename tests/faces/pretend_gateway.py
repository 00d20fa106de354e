"""A gateway that says what a test wants said: the page, `/api/v1/graph`, `/api/v1/logs` and the stream of looks.

It has the shapes of `geartrain.faces.web_live`, and the headers that the page must live with.
"""

import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

import geartrain.faces
from geartrain.faces.web_live import Graph, Live, LogLine, Logs

PAGE = Path(geartrain.faces.__file__).parent / "web"

# Stricter than those of the gateway itself: not even a style may stand in the page.
STRICT = {"Content-Security-Policy": "default-src 'self'", "X-Content-Type-Options": "nosniff"}


class PretendGateway:
    """Says `say`'s looks to every stream; one that comes again is told what it has missed."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.logs: dict[str, list[LogLine]] = {}
        # The look that each stream said it had last, in the order they came.
        self.came_again: list[str | None] = []
        self.looks: list[Live] = []
        self.changed = threading.Condition()
        self.broken = 0
        self.refuses = False
        self.token: str | None = None
        # Whether it was started again: what the page knows of its ids is of a former one.
        self.forgets = False
        self._server = _Server(("127.0.0.1", 0), _Answer)
        self._server.gateway = self
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def say(self, *looks: Live) -> None:
        with self.changed:
            self.looks.extend(looks)
            self.changed.notify_all()

    def break_streams(self, *, refuse: bool = False) -> None:
        """All streams end at once; with `refuse` none begins until `accept`."""
        with self.changed:
            self.broken += 1
            self.refuses = refuse
            self.changed.notify_all()

    def accept(self) -> None:
        self.refuses = False

    def after(self, told: int, began: int) -> list[Live]:
        """The looks after this one, as soon as there are any; none when the streams of that time are broken."""
        with self.changed:
            self.changed.wait_for(lambda: self.broken != began or any(look.look > told for look in self.looks))
            return [look for look in self.looks if look.look > told and self.broken == began]

    @contextmanager
    def serving(self) -> Iterator["PretendGateway"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.break_streams(refuse=True)
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    gateway: PretendGateway
    daemon_threads = True


class _Answer(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        gateway = self.server.gateway
        match url.path:
            case "/api/v1/live":
                self._stream(gateway, parse_qs(url.query))
            case "/api/v1/graph":
                self._answer(msgspec.json.encode(gateway.graph), "application/json")
            case "/api/v1/logs":
                process = parse_qs(url.query)["process"][0]
                lines = tuple(gateway.logs.get(process, ()))
                self._answer(msgspec.json.encode(Logs(process=process, lines=lines)), "application/json")
            case path:
                self._file(PAGE / (path.lstrip("/") or "index.html"))

    def _file(self, path: Path) -> None:
        if path.is_file():
            self._answer(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "text/plain")
        else:
            self.send_error(404)

    def _answer(self, body: bytes, media: str) -> None:
        self._head(media, {"Content-Length": str(len(body))})
        self.wfile.write(body)

    def _head(self, media: str, more: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {"Content-Type": media, **STRICT, **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def _stream(self, gateway: PretendGateway, query: dict[str, list[str]]) -> None:
        if gateway.refuses or (gateway.token and query.get("token") != [gateway.token]):
            self.send_error(503 if gateway.refuses else 401)
            return
        last = query.get("last_event_id", [None])[0]
        gateway.came_again.append(last)
        self._head("text/event-stream", {})
        began, told = gateway.broken, 0 if gateway.forgets else int(last or 0)
        try:
            while gateway.broken == began:
                for look in gateway.after(told, began):
                    self.wfile.write(b"id: %d\nevent: live\ndata: %s\n\n" % (look.look, msgspec.json.encode(look)))
                    told = look.look
        except OSError:
            # The page has gone.
            return

    def log_message(self, *_: object) -> None: ...
