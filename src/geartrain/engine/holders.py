"""Which daemons could use a channel end: asked only when virtual time has come to an end and somebody still waits.

An end could be used by the daemons that have waited in it, and by those that hold it: in their attributes, their
arguments, or the variables a function closes over. If somebody outside of any daemon has waited in it, it may be
used from there again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Protocol
from weakref import WeakSet

from geartrain.ports.turns import Owner

# A daemon that hides an end deeper than this is not seen to hold it.
_DEPTH = 4


class End(Protocol):
    """A channel end, and the daemons that have waited in it; None stands for the outside."""

    users: tuple[Owner | None, ...]


class Holder(Owner, Protocol):
    """A daemon, and the objects it was made of."""

    def roots(self) -> Iterable[object]: ...


holders: WeakSet[Holder] = WeakSet()


def who_could_use(end: End | None, *, not_by: Owner) -> Sequence[Owner] | None:
    """The daemons that could use this end, finished ones included; None when it belongs to the outside."""
    if end is None or None in end.users:
        return None
    found: set[Owner] = {user for user in end.users if user is not None}
    found |= {holder for holder in holders if holder is not not_by and _holds(holder, end)}
    return sorted(found, key=_name) or None


def _holds(holder: Holder, end: End) -> bool:
    return any(thing is end for root in holder.roots() for thing in _reachable(root, _DEPTH, set()))


def _reachable(thing: object, depth: int, seen: set[int]) -> Iterator[object]:
    if id(thing) in seen:
        return
    seen.add(id(thing))
    yield thing
    # Through an end one would come to the other end, which its holder may not use.
    if depth > 0 and not hasattr(thing, "users"):
        for part in _parts(thing):
            yield from _reachable(part, depth - 1, seen)


def _parts(thing: object) -> Iterable[object]:
    match thing:
        case str() | bytes() | int() | float() | type() | ModuleType():
            return ()
        case Mapping():
            return tuple(thing.values())
        case list() | tuple() | set() | frozenset():
            return tuple(thing)
        case FunctionType():
            return tuple(cell.cell_contents for cell in thing.__closure__ or () if _is_set(cell))
        case MethodType():
            return (thing.__self__,)
        case partial():
            return (thing.func, *thing.args, *thing.keywords.values())
        case _:
            slots = (name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ()))
            slotted = (getattr(thing, name) for name in slots if not name.startswith("__") and hasattr(thing, name))
            return (*getattr(thing, "__dict__", {}).values(), *slotted)


def _is_set(cell: object) -> bool:
    return hasattr(cell, "cell_contents")


def _name(owner: Owner) -> str:
    return owner.name
