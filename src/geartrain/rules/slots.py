"""Where each word of a slot file stands, and how it is read while its process goes on writing, or after it was killed.

    header   magic  layout  slots  pid  started  generation  heartbeat_ns  dropped            one line of 64 bytes
    slot     sequence | bank 0: state in_body_since_ns executions errors overruns faulted | bank 1: the same   two lines

A writer fills the bank that is not published and then publishes it by adding one to the sequence. A killed writer
leaves a whole record: the last or the one before. A reader copies the published bank and takes it only if the
sequence is still the same. All words are native: others are stored byte by byte, and tear.
"""

from collections.abc import Sequence
from enum import StrEnum

from geartrain.rules.health import SlotReading, SlotState

WORD_BYTES = 8
MAGIC = 0x676561727472_0001
LAYOUT = 1

HEADER_WORDS = 8
MAGIC_AT, LAYOUT_AT, SLOTS_AT, PID_AT, STARTED_AT, GENERATION_AT, HEARTBEAT_AT, DROPPED_AT = range(HEADER_WORDS)

# The sequence has a place of its own; the banks follow it.
BANK_WORDS = 6
SLOT_WORDS = 16

# A writer that publishes between all of so many pairs of looks has no time for anything else.
TRIES = 8


class Unreadable(StrEnum):
    """Why a file is not read as slots."""

    TRUNCATED = "it is shorter than its header says"
    FOREIGN = "it is no slot file"
    OTHER_LAYOUT = "it was written by another version"


def size_bytes(slots: int) -> int:
    return (HEADER_WORDS + slots * SLOT_WORDS) * WORD_BYTES


def slot_at(index: int) -> int:
    """The word at which this slot begins."""
    return HEADER_WORDS + index * SLOT_WORDS


def bank_at(index: int, sequence: int) -> int:
    """The word at which the bank begins that this sequence publishes."""
    return slot_at(index) + 1 + (sequence & 1) * BANK_WORDS


def why_unreadable(words: Sequence[int]) -> Unreadable | None:
    if len(words) < HEADER_WORDS:
        return Unreadable.TRUNCATED
    if words[MAGIC_AT] != MAGIC:
        return Unreadable.FOREIGN
    if words[LAYOUT_AT] != LAYOUT:
        return Unreadable.OTHER_LAYOUT
    return Unreadable.TRUNCATED if len(words) < slot_at(words[SLOTS_AT]) else None


def published(words: Sequence[int], index: int) -> tuple[int, ...] | None:
    """The whole record of this slot; None if its writer published at every try: the last one seen holds."""
    for _ in range(TRIES):
        sequence = words[slot_at(index)]
        start = bank_at(index, sequence)
        bank = tuple(words[start : start + BANK_WORDS])
        if words[slot_at(index)] == sequence:
            return bank
    return None


def reading(daemon: str, bank: Sequence[int]) -> SlotReading:
    state, in_body_since_ns, executions, errors, overruns, faulted = bank
    return SlotReading(
        daemon=daemon,
        state=SlotState(state),
        in_body_since_ns=in_body_since_ns,
        executions=executions,
        errors=errors,
        overruns=overruns,
        faulted=bool(faulted),
    )
