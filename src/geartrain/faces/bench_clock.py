"""`geartrain bench clock`: a storm through a real pipeline, what came of it as a table, as JSON and as a picture.

    plan ---> a pipeline of two processes ---> StormFacts ---> verdicts, clock.json, clock.svg

With `knee`, the same at higher and higher rates, until reactions take longer than they may.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from msgspec import Struct

from geartrain.engine.pipeline import Pipeline, run
from geartrain.errors import GeartrainError
from geartrain.faces.looks import in_columns
from geartrain.faces.storm import StormFold, StormSource
from geartrain.rules.histogram import HistogramState, LatencyHistogram
from geartrain.rules.pipeline import Backend
from geartrain.rules.plots import Axis, Guide, Line, Plot, Tick, svg
from geartrain.rules.storm import StormFacts, StormGate, StormPlan, Verdict, digest_of, verdicts

# Where reactions have gone up to this, the rate is beyond the knee.
KNEE_P99_NS = 10_000_000

# Each rate of a knee is twice the last one, for so long.
_KNEE_S = 4.0
_MOST_RATES = 12

_FRACTIONS = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)
_LATENCIES_MS = (0.01, 0.1, 1.0, 10.0, 100.0)


class Measured(Struct, frozen=True, kw_only=True):
    """One storm, and what is to be said of it."""

    plan: StormPlan
    backend: Backend
    gate: StormGate
    digest: str
    facts: StormFacts
    verdicts: tuple[Verdict, ...]

    @property
    def held(self) -> bool:
        return all(verdict.held for verdict in self.verdicts)


class Rate(Struct, frozen=True, kw_only=True):
    """One point of a knee."""

    offered: float
    done: float
    reaction_p50_ns: int
    reaction_p99_ns: int


class NotMeasured(GeartrainError):
    """The storm ended without a report."""


def measured(plan: StormPlan, backend: Backend, gate: StormGate) -> Measured:
    """Run a storm in processes of its own."""
    draw = random.Random(plan.seed).randrange
    digest = digest_of(plan, draw)
    facts = _run(plan, backend)
    return Measured(
        plan=plan, backend=backend, gate=gate, digest=digest, facts=facts, verdicts=verdicts(facts, plan, digest, gate)
    )


def _run(plan: StormPlan, backend: Backend) -> StormFacts:
    with TemporaryDirectory(prefix="geartrain-storm-") as folder:
        report = Path(folder) / "facts.json"
        run(pipeline_of(plan, backend, report))
        if not report.exists():
            raise NotMeasured("the storm has ended and its consumer has written no report")
        return msgspec.json.decode(report.read_bytes(), type=StormFacts)


def pipeline_of(plan: StormPlan, backend: Backend, report: Path) -> Pipeline:
    pipeline = Pipeline("storm", backend, spares=0)
    source = pipeline.add(StormSource, name="source", config={"plan": plan})
    fold = pipeline.add(StormFold, name="fold", config={"plan": plan, "report": str(report)})
    pipeline.connect(source.out, fold.events, maxsize=1024)
    return pipeline


def knee(plan: StormPlan, backend: Backend) -> Iterator[Rate]:
    """Rate after rate, each twice the last, up to the first whose reactions are beyond the knee."""
    for doublings in range(_MOST_RATES):
        every_ns = max(1, plan.every_ns >> doublings)
        rate = plan.burst / (every_ns / 1e9)
        facts = _run(msgspec.structs.replace(plan, every_ns=every_ns, events=int(rate * _KNEE_S)), backend)
        point = Rate(
            offered=rate,
            done=facts.events / facts.took_s,
            reaction_p50_ns=_percentile(facts.from_due, 0.5),
            reaction_p99_ns=_percentile(facts.from_due, 0.99),
        )
        yield point
        if point.reaction_p99_ns > KNEE_P99_NS:
            return


def _percentile(state: HistogramState, p: float) -> int:
    return LatencyHistogram.of(state).percentile_ns(p)


# -- as text ----------------------------------------------------------------------------------------------------------


def in_words(one: Measured) -> str:
    plan = one.plan
    head = (
        f"{plan.events:,} events, {plan.burst} every {plan.every_ns / 1e6:g} ms ({plan.rate:,.0f}/s), "
        f"{plan.deadlines:,} deadlines, seed {plan.seed}, sequence {one.digest}, {one.backend}\n\n"
    )
    rows = [_row(state) for state in (one.facts.reaction, one.facts.from_due, one.facts.lateness)]
    table = in_columns(("MS", "COUNT", "P50", "P90", "P99", "P99.9", "MAX"), rows)
    held = in_columns(
        ("WANTED", "FOUND", "HELD"),
        [(verdict.wanted, verdict.found, "yes" if verdict.held else "NO") for verdict in one.verdicts],
    )
    return f"{head}{table}\n{held}"


def _row(state: HistogramState) -> tuple[str, ...]:
    histogram = LatencyHistogram.of(state)
    if not histogram.is_valid:
        return (state.name, f"{histogram.count:,}", *("INVALID",) * 4, _in_ms(histogram.max_ns))
    figures = (*(histogram.percentile_ns(p) for p in (0.5, 0.9, 0.99, 0.999)), histogram.max_ns)
    return (state.name, f"{histogram.count:,}", *map(_in_ms, figures))


def rates_in_words(rates: Sequence[Rate]) -> str:
    rows = [
        (f"{rate.offered:,.0f}", f"{rate.done:,.0f}", _in_ms(rate.reaction_p50_ns), _in_ms(rate.reaction_p99_ns))
        for rate in rates
    ]
    return in_columns(("OFFERED/S", "DONE/S", "P50 MS", "P99 MS"), rows)


def _in_ms(ns: int) -> str:
    return f"{ns / 1e6:.3f}"


# -- as files ---------------------------------------------------------------------------------------------------------


def write(folder: Path, one: Measured, rates: Sequence[Rate]) -> tuple[Path, ...]:
    """All of it as JSON, and the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    said: dict[Path, bytes] = {
        folder / "clock.json": msgspec.json.format(msgspec.json.encode(as_data(one, rates))),
        folder / "clock.svg": svg(distributions(one)).encode(),
    }
    if rates:
        said[folder / "knee.svg"] = svg(knee_curve(rates)).encode()
    for path, text in said.items():
        path.write_bytes(text)
    return tuple(said)


