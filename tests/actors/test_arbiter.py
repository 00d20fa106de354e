"""The arbiter as a daemon: leases held by daemons, in virtual time on both loops, through its deaths and theirs."""

import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from geartrain import Context, Daemon, LeaseLost, LeaseRefused, SimClock, Supervisor, daemon, simulate
from geartrain.actors.arbiter import _UNTOLD_MOST, Bench, Desk, LeaseArbiter, recovered
from geartrain.engine.leases import LeaseChannel, Leases, open_leases
from geartrain.errors import DaemonError, GeartrainError, JournalDamaged, JournalStopped, in_words
from geartrain.faces.lease import story
from geartrain.ports.journal import Journal, MemoryJournal
from geartrain.rules.lease import Terms
from geartrain.rules.lease_words import (
    Acquire,
    Alive,
    Claim,
    Evict,
    Grant,
    Happened,
    Open,
    Opened,
    Refusal,
    Release,
    Renew,
    Shown,
)
from geartrain.rules.regions import Case

Loop = Literal["asyncio", "trio"]
both_loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])

Told = list[tuple[float, str]]
Body = Callable[[Leases, SimClock, Told], Coroutine[Any, Any, None]]


def live(loop: Loop, *bodies: Body, for_s: float = 100, arbiter: type[LeaseArbiter] = LeaseArbiter, **how: Any) -> Told:
    """What these bodies have told when and what, each with leases of its own from one arbiter."""
    told: Told = []

    async def main() -> None:
        clock = SimClock()
        async with Supervisor(clock=clock) as supervisor:
            pairs = [open_leases(name=f"body {number}", clock=clock) for number in range(len(bodies))]
            supervisor.add_factory(
                partial(arbiter, [pair.client for pair in pairs], **how), name="arbiter", on_error="restart"
            )
            for number, (body, pair) in enumerate(zip(bodies, pairs, strict=True)):
                supervisor.add_factory(partial(Body_, body, pair, clock, told), name=f"body {number}")
            await clock.advance(for_s)
            await supervisor.stop()

    simulate(main, backend=loop)
    return told


class Body_(Daemon):  # noqa: N801
    def __init__(self, body: Body, pair: LeaseChannel, clock: SimClock, told: Told) -> None:
        self.body, self.pair, self.clock, self.told = body, pair, clock, told

    async def run(self, ctx: Context) -> None:
        await self.body(self.pair.leases, self.clock, self.told)
        await self.pair.leases.aclose()


def holding(name: str, region: str, for_s: float, *, after_s: float = 0, **how: Any) -> Body:
    """Holds a region for so long, and tells when it has it and when not any more."""

    async def body(leases: Leases, clock: SimClock, told: Told) -> None:
        await clock.sleep(after_s)
        try:
            async with leases.hold(region, **how) as lease:
                told.append((clock.now(), f"{name} in, token {lease.token}"))
                await clock.sleep(for_s)
            told.append((clock.now(), f"{name} out"))
        except LeaseRefused as refused:
            told.append((clock.now(), f"{name} {refused.code}"))
        except LeaseLost as lost:
            told.append((clock.now(), f"{name} lost: {lost.why}"))

    return body


def times(told: Told) -> list[tuple[float, str]]:
    return [(at, said.split(", token")[0]) for at, said in told]


@both_loops
def test_one_holds_and_the_other_waits_for_it(loop: Loop) -> None:
    told = live(loop, holding("left", "cell", 5), holding("right", "cell/arm", 3, after_s=1, wait=20))
    assert times(told) == [(0, "left in"), (5, "left out"), (5, "right in"), (8, "right out")]


@both_loops
def test_a_lease_is_renewed_for_as_long_as_it_is_held(loop: Loop) -> None:
    told = live(loop, holding("left", "cell", 50, ttl=1), holding("right", "cell", 3, after_s=49))
    assert times(told) == [(0, "left in"), (49, "right conflict"), (50, "left out")]


@both_loops
def test_who_waits_longer_than_the_time_of_its_lease_and_of_its_session_is_granted_all_of_it(loop: Loop) -> None:
    told = live(loop, holding("left", "cell", 40), holding("right", "cell", 5, after_s=1, wait=60, ttl=2))
    assert times(told) == [(0, "left in"), (40, "left out"), (40, "right in"), (45, "right out")]


