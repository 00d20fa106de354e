"""Every figure there is: what is measured, on which loop, and what is wanted of it.

Both sides of a figure are commands, each run in a process of its own, or in two where something goes between two
processes; a figure is for reading, and bars no gate. What has no peer is held against a limit alone.
"""

from collections.abc import Iterator, Sequence
from shutil import which

from msgspec import Struct

LOOPS = ("asyncio", "trio")
PEER = "chrono_daemon"
LEASES_PEER = "dos_kernel"


class RatioAtLeast(Struct, frozen=True, tag=True):
    """Wanted: geartrain's median is at least so many times the peer's."""

    least: float

    def __str__(self) -> str:
        return f"ratio >= {self.least}"

    def held_by(self, geartrain: float, peer: float | None) -> bool:
        assert peer is not None
        return geartrain >= self.least * peer


class RatioAtMost(Struct, frozen=True, tag=True):
    """Wanted: geartrain's median is at most so many times the peer's."""

    most: float

    def __str__(self) -> str:
        return f"ratio <= {self.most:.3g}"

    def held_by(self, geartrain: float, peer: float | None) -> bool:
        assert peer is not None
        return geartrain <= self.most * peer


class MedianBelow(Struct, frozen=True, tag=True):
    """Wanted: geartrain's median is below this, whatever the peer does, if there is one."""

    limit: float

    def __str__(self) -> str:
        return f"< {self.limit:.3g}"

    def held_by(self, geartrain: float, peer: float | None) -> bool:
        return geartrain < self.limit


class MedianAbove(Struct, frozen=True, tag=True):
    """Wanted: geartrain's median is above this, whatever the peer does, if there is one."""

    limit: float

    def __str__(self) -> str:
        return f"> {self.limit:,.0f}"

    def held_by(self, geartrain: float, peer: float | None) -> bool:
        return geartrain > self.limit


class BelowAndRatioAtMost(Struct, frozen=True, tag=True):
    """Wanted: both of these."""

    limit: float
    most: float

    def __str__(self) -> str:
        return f"< {self.limit:.3g}, <= {self.most}"

    def held_by(self, geartrain: float, peer: float | None) -> bool:
        assert peer is not None
        return geartrain < self.limit and geartrain <= self.most * peer


class Job(Struct, frozen=True):
    """A script of this folder and its arguments. Run, it prints one number.

    Where `beside` is not None, a second process runs the script with those arguments meanwhile, and the two are told,
    by an argument more, a folder of their own to meet in.
    """

    script: str
    arguments: tuple[str, ...]
    beside: tuple[str, ...] | None = None


class Figure(Struct, frozen=True):
    """What geartrain is to do, and the peer it is held against, if there is one."""

    what: str
    loop: str
    unit: str
    rounds: int
    geartrain: Job
    peer: Job | None
    wanted: RatioAtLeast | RatioAtMost | MedianBelow | MedianAbove | BelowAndRatioAtMost | None

    @property
    def title(self) -> str:
        return f"{self.what}, {self.loop}"


class Effort(Struct, frozen=True):
    """How much time the figures may take."""

    rounds: int
    seconds: float
    import_rounds: int
    remote_rounds: int
    remote_seconds: float
    cost_rounds: int
    cost_seconds: float
    many_channels: int
    pairs: int
    late_rounds: int
    late_seconds: float
    cycles_seconds: float


FULL = Effort(
    rounds=7,
    seconds=0.3,
    import_rounds=15,
    remote_rounds=5,
    remote_seconds=1.0,
    cost_rounds=3,
    cost_seconds=5.0,
    many_channels=1000,
    pairs=21,
    late_rounds=3,
    late_seconds=6.0,
    cycles_seconds=60.0,
)
QUICK = Effort(
    rounds=2,
    seconds=0.05,
    import_rounds=3,
    remote_rounds=1,
    remote_seconds=0.1,
    cost_rounds=1,
    cost_seconds=1.0,
    many_channels=100,
    pairs=3,
    late_rounds=1,
    late_seconds=1.0,
    cycles_seconds=1.0,
)


