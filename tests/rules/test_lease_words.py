"""The words between an arbiter of leases and its clients."""

from typing import Any, get_args

import msgspec
import pytest

from geartrain.rules.lease_words import (
    Acquire,
    Adopt,
    Alive,
    Audit,
    Begin,
    Claim,
    Close,
    Command,
    Conflict,
    Done,
    Evict,
    Grant,
    Hello,
    Lost,
    Note,
    Noted,
    Offer,
    Open,
    Opened,
    Refusal,
    Refused,
    Release,
    Renew,
    Reply,
    SetMode,
    Shown,
    Tick,
    Told,
    Waiting,
    Withdraw,
)

CLAIMS = (Claim("a"), Claim("lock://b", "s"))
REFUSAL = Refusal(1, 2, "conflict", "it is taken", (Conflict(3, 4, "arm", "a", "x"),))
COMMANDS = [
    Begin("boot", 1, 2),
    Tick(),
    Open("secret", "arm", 3),
    Close(1, True),
    Acquire(1, 2, CLAIMS, 3, 4, "ttl", "lift", "me", 5, True, True, 6),
    Renew(1, (Shown(2, 3),), 4),
    Release(1, 2, 3, 4),
    SetMode(1, 2, 3, 4, "s", 5),
    Offer(1, 2, 3, 4, 5),
    Adopt(1, 2, 3, 4, 5),
    Evict(1, 2, 3, 4),
    Withdraw(1, 2, 3),
    Note(1, "halt", "stop", 2),
]
REPLIES = [
    Opened(1, "secret", 2, 3),
    Grant(1, 2, 3, 4, CLAIMS, 5),
    Waiting(1, 2, 3),
    Done(1, 2, 3, 4),
    Alive(1, (2, 3), 4),
    REFUSAL,
    Lost(1, 2, "expired"),
]
AUDIT = [Refused(1, CLAIMS, REFUSAL), Noted(1, Note(1, "intent", "begin"))]


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        (word, kind)
        for words, kind in ((COMMANDS, Command), (REPLIES, Reply), ([Hello("here")], Told), (AUDIT, Audit))
        for word in words
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_word_comes_out_of_its_encoding_as_it_was(word: Any, kind: Any) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(word), type=kind) == word


@pytest.mark.parametrize(("words", "kind"), [(COMMANDS, Command), (REPLIES, Reply), (AUDIT, Audit)])
def test_no_word_is_forgotten_here(words: list[Any], kind: Any) -> None:
    assert {type(word) for word in words} == set(get_args(kind))
