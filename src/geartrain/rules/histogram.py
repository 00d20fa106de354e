"""How long things took: every sample while they are few, and after that how many fell between which bounds.

    record(ns)  -->  up to `capacity` samples      kept one by one, every percentile is a sample      exact
                -->  one more                      counted in buckets, 64 to every doubling           0.79 % off at most
                     with gate=True                counted as overflow, percentiles are refused       INVALID

    bucket    0   1   2 ...  127 | 128 - 191       | 192 - 255       | ...     each 2, 4, 8 ... values wide
    value     0   1   2 ...  127 | 128, 130 ... 254| 256, 260 ... 508| ...     and told by its middle

However much is recorded, it keeps at most `capacity` samples or some thousand counts. Two histograms merge into that
of all their samples, count by count.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Self

from msgspec import Struct

from geartrain.errors import BadType, GateInvalid
from geartrain.rules.checks import number, whole

# Of the first so many every percentile is exact; to sort them takes a loop about a millisecond.
CAPACITY = 10_000

# 64 buckets per octave: a value is off by half a bucket at most, 1/128 of itself.
_BITS = 6
_PER_OCTAVE = 1 << _BITS
WORST_ERROR = 1 / (2 * _PER_OCTAVE)

# So many are gathered before they are counted: a pause of some 50 us now and then.
_AT_ONCE = 256

# What fits a machine's word: 292 years.
_MOST_NS = (1 << 63) - 1

_REPORTED = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999))


class HistogramState(Struct, frozen=True, kw_only=True):
    """All that a histogram knows, to be sent or stored. Either `samples` or `buckets` is empty.

    A bucket is its number and how many samples fell into it; `of` tells which values it stands for.
    """

    name: str
    capacity: int
    gate: bool
    count: int
    min_ns: int
    max_ns: int
    overflow: int = 0
    inferred: int = 0
    expected_interval_ns: int | None = None
    samples: tuple[int, ...] = ()
    buckets: tuple[tuple[int, int], ...] = ()


class LatencyHistogram:
    """Latencies in nanoseconds. For one thread; each thread or process has its own, and they are merged.

    `expected_interval_ns` is how often a sample should come. One that took longer held up others that were never
    taken (coordinated omission): they are inferred, and recorded too.
    """

    def __init__(
        self,
        name: str,
        *,
        capacity: int = CAPACITY,
        gate: bool = False,
        expected_interval_ns: int | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise BadType(f"LatencyHistogram name must be a string, got {name!r}")
        if expected_interval_ns is not None:
            whole("LatencyHistogram expected_interval_ns", expected_interval_ns, least=1)
        self.name = name
        self.expected_interval_ns = expected_interval_ns
        self._capacity = whole("LatencyHistogram capacity", capacity, least=0)
        self._gate = bool(gate)
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self._samples: list[int] = []
        self._hold(self._capacity)
        self._counts: Counter[int] = Counter()
        self._is_exact = True
        self._counted = 0
        self._overflow = 0
        self._inferred = 0
        # Of what was counted or dropped. With nothing of the kind the least is greater than any.
        self._least = _MOST_NS
        self._greatest = 0

    def _hold(self, most_samples: int) -> None:
        """So many samples may lie there; and so many need no heed, unless something is inferred from each."""
        self._most_samples = most_samples
        self._heedless = most_samples if self.expected_interval_ns is None else -1

    def __repr__(self) -> str:
        return f"<LatencyHistogram {self.report()}>"

    # -- recording ----------------------------------------------------------------------------------------------

    def record(self, ns: int) -> None:
        """Add one sample."""
        if type(ns) is not int:
            ns = _checked(ns)
        # Always this short: what is counted is gathered first, and then counted many at a time.
        samples = self._samples
        samples.append(ns)
        if len(samples) > self._heedless:
            self._heed(ns)

    def _heed(self, ns: int) -> None:
        if len(self._samples) > self._most_samples:
            if self._gate:
                self._drop(self._samples.pop())
            else:
                self._count_samples()
        if self.expected_interval_ns is not None:
            self._infer(ns, self.expected_interval_ns)

    def _drop(self, ns: int, count: int = 1) -> None:
        self._overflow += count
        self._stretch(ns, ns)

    def _count_samples(self) -> None:
        """From now on samples are counted."""
        self._is_exact = False
        self._hold(_AT_ONCE)
        if self._samples:
            least_ns = min(self._samples)
            buckets = _buckets(self._samples, least_ns)
            self._count(buckets, len(self._samples), least_ns, max(self._samples))
            self._samples.clear()

    def _count(self, buckets: Iterable[int], count: int, least_ns: int, greatest_ns: int) -> None:
        """Count so many samples more; `buckets` says of each its bucket, or of each bucket how many."""
        self._counts.update(buckets)
        self._counted += count
        self._stretch(least_ns, greatest_ns)

    def _stretch(self, least_ns: int, greatest_ns: int) -> None:
        self._least = min(self._least, least_ns)
        self._greatest = max(self._greatest, greatest_ns)

    def _infer(self, ns: int, interval_ns: int) -> None:
        """The samples that would have been taken while this one took so long: ns - interval, ns - 2 intervals ..."""
        missing = ns // interval_ns - 1
        if missing <= 0:
            return
        self._inferred += missing
        least_ns = ns - missing * interval_ns
        room = self._capacity - len(self._samples) if self._is_exact else 0
        if missing <= room:
            self._samples.extend(range(least_ns, ns, interval_ns))
        elif self._gate:
            self._samples.extend(range(least_ns, least_ns + room * interval_ns, interval_ns))
            self._drop(least_ns, missing - room)
        else:
            self._count_samples()
            self._count(_buckets_of_series(least_ns, missing, interval_ns), missing, least_ns, ns)

    # -- asking -------------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many samples there were, those included that did not fit a gate."""
        return self.retained + self._overflow

    @property
    def retained(self) -> int:
        """How many samples the percentiles are of."""
        return len(self._samples) + self._counted

    @property
    def overflow_dropped(self) -> int:
        """How many samples did not fit a gate."""
        return self._overflow

    @property
    def inferred(self) -> int:
        """How many of the samples were not taken but inferred from the expected interval."""
        return self._inferred

    @property
    def capacity(self) -> int:
        """Up to how many samples every percentile is exact."""
        return self._capacity

    @property
    def is_exact(self) -> bool:
        """Whether every percentile is one of the samples; else it is off by 0.79 % at most."""
        return self._is_exact

    @property
    def is_valid(self) -> bool:
        """False for a gate that has seen more samples than it can hold."""
        return not self._overflow

    @property
    def min_ns(self) -> int:
        """The least of all samples, or 0 of none."""
        return min(self._least, min(self._samples, default=_MOST_NS)) if self.count else 0

    @property
    def max_ns(self) -> int:
        """The greatest of all samples, and at least 0."""
        return max(self._greatest, max(self._samples, default=0))

    def percentile_ns(self, p: float) -> int:
        """The sample of rank ceil(p * count): `p` is a fraction, 0.5 is the median. Of no samples 0.

        0 or less is the least sample, 1 or more the greatest. A gate that has overflowed raises `GateInvalid`.
        """
        number("percentile_ns() p", p)
        if self._overflow:
            raise GateInvalid(f"no percentile can be told: {self._overflown()}")
        return self._at(p)

    def _at(self, p: float) -> int:
        total = self.retained
        if not total:
            return 0
        rank = _rank(p, total)
        if self._is_exact:
            # Sorted in place: the order of coming is nobody's business, and the next time it is nearly done.
            self._samples.sort()
            return self._samples[rank - 1]
        self._count_samples()
        if rank in (1, total):
            return self._least if rank == 1 else self._greatest
        return self._counted_at(rank)

    def _counted_at(self, rank: int) -> int:
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank <= 0:
                break
        return min(max(_middle(bucket), self._least), self._greatest)

    # -- together -----------------------------------------------------------------------------------------------

    def merge(self, other: "LatencyHistogram") -> Self:
        """Take in all samples of another histogram, which stays as it is; answer this one."""
        if not isinstance(other, LatencyHistogram):
            raise BadType(f"merge() expected a LatencyHistogram, got {other!r}")
        if not other.count:
            return self
        counts, retained, least_ns, greatest_ns = other._all_counts(), other.retained, other.min_ns, other.max_ns
        self._overflow += other._overflow
        self._inferred += other._inferred
        if self._is_exact and other._is_exact and self.retained + retained <= self._capacity:
            self._samples.extend(other._samples)
            self._stretch(other._least, other._greatest)
        elif self._gate:
            self._overflow += retained
            self._stretch(least_ns, greatest_ns)
        else:
            self._count_samples()
            self._count(counts, retained, least_ns, greatest_ns)
        return self

    def _all_counts(self) -> Counter[int]:
        counts = Counter(_buckets(self._samples, min(self._samples, default=0)))
        counts.update(self._counts)
        return counts

    def state(self) -> HistogramState:
        """All of it, as a message: `LatencyHistogram.of(state)` is the same histogram in another process."""
        if not self._is_exact:
            self._count_samples()
        return HistogramState(
            name=self.name,
            capacity=self._capacity,
            gate=self._gate,
            count=self.count,
            min_ns=self.min_ns,
            max_ns=self.max_ns,
            overflow=self._overflow,
            inferred=self._inferred,
            expected_interval_ns=self.expected_interval_ns,
            samples=tuple(self._samples),
            buckets=tuple(sorted(self._counts.items())),
        )

    @classmethod
    def of(cls, state: HistogramState) -> Self:
        """The histogram that `state()` was asked of."""
        histogram = cls(
            state.name,
            capacity=state.capacity,
            gate=state.gate,
            expected_interval_ns=state.expected_interval_ns,
        )
        histogram._overflow = state.overflow
        histogram._inferred = state.inferred
        histogram._samples = list(state.samples)
        if state.buckets:
            histogram._count_samples()
            histogram._count(dict(state.buckets), state.count, state.min_ns, state.max_ns)
        elif state.overflow:
            histogram._stretch(state.min_ns, state.max_ns)
        return histogram

    # -- telling ------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, object]:
        """The figures, in milliseconds; of a gate that is not valid the percentiles are None."""
        percentiles = {f"{title}_ms": self._at(p) / 1e6 if self.is_valid else None for title, p in _REPORTED}
        return {
            "name": self.name,
            "count": self.count,
            "retained": self.retained,
            "overflow_dropped": self._overflow,
            "inferred": self._inferred,
            "is_exact": self._is_exact,
            "is_valid": self.is_valid,
            "min_ms": self.min_ns / 1e6,
            **percentiles,
            "max_ms": self.max_ns / 1e6,
        }

    def report(self) -> str:
        """The figures in one line."""
        if not self.count:
            return f"{self.name}: no samples"
        extremes = f"min {self.min_ns / 1e6:.3f} ms, max {self.max_ns / 1e6:.3f} ms"
        if not self.is_valid:
            return f"{self.name}: INVALID, {self._overflown()}; {extremes}"
        how = "exact" if self._is_exact else f"within {WORST_ERROR:.2%}"
        figures = ", ".join(f"{title} {self._at(p) / 1e6:.3f} ms" for title, p in _REPORTED)
        inferred = f", {self._inferred:,} of them inferred" if self._inferred else ""
        return f"{self.name}: {self.count:,} samples{inferred}, {how}: {figures}; {extremes}"

    def _overflown(self) -> str:
        return (
            f"{self._overflow:,} of {self.count:,} samples did not fit the gate {self.name!r}, which holds "
            f"{self._capacity:,}; give it a capacity of at least {self.count:,}"
        )


