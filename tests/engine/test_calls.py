"""Request and reply inside a process: in real time and in turns, on both loops."""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import msgspec
import pytest

from geartrain import (
    Call,
    CallChannel,
    Caller,
    CallFailed,
    Calls,
    CallTimeout,
    Context,
    Daemon,
    Deadlock,
    ReceiveStream,
    RestartPolicy,
    ServerGone,
    SimClock,
    Supervisor,
    open_calls,
)
from geartrain.engine.channel import open_channel
from geartrain.engine.ends import Channel
from geartrain.errors import BadType, BadValue, EndOfStream, NotInUse, WouldBlock
from geartrain.ports.parking import take_turn
from geartrain.recipes.coordination import select

PATIENCE_S = 5

Port = CallChannel[int, int]


@pytest.fixture(params=["real time", "in turns"], autouse=True)
async def time_kind(request: pytest.FixtureRequest) -> None:
    if request.param == "in turns":
        # The first SimClock on a loop makes its waits take turns.
        SimClock()


async def settle() -> None:
    """Let everybody go on who can."""
    for _ in range(30):
        await take_turn()


class Outcome:
    """What came of a call, once something has."""

    def __init__(self) -> None:
        self.of: Any = None

    async def wait_for(self, call: Awaitable[Any]) -> None:
        try:
            self.of = await call
        except Exception as error:
            self.of = error


async def began(tasks: anyio.abc.TaskGroup, call: Callable[[], Awaitable[Any]]) -> Outcome:
    outcome = Outcome()
    tasks.start_soon(lambda: outcome.wait_for(call()))
    await settle()
    return outcome


async def double(number: int) -> int:
    return number * 2


# -- answers ----------------------------------------------------------------------------------------------------------


async def test_a_call_returns_what_the_handler_returns() -> None:
    port: Port = open_calls(4)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(port.calls.serve, double)
        with anyio.fail_after(PATIENCE_S):
            assert [await port.caller.call(number) for number in range(200)] == [n * 2 for n in range(200)]
        await port.caller.aclose()


async def test_several_tasks_call_at_a_time_and_each_gets_its_own_answer_in_whatever_order_they_come() -> None:
    port: Port = open_calls(4)
    async with anyio.create_task_group() as tasks:
        outcomes = [await began(tasks, partial(port.caller.call, number)) for number in range(4)]
        calls = [await port.calls.receive() for _ in range(4)]
        for call in reversed(calls):
            await call.reply(call.request * 10)
        await settle()
    assert [outcome.of for outcome in outcomes] == [0, 10, 20, 30]


async def test_never_more_calls_are_under_way_than_maxsize() -> None:
    port: Port = open_calls(2)
    async with anyio.create_task_group() as tasks:
        outcomes = [await began(tasks, partial(port.caller.call, number)) for number in range(3)]
        first, _second = [await port.calls.receive() for _ in range(2)]
        await settle()
        with pytest.raises(WouldBlock):
            port.calls.receive_nowait()
        await first.reply(0)
        await settle()
        third = port.calls.receive_nowait()
        assert (third.request, outcomes[0].of) == (2, 0)
        tasks.cancel_scope.cancel()


async def test_what_a_handler_raises_travels_and_the_server_goes_on() -> None:
    port: Port = open_calls(name="geo")

    async def divide(number: int) -> int:
        return 100 // number

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(port.calls.serve, divide)
        with pytest.raises(CallFailed, match="ZeroDivisionError: integer division") as caught:
            await port.caller.call(0)
        assert (caught.value.kind, caught.value.daemon) == ("ZeroDivisionError", "")
        assert "in divide" in caught.value.trace
        assert await port.caller.call(5) == 20
        await port.caller.aclose()
    stats = port.caller.statistics()
    assert (stats.calls, stats.answered, stats.failed) == (2, 1, 1)


