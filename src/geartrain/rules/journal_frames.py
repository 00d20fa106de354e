"""What lies in the files of a journal, byte for byte, and what it means when something there is wrong.

    IDENTITY                    whose files these are: written once, and from then on a segment must be there
    seg-<first revision>.wal    block | block | frame | frame | frame | zeros
    snap-<revision>.snap        what all records up to this revision have come to

    frame                       sum | length | revision | payload

A sum goes on from the sum of the frame before: a frame is valid only after the frames it was written after. A block
says where its segment stands. The two are written in turn, so that one is always whole, and its mark is the last
record that was known durable. What is wrong at or below the mark is damage, and is refused. What is wrong above it
was never acknowledged, and is passed over.

The sum (CRC32C) is an argument, as the ground floor imports no library: `sum_of(start, data)`.
"""

import re
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from geartrain.errors import JournalDamaged

SumOf = Callable[[int, bytes], int]

RECORD_BYTES_MAX = 64 * 1024
IDENTITY_FILE = "IDENTITY"
IDENTITY_BYTES = 8
LAYOUT = 1

# A block has a page of its own: writing one can tear neither the other nor a frame.
BLOCKS_AT = (0, 4096)
FRAMES_AT = 8192

_SUM = struct.Struct("<I")
_HEAD = struct.Struct("<IIQ")
_BODY_HEAD = struct.Struct("<IQ")
_BLOCK = struct.Struct("<8sI8sQIQQQQIQ")
_SNAPSHOT = struct.Struct("<8sI8sQQ")
_IDENTITY = struct.Struct("<8sI8s")
_BLOCK_MAGIC, _SNAPSHOT_MAGIC, _IDENTITY_MAGIC = b"gt-segmt", b"gt-snaps", b"gt-ident"

_SEGMENT_NAME = re.compile(r"seg-(\d{20})\.wal")
_SNAPSHOT_NAME = re.compile(r"snap-(\d{20})\.snap")


class Record(Struct, frozen=True, gc=False):
    """One record, as it was appended."""

    revision: int
    payload: bytes


class Snapshot(Struct, frozen=True, gc=False):
    """What all records up to this revision have come to."""

    revision: int
    state: bytes


class Mark(Struct, frozen=True, gc=False):
    """A place between two frames: the revision before it, where it is, and the sum so far."""

    revision: int
    at: int
    sum: int


class Block(Struct, frozen=True, kw_only=True):
    """Where a segment stands. `next` is the first revision of the segment that follows, 0 while this is the last."""

    identity: bytes
    first: int
    # The sum of the last frame of the segment before.
    seed: int
    size: int
    count: int
    mark: Mark
    next: int = 0

    @property
    def start(self) -> Mark:
        return Mark(self.first - 1, FRAMES_AT, self.seed)

    @property
    def slot(self) -> int:
        """Where it is written: the two places take turns."""
        return BLOCKS_AT[self.count % 2]


class Segment(Struct, frozen=True, kw_only=True):
    """What was found in the file of a segment: `end` is the end of the last frame that is valid."""

    name: str
    block: Block
    end: Mark
    length: int
    said: tuple[str, ...] = ()


def segment_name(first: int) -> str:
    return f"seg-{first:020d}.wal"


def snapshot_name(revision: int) -> str:
    return f"snap-{revision:020d}.snap"


def segments_among(names: Collection[str]) -> list[int]:
    """The first revisions of all segments, ascending."""
    return sorted(int(found[1]) for name in names if (found := _SEGMENT_NAME.fullmatch(name)))


def snapshots_among(names: Collection[str]) -> list[int]:
    """The revisions of all snapshots, the newest first."""
    found = (_SNAPSHOT_NAME.fullmatch(name) for name in names)
    return sorted((int(match[1]) for match in found if match), reverse=True)


def needed_after(revision: int, firsts: Sequence[int]) -> list[int]:
    """The segments in which records after this revision are, and those that follow."""
    start = max((first for first in firsts if first <= revision + 1), default=None)
    if start is None:
        raise JournalDamaged(
            segment_name(revision + 1), 0, "neither this segment is there nor one that begins before", "one of them"
        )
    return [first for first in firsts if first >= start]


# -- writing ----------------------------------------------------------------------------------------------------------


def frame(revision: int, payload: bytes, before: int, sum_of: SumOf) -> tuple[bytes, int]:
    """The frame of a record after one with this sum, and its own sum."""
    body = _BODY_HEAD.pack(len(payload), revision) + payload
    total = sum_of(before, body)
    return _SUM.pack(total) + body, total


