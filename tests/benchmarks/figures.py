"""Every figure there is: what is measured, on which loop, and what is wanted of it.

Both sides of a figure are commands, each run in a process of its own; a figure is for reading, and bars no gate.
"""

from collections.abc import Iterator, Sequence

from msgspec import Struct

LOOPS = ("asyncio", "trio")
PEER = "chrono_daemon"


class RatioAtLeast(Struct, frozen=True, tag=True):
    """Wanted: geartrain's median is at least so many times the peer's."""

    least: float

    def __str__(self) -> str:
        return f"ratio >= {self.least}"

    def held_by(self, geartrain: float, peer: float) -> bool:
        return geartrain >= self.least * peer


class MedianBelow(Struct, frozen=True, tag=True):
    """Wanted: geartrain's median is below this, whatever the peer does."""

    limit_ms: float

    def __str__(self) -> str:
        return f"< {self.limit_ms:g} ms"

    def held_by(self, geartrain: float, peer: float) -> bool:
        return geartrain < self.limit_ms


class Job(Struct, frozen=True):
    """A script of this folder and its arguments. Run, it prints one number."""

    script: str
    arguments: tuple[str, ...]


class Figure(Struct, frozen=True):
    """Two jobs to compare; `peer` is what geartrain is held against."""

    what: str
    loop: str
    unit: str
    rounds: int
    geartrain: Job
    peer: Job
    wanted: RatioAtLeast | MedianBelow | None

    @property
    def title(self) -> str:
        return f"{self.what}, {self.loop}"


class Effort(Struct, frozen=True):
    """How much time the figures may take."""

    rounds: int
    seconds: float
    import_rounds: int


FULL = Effort(rounds=7, seconds=0.3, import_rounds=15)
QUICK = Effort(rounds=2, seconds=0.05, import_rounds=3)


def all_figures(effort: Effort) -> tuple[Figure, ...]:
    return (*_channels(effort), *_sleepers(effort), *_cycles(effort), *_imports(effort))


def _channels(effort: Effort) -> Iterator[Figure]:
    for maxsize, least in ((0, 1.0), (1, 1.0), (64, 5.0)):
        for loop in LOOPS:
            yield Figure(
                what=f"channel of maxsize {maxsize}: items",
                loop=loop,
                unit="/s",
                rounds=effort.rounds,
                geartrain=_work(f"channel-{maxsize}", "geartrain", "anyio.run", loop, effort),
                peer=_work(f"channel-{maxsize}", PEER, "anyio.run", loop, effort),
                wanted=RatioAtLeast(least),
            )


def _sleepers(effort: Effort) -> Iterator[Figure]:
    for runner, least in (("simulate", 3.0), ("anyio.run", 2.0)):
        for loop in LOOPS:
            yield Figure(
                what=f"SimClock in {runner}: wake-ups of 100 sleepers",
                loop=loop,
                unit="/s",
                rounds=effort.rounds,
                geartrain=_work("sleep", "geartrain", runner, loop, effort),
                peer=_work("sleep", PEER, "anyio.run", loop, effort),
                wanted=RatioAtLeast(least),
            )


def _cycles(effort: Effort) -> Iterator[Figure]:
    """What the hooks of an observer cost where there is none: both sides are geartrain."""
    for loop in LOOPS:
        yield Figure(
            what="every() unobserved (peer: own wait_until())",
            loop=loop,
            unit="/s",
            rounds=effort.rounds,
            geartrain=_work("every", "geartrain", "simulate", loop, effort),
            peer=_work("wait_until", "geartrain", "simulate", loop, effort),
            wanted=None,
        )


def _imports(effort: Effort) -> Iterator[Figure]:
    yield Figure(
        what="a bare import",
        loop="-",
        unit="ms",
        rounds=effort.import_rounds,
        geartrain=_imported("import geartrain"),
        peer=_imported(f"import {PEER}"),
        wanted=MedianBelow(10),
    )
    names = "Supervisor, SimClock, open_channel"
    yield Figure(
        what="three names imported after anyio",
        loop="-",
        unit="ms",
        rounds=effort.import_rounds,
        geartrain=_imported("import anyio", f"from geartrain import {names}"),
        peer=_imported("import anyio", f"from {PEER} import {names}"),
        wanted=MedianBelow(60),
    )


def _work(work: str, library: str, runner: str, loop: str, effort: Effort) -> Job:
    return Job("workload.py", (work, library, runner, loop, str(effort.seconds)))


def _imported(*statements: str) -> Job:
    return Job("cold_import.py", statements)


def chosen(figures: Sequence[Figure], substring: str) -> tuple[Figure, ...]:
    return tuple(figure for figure in figures if substring in figure.title)
