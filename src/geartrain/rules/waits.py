"""Who waits for whom in a run, as its ends say: and who of them waits in a circle, so that none will ever go on.

    a writer waits for room     ->  for the reader of the channel
    a reader waits for an item  ->  for the writer of the channel

What is a moment only is no circle: everything that belongs to one has stood still for longer than a limit, so it does
not matter that processes are read one after the other. A daemon without a waiting end goes on, however slowly, and so
does one whose next cycle comes by itself.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence

from msgspec import Struct

from geartrain.rules.deadlock import Waiting, stuck
from geartrain.rules.faults import FaultCode, FaultKey, Severity, Symptom
from geartrain.rules.health import Limits, is_online
from geartrain.rules.pipeline import PipelineSpec
from geartrain.rules.readings import DaemonReading, EndReading, Phase, Poll, SlotState


class Wait(Struct, frozen=True, kw_only=True):
    """One end in which a daemon waits for another."""

    daemon: str
    end: EndReading
    other: str

    def __str__(self) -> str:
        what = "room" if self.end.sends else "an item"
        return f"{self.daemon} waits for {what} in channel {self.end.channel} from {self.other}"


class Circle(Struct, frozen=True, kw_only=True):
    """Daemons each of which waits for the next, and the last for the first.

    If they only read, one of them may still be woken by something that no channel tells of, such as a socket.
    """

    waits: tuple[Wait, ...]

    @property
    def daemons(self) -> tuple[str, ...]:
        return tuple(wait.daemon for wait in self.waits)

    @property
    def since_ns(self) -> int:
        """Since when all of them wait."""
        return max(wait.end.still_since_ns for wait in self.waits)

    @property
    def is_certain(self) -> bool:
        return any(wait.end.sends for wait in self.waits)

    def __str__(self) -> str:
        return "; ".join(map(str, self.waits))


def waits(spec: PipelineSpec, polls: Sequence[Poll], now_ns: int, limits: Limits) -> tuple[Wait, ...]:
    """Every end in which somebody waits now. `spec` is the pipeline with the channels that really are."""
    others = _others(spec)
    unasked = _unasked(spec, polls)
    return tuple(
        Wait(daemon=end.daemon, end=end, other=others[end.channel, end.sends])
        for poll in polls
        if is_online(poll.process, now_ns, limits)
        for end in poll.ends
        if end.waits and not end.closed and (end.channel, end.sends) in others
        if not (end.channel in unasked and not end.sends)
    )


def circles(spec: PipelineSpec, polls: Sequence[Poll], now_ns: int, limits: Limits) -> tuple[Circle, ...]:
    """Who waits in a circle, for longer than the limit; whoever does is in one of them."""
    found = waits(spec, polls, now_ns, limits)
    fresh = {wait.daemon for wait in found if now_ns - wait.end.still_since_ns <= limits.deadlock_ns}
    system = {daemon.name for daemon in spec.daemons if daemon.is_system}
    alive = {slot.daemon: slot for poll in polls if poll.process.alive for slot in poll.daemons if _lives(slot)}
    going = fresh | system | {name for name, slot in alive.items() if _comes_by_itself(slot)}
    old = [wait for wait in found if wait.daemon in alive and wait.daemon not in going]
    said = {(wait.daemon, str(wait)): wait for wait in old}
    held = stuck((Waiting(wait.daemon, str(wait), (wait.other,)) for wait in old), alive)
    return tuple(_circles([said[wait.who, wait.what] for wait in held]))


def circle_symptoms(circles: Sequence[Circle], now_ns: int) -> Iterator[Symptom]:
    """One for each daemon of a circle, which tells of the whole of it."""
    for circle in circles:
        for wait in circle.waits:
            said = f"nobody goes on since {(now_ns - circle.since_ns) / 1e9:.3g} s: {circle}"
            if not circle.is_certain:
                said += "; all of them read, so unless one waits for something outside too, none ever will"
            yield Symptom(
                key=FaultKey(wait.daemon, FaultCode.DEADLOCK), frame=wait.end, said=said, lasts=True,
                mark=circle.since_ns, severity=None if circle.is_certain else Severity.INFO,
            )  # fmt: skip


def _others(spec: PipelineSpec) -> Mapping[tuple[str, bool], str]:
    """By channel, and whether the writer asks: the daemon at the other end."""
    found: dict[tuple[str, bool], str] = {}
    for channel in spec.channels:
        if channel.writer is not None and channel.reader is not None:
            found[channel.name, True] = channel.reader.daemon
            found[channel.name, False] = channel.writer.daemon
    return found


def _unasked(spec: PipelineSpec, polls: Sequence[Poll]) -> Collection[str]:
    """Channels of replies on which nothing is due: who waits there waits for nobody."""
    ends = {(end.channel, end.sends): end for poll in polls for end in poll.ends}
    found = set()
    for channel in spec.channels:
        asked, _, ending = channel.name.rpartition(".")
        if not asked:
            continue
        there, back = ends.get((asked, True)), ends.get((channel.name, False))
        if ending != "replies" or there is None or back is None or there.accepted <= back.taken:
            found.add(channel.name)
    return found


def _lives(slot: DaemonReading) -> bool:
    return slot.state != SlotState.STOPPED and slot.phase != Phase.NONE


def _comes_by_itself(slot: DaemonReading) -> bool:
    """Whether it is between two cycles: time wakes it."""
    return slot.period_ns > 0 and not slot.in_body_since_ns


def _circles(waits: Sequence[Wait]) -> Iterator[Circle]:
    """Whoever is stuck and in no circle waits for one that is, or for somebody who is gone."""
    by_daemon: dict[str, list[Wait]] = {}
    # That of a writer goes first, for it leaves no doubt.
    for wait in sorted(waits, key=lambda wait: not wait.end.sends):
        by_daemon.setdefault(wait.daemon, []).append(wait)
    done: set[str] = set()
    for wait in waits:
        if wait.daemon not in done and (path := _way_back(wait.daemon, by_daemon)):
            circle = Circle(waits=path)
            done.update(circle.daemons)
            yield circle


def _way_back(daemon: str, waits: Mapping[str, Sequence[Wait]]) -> tuple[Wait, ...]:
    """The shortest way from this daemon to itself; empty, if there is none."""
    ways: deque[tuple[Wait, ...]] = deque((wait,) for wait in waits[daemon])
    met: set[str] = set()
    while ways:
        way = ways.popleft()
        if way[-1].other == daemon:
            return way
        if way[-1].other not in met:
            met.add(way[-1].other)
            ways.extend((*way, wait) for wait in waits.get(way[-1].other, ()))
    return ()
