"""Whatever comes in a frame, it is a word, data, or a `WireError`; and what we say ourselves is understood."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.errors import WireError
from geartrain.rules import frames
from geartrain.rules.frames import (
    LAST,
    PAYLOAD,
    REPEATED,
    Again,
    Beat,
    Bye,
    Control,
    Data,
    Done,
    Flow,
    Hello,
    Life,
    Refused,
    Settings,
    WhoAreYou,
)

MOST = 2**62

HELLO = Hello(
    protocol=frames.PROTOCOL,
    writes=True,
    incarnation=MOST,
    epoch=7,
    issued=False,
    type_name="int",
    settings=Settings("numbers", "0123456789abcdef", 8, 1 << 20, "block", "batch", "stable"),
    stable=3,
    lives=(Life(5, 100), Life(6, 0)),
)
WORDS: list[Control] = [
    HELLO, WhoAreYou(), Refused("no", final=True), Flow(7, 3, 2, 11, asks=True), Beat(MOST), Again(7, 4), Done(), Bye(),
]  # fmt: skip

_numbers = msgspec.msgpack.Decoder(list[int])
_anything = msgspec.msgpack.Decoder(list[object])


def batch_of(*items: object, flags: int = 0) -> bytes:
    batch = frames.new_batch()
    for item in items:
        batch += msgspec.msgpack.encode(item)
    frames.seal(batch, flags=flags, epoch=7, first=1, count=len(items))
    return bytes(batch)


def hear(frame: bytes) -> Control | Data | None:
    """As an end does: the word, or the data with its items decoded. None: it was refused, as it should be."""
    try:
        said = frames.decode(frame)
        if isinstance(said, Data):
            frames.items_of(said, _numbers)
            frames.is_payload(said, b"12345")
    except WireError:
        return None
    return said


@pytest.mark.parametrize("word", WORDS, ids=lambda word: type(word).__name__)
def test_a_word_is_heard_as_it_was_said(word: Control) -> None:
    assert frames.decode(frames.encode(word)) == word


@pytest.mark.parametrize("word", WORDS, ids=lambda word: type(word).__name__)
def test_a_word_that_was_cut_short_is_no_other_word(word: Control) -> None:
    frame = frames.encode(word)
    for length in range(len(frame)):
        with pytest.raises(WireError):
            frames.decode(frame[:length])


def test_data_that_was_cut_short_has_no_items() -> None:
    frame = batch_of(1, 1000, 2**40)
    for length in range(1, len(frame)):
        assert hear(frame[:length]) is None


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: bytes([frames.DATA]) + tail))
def test_random_bytes_are_understood_or_a_typed_error(frame: bytes) -> None:
    hear(frame)


@pytest.mark.parametrize("seed", range(5))
def test_frames_in_which_bytes_were_changed_are_understood_or_a_typed_error(seed: int) -> None:
    order = random.Random(seed)
    for _ in range(1000):
        frame = bytearray(order.choice([*map(frames.encode, WORDS), batch_of(1, "word", None), batch_of(flags=LAST)]))
        for _ in range(order.randint(1, 4)):
            frame[order.randrange(len(frame))] = order.randrange(256)
        hear(bytes(frame))


@pytest.mark.parametrize("claim", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
def test_what_claims_to_be_huge_and_is_not_is_a_typed_error(claim: bytes) -> None:
    assert hear(claim + b"\xff\xff\xff\xff") is None
    assert hear(batch_of() + claim + b"\xff\xff\xff\xff") is None


@pytest.mark.parametrize("nest", [b"\x91", b"\x81\xa0", b"\xdd\0\0\0\1"])
def test_what_is_nested_to_death_is_a_typed_error(nest: bytes) -> None:
    depth = frames.CONTROL_MOST // len(nest)
    with pytest.raises(WireError):
        frames.decode(nest * depth)
    with pytest.raises(WireError):
        frames.decode(b"\x93\x05\x03" + nest * (depth - 1))
    batch = frames.new_batch()
    batch += nest * depth
    frames.seal(batch, flags=0, epoch=7, first=1, count=1)
    with pytest.raises(WireError, match="do not decode"):
        frames.items_of(frames.decode_data(batch), _anything)


@pytest.mark.parametrize("number", [-1, MOST + 1, 2**63, 2**64 - 1, 1.5, "1", None, True])
def test_a_number_that_could_not_be_answered_is_a_typed_error(number: object) -> None:
    with pytest.raises(WireError, match="no word of protocol 1"):
        frames.decode(msgspec.msgpack.encode([5, number]))


def test_words_of_a_later_protocol_may_be_longer() -> None:
    assert frames.decode(msgspec.msgpack.encode([5, 3, "and more"])) == Beat(3)


def test_a_batch_is_split_into_the_items_it_was_made_of() -> None:
    batch = bytearray(batch_of(1, "word", [None]))
    assert frames.split(batch) == [msgspec.msgpack.encode(item) for item in (1, "word", [None])]
    frames.mark_repeated(batch)
    assert frames.flags_of(batch) == REPEATED


def test_only_a_message_of_the_size_that_was_announced_is_the_payload() -> None:
    announced = frames.decode_data(batch_of(5, flags=PAYLOAD))
    assert frames.is_payload(announced, b"12345")
    assert not frames.is_payload(announced, b"123456")
