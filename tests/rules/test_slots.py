"""A record is read whole or not at all, whatever its writer was doing when it was looked at or killed."""

from collections.abc import Callable
from typing import Any

import pytest

from geartrain.rules.health import SlotReading, SlotState
from geartrain.rules.slots import (
    BANK_WORDS,
    HEADER_WORDS,
    LAYOUT,
    LAYOUT_AT,
    MAGIC,
    MAGIC_AT,
    SLOT_WORDS,
    SLOTS_AT,
    TRIES,
    WORD_BYTES,
    Unreadable,
    bank_at,
    published,
    reading,
    size_bytes,
    slot_at,
    why_unreadable,
)


def table(slots: int = 2) -> list[int]:
    words = [0] * (size_bytes(slots) // WORD_BYTES)
    words[MAGIC_AT], words[LAYOUT_AT], words[SLOTS_AT] = MAGIC, LAYOUT, slots
    return words


def stores(index: int, sequence: int, value: int) -> list[tuple[int, int]]:
    """What a writer stores, word by word, to publish a record of nothing but `value`."""
    start = bank_at(index, sequence)
    return [*((start + n, value) for n in range(BANK_WORDS)), (slot_at(index), sequence)]


class Watched(list[int]):
    """Words whose writer does something whenever a bank has been copied."""

    meanwhile: Callable[[], None]

    def __getitem__(self, at: Any) -> Any:
        got = super().__getitem__(at)
        if isinstance(at, slice):
            self.meanwhile()
        return got


def test_a_writer_killed_after_any_store_leaves_a_whole_record() -> None:
    for killed_after in range(3 * (BANK_WORDS + 1) + 1):
        words = table()
        log = [store for value in (1, 2, 3) for store in stores(1, value, value)]
        for at, value in log[:killed_after]:
            words[at] = value
        whole = killed_after // (BANK_WORDS + 1)
        assert published(words, 1) == (whole,) * BANK_WORDS


def test_a_record_that_was_replaced_while_it_was_copied_is_read_again() -> None:
    words = Watched(table())
    pending = [stores(0, 1, 7), stores(0, 2, 8)]

    def publish() -> None:
        for at, value in pending.pop(0) if pending else ():
            words[at] = value

    words.meanwhile = publish
    assert published(words, 0) == (8,) * BANK_WORDS


def test_a_reader_gives_up_on_a_writer_that_publishes_at_every_look() -> None:
    words, looks = Watched(table()), []

    def publish() -> None:
        looks.append(1)
        words[slot_at(0)] += 1

    words.meanwhile = publish
    assert published(words, 0) is None
    assert len(looks) == TRIES


def test_no_two_banks_share_a_word_and_every_slot_begins_on_a_line_of_its_own() -> None:
    owned = [at for index in range(3) for sequence in (0, 1) for at, _ in stores(index, sequence, 0)[:-1]]
    sequences = [slot_at(index) for index in range(3)]
    assert len({*owned, *sequences}) == len(owned) + len(sequences)
    assert max(owned) < size_bytes(3) // WORD_BYTES
    assert all(at * WORD_BYTES % 64 == 0 for at in (HEADER_WORDS, SLOT_WORDS, *sequences))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (table(), None),
        ([], Unreadable.TRUNCATED),
        (table()[:-1], Unreadable.TRUNCATED),
        ([MAGIC + 1, *table()[1:]], Unreadable.FOREIGN),
        ([MAGIC, LAYOUT + 1, *table()[2:]], Unreadable.OTHER_LAYOUT),
    ],
)
def test_a_file_that_cannot_be_read_says_why(words: list[int], why: Unreadable | None) -> None:
    assert why_unreadable(words) is why


def test_an_untouched_slot_is_of_a_daemon_that_never_ran_and_a_written_one_says_all() -> None:
    assert reading("d", published(table(), 0) or ()) == SlotReading(daemon="d")
    assert reading("d", (1, 2, 3, 4, 5, 1)) == SlotReading(
        daemon="d", state=SlotState.RUNNING, in_body_since_ns=2, executions=3, errors=4, overruns=5, faulted=True
    )