@both_loops
def test_a_wait_that_is_over_is_a_refusal_that_says_who_has_it(loop: Loop) -> None:
    async def body(leases: Leases, clock: SimClock, told: Told) -> None:
        await clock.sleep(1)
        with pytest.raises(LeaseRefused, match=r"lease 3 of 'me'.*'cell'") as caught:
            async with leases.hold("cell", wait=2):
                raise AssertionError
        told.append((clock.now(), caught.value.code))

    told = live(loop, holding("left", "cell", 40, label="me"), body)
    assert (3, "timeout") in told


@both_loops
def test_the_error_of_a_block_goes_through_as_it_is_and_the_lease_is_free_again(loop: Loop) -> None:
    async def body(leases: Leases, clock: SimClock, told: Told) -> None:
        for _ in range(2):
            with pytest.raises(KeyError, match="my own"):
                async with leases.hold("cell"):
                    raise KeyError("my own")
        told.append((clock.now(), "both"))

    assert live(loop, body) == [(0, "both")]


@both_loops
def test_who_is_cancelled_while_waiting_holds_nothing_and_stands_in_nobodys_way(loop: Loop) -> None:
    async def body(leases: Leases, clock: SimClock, told: Told) -> None:
        await clock.sleep(1)
        with clock.move_on_after(2) as scope:
            async with leases.hold("cell", wait=90):
                raise AssertionError
        told.append((clock.now(), f"given up {scope.cancelled_caught}"))
        async with leases.hold("other"):
            pass

    told = live(loop, holding("left", "cell", 10), body, holding("right", "cell", 1, after_s=2, wait=90))
    assert times(told) == [(0, "left in"), (3, "given up True"), (10, "left out"), (10, "right in"), (11, "right out")]


