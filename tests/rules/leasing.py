"""Leases in tests: a state to talk to in short words, and a naive model that looks at everything each time."""

from collections.abc import Iterable
from typing import TypeVar

from geartrain.rules.lease import Outcome, State, Terms, decide
from geartrain.rules.lease_ledger import Ledger, Record, decode, encode, fold
from geartrain.rules.lease_words import (
    Acquire,
    Adopt,
    Bind,
    Claim,
    Close,
    Command,
    Done,
    Evict,
    Grant,
    Mode,
    Offer,
    Open,
    Opened,
    Refusal,
    Release,
    Renew,
    Reply,
    SetMode,
    Shown,
    Tick,
    Waiting,
    Withdraw,
)
from geartrain.rules.regions import canonical, key_of, meet

S = 1_000_000_000
T = TypeVar("T")


class Talk:
    """A state, a clock that is pushed, and all records there ever were."""

    def __init__(self, terms: Terms | None = None, ledger: Ledger | None = None) -> None:
        self.terms = terms or Terms(grace_ns=0)
        self.state = State(ledger, self.terms)
        self.now_ns = self.state.now_ns
        self.records: list[Record] = []
        self.last = Outcome((), ())
        self._n = 0

    def __call__(self, command: Command) -> tuple[Reply, ...]:
        self.last = decide(self.state, command, self.now_ns)
        self.records += [decode(encode(record)) for record in self.last.records]
        return self.last.replies

    def n(self) -> int:
        self._n += 1
        return self._n

    def passes(self, seconds: float) -> tuple[Reply, ...]:
        self.now_ns += round(seconds * S)
        return self(Tick())

    def open(self, label: str = "", ttl: float = 1000) -> int:
        return only(self(Open(f"secret of {label} {self.n()}", label, round(ttl * S))), Opened).session

    def acquire(
        self,
        session: int,
        *regions: str,
        mode: Mode = "x",
        ttl: float = 10,
        wait: float = 0,
        bind: Bind = "session",
        cls: str = "",
        owner: int = 0,
        alone: bool = False,
        reentrant: bool = False,
        delay: float = 0,
        n: int | None = None,
    ) -> tuple[Reply, ...]:
        claims = tuple(Claim(region, mode) for region in regions)
        times = round(ttl * S), round(wait * S)
        number = self.n() if n is None else n
        return self(Acquire(session, number, claims, *times, bind, cls, "", owner, alone, reentrant, round(delay * S)))

    def granted(self, session: int, *regions: str, **how: object) -> Grant:
        return only(self.acquire(session, *regions, **how), Grant)  # type: ignore[arg-type]

    def refused(self, session: int, *regions: str, **how: object) -> Refusal:
        return only(self.acquire(session, *regions, **how), Refusal)  # type: ignore[arg-type]

    def waits(self, session: int, *regions: str, wait: float = 100, **how: object) -> int:
        """The number of the request."""
        return only(self.acquire(session, *regions, wait=wait, **how), Waiting).n  # type: ignore[arg-type]

    def release(self, grant: Grant | Done, session: int | None = None) -> tuple[Reply, ...]:
        return self(Release(session or grant.session, self.n(), grant.lease, grant.token))

    def set_mode(self, grant: Grant | Done, mode: Mode, wait: float = 0) -> tuple[Reply, ...]:
        return self(SetMode(grant.session, self.n(), grant.lease, grant.token, mode, round(wait * S)))

    def renew(self, session: int, *grants: Grant) -> tuple[Reply, ...]:
        """These, or without any, all."""
        shown = tuple(Shown(grant.lease, grant.token) for grant in grants)
        return self(Renew(session, shown or None))

    def adopt(self, session: int, lease: int, token: int = 0) -> tuple[Reply, ...]:
        return self(Adopt(session, self.n(), lease, token))

    def offer(self, grant: Grant, to: int) -> tuple[Reply, ...]:
        return self(Offer(grant.session, self.n(), grant.lease, grant.token, to))

    def evict(self, session: int, lease: int, token: int = 0) -> tuple[Reply, ...]:
        return self(Evict(session, self.n(), lease, token))

    def withdraw(self, session: int, of: int) -> tuple[Reply, ...]:
        return self(Withdraw(session, self.n(), of))

    def close(self, session: int, *, died: bool = False) -> tuple[Reply, ...]:
        return self(Close(session, died))

    def held(self) -> dict[int, set[str]]:
        """The regions that are held, by lease."""
        leases = self.state.ledger.leases.values()
        return {lease.lease: {claim.region for claim in lease.claims} for lease in leases}

    def born_again(self) -> "Talk":
        """What another life knows, from the records alone."""
        return Talk(self.terms, fold(self.records))


