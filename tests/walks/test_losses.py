"""Pipelines whose processes are killed at random moments, one after another: nothing is lost, every repeat is marked.

A few kills each here; a hundred by `make soak`.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import anyio
import pytest

from geartrain import Pipeline, RestartPolicy
from geartrain.engine.launcher import Launcher
from geartrain.recipes import Merge, Tee, WorkerPool
from tests.walks.joined import Answerer, Asker, Careless, Counter, Join, Pairs, Poisoned
from tests.walks.ledger import Ledger
from tests.walks.parts import Middle, Sink, Source

PATIENCE_S = 30

Loop = Literal["asyncio", "trio"]

FOR_EVER = RestartPolicy(base=0.01, cap=0.05, max_retries=10_000)


@pytest.fixture(autouse=True)
def places_of_its_own(monkeypatch: pytest.MonkeyPatch, nothing_left: Callable[[], list[int]]) -> Iterator[None]:
    """Not below pytest's folder: the path of a socket must be short."""
    with TemporaryDirectory(prefix="gt-") as place:
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            monkeypatch.setenv(name, place)
        yield


class Plan:
    """A pipeline of so many items, in which everybody may die but its sources."""

    def __init__(self, loop: Loop, folder: Path, total: int) -> None:
        self.pipeline = Pipeline("losses", backend=loop)
        self.total = total
        self.ledgers: list[Ledger] = []
        self.spared = {"source"}
        self._folder = folder

    def source(self, pause_s: float = 0.002) -> Any:
        return self.pipeline.add(Source, name="source", config={"total": self.total, "pause_s": pause_s}).out

    def daemon(self, kind: Any, name: str, process: str | None = None, **config: object) -> Any:
        return self.pipeline.add(kind, name=name, process=process, on_error="restart", restart=FOR_EVER, config=config)

    def connect(self, writer: Any, reader: Any, **options: Any) -> None:
        self.pipeline.connect(writer, reader, **{"maxsize": 8, "max_deliveries": None} | options)

    def middle(self, before: Any, name: str, process: str | None = None) -> Any:
        middle = self.daemon(Middle, name, process)
        self.connect(before, middle.frames)
        return middle.out

    def sink(self, before: Any, name: str = "sink") -> None:
        place = self._folder / name
        place.mkdir()
        self.ledgers.append(Ledger(place))
        self.connect(before, self.daemon(Sink, name, ledger=str(self.ledgers[-1].path)).frames)

    async def survives(self, kills: int) -> Launcher:
        """Kills anybody at any moment. The ledgers are files, and outlive their sinks too."""
        order = random.Random(kills)
        launcher = Launcher(self.pipeline)

        async def kill_now_and_then() -> None:
            for _ in range(kills):
                await anyio.sleep(order.uniform(0.01, 0.4))
                victims = [node for name, node in launcher.present.items() if name not in self.spared]
                if victims:
                    order.choice(victims).kill(again=False)

        with anyio.fail_after(kills + PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill_now_and_then)
                await launcher.live()
                tasks.cancel_scope.cancel()
        return launcher


def a_chain(plan: Plan) -> None:
    """Five stages; two of them share a process, which is on the other loop."""
    before = plan.middle(plan.source(), "first")
    before = plan.middle(before, "second", "pair")
    plan.sink(plan.middle(before, "third", "pair"))
    plan.pipeline.process("pair", backend="trio" if plan.pipeline.spec.backend == "asyncio" else "asyncio")


def a_tee(plan: Plan) -> None:
    tee = plan.daemon(Tee, "tee")
    plan.connect(plan.middle(plan.source(), "first"), tee.source)
    for way in ("left", "right"):
        middle = plan.daemon(Middle, way)
        plan.connect(tee.dests, middle.frames)
        plan.sink(middle.out, f"{way}-sink")


def a_merge(plan: Plan) -> None:
    """Two sources, one of the even numbers and one of the odd ones."""
    merge = plan.daemon(Merge, "merge")
    for first, way in enumerate(("evens", "odds")):
        config = {"first": first, "step": 2, "total": plan.total, "pause_s": 0.004}
        source = plan.pipeline.add(Counter, name=way, config=config)
        plan.spared.add(way)
        plan.connect(plan.middle(source.out, f"{way}-middle"), merge.sources)
    plan.sink(plan.middle(merge.dest, "last"))
    plan.ledgers[-1].streams = 2


