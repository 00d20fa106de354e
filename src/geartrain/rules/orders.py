"""What a launcher and its nodes say to each other: the order that a process is started with, and short words after it.

    launcher                                       node (one process)
    NodeOrder            on an inherited file ---->  opens the ends, makes the daemons
                         <-------------------------  Ready(daemon)       on_start has returned, every channel has met
    Go(daemon)           ------------------------->  run begins
    Stop(daemon, ...)    ------------------------->
                         <-------------------------  Failed(report), Ended(daemon)
                         <-------------------------  Returned(daemon)    said before its readers see the end
                         <-------------------------  Finished(daemon)    nothing of it is needed any more
    Noted(daemon)        ------------------------->  only now its writers are let go
    Over(channel, ...)   ------------------------->  the daemon at the other end will never be there again
    Quit                 ------------------------->  the run is over: everybody is cancelled, and cleans up
    AskCounts, taps      <------------------------>  Counts, Lost, Tapped: what goes through the channels
    Clear(daemon)        <------------------------>  Cleared: its body is entered again, or why it is not

Each word is one line of JSON on a socket that both inherit: a person can read along.
"""

from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from geartrain.errors import WireError
from geartrain.rules.counts import EndCounts
from geartrain.rules.frames import Life
from geartrain.rules.keys import Curve
from geartrain.rules.lifecycle import OnError
from geartrain.rules.pipeline import Ack, Backend, Keep, Policy
from geartrain.rules.restart import RestartPolicy
from geartrain.rules.shown import Shown

# One word is never longer, so that who reads them needs no more room.
WORD_MOST = 1024 * 1024


# How the daemon at the other end of a channel went: it had finished, or its failure is ignored.
Gone = Literal["finished", "ignored"]


class Giver(Struct, frozen=True):
    """Whose port says the type of the items: "module:attr", and the name of the port."""

    run: str
    port: str


# Of an error so much is told: of its words the beginning, of its traceback the end.
ERROR_MOST = 16 * 1024
REPORT_TRACE_MOST = 64 * 1024


class PlaneOrder(Struct, frozen=True):
    """A channel that may go stale, and the file that tells of it."""

    channel: str
    path: str
    budget_ns: int


class EndOrder(Struct, frozen=True, kw_only=True):
    """One end of a channel, for a port of a daemon. Within a process the address is `inner://name`."""

    port: str
    sends: bool
    channel: str
    address: str
    # Where its transport is, as "module:attr".
    transport: str
    binds: bool
    curve: Curve | None = None
    maxsize: int
    max_bytes: int
    policy: Policy = "block"
    ack: Ack = "batch"
    keep: Keep = "stable"
    retain: int | None = None
    max_deliveries: int | None = None
    # Within a process: what came of items that another process keeps may be in it.
    takes_part: bool = True
    # A recipe carries items of any type: then another daemon along the way says of which.
    giver: Giver | None = None
    counter: str | None = None
    # The daemon at the other end is gone for good: there is nothing to come, and nobody to send to.
    over: Gone | None = None
    # Of a reading end: where it tells that something has come.
    plane: PlaneOrder | None = None
    # The region of which the writer holds a lease, if it is fenced.
    fenced: str | None = None


class DaemonOrder(Struct, frozen=True, kw_only=True):
    """One daemon of a process."""

    name: str
    run: str
    on_error: OnError
    restart: RestartPolicy | None = None
    budget_ns: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    ends: tuple[EndOrder, ...] = ()
    # All of the pipeline, for whoever judges them.
    planes: tuple[PlaneOrder, ...] = ()


class SpareOrder(Struct, frozen=True, kw_only=True, tag_field="order", tag="spare"):
    """What a process must know that will learn only later who it is: whom it belongs to, and what it may import."""

    launcher: int
    control: int
    lifeline: int
    backend: Backend
    path: tuple[str, ...]
    folder: str | None
    transports: tuple[str, ...]
    runs: tuple[str, ...]


class NodeOrder(Struct, frozen=True, kw_only=True, tag_field="order", tag="node"):
    """Everything a new process must know."""

    process: str
    backend: Backend
    launcher: int
    control: int
    lifeline: int
    path: tuple[str, ...]
    folder: str | None
    aside: str
    # The file for the stacks of its threads, when it is asked for them.
    stacks: str
    # From which level on records of logging are written to stderr; None leaves logging as Python has it.
    log_level: str | None = None
    # The open file for all that it writes down of itself.
    slots: int
    # How long the body of a cycle may take, whichever daemon it is of.
    budget_ns: int | None = None
    daemons: tuple[DaemonOrder, ...]


