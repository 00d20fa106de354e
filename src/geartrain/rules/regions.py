"""What a lease covers: a path with everything below it, or a named lock. Two spellings of one region are one region.

    "Workcell//left/."    ->  Workcell/left    that, and all that is below it
    "src/ab*/c"           ->  src/ab*          all that begins so: nothing is known behind the first of * ? [ {
    "/"  "."  "**/*.py"   ->  /                all paths
    "lock://gpu"          ->  lock://gpu       a name; it meets itself, and no path

What is compared is the key of a region, a text that says where it ends: `/workcell/left/`, or open, `/src/ab`. So two
regions meet if the key of one begins with that of the other. Whatever cannot be told apart by eye, or could be read in
two ways, is refused.
"""

import re
import unicodedata
from typing import Literal, get_args

from geartrain.errors import BadType, BadValue

# Whether names that differ in upper and lower case only are the same. To fold is the safe side: it may find a conflict
# where a file system knows two names, and never misses one.
Case = Literal["fold", "keep"]

CASES: tuple[Case, ...] = get_args(Case)

ALL = "/"
LOCK = "lock://"
MOST_BYTES = 1024

# What is canonical as it stands, at a glance.
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_GLOB = re.compile(r"[*?\[{]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

# By the category of a character. Of what is not assigned nobody knows yet how it is normalised.
_REFUSED = {
    "Cc": "a control character",
    "Cf": "an invisible character",
    "Cn": "no assigned character",
    "Cs": "half of a surrogate pair",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
    "Zs": "a space other than ' '",
}


def canonical(text: str) -> str:
    """The one spelling of a region; `BadValue` for what names none. What is canonical stays as it is."""
    if not isinstance(text, str):
        raise BadType(f"a region must be text, got {text!r}")
    if len(text) <= MOST_BYTES and _PLAIN.fullmatch(text):
        return text
    text = in_one_line("region", text, most_bytes=MOST_BYTES)
    if text.startswith(LOCK):
        return _lock(text)
    if _SCHEME.search(text):
        raise BadValue(f"region {text!r}: the only kind of name with '://' is lock://NAME")
    if "\\" in text:
        raise BadValue(f"region {text!r} has a backslash, which is a separator to some; write '/'")
    return _path(text)


def in_one_line(what: str, text: str, *, most_bytes: int) -> str:
    """A name as it is compared, NFC. What does not fit into a line that somebody reads is refused, and shown."""
    if not (text.isascii() and text.isprintable()):
        for at, character in enumerate(text):
            met = None if character == " " else _REFUSED.get(unicodedata.category(character))
            if met is not None:
                raise BadValue(f"{what} {text!r}: U+{ord(character):04X}, {met}, at position {at}; leave it out")
        text = unicodedata.normalize("NFC", text)
    if not text or text != text.strip(" "):
        raise BadValue(f"{what} {text!r} is empty, or begins or ends with a space; give it a name")
    if len(text.encode()) > most_bytes:
        raise BadValue(f"{what} {text[:40]!r}... is longer than {most_bytes} bytes")
    return text


def key_of(region: str, case: Case = "fold") -> str:
    """What is compared of a canonical region."""
    if case == "fold":
        region = region.lower() if region.isascii() else _folded(region)
    if region.startswith(LOCK):
        return f"{region}/"
    if region.endswith("*"):
        return f"/{region[:-1]}"
    return ALL if region == ALL else f"/{region}/"


def meet(key: str, other: str) -> bool:
    """Whether two regions have something in common."""
    return key.startswith(other) or other.startswith(key)


def covers(key: str, other: str) -> bool:
    """Whether all of the other region lies in this one."""
    return other.startswith(key)


def _lock(text: str) -> str:
    name = text.removeprefix(LOCK)
    if not name or "/" in name or "\\" in name or _GLOB.search(name) or name != name.strip(" "):
        raise BadValue(f"region {text!r}: a lock has a name of one part without '/', '*', '?', '[' or '{{'")
    return text


def _path(text: str) -> str:
    glob = _GLOB.search(text)
    known = text[: glob.start()] if glob else text
    if glob and ".." in text[glob.start() :].split("/"):
        raise BadValue(f"region {text!r} goes up with '..' behind a pattern, and may lead anywhere; write where to")
    parts: list[str] = []
    *folders, last = known.split("/")
    # Of a pattern the last part is only the beginning of a name: "..*" may be the name "..a".
    for part in folders if glob else (*folders, last):
        if part == "..":
            if not parts:
                raise BadValue(f"region {text!r} goes up with '..' beyond the root of all regions")
            parts.pop()
        elif part != part.strip(" "):
            raise _spaced(text, part)
        elif part not in ("", "."):
            parts.append(part)
    if glob and last:
        if last.startswith(" "):
            raise _spaced(text, last)
        return "/".join((*parts, f"{last}*"))
    return "/".join(parts) or ALL


def _spaced(text: str, part: str) -> BadValue:
    return BadValue(f"region {text!r} has the name {part!r} in it, which begins or ends with a space")


def _folded(text: str) -> str:
    """Once is not enough: what is folded may need folding again when it is composed."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
    return folded if folded == text else _folded(folded)
