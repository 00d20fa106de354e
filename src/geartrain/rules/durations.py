"""Durations and sizes as people write them in a file: "250ms", "1h30m", "64KiB".

A duration always says its unit, so that nobody has to know whether 5 is seconds. Both ways are exact: a number that is
written down and read again is the same number.
"""

import re
from decimal import Decimal
from fractions import Fraction

from geartrain.errors import BadType, BadValue
from geartrain.rules.checks import number, whole

# From the largest to the smallest, as they are written one after the other.
_UNITS_S = {
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1000),
    "us": Fraction(1, 1_000_000),
}
_DURATION = re.compile("".join(rf"(?:(\d{{1,15}}(?:\.\d+)?){unit})?" for unit in _UNITS_S), re.ASCII)

_UNITS_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(rf"(\d{{1,15}}(?:\.\d+)?) ?({'|'.join(_UNITS_BYTES)})", re.ASCII)


def seconds_of(text: object, what: str = "a duration") -> float:
    """How many seconds a text like "250ms" or "1h30m" is."""
    if not isinstance(text, str):
        raise BadType(f'{what} must be text with a unit, as "250ms", "5s" or "1h30m", got {text!r}')
    amounts = _DURATION.fullmatch(text)
    if amounts is None or not text:
        raise BadValue(f'{what} must have units (h, m, s, ms, us), as "250ms", "5s" or "1h30m", got {text!r}')
    units = zip(amounts.groups(), _UNITS_S.values(), strict=True)
    return float(sum(Fraction(amount) * unit_s for amount, unit_s in units if amount))


def duration_text(seconds: float) -> str:
    """The text that `seconds_of` reads as this many seconds."""
    number("a duration in seconds", seconds, least=0, most=1e12)
    left_s = Decimal(repr(float(seconds)))
    if left_s == 0:
        return "0s"
    if left_s < Decimal("0.001"):
        return f"{_plain(left_s.scaleb(6))}us"
    if left_s < 1:
        return f"{_plain(left_s.scaleb(3))}ms"
    hours, left_s = divmod(left_s, 3600)
    minutes, left_s = divmod(left_s, 60)
    amounts = {"h": hours, "m": minutes, "s": left_s}
    return "".join(f"{_plain(amount)}{unit}" for unit, amount in amounts.items() if amount)


def bytes_of(size: object, what: str = "a size") -> int:
    """How many bytes a size is: a whole number of them, or a text like "64KiB"."""
    if not isinstance(size, str):
        if isinstance(size, bool) or not isinstance(size, int):
            raise BadType(f'{what} must be a number of bytes, or text as "64KiB", got {size!r}')
        return whole(what, size, least=0)
    parts = _SIZE.fullmatch(size)
    if parts is None:
        raise BadValue(f'{what} must be an amount with a unit ({", ".join(_UNITS_BYTES)}), as "64KiB", got {size!r}')
    size_bytes = Fraction(parts[1]) * _UNITS_BYTES[parts[2]]
    if size_bytes.denominator != 1:
        raise BadValue(f"{what} must be whole bytes, got {size!r}")
    return int(size_bytes)


def size_text(size_bytes: int) -> str:
    """The shortest text that `bytes_of` reads as this many bytes."""
    whole("a size in bytes", size_bytes, least=0)
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % _UNITS_BYTES[unit] == 0:
            return f"{size_bytes // _UNITS_BYTES[unit]}{unit}"
    return f"{size_bytes}B"


def _plain(amount: Decimal) -> str:
    return format(amount.normalize(), "f")
