"""What arrived at a sink of a pipeline: a file, which outlives every process."""

from collections.abc import Iterable
from pathlib import Path


class Ledger:
    """The numbers that arrived, each with its mark. Those of several sources come in several streams, mixed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger"
        self.streams = 1
        self.in_order = True

    @property
    def entries(self) -> list[tuple[int, bool]]:
        rows = [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []
        return [(int(number), repeated == "1") for number, repeated in rows]

    def __len__(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def assert_complete(self, total: int) -> None:
        self.assert_holds(range(total))

    def assert_holds(self, numbers: Iterable[int]) -> None:
        """Nothing is lost, every repeat is marked, and what is not one only rises."""
        entries = self.entries
        got, wanted = {number for number, _ in entries}, set(numbers)
        assert (sorted(wanted - got), sorted(got - wanted)) == ([], [])
        for stream in range(self.streams):
            once = [number for number, repeated in entries if number % self.streams == stream and not repeated]
            assert len(once) == len(set(once))
            assert once == sorted(once) or not self.in_order
