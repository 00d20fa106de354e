"""`python -m tests.benchmarks`: measure, print a row as soon as it is known, and keep everything in a file.

The exit code is 0 whatever the figures are: they are for reading. Only a measurement that fails is a failure.
"""

import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import msgspec

from tests.benchmarks.figures import FULL, QUICK, Figure, all_figures, chosen
from tests.benchmarks.report import Document, head, row, surroundings, verdict
from tests.benchmarks.rounds import MeasurementFailed, Result, measure


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    figures = _figures(options)
    try:
        where = surroundings(shlex.join(("python", "-m", "tests.benchmarks", *arguments)))
        print(head(where), flush=True)
        results = tuple(_told(figure) for figure in figures)
    except PackageNotFoundError as missing:
        sys.exit(f"{missing.name} is not installed beside this Python: `make bench` sets up both sides")
    except MeasurementFailed as failure:
        sys.exit(f"a measurement failed: {failure}")
    _write(options.json, Document(where, results))
    print(f"\nwritten to {options.json}\n{verdict(results)}")


def _options(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m tests.benchmarks", description="geartrain and its peer, side by side")
    parser.add_argument("--quick", action="store_true", help="few short rounds: to try, not to quote")
    parser.add_argument("--only", metavar="SUBSTRING", default="", help="only figures whose name or loop contains this")
    parser.add_argument("--json", metavar="PATH", type=Path, default=Path(".bench/results.json"), help="%(default)s")
    return parser.parse_args(arguments)


def _figures(options: Namespace) -> tuple[Figure, ...]:
    figures = all_figures(QUICK if options.quick else FULL)
    if found := chosen(figures, options.only):
        return found
    titles = "".join(f"\n  {figure.title}" for figure in figures)
    sys.exit(f"no figure contains {options.only!r}; there are:{titles}")


def _told(figure: Figure) -> Result:
    result = measure(figure)
    print(row(result), flush=True)
    return result


def _write(path: Path, document: Document) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
