"""One figure about being observed. Prints one number.

    python observing.py hooks 100000   us for the start, the stop and the report of one cycle, together
    python observing.py read    1000   ms to read that many slots

What an observer and its clients cost a whole pipeline is in `pipelines.py` and `gateway.py`.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from geartrain.engine.written import Written
from geartrain.ports.slots import SlotFile, SlotReader, Slots
from geartrain.rules.grid import Cycle
from geartrain.rules.slots import About

LOOKS = 30
CYCLE = Cycle(7, 1000, 7000, 7010, 400, lateness_ns=10, skipped_slots=0, actual_period_ns=990, jitter_ns=10)


class Open:
    def end(self, *, ok: bool) -> None: ...


def hooks(folder: Path, count: int) -> float:
    file = SlotFile.make(folder / "p", About(process="p", daemons=("d",)), generation=1)
    assert file.fd is not None
    watch, open_cycle = Written(Slots(file.fd)).watch("d", None), Open()
    began_ns = time.perf_counter_ns()
    for at_ns in range(10**9, 10**9 + count):
        watch.cycle_begins(open_cycle, at_ns)
        watch.cycle_ends(at_ns, 400, CYCLE)
    return (time.perf_counter_ns() - began_ns) / count / 1e3


def read(folder: Path, count: int) -> float:
    about = About(process="p", daemons=tuple(f"d{number}" for number in range(count)))
    file = SlotFile.make(folder / "p", about, generation=1)
    assert file.fd is not None
    process = Slots(file.fd)
    for name in about.daemons:
        slot = process.daemon(name)
        assert slot is not None
        slot.starts(0, 1)
    reader = SlotReader(folder / "p")
    began_ns = time.perf_counter_ns()
    for _ in range(LOOKS):
        reader.poll()
    return (time.perf_counter_ns() - began_ns) / LOOKS / 1e6


def main(what: str, amount: str) -> None:
    with TemporaryDirectory(prefix="gt-") as folder:
        print({"hooks": hooks, "read": read}[what](Path(folder), int(amount)))


if __name__ == "__main__":
    main(*sys.argv[1:])
