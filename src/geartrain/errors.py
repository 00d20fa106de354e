"""Every error geartrain raises on purpose.

All derive from `GeartrainError`. A message says who did it, what was met, what was expected,
and, where there is something to do, what to do next.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


class GeartrainError(Exception):
    """The root: `except GeartrainError` catches everything geartrain raises on purpose."""


class BadValue(GeartrainError, ValueError):
    """An argument of the right type has a value that makes no sense here."""


class BadType(GeartrainError, TypeError):
    """An argument is not the kind of thing that is expected here."""


class NotInUse(GeartrainError, RuntimeError):
    """Something was used outside the time in which it works: a supervisor before or after its block."""


class NotHeld(GeartrainError, RuntimeError):
    """A fault was to be cleared that is not there: the body of the daemon, or of all of them, is not held back."""


class UnknownDaemon(GeartrainError, LookupError):
    """No daemon has this name here."""


class GateInvalid(GeartrainError, RuntimeError):
    """A histogram that may only tell exact figures has seen more samples than it can hold, and tells none."""


class WouldBlock(GeartrainError):
    """The `_nowait` form of an operation would have had to wait."""


class ChannelInUse(GeartrainError):
    """A second task used a channel end in which another task is already waiting."""


class ChannelClosed(GeartrainError):
    """The item cannot be sent: the reader has closed, or this end was closed by its owner."""


class EndOfStream(GeartrainError):
    """The writer has closed and everything it sent has been received."""


class EndClosed(ChannelClosed, EndOfStream):
    """This receiving end was closed by its own owner, and then used."""


class DaemonError(GeartrainError):
    """A daemon failed and its policy did not absorb it. `__cause__` is what the daemon raised first."""

    def __init__(self, name: str, phase: str, cause: BaseException, deaths: int = 0) -> None:
        loop = f" {deaths} times, and is not started again; it began" if deaths > 1 else ""
        super().__init__(f"daemon {name!r} failed{loop} in {phase}: {in_words(cause)}")
        self.name = name
        self.phase = phase
        self.__cause__ = cause


def in_words(error: BaseException) -> str:
    """An error in one line. Of a group its members are told, for a group by itself says nothing."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(in_words(part) for part in error.exceptions)
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group and of the groups in it; one that is no group by itself."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


class Deadlock(GeartrainError):
    """Nothing is left to do in virtual time, yet daemons wait for what cannot come any more."""


class Livelock(GeartrainError):
    """Virtual time does not pass: in one instant daemons keep each other awake. `awake` are their names."""

    def __init__(self, message: str, awake: Sequence[str]) -> None:
        super().__init__(message)
        self.awake = tuple(awake)


class BadReply(GeartrainError, RuntimeError):
    """A batch was answered with another number of responses than it had requests."""


class SetupFailed(GeartrainError, RuntimeError):
    """A hosted supervisor did not get ready. `__cause__` says why."""


class WireError(GeartrainError):
    """Something came over a link that is not what was agreed: no frame, no item of the reader's type, no sequence."""


class PeerRefused(GeartrainError):
    """The two ends of a channel do not fit, or the place is taken. Both sides are told, and both are named."""


class PeerLost(GeartrainError):
    """The other end has gone without closing, and is not coming back."""


class CallFailed(GeartrainError):
    """The server could not answer. `kind`, `message` and `trace` are of what was raised there, in daemon `daemon`."""

    def __init__(self, daemon: str, kind: str, message: str, trace: str = "") -> None:
        who = f"daemon {daemon!r}" if daemon else "the server"
        super().__init__(f"{who} failed to answer: {kind}: {message}" if message else f"{who} failed to answer: {kind}")
        self.daemon = daemon
        self.kind = kind
        self.message = message
        self.trace = trace


class CallTimeout(GeartrainError, TimeoutError):
    """No answer came in time. The call is withdrawn; what the server has done of it is not known."""


class ServerGone(ChannelClosed):
    """Nobody answers calls here any more: the server has finished, or has gone for good."""


