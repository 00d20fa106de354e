"""Traces of simulated runs in files: where two of them part."""

from collections.abc import Iterator
from pathlib import Path

from geartrain.errors import BadValue
from geartrain.rules.trace import Difference, Taken, first_difference, head_of, taken_in


def taken_of(file: Path) -> Iterator[Taken]:
    """What a trace says, one after the other. `BadValue` when it is none, or cannot be read."""
    try:
        with file.open("rb") as lines:
            head_of(next(lines, b""), str(file))
            yield from taken_in(lines, str(file))
    except OSError as error:
        raise BadValue(f"{file} cannot be read: {error.strerror}") from None


def difference_of(first: Path, second: Path) -> Difference | None:
    return first_difference(taken_of(first), taken_of(second))


def told_of_difference(difference: Difference | None, first: Path, second: Path) -> str:
    if difference is None:
        return f"{first} and {second} are alike\n"
    width = max(len(str(first)), len(str(second)))
    lines = [
        f"{name!s:{width}}  {taken or 'has ended'}"
        for name, taken in ((first, difference.first), (second, difference.second))
    ]
    return "\n".join([f"after {difference.same} events that are alike: {difference.said}", *lines, ""])
