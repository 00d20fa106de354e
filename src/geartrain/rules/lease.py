"""Who is granted a lease, who waits, and who is refused.

    command, now --> decide --> records    what has happened: to be durable before anything of it is told
                        |       replies    who is told what, then
                        |       audit      what is only for those who read
                        '-- the state has moved on: the ledger by the records, the rest by itself

A request is looked at in this order, and the first obstacle says why: is it known already, is its session there, is it
well formed, is somebody alone, is its class full, does a lease meet it, does a request that came first meet it, does a
rule refuse. So nobody overtakes who wants the same, and shared ones do not starve an exclusive one. What has run out is
over before the command is looked at, at the same time: a late renewal finds nothing to renew.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, assert_never

from msgspec import Struct
from msgspec.structs import replace

from geartrain.errors import BadValue, GeartrainError, TermsDiffer, in_words
from geartrain.rules.checks import one_of, whole
from geartrain.rules.lease_index import Index, Place, place_of
from geartrain.rules.lease_ledger import (
    Adopted,
    Began,
    Budget,
    Ended,
    Granted,
    Lease,
    Ledger,
    Moded,
    Named,
    Offered,
    Record,
    Renewed,
    Session,
    SessionEnded,
    SessionOpened,
)
from geartrain.rules.lease_queue import Queue, Waiter, Who
from geartrain.rules.lease_words import (
    MODES,
    Acquire,
    Adopt,
    Alive,
    Audit,
    Begin,
    Claim,
    Close,
    Code,
    Command,
    Conflict,
    Done,
    Evict,
    Grant,
    Lost,
    Note,
    Noted,
    Numbered,
    Offer,
    Open,
    Opened,
    Refusal,
    Refused,
    Release,
    Renew,
    Reply,
    SetMode,
    Tick,
    Waiting,
    Why,
    Withdraw,
)
from geartrain.rules.regions import CASES, Case, canonical, in_one_line

_S = 1_000_000_000
_DAY_NS = 86_400 * _S

CLAIMS_MOST = 256
# All regions of a request together, so that the record fits into a journal.
CLAIM_BYTES_MOST = 32 * 1024
NAME_BYTES_MOST = 256
CONFLICTS_MOST = 8

# A reason not to grant, or None. It sees what is asked and all leases there are, and cannot grant anything.
Rule = Callable[[Acquire, Iterable[Lease]], str | None]


class Terms(Struct, frozen=True, kw_only=True):
    """On what terms leases are given. `budgets` are how many of a class there may be at once.

    A lease ends `grace_ns` after its time: whoever holds it has stopped by then.
    """

    case: Case = "fold"
    session_ttl_ns: int = 10 * _S
    grace_ns: int = _S // 2
    ttl_most_ns: int = _DAY_NS
    wait_most_ns: int = _DAY_NS
    leases_most: int = 1_000_000
    waiting_most: int = 10_000
    budgets: Mapping[str, int] = {}
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        one_of("case", self.case, CASES)
        whole("grace_ns", self.grace_ns, least=0)
        for name in ("session_ttl_ns", "ttl_most_ns", "wait_most_ns", "leases_most", "waiting_most"):
            whole(name, getattr(self, name), least=1)
        for cls, budget in self.budgets.items():
            whole(f"the budget of class {cls!r}", budget, least=1)


def as_recorded(ledger: Ledger, terms: Terms) -> Terms:
    """These terms, with the case policy and the budgets that a journal names: for who has none of its own."""
    budgets = {budget.cls: budget.most for budget in ledger.budgets}
    return replace(terms, case=ledger.case or terms.case, budgets=budgets)


class Outcome(Struct, frozen=True, gc=False):
    """What has come of one command. The first record has the revision after the one that the state had."""

    records: tuple[Record, ...]
    replies: tuple[Reply, ...]
    audit: tuple[Audit, ...] = ()


class _No(Exception):
    """A refusal, on its way up."""

    def __init__(self, code: Code, said: str, conflicts: tuple[Conflict, ...] = ()) -> None:
        super().__init__(said)
        self.code = code
        self.said = said
        self.conflicts = conflicts


# What a timer is about; at one time a lease ends before a session, and that before a wait.
_LEASE, _SESSION, _WAIT = range(3)


class State:
    """A ledger, and what is known in one life only: who waits, when what runs out, and where everything lies."""

    def __init__(self, ledger: Ledger | None = None, terms: Terms | None = None) -> None:
        self.ledger = ledger or Ledger()
        self.terms = terms or as_recorded(self.ledger, Terms())
        if self.ledger.case not in ("", self.terms.case):
            raise TermsDiffer(self.ledger.case, self.terms.case)
        self.now_ns = self.ledger.last_ns
        self.queue = Queue()
        self._held = Index()
        self._places: dict[int, tuple[Place, ...]] = {}
        self._of_class: dict[str, int] = {}
        self._alone: dict[int, None] = {}
        # When a lease or a session runs out; it is moved on without touching the heap, which is looked at again then.
        self._lease_due: dict[int, int] = {}
        self._session_due: dict[int, int] = {}
        self._timers: list[tuple[int, int, int]] = []
        # From so many on, those of what has ended before its time are thrown away.
        self._sweep_at = 64
        self._freed: list[tuple[tuple[Place, ...], Iterable[int]]] = []
        self._records: list[Record] = []
        self._replies: list[Reply] = []
        self._audit: list[Audit] = []
        for lease in self.ledger.leases.values():
            self._enter(lease)
            self._due_at(_LEASE, lease.lease, lease.until_ns)
        for session in self.ledger.sessions.values():
            self._due_at(_SESSION, session.session, self.now_ns + session.ttl_ns)

    @property
    def revision(self) -> int:
        return self.ledger.revision

    def next_ns(self) -> int | None:
        """When something may run out: by then a `Tick` is due, if nothing else has come."""
        return self._timers[0][0] if self._timers else None

    # -- deciding

    def decide(self, command: Command, now_ns: int) -> Outcome:
        """A clock that goes back is not believed."""
        if isinstance(command, Begin):
            self._begin(command, now_ns)
        else:
            if now_ns > self.now_ns:
                self.now_ns = now_ns
            timers = self._timers
            if timers and timers[0][0] <= self.now_ns:
                self._run_out()
            self._do(command)
            if self._freed:
                self._serve()
        outcome = Outcome(tuple(self._records), tuple(self._replies), tuple(self._audit))
        self._records, self._replies, self._audit = [], [], []
        return outcome

    def _do(self, command: Command) -> None:
        match command:
            case Acquire() | Release() | SetMode() | Offer() | Adopt() | Evict() | Withdraw():
                self._numbered(command)
            case Renew():
                self._renew(command)
            case Open():
                self._open(command)
            case Close(session, died):
                if session in self.ledger.sessions:
                    self._close(session, "holder died" if died else "session closed")
                self._replies.append(Done(session, 0, 0))
            case Note():
                self._audit.append(Noted(self.now_ns, command))
            case Tick() | Begin():
                pass
            case _:
                assert_never(command)

    def _numbered(self, ask: Numbered) -> None:
        session = self.ledger.sessions.get(ask.session)
        try:
            if session is None:
                raise _No("no_session", f"there is no session {ask.session}, or not any more; open one")
            self._session_due[ask.session] = self.now_ns + session.ttl_ns
            if not self._is_known(session, ask) and not self._is_known_by_name(ask):
                self._do_numbered(session, ask)
        except _No as no:
            self._refuse(ask, no)

    def _do_numbered(self, session: Session, ask: Numbered) -> None:
        match ask:
            case Acquire():
                self._acquire(session, ask)
            case Release():
                self._end(self._shown(ask), "released", ask.session, ask.n, ask.request)
            case SetMode():
                self._set_mode(ask)
            case Offer():
                self._offer(ask)
            case Adopt():
                self._adopt(ask)
            case Evict():
                self._end(self._to_evict(ask), "evicted", ask.session, ask.n)
            case Withdraw():
                self._withdraw(session, ask)
            case _:
                assert_never(ask)

    def _is_known(self, session: Session, ask: Numbered) -> bool:
        """Whether it was asked before: then it is answered as it was, or waits already."""
        answer = session.answers.get(ask.n)
        if answer is not None:
            self._replies.append(answer)
            if isinstance(answer, Grant) and not self._is_still(answer):
                self._replies.append(Lost(ask.session, answer.lease, self.ledger.ended.get(answer.lease, "expired")))
            return True
        if self.queue.waiters and self.queue.of_request(ask.session, ask.n) is not None:
            self._replies.append(Waiting(ask.session, ask.n, self._before(ask.session, ask.n)))
            return True
        if ask.n < 1:
            raise _No("bad_request", f"a session counts its requests from 1, this is {ask.n}")
        if ask.n <= session.floor:
            raise _No("stale_request", f"request {ask.n} is older than all that is remembered; ask by a new number")
        return False

    def _is_known_by_name(self, ask: Numbered) -> bool:
        """Whether it has a name, and was done before: then it has what it had got, if that is there."""
        if not isinstance(ask, Acquire | Adopt | Release) or not ask.request:
            return False
        named = self.ledger.requests.get(ask.request)
        if named is None:
            try:
                in_one_line("the name of a request", ask.request, most_bytes=NAME_BYTES_MOST)
            except GeartrainError as error:
                raise _No("bad_request", str(error)) from None
            if isinstance(ask, Acquire) and ask.bind != "ttl":
                raise _No("bad_request", "a request with a name outlives its session, and so must its lease: bind ttl")
            return False
        if not self._is_the_same(ask, named):
            said = f"request {ask.request!r} was another one: {named.what} of lease {named.answer.lease}"
            raise _No("bad_request", f"{said}; ask for something else by another name")
        if isinstance(named.answer, Grant):
            self._once_more(named.answer, ask)
        self._replies.append(replace(named.answer, session=ask.session, n=ask.n))
        return True

    def _is_the_same(self, ask: Acquire | Adopt | Release, named: Named) -> bool:
        answer = named.answer
        if not isinstance(ask, Acquire):
            return named.what == ("adopt" if isinstance(ask, Adopt) else "release") and ask.lease == answer.lease
        if named.what != "acquire" or not isinstance(answer, Grant):
            return False
        return ask.ttl_ns == answer.ttl_ns and tuple(place.claim for place in self._wanted(ask)) == answer.claims

    def _once_more(self, grant: Grant, ask: Acquire | Adopt | Release) -> None:
        """All of its time again, as its holder counts it from now. What is over is neither had nor granted anew."""
        lease = self.ledger.leases.get(grant.lease)
        said = f"request {ask.request!r} was granted lease {grant.lease} with token {grant.token}"
        if lease is None or lease.bind == "delay":
            why = self.ledger.ended.get(grant.lease, "expired")
            code: Code = "expired" if why == "expired" else "not_held"
            raise _No(code, f"{said}, which has ended: {why}; look at what it protects, and ask by another name")
        if not self._holds(ask.session, grant.lease, grant.token):
            raise _No("not_holder", f"{said}, which has changed hands since; ask for another by another name")
        self._live_on(lease, is_exact=True)

    def _is_still(self, grant: Grant) -> bool:
        lease = self.ledger.leases.get(grant.lease)
        return lease is not None and lease.session == grant.session

    # -- asking for a lease

    def _acquire(self, session: Session, ask: Acquire) -> None:
        places = self._wanted(ask)
        if self.now_ns < self.ledger.hold_until_ns:
            left_s = (self.ledger.hold_until_ns - self.now_ns) / _S
            raise _No("recovering", f"what was held is not known; nothing is granted for {left_s:.3g} s more")
        if len(self._places) >= self.terms.leases_most:
            raise _No("queue_full", f"there are {len(self._places)} leases, and no room for more; release some")
        if self._is_plainly_free(ask, places):
            self._ask_rules(ask)
            self._grant(ask, places)
            return
        waiter = Waiter(self.queue.next_seq, ask, (ask.session, ask.owner), places, self.now_ns + ask.wait_ns)
        obstacle = self._obstacle(waiter)
        if obstacle is None:
            self._ask_rules(ask)
            self._grant(ask, places)
        elif obstacle == "conflict_self" or not ask.wait_ns:
            raise self._in_the_way(waiter, obstacle)
        else:
            self._ask_rules(ask)
            self._wait(waiter)

    def _wanted(self, ask: Acquire) -> tuple[Place, ...]:
        """Where its claims lie; of two of one region the exclusive one."""
        if not 0 < ask.ttl_ns <= self.terms.ttl_most_ns:
            most_s = self.terms.ttl_most_ns / _S
            raise _No("bad_request", f"the time of a lease must be above 0 and at most {most_s:g} s")
        if not 0 <= ask.wait_ns <= self.terms.wait_most_ns:
            most_s = self.terms.wait_most_ns / _S
            raise _No("bad_request", f"to wait is possible for 0 to {most_s:g} s; 0 is to try")
        if not 0 <= ask.delay_ns <= self.terms.ttl_most_ns or ask.bind == "delay":
            raise _No("bad_request", f"a delay below 0, or a bind that is none: {ask!r}")
        if not 0 < len(ask.claims) <= CLAIMS_MOST:
            raise _No("bad_request", f"a request has 1 to {CLAIMS_MOST} regions, this has {len(ask.claims)}")
        try:
            if ask.label:
                in_one_line("label", ask.label, most_bytes=NAME_BYTES_MOST)
            if ask.cls:
                in_one_line("class", ask.cls, most_bytes=NAME_BYTES_MOST)
            if len(ask.claims) == 1:
                return (self._place(ask.claims[0]),)
            return self._merged(ask.claims)
        except GeartrainError as error:
            raise _No("bad_request", str(error)) from None

    def _merged(self, claims: tuple[Claim, ...]) -> tuple[Place, ...]:
        places: dict[str, Place] = {}
        for claim in claims:
            place = self._place(claim)
            if place.key not in places or claim.mode == "x":
                places[place.key] = place
        if sum(len(place.claim.region) for place in places.values()) * 4 > CLAIM_BYTES_MOST:
            size_bytes = sum(len(place.claim.region.encode()) for place in places.values())
            if size_bytes > CLAIM_BYTES_MOST:
                raise BadValue(f"the regions have {size_bytes} bytes together, and may have {CLAIM_BYTES_MOST}")
        return tuple(places.values())

    def _place(self, claim: Claim) -> Place:
        if claim.mode not in MODES:
            one_of(f"the mode of region {claim.region!r}", claim.mode, MODES)
        region = canonical(claim.region)
        # What is canonical is kept as it came.
        return place_of(claim if region == claim.region else Claim(region, claim.mode), self.terms.case)

    def _is_plainly_free(self, ask: Acquire, places: tuple[Place, ...]) -> bool:
        """What needs no second look: nobody waits, nobody is alone, and nothing meets it."""
        if self.queue.waiters or self._alone or ask.alone:
            return False
        budget = self.terms.budgets.get(ask.cls) if ask.cls else None
        if budget is not None and self._of_class.get(ask.cls, 0) >= budget:
            return False
        return self._held.is_free(places)

    def _obstacle(self, waiter: Waiter) -> Code | None:
        """The first thing that is in the way of a request."""
        for lease in self._alone_in_the_way(waiter):
            return "conflict_self" if self._who(lease) == waiter.who else "alone"
        if self._is_over_budget(waiter):
            return "budget"
        for lease, _ in self._leases_in_the_way(waiter):
            return "conflict_self" if self._who(lease) == waiter.who else "conflict"
        # Who holds what others wait for cannot wait for them.
        if not waiter.raises and next(self.queue.earlier(waiter), None) is not None:
            return "conflict"
        return None

    def _is_over_budget(self, waiter: Waiter) -> bool:
        """Who came before it has a place already, so that nobody takes it from under them."""
        budget = self.terms.budgets.get(waiter.cls) if waiter.cls else None
        if budget is None:
            return False
        free = budget - self._of_class.get(waiter.cls, 0)
        first = self.queue.first_of_class(waiter.cls, free)
        return free <= 0 or (waiter.seq not in first and len(first) >= free)

    def _alone_in_the_way(self, waiter: Waiter) -> Iterator[Lease]:
        leases = self.ledger.leases
        for number in leases if waiter.is_alone else self._alone:
            if not self._is_own(waiter, leases[number]):
                yield leases[number]

    def _leases_in_the_way(self, waiter: Waiter) -> Iterator[tuple[Lease, Place]]:
        for number, place in self._held.in_the_way(waiter.places):
            lease = self.ledger.leases[number]
            if not self._is_own(waiter, lease):
                yield lease, place

    def _is_own(self, waiter: Waiter, lease: Lease) -> bool:
        """Whether it is in nobody's way: what is to be raised, and what a reentrant request finds of its own."""
        if waiter.raises:
            return lease.lease == waiter.raises
        return waiter.is_reentrant and self._who(lease) == waiter.who

    def _who(self, lease: Lease) -> Who:
        return lease.session, lease.owner

    def _ask_rules(self, ask: Acquire) -> None:
        """A rule that fails, or says what is neither a reason nor None, refuses."""
        for rule in self.terms.rules:
            name = getattr(rule, "__name__", repr(rule))
            try:
                said: Any = rule(ask, self.ledger.leases.values())
            except Exception as error:
                said = f"it failed: {in_words(error)}"
            if said is not None:
                raise _No("rule", f"rule {name} refuses: {said}" if isinstance(said, str) else f"rule {name}: {said!r}")

    def _grant(self, ask: Acquire, places: tuple[Place, ...]) -> None:
        revision = self.ledger.revision + 1
        claims = tuple([place.claim for place in places])
        until_ns = self.now_ns + ask.ttl_ns + self.terms.grace_ns
        lease = Lease(
            revision,
            revision,
            ask.session,
            claims,
            self.now_ns,
            until_ns,
            ask.ttl_ns,
            ask.bind,
            ask.cls,
            ask.label,
            ask.owner,
            ask.alone,
            ask.delay_ns,
        )
        self._record(Granted(self.now_ns, ask.n, lease, ask.request))
        self._enter(lease, places)
        self._due_at(_LEASE, revision, until_ns)
        if ask.request:
            self._answer_the_same(ask.request)

    # -- waiting

    def _answer_the_same(self, request: str) -> None:
        """Who waits for it by the same name has got it too."""
        for waiter in list(self.queue.waiters.values()):
            if isinstance(waiter.ask, Acquire) and waiter.ask.request == request:
                self._leave_queue(waiter)
                try:
                    self._is_known_by_name(waiter.ask)
                except _No as no:
                    self._refuse(waiter.ask, no)

    def _wait(self, waiter: Waiter) -> None:
        if len(self.queue) >= self.terms.waiting_most:
            raise _No("queue_full", f"{len(self.queue)} requests wait already; ask later")
        circle = self._circle(waiter)
        if circle is not None:
            said = "itself" if len(circle) == 1 else " and ".join(f"session {who[0]}" for who in circle[1:])
            code: Code = "conflict_self" if len(circle) == 1 else "deadlock"
            conflicts = self._conflicts(waiter)
            raise _No(code, f"it would wait for {said}, in a circle; release what is held, and ask for all", conflicts)
        self.queue.add(waiter)
        self._timer(waiter.due_ns, _WAIT, waiter.seq)
        self._replies.append(Waiting(waiter.ask.session, waiter.ask.n, len(self.queue) - 1))

    def _before(self, session: int, n: int) -> int:
        waiter = self.queue.of_request(session, n)
        assert waiter is not None
        return sum(seq < waiter.seq for seq in self.queue.waiters)

    def _waits_for(self, waiter: Waiter) -> set[Who]:
        """Who could end this wait, if all of them do. A place in a class may come free by anybody."""
        found = {self._who(lease) for lease in self._alone_in_the_way(waiter)}
        found |= {self._who(lease) for lease, _ in self._leases_in_the_way(waiter)}
        if not waiter.raises:
            found |= {other.who for other, _ in self.queue.earlier(waiter)}
        return found

    def _circle(self, waiter: Waiter) -> list[Who] | None:
        """Who waits for whom, from this one back to itself."""
        goal = waiter.who
        session = self.ledger.sessions.get(goal[0])
        held = (self.ledger.leases[lease] for lease in session.leases) if session else ()
        if not self.queue.of(goal) and not any(lease.owner == goal[1] for lease in held):
            # Nobody can wait for who has nothing.
            return None
        # Who was met on the way, and after whom.
        after: dict[Who, Who] = {}
        ahead = [(who, goal) for who in self._waits_for(waiter)]
        while ahead:
            who, before = ahead.pop()
            if who in after:
                continue
            after[who] = before
            if who == goal:
                break
            for other in self.queue.of(who):
                ahead += [(next_one, who) for next_one in self._waits_for(other)]
        if goal not in after:
            return None
        circle, who = [goal], after[goal]
        while who != goal:
            circle.append(who)
            who = after[who]
        return circle

    def _leave_queue(self, waiter: Waiter) -> None:
        """It waits no longer, and has not got it: who came after it may."""
        self.queue.remove(waiter)
        others: Iterable[int] = ()
        if waiter.is_alone:
            others = [seq for seq in self.queue.waiters if seq > waiter.seq]
        elif waiter.cls:
            others = self._next_of_class(waiter.cls)
        self._freed.append((waiter.places, others))

    def _next_of_class(self, cls: str) -> list[int]:
        budget = self.terms.budgets.get(cls)
        return [] if budget is None else self.queue.first_of_class(cls, budget - self._of_class.get(cls, 0))

    def _serve(self) -> None:
        """Grant what waits for what has come free, the first first."""
        freed, self._freed = self._freed, []
        while freed:
            for places, others in freed:
                if not self.queue.waiters:
                    break
                for place in places:
                    self._serve_at(place)
                for seq in (*others, *list(self.queue.alone)[:1]):
                    self._serve_one(seq)
            freed, self._freed = self._freed, []

    def _serve_at(self, place: Place) -> None:
        probe = Place(Claim(place.claim.region, "x"), place.key, place.folders)
        for seq in sorted({seq for seq, _ in self.queue.index.in_the_way((probe,))}):
            granted = self._serve_one(seq)
            if granted and any(one.claim.mode == "x" and place.key.startswith(one.key) for one in granted):
                # All that came free here is taken again.
                return

    def _serve_one(self, seq: int) -> tuple[Place, ...]:
        """What was granted."""
        waiter = self.queue.waiters.get(seq)
        if waiter is None or self._obstacle(waiter) is not None:
            return ()
        ask = waiter.ask
        self.queue.remove(waiter)
        if isinstance(ask, SetMode):
            self._moded(self.ledger.leases[ask.lease], ask, waiter.places)
        else:
            try:
                self._ask_rules(ask)
            except _No as no:
                self._refuse(ask, no)
                self._freed.append((waiter.places, self._next_of_class(waiter.cls)))
                return ()
            self._grant(ask, waiter.places)
        # What it has now is not in its own way, where that is said.
        own = [other.seq for other in self.queue.of(waiter.who) if other.is_reentrant]
        if own:
            self._freed.append(((), own))
        return waiter.places

    # -- what is done with a lease

    def _shown(self, ask: Release | SetMode | Offer) -> Lease:
        """The lease, if whoever shows it holds it. What outlives its session belongs to whoever has the token."""
        lease = self._there(ask.lease)
        if lease.session != ask.session and lease.bind != "ttl":
            raise _No("not_holder", f"lease {ask.lease} is of session {lease.session}, not of {ask.session}")
        if lease.token != ask.token:
            raise _No("not_holder", _of_another_token(lease, ask.token))
        return lease

    def _there(self, number: int) -> Lease:
        lease = self.ledger.leases.get(number)
        if lease is not None and lease.bind != "delay":
            return lease
        why = self.ledger.ended.get(number)
        if why == "expired":
            raise _No("expired", f"lease {number} had run out before; acquire it anew, and look at what it protects")
        said = f"lease {number} has ended: {why}" if why else f"there is no lease {number}, or not any more"
        raise _No("not_held", f"{said}; `geartrain lease ls` shows those there are")

    def _end(self, lease: Lease, why: Why, session: int = 0, n: int = 0, request: str = "") -> None:
        number = lease.lease
        is_loss = why in ("expired", "evicted", "holder died")
        delay_until_ns = self.now_ns + lease.delay_ns if is_loss and lease.delay_ns else 0
        waiter = self.queue.raising(number)
        if waiter is not None:
            self._leave_queue(waiter)
            self._refuse(waiter.ask, _No("not_held", f"lease {number} has ended meanwhile: {why}"))
        if lease.session in self.ledger.sessions and (is_loss or lease.session != session):
            self._replies.append(Lost(lease.session, number, why))
        places = self._leave(lease)
        self._lease_due.pop(number, None)
        self._record(Ended(self.now_ns, number, why, session, n, delay_until_ns, request))
        if delay_until_ns:
            self._enter(self.ledger.leases[number], places)
            self._due_at(_LEASE, number, delay_until_ns)
        if self.queue.waiters:
            others: Iterable[int] = self._next_of_class(lease.cls) if lease.cls else ()
            self._freed.append((places, list(self.queue.waiters) if lease.alone else others))

    def _set_mode(self, ask: SetMode) -> None:
        lease = self._shown(ask)
        if ask.mode not in MODES or not 0 <= ask.wait_ns <= self.terms.wait_most_ns:
            raise _No("bad_request", f"a mode is one of {', '.join(MODES)}, and a wait not below 0: {ask!r}")
        if all(claim.mode == ask.mode for claim in lease.claims):
            self._replies.append(Done(ask.session, ask.n, lease.lease, lease.token))
            return
        if self.queue.raising(lease.lease) is not None:
            raise _No("conflict_self", f"lease {lease.lease} waits for its other mode already; wait, or withdraw that")
        claims = [Claim(claim.region, ask.mode) for claim in lease.claims]
        places = tuple([place_of(claim, self.terms.case) for claim in claims])
        if ask.mode == "s":
            self._moded(lease, ask, places)
            self._freed.append((places, ()))
            return
        waiter = Waiter(self.queue.next_seq, ask, self._who(lease), places, self.now_ns + ask.wait_ns)
        obstacle = self._obstacle(waiter)
        if obstacle is None:
            self._moded(lease, ask, places)
        elif not ask.wait_ns:
            raise self._in_the_way(waiter, obstacle)
        else:
            self._wait(waiter)

    def _moded(self, lease: Lease, ask: SetMode, places: tuple[Place, ...]) -> None:
        self._leave(lease)
        self._record(Moded(self.now_ns, ask.session, ask.n, lease.lease, ask.mode))
        self._enter(self.ledger.leases[lease.lease], places)

    def _offer(self, ask: Offer) -> None:
        lease = self._shown(ask)
        if ask.to not in self.ledger.sessions:
            raise _No("bad_request", f"there is no session {ask.to} that could adopt lease {ask.lease}")
        self._record(Offered(self.now_ns, ask.session, ask.n, lease.lease, ask.to))

    def _adopt(self, ask: Adopt) -> None:
        lease = self._there(ask.lease)
        if lease.session == ask.session:
            raise _No("conflict_self", f"lease {ask.lease} is this session's already")
        if lease.offered_to != ask.session:
            if lease.session in self.ledger.sessions:
                said = f"lease {ask.lease} is of session {lease.session}, which lives and has not offered it"
                raise _No("holder_lives", f"{said}; have it offered, or wait until it ends")
            if lease.token != ask.token:
                said = f"lease {ask.lease} lives until its time is over, and its token is not {ask.token}"
                raise _No("holder_lives", f"{said}; show its token, or wait until it ends")
        waiter = self.queue.raising(lease.lease)
        if waiter is not None:
            self._leave_queue(waiter)
            self._refuse(waiter.ask, _No("not_held", f"lease {lease.lease} was adopted meanwhile"))
        if lease.session in self.ledger.sessions:
            self._replies.append(Lost(lease.session, lease.lease, "adopted"))
        until_ns = self.now_ns + lease.ttl_ns + self.terms.grace_ns
        self._record(Adopted(self.now_ns, ask.session, ask.n, lease.lease, ask.owner, until_ns, ask.request))
        self._due_at(_LEASE, lease.lease, until_ns)
        self._break_circles((ask.session, ask.owner))

    def _break_circles(self, who: Who) -> None:
        """Who has got a lease that others wait for may wait for them: the youngest of a circle is refused."""
        for waiter in self.queue.of(who):
            while waiter.seq in self.queue.waiters:
                circle = self._circle(waiter)
                if circle is None:
                    break
                youngest = max((other for who in circle for other in self.queue.of(who)), key=lambda one: one.seq)
                self._leave_queue(youngest)
                self._refuse(youngest.ask, _No("deadlock", "it waits in a circle, since a lease was adopted"))

    def _to_evict(self, ask: Evict) -> Lease:
        lease = self._there(ask.lease)
        if ask.token not in (0, lease.token):
            raise _No("not_holder", _of_another_token(lease, ask.token))
        return lease

    def _withdraw(self, session: Session, ask: Withdraw) -> None:
        waiter = self.queue.of_request(ask.session, ask.of)
        answer = session.answers.get(ask.of)
        if waiter is not None:
            self._leave_queue(waiter)
            self._refuse(waiter.ask, _No("cancelled", "it was withdrawn"))
        elif isinstance(answer, Grant) and answer.token == answer.lease and answer.lease in session.leases:
            self._end(self.ledger.leases[answer.lease], "withdrawn", ask.session, ask.n)
            return
        self._replies.append(Done(ask.session, ask.n, 0))

    # -- lives and times

    def _begin(self, command: Begin, now_ns: int) -> None:
        """With a new boot comes a new clock. All is due as the ledger says, and a session has its whole time again."""
        assert not self.queue.waiters, "a life begins with nobody in the queue"
        if command.boot == self.ledger.boot:
            now_ns = max(now_ns, self.now_ns)
        self.now_ns = now_ns
        hold_until_ns = now_ns + command.hold_ns if command.hold_ns else 0
        budgets = tuple(Budget(cls, most) for cls, most in sorted(self.terms.budgets.items()))
        self._record(Began(now_ns, command.boot, command.wall_ns, hold_until_ns, self.terms.case, budgets))
        self._timers.clear()
        for lease in self.ledger.leases.values():
            self._due_at(_LEASE, lease.lease, lease.until_ns)
        for session in self.ledger.sessions.values():
            self._due_at(_SESSION, session.session, now_ns + session.ttl_ns)

    def _open(self, command: Open) -> None:
        number = self.ledger.session_of.get(command.secret)
        if number is None:
            ttl_ns = command.ttl_ns or self.terms.session_ttl_ns
            try:
                in_one_line("the secret of a session", command.secret, most_bytes=NAME_BYTES_MOST)
                if command.label:
                    in_one_line("label", command.label, most_bytes=NAME_BYTES_MOST)
                if not 0 < ttl_ns <= self.terms.ttl_most_ns:
                    raise BadValue(f"a session lives for above 0 and at most {self.terms.ttl_most_ns} ns, got {ttl_ns}")
            except GeartrainError as error:
                self._replies.append(Refusal(0, 0, "bad_request", str(error)))
                return
            number = self.ledger.revision + 1
            self._record(SessionOpened(self.now_ns, command.secret, command.label, ttl_ns))
            self._due_at(_SESSION, number, self.now_ns + ttl_ns)
        session = self.ledger.sessions[number]
        self._session_due[number] = self.now_ns + session.ttl_ns
        self._replies.append(Opened(number, command.secret, session.ttl_ns, self.ledger.revision))

    def _close(self, number: int, why: Why) -> None:
        """What it waits for, what it holds and does not outlive it, and itself."""
        for waiter in self.queue.of_session(number):
            if waiter.seq in self.queue.waiters:
                self._leave_queue(waiter)
        session = self.ledger.sessions[number]
        for lease in list(session.leases):
            if self.ledger.leases[lease].bind == "session":
                self._end(self.ledger.leases[lease], why, number)
        self._record(SessionEnded(self.now_ns, number))
        self._session_due.pop(number, None)

    def _renew(self, ask: Renew) -> None:
        """Nothing is written, until more would be promised than was written last: then twice as much."""
        session = self.ledger.sessions.get(ask.session)
        if session is None:
            said = f"there is no session {ask.session}, or not any more; what it held is lost; open one"
            self._replies.append(Refusal(ask.session, ask.n, "no_session", said))
            return
        self._session_due[ask.session] = self.now_ns + session.ttl_ns
        lost: list[int] = []
        numbers: Iterable[int] = session.leases
        if ask.leases is not None:
            numbers = [shown.lease for shown in ask.leases if self._holds(ask.session, shown.lease, shown.token)]
            lost = [shown.lease for shown in ask.leases if shown.lease not in numbers]
        for number in numbers:
            self._live_on(self.ledger.leases[number], is_exact=ask.exact)
        self._replies.append(Alive(ask.session, tuple(lost), ask.n))

    def _live_on(self, lease: Lease, *, is_exact: bool) -> None:
        due_ns = self.now_ns + lease.ttl_ns + self.terms.grace_ns
        if due_ns > lease.until_ns:
            self._record(Renewed(self.now_ns, lease.lease, due_ns if is_exact else due_ns + lease.ttl_ns))
        # After a start of the arbiter it may have more: what was promised stays.
        self._lease_due[lease.lease] = max(due_ns, self._lease_due[lease.lease])

    def _holds(self, session: int, number: int, token: int) -> bool:
        lease = self.ledger.leases.get(number)
        if lease is None or lease.bind == "delay" or lease.token != token:
            return False
        return lease.session == session or lease.bind == "ttl"

    def _run_out(self) -> None:
        """All that is due, in the order in which it was."""
        timers = self._timers
        while timers and timers[0][0] <= self.now_ns:
            _, kind, number = heapq.heappop(timers)
            if kind == _LEASE:
                self._lease_may_be_due(number)
            elif kind == _SESSION:
                self._session_may_be_due(number)
            else:
                self._wait_is_over(number)
            if self._freed:
                self._serve()

    def _lease_may_be_due(self, number: int) -> None:
        due_ns = self._lease_due.get(number)
        if due_ns is None:
            return
        if due_ns > self.now_ns:
            heapq.heappush(self._timers, (due_ns, _LEASE, number))
            return
        lease = self.ledger.leases[number]
        self._end(lease, "delay over" if lease.bind == "delay" else "expired")

    def _session_may_be_due(self, number: int) -> None:
        """Not before what it holds: a holder may rely on the time of its leases."""
        due_ns = self._session_due.get(number)
        if due_ns is None:
            return
        held = self.ledger.sessions[number].leases
        due_ns = max([due_ns, *(self._lease_due[lease] for lease in held)])
        if due_ns > self.now_ns:
            heapq.heappush(self._timers, (due_ns, _SESSION, number))
            return
        self._close(number, "expired")

    def _wait_is_over(self, seq: int) -> None:
        waiter = self.queue.waiters.get(seq)
        if waiter is not None:
            no = self._in_the_way(waiter, "timeout")
            self._leave_queue(waiter)
            self._refuse(waiter.ask, no)

    def _due_at(self, kind: int, number: int, due_ns: int) -> None:
        (self._lease_due if kind == _LEASE else self._session_due)[number] = due_ns
        self._timer(due_ns, kind, number)

    def _timer(self, due_ns: int, kind: int, number: int) -> None:
        timers = self._timers
        heapq.heappush(timers, (due_ns, kind, number))
        if len(timers) > self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        """Throw away the timers of what has ended before its time."""
        alive = [(due_ns, _LEASE, number) for number, due_ns in self._lease_due.items()]
        alive += [(due_ns, _SESSION, number) for number, due_ns in self._session_due.items()]
        alive += [(waiter.due_ns, _WAIT, seq) for seq, waiter in self.queue.waiters.items()]
        self._timers[:] = alive
        self._sweep_at = 64 + 2 * len(alive)
        heapq.heapify(self._timers)

    # -- keeping book

    def _record(self, record: Record) -> None:
        answer = self.ledger.apply(record)
        self._records.append(record)
        if answer is not None:
            self._replies.append(answer)

    def _enter(self, lease: Lease, places: tuple[Place, ...] | None = None) -> None:
        if places is None:
            places = tuple([place_of(claim, self.terms.case) for claim in lease.claims])
        self._places[lease.lease] = places
        self._held.add(lease.lease, places)
        if lease.cls:
            self._of_class[lease.cls] = self._of_class.get(lease.cls, 0) + 1
        if lease.alone:
            self._alone[lease.lease] = None

    def _leave(self, lease: Lease) -> tuple[Place, ...]:
        places = self._places.pop(lease.lease)
        self._held.remove(lease.lease, places)
        if lease.cls:
            self._of_class[lease.cls] -= 1
        if lease.alone:
            del self._alone[lease.lease]
        return places

    # -- saying no

    def _refuse(self, ask: Numbered, no: _No) -> None:
        refusal = Refusal(ask.session, ask.n, no.code, no.said, no.conflicts)
        self._replies.append(refusal)
        wants = ask.claims if isinstance(ask, Acquire) else ()
        self._audit.append(Refused(self.now_ns, wants, refusal))

    def _in_the_way(self, waiter: Waiter, code: Code) -> _No:
        conflicts = self._conflicts(waiter)
        if code == "budget":
            budget = self.terms.budgets[waiter.cls]
            return _No(
                code, f"class {waiter.cls!r} is full: {budget} at once; wait for one to end, or raise its budget"
            )
        if code == "timeout" and not conflicts:
            return _No(code, "what it waited for has not come in time; wait longer, or look who holds on to it")
        met = "; ".join(_told(conflict) for conflict in conflicts[:3])
        said = {
            "conflict_self": f"it is in its own way: {met}; use what is held, or say reentrant",
            "alone": f"who runs alone runs with nobody: {met}; wait for it",
            "timeout": f"what is in its way has not ended in time: {met}; wait longer, or ask its holder",
        }
        return _No(code, said.get(code, f"it is taken: {met}; wait for it, or ask for less"), conflicts)

    def _conflicts(self, waiter: Waiter) -> tuple[Conflict, ...]:
        found: dict[tuple[int, int], Conflict] = {}
        for conflict in self._all_conflicts(waiter):
            found.setdefault((conflict.lease, conflict.session), conflict)
            if len(found) == CONFLICTS_MOST:
                break
        return tuple(found.values())

    def _all_conflicts(self, waiter: Waiter) -> Iterator[Conflict]:
        for lease, place in self._leases_in_the_way(waiter):
            yield Conflict(lease.lease, lease.session, lease.label, place.claim.region, place.claim.mode)
        for lease in self._alone_in_the_way(waiter):
            claim = lease.claims[0]
            yield Conflict(lease.lease, lease.session, lease.label, claim.region, claim.mode)
        if not waiter.raises:
            for other, place in self.queue.earlier(waiter):
                label = other.ask.label if isinstance(other.ask, Acquire) else ""
                yield Conflict(0, other.ask.session, label, place.claim.region, place.claim.mode)


def _of_another_token(lease: Lease, token: int) -> str:
    if token < lease.token:
        return f"the token of lease {lease.lease} is not {token} any more; it has changed hands"
    return f"the token of lease {lease.lease} is not {token}, and never was; show the one that came with it"


def _told(conflict: Conflict) -> str:
    who = f"session {conflict.session}" if conflict.session else "nobody any more, for a while"
    who = f"{conflict.label!r} ({who})" if conflict.label else who
    what = f"lease {conflict.lease}" if conflict.lease else "a request that came first"
    return f"{what} of {who} on {conflict.region!r} ({conflict.mode})"


def decide(state: State, command: Command, now_ns: int) -> Outcome:
    """What comes of a command at this time. The state moves on; the records say how, and `apply` does it again."""
    return state.decide(command, now_ns)
