"""What is asked of an arbiter of leases, and what it says: commands, replies, and words for those who audit.

    a client   Open                     ------>  the arbiter   <------  Opened
               Acquire, Renew, Release  ------>                <------  Grant, Done, Alive, Waiting or Refusal
                                                               <------  Lost, when a lease has ended by itself

A client has a session, and numbers what it asks in it from 1 on. Who asks again by the same number gets the same
answer, and nothing is done twice. Who holds a lease shows it and its token with each word about it: that is the
revision of the last change of owner or mode, so that an older one is not taken for it. Times are spans in nanoseconds.
"""

from typing import Literal, get_args

from msgspec import Struct

# Exclusive, or shared with others that are shared.
Mode = Literal["x", "s"]
# How long a lease lives without being renewed: as its session at most, or till its time is over whoever is there. What
# has been lost may keep others out for a while (`delay_ns`), and is nobody's then.
Bind = Literal["session", "ttl", "delay"]
# How a lease has ended.
Why = Literal["released", "withdrawn", "expired", "evicted", "session closed", "holder died", "delay over"]
# What becomes of a lease, for those who watch.
What = Literal["held", "granted", "changed", "adopted", "ended", "missed"]
# Why something is refused.
Code = Literal[
    "bad_request",
    "stale_request",
    "no_session",
    "recovering",
    "conflict",
    "conflict_self",
    "alone",
    "budget",
    "rule",
    "timeout",
    "cancelled",
    "deadlock",
    "queue_full",
    "not_holder",
    "not_held",
    "expired",
    "holder_lives",
]

MODES: tuple[Mode, ...] = get_args(Mode)


class Claim(Struct, frozen=True, array_like=True, gc=False):
    """A region, and how it is wanted."""

    region: str
    mode: Mode = "x"


# -- what is asked ----------------------------------------------------------------------------------------------------


class Begin(Struct, frozen=True, array_like=True, tag="begin"):
    """A new life of the arbiter: which boot of the machine this is, and what a wall clock says, for readers.

    For `hold_ns` nothing is granted: somebody may hold what is not known any more.
    """

    boot: str
    wall_ns: int
    hold_ns: int = 0


class Tick(Struct, frozen=True, array_like=True, tag="tick"):
    """Time has passed."""


class Open(Struct, frozen=True, array_like=True, tag="open"):
    """A session, please. The secret is drawn by the client: by it, and by no label, it is known again."""

    secret: str
    label: str = ""
    ttl_ns: int = 0


class Close(Struct, frozen=True, array_like=True, tag="close"):
    """The session is over; with `died`, because its process has ended, which somebody has seen."""

    session: int
    died: bool = False


class Acquire(Struct, frozen=True, array_like=True, tag="acquire", gc=False):
    """All of these claims, or none; now, or within `wait_ns`.

    `alone` is with no other lease at all. `owner` is who in the session asks (a task): what it holds itself is in its
    way, for to wait would be for ever, unless it is `reentrant`. `cls` counts against a budget. After a loss the
    regions stay closed for `delay_ns`, for a resource that cannot look at tokens. `request` is a name for this request
    beyond its session: who asks again by it, from any session, gets what it has got, and nothing twice.
    """

    session: int
    n: int
    claims: tuple[Claim, ...]
    ttl_ns: int
    wait_ns: int = 0
    bind: Bind = "session"
    cls: str = ""
    label: str = ""
    owner: int = 0
    alone: bool = False
    reentrant: bool = False
    delay_ns: int = 0
    request: str = ""


class Shown(Struct, frozen=True, array_like=True, gc=False):
    """A lease and its token."""

    lease: int
    token: int


class Renew(Struct, frozen=True, array_like=True, tag="renew"):
    """These leases for another while, or all of the session's. A session lives on by any word in it, this too.

    Its number is only for the one who asks: it is said again, and not remembered. `exact` is for who asks once: the
    lease ends when its time is over, and no later because more was written down than asked for.
    """

    session: int
    leases: tuple[Shown, ...] | None = None
    n: int = 0
    exact: bool = False


class Release(Struct, frozen=True, array_like=True, tag="release", gc=False):
    """It is not needed any more."""

    session: int
    n: int
    lease: int
    token: int
    request: str = ""


class SetMode(Struct, frozen=True, array_like=True, tag="set_mode"):
    """All claims of a lease in this mode: up within `wait_ns`, down at once."""

    session: int
    n: int
    lease: int
    token: int
    mode: Mode
    wait_ns: int = 0


class Offer(Struct, frozen=True, array_like=True, tag="offer"):
    """Session `to` may adopt it. Until then it stays where it is."""

    session: int
    n: int
    lease: int
    token: int
    to: int