class Report(Struct, frozen=True, kw_only=True):
    """How a daemon failed, told across a process boundary."""

    daemon: str
    process: str
    pid: int
    phase: str
    attempt: int
    error: str
    trace: str

    def __str__(self) -> str:
        again = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return f"daemon {self.daemon!r} (process {self.process!r}, pid {self.pid}{again}) in {self.phase}: {self.error}"


class Word(Struct, frozen=True, tag_field="word"):
    """What all short words have in common: nothing but their form."""


class Ready(Word, frozen=True, tag="ready"):
    """`on_start` has returned, and every channel of the daemon has met its other end."""

    daemon: str


class Go(Word, frozen=True, tag="go"):
    """`run` may begin."""

    daemon: str


class Stop(Word, frozen=True, tag="stop"):
    """Finish what is in hand, and return. `grace_s` is how long that may take before the daemon is cancelled."""

    daemon: str
    grace_s: float


class Failed(Word, frozen=True, tag="failed"):
    """A daemon failed. `escalates`: its process ends by it; `final`: so does the pipeline, its policy has spoken."""

    report: Report
    escalates: bool
    final: bool = False


class Ended(Word, frozen=True, tag="ended"):
    """A daemon has ended for good."""

    daemon: str


class Lost(Word, frozen=True, tag="lost"):
    """The writer of this channel has died, and so many items that it had accepted with it. None: nobody has counted."""

    channel: str
    items: int | None


class Returned(Word, frozen=True, tag="returned"):
    """`run` has returned. What the daemon sent may not be stable yet, so it may have to be started again."""

    daemon: str


class Finished(Word, frozen=True, tag="finished"):
    """`run` has returned, and all that the daemon sent is stable: it is never started again."""

    daemon: str


class Noted(Word, frozen=True, tag="noted"):
    """It is known that the daemon has finished. Its writers may be let go: nobody will look for it any more."""

    daemon: str


class Over(Word, frozen=True, tag="over"):
    """The daemon at the other end of this channel will never be there again, and has not said so itself."""

    channel: str
    gone: Gone
    # Of a writer that has died: what its counter says of its lives.
    lives: tuple[Life, ...] = ()


class Quit(Word, frozen=True, tag="quit"):
    """The run is over: cancel everybody, who have `finalize_s` to clean up, and end."""

    finalize_s: float


class AskCounts(Word, frozen=True, tag="ask_counts"):
    """How many items went through the ends of your channels?"""

    question: int


class Counts(Word, frozen=True, tag="counts"):
    """The answer to that question; to 0 when nobody asked, and an end will not be there to be asked later."""

    question: int
    ends: tuple[EndCounts, ...]


class OpenTap(Word, frozen=True, tag="open_tap"):
    """Somebody wants to see what goes into this channel."""

    channel: str


class CloseTap(Word, frozen=True, tag="close_tap"):
    """Nobody wants to see it any more."""

    channel: str


class Tapped(Word, frozen=True, tag="tapped"):
    """Some of what has gone into this channel."""

    channel: str
    shown: tuple[Shown, ...]


class Clear(Word, frozen=True, tag="clear"):
    """Somebody wants the body of this daemon to be entered again."""

    question: int
    daemon: str


class Cleared(Word, frozen=True, tag="cleared"):
    """It is; or `refused` says why nothing was done."""

    question: int
    refused: str | None = None


Said = (
    Ready
    | Go
    | Stop
    | Failed
    | Ended
    | Returned
    | Finished
    | Noted
    | Over
    | Quit
    | AskCounts
    | Counts
    | Lost
    | OpenTap
    | CloseTap
    | Tapped
    | Clear
    | Cleared
)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Said)


def to_line(word: Said) -> bytes:
    return _encoder.encode(word) + b"\n"


class Listener:
    """Makes words of what comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Said]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > WORD_MOST:
            raise WireError(f"a word of more than {WORD_MOST} bytes between launcher and node")
        try:
            return [_decoder.decode(line) for line in lines]
        except (ValueError, RecursionError) as error:
            raise WireError(f"what is no word came between launcher and node: {error}") from error
