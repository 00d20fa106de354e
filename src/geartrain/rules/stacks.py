"""The stacks of a process as `faulthandler` writes them, understood thread by thread.

    Current thread 0x00007f3a (most recent call first):
      File "vision.py", line 12 in run

It writes the interrupted thread last; here it comes first.
"""

import re

from msgspec import Struct

# Newer Pythons say the name of a thread too.
_THREAD = re.compile(r"(?:Current thread|Thread) (0x[0-9a-f]+)(?: \[(.*)\])? \(most recent call first\):")
_PLACE = re.compile(r'  File "(.*)", line (\d+|\?\?\?) in (.*)')


class StackPlace(Struct, frozen=True):
    """One call that has not returned."""

    file: str
    line: int
    function: str


class ThreadStack(Struct, frozen=True):
    """The calls of one thread, the last one first. `current` is the one that was interrupted to tell this."""

    thread: str
    current: bool
    calls: tuple[StackPlace, ...]
    name: str | None = None


def threads_in(text: str) -> tuple[ThreadStack, ...]:
    """Every thread that is told of, the interrupted one first. Lines that are neither are left out."""
    found: list[ThreadStack] = []
    calls: list[StackPlace] = []
    for line in text.splitlines():
        if (thread := _THREAD.fullmatch(line)) is not None:
            _finish(found, calls)
            calls = []
            found.append(ThreadStack(thread[1], line.startswith("Current"), (), thread[2]))
        elif (place := _PLACE.fullmatch(line)) is not None:
            calls.append(StackPlace(place[1], int(place[2]) if place[2].isdigit() else 0, place[3]))
    _finish(found, calls)
    return tuple(sorted(found, key=lambda stack: not stack.current))


def _finish(found: list[ThreadStack], calls: list[StackPlace]) -> None:
    if found:
        last = found[-1]
        found[-1] = ThreadStack(last.thread, last.current, tuple(calls), last.name)
