"""What the bytes of a journal mean: every answer without a file."""

import zlib

import pytest

from geartrain.errors import JournalDamaged
from geartrain.rules.journal_frames import (
    BLOCKS_AT,
    FRAMES_AT,
    RECORD_BYTES_MAX,
    Block,
    Mark,
    Record,
    Segment,
    Snapshot,
    block_bytes,
    block_in,
    check_line,
    empty_segment,
    frame,
    frames_after,
    fresh_block,
    identity_bytes,
    needed_after,
    read_identity,
    read_segment,
    read_snapshot,
    records_in,
    segment_name,
    segments_among,
    snapshot_bytes,
    snapshot_name,
    snapshots_among,
)

WHOSE = b"identity"
SIZE = FRAMES_AT + 4096


def sum_of(start: int, data: bytes) -> int:
    return zlib.crc32(data, start)


def segment_of(*payloads: bytes, first: int = 1, seed: int = 0, marked: int | None = None) -> bytes:
    """A segment with these records, of which so many are marked; all, if that is not said."""
    block = fresh_block(WHOSE, first, seed, SIZE)
    image = bytearray(empty_segment(block, sum_of))
    ends = [block.start]
    for payload in payloads:
        end = ends[-1]
        text, total = frame(end.revision + 1, payload, end.sum, sum_of)
        image[end.at : end.at + len(text)] = text
        ends.append(Mark(end.revision + 1, end.at + len(text), total))
    mark = ends[len(payloads) if marked is None else marked]
    newest = Block(identity=WHOSE, first=first, seed=seed, size=SIZE, count=2, mark=mark)
    text = block_bytes(newest, sum_of)
    image[newest.slot : newest.slot + len(text)] = text
    return bytes(image)


def test_records_come_back_as_they_were_framed() -> None:
    payloads = (b"a", b"", b"\0\0", "\u2028 and \u0085".encode(), bytes(300))
    data = segment_of(*payloads)
    segment = read_segment(segment_name(1), data, sum_of)
    assert list(records_in(segment.block, data, sum_of)) == [
        Record(number, payload) for number, payload in enumerate(payloads, 1)
    ]
    assert segment.end == segment.block.mark
    assert segment.said == ()


def test_an_empty_segment_ends_where_it_starts() -> None:
    block = fresh_block(WHOSE, 7, 3, SIZE)
    segment = read_segment(segment_name(7), empty_segment(block, sum_of), sum_of)
    assert segment.end == block.start == Mark(6, FRAMES_AT, 3)


def test_blocks_take_turns_in_two_places() -> None:
    block = fresh_block(WHOSE, 1, 0, SIZE)
    image = empty_segment(block, sum_of)
    counts = [found.count for at in BLOCKS_AT if (found := block_in(image, at, "", sum_of))]
    assert counts == [0, 1]
    assert block.slot == BLOCKS_AT[1]


def test_valid_records_above_the_mark_are_taken() -> None:
    segment = read_segment(segment_name(1), segment_of(b"a", b"b", b"c", marked=1), sum_of)
    assert (segment.block.mark.revision, segment.end.revision, segment.said) == (1, 3, ())


def test_what_is_torn_above_the_mark_is_dropped_and_told() -> None:
    data = bytearray(segment_of(b"aaaa", b"bbbb", b"cccc", marked=1))
    data[FRAMES_AT + 25] ^= 1
    segment = read_segment(segment_name(1), bytes(data), sum_of)
    assert segment.end.revision == 1
    assert segment.said == (
        f"{segment_name(1)}, byte {FRAMES_AT + 20}: what follows record 1 was never acknowledged, and is dropped",
    )


@pytest.mark.parametrize(
    ("change", "met"),
    [
        (lambda data, at: data[:at], "the end of the file, at 8212"),
        (lambda data, at: data[: at + 17], "a record that goes on behind the end of the file, at 8229"),
        (lambda data, at: data[:at] + bytes(20) + data[at + 20 :], "nothing"),
        (lambda data, at: data[: at + 18] + b"?" + data[at + 19 :], "a record of 4 bytes with a sum that is not its"),
        (lambda data, at: data[:at] + data[at + 20 :], "what calls itself record 3"),
        (lambda data, at: data[: at + 4] + b"\xff\xff\xff\xff" + data[at + 8 :], f"more than {RECORD_BYTES_MAX}"),
    ],
    ids=["cut before", "cut within", "zeros", "changed", "record 2 taken out", "length"],
)
def test_what_is_wrong_at_or_below_the_mark_is_named_with_its_place(change, met: str) -> None:  # type: ignore[no-untyped-def]
    data, at = segment_of(b"aaaa", b"bbbb", b"cccc"), FRAMES_AT + 20
    with pytest.raises(JournalDamaged, match="expected record 2 of those acknowledged, up to 3") as refused:
        read_segment(segment_name(1), change(data, at), sum_of)
    assert met in refused.value.met
    assert (refused.value.file, refused.value.offset) == (segment_name(1), at)


