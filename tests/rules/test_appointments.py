"""The diary of a daemon: what it hands over, once, whatever the clock tells and however often it dies."""

import random

import msgspec
import pytest

from geartrain.rules.appointments import (
    Appointment,
    Asked,
    Begin,
    Diary,
    Fired,
    Hello,
    PlaneChange,
    Rang,
    Told,
    clock_halves,
    rang,
    together,
)
from geartrain.rules.pipeline import ChannelSpec, PortRef


def set_in(diary: Diary, *due_ns: int) -> list[Appointment]:
    made = []
    for due in due_ns:
        made.append(diary.once(due, f"at {due}"))
        diary.add(made[-1])
    return made


def told_at(now_ns: int, appointment: Appointment, life: int = 7) -> Rang:
    return rang(life, appointment, now_ns)[0]


def test_an_appointment_is_handed_over_once_however_often_it_is_told() -> None:
    diary = Diary(7)
    [first] = set_in(diary, 100)
    assert diary.hear(told_at(103, first)) == Fired("at 100", 100, 103, 3, 0, 1)
    assert diary.hear(told_at(150, first)) is None
    assert (diary.stats().fired, diary.stats().repeated, diary.stats().pending) == (1, 1, 0)


def test_what_is_cancelled_is_not_handed_over_and_can_be_cancelled_once() -> None:
    diary = Diary(7)
    [first] = set_in(diary, 100)
    assert diary.cancel(first.number) is not None
    assert diary.cancel(first.number) is None
    assert diary.hear(told_at(100, first)) is None
    assert diary.stats().cancelled == 1


def test_of_a_former_life_nothing_is_handed_over() -> None:
    diary = Diary(7)
    [first] = set_in(diary, 100)
    diary.begin_life()
    assert diary.hear(told_at(100, first)) is None
    assert diary.begin() == Begin(8)


def test_numbers_are_not_used_again_in_the_next_life() -> None:
    diary = Diary(7)
    set_in(diary, 100, 200)
    diary.begin_life()
    assert [one.number for one in set_in(diary, 300)] == [3]


def test_a_new_clock_is_told_what_is_pending_and_nothing_else() -> None:
    diary = Diary(7)
    first, second, third = set_in(diary, 100, 200, 300)
    diary.cancel(second.number)
    diary.hear(told_at(100, first))
    assert diary.begin().pending == (third,)


@pytest.mark.parametrize(
    ("late_ns", "missed", "next_due_ns"), [(0, 0, 20), (9, 0, 20), (10, 1, 30), (25, 2, 40), (1000, 100, 1020)]
)
def test_a_periodic_one_that_is_late_skips_slots_counts_them_and_keeps_its_grid(
    late_ns: int, missed: int, next_due_ns: int
) -> None:
    diary = Diary(7)
    every = diary.periodic(0, 10, "tick", "skip")
    diary.add(every)
    word, left = rang(7, every, 10 + late_ns)
    assert left is not None
    fired = diary.hear(word)
    assert fired is not None
    assert (fired.due_ns, fired.late_ns, fired.missed, left.due_ns) == (10, late_ns, missed, next_due_ns)
    assert diary.begin().pending == (left,)


def test_in_a_burst_every_slot_is_told() -> None:
    left: Appointment | None = Diary(7).periodic(0, 10, "tick", "burst")
    due = []
    for _ in range(4):
        assert left is not None
        due.append(left.due_ns)
        word, left = rang(7, left, 45)
        assert word.missed == 0
    assert due == [10, 20, 30, 40]


def test_slots_that_nobody_took_in_time_are_one_word_and_none_is_forgotten() -> None:
    diary = Diary(7)
    every = diary.periodic(0, 10, "tick", "skip")
    diary.add(every)
    first, left = rang(7, every, 10)
    assert left is not None
    second, left = rang(7, left, 35)
    assert left is not None
    fired = diary.hear(together(first, second))
    assert fired is not None
    assert (fired.due_ns, fired.missed) == (10, 2)
    assert diary.begin().pending == (left,)


def test_of_a_word_that_was_told_in_part_the_rest_is_handed_over() -> None:
    diary = Diary(7)
    every = diary.periodic(0, 10, "tick", "skip")
    diary.add(every)
    diary.hear(told_at(10, every))
    fired = diary.hear(told_at(35, every))
    assert fired is not None
    assert (fired.due_ns, fired.missed) == (20, 1)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_the_clock_forgets_or_repeats_every_slot_is_handed_over_or_counted_once(seed: int) -> None:
    chance = random.Random(seed)
    diary = Diary(7)
    every = diary.periodic(0, 10, "tick", "skip")
    diary.add(every)
    singles = set_in(diary, *(chance.randrange(1000) for _ in range(20)))
    known: dict[int, Appointment] = {}
    handed: list[Fired] = []
    now_ns = 0
    while now_ns < 2000:
        now_ns += chance.randrange(30)
        if chance.random() < 0.3:
            # A new clock, which may have told some of it already.
            known = {one.number: one for one in diary.begin().pending}
        for number in [number for number, one in known.items() if one.due_ns <= now_ns]:
            word, left = rang(7, known.pop(number), now_ns)
            known |= {} if left is None else {number: left}
            for _ in range(chance.randrange(3)):
                handed += filter(None, [diary.hear(word)])
    for one in diary.begin().pending:
        if one.due_ns <= now_ns:
            handed += filter(None, [diary.hear(rang(7, one, now_ns)[0])])
    assert sorted(fired.number for fired in handed if fired.number != every.number) == [one.number for one in singles]
    ticks = [fired for fired in handed if fired.number == every.number]
    assert sum(1 + fired.missed for fired in ticks) == now_ns // 10
    assert [fired.due_ns for fired in ticks] == sorted({fired.due_ns for fired in ticks})
    assert all(fired.late_ns >= 0 for fired in handed)


@pytest.mark.parametrize(
    "word",
    [
        Begin(1, (Appointment(1, "a", 5), Appointment(2, "b", 5, 10, 3, "burst")), wants_planes=True),
        Diary(7).add(Appointment(1, "a", 5)),
        Hello(9),
        Rang(1, 2, 3, 4, 5),
        PlaneChange("frames", True, 1, 2, 3),
    ],
    ids=lambda word: type(word).__name__,
)
def test_a_word_comes_out_of_its_encoding_as_it_was(word: Asked | Told) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(word), type=Asked | Told) == word


def test_an_entry_with_a_clock_is_two_channels_that_keep_nothing_longer_than_needed() -> None:
    entry = ChannelSpec(name="dog", writer=PortRef("dog", "deadlines"), reader=PortRef("clock", "clients"), maxsize=8)
    asks, told = clock_halves(entry)
    assert (asks.name, asks.writer, asks.reader) == ("dog", entry.writer, entry.reader)
    assert (told.name, told.writer, told.reader) == ("dog.told", entry.reader, entry.writer)
    assert {half.keep for half in (asks, told)} == {"taken"}
    assert {half.maxsize for half in (asks, told)} == {8}
