"""One figure, measured: geartrain, the peer, geartrain, the peer ... so that whatever disturbs the machine hits both.

Each reading is taken by a fresh process: nothing that one library imported or left behind reaches the other.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from msgspec import Struct

from tests.benchmarks.figures import Figure, Job

FOLDER = Path(__file__).parent
TIMEOUT_S = 120


class MeasurementFailed(Exception):
    """A process that should have printed one number did something else."""


class Round(Struct, frozen=True):
    """One reading of each side, geartrain's first."""

    geartrain: float
    peer: float | None


class Spread(Struct, frozen=True):
    """The readings of one side, in the order in which they were taken."""

    median: float
    lowest: float
    highest: float
    readings: tuple[float, ...]


class Result(Struct, frozen=True):
    """A figure and how it came out; `held` is None where nothing was wanted."""

    figure: Figure
    geartrain: Spread
    peer: Spread | None
    ratio: float | None
    held: bool | None


def measure(figure: Figure) -> Result:
    """Take the readings of all rounds, and compare their medians."""
    # The first round is nobody's figure: it pays for cold files and missing bytecode.
    _, *rounds = [one_round(figure) for _ in range(1 + figure.rounds)]
    ours = spread([one.geartrain for one in rounds])
    theirs = [one.peer for one in rounds if one.peer is not None]
    return compared(figure, ours, spread(theirs) if theirs else None)


def one_round(figure: Figure) -> Round:
    return Round(
        geartrain=take_reading(figure.geartrain),
        peer=None if figure.peer is None else take_reading(figure.peer),
    )


def spread(readings: Sequence[float]) -> Spread:
    return Spread(median(readings), min(readings), max(readings), tuple(readings))


def compared(figure: Figure, geartrain: Spread, peer: Spread | None) -> Result:
    theirs = None if peer is None else peer.median
    held = None if figure.wanted is None else figure.wanted.held_by(geartrain.median, theirs)
    return Result(figure, geartrain, peer, None if theirs is None else geartrain.median / theirs, held)


def take_reading(job: Job) -> float:
    if job.beside is None:
        return _printed(job.script, job.arguments)
    with TemporaryDirectory() as folder, _running(job.script, (*job.beside, folder)):
        return _printed(job.script, (*job.arguments, folder))


def _printed(script: str, arguments: Sequence[str]) -> float:
    try:
        done = subprocess.run(
            _command(script, arguments), check=True, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S
        )
        return float(done.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        raise MeasurementFailed(f"{' '.join((script, *arguments))}: {error}") from error


@contextmanager
def _running(script: str, arguments: Sequence[str]) -> Iterator[None]:
    """Beside another process, which decides when it is over."""
    beside = subprocess.Popen(_command(script, arguments), stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        beside.kill()
        beside.wait()


def _command(script: str, arguments: Sequence[str]) -> list[str]:
    # Isolated (-I): no PYTHON* variable of a developer's shell, such as the one against writing bytecode, is a figure.
    return [sys.executable, "-I", str(FOLDER / script), *arguments]