def only(replies: Iterable[Reply], kind: type[T]) -> T:
    [reply] = replies
    assert isinstance(reply, kind), reply
    return reply


def one(replies: Iterable[Reply], kind: type[T]) -> T:
    """The one of this kind among others."""
    [found] = [reply for reply in replies if isinstance(reply, kind)]
    return found


# -- a naive model ----------------------------------------------------------------------------------------------------


class Wish:
    """A request, or the lease that has come of it."""

    def __init__(self, session: int, n: int, claims: list[tuple[str, Mode]], **how: object) -> None:
        self.session = session
        self.n = n
        self.claims = [(key_of(canonical(region)), mode) for region, mode in claims]
        self.ttl_ns = 0
        self.due_ns = 0
        self.lease = 0
        self.cls = ""
        self.alone = False
        self.raises: Wish | None = None
        self.owner = 0
        for name, value in how.items():
            assert hasattr(self, name), name
            setattr(self, name, value)

    @property
    def who(self) -> tuple[int, int]:
        return self.session, self.owner

    def is_against(self, other: "Wish") -> bool:
        """Whether the two cannot both be granted, whoever asks."""
        if self.alone or other.alone:
            return True
        return any(
            meet(mine, theirs) and "x" in (my_mode, their_mode)
            for mine, my_mode in self.claims
            for theirs, their_mode in other.claims
        )


class Model:
    """Lists, searched from end to end. Of each change it says what is granted, what is refused and what is lost."""

    def __init__(self, budgets: dict[str, int]) -> None:
        self.budgets = budgets
        self.live: list[Wish] = []
        self.waiting: list[Wish] = []
        self.events: set[tuple[str, int, int]] = set()

    @property
    def held(self) -> list[Wish]:
        """What somebody has: all but what only keeps others out for a while."""
        return [one for one in self.live if one.session]

    def obstacle(self, wish: Wish) -> str | None:
        others = [one for one in self.live if one is not wish.raises]
        alone = [one for one in others if one.alone or wish.alone]
        if alone:
            return "conflict_self" if alone[0].who == wish.who else "alone"
        earlier = self.waiting[: self.waiting.index(wish)] if wish in self.waiting else self.waiting
        if wish.cls in self.budgets:
            before = sum(one.cls == wish.cls for one in (*self.live, *earlier))
            if before >= self.budgets[wish.cls]:
                return "budget"
        against = [one for one in others if wish.is_against(one)]
        if against:
            return "conflict"
        if not wish.raises and any(wish.is_against(one) for one in earlier):
            return "conflict"
        return None

    def waits_for(self, wish: Wish) -> set[tuple[int, int]]:
        earlier = self.waiting[: self.waiting.index(wish)] if wish in self.waiting else self.waiting
        others = [one for one in self.live if one is not wish.raises] + ([] if wish.raises else earlier)
        return {one.who for one in others if wish.is_against(one)}

    def is_in_a_circle(self, wish: Wish) -> bool:
        reached: set[tuple[int, int]] = set()
        ahead = self.waits_for(wish)
        while ahead - reached:
            reached |= ahead
            ahead = {who for one in self.waiting if one.who in reached for who in self.waits_for(one)}
        return wish.who in reached

    def ask(self, wish: Wish, *, wait: bool) -> None:
        obstacle = self.obstacle(wish)
        if obstacle is None:
            self.grant(wish)
        elif not wait or obstacle == "conflict_self" or self.is_in_a_circle(wish):
            self.events.add(("refused", wish.session, wish.n))
        else:
            self.waiting.append(wish)
        self.settle()

    def grant(self, wish: Wish) -> None:
        self.events.add(("granted", wish.session, wish.n))
        if wish.raises is None:
            self.live.append(wish)
        else:
            wish.raises.claims = wish.claims

    def settle(self) -> None:
        """Whoever can go on goes on, the first first."""
        while (able := next((wish for wish in self.waiting if self.obstacle(wish) is None), None)) is not None:
            self.waiting.remove(able)
            self.grant(able)

    def drop(self, wish: Wish) -> None:
        """It is not held any more, and nobody waits to raise it."""
        self.live.remove(wish)
        for one in self.raising(wish):
            self.refuse(one)

    def raising(self, wish: Wish) -> list[Wish]:
        return [one for one in self.waiting if one.raises is wish]

    def of(self, wishes: list[Wish], session: int) -> list[Wish]:
        return [one for one in wishes if one.session == session]

    def refuse(self, wish: Wish) -> None:
        self.waiting.remove(wish)
        self.events.add(("refused", wish.session, wish.n))
