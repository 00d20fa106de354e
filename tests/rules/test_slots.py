"""A record is read whole or not at all, whatever its writer was doing when it was looked at or killed."""

from array import array
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.rules import slots
from geartrain.rules.readings import DaemonReading, EndReading
from geartrain.rules.slots import DAEMON, END, LAYOUT, MAGIC, TRIES, WORD_BYTES, About, EndAbout, Unreadable

ABOUT = b"{}"


def table(daemons: int = 2, ends: int = 1) -> "memoryview[int]":
    size = slots.size_bytes(daemons, ends, ABOUT)
    words = memoryview(bytearray(size // WORD_BYTES * WORD_BYTES)).cast("q")
    words[slots.MAGIC_AT], words[slots.LAYOUT_AT] = MAGIC, LAYOUT
    words[slots.DAEMONS_AT], words[slots.ENDS_AT], words[slots.ABOUT_AT] = daemons, ends, len(ABOUT)
    return words


def whole(value: int) -> bytes:
    return array("q", [value] * DAEMON.bank_words).tobytes()


def stores(index: int, sequence: int, value: int) -> list[tuple[int, int]]:
    """What a writer stores, word by word, to publish a record of nothing but `value`."""
    slot = slots.daemon_at(index)
    start = slots.bank_at(DAEMON, slot, sequence)
    return [*((start + n, value) for n in range(DAEMON.bank_words)), (slot, sequence)]


class Watched:
    """Words whose writer does something whenever a bank has been copied."""

    def __init__(self, words: "memoryview[int]", meanwhile: Callable[[], None]) -> None:
        self._words = words
        self._meanwhile = meanwhile

    def __getitem__(self, at: Any) -> Any:
        got = self._words[at]
        if isinstance(at, slice):
            got = bytes(got)
            self._meanwhile()
        return got


def test_a_writer_killed_after_any_store_leaves_a_whole_record() -> None:
    for killed_after in range(3 * (DAEMON.bank_words + 1) + 1):
        words = table()
        log = [store for value in (1, 2, 3) for store in stores(1, value, value)]
        for at, value in log[:killed_after]:
            words[at] = value
        assert slots.published(words, slots.daemon_at(1), DAEMON) == whole(killed_after // (DAEMON.bank_words + 1))


def test_a_record_that_was_replaced_while_it_was_copied_is_read_again() -> None:
    words = table()
    pending = [stores(0, 1, 7), stores(0, 2, 8)]

    def publish() -> None:
        for at, value in pending.pop(0) if pending else ():
            words[at] = value

    assert slots.published(Watched(words, publish), slots.daemon_at(0), DAEMON) == whole(8)


def test_a_reader_gives_up_on_a_writer_that_publishes_at_every_look() -> None:
    words, looks = table(), []

    def publish() -> None:
        looks.append(1)
        words[slots.daemon_at(0)] += 1

    assert slots.published(Watched(words, publish), slots.daemon_at(0), DAEMON) is None
    assert len(looks) == TRIES


def test_no_two_parts_share_a_word_and_what_is_written_apart_is_on_lines_of_its_own() -> None:
    daemons = [slots.daemon_at(index) for index in range(3)]
    ends = [slots.end_at(3, index) for index in range(2)]
    owned = list(range(slots.HEADER_WORDS))
    for shape, places in ((DAEMON, daemons), (END, ends)):
        for slot in places:
            banks = [slots.bank_at(shape, slot, sequence) for sequence in (0, 1)]
            owned += [slot, *(bank + n for bank in banks for n in range(shape.bank_words))]
            assert all(at * WORD_BYTES % 64 == 0 for at in (slot, *banks))
    for slot in daemons:
        name = slots.name_at(slot)
        owned += [*range(slots.buckets_at(slot), slots.buckets_at(slot) + slots.BUCKETS)]
        owned += [*range(name.start, name.stop)]
    assert len(set(owned)) == len(owned)
    assert max(owned) < slots.about_at(3, 2)


def changed(at: int, value: int) -> "memoryview[int]":
    words = table()
    words[at] = value
    return words


@pytest.mark.parametrize(
    ("words", "missing", "why"),
    [
        (table(), 0, None),
        (table()[:0], 0, Unreadable.TRUNCATED),
        (table(), 1, Unreadable.TRUNCATED),
        (changed(slots.MAGIC_AT, MAGIC + 1), 0, Unreadable.FOREIGN),
        (changed(slots.LAYOUT_AT, LAYOUT + 1), 0, Unreadable.OTHER_LAYOUT),
        (changed(slots.ENDS_AT, 1 << 40), 0, Unreadable.TRUNCATED),
        (changed(slots.DAEMONS_AT, -1), 0, Unreadable.FOREIGN),
        (changed(slots.ABOUT_AT, -1), 0, Unreadable.FOREIGN),
    ],
)
def test_a_file_that_cannot_be_read_says_why(words: "memoryview[int]", missing: int, why: Unreadable | None) -> None:
    assert slots.why_unreadable(words, slots.size_bytes(2, 1, ABOUT) - missing) is why


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"process": 1}', b"\xff"])
def test_a_file_that_does_not_say_what_it_is_about_is_refused(text: bytes) -> None:
    assert slots.about_in(text) is Unreadable.NAMELESS


def test_what_a_file_is_about_can_be_read_again() -> None:
    about = About(process="p", daemons=("a", "b"), ends=(EndAbout("c", "a", True, 4),), boot="x", born_wall_ns=5)
    assert slots.about_in(b'{"process":"p","daemons":["a","b"],"ends":[["c"]]}') is Unreadable.NAMELESS
    assert slots.about_in(msgspec.json.encode(about)) == about


def test_an_untouched_slot_is_of_a_daemon_that_never_ran_and_a_written_one_says_all() -> None:
    assert slots.daemon_reading(whole(0), "d") == DaemonReading("d")
    numbers = range(1, DAEMON.fields + 1)
    assert slots.daemon_reading(array("q", [*numbers, 0, 0]).tobytes(), "d") == DaemonReading("d", *numbers)
    end, numbers = EndAbout("c", "d", True, 4), range(1, END.fields + 1)
    assert slots.end_reading(array("q", numbers).tobytes(), end) == EndReading("c", "d", True, 4, *numbers)


@given(st.integers(0, 1 << 62))
def test_a_duration_falls_into_the_one_bucket_whose_bounds_hold_it(took_ns: int) -> None:
    bucket = slots.bucket_of(took_ns)
    assert took_ns < slots.bucket_ends_ns(bucket) or bucket == slots.BUCKETS - 1
    assert bucket == 0 or took_ns >= slots.bucket_ends_ns(bucket - 1)


def test_a_quantile_is_the_end_of_the_bucket_that_holds_it() -> None:
    counts = [0] * slots.BUCKETS
    assert slots.quantile_ns(counts, 0.5) is None
    counts[10], counts[20] = 99, 1
    assert slots.quantile_ns(counts, 0.5) == slots.bucket_ends_ns(10)
    assert slots.quantile_ns(counts, 0.99) == slots.bucket_ends_ns(10)
    assert slots.quantile_ns(counts, 0.999) == slots.bucket_ends_ns(20)


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1))
def test_a_name_that_comes_late_is_kept_as_far_as_there_is_room(name: str) -> None:
    words = table()
    words[slots.name_at(slots.daemon_at(1))] = memoryview(array("q", slots.name_bytes(name)))
    kept = slots.late_name(words, 1)
    assert name.startswith(kept)
    assert kept == name or len(kept.encode()) > 8 * WORD_BYTES - 4
