"""Which replica runs each cycle of a periodic service: exactly one, and another in the same cycle when that one dies.

    cycle   0            1            2            3            4
            |------------|------------|------------|------------|------------
       a    ====         ===x                                   ====          x: a died
       b                     ====                               (b: given to a)
                                      (nobody lives: missed)

    plan(service, state, members, now) -> Plan    what is to be written down, who is to be told, and why all others not
    ended(service, state, token, ...)  -> records a run is over, says who ran it
    fold(state, record)                -> state   what is written down says all that must outlive the arbiter

A cycle is closed once: by a run that has completed or failed, or because its time has passed. A run that is abandoned,
for its replica has died or gives it back, leaves it open. The replica that runs is the first of an order in which each
has a place of its own for each service: a birth or a death moves nobody else, and services are spread over
the replicas.

A replica that says nothing for too long has not died. It may wake up and go on, so nobody takes its place before its
process has ended: `Plan.ends` asks for that. Every run has a token, higher than all before it, for whoever must know a
late one.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import Literal, get_args

from msgspec import Struct
from msgspec.structs import replace

# What becomes of a cycle that begins while an earlier one still runs, and of one that has passed and nobody ran it.
Overlap = Literal["skip", "wait", "cancel", "allow"]
Missed = Literal["skip", "run_once", "catch_up"]

OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)
MISSED: tuple[Missed, ...] = get_args(Missed)

# More cycles than this are not made up for: who was away for a year does not want every minute of it.
CATCH_UP_MOST = 100


class Service(Struct, frozen=True, kw_only=True):
    """A periodic service: cycle k is from `epoch_ns + k * every_ns` up to the next. Its times are of one clock."""

    name: str
    every_ns: int
    epoch_ns: int = 0
    overlap: Overlap = "skip"
    missed: Missed = "skip"
    silent_after_ns: int = 3 * 10**9
    # How long one that is asked to leave may take.
    grace_ns: int = 5 * 10**9

    def cycle_at(self, now_ns: int) -> int:
        return (now_ns - self.epoch_ns) // self.every_ns

    def start_ns(self, cycle: int) -> int:
        return self.epoch_ns + cycle * self.every_ns


class Member(Struct, frozen=True):
    """A replica whose process lives. `life` tells it from the one of the same name before it."""

    name: str
    life: int
    seen_ns: int


# -- what is written down ---------------------------------------------------------------------------------------------


class Outcome(StrEnum):
    """How a run ended. An abandoned one has not had its cycle, which is given again while it lasts."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"


class Run(Struct, frozen=True, tag="given"):
    """A cycle that was given to a replica. It is that one's until the run has ended."""

    cycle: int
    token: int
    member: str
    life: int
    given_ns: int


class Ended(Struct, frozen=True, tag="ended"):
    run: Run
    outcome: Outcome
    at_ns: int
    said: str = ""


class Passed(Struct, frozen=True, tag="passed"):
    """Cycles that are closed and that nobody has run: nobody was there in time, or an earlier run was in their way."""

    first: int
    last: int
    because: Literal["missed", "still_running"]
    at_ns: int


Record = Run | Ended | Passed


class Span(Struct, frozen=True):
    """The cycles from `first` to `last`, both included."""

    first: int
    last: int


class State(Struct, frozen=True):
    """All that is known of the cycles: those before `open_from` are closed, of the others those in `closed`."""

    open_from: int
    closed: tuple[Span, ...] = ()
    runs: tuple[Run, ...] = ()
    token: int = 0
    # What closed the cycle that is the newest of all closed.
    newest: Ended | Passed | None = None

    def is_closed(self, cycle: int) -> bool:
        return cycle < self.open_from or any(span.first <= cycle <= span.last for span in self.closed)


def begin(service: Service, now_ns: int) -> State:
    """The state of a service that is seen for the first time: the cycle of this moment is its first."""
    return State(service.cycle_at(now_ns))


def fold(state: State, record: Record) -> State:
    """The state after a record."""
    match record:
        case Run():
            return replace(state, runs=(*state.runs, record), token=record.token)
        case Ended(run, outcome):
            left = replace(state, runs=tuple(other for other in state.runs if other.token != run.token))
            closes = outcome is not Outcome.ABANDONED
            return _closed(left, Span(run.cycle, run.cycle), record) if closes else left
        case Passed(first, last):
            return _closed(state, Span(first, last), record)


