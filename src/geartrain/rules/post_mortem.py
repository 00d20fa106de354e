"""What is to be said of a run that is dead, or alive and not well: who went wrong first and why, and who held what.

    RunReading, former lives, events, last lines  ->  examine  ->  PostMortem      the worst process first

What has been absorbed is no cause: a daemon that was ready again after its failure, a process that came again. The
first thing that nobody made good again is. Where nobody was left to see an end, that is said, and nobody is blamed.

Slots have times of the machine's monotonic clock, events those of the wall. They meet in the event that a process was
spawned, which is written down when it is born; so times can be told after the machine has been started anew, too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from geartrain.rules.health import Condition, Limits, classify
from geartrain.rules.pipeline import PipelineSpec
from geartrain.rules.readings import DaemonReading, EndReading, Held, Phase, Poll, ProcessReading, SlotState
from geartrain.rules.run_memory import Event, RunReading

_EVENTS_TOLD = 8


class Ending(StrEnum):
    """How a life of a process ended, or has not yet; the worst first."""

    KILLED = "killed"
    FAILED = "failed"
    UNSEEN = "unseen"
    HUNG = "hung"
    NEVER = "never"
    ALIVE = "alive"
    ENDED = "ended"

    @property
    def is_bad(self) -> bool:
        return self in (Ending.KILLED, Ending.FAILED, Ending.UNSEEN, Ending.HUNG)


class RunState(StrEnum):
    ALIVE = "alive"
    OVER = "over"
    # Its launcher is dead, and has not written down that the run is over.
    KILLED = "killed"


class Holding(Struct, frozen=True):
    """A reader had an item in hand: this one, or one from this to `may_have`."""

    channel: str
    item: int
    may_have: int


class Owing(Struct, frozen=True):
    """So many items that a writer had sent are not known to be done with."""

    channel: str
    unacknowledged: int


class Waiting(Struct, frozen=True):
    """Somebody waited for room in a channel, or for an item of it; `other` has the other end."""

    channel: str
    sends: bool
    other: str
    since_wall_ns: int | None = None


class HeldBack(Struct, frozen=True):
    """Its body was not entered any more: one took longer than it may, or one of its process did."""

    with_its_process: bool
    since_wall_ns: int | None
    took_s: float
    budget_s: float | None


class DaemonFound(Struct, frozen=True, kw_only=True):
    """`cycle` is the last whole one. `last_error` is what the run heard of it last, in any life."""

    daemon: str
    condition: Condition
    where: str
    cycle: int | None = None
    in_body_since_wall_ns: int | None = None
    errors: int = 0
    restarts: int = 0
    last_error: str | None = None
    holds: tuple[Holding, ...] = ()
    owes: tuple[Owing, ...] = ()
    waits: tuple[Waiting, ...] = ()
    held: HeldBack | None = None


class LifeFound(Struct, frozen=True, kw_only=True):
    """One life of a process. `at_wall_ns` is its end, or its last sign of life where nobody has seen an end.

    `told_to_stop` is whether it ended after the run was told to.
    """

    life: int
    pid: int
    ending: Ending
    said: str
    at_wall_ns: int | None
    told_to_stop: bool = False
    daemons: tuple[DaemonFound, ...] = ()


class Line(Struct, frozen=True):
    """What a process printed, on `out` or `err`."""

    stream: str
    text: str


class ProcessFound(Struct, frozen=True, kw_only=True):
    process: str
    last: LifeFound
    restarts: int = 0
    deaths: int = 0
    # The oldest first.
    former: tuple[LifeFound, ...] = ()
    lines: tuple[Line, ...] = ()


class Cause(Struct, frozen=True, kw_only=True):
    """The first thing that went wrong and was not made good again. One that was to be ignored ends no run."""

    wall_ns: int
    process: str
    daemon: str
    said: str
    is_ignored: bool = False


class PostMortem(Struct, frozen=True, kw_only=True):
    run: str
    pipeline: str
    state: RunState
    began_wall_ns: int
    # Of a dead run: its end, or the last sign of life of anybody in it.
    ended_wall_ns: int | None
    first: Cause | None
    processes: tuple[ProcessFound, ...]
    events: tuple[Event, ...]
    unreadable: tuple[str, ...]


def examine(
    reading: RunReading,
    former: Mapping[str, Sequence[Poll]],
    events: Sequence[Event],
    lines: Mapping[str, Sequence[Line]],
    signal_name: Callable[[int], str],
    limits: Limits | None = None,
) -> PostMortem:
    """Everything that the files of a run tell."""
    look = _Look(reading, former, events, signal_name, limits or Limits())
    state = _state(reading, events)
    first = _first(events, reading.about.spec)
    processes = [
        ProcessFound(
            process=poll.process.process,
            last=look.life(poll),
            restarts=poll.process.restarts,
            deaths=poll.process.deaths,
            former=tuple(look.life(life) for life in former.get(poll.process.process, ())),
            lines=tuple(lines.get(poll.process.process, ())),
        )
        for poll in reading.processes
    ]
    return PostMortem(
        run=reading.about.run_id,
        pipeline=reading.about.spec.name,
        state=state,
        began_wall_ns=reading.about.began_wall_ns,
        ended_wall_ns=None if state is RunState.ALIVE else _last_sign(processes, events),
        first=first,
        processes=tuple(sorted(processes, key=lambda found: _how_bad(found, first))),
        events=tuple(events[-_EVENTS_TOLD:]),
        unreadable=reading.unreadable,
    )


def _state(reading: RunReading, events: Sequence[Event]) -> RunState:
    match reading.alive, any(event.what == "over" for event in events):
        case _, True:
            return RunState.OVER
        case True, _:
            return RunState.ALIVE
        case _:
            return RunState.KILLED


def _last_sign(processes: Sequence[ProcessFound], events: Sequence[Event]) -> int | None:
    signs = [found.last.at_wall_ns or 0 for found in processes] + [event.wall_ns for event in events]
    return max(signs, default=0) or None


def _how_bad(found: ProcessFound, first: Cause | None) -> tuple[bool, int, int]:
    is_first = first is not None and found.process == first.process
    return (not is_first, list(Ending).index(found.last.ending), found.last.at_wall_ns or 0)


# -- what was first ---------------------------------------------------------------------------------------------------


def _first(events: Sequence[Event], spec: PipelineSpec) -> Cause | None:
    """Ends that come after the run was told to stop are no cause of anything."""
    stop = next((at for at, event in enumerate(events) if event.what == "stopping"), len(events))
    bad = [
        event for at, event in enumerate(events[:stop]) if _is_bad(event) and not _is_made_good(event, events[at:stop])
    ]
    causes = [
        Cause(
            wall_ns=event.wall_ns,
            process=event.process,
            daemon=event.daemon,
            said=event.said,
            is_ignored=_is_ignored(event, spec),
        )
        for event in bad
    ]
    return min(causes, key=lambda cause: (cause.is_ignored, cause.wall_ns), default=None)


def _is_ignored(event: Event, spec: PipelineSpec) -> bool:
    who = [daemon for daemon in spec.daemons if event.daemon in (daemon.name, "") and daemon.process == event.process]
    return bool(who) and all(daemon.on_error == "ignore" for daemon in who)


def _is_bad(event: Event) -> bool:
    return event.what == "failed" or (event.what == "exited" and event.said != "exit code 0")


def _is_made_good(bad: Event, later: Sequence[Event]) -> bool:
    if bad.what == "failed":
        return any(event.what == "ready" and event.daemon == bad.daemon for event in later)
    return any(event.what == "spawned" and event.process == bad.process for event in later)


# -- one life ---------------------------------------------------------------------------------------------------------


class _Look:
    """What is needed to say something of any life of the run."""

    def __init__(
        self,
        reading: RunReading,
        former: Mapping[str, Sequence[Poll]],
        events: Sequence[Event],
        signal_name: Callable[[int], str],
        limits: Limits,
    ) -> None:
        self._now_ns = reading.now_ns
        self._spec = reading.about.spec
        self._events = events
        self._signal_name = signal_name
        self._limits = limits
        every = (*reading.processes, *(poll for polls in former.values() for poll in polls))
        self._offsets = dict(_offsets(every, events))
        # Of a life whose birth is in no event any more: what was true of another, or nothing is known.
        self._usual = next(reversed(self._offsets.values()), None)

    def life(self, poll: Poll) -> LifeFound:
        process = poll.process
        if not process.pid:
            return self._from_events(process)
        ending = self._ending(poll)
        return LifeFound(
            life=process.generation,
            pid=process.pid,
            ending=ending,
            said=self._said(ending, process),
            at_wall_ns=self._wall(process, process.ended_ns or _sign_of_life(poll)),
            told_to_stop=self._told_to_stop(process),
            daemons=tuple(self._daemon(poll, daemon) for daemon in poll.daemons),
        )

    def _from_events(self, process: ProcessReading) -> LifeFound:
        """Of a process that has written nothing that could be read."""
        of_it = [event for event in self._events if event.process == process.process]
        spawned = next((event for event in reversed(of_it) if event.what == "spawned"), None)
        if spawned is None:
            return LifeFound(life=0, pid=0, ending=Ending.NEVER, said="was never started", at_wall_ns=None)
        exited = next((event for event in of_it if event.what == "exited" and event.pid == spawned.pid), None)
        ending = Ending.UNSEEN if exited is None else _ending_in(exited.said)
        said = "nobody saw it end" if exited is None else exited.said
        return LifeFound(
            life=spawned.life,
            pid=spawned.pid,
            ending=ending,
            said=f"{said}; what it did cannot be read",
            at_wall_ns=(exited or of_it[-1]).wall_ns,
        )

    def _ending(self, poll: Poll) -> Ending:
        process = poll.process
        if process.alive:
            ill = (Condition.HUNG, Condition.STALE)
            return Ending.HUNG if any(self._condition(poll, each) in ill for each in poll.daemons) else Ending.ALIVE
        match process.exit_code:
            case None:
                return Ending.UNSEEN
            case 0:
                return Ending.ENDED
            case code:
                return Ending.KILLED if code < 0 else Ending.FAILED

    def _said(self, ending: Ending, process: ProcessReading) -> str:
        match ending:
            case Ending.KILLED:
                return f"killed by {self._signal_name(-(process.exit_code or 0))}"
            case Ending.FAILED:
                return f"exit code {process.exit_code}"
            case Ending.ENDED:
                return "ended well"
            case Ending.UNSEEN:
                return "nobody saw it end"
            case Ending.HUNG:
                return "alive, but it stands still"
            case _:
                return "alive"

    def _told_to_stop(self, process: ProcessReading) -> bool:
        stop = next((event.wall_ns for event in self._events if event.what == "stopping"), None)
        ended = self._wall(process, process.ended_ns)
        return stop is not None and ended is not None and ended > stop

    def _wall(self, process: ProcessReading, at_ns: int) -> int | None:
        offset = self._offsets.get((process.process, process.generation), self._usual)
        return at_ns + offset if at_ns and offset is not None else None

    def _condition(self, poll: Poll, daemon: DaemonReading) -> Condition:
        return classify(poll.process, daemon, self._now_ns, self._limits)

    def _daemon(self, poll: Poll, daemon: DaemonReading) -> DaemonFound:
        ends = [end for end in poll.ends if end.daemon == daemon.daemon]
        return DaemonFound(
            daemon=daemon.daemon,
            condition=self._condition(poll, daemon),
            where=_where(daemon),
            cycle=daemon.cycle if daemon.period_ns else None,
            in_body_since_wall_ns=self._wall(poll.process, daemon.in_body_since_ns),
            errors=daemon.errors,
            restarts=daemon.restarts,
            last_error=self._last_error(daemon.daemon),
            holds=tuple(Holding(end.channel, end.in_hand, end.may_have) for end in ends if _has_in_hand(daemon, end)),
            owes=tuple(Owing(end.channel, end.unacknowledged) for end in ends if end.unacknowledged),
            waits=tuple(
                Waiting(end.channel, end.sends, _other(self._spec, end), self._wall(poll.process, end.still_since_ns))
                for end in ends
                if _is_waiting(daemon, end)
            ),
            held=self._held(poll, daemon),
        )

    def _held(self, poll: Poll, daemon: DaemonReading) -> HeldBack | None:
        if not daemon.held:
            return None
        with_all = daemon.held == Held.WITH_ITS_PROCESS
        took_ns = poll.process.fault_took_ns if with_all else daemon.held_took_ns
        budget_ns = poll.process.budget_ns if with_all else daemon.budget_ns
        since = self._wall(poll.process, daemon.held_since_ns)
        return HeldBack(with_all, since, took_ns / 1e9, budget_ns / 1e9 if budget_ns else None)

    def _last_error(self, daemon: str) -> str | None:
        of_it = (event.said for event in reversed(self._events) if event.daemon == daemon and event.what == "failed")
        return next(of_it, None)


def _offsets(polls: Sequence[Poll], events: Sequence[Event]) -> Iterator[tuple[tuple[str, int], int]]:
    """Of each life: how far the wall was ahead of the monotonic clock when it was born."""
    born = {(poll.process.process, poll.process.generation): poll.process.born_ns for poll in polls}
    for event in events:
        life = (event.process, event.life)
        if event.what == "spawned" and born.get(life):
            yield life, event.wall_ns - born[life]


def _sign_of_life(poll: Poll) -> int:
    process = poll.process
    return max(process.born_ns, process.heartbeat_ns, *(daemon.changed_ns for daemon in poll.daemons), 0)


def _ending_in(said: str) -> Ending:
    if said == "exit code 0":
        return Ending.ENDED
    return Ending.FAILED if said.startswith("exit code") else Ending.KILLED


def _where(daemon: DaemonReading) -> str:
    match daemon.state, daemon.phase:
        case SlotState.ERROR, Phase.NONE:
            return "failed"
        case SlotState.STOPPED, _:
            return "had ended"
        case _, Phase.ON_START:
            return "in on_start"
        case _, Phase.READY:
            return "ready, before run"
        case _, Phase.RUN:
            return "in run"
        case _, Phase.ON_STOP:
            return "in on_stop"
        case _:
            return "not started"


def _has_in_hand(daemon: DaemonReading, end: EndReading) -> bool:
    """Who has ended well holds nothing: it took that item and never asked for another."""
    return end.in_hand > 0 and daemon.state != SlotState.STOPPED


def _is_waiting(daemon: DaemonReading, end: EndReading) -> bool:
    """A loop that stands still has not told that it waits no more; what it has in hand it has told at once."""
    return bool(end.waits) and not end.closed and not end.in_hand and daemon.phase == Phase.RUN


def _other(spec: PipelineSpec, end: EndReading) -> str:
    """Who has the other end. The two ways of a call are two channels of one entry."""
    for channel in spec.channels:
        if end.channel == channel.name or end.channel.startswith(f"{channel.name}."):
            pair = [port.daemon for port in (channel.writer, channel.reader) if port is not None]
            return next((daemon for daemon in pair if daemon != end.daemon), end.daemon)
    return ""
