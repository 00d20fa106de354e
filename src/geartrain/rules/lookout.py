"""Who looks at a run again and again knows more than one look shows: what is new, how fast it goes, what was wrong.

    RunReading, RunReading ...  ->  Lookout.look  ->  Moment      everything as it is now, for whoever shows it
                                                      Change ...  what became of faults, numbered

Nothing here is needed to go on after a death of who looks: what the counters say is in the files of the run, and the
changes that were written down say the rest.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from geartrain.rules.counts import ChannelCounts, EndCounts, Ledger, Rate, judged, rates
from geartrain.rules.faults import Change, Debounce, Fault, FaultBook, FaultCode, FaultKey, Frame, Symptom
from geartrain.rules.health import Condition, Health, Limits, classify, classify_process, health
from geartrain.rules.pipeline import PipelineSpec
from geartrain.rules.readings import EndReading
from geartrain.rules.run_memory import RunReading
from geartrain.rules.symptoms import Hands, Storms, symptoms
from geartrain.rules.waits import Circle, Wait, circle_symptoms, circles, waits

# How fast something goes is told of so long a stretch: ends write down where they are five times a second.
RATE_NS = 1_000_000_000

EntityKind = Literal["area", "component", "app", "function"]


class Moment(Struct, frozen=True, kw_only=True):
    """Everything about a run at one moment. `look` grows by one with every look; `wall_ns` is what a clock shows.

    `spec` is the pipeline with the channels that really are: a call is two. `rates` are None in the first moments, and
    so is what is not in `body_hz`. Of a process and a daemon of one name there are two conditions.
    """

    look: int
    wall_ns: int
    reading: RunReading
    spec: PipelineSpec
    limits: Limits
    processes: Mapping[str, Condition]
    daemons: Mapping[str, Condition]
    health: Mapping[tuple[EntityKind, str], Health]
    channels: tuple[ChannelCounts, ...]
    rates: Mapping[str, Rate]
    body_hz: Mapping[str, float]
    waits: tuple[Wait, ...]
    circles: tuple[Circle, ...]
    faults: tuple[Fault, ...]
    frames: Mapping[FaultKey, tuple[Frame, ...]]


class _Look(Struct, frozen=True, kw_only=True):
    """What is compared with a later look."""

    at_ns: int
    channels: tuple[ChannelCounts, ...]
    executions: Mapping[str, int]


class Lookout:
    """Remembers what earlier looks have shown. `spec` is the pipeline as it is declared."""

    def __init__(self, spec: PipelineSpec, limits: Limits | None = None, debounce: Debounce | None = None) -> None:
        self.book = FaultBook(debounce)
        self._limits = limits or Limits()
        self._spec = spec
        self._ledger = Ledger(spec)
        self._storms = Storms()
        self._hands = Hands()
        self._looks: deque[_Look] = deque()
        self._count = 0
        self._number = 0

    def go_on_from(self, change: Change) -> None:
        """What an earlier one wrote down, told in its order."""
        self._number = max(self._number, change.number)
        self.book.go_on_from(change.fault, change.frame)

    def look(self, reading: RunReading) -> tuple[Moment, tuple[Change, ...]]:
        """How everything is, and what is another than at the last look."""
        self._count += 1
        self._learn(reading)
        held = circles(self._spec, reading.processes, reading.now_ns, self._limits)
        changed = self.book.step(self._symptoms(reading, held), reading.wall_ns)
        changes = tuple(map(self._numbered, changed))
        return self._moment(reading, held), changes

    def clear(self, key: FaultKey) -> Change | None:
        """Somebody has seen to this fault. None: there is none."""
        cleared = self.book.clear(key)
        return None if cleared is None else self._numbered(cleared)

    # -- what is known -----------------------------------------------------------------------------------------------

    def _learn(self, reading: RunReading) -> None:
        if (spec := as_it_runs(self._spec, reading)) != self._spec:
            self._spec, self._ledger = spec, Ledger(spec)
            self._looks.clear()
        known = {channel.name for channel in self._spec.channels}
        for _, end in reading.ends():
            # One without a number has not been written down yet.
            if end.incarnation and end.channel in known:
                self._ledger.hear(_counts(end, reading))

    def _symptoms(self, reading: RunReading, held: tuple[Circle, ...]) -> Iterator[Symptom]:
        now_ns, limits = reading.now_ns, self._limits
        back = {channel.name for channel in self._spec.channels if "." in channel.name}
        for poll in reading.processes:
            yield from self._hands.look(poll, now_ns, limits, but=back)
            yield from symptoms(poll, now_ns, limits)
            yield from self._storms.look(poll, now_ns, limits)
        yield from circle_symptoms(held, now_ns)

    def _moment(self, reading: RunReading, held: tuple[Circle, ...]) -> Moment:
        now_ns, limits = reading.now_ns, self._limits
        polls = reading.processes
        look = _Look(
            at_ns=now_ns,
            channels=tuple(self._channels(reading)),
            executions={slot.daemon: slot.executions for _, slot in reading.daemons()},
        )
        before = self._before(look)
        processes = {poll.process.process: classify_process(poll, now_ns, limits) for poll in polls}
        daemons = {slot.daemon: classify(poll.process, slot, now_ns, limits) for poll, slot in reading.daemons()}
        return Moment(
            look=self._count,
            wall_ns=reading.wall_ns,
            reading=reading,
            spec=self._spec,
            limits=limits,
            processes=processes,
            daemons=daemons,
            health=_healths(reading, self._spec.name, processes, daemons, self.book.faults),
            channels=look.channels,
            rates={} if before is None else _rates(before, look),
            body_hz={} if before is None else dict(_body_hz(before, look)),
            waits=waits(self._spec, polls, now_ns, limits),
            circles=held,
            faults=self.book.faults,
            frames={fault.key: self.book.frames(fault.key) for fault in self.book.faults},
        )

    def _channels(self, reading: RunReading) -> Iterator[ChannelCounts]:
        planes = {plane.name: plane for plane in reading.planes}
        writers = {end.channel: end for _, end in reading.ends() if end.sends and end.incarnation}
        for counts in self._ledger.rows():
            now = _filled(counts, writers.get(counts.channel))
            yield judged(now, planes[counts.channel]) if counts.channel in planes else now

    def _before(self, look: _Look) -> _Look | None:
        """The look that this one is compared with: the last that is a whole stretch older, or the oldest there is."""
        looks = self._looks
        looks.append(look)
        while len(looks) > 2 and look.at_ns - looks[1].at_ns >= RATE_NS:
            looks.popleft()
        return looks[0] if looks[0].at_ns < look.at_ns else None

    def _numbered(self, fault: Fault) -> Change:
        self._number += 1
        return Change(number=self._number, fault=fault, frame=self.book.last_frame(fault))


def _filled(counts: ChannelCounts, writer: EndReading | None) -> ChannelCounts:
    """Both numbers of one end and of one moment: between those of two ends there may be a fifth of a second."""
    if writer is None:
        return counts
    fill = writer.accepted - writer.taken - writer.dropped - writer.set_aside
    return msgspec.structs.replace(counts, fill=min(counts.maxsize, max(0, fill)))


def kind_of(code: FaultCode) -> EntityKind:
    return "component" if code.is_of_process else "app"


def as_it_runs(spec: PipelineSpec, reading: RunReading) -> PipelineSpec:
    """The pipeline with the channels that really are, as the ends tell: the way back of a call has one of its own.

    A channel that is known stays, though the next life of a process has no end of it any more.
    """
    known = {channel.name: channel for channel in spec.channels}
    backs = {}
    for _, end in reading.ends():
        there, _, ending = end.channel.rpartition(".")
        if there in known and end.channel not in known:
            backs[end.channel] = known[there].back(ending)
    return msgspec.structs.replace(spec, channels=(*spec.channels, *(backs[name] for name in sorted(backs))))


def _counts(end: EndReading, reading: RunReading) -> EndCounts:
    """What an end says, with what the counter of its writer says: of its earlier lives, and up to this moment."""
    counts = end.counts()
    if not end.sends:
        return counts
    lives = reading.lives.get(end.channel, ())
    now = max((life.accepted for life in lives if life.epoch == end.epoch), default=0)
    return msgspec.structs.replace(
        counts,
        accepted=max(counts.accepted, now),
        lives=tuple(life for life in lives if life.epoch < end.epoch),
    )


def _rates(before: _Look, now: _Look) -> dict[str, Rate]:
    return {rate.channel: rate for rate in rates(before.channels, now.channels, (now.at_ns - before.at_ns) / 1e9)}


def _body_hz(before: _Look, now: _Look) -> Iterator[tuple[str, float]]:
    for daemon, executions in now.executions.items():
        if daemon in before.executions:
            ran = max(0, executions - before.executions[daemon])
            yield daemon, round(ran * 1e9 / (now.at_ns - before.at_ns), 3)


def _healths(
    reading: RunReading,
    area: str,
    processes: Mapping[str, Condition],
    daemons: Mapping[str, Condition],
    faults: Iterable[Fault],
) -> dict[tuple[EntityKind, str], Health]:
    """How well everybody is: the worst of how it is, of what is wrong with it, and of all that is below it."""
    worst: dict[tuple[EntityKind, str], Health] = {}
    for fault in faults:
        key = (kind_of(fault.key.code), fault.key.entity)
        worst[key] = max(worst.get(key, Health.OK), fault.health)
    found: dict[tuple[EntityKind, str], Health] = {}
    for poll in reading.processes:
        process = poll.process.process
        below = [Health.OK]
        for slot in poll.daemons:
            its = max(health(daemons[slot.daemon]), worst.get(("app", slot.daemon), Health.OK))
            found["app", slot.daemon] = its
            below.append(its)
        own = worst.get(("component", process), Health.OK)
        found["component", process] = max(health(processes[process]), own, *below)
    # Of what cannot be read nobody knows whether it is well.
    known = Health.WARNING if reading.unreadable else Health.OK
    found["area", area] = max((known, *found.values()))
    return found
