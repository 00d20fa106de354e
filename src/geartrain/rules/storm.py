"""A storm for the clock: many events in bursts and many deadlines at once, the same for the same seed, and its gate.

    StormPlan  --->  events(plan, draw)     burst by burst: a key and a value each, and a digest of all of them
               --->  delay_ns(draw)         how long until a deadline of the storm is due once more
    StormFacts --->  verdicts(facts, gate)  what was measured, held against what is wanted

`draw(n)` is chance: a whole number from 0 to n-1.
"""

from collections.abc import Callable, Iterator
from hashlib import blake2b
from struct import Struct as Layout

from msgspec import Struct

from geartrain.rules.histogram import HistogramState, LatencyHistogram

Draw = Callable[[int], int]

# A deadline of the storm is due again after 1 to 10 s.
_LEAST_NS = 1_000_000_000
_SPREAD_NS = 9_000_000_000

_KEYS = 64
_VALUES = 1_000_000

_PACKED = Layout("<qqq")


class StormPlan(Struct, frozen=True, kw_only=True):
    """How much of it: `burst` events at once, every so often, until all have been sent."""

    events: int = 50_000
    deadlines: int = 5_000
    burst: int = 8
    every_ns: int = 12_000_000
    seed: int = 7
    # How long the consumer works on each event.
    fold_ns: int = 0

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.burst / (self.every_ns / 1e9)

    @property
    def seconds(self) -> float:
        return self.events / self.rate


class StormEvent(Struct):
    """One event. `due_ns` is when it was to be sent, and `sent_ns` when it was."""

    number: int
    key: int
    value: int
    due_ns: int = 0
    sent_ns: int = 0


class StormFacts(Struct, frozen=True, kw_only=True):
    """What the consumer of a storm has seen."""

    digest: str
    events: int
    # From the producer's stamp to the fold; and from the moment of the grid, which counts how late the producer was.
    reaction: HistogramState
    from_due: HistogramState
    lateness: HistogramState
    early: int
    took_s: float


class StormGate(Struct, frozen=True, kw_only=True):
    """What is wanted of a storm."""

    reaction_p99_ns: int = 2_000_000
    lateness_p99_ns: int = 1_000_000


class Verdict(Struct, frozen=True, kw_only=True):
    """One thing that was wanted, in words, and whether it held."""

    wanted: str
    found: str
    held: bool


def events(plan: StormPlan, draw: Draw) -> Iterator[StormEvent]:
    for number in range(plan.events):
        yield StormEvent(number, draw(_KEYS), draw(_VALUES))


def delay_ns(draw: Draw) -> int:
    return _LEAST_NS + draw(_SPREAD_NS)


class Digest:
    """Of a sequence of events. Two that are equal were equal event by event, in the same order."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=8)

    def add(self, event: StormEvent) -> None:
        self._hash.update(_PACKED.pack(event.number, event.key, event.value))

    def text(self) -> str:
        return self._hash.hexdigest()


def digest_of(plan: StormPlan, draw: Draw) -> str:
    digest = Digest()
    for event in events(plan, draw):
        digest.add(event)
    return digest.text()


def verdicts(facts: StormFacts, plan: StormPlan, digest: str, gate: StormGate) -> tuple[Verdict, ...]:
    """Everything that is wanted of a storm."""
    same = facts.digest == digest and facts.events == plan.events
    return (
        Verdict(wanted=f"sequence {digest}", found=f"{facts.digest}, {facts.events:,} events", held=same),
        _p99("reaction", facts.reaction, gate.reaction_p99_ns),
        _p99("deadline lateness", facts.lateness, gate.lateness_p99_ns),
        Verdict(wanted="no deadline early", found=f"{facts.early} early", held=not facts.early),
    )


def _p99(title: str, state: HistogramState, most_ns: int) -> Verdict:
    histogram = LatencyHistogram.of(state)
    wanted = f"{title} p99 <= {most_ns / 1e6:g} ms"
    if not histogram.is_valid:
        return Verdict(wanted=wanted, found=histogram.report(), held=False)
    if not histogram.count:
        # As of deadlines in a storm of less than a second.
        return Verdict(wanted=wanted, found="no samples", held=True)
    p99_ns = histogram.percentile_ns(0.99)
    return Verdict(wanted=wanted, found=f"{p99_ns / 1e6:.3f} ms", held=p99_ns <= most_ns)