def frame_bytes(record: Record) -> int:
    """How much room a record takes."""
    return _HEAD.size + len(record.payload)


def block_bytes(block: Block, sum_of: SumOf) -> bytes:
    mark = block.mark
    fields = (block.identity, block.first, block.seed, block.size, block.count, mark.revision, mark.at, mark.sum)
    return _summed(_BLOCK.pack(_BLOCK_MAGIC, LAYOUT, *fields, block.next), sum_of)


def fresh_block(identity: bytes, first: int, seed: int, size: int) -> Block:
    return Block(
        identity=identity, first=first, seed=seed, size=size, count=1, mark=Mark(first - 1, FRAMES_AT, seed)
    )  # fmt: skip


def empty_segment(block: Block, sum_of: SumOf) -> bytes:
    """A whole segment before its first frame, both blocks written."""
    image = bytearray(block.size)
    for each in (replace(block, count=block.count - 1), block):
        text = block_bytes(each, sum_of)
        image[each.slot : each.slot + len(text)] = text
    return bytes(image)


def snapshot_bytes(identity: bytes, snapshot: Snapshot, sum_of: SumOf) -> bytes:
    head = _SNAPSHOT.pack(_SNAPSHOT_MAGIC, LAYOUT, identity, snapshot.revision, len(snapshot.state))
    return _summed(head + snapshot.state, sum_of)


def identity_bytes(identity: bytes, sum_of: SumOf) -> bytes:
    return _summed(_IDENTITY.pack(_IDENTITY_MAGIC, LAYOUT, identity), sum_of)


def _summed(data: bytes, sum_of: SumOf) -> bytes:
    return data + _SUM.pack(sum_of(0, data))


# -- reading ----------------------------------------------------------------------------------------------------------


def frames_after(mark: Mark, data: bytes, sum_of: SumOf) -> Iterator[Mark]:
    """The end of every valid frame after the mark, up to the first that is none."""
    at, revision, total = mark.at, mark.revision, mark.sum
    unpack, head, size = _HEAD.unpack_from, _HEAD.size, len(data)
    while at + head <= size:
        said, length, number = unpack(data, at)
        stop = at + head + length
        if number != revision + 1 or length > RECORD_BYTES_MAX or stop > size:
            return
        total = sum_of(total, data[at + 4 : stop])
        if said != total:
            return
        yield Mark(number, stop, total)
        at, revision = stop, number


def records_in(segment: Block, data: bytes, sum_of: SumOf) -> Iterator[Record]:
    at = FRAMES_AT
    for end in frames_after(segment.start, data, sum_of):
        yield Record(end.revision, data[at + _HEAD.size : end.at])
        at = end.at


def read_segment(name: str, data: bytes, sum_of: SumOf) -> Segment:
    """What a segment holds; `JournalDamaged` if that is less than its mark says, or something else."""
    blocks = [block_in(data, at, name, sum_of) for at in BLOCKS_AT]
    whole = [block for block in blocks if block is not None]
    if not whole:
        raise JournalDamaged(name, 0, "neither of its two blocks can be read", "a whole one at byte 0 or 4096")
    block = max(whole, key=lambda each: each.count)
    if segment_name(block.first) != name:
        raise JournalDamaged(name, block.slot, f"the segment of record {block.first}", "what the file is called after")
    said = [
        f"{name}, byte {at}: this block cannot be read, the other one serves"
        for at, found in zip(BLOCKS_AT, blocks, strict=True)
        if found is None
    ]
    end = _end_of(name, block, data, sum_of)
    if end.at < len(data) and data[end.at :] != bytes(len(data) - end.at):
        if len(whole) < len(blocks):
            # A mark is written when its frames are durable, and no frame before the mark is: no crash leaves both.
            raise JournalDamaged(
                name, end.at, f"no record {end.revision + 1}, and a mark that cannot be read", "at most one of the two"
            )
        said.append(f"{name}, byte {end.at}: what follows record {end.revision} was never acknowledged, and is dropped")
    if len(data) < block.size:
        said.append(f"{name}, byte {len(data)}: the file ends here and not at {block.size}, behind all records")
    return Segment(name=name, block=block, end=end, length=len(data), said=tuple(said))


