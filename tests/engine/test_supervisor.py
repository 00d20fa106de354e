"""The supervisor: what a failure does, how daemons start and stop, and what is refused."""

import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from geartrain import (
    Context,
    Daemon,
    DaemonError,
    DaemonHealth,
    Deadlock,
    OnError,
    RestartPolicy,
    SimClock,
    Supervisor,
    daemon,
    open_channel,
    simulate,
)
from geartrain.engine.ends import Channel
from geartrain.errors import BadType, BadValue, NotInUse

Do = Callable[[Context], Awaitable[object]]


class Scripted(Daemon):
    """Does in each hook what it is told, and writes down which hook was called."""

    def __init__(self, log: list[str], **hooks: Do) -> None:
        self._log = log
        self._hooks = hooks

    async def on_start(self, ctx: Context) -> None:
        await self._do("on_start", ctx)

    async def run(self, ctx: Context) -> None:
        await self._do("run", ctx)

    async def on_stop(self, ctx: Context) -> None:
        await self._do("on_stop", ctx)

    async def _do(self, hook: str, ctx: Context) -> None:
        self._log.append(hook)
        if hook in self._hooks:
            await self._hooks[hook](ctx)


async def returns(_: Context) -> None:
    """Come back at once."""


async def raises(_: Context) -> None:
    raise RuntimeError("broken")


async def raises_group(_: Context) -> None:
    raise ExceptionGroup("many", [RuntimeError("broken"), OSError("and lost")])


async def exits(_: Context) -> None:
    raise SystemExit(3)


async def is_interrupted(_: Context) -> None:
    raise KeyboardInterrupt


async def cancels_itself(ctx: Context) -> None:
    ctx.cancel_scope.cancel()
    await anyio.sleep_forever()


async def sleeps(ctx: Context) -> None:
    await ctx.clock.sleep(1000)


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [error]


# -- what a failure does: policy x way of dying x phase -------------------------------------------------------------

WAYS = {
    "return": returns,
    "raise": raises,
    "group": raises_group,
    "sys.exit": exits,
    "Ctrl-C": is_interrupted,
    "cancel": cancels_itself,
}

# What the supervisor's block ends with, the daemon's last state, and the hooks that were called. One restart is
# allowed, and the daemon dies each time, so "restart" shows both lives.
#   s on_start, r run, p on_stop
TABLE = """
way       phase     shutdown              restart               ignore
return    on_start  ok      stopped srp   ok      stopped srp   ok      stopped srp
return    run       ok      stopped srp   ok      stopped srp   ok      stopped srp
return    on_stop   ok      stopped srp   ok      stopped srp   ok      stopped srp
raise     on_start  error   failed  s     error   failed  ss    ok      stopped s
raise     run       error   failed  srp   error   failed  srpsrp ok     stopped srp
raise     on_stop   error   failed  srp   error   failed  srp   ok      stopped srp
group     on_start  error   failed  s     error   failed  ss    ok      stopped s
group     run       error   failed  srp   error   failed  srpsrp ok     stopped srp
group     on_stop   error   failed  srp   error   failed  srp   ok      stopped srp
sys.exit  on_start  exit    failed  s     exit    failed  s     exit    failed  s
sys.exit  run       exit    failed  srp   exit    failed  srp   exit    failed  srp
sys.exit  on_stop   exit    failed  srp   exit    failed  srp   exit    failed  srp
Ctrl-C    on_start  ctrl-c  failed  s     ctrl-c  failed  s     ctrl-c  failed  s
Ctrl-C    run       ctrl-c  failed  srp   ctrl-c  failed  srp   ctrl-c  failed  srp
Ctrl-C    on_stop   ctrl-c  failed  srp   ctrl-c  failed  srp   ctrl-c  failed  srp
cancel    on_start  ok      stopped s     ok      stopped s     ok      stopped s
cancel    run       ok      stopped srp   ok      stopped srp   ok      stopped srp
"""


def cells() -> list[tuple[str, str, OnError, str, str, str]]:
    policies: tuple[OnError, ...] = ("shutdown", "restart", "ignore")
    rows = [line.split() for line in TABLE.strip().splitlines()[1:]]
    return [
        (way, phase, policy, *rest[3 * column : 3 * column + 3])  # type: ignore[misc]
        for way, phase, *rest in rows
        for column, policy in enumerate(policies)
    ]


