"""An observer that also shows what it sees, over HTTP: `geartrain run FILE --observe` declares one.

    [daemons.observer]
    run = "geartrain.faces.gateway:WebObserver"
    config = { bind = "127.0.0.1:8080" }            # or "unix:/a/path"; any other address needs a token

What is read there is written down in `web_live.py` (the page), in `web_routes.py` (everything) and, by itself, at
`/api/v1/openapi.json`. It needs the extra `geartrain[web]`, which is imported only when it starts: whoever checks or
draws a pipeline with such a daemon does without.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import anyio

from geartrain.actors.observer import ExecutorObserver
from geartrain.engine.context import Context
from geartrain.engine.in_turn import start_in_turn
from geartrain.errors import CannotServe
from geartrain.faces.web_address import BIND, listening, understood, url_of
from geartrain.faces.web_live import Graph, Logs
from geartrain.faces.web_logs import last_lines
from geartrain.faces.web_shown import graph_of, live_of
from geartrain.ports.run_memory import RunMemory
from geartrain.rules.faults import Change
from geartrain.rules.lookout import Moment
from geartrain.rules.view import View

if TYPE_CHECKING:
    from geartrain.faces.web_gateway import Gateway


class WebObserver(ExecutorObserver):
    """Looks as an `ExecutorObserver`, and shows it at `bind`.

    With a `token` nobody reads without it. `allow_hosts` are names of this machine by which browsers may call it;
    `localhost` and numbers are allowed always.
    """

    def __init__(
        self,
        memory: RunMemory,
        poll: timedelta = timedelta(milliseconds=200),
        hang: timedelta = timedelta(seconds=2),
        heartbeat: timedelta = timedelta(seconds=1),
        blocked: timedelta = timedelta(seconds=5),
        deadlock: timedelta = timedelta(seconds=2),
        confirm: int = 1,
        heal: int = 3,
        bind: str = BIND,
        token: str | None = None,
        allow_hosts: tuple[str, ...] = (),
    ) -> None:
        super().__init__(memory, poll, hang, heartbeat, blocked, deadlock, confirm, heal)
        self._bind = understood(bind, token)
        self._token = token
        self._hosts = allow_hosts
        self._gateway: Gateway | None = None
        self._open = ExitStack()
        self.url = ""

    async def on_start(self, ctx: Context) -> None:
        await super().on_start(ctx)
        self._gateway = _new_gateway(self, self._token, self._hosts)
        self._opened = self._open.enter_context(listening(self._bind))
        self.url = url_of(self._bind, self._opened)
        ctx.logger.info("the run is shown at %s", self.url)

    async def run(self, ctx: Context) -> None:
        gateway = self._gateway
        assert gateway is not None
        ended = anyio.Event()
        async with anyio.create_task_group() as tasks:
            start_in_turn(tasks, gateway.serve, self._opened, ended.wait)
            await super().run(ctx)
            ended.set()

    async def on_stop(self, ctx: Context) -> None:
        self._open.close()
        await super().on_stop(ctx)

    def seen(self, moment: Moment, changes: tuple[Change, ...]) -> None:
        super().seen(moment, changes)
        if self._gateway is not None:
            view = View(moment)
            self._gateway.show(live_of(view, self.memory.buckets()), view)

    # -- what the gateway asks (web_source.py)

    @cached_property
    def graph(self) -> Graph:
        about = self.memory.about
        return graph_of(about.spec, about.run_id)

    def logs(self, process: str, tail: int) -> Logs:
        return last_lines(self.memory.state, process, tail)

    def buckets(self) -> Mapping[str, tuple[int, ...]]:
        return self.memory.buckets()


def _new_gateway(source: WebObserver, token: str | None, hosts: tuple[str, ...]) -> "Gateway":
    try:
        from geartrain.faces.web_gateway import Gateway
    except ModuleNotFoundError as error:
        missing = (error.name or "something").partition(".")[0]
        raise CannotServe(
            f"to show a run, {missing} is needed and not installed: pip install 'geartrain[web]'"
        ) from error
    # Later observers of this run have greater ids: none tells a thousand things in a second, all its life.
    return Gateway(source, first_id=time.time_ns() // 1_000_000, token=token, hosts=hosts)
