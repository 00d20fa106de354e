"""What a resource keeps, so that who has lost its lease and does not know it can do no harm.

    lease 5 granted, token 5 ---> its holder is frozen
    lease 9 granted, token 9 ---> gate.admit(9)    the new holder writes
                                  gate.admit(5)    the old one wakes up and is too late: `Fenced`

A lease says who may; whether who acts still may, only the resource can tell, for between looking at a clock and acting
any time may pass. Tokens of an arbiter only grow. So a write is let in if nothing newer was ever seen, and a read if no
newer write was.
"""

from typing import Generic, TypeVar

from msgspec import Struct

from geartrain.errors import BadType, Fenced
from geartrain.rules.checks import one_of, whole
from geartrain.rules.lease_words import MODES, Mode

T = TypeVar("T")


class Seen(Struct, frozen=True):
    """The highest tokens there were: of any kind, and of an exclusive lease. A resource may keep them with its data."""

    highest: int = 0
    exclusive: int = 0


class Sealed(Struct, Generic[T], frozen=True, array_like=True):
    """An item of a fenced channel, with the token of the lease under which it was sent."""

    token: int
    item: T


class FenceGate:
    """The gate of one resource. One that outlives its process begins again with what it has `seen`."""

    __slots__ = ("_seen", "region")

    def __init__(self, region: str, seen: Seen | None = None) -> None:
        self.region = region
        self._seen = seen or Seen()

    def __repr__(self) -> str:
        return f"<FenceGate {self.region!r}, has seen {self._seen.highest}>"

    @property
    def seen(self) -> Seen:
        return self._seen

    def admit(self, token: int | None, mode: Mode = "x") -> None:
        """Let in who shows the token of its lease, held in this mode; who is too late or shows none gets `Fenced`."""
        one_of("the mode of a lease", mode, MODES)
        if token is None or token == 0:
            raise Fenced(
                f"{self.region!r} is fenced, and was used without a token; show `lease.token` of a lease on it"
            )
        if isinstance(token, bool) or not isinstance(token, int):
            raise BadType(f"a token is a whole number, `lease.token`, got {token!r}")
        newest = self._seen.highest if mode == "x" else self._seen.exclusive
        if token < newest:
            said = f"token {token} is too late for {self.region!r}: {newest} was here, so that lease has been lost"
            raise Fenced(f"{said}; acquire it anew, and look at what has changed")
        self._note(token, mode)

    def learn(self, token: int, mode: Mode = "x") -> None:
        """A newer lease has been granted: who held it before is kept out from now on, not from its first use on."""
        one_of("the mode of a lease", mode, MODES)
        self._note(whole("a token", token, least=1), mode)

    def _note(self, token: int, mode: Mode) -> None:
        highest = max(self._seen.highest, token)
        exclusive = max(self._seen.exclusive, token) if mode == "x" else self._seen.exclusive
        if (highest, exclusive) != (self._seen.highest, self._seen.exclusive):
            self._seen = Seen(highest, exclusive)