@pytest.mark.parametrize(("way", "phase", "policy", "ending", "state", "calls"), cells())
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_a_failure_does(
    way: str, phase: str, policy: OnError, ending: str, state: str, calls: str, backend: Any
) -> None:
    log: list[str] = []
    bystander: list[str] = []
    sup = None

    async def scenario() -> str:
        nonlocal sup
        clock = SimClock()
        sup = Supervisor(clock=clock, restart=RestartPolicy(base=1, max_retries=1))
        try:
            async with sup:
                sup.add(Scripted(bystander, run=sleeps), name="bystander")
                sup.add(Scripted(log, **{phase: WAYS[way]}), name="it", on_error=policy)
                await clock.advance(5)
                await sup.stop(grace=0)
        except SystemExit as exit:
            return f"exit {exit.code}"
        except KeyboardInterrupt:
            return "ctrl-c"
        except ExceptionGroup as group:
            (error,) = leaves(group)
            assert isinstance(error, DaemonError)
            assert (error.name, error.phase) == ("it", phase)
            assert isinstance(error.__cause__, ExceptionGroup if way == "group" else RuntimeError)
            return "error"
        return "ok"

    assert simulate(scenario, backend=backend) == {"exit": "exit 3"}.get(ending, ending)
    assert sup is not None
    letters = {"on_start": "s", "run": "r", "on_stop": "p"}
    assert "".join(letters[hook] for hook in log) == calls
    assert sup.snapshot()["it"].state == state
    # Whatever happened, the other daemon was stopped and has cleaned up.
    assert bystander == ["on_start", "run", "on_stop"]
    assert sup.snapshot()["bystander"].state == "stopped"


# -- restart --------------------------------------------------------------------------------------------------------


class Counter(Daemon):
    """Fails as often as it is told, and remembers how often this very object was entered."""

    made = 0

    def __init__(self, failures: int, entered: list[int]) -> None:
        Counter.made += 1
        self._left = failures
        self._entered = entered
        self._times = 0

    async def run(self, ctx: Context) -> None:
        self._times += 1
        self._entered.append(self._times)
        if len(self._entered) <= self._left:
            raise RuntimeError(f"failure {len(self._entered)}")


async def run_for(sup: Supervisor, seconds: float = 100) -> None:
    async with sup:
        assert isinstance(sup.clock, SimClock)
        await sup.clock.advance(seconds)


def restarting(**settings: Any) -> Supervisor:
    return Supervisor(clock=SimClock(), on_error="restart", restart=RestartPolicy(**settings))


async def test_a_class_makes_a_new_object_for_every_life() -> None:
    entered: list[int] = []
    sup = restarting()
    sup.add(Counter, 2, entered)
    await run_for(sup)
    assert entered == [1, 1, 1]


async def test_a_factory_makes_a_new_object_for_every_life() -> None:
    entered: list[int] = []
    sup = restarting()
    sup.add_factory(lambda: Counter(2, entered))
    await run_for(sup)
    assert entered == [1, 1, 1]


async def test_a_decorated_function_with_its_arguments_is_made_anew() -> None:
    bodies: list[object] = []

    @daemon
    async def notes_itself(ctx: Context, bodies: list[object]) -> None:
        bodies.append(ctx.supervisor._hosted["notes_itself"]._daemon)
        if len(bodies) < 3:
            raise RuntimeError("again")

    sup = restarting()
    sup.add(notes_itself, bodies)
    await run_for(sup)
    assert len({id(body) for body in bodies}) == 3


async def test_an_instance_is_entered_again() -> None:
    entered: list[int] = []
    sup = restarting()
    sup.add(Counter(2, entered))
    await run_for(sup)
    assert entered == [1, 2, 3]


async def test_a_constructor_that_fails_at_a_restart_is_a_failure_of_on_start() -> None:
    made = 0

    def make() -> Daemon:
        nonlocal made
        made += 1
        if made > 1:
            raise OSError("no camera")
        return Scripted([], run=raises)

    sup = restarting(max_retries=2)
    sup.add_factory(make, name="camera")
    with pytest.raises(ExceptionGroup):
        await run_for(sup)
    assert sup.snapshot()["camera"].last_error_phase == "on_start"