def all_figures(effort: Effort) -> tuple[Figure, ...]:
    alone = (
        *_channels(effort),
        *_sleepers(effort),
        *_simulations(effort),
        *_simulations_across(effort),
        *_cycles(effort),
    )
    in_process = (*alone, *_imports(effort), *_deadlines(effort))
    between = (*_one_way(effort), *_round_trips(effort), *_payloads(effort))
    whole = (*_pipelines(effort), *_observing(effort), *_shown(effort), *_journal(effort), *_leases(effort))
    return (*in_process, *between, *_growth(effort), *_many_channels(effort), *whole)


def _channels(effort: Effort) -> Iterator[Figure]:
    for maxsize, least in ((0, 1.0), (1, 1.0), (64, 5.0)):
        for loop in LOOPS:
            yield Figure(
                what=f"channel of maxsize {maxsize}: items",
                loop=loop,
                unit="/s",
                rounds=effort.rounds,
                geartrain=_work(f"channel-{maxsize}", "geartrain", "anyio.run", loop, effort),
                peer=_work(f"channel-{maxsize}", PEER, "anyio.run", loop, effort),
                wanted=RatioAtLeast(least),
            )


def _sleepers(effort: Effort) -> Iterator[Figure]:
    for runner, least in (("simulate", 3.0), ("anyio.run", 2.0)):
        for loop in LOOPS:
            yield Figure(
                what=f"SimClock in {runner}: wake-ups of 100 sleepers",
                loop=loop,
                unit="/s",
                rounds=effort.rounds,
                geartrain=_work("sleep", "geartrain", runner, loop, effort),
                peer=_work("sleep", PEER, "anyio.run", loop, effort),
                wanted=RatioAtLeast(least),
            )


def _simulations(effort: Effort) -> Iterator[Figure]:
    """Whole pipelines in virtual time with microsteps, in one process."""
    for shape, what, unit, wanted in (
        ("sleepers", "100 daemons that sleep: wake-ups", "/s", 50_000.0),
        ("chain", "a chain of 40, maxsize 8: items handed on", "/s", 50_000.0),
        ("meetings", "a chain of 40, rendezvous: items handed on", "/s", 50_000.0),
        ("ring", "a ring of 100, maxsize 8: items handed on", "/s", 50_000.0),
        ("control", "the control example: times real time", "x", 500.0),
    ):
        for loop in LOOPS:
            yield Figure(
                what=f"a simulation of {what}",
                loop=loop,
                unit=unit,
                rounds=effort.cost_rounds,
                geartrain=Job("simulations.py", (shape, loop, str(effort.seconds * 3))),
                peer=None,
                wanted=MedianAbove(wanted),
            )


def _simulations_across(effort: Effort) -> Iterator[Figure]:
    """Virtual time over many processes, all of them active in every microstep."""
    for processes, wanted in ((2, 4_000.0), (4, 3_000.0)):
        for loop in LOOPS:
            yield Figure(
                what=f"virtual time over {processes} processes, all active: microsteps",
                loop=loop,
                unit="/s",
                rounds=effort.cost_rounds,
                geartrain=Job("simulations_across.py", (str(processes), loop, str(effort.seconds * 3))),
                peer=None,
                wanted=MedianAbove(wanted),
            )


def _cycles(effort: Effort) -> Iterator[Figure]:
    """What the hooks of an observer cost where there is none: both sides are geartrain."""
    for loop in LOOPS:
        yield Figure(
            what="every() unobserved (peer: own wait_until())",
            loop=loop,
            unit="/s",
            rounds=effort.rounds,
            geartrain=_work("every", "geartrain", "simulate", loop, effort),
            peer=_work("wait_until", "geartrain", "simulate", loop, effort),
            wanted=None,
        )


