"""A pipeline's tables as TOML text, which reads back as the same tables."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from geartrain.errors import BadValue

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def toml_text(tables: Mapping[str, Any]) -> str:
    """The text of some tables of tables, ending with a newline."""
    return "\n".join("\n".join(section) + "\n" for section in _sections((), tables))


def _sections(path: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[list[str]]:
    """Two levels have headings of their own; what lies deeper is written in its line."""
    inner = {name: value for name, value in table.items() if isinstance(value, Mapping) and len(path) < 2}
    lines = [f"{_key(name)} = {_value(value)}" for name, value in table.items() if name not in inner]
    if lines or (path and not inner):
        heading = [f"[{'.'.join(map(_key, path))}]"] if path else []
        yield heading + lines
    for name, value in inner.items():
        if value or path:
            yield from _sections((*path, name), value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _value(value: object) -> str:
    match value:
        case None:
            raise BadValue("TOML has no word for nothing (null); take JSON")
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case float() if not math.isfinite(value):
            return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
        case Mapping():
            inside = ", ".join(f"{_key(name)} = {_value(item)}" for name, item in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case int() | float():
            return repr(value)
        case _:
            # What is left of what a TOML file can hold are dates and times.
            return str(value)


def _text(text: str) -> str:
    # JSON writes text as TOML does, but for this one letter.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