async def test_each_daemon_may_have_a_policy_of_its_own() -> None:
    lives: list[str] = []
    sup = Supervisor(clock=SimClock(), on_error="ignore")
    sup.add(Scripted(lives, run=raises), name="a", on_error="restart", restart=RestartPolicy(base=1, factor=1))
    sup.add(Scripted([], run=raises), name="b")
    async with sup:
        await sup.clock.advance(4.5)  # type: ignore[attr-defined]
        health = sup.snapshot()
        await sup.stop(grace=0)
    assert (health["a"].state, health["a"].restart_count) == ("restarting", 4)
    assert health["b"].state == "stopped"


async def test_delays_grow_to_the_cap_and_a_healthy_stretch_forgives() -> None:
    clock = SimClock()
    born: list[float] = []
    lives = iter([0, 0, 0, 0, 60, 0, 0])

    async def flaps(ctx: Context) -> None:
        born.append(ctx.clock.now())
        await ctx.clock.sleep(next(lives))
        raise RuntimeError("again")

    async with Supervisor(clock=clock, on_error="restart", restart=RestartPolicy(1, 2, 5, within=30)) as sup:
        sup.spawn(flaps)
        await clock.advance(75)
        await sup.stop(grace=0)
    assert born == [0, 1, 3, 7, 12, 73, 75]


async def test_too_many_failures_escalate_once_with_the_first_cause() -> None:
    lives = 0

    async def fails(ctx: Context) -> None:
        nonlocal lives
        lives += 1
        raise RuntimeError("the cause" if lives == 1 else "a consequence")

    sup = restarting(base=1, max_retries=3)
    sup.spawn(fails)
    with pytest.raises(ExceptionGroup) as raised:
        await run_for(sup)
    (error,) = leaves(raised.value)
    assert isinstance(error, DaemonError)
    assert str(error.__cause__) == "the cause"
    assert str(sup.snapshot()["fails"].last_error) == "a consequence"
    assert lives == 4
    assert sup.clock.now() < 100


async def test_a_daemon_that_is_stopped_while_it_waits_for_its_restart_is_not_started_again() -> None:
    log: list[str] = []
    sup = restarting(base=1000, cap=1000)
    sup.add(Scripted(log, run=raises))
    async with sup:
        await sup.clock.advance(1)  # type: ignore[attr-defined]
        assert await sup.stop(grace=5) == ()
    assert log == ["on_start", "run", "on_stop"]


async def test_chance_is_the_same_on_every_simulated_run() -> None:
    async def births() -> list[float]:
        clock = SimClock()
        born: list[float] = []

        async def flaps(ctx: Context) -> None:
            born.append(ctx.clock.now())
            raise RuntimeError("again")

        async with Supervisor(clock=clock, on_error="restart", restart=RestartPolicy(jitter=0.5)) as sup:
            sup.spawn(flaps)
            await clock.advance(20)
            await sup.stop(grace=0)
        return born

    first = await births()
    assert await births() == first
    assert len({round(later - earlier, 6) for earlier, later in itertools.pairwise(first)}) > 3


# -- stopping -------------------------------------------------------------------------------------------------------


def told(log: list[str]) -> Do:
    async def waits_for_its_stop(ctx: Context) -> None:
        await ctx.stop_event.wait()
        log.append(f"{ctx.name} told")
        await ctx.clock.sleep(0)
        log.append(f"{ctx.name} left")

    return waits_for_its_stop


async def test_daemons_are_stopped_in_reverse_order_of_start_one_after_another() -> None:
    log: list[str] = []
    async with Supervisor(clock=SimClock()) as sup:
        for name in "abc":
            sup.spawn(told(log), name=name)
        await sup.wait_all_started()
        assert await sup.stop(grace=5) == ()
    assert log == ["c told", "c left", "b told", "b left", "a told", "a left"]


async def test_a_signal_tells_all_at_once() -> None:
    log: list[str] = []
    async with Supervisor(clock=SimClock()) as sup:
        for name in "abc":
            sup.spawn(told(log), name=name)
        await sup.wait_all_started()
        sup.signal_stop()
        assert sup.stop_event.is_set()
    assert log[:3] == ["a told", "b told", "c told"]