def _deadlines(effort: Effort) -> Iterator[Figure]:
    """How late things are, held against the loop's own timers, and what they cost."""
    for percent, wanted in (("50", BelowAndRatioAtMost(0.12, 0.25)), ("99", MedianBelow(1.0))):
        for loop in LOOPS:
            yield Figure(
                what=f"5,000 deadlines, a storm: late, p{percent} (peer: loop)",
                loop=loop,
                unit="ms",
                rounds=effort.late_rounds,
                geartrain=_deadline("late", "geartrain", loop, effort.late_seconds, percent),
                peer=_deadline("late", "loop", loop, effort.late_seconds, percent),
                wanted=wanted,
            )
    for loop in LOOPS:
        yield Figure(
            what="every() at 1 kHz: late, p50 (peer: loop)",
            loop=loop,
            unit="us",
            rounds=1,
            geartrain=_deadline("every", "geartrain", loop, effort.cycles_seconds, "50"),
            peer=_deadline("every", "loop", loop, effort.late_seconds, "50"),
            wanted=MedianBelow(100.0),
        )
    for what, unit, work, limit, loops in (
        ("a deadline, in and out of 100,000", "us", "insert", 3.0, LOOPS),
        ("a sample of a histogram", "ns", "record", 300.0, ("-",)),
        ("an idle scheduler: wake-ups", "", "idle", 0.5, LOOPS),
    ):
        for loop in loops:
            yield Figure(
                what=what,
                loop=loop,
                unit=unit,
                rounds=effort.cost_rounds,
                geartrain=_deadline(work, "geartrain", loop.replace("-", "asyncio"), effort.cost_seconds / 2, "0"),
                peer=None,
                wanted=MedianBelow(limit),
            )


def _deadline(work: str, library: str, loop: str, seconds: float, percent: str) -> Job:
    return Job("deadlines.py", (work, library, loop, str(seconds), percent))


def _imports(effort: Effort) -> Iterator[Figure]:
    yield Figure(
        what="a bare import",
        loop="-",
        unit="ms",
        rounds=effort.import_rounds,
        geartrain=_imported("import geartrain"),
        peer=_imported(f"import {PEER}"),
        wanted=MedianBelow(10),
    )
    names = "Supervisor, SimClock, open_channel"
    yield Figure(
        what="three names imported after anyio",
        loop="-",
        unit="ms",
        rounds=effort.import_rounds,
        geartrain=_imported("import anyio", f"from geartrain import {names}"),
        peer=_imported("import anyio", f"from {PEER} import {names}"),
        wanted=MedianBelow(60),
    )


def _one_way(effort: Effort) -> Iterator[Figure]:
    raw = _raw("read", "write", "small", effort)
    for maxsize, of_raw, of_peer in ((64, None, 4.0), (256, 0.5, 8.0), (1024, 0.8, 12.0)):
        peer = _between("read", "write", PEER, "asyncio", maxsize, "reading", effort)
        for name, job, least in (("raw ZeroMQ", raw, of_raw), (PEER, peer, of_peer)):
            for loop in LOOPS:
                yield Figure(
                    what=f"ipc, maxsize {maxsize}: items (peer: {name})",
                    loop=loop,
                    unit="/s",
                    rounds=effort.remote_rounds,
                    geartrain=_between("read", "write", "geartrain", loop, maxsize, "reading", effort),
                    peer=job,
                    wanted=None if least is None else RatioAtLeast(least),
                )


def _round_trips(effort: Effort) -> Iterator[Figure]:
    for loop in LOOPS:
        yield Figure(
            what="ipc, two CPUs: round trip (peer: raw ZeroMQ)",
            loop=loop,
            unit="us",
            rounds=effort.remote_rounds,
            geartrain=_between("ask", "answer", "geartrain", loop, 64, "reading", effort),
            peer=_raw("ask", "answer", "small", effort),
            wanted=RatioAtMost(1.8),
        )


