"""Few items are kept, the rest is counted, and everything that can be shown as JSON is."""

import datetime
from typing import Any

import msgspec
import pytest

from geartrain.rules import frames
from geartrain.rules.shown import SHOWN_MOST_BYTES, Few, Shown, put_items


def shown(number: int, item: bytes = b"1", missed: int = 0) -> Shown:
    return Shown(epoch=1, number=number, redelivered=False, size_bytes=1, item=msgspec.Raw(item), missed=missed)


def sealed(*items: Any, flags: int = 0) -> frames.Data:
    batch = frames.new_batch()
    for item in items:
        batch += msgspec.msgpack.encode(item)
    frames.seal(batch, flags=flags, epoch=3, first=10, count=len(items))
    return frames.decode_data(batch)


def test_the_first_few_are_kept_and_the_next_after_a_look_says_how_many_were_not() -> None:
    few = Few(2, 1000)
    for number in range(1, 6):
        few.put(shown(number, missed=int(number == 5)))
    assert [one.number for one in few.take()] == [1, 2]
    assert not few
    few.put(shown(6, missed=10))
    assert [(one.number, one.missed) for one in few.take()] == [(6, 14)]


def test_bytes_are_bounded_too_and_one_item_always_has_room() -> None:
    few = Few(100, 10)
    for number in range(1, 4):
        few.put(shown(number, b"1" * 50))
    assert [one.number for one in few.take()] == [1]
    assert few.missed == 2


def test_the_items_of_a_frame_have_their_numbers_and_their_mark() -> None:
    few = Few(2, 1000)
    put_items(sealed({"a": 1}, "b", "c", "d", flags=frames.REPEATED), few)
    found = few.take()
    assert [(one.epoch, one.number, one.redelivered, bytes(one.item)) for one in found] == [
        (3, 10, True, b'{"a":1}'), (3, 11, True, b'"b"'),
    ]  # fmt: skip
    assert few.missed == 2


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (b"ab", b'"YWI="'),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), b'"2026-01-02T00:00:00Z"'),
        ({1: "x"}, b'{"1":"x"}'),
        (None, b"null"),
        (msgspec.msgpack.Ext(5, b"?"), b"null"),
        ("x" * SHOWN_MOST_BYTES, b"null"),
        ("\0" * (SHOWN_MOST_BYTES // 2), b"null"),
    ],
)
def test_what_has_no_form_in_json_or_is_too_large_is_null(item: Any, text: bytes) -> None:
    few = Few(10, 1000)
    put_items(sealed(item), few)
    (one,) = few.take()
    assert bytes(one.item) == text
    assert one.size_bytes == len(msgspec.msgpack.encode(item))
