"""A replica of a periodic service: runs the cycles that the keeper gives it, one at a time.

    told    Orders: these runs are yours   --->  the function, called once for each
    asks    Report: I live, this is over   <---  completed, failed, cancelled or given back

It says how it is now and then, also when nothing has changed: one that is not heard of is ended with its process.
"""

import os
from contextlib import suppress

import anyio
import anyio.abc

from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.ends import ReceiveStream, SendStream
from geartrain.engine.in_turn import start_in_turn
from geartrain.engine.options import new_number
from geartrain.engine.services import ServiceRun, call_job, load_job
from geartrain.engine.signal import Bell
from geartrain.errors import GeartrainError, in_words
from geartrain.ports.process_table import identity_of
from geartrain.rules.service_words import SAID_MOST, Orders, Over, Report, Who
from geartrain.rules.services import Outcome, Run


class ServiceReplica(Daemon):
    """One of the replicas of a service. A pipeline with `[services.NAME]` has them by itself."""

    def __init__(
        self, asks: SendStream[Report], told: ReceiveStream[Orders], service: str, run: str, beat_ns: int
    ) -> None:
        self.asks = asks
        self.told = told
        self.service = service
        self.job = load_job(run)
        self.beat_s = beat_ns / 1e9
        self._life = new_number()
        self._who = _who_we_are()
        self._heard = 0
        self._last_token = 0
        self._running: dict[int, tuple[ServiceRun, anyio.CancelScope]] = {}
        self._over: dict[int, Over] = {}
        self._leaving = False
        self._changed = Bell()

    async def run(self, ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            start_in_turn(tasks, self._listen, ctx, tasks)
            start_in_turn(tasks, self._beat, ctx)
            await ctx.stop_event.wait()
            # What it has in hand it finishes, if it is given the time; nothing more is begun.
            self._leaving = True
            self._say(ctx)
            while self._running:
                await self._changed.wait()
            tasks.cancel_scope.cancel()
        self._say(ctx)

    def _say(self, ctx: Context) -> None:
        """Never waits: of several words nobody has taken only the last one counts, and it says all."""
        report = Report(
            service=self.service,
            member=ctx.name,
            life=self._life,
            who=self._who,
            heard=self._heard,
            running=tuple(self._running),
            over=tuple(self._over.values()),
            leaving=self._leaving,
        )
        # A keeper that is gone comes back, and asks.
        with suppress(GeartrainError):
            self.asks.send_nowait(report)

    async def _beat(self, ctx: Context) -> None:
        while True:
            self._say(ctx)
            await ctx.clock.sleep(self.beat_s)

    async def _listen(self, ctx: Context, tasks: anyio.abc.TaskGroup) -> None:
        with suppress(GeartrainError):
            async for orders in self.told:
                if orders.life == self._life:
                    self._obey(orders, ctx, tasks)
                else:
                    # It is a new keeper, or one that does not know that this is a new life.
                    self._say(ctx)

    def _obey(self, orders: Orders, ctx: Context, tasks: anyio.abc.TaskGroup) -> None:
        self._heard = orders.number
        given = {run.token: run for run in orders.runs}
        # What has ended and is not given any more has been written down.
        self._over = {token: over for token, over in self._over.items() if token in given}
        for token, (job_run, scope) in self._running.items():
            if token in orders.cancels or token not in given:
                job_run.left.set()
                scope.cancel()
        for token in sorted(given):
            if token > self._last_token and not self._leaving:
                self._last_token = token
                self._begin(given[token], ctx, tasks)

    def _begin(self, given: Run, ctx: Context, tasks: anyio.abc.TaskGroup) -> None:
        run = ServiceRun(self.service, ctx.name, given.cycle, given.token, ctx.clock, ctx.logger)
        scope = anyio.CancelScope()
        self._running[given.token] = run, scope
        start_in_turn(tasks, self._run_one, run, scope, ctx)

    async def _run_one(self, run: ServiceRun, scope: anyio.CancelScope, ctx: Context) -> None:
        outcome, said = Outcome.ABANDONED, "its replica has stopped"
        try:
            with scope:
                await call_job(self.job, run)
                outcome, said = Outcome.COMPLETED, ""
            if scope.cancelled_caught:
                outcome, said = Outcome.CANCELLED, "it was to make room for the next cycle"
        except Exception as error:
            ctx.logger.exception("service %r has failed in cycle %d", run.service, run.cycle)
            outcome, said = Outcome.FAILED, in_words(error)[:SAID_MOST]
        finally:
            del self._running[run.token]
            self._over[run.token] = Over(run.token, outcome, said)
            self._say(ctx)
            self._changed.ring()


def _who_we_are() -> Who | None:
    """None where processes have no such mark: there is one process then, which nobody else watches."""
    who = identity_of(os.getpid())
    return None if who is None else Who(*who)
