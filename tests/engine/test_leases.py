"""The holder's end of a lease: what is said no to at once. What is granted and lost is with the arbiter."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import anyio
import pytest

from geartrain import Lease, Leases, SimClock, open_leases, simulate
from geartrain.engine.in_turn import start_in_turn
from geartrain.engine.leases import LeaseClient
from geartrain.errors import BadType, BadValue, LeaseLost, LeaseRefused, NotInUse
from geartrain.rules.lease_words import (
    Acquire,
    Alive,
    Claim,
    Done,
    Grant,
    Happened,
    Hello,
    Lost,
    Open,
    Opened,
    Refusal,
    Release,
    Renew,
    Said,
    SetMode,
    Shown,
    Told,
    Withdraw,
)

Loop = Literal["asyncio", "trio"]
both_loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])
S = 1_000_000_000


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda leases: leases.hold(), "at least one region"),
        (lambda leases: leases.hold("a", "b\u2028"), "U\\+2028"),
        (lambda leases: leases.hold("../a"), "beyond the root"),
        (lambda leases: leases.hold("a", mode="u"), "one of 'x', 's', got 'u'"),
        (lambda leases: leases.hold("a", ttl=0), "ttl must be from 0.01"),
        (lambda leases: leases.hold("a", ttl=float("nan")), "ttl must be from 0.01"),
        (lambda leases: leases.hold("a", wait=-1), "wait must be from 0"),
        (lambda leases: leases.hold("a", delay=1e9), "delay must be from 0"),
        (lambda leases: leases.hold("a", bind="delay"), "one of 'session', 'ttl', got 'delay'"),
        (lambda leases: leases.adopt(0), "lease must be"),
        (lambda leases: leases.watch(), "at least one region"),
        (lambda leases: leases.watch("../a"), "beyond the root"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(ask: Callable[[Leases], Any], said: str) -> None:
    with pytest.raises(BadValue, match=said):
        ask(open_leases().leases)


def test_who_watches_and_does_not_look_is_told_at_last_that_it_has_missed_something() -> None:
    leases = open_leases().leases
    watching = leases.watch("cell")
    for number in range(2_000):
        leases._hear(Happened(1, watching.n, "granted", number))
    told = list(watching._come)
    assert [one.lease for one in told[:-1]] == list(range(1_000))
    assert [one.what for one in told].index("missed") == len(told) - 1


@pytest.mark.parametrize("bad", [5, None, b"a"])
def test_a_region_is_text(bad: Any) -> None:
    with pytest.raises(BadType, match="a region must be text"):
        open_leases().leases.hold(bad)


def test_its_name_is_said() -> None:
    assert repr(open_leases(name="arm").leases) == "<Leases over channel 'arm', 0 held>"
    assert str(open_leases().leases) == "the channels of an arbiter"


def test_of_a_session_that_the_arbiter_has_forgotten_nothing_is_held_and_the_new_one_stays() -> None:
    pair = open_leases()
    leases = pair.leases
    leases._hear(Hello("here"))
    for session in (5, 5, 9):
        leases._hear(Opened(session, leases._secret, 10**9, session))
        assert leases._session == session
        leases._held[7] = held = Lease(leases, Grant(session, 1, 7, 7, (Claim("a"),), 10**9), 0)
    leases._hear(Opened(5, "of somebody else", 10**9, 5))
    assert (leases._session, held.why) == (9, "")
    leases._hear(Refusal(9, 3, "no_session", "over"))
    assert (leases._session, held.why, held.lost.is_set()) == (0, "its session is over", True)


def test_another_journal_is_another_arbiter_and_the_same_one_is_the_same() -> None:
    leases = open_leases().leases
    leases._hear(Hello("here"))
    leases._hear(Opened(5, leases._secret, 10**9, 5))
    leases._held[7] = held = Lease(leases, Grant(5, 1, 7, 7, (Claim("a"),), 10**9), 0)
    leases._hear(Hello("here"))
    assert (leases._session, held.why) == (5, "")
    leases._hear(Hello("there"))
    assert (leases._session, held.lost.is_set()) == (0, True)


def test_a_late_answer_to_a_renewal_counts_from_when_that_was_asked() -> None:
    leases = open_leases().leases
    lease = Lease(leases, Grant(5, 1, 7, 7, (Claim("a"),), 1000), 0)
    leases._renewals = {3: (100, 7, lease), 4: (500, 7, lease)}
    leases._hear(Alive(5, (), 3))
    assert (lease.until_ns, lease.renew_at_ns) == (1090, 433)
    leases._hear(Alive(5, (), 99))
    assert lease.until_ns == 1090
    leases._hear(Alive(5, (7,), 4))
    assert lease.why == "it had ended before it was renewed"


# -- an arbiter that says what it is told to, when it is told to ------------------------------------------------------

Answers = Callable[[Said], "tuple[Told, ...]"]
Body = Callable[[Leases, SimClock], Awaitable[None]]


def beside(loop: Loop, body: Body, answers: Answers, *, from_s: float = 0.0, filled: bool = False) -> list[Said]:
    """What it was asked from this time on; a session is opened for whoever asks."""
    heard: list[Said] = []

    async def arbiter(client: LeaseClient, clock: SimClock) -> None:
        await clock.sleep(from_s)
        async for asked in client.asks:
            heard.append(asked)
            for told in (Opened(2, asked.secret, 10 * S, 2),) if isinstance(asked, Open) else answers(asked):
                await client.tells.send(told)

    async def main() -> None:
        clock = SimClock()
        pair = open_leases(1 if filled else 64, clock=clock)
        if filled:
            pair.leases._say_if_room(Renew(1, ()))
        done = []

        async def to_its_end() -> None:
            await body(pair.leases, clock)
            done.append(True)

        async with anyio.create_task_group() as tasks:
            start_in_turn(tasks, arbiter, pair.client, clock)
            start_in_turn(tasks, to_its_end)
            await clock.advance(100)
            tasks.cancel_scope.cancel()
        assert done, "it waits in vain"

    simulate(main, backend=loop)
    return heard


def granted(ask: Acquire) -> Grant:
    return Grant(2, ask.n, 3, 3, ask.claims, ask.ttl_ns)


@both_loops
def test_a_renewal_by_the_old_token_that_crosses_a_change_of_mode_loses_nothing(loop: Loop) -> None:
    """The arbiter has changed the mode before it hears of the renewal; what it says of that is of the old token."""
    changes: list[SetMode] = []

    def answers(asked: Said) -> tuple[Told, ...]:
        match asked:
            case Acquire():
                return (granted(asked),)
            case SetMode():
                changes.append(asked)
            case Renew(_, (Shown(3, 3),), n):
                return (Done(2, changes[0].n, 3, 9), Alive(2, (3,), n))
            case Renew(_, _, n):
                return (Alive(2, (), n),)
        return ()

    async def body(leases: Leases, clock: SimClock) -> None:
        async with leases.hold("cell", mode="s", ttl=3) as lease:
            await lease.set_mode("x", wait=2)
            assert (lease.token, lease.mode) == (9, "x")
            await clock.sleep(10)

    heard = beside(loop, body, answers)
    assert [word.leases for word in heard if isinstance(word, Renew) and word.leases][:2] == [
        (Shown(3, 3),), (Shown(3, 9),),
    ]  # fmt: skip
    assert [word.token for word in heard if isinstance(word, Release)] == [9]


@both_loops
def test_who_does_not_wait_any_more_for_another_mode_withdraws_it_and_has_its_token_if_it_was_given(loop: Loop) -> None:
    changes: list[SetMode] = []

    def answers(asked: Said) -> tuple[Told, ...]:
        match asked:
            case Acquire():
                return (granted(asked),)
            case SetMode():
                changes.append(asked)
            case Withdraw(_, n, of) if of == changes[0].n:
                return (Done(2, of, 3, 9), Done(2, n, 0))
            case Renew(_, (Shown(3, token),), n):
                return (Alive(2, () if token == 9 else (3,), n),)
        return ()

    async def body(leases: Leases, clock: SimClock) -> None:
        async with leases.hold("cell", mode="s", ttl=3) as lease:
            with clock.move_on_after(0.5):
                await lease.set_mode("x", wait=2)
            assert (lease.token, lease.mode) == (3, "s")
            await clock.sleep(10)
            assert (lease.token, lease.mode) == (9, "x")

    assert [word.token for word in beside(loop, body, answers) if isinstance(word, Release)] == [9]


@both_loops
def test_what_is_lost_right_after_it_was_granted_is_no_lease(loop: Loop) -> None:
    """So it is when it was granted in a former life of the arbiter, and somebody has evicted it since."""

    def answers(asked: Said) -> tuple[Told, ...]:
        return (granted(asked), Lost(2, 3, "evicted")) if isinstance(asked, Acquire) else ()

    async def body(leases: Leases, clock: SimClock) -> None:
        with pytest.raises(LeaseRefused, match="has ended since: evicted") as refused:
            async with leases.hold("cell"):
                raise AssertionError
        assert refused.value.code == "not_held"

    beside(loop, body, answers)


@both_loops
def test_what_is_lost_before_it_was_renewed_for_the_first_time_is_not_held_for_a_moment(loop: Loop) -> None:
    """It was waited for long, or this process stood still."""

    def answers(asked: Said) -> tuple[Told, ...]:
        match asked:
            case Acquire():
                return (granted(asked),)
            case Renew(_, (_,), n):
                return (Alive(2, (3,), n),)
        return ()

    async def body(leases: Leases, clock: SimClock) -> None:
        with pytest.raises(LeaseLost, match="has ended before it was used"):
            async with leases.hold("cell", ttl=3):
                raise AssertionError

    assert not [word for word in beside(loop, body, answers, from_s=2) if isinstance(word, Release)]


@both_loops
def test_who_is_cancelled_while_it_opens_the_session_leaves_that_to_who_waits_for_it_too(loop: Loop) -> None:
    """There was no room to say it: nobody would have, and the other would wait for ever."""

    def answers(asked: Said) -> tuple[Told, ...]:
        return (granted(asked),) if isinstance(asked, Acquire) else ()

    async def body(leases: Leases, clock: SimClock) -> None:
        async def gives_up() -> None:
            with clock.move_on_after(1):
                async with leases.hold("cell"):
                    raise AssertionError

        async with anyio.create_task_group() as tasks:
            start_in_turn(tasks, gives_up)
            await clock.sleep(0.5)
            async with leases.hold("cell", ttl=30) as lease:
                assert (clock.now(), lease.token) == (2, 3)

    heard = beside(loop, body, answers, from_s=2, filled=True)
    assert [type(word) for word in heard] == [Renew, Open, Acquire, Release]


@both_loops
def test_a_session_that_ends_while_something_owed_is_said_takes_nothing_of_the_next_one_with_it(loop: Loop) -> None:
    def answers(asked: Said) -> tuple[Told, ...]:
        return ()

    async def body(leases: Leases, clock: SimClock) -> None:
        leases._hear(Opened(2, leases._secret, 10 * S, 2))
        leases._say_soon(Release(2, 1, 3, 3))
        async with anyio.create_task_group() as tasks:
            start_in_turn(tasks, leases._say, Renew(2, ()))
            await clock.sleep(1)
            leases._hear(Refusal(2, 0, "no_session", "over"))
            leases._say_soon(Release(7, 2, 8, 8))

    heard = beside(loop, body, answers, from_s=2, filled=True)
    assert [word.lease for word in heard if isinstance(word, Release)] == [3, 8]


@both_loops
def test_one_hold_is_for_one_block_also_while_it_is_waited_for(loop: Loop) -> None:
    def answers(asked: Said) -> tuple[Told, ...]:
        return (granted(asked),) if isinstance(asked, Acquire) else ()

    async def body(leases: Leases, clock: SimClock) -> None:
        hold = leases.hold("cell", ttl=30)
        with clock.move_on_after(1):
            async with hold:
                raise AssertionError

        async def again() -> None:
            async with hold:
                await clock.sleep(1)

        async with anyio.create_task_group() as tasks:
            start_in_turn(tasks, again)
            await clock.sleep(0.5)
            with pytest.raises(NotInUse, match="for one block"):
                async with hold:
                    raise AssertionError

    beside(loop, body, answers, from_s=2)