def _end_of(name: str, block: Block, data: bytes, sum_of: SumOf) -> Mark:
    """The end of the last valid frame, once all that the mark promises is there."""
    end, mark = block.start, block.mark
    for end in frames_after(block.start, data, sum_of):
        if end.revision == mark.revision and end != mark:
            raise JournalDamaged(
                name, end.at, f"record {end.revision} is another one", f"its end at {mark.at}, its sum {mark.sum:08x}"
            )
    if end.revision < mark.revision:
        raise JournalDamaged(
            name,
            min(end.at, len(data)),
            _instead(end, data),
            f"record {end.revision + 1} of those acknowledged, up to {mark.revision}",
        )
    return end


def _instead(end: Mark, data: bytes) -> str:
    """What is met where a frame should be."""
    if end.at + _HEAD.size > len(data):
        return f"the end of the file, at {len(data)}"
    _, length, number = _HEAD.unpack_from(data, end.at)
    if not length and not number:
        return "nothing"
    if number != end.revision + 1:
        return f"what calls itself record {number}"
    if length > RECORD_BYTES_MAX:
        return f"a record of {length} bytes, more than {RECORD_BYTES_MAX}"
    if end.at + _HEAD.size + length > len(data):
        return f"a record that goes on behind the end of the file, at {len(data)}"
    return f"a record of {length} bytes with a sum that is not its own"


def block_in(data: bytes, at: int, name: str, sum_of: SumOf) -> Block | None:
    """The block there, None if it is not whole."""
    text = _unsummed(data[at : at + _BLOCK.size + _SUM.size], sum_of)
    if text is None or len(text) != _BLOCK.size:
        return None
    magic, layout, identity, first, seed, size, count, revision, mark_at, total, following = _BLOCK.unpack(text)
    if (magic, layout) != (_BLOCK_MAGIC, LAYOUT):
        raise JournalDamaged(name, at, f"{magic!r} of layout {layout}", f"{_BLOCK_MAGIC!r} of layout {LAYOUT}")
    mark = Mark(revision, mark_at, total)
    return Block(identity=identity, first=first, seed=seed, size=size, count=count, mark=mark, next=following)


def read_snapshot(name: str, data: bytes, sum_of: SumOf) -> tuple[bytes, Snapshot]:
    """Whose snapshot it is, and what it says."""
    text = _unsummed(data, sum_of)
    if text is None or len(text) < _SNAPSHOT.size:
        raise JournalDamaged(name, 0, f"{len(data)} bytes with a sum that is not their own", "a whole snapshot")
    magic, layout, identity, revision, length = _SNAPSHOT.unpack_from(text)
    if (magic, layout) != (_SNAPSHOT_MAGIC, LAYOUT):
        raise JournalDamaged(name, 0, f"{magic!r} of layout {layout}", f"{_SNAPSHOT_MAGIC!r} of layout {LAYOUT}")
    if snapshot_name(revision) != name:
        raise JournalDamaged(name, 0, f"a snapshot of record {revision}", "what the file is called after")
    return identity, Snapshot(revision, text[_SNAPSHOT.size : _SNAPSHOT.size + length])


def read_identity(data: bytes, sum_of: SumOf) -> bytes | None:
    """None if it is not whole."""
    text = _unsummed(data, sum_of)
    if text is None or len(text) != _IDENTITY.size:
        return None
    identity: bytes = _IDENTITY.unpack(text)[2]
    return identity


def _unsummed(data: bytes, sum_of: SumOf) -> bytes | None:
    text, total = data[: -_SUM.size], data[-_SUM.size :]
    return text if len(total) == _SUM.size and _SUM.pack(sum_of(0, text)) == total else None


# -- what the files say together --------------------------------------------------------------------------------------


def check_line(segments: Sequence[Segment], revision: int) -> None:
    """Whether these segments follow each other without a hole, and reach at least to this revision."""
    for former, segment in pairwise(segments):
        if segment.block.identity != former.block.identity:
            raise JournalDamaged(segment.name, 0, "a segment of another journal", "one of this")
        if segment.block.first != former.end.revision + 1:
            raise JournalDamaged(
                former.name, former.end.at, f"record {former.end.revision} is the last",
                f"all up to {segment.block.first - 1}, as {segment.name} follows",
            )  # fmt: skip
        if segment.block.seed != former.end.sum:
            raise JournalDamaged(segment.name, 0, "a segment that was begun after other records", "one that follows")
    last = segments[-1]
    if last.block.next:
        raise JournalDamaged(segment_name(last.block.next), 0, "no such file", f"it, as {last.name} is followed by it")
    if last.end.revision < revision:
        raise JournalDamaged(
            last.name, last.end.at, f"record {last.end.revision} is the last",
            f"all up to {revision}, of which there is a snapshot",
        )  # fmt: skip
