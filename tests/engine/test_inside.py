"""Channels within a process of a pipeline: as plain ones, but a daemon that is made anew loses nothing of them."""

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.engine.hands import Hands
from geartrain.engine.inside import Shelf
from geartrain.errors import ChannelClosed, EndOfStream, WouldBlock
from geartrain.ports.plane_words import PlaneWords
from geartrain.ports.tally import Tally
from geartrain.rules.pipeline import Ack, Keep, Mark, Policy
from geartrain.rules.session import Poison


def shelf(
    maxsize: int = 8,
    *,
    policy: Policy = "block",
    ack: Ack = "batch",
    keep: Keep = "stable",
    takes_part: bool = False,
    max_deliveries: int | None = 3,
    aside: list[Poison] | None = None,
) -> Shelf[Any]:
    return Shelf(
        "numbers", maxsize, policy=policy, ack=ack, keep=keep, takes_part=takes_part, epoch=7,
        max_deliveries=max_deliveries, aside=None if aside is None else aside.append,
    )  # fmt: skip


def filled(*items: object, **options: Any) -> Shelf[Any]:
    channel = shelf(**options)
    for item in items:
        channel.sender.send_nowait(item)
    return channel


def taken(channel: Shelf[Any], most: int = 100) -> list[tuple[Any, bool]]:
    """What can be had at once, and whether it is a repeat."""
    found = []
    for _ in range(most):
        try:
            item = channel.receiver.receive_nowait()
        except (WouldBlock, EndOfStream):
            break
        found.append((item, channel.receiver.mark.redelivered))
    return found


async def next_of(channel: Shelf[Any]) -> tuple[Any, bool]:
    """The next one, by a reader that says nothing of the last before it takes it."""
    return await channel.receiver.receive(), channel.receiver.mark.redelivered


async def test_an_item_is_handed_over_as_it_is_whatever_it_is() -> None:
    item = object()
    assert taken(filled(item)) == [(item, False)]


async def test_a_reader_that_is_made_anew_gets_what_it_had_in_hand_once_more_and_marked() -> None:
    channel = filled(1, 2, 3)
    assert [await next_of(channel) for _ in range(2)] == [(1, False), (2, False)]
    channel.receiver.begin_again()
    assert [await next_of(channel) for _ in range(2)] == [(2, True), (3, False)]
    assert channel.receiver.mark == Mark(7, 3)


async def test_a_reader_that_waited_had_nothing_in_hand() -> None:
    channel = filled(1, 2)
    assert len(taken(channel)) == 2
    channel.receiver.begin_again()
    channel.sender.send_nowait(3)
    assert taken(channel) == [(3, False)]


async def test_who_says_what_is_done_gets_all_else_once_more() -> None:
    channel = filled(1, 2, 3, 4, ack="manual")
    await next_of(channel)
    await next_of(channel)
    second = channel.receiver.mark
    taken(channel)
    channel.receiver.done(second)
    assert channel.sender.statistics().stable == 2
    channel.receiver.begin_again()
    channel.sender.send_nowait(5)
    assert taken(channel) == [(3, True), (4, True), (5, False)]


async def test_who_begins_to_say_what_is_done_has_only_the_last_in_hand() -> None:
    channel = filled(1, 2, 3)
    for _ in range(3):
        await next_of(channel)
    channel.receiver.ack_manually()
    assert taken(channel) == []
    assert channel.sender.statistics().stable == 2
    channel.receiver.done(channel.receiver.mark)
    assert channel.sender.statistics().stable == 3
    assert not channel.held


@pytest.mark.parametrize("options", [{"keep": "taken"}, {"policy": "drop_oldest"}])
async def test_what_is_stable_when_it_is_taken_does_not_come_again(options: dict[str, Any]) -> None:
    channel = filled(1, 2, **options)
    await next_of(channel)
    channel.receiver.begin_again()
    assert taken(channel) == [(2, False)]


async def test_a_latest_value_replaces_the_one_before() -> None:
    channel = filled(1, 2, 3, maxsize=1, policy="latest")
    assert taken(channel) == [(3, False)]
    assert channel.sender.statistics().dropped == 2


async def test_what_comes_of_a_repeat_is_one() -> None:
    first, second = filled(1, 2), shelf()
    Hands([first.receiver], [second.sender])
    second.sender.send_nowait(await first.receiver.receive())
    first.receiver.begin_again()
    Hands([first.receiver], [second.sender])
    for _ in range(2):
        second.sender.send_nowait(await first.receiver.receive())
    assert taken(second) == [(1, False), (1, True), (2, False)]


