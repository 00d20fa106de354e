"""What the gateway asks of an observer. Nothing of it waits."""

from collections.abc import Mapping
from typing import Protocol

from geartrain.faces.web_live import Graph, Logs


class Source(Protocol):
    @property
    def graph(self) -> Graph: ...

    def logs(self, process: str, tail: int) -> Logs:
        """The last lines of a process that there is."""
        ...

    def buckets(self) -> Mapping[str, tuple[int, ...]]:
        """How long bodies took, by daemon, as counts of the buckets of `rules/slots.py`."""
        ...

    # How long the last look took.
    look_s: float
