"""Who waits for whom, and who of them waits in vain.

A wait names the daemons that could end it; None stands for the outside (a caller, a stop, a socket).
A daemon can go on if one of its waits can be ended from outside or by a daemon that can go on. All the
others hold each other, or wait for someone who is gone.
"""

from collections.abc import Collection, Iterable

from msgspec import Struct


class Waiting(Struct, frozen=True):
    """One wait of a daemon: what it says it waits for, and who could end it."""

    who: str
    what: str
    helpers: tuple[str, ...] | None


def stuck(waits: Iterable[Waiting], alive: Collection[str]) -> tuple[Waiting, ...]:
    """The waits of those that can never go on. A living daemon without a known wait is busy outside."""
    by_daemon: dict[str, list[Waiting]] = {}
    for wait in waits:
        by_daemon.setdefault(wait.who, []).append(wait)
    going = {name for name in alive if name not in by_daemon}
    while freed := {
        name
        for name, its in by_daemon.items()
        if name not in going and any(wait.helpers is None or not going.isdisjoint(wait.helpers) for wait in its)
    }:
        going |= freed
    return tuple(wait for name, its in by_daemon.items() if name not in going for wait in its)
