"""Pipelines whose processes are killed at random moments, one after another: nothing is lost, every repeat is marked.

A few kills each here; a hundred by `make soak`.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.lowlevel
import pytest

from geartrain import Pipeline, RestartPolicy
from geartrain.engine.launcher import Launcher
from geartrain.recipes import Merge, Tee, WorkerPool
from geartrain.rules.lifecycle import OnError
from tests.walks.joined import Answerer, Asker, Careless, Counter, Join, Pairs, Poisoned
from tests.walks.ledger import Ledger
from tests.walks.parts import Middle, Sink, Source

PATIENCE_S = 30

Loop = Literal["asyncio", "trio"]

FOR_EVER = RestartPolicy(base=0.01, cap=0.05, max_retries=10_000)


class Plan:
    """A pipeline in which everybody may die but its sources, which go on until there was enough of it."""

    def __init__(self, loop: Loop, folder: Path) -> None:
        self.pipeline = Pipeline("losses", backend=loop)
        self.ledgers: list[Ledger] = []
        self.spared: list[str] = []
        self._folder = folder

    def source(self, name: str = "source", **config: object) -> Any:
        self.spared.append(name)
        config |= {"enough": str(self._folder / "enough"), "sent": str(self._folder / f"{name}.sent")}
        return self.pipeline.add(Counter, name=name, config=config).out

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

    async def survives(self, kills: int) -> set[int]:
        """Kills anybody at any moment. The answer is what was sent.

        The ledgers are files, and outlive their sinks. Most kills wait until something has arrived since the last, so
        that they hit a pipeline at work; the others come while it is still being mended.
        """
        order = random.Random(kills)
        launcher = Launcher(self.pipeline)
        with anyio.fail_after(4 * kills + PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(launcher.live)
                await self._progress()
                for _ in range(kills):
                    await anyio.sleep(order.uniform(0, 0.3))
                    victims = [node for name, node in launcher.present.items() if name not in self.spared]
                    order.choice(victims).kill(again=False)
                    if order.random() < 0.7:
                        await self._progress()
                await self._progress()
                (self._folder / "enough").touch()
        sent = (map(int, file.read_text().split()) for file in self._folder.glob("*.sent"))
        return {number for which in sent for number in range(*which)}

    async def _progress(self) -> None:
        """Return when something more has arrived everywhere."""
        for ledger in self.ledgers:
            before = len(ledger)
            while len(ledger) <= before:
                await anyio.sleep(0.005)


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
        plan.connect(plan.middle(plan.source(way, first=first, step=2), f"{way}-middle"), merge.sources)
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
    # While it waits for one side the other one fills up, with all that a tee that died sends again.
    _parted(plan, Pairs, maxsize=128)


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


async def assert_nothing_is_lost(loop: Loop, folder: Path, shape: Shape, *, kills: int) -> None:
    plan = Plan(loop, folder)
    shape(plan)
    sent = await plan.survives(kills)
    for ledger in plan.ledgers:
        ledger.assert_holds(sent)


# Each on one of the loops here, in turn; all shapes on both by `make soak`.
@pytest.mark.parametrize(
    ("anyio_backend", "shape"),
    [("asyncio", a_chain), ("trio", a_windowed_join), ("asyncio", requests_and_replies), ("trio", a_pool)],
)
async def test_a_few_kills_lose_nothing(anyio_backend: Loop, tmp_path: Path, shape: Shape) -> None:
    await assert_nothing_is_lost(anyio_backend, tmp_path, shape, kills=2)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_hundred_kills_lose_nothing(anyio_backend: Loop, tmp_path: Path, shape: Shape) -> None:
    await assert_nothing_is_lost(anyio_backend, tmp_path, shape, kills=100)


async def assert_only_poison_is_missing(loop: Loop, folder: Path, poison: Sequence[int], *, kills: int) -> None:
    """A daemon in the middle dies of some items, while the others are killed now and then."""
    plan = Plan(loop, folder)
    middle = plan.daemon(Poisoned, "poisoned", poison=list(poison))
    plan.connect(plan.middle(plan.source(), "first"), middle.frames, max_deliveries=3)
    plan.sink(plan.middle(middle.out, "last"))
    plan.spared.append("poisoned")
    plan.ledgers[0].assert_holds(await plan.survives(kills) - set(poison))


async def test_a_poisonous_item_is_set_aside_and_all_others_arrive(anyio_backend: Loop, tmp_path: Path) -> None:
    await assert_only_poison_is_missing(anyio_backend, tmp_path, [20], kills=1)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_many_poisonous_items_among_a_hundred_kills(anyio_backend: Loop, tmp_path: Path) -> None:
    await assert_only_poison_is_missing(anyio_backend, tmp_path, range(100, 100_000, 500), kills=100)


async def test_who_returns_with_answers_unread_keeps_nobody_waiting(anyio_backend: Loop, tmp_path: Path) -> None:
    plan = Plan(anyio_backend, tmp_path)
    source = plan.pipeline.add(Source, name="source", config={"total": 5})
    asker, answerer = plan.daemon(Asker, "asker", times=3), plan.daemon(Answerer, "answerer")
    plan.connect(source.out, asker.frames)
    plan.connect(asker.requests, answerer.requests)
    plan.connect(answerer.replies, asker.replies, keep="taken", maxsize=1)
    plan.sink(asker.out)
    with anyio.fail_after(PATIENCE_S):
        await Launcher(plan.pipeline).live()
    plan.ledgers[0].assert_complete(5)


@pytest.mark.parametrize(
    ("moment", "victims"), [("returned", ["sink"]), ("finished", ["sink"]), ("returned", ["relay", "sink"])]
)
async def test_a_relay_that_finishes_just_before_somebody_is_killed_has_lost_nothing(
    anyio_backend: Loop, tmp_path: Path, moment: str, victims: list[str]
) -> None:
    plan = Plan(anyio_backend, tmp_path)
    source = plan.pipeline.add(Source, name="source", config={"total": 40})
    plan.sink(plan.middle(source.out, "relay"))
    launcher = Launcher(plan.pipeline)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launcher.live)
            while "relay" not in (launcher.brief.returned if moment == "returned" else launcher.brief.finished):
                await anyio.lowlevel.checkpoint()
            for name in victims:
                if (node := launcher.present.get(name)) is not None:
                    node.kill(again=False)
    plan.ledgers[0].assert_complete(40)


@pytest.mark.parametrize("on_error", ["restart", "ignore"])
async def test_what_died_with_a_source_is_counted_and_told_and_what_comes_again_is_not(
    anyio_backend: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture, on_error: OnError
) -> None:
    plan = Plan(anyio_backend, tmp_path)
    config = {"note": str(tmp_path / "note")}
    source = plan.pipeline.add(Careless, name="source", on_error=on_error, config=config)
    middle = plan.daemon(Middle, "middle", at=100, does="die")
    plan.connect(source.out, middle.frames, maxsize=64)
    plan.sink(middle.out)
    launcher = Launcher(plan.pipeline)
    with anyio.fail_after(PATIENCE_S):
        await launcher.live()
    again = {100} if on_error == "restart" else set()
    assert {number for number, _ in plan.ledgers[0].entries} == {0, 1, 2} | again
    lost = {standing.daemon: standing.lost for standing in launcher.roll.standings()}
    assert lost == {"source": 4, "middle": 0, "sink": 0}
    assert "4 items that 'source' had sent into channel 'out' died with it" in caplog.messages