class Adopt(Struct, frozen=True, array_like=True, tag="adopt"):
    """Have a lease that was offered, or that outlives its session and whose token is known. Its old token is void.

    It is granted like one that was asked for anew; withdrawn it is not, for nobody else would have it then.
    """

    session: int
    n: int
    lease: int
    token: int = 0
    owner: int = 0
    request: str = ""


class Evict(Struct, frozen=True, array_like=True, tag="evict"):
    """Take a lease from whoever holds it; with a token, only if that is still the one."""

    session: int
    n: int
    lease: int
    token: int = 0


class Withdraw(Struct, frozen=True, array_like=True, tag="withdraw"):
    """Request `of` is not wanted any more: it waits no longer, and what it was granted is released."""

    session: int
    n: int
    of: int


class Note(Struct, frozen=True, array_like=True, tag="note"):
    """Something for those who read the audit: that work is to be halted, or is about to begin. It changes nothing."""

    session: int
    kind: Literal["halt", "intent"]
    text: str
    lease: int = 0


class Watch(Struct, frozen=True, array_like=True, tag="watch"):
    """Tell of the leases that meet these regions: of those that are held, and from then on what becomes of any.

    It changes nothing, and is not answered. `n` is how its client knows it; without regions it is over.
    """

    session: int
    n: int
    regions: tuple[str, ...]


Command = Acquire | Release | Renew | SetMode | Offer | Adopt | Evict | Withdraw | Note | Open | Close | Tick | Begin
Numbered = Acquire | Release | SetMode | Offer | Adopt | Evict | Withdraw


# -- what is said -----------------------------------------------------------------------------------------------------


class Opened(Struct, frozen=True, array_like=True, tag="opened"):
    """The session is this one, and lives so long without a word. `revision` is that of the arbiter."""

    session: int
    secret: str
    ttl_ns: int
    revision: int


class Grant(Struct, frozen=True, array_like=True, tag="grant", gc=False):
    """It is yours. `token` is what the resource wants to see."""

    session: int
    n: int
    lease: int
    token: int
    claims: tuple[Claim, ...]
    ttl_ns: int


class Waiting(Struct, frozen=True, array_like=True, tag="waiting"):
    """It is in the queue, with so many before it in all."""

    session: int
    n: int
    before: int


class Done(Struct, frozen=True, array_like=True, tag="done", gc=False):
    """It is done. `token` is the one that is good from now on, if there is one."""

    session: int
    n: int
    lease: int
    token: int = 0


class Alive(Struct, frozen=True, array_like=True, tag="alive"):
    """All that were named, or are the session's, are renewed, except these."""

    session: int
    lost: tuple[int, ...] = ()
    n: int = 0


class Conflict(Struct, frozen=True, array_like=True):
    """What is in the way: a lease, or with `lease` 0 a request that came first."""

    lease: int
    session: int
    label: str
    region: str
    mode: Mode


class Refusal(Struct, frozen=True, array_like=True, tag="refusal"):
    """No, why, who is in the way, and what to do. It has changed nothing."""

    session: int
    n: int
    code: Code
    said: str
    conflicts: tuple[Conflict, ...] = ()


class Lost(Struct, frozen=True, array_like=True, tag="lost"):
    """This lease is yours no more, and you have not said so yourself."""

    session: int
    lease: int
    why: Why | Literal["adopted"]


class Hello(Struct, frozen=True, array_like=True, tag="hello"):
    """This is a new life of the arbiter. Whoever waits for an answer asks again.

    One with another journal than before knows nothing of what was granted.
    """

    journal: str


class Happened(Struct, frozen=True, array_like=True, tag="happened"):
    """To those who watch: what has become of a lease, and for one that has ended, why.

    "held" are those that were there when the watch began. After "missed" something may have happened that was not
    told; when that is because the arbiter has begun anew, what is held is told once more.
    """

    session: int
    n: int
    what: What
    lease: int = 0
    token: int = 0
    claims: tuple[Claim, ...] = ()
    label: str = ""
    why: str = ""


Reply = Grant | Done | Refusal | Waiting | Alive | Opened | Lost
Asked = Acquire | Release | Renew | SetMode | Offer | Adopt | Evict | Withdraw | Note | Open
# What goes over the two channels between a daemon and the arbiter.
Said = Asked | Watch
Told = Reply | Hello | Happened
# What is remembered, for who asks again.
Answer = Grant | Done


# -- what is only for reading -----------------------------------------------------------------------------------------


class Refused(Struct, frozen=True, array_like=True, tag="refused"):
    """Somebody did not get something."""

    at_ns: int
    wants: tuple[Claim, ...]
    refusal: Refusal


class Noted(Struct, frozen=True, array_like=True, tag="noted"):
    """Somebody wanted this to be known."""

    at_ns: int
    note: Note


Audit = Refused | Noted