class PipelineFailed(GeartrainError):
    """A daemon or a process of a pipeline failed, and its policy did not absorb it. `trace` is the traceback there."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class CannotLoad(GeartrainError):
    """What `module:attr` names cannot be had, or is no daemon. `trace` is the traceback of an import that failed."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a pipeline: in which file, at which key, and what to do about it."""

    file: str
    key: str
    said: str
    trace: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.key, self.said) if part)


class PipelineFaulty(GeartrainError):
    """A pipeline that cannot run. `faults` are all that were found, in the order of the file."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class NotOnThisSystem(GeartrainError, RuntimeError):
    """Pipelines in many processes need Linux. Channels, and all daemons in one process, work anywhere."""


class PlaceRefused(BadValue):
    """A folder or file that is needed cannot be used: it is somebody else's, a link, full, or not writable."""


class SlotsUnreadable(GeartrainError, ValueError):
    """What a process has written down of itself cannot be read: the file is cut, foreign, or of another version."""


class CannotServe(GeartrainError, RuntimeError):
    """What is to be served cannot be: its address is taken or open to everybody, or what it needs is not installed."""


class ProcessFailed(GeartrainError, RuntimeError):
    """A process could not be started, or not be reached."""


class LimitTooLow(GeartrainError, RuntimeError):
    """The system allows this user less than the run needs."""


class JournalDamaged(GeartrainError, ValueError):
    """A journal holds less than it has promised, or something else: it is not read, so that nothing is invented.

    `file` and `offset` say where; the file is one of the journal's folder.
    """

    def __init__(self, file: str, offset: int, met: str, expected: str) -> None:
        super().__init__(f"{file}, byte {offset}: {met}; expected {expected}")
        self.file = file
        self.offset = offset
        self.met = met
        self.expected = expected


class TermsDiffer(GeartrainError, ValueError):
    """A journal of leases was written with another case policy: its regions would mean something else from now on."""

    def __init__(self, recorded: str, wanted: str) -> None:
        said = f"this journal of leases was written with case={recorded!r}, and is opened with case={wanted!r}"
        super().__init__(
            f"{said}, by which its regions would mean others; open it with case={recorded!r}, or begin another folder"
        )
        self.recorded = recorded
        self.wanted = wanted


class JournalInUse(GeartrainError, RuntimeError):
    """Another process writes this journal. `pid` is its process id, None if it has not said."""

    def __init__(self, folder: str, pid: int | None) -> None:
        who = "another process" if pid is None else f"process {pid}"
        super().__init__(f"the journal in {folder} is being written by {who}: ask that one, or stop it first")
        self.pid = pid


class JournalStopped(GeartrainError, RuntimeError):
    """Writing a journal has failed, and it is never written again by this object.

    Records up to `durable` are kept. Whether those after it, up to `revision`, will be found again is not known:
    they are indeterminate. Open the journal anew to know.
    """

    def __init__(self, said: str, durable: int, revision: int) -> None:
        unknown = f"; whether records {durable + 1} to {revision} are kept is not known" if revision > durable else ""
        super().__init__(f"{said}: records up to {durable} are kept{unknown}; open the journal anew to know")
        self.durable = durable
        self.revision = revision


class EtcdAway(GeartrainError, RuntimeError):
    """etcd was asked and has not answered, or not with what was asked for. Whether it was done is not known."""

    def __init__(self, place: str, met: str) -> None:
        super().__init__(f"{place}: {met}; look whether etcd runs there, and ask again")


class LeaseRefused(GeartrainError):
    """A lease was not granted. `code` says why in a word, `conflicts` are the leases that are in the way."""

    def __init__(self, message: str, code: str, conflicts: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.conflicts = tuple(conflicts)


class LeaseLost(GeartrainError):
    """A lease has ended while it was held: what was done last may not have been protected by it. `why` says how."""

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


class Fenced(GeartrainError):
    """A resource was used with a token that is too old, or with none: who did so does not hold its lease any more."""