def _parted(plan: Plan, joins: Any, **options: Any) -> None:
    """One stream goes two ways, which meet again."""
    tee, join = plan.daemon(Tee, "tee"), plan.daemon(joins, "join")
    plan.connect(plan.source(), tee.source)
    for way in ("left", "right"):
        middle = plan.daemon(Middle, way)
        plan.connect(tee.dests, middle.frames)
        plan.connect(middle.out, f"join.{way}", **options)
    plan.sink(join.out)


def a_windowed_join(plan: Plan) -> None:
    _parted(plan, Join, ack="manual")


def a_join_in_steps(plan: Plan) -> None:
    _parted(plan, Pairs)


def requests_and_replies(plan: Plan) -> None:
    asker, answerer = plan.daemon(Asker, "asker"), plan.daemon(Answerer, "answerer")
    plan.connect(plan.middle(plan.source(), "first"), asker.frames)
    plan.connect(asker.requests, answerer.requests)
    plan.connect(answerer.replies, asker.replies, keep="taken")
    plan.sink(asker.out)


def a_pool(plan: Plan) -> None:
    pool = plan.daemon(WorkerPool, "pool", handle="tests.walks.joined:looked_at", workers=4)
    plan.connect(plan.middle(plan.source(), "first"), pool.incoming)
    plan.sink(plan.middle(pool.results, "last"))
    plan.ledgers[-1].in_order = False


SHAPES = [a_chain, a_tee, a_merge, a_windowed_join, a_join_in_steps, requests_and_replies, a_pool]
Shape = Callable[[Plan], None]


async def assert_nothing_is_lost(loop: Loop, folder: Path, shape: Shape, *, total: int, kills: int) -> None:
    plan = Plan(loop, folder, total)
    shape(plan)
    await plan.survives(kills)
    for ledger in plan.ledgers:
        ledger.assert_complete(total)


@pytest.mark.parametrize("shape", [a_chain, a_windowed_join, requests_and_replies, a_pool])
async def test_a_few_kills_lose_nothing(anyio_backend: Loop, tmp_path: Path, shape: Shape) -> None:
    await assert_nothing_is_lost(anyio_backend, tmp_path, shape, total=200, kills=3)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_hundred_kills_lose_nothing(anyio_backend: Loop, tmp_path: Path, shape: Shape) -> None:
    await assert_nothing_is_lost(anyio_backend, tmp_path, shape, total=15_000, kills=100)


def with_poison(plan: Plan, poison: Sequence[int]) -> None:
    """A daemon in the middle dies of some items, while the others are killed now and then."""
    middle = plan.daemon(Poisoned, "poisoned", poison=list(poison))
    plan.connect(plan.middle(plan.source(), "first"), middle.frames, max_deliveries=3)
    plan.sink(plan.middle(middle.out, "last"))
    plan.spared.add("poisoned")


async def assert_only_poison_is_missing(
    loop: Loop, folder: Path, *, total: int, poison: Sequence[int], kills: int
) -> None:
    plan = Plan(loop, folder, total)
    with_poison(plan, poison)
    await plan.survives(kills)
    plan.ledgers[0].assert_complete(total, but=poison)


async def test_a_poisonous_item_is_set_aside_and_all_others_arrive(anyio_backend: Loop, tmp_path: Path) -> None:
    await assert_only_poison_is_missing(anyio_backend, tmp_path, total=100, poison=[50], kills=1)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_many_poisonous_items_among_a_hundred_kills(anyio_backend: Loop, tmp_path: Path) -> None:
    poison = range(100, 10_000, 500)
    await assert_only_poison_is_missing(anyio_backend, tmp_path, total=15_000, poison=poison, kills=100)


async def test_what_died_with_a_source_is_counted_and_told_and_what_comes_again_is_not(
    anyio_backend: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = Plan(anyio_backend, tmp_path, 3)
    source = plan.daemon(Careless, "source", note=str(tmp_path / "note"))
    middle = plan.daemon(Middle, "middle", at=100, does="die")
    plan.connect(source.out, middle.frames, maxsize=64)
    plan.sink(middle.out)
    launcher = await plan.survives(kills=0)
    assert {number for number, _ in plan.ledgers[0].entries} == {0, 1, 2, 100}
    assert {standing.daemon: standing.lost for standing in launcher.roll.standings()} == {
        "source": 4,
        "middle": 0,
        "sink": 0,
    }
    assert "4 items that 'source' had sent into channel 'out' died with it" in caplog.messages