async def test_who_does_not_stop_in_time_is_named_and_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    async with Supervisor(clock=SimClock()) as sup:
        sup.spawn(told(log), name="a")
        sup.add(Scripted(log, run=sleeps), name="deaf")
        sup.spawn(told(log), name="c")
        await sup.wait_all_started()
        assert await sup.stop(grace=0.02) == ("deaf",)
    assert log == ["on_start", "run", "c told", "c left", "a told", "on_stop", "a left"]
    assert "not stopped within 0.02 s, and cancelled: deaf" in caplog.text


@pytest.mark.parametrize("clock", ["wall", "sim"])
async def test_with_no_grace_a_daemon_still_hears_of_its_stop_before_it_is_cancelled(clock: str) -> None:
    log: list[str] = []

    async def hears(ctx: Context) -> None:
        await ctx.stop_event.wait()
        log.append("told")

    async with Supervisor(clock=SimClock() if clock == "sim" else None) as sup:
        sup.spawn(hears)
        await sup.stop(grace=0)
    assert log == ["told"]


async def test_on_stop_is_shielded_and_bounded_when_a_daemon_is_stopped_by_force() -> None:
    log: list[str] = []

    async def cleans(ctx: Context) -> None:
        await anyio.lowlevel.checkpoint()
        log.append("clean")

    async def never_ready(ctx: Context) -> None:
        await anyio.sleep_forever()

    async with Supervisor(clock=SimClock()) as sup:
        sup.add(Scripted([], run=sleeps, on_stop=cleans), name="good")
        sup.add(Scripted([], run=sleeps, on_stop=never_ready), name="bad")
        await sup.wait_all_started()
        assert await sup.stop(grace=0, finalize_timeout=0.02) == ("bad", "good")
    assert log == ["clean"]


async def test_on_stop_is_bounded_too_when_the_block_is_cancelled_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geartrain.engine.hosted.FINALIZE_TIMEOUT_S", 0.02)
    monkeypatch.setattr("geartrain.engine.supervisor.FINALIZE_TIMEOUT_S", 0.02)
    log: list[str] = []

    async def slow(_: Context) -> None:
        log.append("cleaning")
        await anyio.sleep_forever()

    with anyio.move_on_after(0.02) as scope:
        async with Supervisor() as sup:
            sup.add(Scripted(log, run=lambda _: anyio.sleep_forever(), on_stop=slow))
            await sup.wait_all_started()
            assert sup.clock is not None
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert log == ["on_start", "run", "on_stop", "cleaning"]