def _payloads(effort: Effort) -> Iterator[Figure]:
    for kind in ("bytes", "memoryview"):
        for loop in LOOPS:
            yield Figure(
                what=f"ipc, maxsize 8: 1 MiB {kind} (peer: raw ZeroMQ)",
                loop=loop,
                unit="/s",
                rounds=effort.remote_rounds,
                geartrain=_between("read", "write", "geartrain", loop, 8, kind, effort),
                peer=_raw("read", "write", "large", effort),
                wanted=RatioAtLeast(1.1),
            )


def _growth(effort: Effort) -> Iterator[Figure]:
    """Wanted: no more than the window holds, and 8 MB."""
    for maxsize, item_bytes, size in ((8, 1_000_000, "1 MB"), (1024, 48, "48 B")):
        for loop in LOOPS:
            yield Figure(
                what=f"ipc, slow reader, {maxsize} x {size}: writer grows",
                loop=loop,
                unit="MB",
                rounds=effort.cost_rounds,
                geartrain=_cost("growth", "slow-reader", loop, maxsize, item_bytes, effort),
                peer=None,
                wanted=MedianBelow(maxsize * item_bytes / 1e6 + 8),
            )


def _many_channels(effort: Effort) -> Iterator[Figure]:
    for what, unit, role, limit in (
        ("open and connected in", "s", "opening", 5.0),
        ("idle, CPU of both processes", "%", "idleness", 2.0),
    ):
        for loop in LOOPS:
            yield Figure(
                what=f"ipc, {effort.many_channels} channels: {what}",
                loop=loop,
                unit=unit,
                rounds=effort.cost_rounds,
                # Two of the beats of an idle channel, and not the first.
                geartrain=_cost(role, "far-side", loop, effort.many_channels, 0, effort, seconds=20),
                peer=None,
                wanted=MedianBelow(limit),
            )


def _pipelines(effort: Effort) -> Iterator[Figure]:
    """Of whole pipelines: what a start, a death and a stop take, and what it costs to be supervised."""
    many = effort.many_channels
    for what, unit, role, amount, limit in (
        ("SIGKILL to the next life's first item, a warm spare", "ms", "restart", 1, 50.0),
        ("SIGKILL to the next life's first item, no spare", "ms", "restart", 0, 250.0),
        ("4 processes, start to first item", "ms", "first", 4, 600.0),
        ("50 processes, start to first item", "ms", "first", 50, 10_000.0),
        ("4 processes, stop", "s", "stop", 4, 2.0),
        (f"{many} daemons in 4 processes, up", "s", "up", many, 5.0),
        (f"{many} daemons in 4 processes, down", "s", "down", many, 3.0),
        (f"{many} daemons in 4 processes, idle CPU", "%", "idle", many, 3.0),
    ):
        for loop in LOOPS:
            yield Figure(
                what=f"pipeline: {what}",
                loop=loop,
                unit=unit,
                rounds=effort.cost_rounds,
                geartrain=_pipeline(role, loop, amount),
                peer=None,
                wanted=MedianBelow(limit),
            )
    for loop in LOOPS:
        yield Figure(
            what="pipeline: items at maxsize 256 (peer: the same, unsupervised)",
            loop=loop,
            unit="/s",
            rounds=effort.pairs,
            geartrain=_pipeline("flow", loop, effort.remote_seconds),
            peer=_between("read", "write", "geartrain", loop, 256, "reading", effort),
            wanted=RatioAtLeast(0.97),
        )


