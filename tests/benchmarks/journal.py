"""One process of a figure about the journal in files: what it costs to make records durable, and to find them again.

python journal.py outstanding asyncio 64 2.0      prints how many records per second 64 tasks make durable, each its own
python journal.py single      -       0  2.0      prints the median of one append and its sync, in us, of a new journal
python journal.py single      - 1000000  2.0      the same behind so many records
python journal.py recovery    - 1000000  0        prints how many records per second are checked and read again
"""

import statistics
import sys
import tempfile
import time

import anyio

from geartrain.ports.file_journal import FileJournal

RECORD = b"x" * 97


def outstanding(loop: str, tasks: int, seconds: float, folder: str) -> float:
    journal = FileJournal(folder)

    async def one(until: float) -> None:
        while time.perf_counter() < until:
            await journal.committed(journal.append(RECORD))

    async def main() -> float:
        started = time.perf_counter()
        async with anyio.create_task_group() as group:
            for _ in range(tasks):
                group.start_soon(one, started + seconds)
        return time.perf_counter() - started

    took_s: float = anyio.run(main, backend=loop)
    return journal.durable / took_s


def single(loop: str, behind: int, seconds: float, folder: str) -> float:
    journal = filled(behind, folder)
    took_ns = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        started_ns = time.perf_counter_ns()
        journal.append(RECORD)
        journal.sync()
        took_ns.append(time.perf_counter_ns() - started_ns)
    return statistics.median(took_ns) / 1e3


def recovery(loop: str, records: int, seconds: float, folder: str) -> float:
    filled(records, folder).close()
    started = time.perf_counter()
    found = sum(1 for _ in FileJournal(folder).records())
    assert found == records
    return records / (time.perf_counter() - started)


def filled(records: int, folder: str) -> FileJournal:
    journal = FileJournal(folder)
    for number in range(1, records + 1):
        journal.append(RECORD)
        if number % 1000 == 0:
            journal.sync()
    journal.sync()
    return journal


ROLES = {"outstanding": outstanding, "single": single, "recovery": recovery}


def main(role: str, loop: str, count: str, seconds: str) -> None:
    with tempfile.TemporaryDirectory(prefix="geartrain-journal-") as folder:
        print(ROLES[role](loop, int(count), float(seconds), folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
