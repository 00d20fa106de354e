"""The gateway as a whole: what an observer has seen goes in at one side, and clients are answered at the other.

show(live) --> Looks, Hub --> Routes --> Guard --> server
"""

from collections.abc import Awaitable, Callable
from socket import socket

from geartrain.faces.web_events import Hub, Looks, happened
from geartrain.faces.web_guard import Guard
from geartrain.faces.web_limits import Limits, Tally
from geartrain.faces.web_live import Live
from geartrain.faces.web_page import Page
from geartrain.faces.web_routes import Routes
from geartrain.faces.web_server import serve
from geartrain.faces.web_source import Source
from geartrain.faces.web_streams import Stopping
from geartrain.rules.view import View


class Gateway:
    """Serves what `source` tells. `first_id` is greater than the id of any event of a former observer of this run."""

    def __init__(
        self,
        source: Source,
        *,
        first_id: int,
        token: str | None = None,
        hosts: tuple[str, ...] = (),
        limits: Limits | None = None,
        page: Page | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.tally = Tally()
        self.looks = Looks()
        self.hub = Hub(first_id)
        self._stopping = Stopping()
        self.routes = Routes(
            self.looks, self.hub, source, page=page or Page(), limits=self.limits, tally=self.tally,
            stopping=self._stopping,
        )  # fmt: skip
        self._app = Guard(self.routes.application(), token=token, hosts=hosts, limits=self.limits, tally=self.tally)

    def show(self, live: Live, view: View) -> None:
        """A new look. Never waits, however many clients there are."""
        for news in happened(self.looks.last, live):
            self.hub.publish(news.event, news.data)
        self.looks.show(live, view)

    async def serve(self, opened: socket, stop: Callable[[], Awaitable[object]]) -> None:
        """Until `stop` returns. Then every stream ends by itself."""

        async def until_stopped() -> None:
            await stop()
            self._stopping.set()

        await serve(self._app, opened, stop=until_stopped, limits=self.limits, tally=self.tally)
