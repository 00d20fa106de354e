"""One figure, measured: geartrain, the peer, geartrain, the peer ... so that whatever disturbs the machine hits both.

Each reading is taken by a fresh process: nothing that one library imported or left behind reaches the other.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from msgspec import Struct

from tests.benchmarks.figures import Figure, Job

FOLDER = Path(__file__).parent
TIMEOUT_S = 60


class MeasurementFailed(Exception):
    """A process that should have printed one number did something else."""


class Round(Struct, frozen=True):
    """One reading of each side, geartrain's first."""

    geartrain: float
    peer: float


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
    peer: Spread
    ratio: float
    held: bool | None


def measure(figure: Figure) -> Result:
    """Take the readings of all rounds, and compare their medians."""
    # The first round is nobody's figure: it pays for cold files and missing bytecode.
    _, *rounds = [one_round(figure) for _ in range(1 + figure.rounds)]
    return compared(figure, spread([one.geartrain for one in rounds]), spread([one.peer for one in rounds]))


def one_round(figure: Figure) -> Round:
    return Round(geartrain=take_reading(figure.geartrain), peer=take_reading(figure.peer))


def spread(readings: Sequence[float]) -> Spread:
    return Spread(median(readings), min(readings), max(readings), tuple(readings))


def compared(figure: Figure, geartrain: Spread, peer: Spread) -> Result:
    held = None if figure.wanted is None else figure.wanted.held_by(geartrain.median, peer.median)
    return Result(figure, geartrain, peer, geartrain.median / peer.median, held)


def take_reading(job: Job) -> float:
    # Isolated (-I): no PYTHON* variable of a developer's shell, such as the one against writing bytecode, is a figure.
    command = [sys.executable, "-I", str(FOLDER / job.script), *job.arguments]
    try:
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S).stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        raise MeasurementFailed(f"{' '.join((job.script, *job.arguments))}: {error}") from error