def _buckets(samples: Sequence[int], least_ns: int) -> Iterable[int]:
    """The bucket of each sample, the least of which is known."""
    if least_ns < 0:
        return map(_bucket, samples)
    # The same once more, without a call and with numbers for names: they would be two thirds of what a sample costs.
    return [(shift << 6) + (ns >> shift) if (shift := ns.bit_length() - 7) > 0 else ns for ns in samples]


def _buckets_of_series(ns: int, count: int, interval_ns: int) -> Mapping[int, int]:
    """How many of ns, ns + interval ... fall into each bucket: a step per bucket, for an hour has many intervals."""
    counts = {}
    while count:
        bucket = _bucket(ns)
        counts[bucket] = min(count, -(-(_lowest(bucket + 1) - ns) // interval_ns))
        count -= counts[bucket]
        ns += counts[bucket] * interval_ns
    return counts


def _rank(p: float, total: int) -> int:
    """ceil(p * total) in whole numbers, of `p` as it is written: of 0.07 and 100 it is 7, where floats say 8."""
    if p <= 0 or p >= 1:
        return 1 if p <= 0 else total
    above, below = Decimal(repr(float(p))).as_integer_ratio()
    return min(max(-(-above * total // below), 1), total)


def _bucket(ns: int) -> int:
    """The number of the bucket of a value; numbers go up as values do, those of negative values are negative."""
    if ns >= _PER_OCTAVE:
        shift = ns.bit_length() - _BITS - 1
        return (shift << _BITS) + (ns >> shift)
    return ns if ns >= 0 else -1 - _bucket(-ns)


def _lowest(bucket: int) -> int:
    """The least value of a bucket of values that are not negative."""
    shift = max(0, (bucket >> _BITS) - 1)
    return (bucket - (shift << _BITS)) << shift


def _middle(bucket: int) -> int:
    """The value that stands for all values of a bucket."""
    if bucket < 0:
        return -_middle(-1 - bucket)
    return (_lowest(bucket) + _lowest(bucket + 1) - 1) // 2


def _checked(ns: int) -> int:
    return int(whole("record() ns", ns, least=ns))