# -- custody ----------------------------------------------------------------------------------------------------------


async def test_an_input_that_takes_part_is_stable_when_what_came_of_it_is() -> None:
    first, second = filled(1, 2, takes_part=True), shelf(takes_part=True)
    Hands([first.receiver], [second.sender])
    second.sender.send_nowait(first.receiver.receive_nowait())
    first.receiver.receive_nowait()
    assert first.sender.safe == 0
    second.receiver.receive_nowait()
    assert first.sender.safe == 0
    assert taken(second) == []
    assert first.sender.safe == 1


async def test_an_output_that_keeps_until_it_is_taken_is_waited_for_until_then() -> None:
    first, second = filled(1, takes_part=True), shelf(takes_part=True, keep="taken")
    Hands([first.receiver], [second.sender])
    second.sender.send_nowait(first.receiver.receive_nowait())
    assert taken(first) == []
    assert first.sender.safe == 0
    second.receiver.receive_nowait()
    assert first.sender.safe == 1


async def test_an_input_that_need_not_take_part_waits_for_nothing() -> None:
    first, second = filled(1, 2), shelf()
    Hands([first.receiver], [second.sender])
    second.sender.send_nowait(first.receiver.receive_nowait())
    assert len(taken(first)) == 1
    assert first.sender.safe == 2


async def test_in_a_step_it_holds_all_that_is_received() -> None:
    channel = filled(1, 2, 3)
    hands = Hands([channel.receiver], [])
    with pytest.raises(ZeroDivisionError):
        async with hands.step():
            taken(channel)
            raise ZeroDivisionError
    channel.receiver.begin_again()
    hands = Hands([channel.receiver], [])
    async with hands.step():
        assert taken(channel, 2) == [(1, True), (2, True)]
    channel.receiver.begin_again()
    assert taken(channel) == [(3, True)]


# -- poison -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ack", ["batch", "manual"])
async def test_an_item_on_which_readers_fail_again_and_again_is_set_aside(ack: Ack) -> None:
    aside: list[Poison] = []
    channel = filled(1, 2, 3, ack=ack, aside=aside)
    for _ in range(3):
        while (await next_of(channel))[0] != 2:
            pass
        channel.receiver.begin_again()
    rest = [(1, True)] if ack == "manual" else []
    assert taken(channel, 1 + len(rest)) == [*rest, (3, False)]
    channel.receiver.begin_again()
    assert taken(channel) == [*rest, (3, True)]
    assert [(poison.number, poison.deaths, msgspec.msgpack.decode(poison.item)) for poison in aside] == [(2, 3, 2)]
    assert channel.sender.statistics().set_aside == 1
    if ack == "manual":
        channel.receiver.done(channel.receiver.mark)
    with anyio.fail_after(1):
        await channel.sender.drain()
    assert channel.sender.safe == channel.sender.accepted == 3


# -- the ends of it ---------------------------------------------------------------------------------------------------


async def test_a_writer_that_has_closed_is_heard_after_the_repeats() -> None:
    channel = filled(1)
    await next_of(channel)
    await channel.sender.aclose()
    channel.receiver.begin_again()
    assert await next_of(channel) == (1, True)
    with pytest.raises(EndOfStream):
        await channel.receiver.receive()
    with anyio.fail_after(1):
        await channel.sender.drain()


@pytest.mark.parametrize("ack", ["batch", "manual"])
async def test_when_the_reader_closes_nothing_is_waited_for(ack: Ack) -> None:
    channel = filled(1, 2, ack=ack, takes_part=True)
    await next_of(channel)
    await channel.receiver.aclose()
    with anyio.fail_after(1):
        await channel.sender.drain()
    assert channel.sender.safe >= channel.sender.accepted
    assert channel.sender.statistics().dropped == 1
    with pytest.raises(ChannelClosed):
        channel.sender.send_nowait(3)


async def test_what_is_discarded_for_a_reader_that_is_gone_is_counted() -> None:
    channel = filled(1, 2, 3)
    await next_of(channel)
    while channel.receiver.discard_oldest():
        pass
    with pytest.raises(WouldBlock):
        channel.receiver.receive_nowait()
    with anyio.fail_after(1):
        await channel.sender.drain()
    known = channel.sender.statistics()
    assert (known.accepted, known.taken, known.dropped) == (3, 1, 2)


