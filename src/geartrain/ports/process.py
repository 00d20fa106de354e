"""Processes: start one, see it end, signal it and all it has started.

    spawn(Command) -> Process     its own session and group; wait() -> Exit    "exit code 3", "killed by SIGKILL"
                                  its group: whatever it has started since     wait_group(), group_is_empty()

A stop is over when the *group* is empty, not when its leader has ended. `PretendProcesses` is for tests of what stands
above: its processes do what the test says.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Protocol

import anyio
from msgspec import Struct, field

from geartrain.errors import BadValue, NotInUse, ProcessFailed
from geartrain.ports.linux import need_linux
from geartrain.ports.parking import park
from geartrain.ports.process_table import look_at, members
from geartrain.ports.turns import Wait

BOOTSTRAP_FD = 0

_LOOK_AGAIN_S = 0.1


class Command(Struct, frozen=True):
    """What to start. What is secret goes into `bootstrap`: arguments and environment can be read by others.

    The bootstrap is found on descriptor 0 (`take_bootstrap`); without one there is nothing to read there. `out` and
    `err` are the descriptors that become its 1 and 2; None shares this process's. `keep_open` is inherited as it is.
    A program with `nice` that cannot be started is, as in a shell, one that ends with exit code 126 or 127.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] | None = None
    folder: str | None = None
    nice: int = 0
    bootstrap: bytes | None = None
    out: int | None = None
    err: int | None = None
    keep_open: tuple[int, ...] = ()


class Exit(Struct, frozen=True):
    """How a process ended: by itself with a code, or by a signal."""

    code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        return f"exit code {self.code}" if self.signal is None else f"killed by {signal_name(self.signal)}"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Process(Protocol):
    """A process that was started here, and its group. Whoever starts it waits until its group is empty."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> Exit:
        """How it ended, once it has. Any number of tasks may wait; cancelled, nothing is lost."""

    async def wait_group(self) -> Exit:
        """As `wait`, and return once nobody of its group is left."""

    def group_is_empty(self) -> bool:
        """Whether it has ended, and all it has started in its group too."""

    def signal(self, number: int) -> None:
        """Signal the process itself. One that has ended hears nothing."""

    def kill_group(self, number: int) -> None:
        """Signal all of its group, also when the process itself has ended."""

    def stopped(self) -> bool:
        """Whether it stands still by SIGSTOP, and cannot answer anything but SIGKILL and SIGCONT."""


class Processes(Protocol):
    """Starts processes."""

    def spawn(self, command: Command) -> Process:
        """Start it, at once. `ProcessFailed` says in words why it cannot be started."""


def take_bootstrap() -> bytes:
    """What the starter of this process has for it. Read once: nothing that this process starts finds it again."""
    with open(BOOTSTRAP_FD, "rb", closefd=False) as file:
        bootstrap = file.read()
    os.ftruncate(BOOTSTRAP_FD, 0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, BOOTSTRAP_FD)
    os.close(nothing)
    return bootstrap


# -- the real ones --------------------------------------------------------------------------------------------------


class RealProcesses:
    """Children of this process, started from its main thread: when a thread ends, the kernel ends its children."""

    def __init__(self) -> None:
        need_linux()
        # Where it is ignored, which is inherited, the kernel throws away how a child ended.
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def spawn(self, command: Command) -> "RealProcess":
        _check(command)
        try:
            child = _start(command)
        except OSError as error:
            raise ProcessFailed(f"{command.arguments[0]!r} cannot be started: {_reason(error)}") from error
        return _adopt(child, command)


def _check(command: Command) -> None:
    if threading.current_thread() is not threading.main_thread():
        raise NotInUse(
            "processes are started from the main thread: the kernel ends them with the thread they came from"
        )
    words = [*command.arguments, command.folder or ""]
    words += [word for pair in (command.environment or {}).items() for word in pair]
    if not command.arguments or any("\0" in word for word in words):
        raise BadValue(f"a command is a program and its arguments, none with a zero byte, got {command.arguments!r}")


def _start(command: Command) -> "subprocess.Popen[bytes]":
    # `nice` becomes the program. A function between fork and exec would cost vfork, and from outside it comes too late.
    nicely = ("nice", "-n", str(command.nice)) if command.nice else ()
    with _input(command.bootstrap) as stdin:
        return subprocess.Popen(
            nicely + command.arguments,
            env=command.environment,
            cwd=command.folder,
            stdin=stdin,
            stdout=command.out,
            stderr=command.err,
            pass_fds=command.keep_open,
            start_new_session=True,
        )


@contextmanager
def _input(bootstrap: bytes | None) -> Iterator[int]:
    """A file in memory: unlike a pipe it takes any size at once, and its reader can empty it."""
    if bootstrap is None:
        yield subprocess.DEVNULL
        return
    with open(os.memfd_create("bootstrap"), "w+b") as file:
        file.write(bootstrap)
        file.seek(0)
        yield file.fileno()


def _reason(error: OSError) -> str:
    return f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror)


def _adopt(child: "subprocess.Popen[bytes]", command: Command) -> "RealProcess":
    """From here on the child is watched; if that fails, it does not live on unwatched."""
    try:
        return RealProcess(child, os.pidfd_open(child.pid))
    except OSError as error:
        child.kill()
        child.wait()
        raise ProcessFailed(f"{command.arguments[0]!r} was started and ended again: {_reason(error)}") from error


class RealProcess:
    """Seen through a pidfd, which is readable once the process has ended.

    It is collected only when nobody else of its group is left. Until then its number, which is the group's, cannot be
    given to anybody else, so that no signal ever reaches a stranger.
    """

    def __init__(self, child: "subprocess.Popen[bytes]", pidfd: int) -> None:
        self.pid = child.pid
        self._child = child
        self._pidfd = pidfd
        self._exit: Exit | None = None
        self._collected = False

    async def wait(self) -> Exit:
        while (found := self._look()) is None:
            # A descriptor for each waiter: a loop lets only one wait for each.
            await _readable(os.dup(self._pidfd))
        self.group_is_empty()
        return found

    async def wait_group(self) -> Exit:
        found = await self.wait()
        while not self.group_is_empty():
            for pid in members(self.pid):
                # It may leave the group instead.
                with anyio.move_on_after(_LOOK_AGAIN_S):
                    await ended(pid)
        return found

    def group_is_empty(self) -> bool:
        if self._look() is None:
            return False
        if not self._collected and not members(self.pid):
            self._collected = True
            self._child.wait()
            os.close(self._pidfd)
        return self._collected

    def signal(self, number: int) -> None:
        if self._look() is None:
            with _if_it_hears(self.pid):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill_group(self, number: int) -> None:
        if not self._collected:
            with _if_it_hears(self.pid):
                os.killpg(self.pid, number)

    def stopped(self) -> bool:
        entry = None if self._collected else look_at(self.pid)
        return entry is not None and entry.is_stopped

    def _look(self) -> Exit | None:
        """How it ended, if it has; it is not collected by this."""
        if self._exit is None:
            try:
                found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError as error:
                raise ProcessFailed(f"process {self.pid} was collected by other code of this program") from error
            if found is not None:
                by_itself = found.si_code == os.CLD_EXITED
                self._exit = Exit(code=found.si_status) if by_itself else Exit(signal=found.si_status)
        return self._exit


@contextmanager
def _if_it_hears(pid: int) -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        return
    except PermissionError as error:
        # As `sudo` does.
        raise ProcessFailed(f"process {pid} belongs to another user by now and takes no signal from here") from error


async def _readable(descriptor: int) -> None:
    """Wait for a descriptor of one's own, and close it."""
    try:
        await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)