def _observing(effort: Effort) -> Iterator[Figure]:
    """What it costs to be looked at, and to look."""
    for what, unit, role, amount, limit in (
        ("start, stop and report of a cycle", "us", "hooks", 100_000, 2.0),
        ("1,000 slots, read", "ms", "read", 1000, 5.0),
    ):
        yield Figure(
            what=f"observing: {what}",
            loop="-",
            unit=unit,
            rounds=effort.rounds,
            geartrain=Job("observing.py", (role, str(amount))),
            peer=None,
            wanted=MedianBelow(limit),
        )
    for loop in LOOPS:
        yield Figure(
            what="observing: items at maxsize 256, beside an observer (peer: without one)",
            loop=loop,
            unit="/s",
            rounds=effort.pairs,
            geartrain=_pipeline("watched", loop, effort.remote_seconds),
            peer=_pipeline("alone", loop, effort.remote_seconds),
            wanted=RatioAtLeast(0.97),
        )


def _shown(effort: Effort) -> Iterator[Figure]:
    """What it costs to be shown over HTTP, and how soon a death is seen there. Peers are runs at which nobody looks."""
    for loop in LOOPS:
        yield Figure(
            what="gateway: a SIGKILL until it can be read at /api/v1/faults",
            loop=loop,
            unit="ms",
            rounds=effort.late_rounds,
            geartrain=Job("gateway.py", ("killed", loop, "5")),
            peer=None,
            wanted=MedianBelow(500.0),
        )
        for what, role in (("20 streams and 50 requests/s", "asked"), ("the observer stopped", "frozen")):
            yield Figure(
                what=f"gateway: p99 between cycles at 1 kHz, {what} (peer: nobody looks)",
                loop=loop,
                unit="ms",
                rounds=effort.late_rounds,
                geartrain=Job("gateway.py", (role, loop, str(effort.late_seconds))),
                peer=Job("gateway.py", ("quiet", loop, str(effort.late_seconds))),
                wanted=RatioAtMost(1.25),
            )


def _journal(effort: Effort) -> Iterator[Figure]:
    """On the disk under the folder for temporary files: of one machine, with nothing replicated."""
    many = 1_000_000
    for loop in LOOPS:
        yield Figure(
            what="journal: durable records, 64 outstanding",
            loop=loop,
            unit="/s",
            rounds=effort.cost_rounds,
            geartrain=_records("outstanding", loop, 64, effort),
            peer=None,
            wanted=MedianAbove(20_000),
        )
    yield Figure(
        what=f"journal: a durable record after {many:,} (peer: 0)",
        loop="-",
        unit="us",
        rounds=effort.rounds,
        geartrain=_records("single", "-", many, effort),
        peer=_records("single", "-", 0, effort),
        wanted=RatioAtMost(1.15),
    )
    yield Figure(
        what=f"journal: {many:,} records checked and read again",
        loop="-",
        unit="/s",
        rounds=effort.cost_rounds,
        geartrain=_records("recovery", "-", many, effort),
        peer=None,
        wanted=MedianAbove(200_000),
    )