def test_records_of_another_past_are_not_those_of_the_mark() -> None:
    ours, theirs = segment_of(b"aaaa", b"bbbb"), segment_of(b"aaaa", b"BBBB")
    with pytest.raises(JournalDamaged, match="record 2 is another one"):
        read_segment(segment_name(1), ours[:FRAMES_AT] + theirs[FRAMES_AT:], sum_of)


def test_a_torn_end_beside_a_mark_that_cannot_be_read_is_no_crash() -> None:
    data = bytearray(segment_of(b"aaaa", b"bbbb", b"cccc", marked=1))
    data[FRAMES_AT + 45] ^= 1
    assert read_segment(segment_name(1), bytes(data), sum_of).end.revision == 2
    data[0] ^= 1
    with pytest.raises(JournalDamaged, match="no record 3, and a mark that cannot be read"):
        read_segment(segment_name(1), bytes(data), sum_of)


def test_a_file_of_another_layout_is_refused_by_name() -> None:
    image = bytearray(segment_of(b"a"))
    text = bytearray(image[:76])
    text[8] = 2
    image[:80] = bytes(text) + sum_of(0, bytes(text)).to_bytes(4, "little")
    with pytest.raises(JournalDamaged, match="of layout 2; expected b'gt-segmt' of layout 1"):
        read_segment(segment_name(1), bytes(image), sum_of)


def test_a_file_that_was_renamed_is_refused() -> None:
    with pytest.raises(JournalDamaged, match="the segment of record 1; expected what the file is called after"):
        read_segment(segment_name(2), segment_of(b"a"), sum_of)
    data = snapshot_bytes(WHOSE, Snapshot(5, b"state"), sum_of)
    with pytest.raises(JournalDamaged, match="a snapshot of record 5"):
        read_snapshot(snapshot_name(6), data, sum_of)


def test_a_frame_is_valid_only_after_those_it_was_written_after() -> None:
    text, _ = frame(2, b"second", 1234, sum_of)
    assert [end.revision for end in frames_after(Mark(1, 0, 1234), text, sum_of)] == [2]
    assert list(frames_after(Mark(1, 0, 1235), text, sum_of)) == []


def test_a_snapshot_and_an_identity_are_whole_or_refused_at_every_bit() -> None:
    snapshot, identity = snapshot_bytes(WHOSE, Snapshot(5, b"state"), sum_of), identity_bytes(WHOSE, sum_of)
    assert read_snapshot(snapshot_name(5), snapshot, sum_of) == (WHOSE, Snapshot(5, b"state"))
    assert read_identity(identity, sum_of) == WHOSE
    for bit in range(8 * len(snapshot)):
        with pytest.raises(JournalDamaged):
            read_snapshot(snapshot_name(5), flipped(snapshot, bit), sum_of)
    for bit in range(8 * len(identity)):
        assert read_identity(flipped(identity, bit), sum_of) is None
    for cut in range(len(snapshot)):
        with pytest.raises(JournalDamaged):
            read_snapshot(snapshot_name(5), snapshot[:cut], sum_of)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_names_say_what_they_are_of_and_others_are_passed_over() -> None:
    names = [snapshot_name(7), segment_name(30), "seg-1.wal", "LOCK", segment_name(4), snapshot_name(30), "seg-x.tmp"]
    assert segments_among(names) == [4, 30]
    assert snapshots_among(names) == [30, 7]


def test_needed_are_the_segment_with_the_next_record_and_those_after() -> None:
    assert needed_after(0, [1, 5, 9]) == [1, 5, 9]
    assert needed_after(4, [1, 5, 9]) == [5, 9]
    assert needed_after(3, [1, 5, 9]) == [1, 5, 9]
    assert needed_after(100, [1, 5, 9]) == [9]
    with pytest.raises(JournalDamaged, match=segment_name(3)):
        needed_after(2, [5, 9])


def found(first: int, last: int, *, seed: int = 0, total: int = 0, following: int = 0, whose: bytes = WHOSE) -> Segment:
    end = Mark(last, FRAMES_AT, total)
    block = Block(identity=whose, first=first, seed=seed, size=SIZE, count=1, mark=end, next=following)
    return Segment(name=segment_name(first), block=block, end=end, length=SIZE)


@pytest.mark.parametrize(
    ("segments", "upto", "said"),
    [
        ((found(1, 4), found(6, 9)), 0, "record 4 is the last; expected all up to 5"),
        ((found(1, 4, total=7), found(5, 9)), 0, "begun after other records"),
        ((found(1, 4), found(5, 9, whose=b"somebody")), 0, "another journal"),
        ((found(1, 4, following=5),), 0, f"{segment_name(5)}, byte 0: no such file"),
        ((found(1, 4),), 5, "record 4 is the last; expected all up to 5, of which there is a snapshot"),
    ],
)
def test_a_line_with_a_hole_is_refused(segments: tuple[Segment, ...], upto: int, said: str) -> None:
    with pytest.raises(JournalDamaged, match=said):
        check_line(segments, upto)


def test_a_line_without_a_hole_is_good_sealed_or_not_yet() -> None:
    check_line((found(1, 4, total=7, following=5), found(5, 9, seed=7)), 9)
    check_line((found(1, 4, total=7), found(5, 4, seed=7, total=7)), 4)