@both_loops
def test_when_the_task_that_listens_for_all_is_cancelled_another_one_listens(loop: Loop) -> None:
    async def body(leases: Leases, clock: SimClock, told: Told) -> None:
        async def impatient() -> None:
            with clock.move_on_after(2):
                await holding("impatient", "cell", 1, wait=50)(leases, clock, told)

        await clock.sleep(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(impatient)
            for number in range(3):
                tasks.start_soon(
                    holding(f"task {number}", "cell", 1, after_s=0.1 * number, wait=50), leases, clock, told
                )

    told = live(loop, holding("left", "cell", 5.5), body)
    assert [at for at, said in told if said.startswith("task") and " in" in said] == [5.5, 6.5, 7.5]


@both_loops
def test_a_block_that_is_cancelled_from_outside_gives_its_lease_back(loop: Loop) -> None:
    async def body(leases: Leases, clock: SimClock, told: Told) -> None:
        with clock.move_on_after(3) as scope:
            async with leases.hold("cell"):
                await clock.sleep(50)
        told.append((clock.now(), f"cancelled {scope.cancelled_caught}"))
        await clock.sleep(50)

    told = live(loop, body, holding("right", "cell", 1, after_s=1, wait=90))
    assert times(told) == [(3, "cancelled True"), (3, "right in"), (4, "right out")]


@both_loops
def test_many_tasks_of_one_daemon_hold_and_wait_each_for_itself(loop: Loop) -> None:
    async def body(leases: Leases, clock: SimClock, told: Told) -> None:
        async def one(number: int) -> None:
            await holding(f"task {number}", "cell", 1, wait=50)(leases, clock, told)

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(one, number)

    told = live(loop, body)
    assert sorted(at for at, said in told if " in" in said) == [0, 1, 2, 3]
    assert len([said for _, said in told if " out" in said]) == 4


@both_loops
def test_who_asks_in_a_block_for_what_it_holds_is_refused_unless_it_is_reentrant(loop: Loop) -> None:
    async def body(leases: Leases, clock: SimClock, told: Told) -> None:
        async with leases.hold("cell") as outer:
            with pytest.raises(LeaseRefused, match="reentrant") as caught:
                async with leases.hold("cell/arm", wait=50):
                    raise AssertionError
            async with leases.hold("cell/arm", reentrant=True) as inner:
                told.append((clock.now(), f"{caught.value.code} {inner.token > outer.token}"))

    assert live(loop, body) == [(0, "conflict_self True")]


@both_loops
def test_a_shared_lease_is_raised_and_lowered_with_a_new_token_each_time(loop: Loop) -> None:
    async def body(leases: Leases, clock: SimClock, told: Told) -> None:
        async with leases.hold("cell", mode="s") as lease:
            tokens = [lease.token]
            await lease.set_mode("x", wait=50)
            tokens.append(lease.token)
            await lease.set_mode("s")
            tokens.append(lease.token)
            told.append((clock.now(), f"raised {tokens == sorted(set(tokens))}"))

    told = live(loop, holding("reader", "cell", 5, mode="s"), body)
    assert (5, "raised True") in told


class Mortal(LeaseArbiter):
    """One that dies when it is told to."""

    dies_at_s: tuple[float, ...] = ()

    async def run(self, ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._die, ctx)
            await super().run(ctx)
            tasks.cancel_scope.cancel()

    async def _die(self, ctx: Context) -> None:
        for at_s in self.dies_at_s:
            if at_s > ctx.clock.now():
                await ctx.clock.wait_until(at_s)
                raise RuntimeError("killed")


class Stubborn(Mortal):
    """One that outlives nothing but its journal."""

    journal: MemoryJournal

    def open_journal(self) -> tuple[str, Journal]:
        type(self).journal = type(self).journal.reopened()
        return "kept", type(self).journal


def stubborn(*dies_at_s: float) -> type[LeaseArbiter]:
    return type("OneStubborn", (Stubborn,), {"journal": MemoryJournal(), "dies_at_s": dies_at_s})


@both_loops
def test_an_arbiter_that_dies_over_and_over_takes_no_lease_from_its_holder_and_gives_none_twice(loop: Loop) -> None:
    told = live(
        loop,
        holding("left", "cell", 30, ttl=3),
        holding("right", "cell", 5, after_s=1, wait=90),
        arbiter=stubborn(2.5, 7.5, 12.5),
    )
    assert [said.split(",")[0] for _, said in told] == ["left in", "left out", "right in", "right out"]
    left, right = (int(said.split("token ")[1]) for _, said in told if "token" in said)
    assert right > left


@both_loops
def test_an_arbiter_without_a_folder_knows_in_its_next_life_in_the_process_what_it_had_granted(loop: Loop) -> None:
    left, right = holding("left", "cell", 30, ttl=3), holding("right", "cell", 5, after_s=1, wait=90)
    told = live(loop, left, right, arbiter=type("InMemory", (Mortal,), {"dies_at_s": (2.5, 7.5)}))
    assert times(told) == [(0, "left in"), (30, "left out"), (30, "right in"), (35, "right out")]


@both_loops
def test_an_arbiter_that_has_forgotten_everything_costs_its_holders_their_leases(loop: Loop) -> None:
    class Forgetful(Stubborn):
        journal = MemoryJournal()
        dies_at_s = (2.5,)

        def open_journal(self) -> tuple[str, Journal]:
            return f"{id(self)}", MemoryJournal()

    told = live(loop, holding("left", "cell", 30), arbiter=Forgetful)
    assert [said.split(",")[0] for _, said in told] == ["left in", "left lost: the arbiter has begun anew"]


@both_loops
def test_a_holder_that_was_frozen_has_lost_its_lease_when_it_wakes_and_its_block_is_cancelled(loop: Loop) -> None:
    """Frozen: it neither renews nor looks; here because nothing it says gets through."""

    async def frozen(leases: Leases, clock: SimClock, told: Told) -> None:
        try:
            async with leases.hold("cell", ttl=2) as lease:
                leases._door._held = True
                await lease.lost.wait()
                told.append((clock.now(), "knows"))
                await clock.sleep(50)
        except LeaseLost:
            told.append((clock.now(), "cancelled"))
        await clock.sleep(20)
        leases._door._held = False

    told = live(loop, frozen, holding("right", "cell", 1, after_s=0.5, wait=90))
    at = {said.split(",")[0]: when for when, said in told}
    assert at["cancelled"] == pytest.approx(1.98)
    assert at["cancelled"] < at["right in"] == pytest.approx(2.5)


@both_loops
def test_with_a_daemon_that_dies_ends_what_it_held_at_once(loop: Loop) -> None:
    told: Told = []

    async def main() -> None:
        clock = SimClock()
        async with Supervisor(clock=clock) as supervisor:
            dying, other = (open_leases(name=name, clock=clock) for name in ("dying", "other"))
            supervisor.add(LeaseArbiter, [dying.client, other.client], name="arbiter")
            supervisor.add_factory(partial(Body_, holding("other", "cell", 1, after_s=1, wait=90), other, clock, told))
            lives = []

            @daemon
            async def mortal(ctx: Context) -> None:
                lives.append(ctx)
                if len(lives) == 1:
                    # Nobody has told the arbiter that it let go.
                    hold = dying.leases.hold("cell", ttl=1000)
                    await hold.__aenter__()
                    dying.leases.let_go = lambda lease: None  # type: ignore[method-assign]
                    await ctx.clock.sleep(3)
                    await hold.__aexit__(None, None, None)
                    raise RuntimeError("killed")
                dying.leases.begin_again()
                with suppress(LeaseRefused):
                    async with dying.leases.hold("elsewhere"):
                        pass
                await ctx.stop_event.wait()

            supervisor.add_factory(mortal, name="mortal", on_error="restart")
            await clock.advance(60)
            await supervisor.stop()

    simulate(main, backend=loop)
    [(begins, _), _] = told
    assert 3 <= begins < 10


@both_loops
def test_nobody_speaks_for_the_session_of_another(loop: Loop) -> None:
    async def thief(leases: Leases, clock: SimClock, told: Told) -> None:
        await clock.sleep(1)
        async with leases.hold("mine"):
            await leases._say(Release(1, 77, 2, 2))
            await clock.sleep(1)

    told = live(loop, holding("left", "cell", 10), thief, holding("right", "cell", 1, after_s=3))
    assert (3, "right conflict") in told


@both_loops
def test_without_an_arbiter_a_lease_is_refused_and_not_waited_for(loop: Loop) -> None:
    async def body(leases: Leases, clock: SimClock, told: Told) -> None:
        await clock.sleep(1)
        with pytest.raises(LeaseRefused, match="the arbiter is gone") as caught:
            async with leases.hold("cell"):
                raise AssertionError
        told.append((clock.now(), caught.value.code))

    class Brief(LeaseArbiter):
        async def run(self, ctx: Context) -> None:
            for client in self.clients:
                await client.aclose()

    assert live(loop, body, arbiter=Brief) == [(1, "no_arbiter")]


def test_a_journal_of_something_else_is_not_taken_for_one_of_leases() -> None:
    journal = MemoryJournal()
    journal.append(b"something else")
    journal.sync()
    with pytest.raises(JournalDamaged, match="record 1"):
        recovered(journal)


@both_loops
def test_an_arbiter_of_another_case_policy_does_not_begin_on_a_journal_and_says_which_it_has(
    loop: Loop, tmp_path: Path
) -> None:
    async def life(case: Case) -> None:
        async with Supervisor() as supervisor:
            pair = open_leases()
            supervisor.add(LeaseArbiter([pair.client], tmp_path / "leases", case=case))
            async with pair.leases.hold("Cell"):
                pass
            await supervisor.stop()

    anyio.run(life, "keep", backend=loop)
    with pytest.RaisesGroup(
        pytest.RaisesExc(DaemonError, match="TermsDiffer.*open it with case='keep'"), flatten_subgroups=True
    ):
        anyio.run(life, "fold", backend=loop)
    anyio.run(life, "keep", backend=loop)


@both_loops
def test_with_a_directory_who_was_refused_and_why_can_be_read_afterwards(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        async with Supervisor() as supervisor:
            pairs = [open_leases(name=name) for name in ("left", "right")]
            supervisor.add(LeaseArbiter([pair.client for pair in pairs], directory=tmp_path / "leases"))
            async with pairs[0].leases.hold("cell"):
                with pytest.raises(LeaseRefused):
                    async with pairs[1].leases.hold("cell/arm"):
                        raise AssertionError
            await supervisor.stop()

    anyio.run(main, backend=loop)
    lines = story(tmp_path / "leases", "cell")
    assert [line.what for line in lines] == ["granted", "refused", "released"]
    assert "conflict: it is taken" in lines[1].said


Talk = Callable[[Leases, Leases], Coroutine[Any, Any, None]]


def talk(loop: Loop, body: Talk, **how: Any) -> None:
    """Two daemons talk to one arbiter, in real time."""

    async def main() -> None:
        async with Supervisor() as supervisor:
            pairs = [open_leases(name=name) for name in ("left", "right")]
            supervisor.add(LeaseArbiter([pair.client for pair in pairs], **how))
            with anyio.fail_after(20):
                await body(pairs[0].leases, pairs[1].leases)
            await supervisor.stop()

    anyio.run(main, backend=loop)


@both_loops
def test_what_is_held_for_a_moment_starts_no_task_and_what_is_held_for_longer_is_kept(loop: Loop) -> None:
    async def body(left: Leases, right: Leases) -> None:
        async with left.hold("cell") as first:
            pass
        tasks = len(anyio.get_running_tasks())
        async with right.hold("cell/arm", wait=9):
            pass
        with pytest.raises(LeaseLost, match="evicted"):
            async with left.hold("cell", wait=9) as lease:
                now = len(anyio.get_running_tasks())
                await right._say(Evict(right._session, 77, lease.lease))
                await anyio.sleep_forever()
        assert now == tasks
        assert lease.token > first.token

    talk(loop, body)


# -- what outlives its holder, and what is handed over ----------------------------------------------------------------


@both_loops
def test_what_is_taken_lasts_for_its_time_or_until_somebody_who_has_its_token_releases_it(loop: Loop) -> None:
    async def body(leases: Leases, clock: SimClock, told: Told) -> None:
        await leases.take("other", ttl=3)
        taken = await leases.take("cell", ttl=5)
        told.append((clock.now(), f"took {', '.join(taken.regions)}"))
        await clock.sleep(1)
        await leases.release(taken.lease, taken.token)
        with pytest.raises(LeaseRefused) as caught:
            await leases.release(taken.lease, taken.token)
        told.append((clock.now(), caught.value.code))

    told = live(loop, body, holding("a", "cell", 1, after_s=0.5, wait=9), holding("b", "other", 1, after_s=0.5, wait=9))
    assert times(told) == [
        (0, "took cell"), (1, "a in"), (1, "not_held"), (2, "a out"), (3.5, "b in"), (4.5, "b out")
    ]  # fmt: skip


@both_loops
@pytest.mark.parametrize("bind", ["session", "ttl"])
def test_bound_to_its_time_a_lease_outlives_its_holder_and_is_adopted_by_the_next_life(
    loop: Loop, bind: Literal["session", "ttl"]
) -> None:
    async def body(left: Leases, right: Leases) -> None:
        """The left one dies without a word: a next life begins, on the same channel."""
        hold = left.hold("cell", ttl=60, bind=bind)
        lease = await hold.__aenter__()
        left.let_go = lambda lease: None  # type: ignore[method-assign]
        left.begin_again()
        with pytest.raises(LeaseLost, match="its daemon has died"):
            await hold.__aexit__(None, None, None)
        del left.let_go
        await left.session()
        if bind == "session":
            with pytest.raises(LeaseRefused, match="holder died"):
                async with left.adopt(lease.lease, lease.token):
                    raise AssertionError
            return
        async with left.adopt(lease.lease, lease.token) as again:
            assert (again.lease, again.regions, again.ttl_ns) == (lease.lease, ("cell",), lease.ttl_ns)
            assert again.token > lease.token
            with pytest.raises(LeaseRefused, match="it is taken"):
                async with right.hold("cell"):
                    raise AssertionError
        async with right.hold("cell", wait=9):
            pass

    talk(loop, body)


@both_loops
def test_a_lease_is_offered_to_another_daemon_whose_adoption_ends_the_block_without_an_error(loop: Loop) -> None:
    async def body(left: Leases, right: Leases) -> None:
        async def take_over(number: int) -> None:
            async with right.adopt(number) as lease:
                tokens.append(lease.token)

        tokens: list[int] = []
        async with anyio.create_task_group() as tasks:
            async with left.hold("cell") as lease:
                tokens.append(lease.token)
                await lease.offer(await right.session())
                tasks.start_soon(take_over, lease.lease)
                await anyio.sleep_forever()
            assert lease.why == "adopted"
        assert tokens == sorted(set(tokens))
        async with left.hold("cell", wait=9):
            pass

    talk(loop, body)


@both_loops
def test_what_a_living_holder_has_not_offered_nobody_adopts(loop: Loop) -> None:
    async def body(left: Leases, right: Leases) -> None:
        async with left.hold("cell") as lease:
            with pytest.raises(LeaseRefused, match="have it offered") as caught:
                async with right.adopt(lease.lease, lease.token):
                    raise AssertionError
            assert caught.value.code == "holder_lives"
            with pytest.raises(LeaseRefused, match="no session 99"):
                await lease.offer(99)

    talk(loop, body)


@both_loops
def test_a_lease_that_was_offered_and_is_lost_otherwise_is_lost(loop: Loop) -> None:
    async def body(left: Leases, right: Leases) -> None:
        with pytest.raises(LeaseLost, match="evicted"):
            async with left.hold("cell") as lease:
                await lease.offer(await right.session())
                await right._say(Evict(right._session, 77, lease.lease))
                await anyio.sleep_forever()

    talk(loop, body)


# -- what others do ---------------------------------------------------------------------------------------------------


def watching(region: str, for_s: float = 50) -> Body:
    async def body(leases: Leases, clock: SimClock, told: Told) -> None:
        with clock.move_on_after(for_s):
            async for happened in leases.watch(region):
                told.append((clock.now(), f"{happened.what} {happened.label} {happened.why}".strip()))
            told.append((clock.now(), "over"))

    return body


@both_loops
def test_who_watches_a_region_is_told_what_is_held_and_then_what_becomes_of_it(loop: Loop) -> None:
    told = live(
        loop,
        holding("a", "cell", 5, label="a"),
        holding("b", "cell/arm", 3, after_s=2, wait=9, label="b"),
        holding("c", "elsewhere", 3, after_s=2, label="c"),
        holding("d", "/", 4, after_s=20, label="d", ttl=1),
        watching("cell/arm/hand"),
    )
    seen = [(at, said) for at, said in told if said.split()[0] in ("held", "granted", "ended")]
    assert seen[0] in [(0, "held a"), (0, "granted a")]
    assert seen[1:] == [
        (5, "ended a released"), (5, "granted b"), (8, "ended b released"), (20, "granted d"), (24, "ended d released")
    ]  # fmt: skip


@both_loops
def test_who_watches_a_new_life_of_the_arbiter_is_told_that_it_has_missed_something_and_what_is_held(
    loop: Loop,
) -> None:
    told = live(loop, watching("cell"), holding("a", "cell", 30, after_s=1, label="a"), arbiter=stubborn(12.5))
    seen = [said for _, said in told if not said.startswith("a ")]
    assert seen == ["granted a", "missed", "held a", "ended a released"]


@both_loops
def test_a_watch_is_over_when_it_is_closed_and_when_the_arbiter_is_gone(loop: Loop) -> None:
    async def body(leases: Leases, clock: SimClock, told: Told) -> None:
        first = leases.watch("cell")
        async with leases.hold("cell"):
            assert (await anext(first)).what in ("held", "granted")
        await first.aclose()
        assert [one.what async for one in first] == []
        async for happened in leases.watch("cell"):
            told.append((clock.now(), happened.what))
        told.append((clock.now(), "over"))

    class Brief(LeaseArbiter):
        async def run(self, ctx: Context) -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(super().run, ctx)
                await ctx.clock.wait_until(5)
                for client in self.clients:
                    await client.tells.aclose()
                tasks.cancel_scope.cancel()

    assert live(loop, body, arbiter=Brief) == [(5, "over")]


# -- what is durable, and what is said of it --------------------------------------------------------------------------


class Counter(Desk):
    """A desk that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(open_leases().client)
        self.told: list[Any] = []

    def tell(self, word: Any) -> None:
        self.told.append(word)


ASK = Acquire(2, 1, (Claim("cell"),), 10**10)


def bench_and_desk(journal: Journal) -> tuple[Bench, Counter]:
    bench, desk = Bench(journal, Terms(), SimClock(), "", 0), Counter()
    bench.hear(desk, Open("secret", "me"))
    return bench, desk


def test_nothing_is_answered_before_it_is_durable_and_then_in_order() -> None:
    journal = MemoryJournal()
    bench, desk = bench_and_desk(journal)
    bench.hear(desk, ASK)
    bench.hear(desk, Acquire(2, 2, (Claim("cell"),), 10**10))
    bench.release_replies()
    assert desk.told == []
    journal.sync()
    bench.release_replies()
    assert [type(word) for word in desk.told] == [Opened, Grant, Refusal]


@pytest.mark.parametrize("is_durable", [False, True])
def test_who_was_not_answered_and_asks_the_next_life_by_the_same_number_has_it_once(is_durable: bool) -> None:
    """Whether the grant had become durable before the arbiter died, nobody but the journal knows."""
    journal = MemoryJournal()
    bench, desk = bench_and_desk(journal)
    journal.sync()
    bench.hear(desk, ASK)
    if is_durable:
        journal.sync()
    again = journal.reopened()
    bench, desk = bench_and_desk(again)
    for _ in range(2):
        bench.hear(desk, ASK)
    again.sync()
    bench.release_replies()
    opened, *grants = desk.told
    assert opened.session == 2
    assert grants == [grants[0]] * 2
    assert len(bench.state.ledger.leases) == 1


@both_loops
def test_a_journal_that_cannot_be_written_ends_the_arbiter_and_nobody_is_answered(loop: Loop) -> None:
    class Full(MemoryJournal):
        def sync(self) -> None:
            raise JournalStopped("no space left on device", 0, 1)

        def close(self) -> None: ...

    class Broken(LeaseArbiter):
        def open_journal(self) -> tuple[str, Journal]:
            return "full", Full()

    told: Told = []

    async def main() -> None:
        clock = SimClock()
        async with Supervisor(clock=clock) as supervisor:
            pair = open_leases(clock=clock)
            supervisor.add(Broken, [pair.client], name="arbiter")
            supervisor.add_factory(partial(Body_, holding("left", "cell", 5), pair, clock, told), name="left")
            await clock.advance(60)

    with pytest.raises(ExceptionGroup) as caught:
        simulate(main, backend=loop)
    assert "no space left" in in_words(caught.value)
    assert not [said for _, said in told if " in" in said]


def test_who_watches_and_does_not_listen_costs_the_arbiter_no_more_than_so_much() -> None:
    desk = Desk(open_leases(1).client)
    for number in range(5_000):
        desk.tell_of(Happened(2, 1, "granted", number))
    assert len(desk._untold) == _UNTOLD_MOST
    desk._untold.clear()
    desk.tell_of(Happened(2, 1, "granted", 5_000))
    assert list(desk._untold)[-1] == Happened(2, 1, "granted", 5_000)
    assert "missed" in [word.what for word in desk._untold if isinstance(word, Happened)]


def test_a_word_to_a_former_life_is_not_taken_for_one_of_a_session_that_is_over() -> None:
    """It may arrive before its client has heard of the new life, and what that holds is its own all the same."""
    journal = MemoryJournal()
    bench, desk = bench_and_desk(journal)
    bench.hear(desk, ASK)
    journal.sync()
    bench, desk = Bench(journal.reopened(), Terms(), SimClock(), "", 0), Counter()
    bench.hear(desk, Renew(2, (Shown(3, 3),), 1))
    bench.hear(desk, Open("secret", "me"))
    bench.hear(desk, Renew(2, (Shown(3, 3),), 2))
    bench._journal.sync()
    bench.release_replies()
    assert [type(word) for word in desk.told] == [Opened, Alive]


def test_two_arbiters_never_have_one_folder(tmp_path: Path) -> None:
    pytest.importorskip("google_crc32c", reason="a journal on a disk needs geartrain[journal]")
    _, journal = LeaseArbiter(directory=tmp_path / "leases").open_journal()
    with pytest.raises(GeartrainError, match="leases"):
        LeaseArbiter(directory=tmp_path / "leases").open_journal()
    journal.close()
    _, journal = LeaseArbiter(directory=tmp_path / "leases").open_journal()
    journal.close()


def test_the_process_of_a_clock_loads_no_arbiter() -> None:
    script = "from geartrain.actors import ReactorClock\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "geartrain.actors.clock" in loaded
    assert not {"geartrain.actors.arbiter", "geartrain.rules.lease", "geartrain.ports.journal"} & loaded