def _leases(effort: Effort) -> Iterator[Figure]:
    """Through an arbiter beside it, durable on one disk of one machine: what systems that replicate tell is another
    thing. Where a peer is named it is that one's own library, durable too, on the same disk in turn.
    """
    many = 1_000_000
    for loop in LOOPS:
        yield Figure(
            what="lease: acquire and release, durable",
            loop=loop,
            unit="us",
            rounds=effort.rounds,
            geartrain=_held("pair", loop, 0, effort),
            peer=None,
            wanted=MedianBelow(800.0),
        )
    for behind, most in ((0, 1 / 2.5), (1000, 1 / 20), (5000, 1 / 100)):
        yield Figure(
            what=f"lease: a pair after {behind:,} records (peer: {LEASES_PEER})",
            loop="asyncio",
            unit="us",
            rounds=effort.cost_rounds,
            geartrain=_held("pair", "asyncio", behind, effort),
            peer=Job("leases.py", ("pair", LEASES_PEER, "-", str(behind), str(effort.remote_seconds))),
            wanted=RatioAtMost(most),
        )
    yield Figure(
        what=f"lease: a pair after {many:,} records (peer: after 0)",
        loop="asyncio",
        unit="us",
        rounds=effort.rounds,
        geartrain=_held("pair", "asyncio", many, effort),
        peer=_held("pair", "asyncio", 0, effort),
        wanted=RatioAtMost(1.15),
    )
    for what, role, least in (
        ("durable grants, 64 outstanding", "grant", 20_000),
        ("durable grants and releases, 64 outstanding", "turn", None),
        ("blocks of hold(), 64 tasks", "hold", None),
        ("keep-alives, 64 outstanding", "renew", 30_000),
    ):
        for loop in LOOPS:
            yield Figure(
                what=f"lease: {what}",
                loop=loop,
                unit="/s",
                rounds=effort.cost_rounds,
                geartrain=_held(role, loop, 0, effort),
                peer=None,
                wanted=None if least is None else MedianAbove(least),
            )
    for loop in LOOPS:
        yield Figure(
            what="lease: from a release to who waits",
            loop=loop,
            unit="us",
            rounds=effort.cost_rounds,
            geartrain=_held("hand_over", loop, 0, effort),
            peer=None,
            wanted=MedianBelow(1000.0),
        )
    for what, unit, role, count, wanted in (
        ("a decision among 10,000", "us", "decision", 10_000, MedianBelow(10.0)),
        ("300,000 records understood again", "/s", "recovery", 300_000, MedianAbove(200_000)),
    ):
        yield Figure(
            what=f"lease: {what}",
            loop="-",
            unit=unit,
            rounds=effort.cost_rounds,
            geartrain=Job("leases.py", (role, "geartrain", "-", str(count), str(effort.remote_seconds))),
            peer=None,
            wanted=wanted,
        )

    # With its own syncs and no more than one member: what several cost comes on top of it.
    if which("etcd"):
        yield Figure(
            what="lease: a pair, kept in etcd (peer: in files)",
            loop="asyncio",
            unit="us",
            rounds=effort.cost_rounds,
            geartrain=Job("leases.py", ("kept", "geartrain", "etcd", "0", str(effort.remote_seconds))),
            peer=Job("leases.py", ("kept", "geartrain", "files", "0", str(effort.remote_seconds))),
            wanted=None,
        )


def _held(role: str, loop: str, behind: int, effort: Effort) -> Job:
    arguments = ("geartrain", loop, str(behind), str(effort.remote_seconds))
    return Job("leases.py", (role, *arguments), ("arbiter", *arguments))


def _records(role: str, loop: str, count: int, effort: Effort) -> Job:
    return Job("journal.py", (role, loop, str(count), str(effort.remote_seconds)))


def _pipeline(role: str, loop: str, amount: float) -> Job:
    return Job("pipelines.py", (role, loop, str(amount)))


def _between(role: str, beside: str, library: str, loop: str, maxsize: int, kind: str, effort: Effort) -> Job:
    arguments = (library, loop, str(maxsize), kind, str(effort.remote_seconds))
    return Job("between.py", (role, *arguments), (beside, *arguments))


def _raw(role: str, beside: str, size: str, effort: Effort) -> Job:
    arguments = (size, str(effort.remote_seconds))
    return Job("raw.py", (role, *arguments), (beside, *arguments))


def _cost(
    role: str, beside: str, loop: str, count: int, item_bytes: int, effort: Effort, seconds: float | None = None
) -> Job:
    arguments = (loop, str(count), str(item_bytes), str(seconds or effort.cost_seconds))
    return Job("costs.py", (role, *arguments), (beside, *arguments))


def _work(work: str, library: str, runner: str, loop: str, effort: Effort) -> Job:
    return Job("workload.py", (work, library, runner, loop, str(effort.seconds)))


def _imported(*statements: str) -> Job:
    return Job("cold_import.py", statements)


def chosen(figures: Sequence[Figure], substring: str) -> tuple[Figure, ...]:
    return tuple(figure for figure in figures if substring in figure.title)