# -- who looks on -----------------------------------------------------------------------------------------------------


async def test_a_tap_shows_what_passes_and_may_be_taken_out_again() -> None:
    channel = filled(1)
    tap = channel.sender.tap()
    channel.sender.send_nowait(2)
    channel.sender.mark_repeats(True)
    channel.sender.send_nowait({"three": 3})
    channel.sender.untap(tap)
    channel.sender.send_nowait(4)
    shown = [(one.number, bytes(one.item), one.redelivered) for one in tap.take()]
    assert shown == [(2, b"2", False), (3, b'{"three":3}', True)]
    assert not tap.is_open


async def test_what_is_accepted_is_written_down_before_the_loop_sleeps(tmp_path: Path) -> None:
    channel = shelf()
    channel.count_in(Tally(tmp_path / "count", 5))
    for number in range(3):
        await channel.sender.send(number)
    await anyio.sleep(0.01)
    await channel.sender.send(3)
    await anyio.sleep(0.01)
    (life,) = Tally(tmp_path / "count", 6).lives
    assert (life.epoch, life.accepted) == (5, 4)
    assert channel.sender.counts().accepted == channel.receiver.counts().accepted == 4


# -- random histories -------------------------------------------------------------------------------------------------

EVENTS = st.sampled_from(["send", "send", "take", "take", "repeat", "done", "die in hand", "die waiting"])


@given(st.lists(EVENTS, max_size=100), st.sampled_from(["batch", "manual"]), st.booleans())
def test_whatever_happens_each_item_comes_and_only_repeats_come_twice(events: list[str], ack: Ack, kept: bool) -> None:
    channel = shelf(maxsize=1000, ack=ack, takes_part=kept, max_deliveries=None)
    sent, done = 0, 0
    got: list[int] = []
    repeats = False

    def keep() -> None:
        if kept:
            # A daemon whose outputs are always safe.
            Hands([channel.receiver], [shelf(policy="drop_oldest").sender])

    keep()
    for event in [*events, *["take"] * 200]:
        match event:
            case "send":
                sent += 1
                channel.sender.send_nowait((sent, repeats))
            case "repeat":
                repeats = not repeats
                channel.sender.mark_repeats(repeats)
            case "take":
                for (number, was_repeat), marked in taken(channel, 1):
                    assert number > done
                    assert marked == (was_repeat or number in got)
                    assert channel.receiver.mark.sequence == number
                    got.append(number)
                    if ack == "batch":
                        done = number - 1
            case "done" if ack == "manual" and got:
                channel.receiver.done(channel.receiver.mark)
                done = max(done, channel.receiver.mark.sequence)
            case "die waiting" | "die in hand":
                if event == "die waiting" and not channel.receiver.has_item():
                    taken(channel, 1)
                    done = max(done, channel.gone) if ack == "batch" else done
                channel.receiver.begin_again()
                assert channel.gone == done if ack == "manual" else channel.gone >= done
                keep()
    assert set(got) == set(range(1, sent + 1))
    assert channel.sender.statistics().taken == sent


async def test_a_plane_ticks_once_for_all_that_was_sent_before_the_loop_sleeps_and_ends_with_the_writer(
    anyio_backend: str,
) -> None:
    channel = shelf()
    plane = PlaneWords.in_memory("numbers", 10**9)
    channel.receiver.tell_plane(plane)
    for number in range(5):
        await channel.sender.send(number)
    assert plane.snapshot(0).seq == 0
    await anyio.sleep(0.001)
    assert plane.snapshot(0).seq == 1
    channel.sender.send_nowait(5)
    await anyio.sleep(0.001)
    assert plane.snapshot(0).seq == 2
    assert not plane.is_over
    await channel.sender.aclose()
    assert plane.is_over
    assert taken(channel) == [(number, False) for number in range(6)]


@pytest.mark.parametrize("policy", ["latest", "drop_oldest", "drop_newest"])
async def test_what_is_sent_and_dropped_is_a_sign_of_life_too(anyio_backend: str, policy: Policy) -> None:
    channel = shelf(1, policy=policy)
    plane = PlaneWords.in_memory("numbers", 10**9)
    channel.receiver.tell_plane(plane)
    for seq in range(3):
        await channel.sender.send(seq)
        await anyio.sleep(0.001)
    assert plane.snapshot(0).seq >= (1 if policy == "drop_newest" else 3)
