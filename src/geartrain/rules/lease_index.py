"""Who has claims that meet a region: found by the steps of its path, however many others there are.

    /workcell/left/      is met by what lies at /, at /workcell/ and at itself, and by all that is kept below itself

What lies at a key is kept by the key, and each key besides below every folder on its way. Only a region that ends in
the middle of a name looks at all that lies beside it.
"""

from collections.abc import Iterator
from functools import lru_cache

from msgspec import Struct

from geartrain.rules.lease_words import Claim, Mode
from geartrain.rules.regions import ALL, LOCK, Case, key_of


class Place(Struct, frozen=True, gc=False):
    """A claim as it is looked for: its key, and the folders on the way there."""

    claim: Claim
    key: str
    folders: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        return self.key[-1] != "/"


def place_of(claim: Claim, case: Case) -> Place:
    """Of a claim whose region is canonical."""
    key = key_of(claim.region, case)
    if key == ALL or key.startswith(LOCK):
        return Place(claim, key, ())
    return Place(claim, key, _folders(key[: key.rfind("/", 0, len(key) - 1) + 1]))


@lru_cache(maxsize=4096)
def _folders(last: str) -> tuple[str, ...]:
    """Those on the way to a folder, and itself. Most regions lie beside others."""
    return tuple(last[: at + 1] for at, character in enumerate(last) if character == "/")


class _Tier:
    """The claims of one mode."""

    __slots__ = ("_at", "_below", "_open_lengths")

    def __init__(self) -> None:
        self._at: dict[str, dict[int, Place]] = {}
        self._below: dict[str, dict[str, None]] = {}
        # How many open keys there are of a length.
        self._open_lengths: dict[int, int] = {}

    def add(self, place: Place, who: int) -> None:
        key = place.key
        there = self._at.get(key)
        if there is not None:
            there[who] = place
            return
        self._at[key] = {who: place}
        below = self._below
        for folder in place.folders:
            keys = below.get(folder)
            if keys is None:
                below[folder] = {key: None}
            else:
                keys[key] = None
        if place.is_open:
            self._open_lengths[len(key)] = self._open_lengths.get(len(key), 0) + 1

    def remove(self, place: Place, who: int) -> None:
        key = place.key
        there = self._at[key]
        del there[who]
        if there:
            return
        del self._at[key]
        below = self._below
        for folder in place.folders:
            keys = below[folder]
            del keys[key]
            if not keys:
                del below[folder]
        if place.is_open:
            self._open_lengths[len(key)] -= 1
            if not self._open_lengths[len(key)]:
                del self._open_lengths[len(key)]

    def is_met(self, place: Place) -> bool:
        at = self._at
        if not at:
            return False
        key = place.key
        if key in at or key in self._below:
            return True
        for folder in place.folders:
            if folder in at:
                return True
        if self._open_lengths or key[-1] != "/":
            return next(self._keys(place), None) is not None
        return False

    def met_by(self, place: Place) -> Iterator[tuple[int, Place]]:
        for key in self._keys(place):
            yield from self._at[key].items()

    def _keys(self, place: Place) -> Iterator[str]:
        """The keys that meet it: those on the way, its own, and those below."""
        at, key = self._at, place.key
        for folder in place.folders:
            if folder in at:
                yield folder
        for length in self._open_lengths:
            if length < len(key) and key[:length] in at and key[length - 1] != "/":
                yield key[:length]
        if key in at:
            yield key
        if place.is_open:
            for other in self._below.get(place.folders[-1], ()):
                if len(other) > len(key) and other.startswith(key):
                    yield other
        else:
            yield from self._below.get(key, ())


class Index:
    """The claims of all leases, or of all requests that wait, by who has them."""

    __slots__ = ("_exclusive", "_shared")

    def __init__(self) -> None:
        self._exclusive = _Tier()
        self._shared = _Tier()

    def add(self, who: int, places: tuple[Place, ...]) -> None:
        for place in places:
            self._tier(place.claim.mode).add(place, who)

    def remove(self, who: int, places: tuple[Place, ...]) -> None:
        for place in places:
            self._tier(place.claim.mode).remove(place, who)

    def is_free(self, places: tuple[Place, ...]) -> bool:
        """Whether nobody has anything that is in the way."""
        for place in places:
            if self._exclusive.is_met(place):
                return False
            if place.claim.mode == "x" and self._shared.is_met(place):
                return False
        return True

    def in_the_way(self, places: tuple[Place, ...]) -> Iterator[tuple[int, Place]]:
        """Who, and with what; the same one more than once, if it is so by more than one claim."""
        for place in places:
            yield from self._exclusive.met_by(place)
            if place.claim.mode == "x":
                yield from self._shared.met_by(place)

    def _tier(self, mode: Mode) -> _Tier:
        return self._exclusive if mode == "x" else self._shared
