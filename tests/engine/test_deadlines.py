"""The ends between a daemon and its clock: the test is the clock, and says its words by hand."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from geartrain import Deadlines, Planes, open_deadlines, open_planes
from geartrain.engine.deadlines import ClockClient
from geartrain.errors import BadType, BadValue, EndOfStream, WouldBlock
from geartrain.recipes import select
from geartrain.rules.appointments import Asked, Begin, Hello, PlaneChange, Rang, Schedule, rang

NOW_NS = 1_000


class Pair:
    """A daemon's end and the clock's."""

    def __init__(self, maxsize: int = 8) -> None:
        both = open_deadlines(maxsize, name="dog")
        self.end: Deadlines = both.end
        self.clock: ClockClient = both.client

    def asked(self) -> list[Asked]:
        words = []
        try:
            while True:
                words.append(self.clock.asks.receive_nowait())
        except (WouldBlock, EndOfStream):
            return words

    def tell_all(self, now_ns: int = NOW_NS) -> None:
        """Tell of all that is asked for, as if it were due."""
        for word in self.asked():
            if isinstance(word, Schedule):
                self.clock.tells.send_nowait(rang(word.life, word.appointment, now_ns)[0])


async def test_what_is_scheduled_is_asked_for_and_handed_over_when_it_is_told(anyio_backend: str) -> None:
    pair = Pair()
    made = await pair.end.schedule_at(900, name="look")
    pair.tell_all()
    fired = await pair.end.receive()
    assert (fired.name, fired.number, fired.due_ns, fired.late_ns) == ("look", made.number, 900, 100)
    assert not pair.end.has_item()


async def test_deadlines_stand_in_a_select_and_wake_it(anyio_backend: str) -> None:
    pair, other = Pair(), Pair()
    await pair.end.schedule_at(900, name="look")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_later, pair.tell_all)
        index, fired = await select(other.end, pair.end)
    assert (index, fired.name) == (1, "look")


async def _later(work: Callable[[], None]) -> None:
    await anyio.lowlevel.checkpoint()
    work()


async def test_cancelled_means_that_it_never_comes_even_when_it_has_been_told(anyio_backend: str) -> None:
    pair = Pair()
    told, taken = await pair.end.schedule_at(1), await pair.end.schedule_at(2)
    pair.tell_all()
    assert await pair.end.cancel(told)
    assert pair.end.has_item()
    assert await pair.end.cancel(taken)
    assert not pair.end.has_item()
    assert not await pair.end.cancel(taken)


async def test_a_new_clock_that_says_hello_is_told_what_is_pending(anyio_backend: str) -> None:
    pair = Pair()
    made = [await pair.end.schedule_at(due_ns) for due_ns in (1, 2, 3)]
    await pair.end.cancel(made[1])
    pair.asked()
    pair.clock.tells.send_nowait(Hello(5))
    assert not pair.end.has_item()
    assert pair.asked() == [Begin(0, (made[0], made[2]))]


async def test_who_has_no_room_for_the_answer_gives_it_with_the_next_word_or_after_the_next_hello(
    anyio_backend: str,
) -> None:
    pair = Pair(maxsize=1)
    first = await pair.end.schedule_at(1)
    pair.clock.tells.send_nowait(Hello(5))
    assert not pair.end.has_item()
    assert len(pair.asked()) == 1
    pair.clock.tells.send_nowait(Hello(5))
    assert not pair.end.has_item()
    assert pair.asked() == [Begin(0, (first,))]


async def test_a_schedule_that_is_cancelled_while_it_waits_for_room_has_scheduled_nothing(anyio_backend: str) -> None:
    pair = Pair(maxsize=1)
    await pair.end.schedule_at(1)
    with anyio.move_on_after(0.01):
        await pair.end.schedule_at(2)
    assert pair.end.deadline_stats().pending == 1
    assert len(pair.asked()) == 1
    assert pair.asked() == []


async def test_in_its_next_life_a_daemon_begins_with_nothing(anyio_backend: str) -> None:
    pair = Pair()
    await pair.end.schedule_at(900)
    pair.tell_all()
    pair.end.begin_again()
    assert pair.asked() == [Begin(1)]
    assert not pair.end.has_item()
    assert pair.end.deadline_stats().repeated == 1


async def test_after_the_clock_has_closed_the_stream_ends_and_nothing_scheduled_comes(anyio_backend: str) -> None:
    pair = Pair()
    await pair.clock.aclose()
    made = await pair.end.schedule_after(0)
    with pytest.raises(EndOfStream):
        await pair.end.receive()
    assert await pair.end.cancel(made)


@pytest.mark.parametrize("delay_s", [-1, float("nan"), float("inf"), 1e300, "5s", None, True])
async def test_a_delay_that_is_none_is_refused_and_nothing_is_scheduled(anyio_backend: str, delay_s: Any) -> None:
    pair = Pair()
    for schedule in (pair.end.schedule_after, pair.end.schedule_every):
        with pytest.raises((BadType, BadValue)):
            await schedule(delay_s)
    for due_ns in (-1, 1.5, True, 1 << 63):
        with pytest.raises((BadType, BadValue)):
            await pair.end.schedule_at(due_ns)  # type: ignore[arg-type]
    assert pair.end.deadline_stats().scheduled == 0


@pytest.mark.parametrize(("name", "said"), [(3, "must be a string, got 3"), (print, "async for fired in deadlines")])
async def test_a_name_that_is_none_is_refused_before_it_would_end_the_channel(
    anyio_backend: str, name: Any, said: str
) -> None:
    pair = Pair()
    for schedule in (pair.end.schedule_at, pair.end.schedule_after, pair.end.schedule_every):
        with pytest.raises(BadType, match=said):
            await schedule(1, name)
    assert (pair.asked(), pair.end.deadline_stats().scheduled) == ([], 0)


@pytest.mark.parametrize("what", [None, 1, "retry"])
async def test_only_what_was_scheduled_can_be_cancelled(anyio_backend: str, what: Any) -> None:
    with pytest.raises(BadType, match=r"cancel\(\) takes what schedule_at"):
        await Pair().end.cancel(what)


async def test_planes_tell_each_change_once_whoever_repeats_it(anyio_backend: str) -> None:
    both = open_planes(name="dog")
    planes: Planes = both.end
    for stale in (False, True, True, False, False, True):
        both.client.tells.send_nowait(PlaneChange("frames", stale, 1, 2, 3))
    both.client.tells.send_nowait(PlaneChange("sound", True, 1, 2, 3))
    await both.client.aclose()
    heard = [(change.channel, change.stale) async for change in planes]
    assert heard == [("frames", True), ("frames", False), ("frames", True), ("sound", True)]


async def test_words_of_a_former_life_of_the_clock_are_handed_over_like_others(anyio_backend: str) -> None:
    pair = Pair()
    made = await pair.end.schedule_at(900)
    pair.clock.tells.send_nowait(Rang(0, made.number, 0, NOW_NS))
    pair.clock.tells.send_nowait(Hello(6))
    pair.clock.tells.send_nowait(Rang(0, made.number, 0, NOW_NS + 1))
    assert (await pair.end.receive()).fired_ns == NOW_NS
    assert not pair.end.has_item()