async def test_a_daemon_may_stop_the_supervisor_that_hosts_it() -> None:
    log: list[str] = []

    async def ends_it(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        assert await ctx.supervisor.stop(grace=1) == ()
        log.append("stopped the others")

    clock = SimClock()
    async with Supervisor(clock=clock) as sup:
        sup.spawn(told(log), name="a")
        sup.spawn(ends_it)
        await clock.advance(2)
    assert log == ["a told", "a left", "stopped the others"]


async def test_stop_may_be_called_twice_and_before_there_is_anything_to_stop() -> None:
    sup = Supervisor(clock=SimClock())
    sup.signal_stop()
    async with sup:
        sup.spawn(returns)
        await sup.stop(grace=0)
        assert await sup.stop(grace=0) == ()


async def test_a_daemon_added_while_all_are_stopping_knows_it() -> None:
    seen = []
    async with Supervisor(clock=SimClock()) as sup:
        sup.signal_stop()

        async def late(ctx: Context) -> None:
            seen.append(ctx.stopping)

        sup.spawn(late)
    assert seen == [True]


@pytest.mark.parametrize("settings", [{"grace": -1}, {"grace": "5"}, {"finalize_timeout": float("nan")}])
async def test_a_senseless_grace_is_refused(settings: dict[str, Any]) -> None:
    async with Supervisor(clock=SimClock()) as sup:
        with pytest.raises((ValueError, TypeError), match=next(iter(settings))):
            await sup.stop(**settings)


# -- starting, and being watched ------------------------------------------------------------------------------------


async def test_daemons_start_in_the_order_in_which_they_were_added() -> None:
    started: list[str] = []
    sup = Supervisor(clock=SimClock())

    async def notes(ctx: Context) -> None:
        started.append(ctx.name)

    for number in range(20):
        sup.spawn(notes, name=str(number))
    async with sup:
        for number in range(20, 40):
            sup.spawn(notes, name=str(number))
    assert started == [str(number) for number in range(40)]


async def test_the_barrier_waits_for_every_on_start_and_for_nothing_else() -> None:
    clock = SimClock()
    ready = anyio.Event()

    async def slow(_: Context) -> None:
        await ready.wait()

    async with Supervisor(clock=clock, on_error="ignore") as sup:
        sup.add(Scripted([], on_start=slow, run=sleeps), name="slow")
        sup.add(Scripted([], on_start=raises), name="broken")
        assert sup.snapshot()["slow"].state == "starting"
        ready.set()
        await sup.wait_all_started()
        assert sup.snapshot()["slow"].state == "running"
        assert sup.snapshot()["broken"].last_error_phase == "on_start"
        await sup.stop(grace=0)


async def test_health_tells_state_times_and_the_last_error() -> None:
    clock = SimClock(t0=5)
    sup = Supervisor(clock=clock, on_error="restart", restart=RestartPolicy(base=1))
    sup.add(Scripted([], run=sleeps), name="steady")
    sup.add(Scripted([], run=raises), name="flapping")
    assert sup.snapshot()["steady"] == DaemonHealth("steady", "starting", 0, None, None, None, None)
    async with sup:
        await clock.advance(3)
        steady, flapping = sup.snapshot().values()
        await sup.stop(grace=0)
    assert (steady.state, steady.started_at, steady.uptime) == ("running", 5.0, 3.0)
    assert (flapping.state, flapping.restart_count, flapping.uptime) == ("restarting", 2, None)
    assert str(flapping.last_error) == "broken"
    assert flapping.last_error_phase == "run"


async def test_a_failure_that_is_absorbed_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    clock = SimClock()
    async with Supervisor(clock=clock, on_error="restart", restart=RestartPolicy(base=1, factor=1)) as sup:
        sup.add(Scripted([], run=raises), name="flapping")
        sup.add(Scripted([], run=raises), name="dropped", on_error="ignore")
        await clock.advance(1.5)
        await sup.stop(grace=0)
    texts = [(record.levelno, record.getMessage()) for record in caplog.records if record.exc_info]
    assert texts.count((logging.WARNING, "daemon 'flapping' failed; again in 1 s")) == 2
    assert texts.count((logging.ERROR, "daemon 'dropped' failed, and is not started again")) == 1


async def test_an_error_of_the_body_stops_the_daemons_and_comes_out() -> None:
    log: list[str] = []
    with pytest.raises(ExceptionGroup) as raised:
        async with Supervisor(clock=SimClock()) as sup:
            sup.add(Scripted(log, run=sleeps))
            await sup.wait_all_started()
            raise ValueError("in the body")
    assert [str(error) for error in leaves(raised.value)] == ["in the body"]
    assert log == ["on_start", "run", "on_stop"]


async def test_supervisors_nest_and_each_daemon_has_a_scope_of_its_own() -> None:
    scopes = []

    async def inner(ctx: Context) -> None:
        scopes.append(ctx.cancel_scope)
        await ctx.stop_event.wait()

    async def outer(ctx: Context) -> None:
        async with Supervisor(clock=SimClock()) as sup:
            sup.spawn(inner, name="a")
            sup.spawn(inner, name="b")
            await sup.wait_all_started()
            scopes[0].cancel()
            await sup.stop(grace=1)

    async with Supervisor() as sup:
        sup.spawn(outer)
    assert scopes[0] is not scopes[1]


# -- bad input ------------------------------------------------------------------------------------------------------


@daemon
async def nothing(ctx: Context) -> None:
    """An @daemon function that takes no arguments."""


@pytest.mark.parametrize(
    ("use", "kind", "said"),
    [
        (lambda sup: sup.add(nothing), TypeError, "@daemon factory ('nothing')"),
        (lambda sup: sup.add("camera"), TypeError, "add() expected a Daemon"),
        (lambda sup: sup.add(Scripted([]), 3), TypeError, "which is made already"),
        (lambda sup: sup.add(Daemon), TypeError, "abstract"),
        (lambda sup: sup.add(nothing(), name=""), ValueError, "must not be empty"),
        (lambda sup: sup.add(nothing(), name=3), TypeError, "name must be a string"),
        (lambda sup: sup.add(nothing(), on_error="retry"), ValueError, "'shutdown', 'restart', 'ignore', got 'retry'"),
        (lambda sup: sup.add(nothing(), restart=3), TypeError, "must be a RestartPolicy, got 3"),
        (lambda sup: sup.add_factory(3), TypeError, "add_factory() expected a function"),
        (lambda sup: sup.add_factory(lambda: 3), TypeError, "expected a Daemon from the factory, got 3"),
        (lambda sup: sup.spawn(3), TypeError, "spawn() expected an `async def fn(ctx, ...)`, got 3"),
        (lambda sup: sup.spawn(leaves), TypeError, "plain function 'leaves'"),
        (lambda sup: (sup.add(nothing()), sup.add(nothing())), ValueError, "duplicate daemon name 'nothing'"),
        (lambda _: Supervisor(on_error="retry"), ValueError, "on_error must be one of"),  # type: ignore[arg-type]
        (lambda _: Supervisor(on_error=None), TypeError, "on_error must be one of"),  # type: ignore[arg-type]
        (lambda _: Supervisor(clock=3), TypeError, "clock must be a Clock"),  # type: ignore[arg-type]
        (lambda _: Supervisor(observer=3), TypeError, "must inherit from geartrain.Observer"),  # type: ignore[arg-type]
        (lambda _: Supervisor(restart=3), TypeError, "restart must be a RestartPolicy"),  # type: ignore[arg-type]
        (lambda _: daemon(leaves), TypeError, "plain function"),  # type: ignore[arg-type]
        (lambda _: daemon(3), TypeError, "@daemon expected"),  # type: ignore[call-overload]
        (lambda _: simulate(leaves), TypeError, "simulate()"),  # type: ignore[arg-type]
        (lambda _: simulate(returns, None, backend="curio"), ValueError, "'asyncio', 'trio'"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_refused_at_once_and_says_what_was_expected(
    use: Callable[[Any], object], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind) as refused:
        use(Supervisor())
    assert said in str(refused.value)


async def test_a_supervisor_is_used_inside_its_block_and_entered_once() -> None:
    sup = Supervisor(clock=SimClock())
    async with sup:
        with pytest.raises(NotInUse, match="entered before"):
            await sup.__aenter__()
    with pytest.raises(NotInUse, match="has been left"):
        sup.spawn(returns)
    with pytest.raises(NotInUse, match="entered before"):
        async with sup:
            raise AssertionError("unreachable")


def test_waiting_outside_of_any_loop_says_so() -> None:
    channel: Channel[int] = open_channel(1)
    with pytest.raises(NotInUse, match="needs a running event loop"):
        channel.recv.receive().send(None)


async def test_a_deadlock_comes_out_of_the_block() -> None:
    clock = SimClock()
    channel: Channel[int] = open_channel(0)

    @daemon
    async def reads(ctx: Context, inp: Channel[int]) -> None:
        await inp.recv.receive()

    with pytest.raises(ExceptionGroup) as raised:
        async with Supervisor(clock=clock) as sup:
            sup.add(reads(channel))
            sup.spawn(lambda _, kept=channel: returns(_), name="forgetful")
            sup.add(Scripted([], run=returns), name="other")
            holder = Scripted([], run=returns)
            holder.kept = channel  # type: ignore[attr-defined]
            sup.add(holder, name="holder")
            await clock.run()
    (error,) = leaves(raised.value)
    assert isinstance(error, Deadlock)
    assert "holder, who has finished without closing it" in str(error)


def test_errors_keep_their_kind() -> None:
    assert issubclass(BadType, TypeError)
    assert issubclass(BadValue, ValueError)


# -- what newcomers met ---------------------------------------------------------------------------------------------


async def test_stop_before_the_block_is_entered_tells_nobody() -> None:
    stopping: list[bool] = []
    sup = Supervisor(clock=SimClock())
    assert await sup.stop() == ()
    sup.spawn(lambda ctx: noted(stopping, ctx.stopping), name="it")
    async with sup:
        await sup.wait_all_started()
    assert stopping == [False]


async def noted(log: list[bool], value: bool) -> None:
    log.append(value)


def test_an_exit_from_the_body_comes_out_as_it_is() -> None:
    async def scenario(error: BaseException) -> None:
        async with Supervisor(clock=SimClock()) as sup:
            sup.spawn(sleeps)
            raise error

    for backend in ("asyncio", "trio"):
        with pytest.raises(SystemExit):
            simulate(scenario, SystemExit(3), backend=backend)
        with pytest.raises(KeyboardInterrupt):
            simulate(scenario, KeyboardInterrupt(), backend=backend)


async def test_the_first_cause_is_that_of_the_first_death_that_counts() -> None:
    deaths = iter([0, 50, 100, 150, 200, 240, 241])

    async def dies(ctx: Context) -> None:
        await ctx.clock.wait_until(next(deaths))
        raise RuntimeError(f"died at {ctx.clock.now():g}")

    sup = restarting(base=0, max_retries=2, within=60)
    sup.spawn(dies)
    with pytest.raises(ExceptionGroup) as raised:
        await run_for(sup, 1000)
    (error,) = leaves(raised.value)
    assert str(error) == (
        "daemon 'dies' failed 3 times, and is not started again; it began in run: RuntimeError: died at 200"
    )


async def test_an_error_that_is_a_group_is_told_by_its_members() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with Supervisor(clock=SimClock()) as sup:
            sup.add(Scripted([], run=raises_group), name="it")
    (error,) = leaves(raised.value)
    assert str(error) == "daemon 'it' failed in run: RuntimeError: broken; OSError: and lost"


async def test_a_block_that_waits_for_a_clock_nobody_drives_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geartrain.engine.supervisor._PATIENCE_S", 0.02)
    said: list[str] = []
    something_was_said = anyio.Event()

    class Listens(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            something_was_said.set()

    logger = logging.Logger("of its own")
    logger.addHandler(Listens())
    sup = Supervisor(clock=SimClock(), logger=logger)

    async def end_it_when_it_was_said() -> None:
        await something_was_said.wait()
        await sup.stop(grace=0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end_it_when_it_was_said)
        async with sup:
            sup.spawn(sleeps)
    assert "waits for sleeps, but nobody drives its SimClock" in said[0]


async def test_what_the_supervisor_says_of_a_daemon_carries_virtual_time(caplog: pytest.LogCaptureFixture) -> None:
    clock = SimClock(t0=7)
    async with Supervisor(clock=clock, on_error="ignore") as sup:
        sup.add(Scripted([], run=raises), name="it")
    (record,) = caplog.records
    assert (record.name, vars(record)["sim_time"]) == ("geartrain.it", 7.0)


def test_a_supervisor_shows_its_daemons() -> None:
    sup = Supervisor()
    assert repr(sup) == "<Supervisor of nobody>"
    sup.spawn(sleeps)
    assert repr(sup) == "<Supervisor of sleeps starting>"


class HalfAClock:
    def now(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None: ...


@daemon
async def takes_two(ctx: Context, first: int, second: int) -> None: ...


async def plain_main() -> None: ...


@pytest.mark.parametrize(
    ("use", "kind", "said"),
    [
        (lambda sup: sup.add(takes_two(1, 2), restart=RestartPolicy()), ValueError, "does nothing with on_error="),
        (lambda sup: sup.add(takes_two, 1), TypeError, "missing a required argument: 'second'"),
        (lambda sup: sup.spawn(sleeps, 1), TypeError, "too many positional arguments"),
        (lambda sup: sup.spawn(takes_two, 1), TypeError, "give it to add()"),
        (lambda sup: sup.spawn(print), TypeError, "expected an `async def fn(ctx, ...)`"),
        (lambda _: Supervisor(clock=SimClock), TypeError, "clock must be a Clock"),  # type: ignore[arg-type]
        (lambda _: Supervisor(clock=HalfAClock()), TypeError, "it lacks every, fail_after"),  # type: ignore[arg-type]
        (lambda _: Supervisor(logger="log"), TypeError, "must be a logging.Logger"),  # type: ignore[arg-type]
        (lambda _: simulate(plain_main()), TypeError, "not simulate(main(...))"),  # type: ignore[arg-type]
        (lambda _: simulate(3), TypeError, "expected an `async def`, got 3"),  # type: ignore[arg-type]
        (lambda _: open_channel(name=3), TypeError, "name must be a string"),  # type: ignore[arg-type]
    ],
)
def test_what_newcomers_mistake_is_refused_where_they_wrote_it(
    use: Callable[[Any], object], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind) as refused:
        use(Supervisor())
    assert said in str(refused.value)