def as_data(one: Measured, rates: Sequence[Rate]) -> dict[str, Any]:
    """All of it, with each histogram as its figures."""
    facts = msgspec.structs.asdict(one.facts) | {
        name: LatencyHistogram.of(getattr(one.facts, name)).to_dict() for name in ("reaction", "from_due", "lateness")
    }
    return {**msgspec.structs.asdict(one), "facts": facts, "held": one.held, "knee": list(rates)}


def distributions(one: Measured) -> Plot:
    """How long things took, from the median to the rarest: an axis that gives the tail its room."""
    return Plot(
        title=f"{one.plan.rate:,.0f} events/s and {one.plan.deadlines:,} deadlines, {one.backend}",
        x=Axis("of all samples", tuple(Tick(_depth(p), f"{100 * p:g} %") for p in _FRACTIONS), logarithmic=True),
        y=_milliseconds(),
        lines=tuple(
            Line(state.name, _points(state)) for state in (one.facts.reaction, one.facts.from_due, one.facts.lateness)
        ),
        guides=(
            Guide(f"reaction p99 wanted: {one.gate.reaction_p99_ns / 1e6:g} ms", one.gate.reaction_p99_ns / 1e6),
            Guide(f"lateness p99 wanted: {one.gate.lateness_p99_ns / 1e6:g} ms", one.gate.lateness_p99_ns / 1e6),
        ),
    )


def _milliseconds() -> Axis:
    return Axis("milliseconds", tuple(Tick(ms, f"{ms:g}") for ms in _LATENCIES_MS), logarithmic=True)


def _depth(p: float) -> float:
    """How many samples one would look at to see one beyond it: each nine is as wide as the last."""
    return 1 / (1 - p)


def _points(state: HistogramState) -> tuple[tuple[float, float], ...]:
    histogram = LatencyHistogram.of(state)
    if not histogram.is_valid or not histogram.count:
        return ()
    fractions = [1 - 10 ** (-step / 10) for step in range(41)]
    return tuple((_depth(p), histogram.percentile_ns(p) / 1e6) for p in fractions)


def knee_curve(rates: Sequence[Rate]) -> Plot:
    return Plot(
        title="reaction from the moment an event was due, at higher and higher rates",
        x=Axis(
            "events per second, offered",
            tuple(Tick(rate.offered, f"{rate.offered:,.0f}") for rate in rates),
            logarithmic=True,
        ),
        y=_milliseconds(),
        lines=tuple(Line(name, tuple((rate.offered, ns(rate) / 1e6) for rate in rates)) for name, ns in _LINES),
        guides=(Guide(f"the knee: p99 of {KNEE_P99_NS / 1e6:g} ms", KNEE_P99_NS / 1e6),),
    )


_LINES: tuple[tuple[str, Callable[[Rate], int]], ...] = (
    ("p50", lambda rate: rate.reaction_p50_ns),
    ("p99", lambda rate: rate.reaction_p99_ns),
)