async def test_an_error_whose_text_has_no_encoding_or_no_end_is_told_all_the_same() -> None:
    port: Port = open_calls()

    async def fail(number: int) -> int:
        raise OSError(f"no file \udcff {'x' * 100_000}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(port.calls.serve, fail)
        with pytest.raises(CallFailed) as caught:
            await port.caller.call(0)
        assert caught.value.message.startswith("no file \\udcff xxx")
        assert len(msgspec.msgpack.encode(caught.value.trace)) < 20_000
        await port.caller.aclose()


async def test_a_call_that_is_left_without_an_answer_fails() -> None:
    port: Port = open_calls()
    async with anyio.create_task_group() as tasks:
        outcome = await began(tasks, partial(port.caller.call, 1))
        async with await port.calls.receive():
            pass
        await settle()
    assert isinstance(outcome.of, CallFailed)
    assert "left the call without an answer" in outcome.of.message


async def test_a_call_is_answered_once_and_an_error_after_the_answer_stays_with_the_server() -> None:
    port: Port = open_calls()
    async with anyio.create_task_group() as tasks:
        outcome = await began(tasks, partial(port.caller.call, 1))
        call = await port.calls.receive()
        with pytest.raises(ZeroDivisionError):
            async with call:
                await call.reply(2)
                raise ZeroDivisionError
        with pytest.raises(NotInUse, match="cannot be answered again"):
            await call.fail(OSError())
        await settle()
    assert outcome.of == 2


# -- calls that are withdrawn -----------------------------------------------------------------------------------------


async def test_a_call_that_is_cancelled_is_withdrawn_and_its_late_reply_is_dropped_and_counted() -> None:
    port: Port = open_calls()
    async with anyio.create_task_group() as tasks:
        await began(tasks, partial(port.caller.call, 1))
        tasks.cancel_scope.cancel()
    late = await port.calls.receive()
    await late.reply(0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(port.calls.serve, double)
        assert await port.caller.call(4) == 8
        await port.caller.aclose()
    stats = port.caller.statistics()
    assert (stats.calls, stats.answered, stats.withdrawn, stats.late) == (2, 1, 1, 1)


async def test_a_call_that_is_cancelled_while_it_waits_for_room_was_never_sent() -> None:
    port: Port = open_calls(1)
    async with anyio.create_task_group() as tasks:
        await began(tasks, partial(port.caller.call, 1))
        async with anyio.create_task_group() as others:
            await began(others, partial(port.caller.call, 2))
            others.cancel_scope.cancel()
        third = await began(tasks, partial(port.caller.call, 3))
        assert (await port.calls.receive()).request == 1
        with pytest.raises(WouldBlock):
            port.calls.receive_nowait()
        assert port.caller.statistics().calls == 1
        assert third.of is None
        tasks.cancel_scope.cancel()


async def test_a_call_that_takes_too_long_says_so_at_the_exact_moment_of_its_clock() -> None:
    clock = SimClock()
    port: Port = open_calls(name="geo")

    async def slowly(number: int) -> int:
        await clock.sleep(number)
        return number

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(port.calls.serve, slowly)
        outcome = await began(tasks, lambda: port.caller.call(3, 2.5, clock=clock))
        await clock.advance(2)
        assert outcome.of is None
        await clock.advance(0.5)
        assert isinstance(outcome.of, CallTimeout)
        assert str(outcome.of) == "no answer over channel 'geo' within 2.5 s; the call is withdrawn"
        outcome = await began(tasks, lambda: port.caller.call(1, 2.5, clock=clock))
        await clock.advance(2)
        assert (outcome.of, clock.now()) == (1, 4.5)
        await port.caller.aclose()


async def test_without_a_clock_a_timeout_is_of_real_time() -> None:
    port: Port = open_calls()
    with anyio.fail_after(PATIENCE_S), pytest.raises(TimeoutError):
        await port.caller.call(1, timeout=0.01)


@pytest.mark.parametrize("timeout", [-1, math.nan])
async def test_a_timeout_that_makes_no_sense_is_refused(timeout: float) -> None:
    port: Port = open_calls()
    with pytest.raises(BadValue, match=r"call\(\) timeout"):
        await port.caller.call(1, timeout)


# -- ends -------------------------------------------------------------------------------------------------------------


async def test_when_the_server_closes_calls_that_wait_and_new_ones_fail_at_once() -> None:
    port: Port = open_calls(2, name="geo")
    async with anyio.create_task_group() as tasks:
        # Two have been sent, and one waits for room.
        outcomes = [await began(tasks, partial(port.caller.call, number)) for number in range(3)]
        await port.calls.receive()
        await port.calls.aclose()
        await settle()
    assert [type(outcome.of) for outcome in outcomes] == [ServerGone] * 3
    with pytest.raises(ServerGone, match=r"^nobody answers calls over channel 'geo' any more: "):
        await port.caller.call(1)


async def test_when_the_client_closes_what_it_had_asked_is_answered_and_then_serving_ends() -> None:
    port: Port = open_calls()
    async with anyio.create_task_group() as tasks:
        outcomes = [await began(tasks, partial(port.caller.call, number)) for number in range(2)]
        await port.caller.aclose()
        with anyio.fail_after(PATIENCE_S):
            await port.calls.serve(double)
        await settle()
    assert [outcome.of for outcome in outcomes] == [0, 2]
    with pytest.raises(EndOfStream):
        await port.calls.receive()


async def test_calls_can_be_selected_from_beside_other_streams() -> None:
    port: Port = open_calls()
    numbers: Channel[int] = open_channel(1)
    ends: list[ReceiveStream[Any]] = [numbers.recv, port.calls]
    async with anyio.create_task_group() as tasks:
        outcome = await began(tasks, partial(port.caller.call, 1))
        index, call = await select(*ends)
        assert index == 1
        assert isinstance(call, Call)
        await call.reply(5)
        await numbers.send.send(3)
        assert await select(*ends) == (0, 3)
        await settle()
    assert outcome.of == 5


async def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(BadValue, match=r"open_calls\(\) maxsize"):
        open_calls(0)
    with pytest.raises(BadType):
        open_calls(math.inf)  # type: ignore[arg-type]


# -- daemons ----------------------------------------------------------------------------------------------------------


class Fragile(Daemon):
    """A server whose first life ends with a call in hand."""

    def __init__(self, calls: Calls[int, int], seen: list[tuple[int, bool]], does: str) -> None:
        self.calls = calls
        self.seen = seen
        self.does = does

    async def run(self, ctx: Context) -> None:
        if self.does == "select":
            self.calls.take_up()
            with suppress(EndOfStream):
                while True:
                    await self._answer((await select(self.calls))[1])
            return
        async for call in self.calls:
            await self._answer(call)

    async def _answer(self, call: Call[int, int]) -> None:
        self.seen.append((call.request, call.redelivered))
        if call.request == 1 and not call.redelivered:
            raise OSError("the lens is dirty")
        await call.reply(call.request * 2)


@pytest.mark.parametrize("does", ["iterate", "select"])
async def test_a_server_that_is_made_anew_gets_the_call_it_died_with_once_more(does: str) -> None:
    clock = SimClock()
    port: Port = open_calls()
    seen: list[tuple[int, bool]] = []
    got: list[int] = []

    async def ask(ctx: Context) -> None:
        got.extend([await port.caller.call(number) for number in range(3)])
        await port.caller.aclose()

    async with Supervisor(clock=clock, restart=RestartPolicy(base=1)) as sup:
        sup.add(Fragile, port.calls, seen, does, name="server", on_error="restart")
        sup.add_factory(lambda: Function(ask), name="client")
        await clock.run()
        await sup.stop(grace=0)
    assert got == [0, 2, 4]
    assert seen == [(0, False), (1, False), (1, True), (2, False)]


class Function(Daemon):
    def __init__(self, function: Callable[[Context], Awaitable[None]]) -> None:
        self._function = function

    async def run(self, ctx: Context) -> None:
        await self._function(ctx)


async def test_an_answer_by_another_task_takes_a_call_off_those_that_come_again() -> None:
    port: Port = open_calls()
    async with anyio.create_task_group() as tasks:
        outcome = await began(tasks, partial(port.caller.call, 1))
        call = await port.calls.receive()
        port.calls.take_up()
        assert port.calls.has_item()
        await call.reply(5)
        assert not port.calls.has_item()
        await settle()
    assert outcome.of == 5


async def test_an_error_names_the_daemon_that_failed_to_answer() -> None:
    clock = SimClock()
    port: Port = open_calls()
    caught: list[CallFailed] = []

    async def fail(number: int) -> int:
        raise OSError("no such place")

    async def ask(ctx: Context) -> None:
        try:
            await port.caller.call(1)
        except CallFailed as error:
            caught.append(error)
        await port.caller.aclose()

    async with Supervisor(clock=clock) as sup:
        sup.add(Function(lambda ctx: port.calls.serve(fail)), name="geo")
        sup.add(Function(ask), name="planner")
        await clock.run()
        await sup.stop(grace=0)
    assert [str(error) for error in caught] == ["daemon 'geo' failed to answer: OSError: no such place"]


async def test_daemons_that_wait_for_each_others_answers_in_virtual_time_are_named() -> None:
    clock = SimClock()
    there: Port = open_calls(name="there")
    back: Port = open_calls(name="back")
    async with Supervisor(clock=clock) as sup:
        sup.add(Function(partial(_ask_before_serving, there.caller, back.calls)), name="ping")
        sup.add(Function(partial(_ask_before_serving, back.caller, there.calls)), name="pong")
        with pytest.raises(Deadlock) as found:
            await clock.run()
        await sup.stop(grace=0)
    assert "ping waits for an answer over channel 'there'" in str(found.value)
    assert "pong waits for an answer over channel 'back'" in str(found.value)


async def _ask_before_serving(caller: Caller[int, int], calls: Calls[int, int], ctx: Context) -> None:
    await caller.call(1)
    await calls.serve(double)


async def test_in_virtual_time_the_order_of_answers_is_the_same_on_every_loop() -> None:
    clock = SimClock()
    port: Port = open_calls(2)
    order: list[tuple[int, float]] = []

    async def ask(number: int, ctx: Context) -> None:
        for _ in range(3):
            await clock.sleep(1 + number / 10)
            await port.caller.call(number)
            order.append((number, round(clock.now(), 3)))

    async def slowly(number: int) -> int:
        await clock.sleep(0.25)
        return number

    async with Supervisor(clock=clock) as sup:
        sup.add(Function(lambda ctx: port.calls.serve(slowly)), name="server")
        for number in range(4):
            sup.add(Function(partial(ask, number)), name=f"client{number}")
        await clock.run()
        await sup.stop(grace=0)
    assert order == ORDER


ORDER = [
    (0, 1.25), (1, 1.5), (2, 1.75), (3, 2.0), (0, 2.5), (1, 2.85), (2, 3.2), (3, 3.55), (0, 3.8), (1, 4.2),
    (2, 4.65), (3, 5.1),
]  # fmt: skip
