"""What a replica of a service and the keeper of the services say to each other, and what the keeper writes down.

    replica   Report: who I am, what I run, what is over and not yet noted    --->   keeper
              <---   Orders: the runs that are yours, those to leave

Each says all of it every time. So a word that is lost, or comes twice, or is overtaken by the next does no harm: an end
is said until the run it ends is not among the orders any more, and a run is begun if its token is new.
"""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from geartrain.rules.services import Ended, Outcome, Passed, Record, Run, State, fold

# Of what a function said when it failed, so much is kept.
SAID_MOST = 500


class Who(Struct, frozen=True, array_like=True):
    """A process and no other: its number, when it started, in which boot."""

    pid: int
    started_ticks: int
    boot: str


class Over(Struct, frozen=True):
    """A run that its replica has ended."""

    token: int
    outcome: Outcome
    said: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """How a replica is. `heard` is the number of the last orders it has; one that is `leaving` begins nothing more."""

    service: str
    member: str
    life: int
    who: Who | None = None
    heard: int = 0
    running: tuple[int, ...] = ()
    over: tuple[Over, ...] = ()
    leaving: bool = False


class Orders(Struct, frozen=True, kw_only=True):
    """What a replica is to do. Those of life 0 are for anybody, and ask for a report."""

    number: int = 0
    life: int = 0
    runs: tuple[Run, ...] = ()
    cancels: tuple[int, ...] = ()


# -- what is written down ---------------------------------------------------------------------------------------------


class Begun(Struct, frozen=True, tag="begun"):
    """A service that is kept for the first time."""

    open_from: int


class Joined(Struct, frozen=True, tag="joined"):
    """In which process a replica lives that is given a run: who comes back knows whom to wait for."""

    member: str
    life: int
    who: Who | None


class Line(Struct, frozen=True):
    """One record of the journal."""

    service: str
    what: Begun | Joined | Run | Ended | Passed


class Kept(Struct, frozen=True):
    """All that is known of a service, in the place of its lines. `counts` are how many runs have ended how."""

    state: State
    who: Mapping[str, Joined] = {}
    counts: Mapping[str, int] = {}
    last: tuple[Record, ...] = ()


# So many records are remembered.
LAST_MOST = 256

_lines = msgspec.json.Decoder(Line)
_snapshots = msgspec.json.Decoder(dict[str, Kept])


def line(service: str, what: Begun | Joined | Run | Ended | Passed) -> bytes:
    return msgspec.json.encode(Line(service, what))


def read_line(text: bytes) -> Line:
    return _lines.decode(text)


def snapshot(kept: Mapping[str, Kept]) -> bytes:
    return msgspec.json.encode(kept)


def read_snapshot(text: bytes) -> dict[str, Kept]:
    return _snapshots.decode(text)


def kept_after(kept: Kept | None, what: Begun | Joined | Run | Ended | Passed) -> Kept:
    """What is known after one more record."""
    if isinstance(what, Begun):
        return Kept(State(what.open_from))
    assert kept is not None, f"{what} of a service that has not begun"
    if isinstance(what, Joined):
        return msgspec.structs.replace(kept, who={**kept.who, what.member: what})
    counts = dict(kept.counts)
    for name, many in _counted(what):
        counts[name] = counts.get(name, 0) + many
    last = (*kept.last[-LAST_MOST + 1 :], what)
    return Kept(fold(kept.state, what), kept.who, counts, last)


def _counted(record: Record) -> Iterable[tuple[str, int]]:
    match record:
        case Ended(_, outcome):
            return ((str(outcome), 1),)
        case Passed(first, last, because):
            return ((because, last - first + 1),)
        case _:
            return ()


# -- what is shown ----------------------------------------------------------------------------------------------------

SHOWN_FILE = "services.json"
SHOWN_MOST = 20


class ReplicaShown(Struct, frozen=True, kw_only=True):
    """A replica: the cycle it runs, or why it runs none."""

    replica: str
    pid: int | None = None
    cycle: int | None = None
    token: int | None = None
    why: str = ""
    said: str = ""


class ServiceShown(Struct, frozen=True, kw_only=True):
    """A service as others see it. `counts` are of how runs have ended and cycles passed, `refused` of the reasons."""

    service: str
    every_s: float
    cycle: int
    token: int
    replicas: tuple[ReplicaShown, ...] = ()
    counts: Mapping[str, int] = {}
    refused: Mapping[str, int] = {}
    records: tuple[Record, ...] = ()


_shown = msgspec.json.Decoder(tuple[ServiceShown, ...])


def encode_shown(shown: tuple[ServiceShown, ...]) -> bytes:
    return msgspec.json.encode(shown)


def shown_in(text: bytes) -> tuple[ServiceShown, ...]:
    return _shown.decode(text)


def in_words(record: Record) -> str:
    """A record as a line for a person."""
    match record:
        case Run(cycle, token, member):
            return f"cycle {cycle} given to {member} (token {token})"
        case Ended(run, outcome, _, said):
            return f"cycle {run.cycle} {outcome} by {run.member} (token {run.token}){f': {said}' if said else ''}"
        case Passed(first, last, because):
            which = f"cycle {first}" if first == last else f"cycles {first} to {last}"
            return f"{which} not run: {because}"