async def ended(pid: int) -> None:
    """Wait for the end of any process, also of somebody else's child."""
    with suppress(ProcessLookupError):
        await _readable(os.pidfd_open(pid))


# -- the pretended ones ---------------------------------------------------------------------------------------------


class Role(Struct, frozen=True):
    """How a pretended process behaves: what stops it from starting, which signals it does not obey, and whether its
    group goes on without it until the group is killed."""

    refused: str | None = None
    deaf_to: frozenset[int] = field(default_factory=frozenset)
    leaves_others: bool = False


def _plain(_command: Command) -> Role:
    return Role()


class PretendProcesses:
    """Starts nothing, and remembers what it was asked for. `cast` gives each command its role."""

    def __init__(self, cast: Callable[[Command], Role] = _plain) -> None:
        self.started: list[PretendProcess] = []
        self._cast = cast

    def spawn(self, command: Command) -> "PretendProcess":
        role = self._cast(command)
        if role.refused is not None:
            raise ProcessFailed(f"{command.arguments[0]!r} cannot be started: {role.refused}")
        process = PretendProcess(1000 + len(self.started), command, role)
        self.started.append(process)
        return process


class PretendProcess:
    """Ends when the test calls `ends`, or by a signal that it obeys. `heard` are the signals it was sent."""

    def __init__(self, pid: int, command: Command, role: Role) -> None:
        self.pid = pid
        self.command = command
        self.heard: list[int] = []
        self._role = role
        self._exit: Exit | None = None
        self._others = role.leaves_others
        self._still = False
        self._waits: dict[Wait, None] = {}

    def ends(self, how: Exit) -> None:
        """It has ended like this. The first end counts."""
        self._exit = self._exit or how
        self._tell()

    async def wait(self) -> Exit:
        while self._exit is None:
            await self._news()
        return self._exit

    async def wait_group(self) -> Exit:
        found = await self.wait()
        while not self.group_is_empty():
            await self._news()
        return found

    def group_is_empty(self) -> bool:
        return self._exit is not None and not self._others

    def signal(self, number: int) -> None:
        if self._exit is None:
            self.heard.append(number)
            self._obey(number)

    def kill_group(self, number: int) -> None:
        self.signal(number)
        if number == signal.SIGKILL:
            self._others = False
            self._tell()

    def stopped(self) -> bool:
        return self._still and self._exit is None

    def _obey(self, number: int) -> None:
        if number in (signal.SIGSTOP, signal.SIGCONT):
            self._still = number == signal.SIGSTOP
        elif number == signal.SIGKILL or not (self._still or number in self._role.deaf_to):
            self.ends(Exit(signal=number))

    def _tell(self) -> None:
        for wait in self._waits:
            wait.wake()

    async def _news(self) -> None:
        wait = park()
        self._waits[wait] = None
        try:
            await wait.wait()
        finally:
            del self._waits[wait]
