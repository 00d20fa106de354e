"""A lease around any program: `geartrain lease run REGION... -- command`.

    acquire ---> the command, in a process group of its own ---> what it has left there is killed ---> release
                     '-- a thread renews at a third of the time; what cannot be renewed in time is lost,
                         and then the whole group is killed before anybody else is granted the region

The holder counts from before it asked, and stops a little before its time, so it has stopped when the arbiter lets
others in. If this process itself stands still, or is killed together with nothing else, its command may go on: what
must not be harmed then looks at the token, which the command finds in its environment.
"""

import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from geartrain.errors import BadValue, EtcdAway, GeartrainError, JournalInUse, JournalStopped, LeaseLost, LeaseRefused
from geartrain.faces.lease_calls import BUSY_FOR_S, release, renew
from geartrain.ports.clock import mono_ns
from geartrain.ports.etcd import address_of
from geartrain.ports.linux import die_with_parent, need_linux
from geartrain.rules.lease_words import Grant

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
# A holder stops so much of the time before it is over.
_EARLY = 100


class Keeper:
    """Renews a lease, until it is `stopped` or it cannot: `until_ns` is when it is lost at the latest."""

    def __init__(self, folder: Path, grant: Grant) -> None:
        self.why = ""
        self.until_ns = 0
        self._folder = folder
        self._grant = grant
        self._stop = threading.Event()
        # When it was granted, while it was waited for, is not known: nothing is begun before it was renewed once.
        asked_ns = mono_ns()
        renew(folder, grant.lease, grant.token)
        self._renewed(asked_ns)
        self.lost = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """It may be at it for a while yet: who stops it waits no longer than the lease lasts."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(max(0.0, (self.until_ns - mono_ns()) / 1e9))
        # Whoever is still at it may write to it.
        if not self._thread.is_alive():
            os.close(self.lost)

    def _renewed(self, asked_ns: int) -> None:
        self.until_ns = asked_ns + self._grant.ttl_ns - self._grant.ttl_ns // _EARLY

    def _keep(self) -> None:
        every_s = self._grant.ttl_ns / 3e9
        while not self._stop.wait(every_s):
            asked_ns = mono_ns()
            left_s = (self.until_ns - asked_ns) / 1e9
            try:
                renew(self._folder, self._grant.lease, self._grant.token, busy_for_s=min(BUSY_FOR_S, max(0.0, left_s)))
            except (JournalInUse, JournalStopped, EtcdAway):
                # As long as it is not too late somebody may answer again.
                every_s = min(every_s, max(0.01, left_s / 3))
                continue
            except LeaseRefused as refused:
                if refused.code == "indeterminate":
                    continue
                self._lose(str(refused))
                return
            except (GeartrainError, OSError) as error:
                self._lose(f"it could not be renewed: {error}")
                return
            every_s = self._grant.ttl_ns / 3e9
            self._renewed(asked_ns)

    def _lose(self, why: str) -> None:
        self.why = why
        os.eventfd_write(self.lost, 1)


def run_held(folder: Path, grant: Grant, command: Sequence[str]) -> int:
    """The exit code of the command, 128+n if a signal ended it; `LeaseLost` if it was killed because of that."""
    need_linux()
    has_terminal = _has_terminal()
    keeper = Keeper(folder, grant)
    try:
        with _started(folder, grant, command, has_terminal=has_terminal) as process:
            try:
                keeper.start()
                ended = _until_it_ends(process, keeper)
            finally:
                # Its leader is not waited for yet, so the group is still its own. What is left there was covered too.
                _signal_group(process, signal.SIGKILL)
            code = process.wait()
    finally:
        if has_terminal:
            _give_terminal(os.getpgrp())
        keeper.stop()
        with suppress(GeartrainError):
            release(folder, grant.lease, grant.token)
    if not ended:
        why = keeper.why or "its time was over before it could be renewed"
        raise LeaseLost(f"lease {grant.lease} was lost, and its command was killed: {why}", why)
    return code if code >= 0 else 128 - code


@contextmanager
def _started(
    folder: Path, grant: Grant, command: Sequence[str], *, has_terminal: bool
) -> Iterator["subprocess.Popen[bytes]"]:
    """The command. From its first moment on signals are for it; that this process ends follows from its end."""
    # One that came in between would end this process, and what the command has started would go on unheld.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    try:
        process = _new(folder, grant, command, partial(_before_the_command, mask, has_terminal))
        former = {
            number: signal.signal(number, lambda number, _: _signal_group(process, number)) for number in PASSED_ON
        }
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        with process:
            yield process
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _new(folder: Path, grant: Grant, command: Sequence[str], before: Callable[[], None]) -> "subprocess.Popen[bytes]":
    told = {
        "GEARTRAIN_LEASE": str(grant.lease),
        "GEARTRAIN_LEASE_TOKEN": str(grant.token),
        "GEARTRAIN_LEASE_DIR": str(address_of(folder) or folder.absolute()),
    }
    try:
        return subprocess.Popen(command, env=os.environ | told, process_group=0, preexec_fn=before)
    except OSError as error:
        raise BadValue(f"{command[0]!r} cannot be started: {error.strerror}") from error


def _before_the_command(mask: Iterable[int], has_terminal: bool) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    die_with_parent(signal.SIGKILL)
    if has_terminal:
        _give_terminal(os.getpid())


def _has_terminal() -> bool:
    """Whether what is typed is for this process now: then it is for the command as long as that runs."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _give_terminal(group: int) -> None:
    # Whoever is in the background and says who is not would be stopped for that.
    former = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with suppress(OSError):
        os.tcsetpgrp(0, group)
    signal.signal(signal.SIGTTOU, former)


def _until_it_ends(process: "subprocess.Popen[bytes]", keeper: Keeper) -> bool:
    """Whether it has ended by itself; False when the lease is lost first."""
    watched = select.poll()
    ended = os.pidfd_open(process.pid)
    try:
        watched.register(ended, select.POLLIN)
        watched.register(keeper.lost, select.POLLIN)
        while True:
            left_ms = (keeper.until_ns - mono_ns()) // 1_000_000
            found = [file for file, _ in watched.poll(max(0, left_ms))]
            if ended in found:
                return True
            if keeper.lost in found or keeper.until_ns <= mono_ns():
                return False
    finally:
        os.close(ended)


def _signal_group(process: "subprocess.Popen[bytes]", number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
