"""A report each second, by one of three processes; the one that writes the second report is killed while it does.

    report-1, report-2, report-3    --- one of them, in each cycle --->   a file of reports

Another one writes the report of the same cycle, with a higher token. The file takes no report of a lower token than one
that it has: so the killed one could not write any more even if it were alive after all.

    services.py                  a few seconds, in processes
    services.py --loop trio
"""

import argparse
import logging
import os
import signal
import tempfile
from itertools import groupby, islice
from pathlib import Path
from typing import Literal

import anyio
import msgspec
from msgspec import Struct

from geartrain import FenceGate, Pipeline, ServiceRun

Loop = Literal["asyncio", "trio"]

REPORTS = 3
PATIENCE_S = 60


class Line(Struct, frozen=True):
    cycle: int
    token: int
    replica: str
    what: Literal["begun", "done"]


class Reports:
    """The file, and who may write it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, line: Line) -> None:
        """Of a run that is not the latest nothing is taken: `Fenced`."""
        gate = FenceGate("the file of reports")
        for former in self.lines():
            gate.learn(former.token)
        gate.admit(line.token)
        with self.path.open("ab", buffering=0) as file:
            file.write(msgspec.json.encode(line) + b"\n")

    def lines(self) -> list[Line]:
        if not self.path.exists():
            return []
        return [msgspec.json.decode(text, type=Line) for text in self.path.read_bytes().splitlines()]


async def report(run: ServiceRun) -> None:
    """The service. It has no luck with its second report."""
    reports = Reports(Path(os.environ["REPORTS"]))
    reports.write(Line(run.cycle, run.token, run.replica, "begun"))
    await anyio.sleep(0.2)
    if run.token == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    reports.write(Line(run.cycle, run.token, run.replica, "done"))


def pipeline(loop: Loop) -> Pipeline:
    made = Pipeline("reporting", backend=loop)
    # No report is to be left out: one that nobody has finished in its second is written later.
    made.service(report, every=1, replicas=3, missed="catch_up")
    return made


async def until_written(loop: Loop, reports: Reports) -> None:
    """Services run until they are stopped; here that is when there are enough reports, or some more meanwhile."""
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pipeline(loop).run)
            while sum(line.what == "done" for line in reports.lines()) < REPORTS:
                await anyio.sleep(0.05)
            tasks.cancel_scope.cancel()


def main(loop: Loop = "asyncio") -> list[Line]:
    # That one has been killed is what was wanted.
    logging.getLogger("geartrain").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        reports = Reports(Path(folder) / "reports")
        os.environ["REPORTS"] = str(reports.path)
        anyio.run(until_written, loop, reports, backend=loop)
        lines = reports.lines()
    print_reports(lines)
    return lines


def print_reports(lines: list[Line]) -> None:
    cycles = islice(groupby(lines, lambda line: line.cycle), REPORTS)
    for number, (_, of_it) in enumerate(cycles, start=1):
        print(f"report {number}:", ", ".join(f"{line.what} with token {line.token}" for line in of_it))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", choices=["asyncio", "trio"], default="asyncio")
    main(parser.parse_args().loop)
