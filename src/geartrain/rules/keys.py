"""Keys: who an end is, and the one peer that it lets in.

    writer   Curve(keys=its own, peer=the reader's public key)
    reader   Curve(keys=its own, peer=the writer's public key)

A channel has one writer and one reader, so each names the other, and nobody else gets in. A public key may be shown to
anybody, a secret one to nobody: it is in no `repr` and in no message of an error.
"""

from typing import Any

from msgspec import Struct

from geartrain.errors import BadType, BadValue

# Z85 is base 85: five of these are four bytes, and 40 are the 32 bytes of a key.
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_LENGTH = 40


class Keys(Struct, frozen=True):
    """A pair of CURVE keys in Z85: the public one to give away, the secret one to keep. `generate_keys()` makes one."""

    public: str
    secret: str

    def __post_init__(self) -> None:
        _check_key("a public key", self.public)
        _check_key("a secret key", self.secret)
        if self.public == self.secret:
            raise BadValue("the public and the secret key of a pair are the same; one of them is in the wrong place")

    def __repr__(self) -> str:
        return f"Keys(public={self.public!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("public", self.public)]


class Curve(Struct, frozen=True):
    """What an end needs to be safe from strangers: its own keys, and the public key of its one peer."""

    keys: Keys
    peer: str

    def __post_init__(self) -> None:
        if not isinstance(self.keys, Keys):
            raise BadType(f"keys must be this end's own Keys, got {type(self.keys).__name__}")
        _check_key("peer, the public key of the other end,", self.peer)
        if self.peer == self.keys.public:
            raise BadValue("peer is this end's own public key; it must be the other end's")
        if self.peer == self.keys.secret:
            raise BadValue("peer is this end's own secret key; it must be the other end's public one")


def _check_key(what: str, key: object) -> None:
    """The key itself is never told: it may be a secret, or a secret in the wrong place."""
    if not isinstance(key, str):
        raise BadType(f"{what} must be text, got {type(key).__name__}")
    if len(key) != _LENGTH:
        raise BadValue(f"{what} must be {_LENGTH} characters of Z85, got {len(key)}")
    if not all(_is_z85(key[start : start + 5]) for start in range(0, _LENGTH, 5)):
        raise BadValue(f"{what} must be {_LENGTH} characters of Z85, got {_LENGTH} that are not Z85")


def _is_z85(five: str) -> bool:
    value = 0
    for digit in five:
        place = _DIGITS.find(digit)
        if place < 0:
            return False
        value = value * 85 + place
    return value < 1 << 32
