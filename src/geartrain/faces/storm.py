"""The two daemons of a storm: one sends its events in bursts, one folds them beside thousands of deadlines.

    StormSource   --- events --->   StormFold     stamps reactions, fires deadlines, writes what it has seen

The source keeps an absolute grid: late once, it sends at once what is overdue, so a slow consumer makes nothing better.
They are no system daemons, which keep nobody alive: a pipeline of nothing else is over before it has begun.
"""

import random
from pathlib import Path

import msgspec

from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.ends import ReceiveStream, SendStream
from geartrain.engine.scheduler import DeadlineScheduler
from geartrain.ports.clock import mono_ns
from geartrain.rules.histogram import LatencyHistogram
from geartrain.rules.storm import Digest, StormEvent, StormFacts, StormPlan, delay_ns, events

# So many samples a gate holds: more than any storm of a few minutes makes.
_CAPACITY = 1_000_000

# The source begins so much after it has started, when its consumer has all its deadlines.
_LEAD_NS = 500_000_000


class StormSource(Daemon):
    """Sends the events of a plan, burst by burst."""

    def __init__(self, out: SendStream[StormEvent], plan: StormPlan) -> None:
        self.out = out
        self._plan = plan

    async def run(self, ctx: Context) -> None:
        plan = self._plan
        due_ns = ctx.clock.now_ns() + _LEAD_NS
        for event in events(plan, random.Random(plan.seed).randrange):
            if event.number and event.number % plan.burst == 0:
                due_ns += plan.every_ns
            if event.number % plan.burst == 0 and ctx.clock.now_ns() < due_ns:
                await ctx.clock.wait_until_ns(due_ns)
            event.due_ns = due_ns
            event.sent_ns = mono_ns()
            await self.out.send(event)


class StormFold(Daemon):
    """Folds events while deadlines fire, and writes what it has seen into a file."""

    def __init__(self, events: ReceiveStream[StormEvent], plan: StormPlan, report: str) -> None:
        self.events = events
        self._plan = plan
        self._report = Path(report)
        self._reaction = LatencyHistogram("reaction", capacity=_CAPACITY, gate=True)
        self._from_due = LatencyHistogram("reaction from its moment", capacity=_CAPACITY, gate=True)
        self._lateness = LatencyHistogram("deadline lateness", capacity=_CAPACITY, gate=True)
        self._delays = random.Random(plan.seed + 1).randrange
        self._state: dict[int, int] = {}

    async def run(self, ctx: Context) -> None:
        digest = Digest()
        count = 0
        async with DeadlineScheduler(lateness=self._lateness) as deadlines:
            for _ in range(self._plan.deadlines):
                self._schedule(deadlines)
            # From the moment at which the first was to be sent: what came before that was the lead of the source.
            began_ns = 0
            async for event in self.events:
                began_ns = began_ns or event.due_ns
                self._fold(event)
                digest.add(event)
                count += 1
            took_s = (mono_ns() - began_ns) / 1e9
            early = deadlines.early_count
        facts = StormFacts(
            digest=digest.text(),
            events=count,
            reaction=self._reaction.state(),
            from_due=self._from_due.state(),
            lateness=self._lateness.state(),
            early=early,
            took_s=took_s,
        )
        self._report.write_bytes(msgspec.json.encode(facts))

    def _schedule(self, deadlines: DeadlineScheduler) -> None:
        """As many are pending all the time: each makes its successor."""
        deadlines.schedule_at(mono_ns() + delay_ns(self._delays), lambda: self._schedule(deadlines))

    def _fold(self, event: StormEvent) -> None:
        self._state[event.key] = self._state.get(event.key, 0) + event.value
        now_ns = mono_ns()
        while self._plan.fold_ns and mono_ns() - now_ns < self._plan.fold_ns:
            pass
        self._reaction.record(mono_ns() - event.sent_ns)
        self._from_due.record(mono_ns() - event.due_ns)
