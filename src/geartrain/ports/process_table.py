"""What the kernel says of processes: who is whose child, who is in which group, and who is who. Standard library only.

A dead process that nobody has collected yet (a zombie) keeps its number, and its number keeps the group's: no signal
can reach a stranger as long as it is there. `kill(group, 0)` takes it for alive, and not every init collects orphans,
so the table is read and the dead are left out.
"""

import os
import select
import signal
from collections.abc import Iterable
from typing import NamedTuple


class Entry(NamedTuple):
    """One process, as it was when looked at."""

    pid: int
    state: str
    parent: int
    group: int
    threads: int
    started_ticks: int

    @property
    def is_dead(self) -> bool:
        """A main thread that has ended looks like a zombie while other threads go on."""
        return self.state in ("Z", "X") and self.threads <= 1

    @property
    def is_stopped(self) -> bool:
        return self.state in ("T", "t")


class Identity(NamedTuple):
    """One process and no other: a number is used again, and so is a start time after the machine has booted."""

    pid: int
    started_ticks: int
    boot: str


def look_at(pid: int) -> Entry | None:
    """This process; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name of the program comes before, in parentheses, and may hold spaces and parentheses of its own.
    fields = text[text.rindex(b")") + 2 :].split()
    return Entry(pid, fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[17]), int(fields[19]))


class Signals(NamedTuple):
    """How a process, or its main thread, stands to each signal: one bit for each."""

    pending: int
    blocked: int
    caught: int

    def awaits(self, number: int) -> bool:
        """Whether one of this number has been sent to it and not arrived."""
        return bool(self.pending >> (number - 1) & 1)

    def blocks(self, number: int) -> bool:
        """Whether its main thread does not hear it now; a handler that runs does not hear its own signal."""
        return bool(self.blocked >> (number - 1) & 1)

    def catches(self, number: int) -> bool:
        return bool(self.caught >> (number - 1) & 1)


def signals_of(pid: int) -> Signals | None:
    """None when there is no such process, or it has ended."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            said = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    if said[b"State"].split()[0] in (b"Z", b"X"):
        return None
    return Signals(*(int(said[name], 16) for name in (b"ShdPnd", b"SigBlk", b"SigCgt")))


def has_in_environment(pid: int, name: str, value: str) -> bool:
    """Whether it was started with this, as children are by those who have it; False where that cannot be seen."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"{name}={value}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def command_of(pid: int) -> str:
    """The words it was started with; nothing when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def has_ended(pid: int, within_s: float) -> bool:
    """Whether a process ends within a time; it may be anybody's."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        end = select.poll()
        end.register(pidfd, select.POLLIN)
        return bool(end.poll(within_s * 1000))
    finally:
        os.close(pidfd)


def table() -> list[Entry]:
    """Every process that can be seen."""
    looks = (look_at(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [entry for entry in looks if entry is not None]


def members(group: int) -> list[int]:
    """Who is alive in a process group."""
    return [entry.pid for entry in table() if entry.group == group and not entry.is_dead]


def below(pid: int) -> list[int]:
    """Who is alive among the children of a process, their children and so on; parents come first."""
    entries = table()
    family = [pid]
    for ancestor in family:
        family += [entry.pid for entry in entries if entry.parent == ancestor]
    dead = {entry.pid for entry in entries if entry.is_dead}
    return [member for member in family[1:] if member not in dead]


def identity_of(pid: int) -> Identity | None:
    """Who has this number now, if anybody alive."""
    entry = look_at(pid)
    return None if entry is None or entry.is_dead else Identity(pid, entry.started_ticks, boot_id())


def is_alive(who: Identity) -> bool:
    return identity_of(who.pid) == who


def send_exactly(who: Identity, signal_number: int) -> bool:
    """Signal this process or nobody; False when it is gone."""
    try:
        pidfd = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return False
    try:
        # Looked at after it was opened: the descriptor cannot change over to another process.
        if not is_alive(who):
            return False
        signal.pidfd_send_signal(pidfd, signal_number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)


def signal_all(pids: Iterable[int], signal_number: int) -> None:
    """Signal each that is still there and may be signalled."""
    for pid in pids:
        try:
            os.kill(pid, signal_number)
        except (ProcessLookupError, PermissionError):
            continue


def boot_id() -> str:
    """Which boot of the machine this is; a start time means nothing in another."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""