def _closed(state: State, more: Span, record: Ended | Passed) -> State:
    open_from, spans = state.open_from, list[Span]()
    for span in sorted((*state.closed, more), key=lambda span: span.first):
        if span.first <= open_from:
            open_from = max(open_from, span.last + 1)
        elif spans and span.first == spans[-1].last + 1:
            spans[-1] = Span(spans[-1].first, span.last)
        else:
            spans.append(span)
    newest = state.newest if state.newest is not None and _last(state.newest) > more.last else record
    return replace(state, open_from=open_from, closed=tuple(spans), newest=newest)


def _last(record: Ended | Passed) -> int:
    return record.run.cycle if isinstance(record, Ended) else record.last


# -- what is done -----------------------------------------------------------------------------------------------------


class Why(StrEnum):
    """Why a replica does not run the service now."""

    GIVEN = "given"
    ALREADY_RAN = "already_ran"
    SKIPPED = "skipped"
    STILL_RUNNING = "still_running"
    HOLDER_SILENT = "holder_silent"
    SILENT = "silent"
    NOT_BEGUN = "not_begun"


class Refusal(Struct, frozen=True):
    """Why it is not this one's turn, and that in words."""

    member: str
    why: Why
    said: str


class Plan(Struct, frozen=True, kw_only=True):
    """What follows from how things are.

    The records are to be kept before anybody is told; each `Run` in them is told to its replica. The processes of
    `ends` are to be ended, the runs of `cancels` asked to leave. Without an event, `plan` is asked again at `wake_ns`.
    """

    records: tuple[Record, ...]
    state: State
    ends: tuple[Run, ...]
    cancels: tuple[Run, ...]
    refusals: tuple[Refusal, ...]
    wake_ns: int


class Stale(Struct, frozen=True):
    """A run that nobody has, or not any more, was said to have ended."""

    token: int
    said: str


def plan(service: Service, state: State, members: Sequence[Member], now_ns: int) -> Plan:
    """What is to be done now, given who lives: asked after every event, and at `wake_ns`."""
    records: list[Record] = []

    def note(more: Iterable[Record]) -> State:
        records.extend(more)
        after = state
        for record in records:
            after = fold(after, record)
        return after

    alive = {(member.name, member.life) for member in members}
    after = note(
        Ended(run, Outcome.ABANDONED, now_ns, f"{run.member!r} has died")
        for run in state.runs
        if (run.member, run.life) not in alive
    )
    after = note(list(_passed(service, after, now_ns)))
    after = note(list(_given(service, after, members, now_ns)))
    heard = {member.name: member for member in members if not _is_silent(service, member, now_ns)}
    return Plan(
        records=tuple(records),
        state=after,
        ends=tuple(run for run in after.runs if run.member not in heard),
        cancels=tuple(_overdue(service, after, now_ns)),
        refusals=tuple(_refusals(service, after, members, now_ns)),
        wake_ns=_wake_ns(service, after, heard.values(), now_ns),
    )


def ended(
    service: Service, state: State, token: int, outcome: Outcome, now_ns: int, said: str = ""
) -> tuple[Record, ...] | Stale:
    """What is to be written down when a replica says that its run is over."""
    for run in state.runs:
        if run.token == token:
            record = Ended(run, outcome, now_ns, said)
            over = outcome is not Outcome.ABANDONED and service.overlap == "skip"
            return (record, *_overrun(service, fold(state, record), run, now_ns, 1)) if over else (record,)
    given = f"the last that was given is {state.token}" if token > state.token else "it has ended, or its replica died"
    return Stale(token, f"{service.name!r} has no run {token}: {given}")


def order(service: str, members: Iterable[Member]) -> list[Member]:
    """The members in the order in which they are asked: the place of each depends on its own name only."""
    return sorted(members, key=lambda member: (_place(service, member.name), member.name))


def _place(service: str, name: str) -> bytes:
    return blake2b(f"{service}\0{name}".encode(), digest_size=8).digest()


def _is_silent(service: Service, member: Member, now_ns: int) -> bool:
    return now_ns - member.seen_ns > service.silent_after_ns


def _passed(service: Service, state: State, now_ns: int) -> Iterator[Passed]:
    """The cycles whose time is over and that are not made up for."""
    if service.overlap == "skip":
        for run in state.runs:
            overrun = list(_overrun(service, state, run, now_ns, 0))
            yield from overrun
            for record in overrun:
                state = fold(state, record)
    missed = list(_gaps(state, service.cycle_at(now_ns) - 1))
    left = {"skip": 0, "run_once": 1, "catch_up": CATCH_UP_MOST}[service.missed]
    for span in reversed(missed):
        kept = min(left, span.last - span.first + 1)
        left -= kept
        if span.first <= span.last - kept:
            yield Passed(span.first, span.last - kept, "missed", now_ns)


