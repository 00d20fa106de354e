"""How results are told: a row of text for people, and a document with everything in it for programs."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from shutil import which

from msgspec import Struct

from tests.benchmarks.rounds import Result, Spread

PACKAGES = ("geartrain", "chrono-daemon", "dos-kernel", "anyio", "trio", "msgspec", "pyzmq")


class Surroundings(Struct, frozen=True):
    """Where and when the figures were measured."""

    machine: str
    processor: str
    cpus: int
    load_1min: float
    python: str
    packages: dict[str, str]
    date: str
    command: str


class Document(Struct, frozen=True):
    """One run of the benchmarks."""

    surroundings: Surroundings
    results: tuple[Result, ...]


def surroundings(command: str) -> Surroundings:
    """Raises `PackageNotFoundError` when one of the two sides is not installed."""
    return Surroundings(
        machine=platform.platform(),
        processor=_processor(),
        cpus=os.cpu_count() or 1,
        load_1min=round(os.getloadavg()[0], 2),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={package: version(package) for package in PACKAGES},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
    )


def _processor() -> str:
    """Linux names the model in a file only."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def head(where: Surroundings) -> str:
    packages = ", ".join(f"{package} {version}" for package, version in where.packages.items())
    return (
        f"{where.processor}, {where.cpus} CPUs, load {where.load_1min:g}, {where.machine}\n"
        f"{where.python}, {packages}\n"
        "median [min..max] per side; ratio = geartrain / peer: above 1 is better for /s, below 1 for ms and us\n"
        "leases: durable on one disk; what is told of etcd includes its replication, and ours has none\n"
        f"leases kept in etcd: {'by one member' if which('etcd') else 'not installed, its row is missing'}\n\n"
        + _line("what", "loop", "geartrain", "peer", "ratio", "wanted", "held")
    )


def row(result: Result) -> str:
    figure = result.figure
    return _line(
        figure.what,
        figure.loop,
        _told(result.geartrain, figure.unit),
        "-" if result.peer is None else _told(result.peer, figure.unit),
        "-" if result.ratio is None else f"{result.ratio:.3g}",
        "-" if figure.wanted is None else str(figure.wanted),
        {True: "yes", False: "NO", None: "-"}[result.held],
    )


def verdict(results: Sequence[Result]) -> str:
    wanted = [result for result in results if result.held is not None]
    missed = [result for result in wanted if not result.held]
    return f"{len(missed)} of {len(wanted)} wanted figures were not held" + "".join(
        f"\n  {result.figure.title}" for result in missed
    )


def _line(what: str, loop: str, geartrain: str, peer: str, ratio: str, wanted: str, held: str) -> str:
    return f"{what:<51} {loop:<7} {geartrain:>35}  {peer:>31}  {ratio:>7}  {wanted:<16} {held}"


def _told(spread: Spread, unit: str) -> str:
    median, lowest, highest = (_number(value, unit) for value in (spread.median, spread.lowest, spread.highest))
    return f"{median} {unit} [{lowest}..{highest}]"


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f}" if unit == "/s" else f"{value:.2f}"
