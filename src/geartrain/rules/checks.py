"""Saying no early: one place for the checks of arguments, so that all refusals read alike."""

import math
from collections.abc import Collection

from geartrain.errors import BadType, BadValue


def number(what: str, value: object, *, least: float = -math.inf, most: float = math.inf) -> float:
    """`value`, if it is a number within the bounds; NaN never is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadType(f"{what} must be a number, got {value!r}")
    if not least <= value <= most:
        raise BadValue(f"{what} must be {_bounds(least, most)}, got {value!r}")
    return value


def whole(what: str, value: object, *, least: int) -> int:
    """`value`, if it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadType(f"{what} must be a whole number, got {value!r}")
    if value < least:
        raise BadValue(f"{what} must be >= {least}, got {value!r}")
    return value


def one_of(what: str, value: object, choices: Collection[str]) -> None:
    """Refuse a misspelt word, and say which words there are."""
    if not isinstance(value, str):
        raise BadType(f"{what} must be one of {_listed(choices)}, got {value!r}")
    if value not in choices:
        raise BadValue(f"{what} must be one of {_listed(choices)}, got {value!r}")


def _listed(choices: Collection[str]) -> str:
    return ", ".join(repr(choice) for choice in choices)


def _bounds(least: float, most: float) -> str:
    if least == -math.inf and most == math.inf:
        return "a number that is not NaN"
    if most == math.inf:
        return f">= {least:g}"
    return f"from {least:g} to {most:g}"