def _overrun(service: Service, state: State, run: Run, now_ns: int, with_this: Literal[0, 1]) -> Iterator[Passed]:
    """The cycles that have begun since a run was given, without or with the one of this moment."""
    first = service.cycle_at(run.given_ns) + 1
    for span in _gaps(state, service.cycle_at(now_ns) - 1 + with_this):
        if span.last >= first:
            yield Passed(max(first, span.first), span.last, "still_running", now_ns)


def _gaps(state: State, last: int) -> Iterator[Span]:
    """The cycles up to `last` that are neither closed nor under way."""
    taken = [*state.closed, *(Span(run.cycle, run.cycle) for run in state.runs)]
    first = state.open_from
    for span in sorted(taken, key=lambda span: span.first):
        if first < span.first and first <= last:
            yield Span(first, min(span.first - 1, last))
        first = max(first, span.last + 1)
    if first <= last:
        yield Span(first, last)


def _given(service: Service, state: State, members: Sequence[Member], now_ns: int) -> Iterator[Run]:
    """The oldest open cycles to the first replicas that are free; one at a time, unless runs may overlap."""
    busy = {run.member for run in state.runs}
    free = [
        one for one in order(service.name, members) if one.name not in busy and not _is_silent(service, one, now_ns)
    ]
    if service.overlap != "allow":
        free = free[: 0 if state.runs else 1]
    owed = (cycle for span in _gaps(state, service.cycle_at(now_ns)) for cycle in range(span.first, span.last + 1))
    for more, (member, cycle) in enumerate(zip(free, owed, strict=False), start=1):
        yield Run(cycle, state.token + more, member.name, member.life, now_ns)


def _overdue(service: Service, state: State, now_ns: int) -> Iterator[Run]:
    """The runs that must make room for the cycle of this moment."""
    now = service.cycle_at(now_ns)
    if service.overlap == "cancel" and not state.is_closed(now):
        yield from (run for run in state.runs if service.cycle_at(run.given_ns) < now)


def _wake_ns(service: Service, state: State, heard: Iterable[Member], now_ns: int) -> int:
    """When something changes by itself: a cycle begins, or a replica that runs has been silent for too long."""
    holders = {run.member for run in state.runs}
    silent_ns = [one.seen_ns + service.silent_after_ns + 1 for one in heard if one.name in holders]
    return min([service.start_ns(service.cycle_at(now_ns) + 1), *silent_ns])


# -- why not ----------------------------------------------------------------------------------------------------------


def _refusals(service: Service, state: State, members: Sequence[Member], now_ns: int) -> Iterator[Refusal]:
    holders = {run.member for run in state.runs}
    silent = {member.name for member in members if _is_silent(service, member, now_ns)}
    for member in members:
        if member.name in silent and member.name not in holders:
            for_s = (now_ns - member.seen_ns) / 1e9
            yield Refusal(member.name, Why.SILENT, f"{member.name!r} has said nothing for {for_s:.3g} s")
        elif member.name not in holders:
            why, said = _why_nobody_else(state, silent, service.cycle_at(now_ns))
            yield Refusal(member.name, why, said)


def _why_nobody_else(state: State, silent: set[str], now: int) -> tuple[Why, str]:
    """Why a replica that is free and heard of has nothing to do. Were all of them idle, it would run."""
    if state.is_closed(now):
        return _why_closed(state, now)
    for run in sorted(state.runs, key=lambda run: run.cycle != now):
        if run.member in silent:
            return Why.HOLDER_SILENT, f"{run.member!r} has cycle {run.cycle} and is silent; its process must end first"
        if run.cycle == now:
            return Why.GIVEN, f"cycle {now} was given to {run.member!r}"
        return Why.STILL_RUNNING, f"cycle {run.cycle} is still running with {run.member!r}"
    raise AssertionError(f"cycle {now} is open, a replica is free, and it was not given: {state}")


def _why_closed(state: State, now: int) -> tuple[Why, str]:
    match state.newest:
        case Ended(run, outcome) if run.cycle == now:
            return Why.ALREADY_RAN, f"cycle {now} was run by {run.member!r}: {outcome}"
        case Passed(first, last, "still_running") if first <= now <= last:
            return Why.SKIPPED, f"cycle {now} began while an earlier one was still running"
    # Time went back, or the service is of a later moment than this.
    return Why.NOT_BEGUN, f"cycle {now} was closed before; cycles from {state.open_from} on are open"
