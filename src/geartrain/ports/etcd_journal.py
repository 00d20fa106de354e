"""The journal in etcd: every record is on most of its members before anybody is answered.

    PREFIX/writer         who writes; goes by itself when it does not say so any more
    PREFIX/head           up to which revision all is there, and a word that is drawn anew with each change
    PREFIX/rec/0000...7   the records from 7 on, as many as were made durable at once
    PREFIX/snap/...5/0    what the records up to 5 came to, in pieces

    sync:   IF head is as I left it AND the writer is me THEN put records, put head      one transaction

That comparison is what excludes a second writer, and no clock has a part in it (ADR 41). It makes a question harmless
that is asked again because its answer was lost: it is done once, and who asks finds its own word in the head. A word is
compared and not a number, so that what has come back from a backup is not taken for what was left.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from geartrain.errors import EtcdAway, JournalDamaged, JournalInUse, JournalStopped, NotInUse
from geartrain.ports.etcd import (
    Address,
    Etcd,
    delete,
    found_in,
    get,
    get_all,
    is_absent,
    is_value,
    put,
    transaction,
)
from geartrain.ports.journal import QUICK_NS, Journal, checked_payload
from geartrain.ports.process_table import Identity, identity_of, is_alive
from geartrain.rules.journal_frames import Record, Snapshot

# A writer that has said nothing for so long may be followed by another one: that is for progress, and not for safety.
WRITER_TTL_S = 5
# Whoever is not answered within this does not know. Who counts a lease from the answer gets it so much later at most.
SYNC_WITHIN_S = 2.0
OPEN_WITHIN_S = 2.0
_CLOSE_WITHIN_S = 0.7
# A transaction has 1.5 MiB at most, in etcd as it comes.
PIECE_BYTES = 512 * 1024


class Head(Struct, frozen=True, array_like=True):
    """What is there. `word` is of the last change, `cluster` of the etcd in which it was begun."""

    cluster: str
    revision: int
    word: bytes
    snapshot: int = 0
    pieces: int = 0
    # The word with which the snapshot was made: pieces of one that came to nothing are not taken for it.
    made: bytes = b""


class Batch(Struct, frozen=True, array_like=True):
    """Records that were made durable at once, from this one on."""

    first: int
    word: bytes
    payloads: tuple[bytes, ...]


class Owner(Struct, frozen=True, array_like=True):
    """Who writes."""

    process: Identity
    word: bytes


T = TypeVar("T")

_heads = msgspec.msgpack.Decoder(Head)
_batches = msgspec.msgpack.Decoder(Batch)
_owners = msgspec.msgpack.Decoder(Owner)
_encode = msgspec.msgpack.Encoder().encode


class EtcdJournal(Journal):
    """A journal below a prefix, begun when there is none. A second writer is refused while the first one lives.

    With `only_look` it writes nothing, and nobody is in its way.
    """

    def __init__(self, address: Address, *, only_look: bool = False) -> None:
        super().__init__()
        # It is never so quick that the loop could wait for it.
        self.took_ns = QUICK_NS
        self._address = address
        self._etcd = Etcd(address)
        process = identity_of(os.getpid())
        assert process is not None
        self._boot = process.boot
        self._me = _encode(Owner(process, os.urandom(16)))
        self._pending: list[bytes] = []
        self._found: list[Record] = []
        # Of each batch that is there, with which record it begins.
        self._firsts: list[int] = []
        self._revision = self._durable = 0
        self._stopped: str | None = None
        self._closed = False
        self._taking, self._asking = threading.Lock(), threading.Lock()
        self._lease = ""
        self._over = threading.Event()
        try:
            if only_look:
                self._stopped = f"the journal in {address} is only looked at"
            else:
                self._become_writer()
            self._load()
        except BaseException:
            self._let_go()
            raise
        if only_look:
            return
        threading.Thread(target=self._stay_writer, name="etcd-writer", daemon=True).start()

    def __repr__(self) -> str:
        return f"<journal in {self._address}>"

    def ask(self, path: str, question: dict[str, Any], within_s: float = OPEN_WITHIN_S) -> dict[str, Any]:
        return self._etcd.ask(path, question, within_s)

    # -- opening ------------------------------------------------------------------------------------------------------

    def _become_writer(self) -> None:
        """Nobody is, or it was a process of this machine that is dead."""
        granted = self.ask("lease/grant", {"TTL": str(WRITER_TTL_S)})
        self._lease = granted["ID"]
        former = self._take_place(is_absent(self._key("writer")))
        if former is None:
            return
        owner = self._decoded(_owners, "writer", former).process
        is_here = owner.boot == self._boot
        if not is_here or is_alive(owner):
            raise JournalInUse(str(self._address), owner.pid if is_here else None)
        if self._take_place(is_value(self._key("writer"), former)) is not None:
            raise JournalInUse(str(self._address), None)

    def _take_place(self, condition: dict[str, Any]) -> bytes | None:
        """Who else has it, None if nobody has it but this one."""
        key = self._key("writer")
        asked = transaction([condition], [put(key, self._me, self._lease)], [get(key)])
        told = self.ask("kv/txn", asked)
        if told.get("succeeded"):
            return None
        writer = found_in(told["responses"][0]).get(key, b"")
        return None if writer == self._me else writer or self._take_place(is_absent(key))

    def _load(self) -> None:
        """All of it as it is at one moment: one question."""
        told = self.ask("kv/range", get_all(self._key(""))["request_range"])
        found, self._cluster = found_in(told), told["header"]["cluster_id"]
        head = found.get(self._key("head"))
        if head is None:
            if self._stopped is None:
                self._begin(found)
            return
        self._head_bytes, self._head = head, self._decoded(_heads, "head", head)
        if self._head.cluster != self._cluster:
            met = f"a journal that was begun in cluster {self._head.cluster}"
            raise JournalDamaged(self._name("head"), 0, met, f"one of cluster {self._cluster}: is it from a backup?")
        if self._head.snapshot:
            pieces = [self._piece(found, number) for number in range(self._head.pieces)]
            self.state = Snapshot(self._head.snapshot, b"".join(pieces))
        self._found = list(self._records_in(found))
        self._revision = self._durable = self._head.revision

    def _begin(self, found: dict[str, bytes]) -> None:
        left = sorted(key for key in found if key != self._key("writer"))
        if left:
            raise JournalDamaged(self._name("head"), 0, f"no head, beside {left[0]}", "one that says what is there")
        self._head = Head(self._cluster, 0, os.urandom(16))
        self._head_bytes = _encode(self._head)
        key = self._key("head")
        asked = transaction([self._is_writer(), is_absent(key)], [put(key, self._head_bytes)], [get(key)])
        told = self.ask("kv/txn", asked)
        if not told.get("succeeded") and found_in(told["responses"][0]).get(key) != self._head_bytes:
            raise JournalInUse(str(self._address), None)

    def _records_in(self, found: dict[str, bytes]) -> Iterator[Record]:
        """One after the other without a gap, from the snapshot to the head; what lies before is let go of already."""
        after = self._head.snapshot
        for key in sorted(key for key in found if key.startswith(self._key("rec/"))):
            batch = self._decoded(_batches, key, found[key])
            if batch.first + len(batch.payloads) - 1 <= self._head.snapshot:
                continue
            self._firsts.append(batch.first)
            for revision, payload in enumerate(batch.payloads, batch.first):
                if revision <= self._head.snapshot:
                    continue
                if revision != after + 1:
                    raise JournalDamaged(key, 0, f"record {revision} after record {after}", f"record {after + 1}")
                after = revision
                yield Record(revision, payload)
        if after != self._head.revision:
            raise JournalDamaged(self._name("head"), 0, f"records up to {after}", f"up to {self._head.revision}")

    def _piece(self, found: dict[str, bytes], number: int) -> bytes:
        key = self._piece_key(self._head, number)
        if key not in found:
            raise JournalDamaged(key, 0, "nothing", f"piece {number} of the snapshot that the head names")
        return found[key]

    # -- the promise --------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def durable(self) -> int:
        return self._durable

    def append(self, payload: bytes) -> int:
        checked_payload(payload)
        with self._taking:
            self._in_use()
            self._pending.append(payload)
            self._revision += 1
            return self._revision

    def sync(self) -> None:
        with self._asking:
            self._in_use()
            self._sync()

    def records(self) -> Iterator[Record]:
        after = self.state.revision if self.state else 0
        return iter([record for record in self._found if after < record.revision <= self._durable])

    def snapshot(self, revision: int, state: bytes) -> None:
        self.check_snapshot(revision)
        with self._asking:
            self._in_use()
            self._sync()
            pieces = [state[at : at + PIECE_BYTES] for at in range(0, len(state), PIECE_BYTES)] or [b""]
            word = os.urandom(16)
            head = Head(self._cluster, self._head.revision, word, revision, len(pieces), word)
            first_left = self._first_left(revision)
            with self._or_never_again():
                for number, piece in enumerate(pieces):
                    asked = transaction([self._is_writer()], [put(self._piece_key(head, number), piece)])
                    if not self.ask("kv/txn", asked, SYNC_WITHIN_S).get("succeeded"):
                        raise JournalInUse(str(self._address), None)
                # What came before it is let go of in the same moment. A batch that reaches beyond it stays.
                self._swap(head, [
                    delete(self._key("rec/"), self._rec(first_left)),
                    delete(self._key("snap/"), self._key(f"snap/{revision:020}/")),
                ])  # fmt: skip
            self.state = Snapshot(revision, state)
            self._found = [record for record in self._found if record.revision > revision]
            self._firsts = [first for first in self._firsts if first >= first_left]

    def close(self) -> None:
        if self._closed:
            return
        try:
            if self._stopped is None:
                self.sync()
        finally:
            self._closed = True
            self._let_go()

    def abandon(self) -> None:
        """Let go without making anything durable that is not yet."""
        if not self._closed:
            self._closed = True
            self._let_go()

    # -- writing ------------------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        with self._taking:
            pending, self._pending = self._pending, []
        with self._or_never_again():
            for payloads in _in_pieces(pending):
                self._write(payloads)

    def _write(self, payloads: tuple[bytes, ...]) -> None:
        first, word = self._durable + 1, os.urandom(16)
        last = self._durable + len(payloads)
        batch = (self._rec(first), _encode(Batch(first, word, payloads)))
        self._swap(replace(self._head, revision=last, word=word), [put(*batch)], batch)
        self._firsts.append(first)
        self._found += [Record(revision, payload) for revision, payload in enumerate(payloads, first)]
        self._durable = last

    def _swap(self, head: Head, then: list[dict[str, Any]], proof: tuple[str, bytes] | None = None) -> None:
        """This head for the last one, with what belongs to it. `proof` is there if it was done, whoever came since."""
        key, data, started_s = self._key("head"), _encode(head), time.monotonic()
        look = [get(key)] if proof is None else [get(key), get(proof[0])]
        asked = transaction([is_value(key, self._head_bytes), self._is_writer()], [*then, put(key, data)], look)
        told = self.ask("kv/txn", asked, SYNC_WITHIN_S)
        if not told.get("succeeded"):
            found = {name: value for one in told["responses"] for name, value in found_in(one).items()}
            if found.get(key) != data and (proof is None or found.get(proof[0]) != proof[1]):
                raise self._not_done(found.get(key), head)
        if time.monotonic() - started_s > SYNC_WITHIN_S:
            # It is there, and too late for whoever counts from now on.
            raise EtcdAway(str(self._address), f"an answer has taken more than {SYNC_WITHIN_S:g} s")
        self._head, self._head_bytes = head, data

    def _not_done(self, found: bytes | None, head: Head) -> Exception:
        """Somebody else writes. What it has put in the place of records tells nothing of ours."""
        there = None if found is None else self._decoded(_heads, "head", found)
        if there is None or there.snapshot > self._durable:
            said = f"of the records up to {head.revision} in {self._address} nothing is known: they were let go of"
            return JournalStopped(said, self._durable, head.revision)
        return JournalInUse(str(self._address), None)

    def _first_left(self, revision: int) -> int:
        """Of the batch with which it goes on after this record."""
        if revision == self._durable:
            return revision + 1
        return max((first for first in self._firsts if first <= revision + 1), default=revision + 1)

    # -- staying, and ending ------------------------------------------------------------------------------------------

    def _stay_writer(self) -> None:
        """In a thread of its own: also while the loop does something else, or waits for an answer."""
        etcd = Etcd(self._address)
        try:
            while not self._over.wait(WRITER_TTL_S / 4):
                with suppress(EtcdAway):
                    etcd.ask("lease/keepalive", {"ID": self._lease}, 0)
        finally:
            etcd.close()

    def _let_go(self) -> None:
        self._over.set()
        try:
            if self._lease and self._stopped is None:
                with suppress(EtcdAway):
                    self.ask("lease/revoke", {"ID": self._lease}, _CLOSE_WITHIN_S)
        finally:
            self._etcd.close()

    def _in_use(self) -> None:
        if self._closed:
            raise NotInUse(f"the journal in {self._address} was closed")
        if self._stopped is not None:
            raise JournalStopped(self._stopped, self._durable, self._revision)

    @contextmanager
    def _or_never_again(self) -> Iterator[None]:
        """Whoever does not know what has become of it opens the journal anew."""
        try:
            yield
        except BaseException as failure:
            self._stopped = f"writing the journal in {self._address} has failed ({failure})"
            self._over.set()
            if isinstance(failure, EtcdAway):
                raise JournalStopped(self._stopped, self._durable, self._revision) from failure
            raise

    # -- names --------------------------------------------------------------------------------------------------------

    def _key(self, name: str) -> str:
        return f"{self._address.prefix}/{name}"

    def _name(self, name: str) -> str:
        return f"{self._address}/{name}"

    def _rec(self, first: int) -> str:
        return self._key(f"rec/{first:020}")

    def _piece_key(self, head: Head, number: int) -> str:
        return self._key(f"snap/{head.snapshot:020}/{head.made.hex()}/{number:06}")

    def _is_writer(self) -> dict[str, Any]:
        return is_value(self._key("writer"), self._me)

    def _decoded(self, decoder: msgspec.msgpack.Decoder[T], name: str, data: bytes) -> T:
        try:
            return decoder.decode(data)
        except ValueError as error:
            raise JournalDamaged(f"{self._address}: {name}", 0, f"what cannot be read: {error}", "a journal") from error


def _in_pieces(payloads: list[bytes]) -> Iterator[tuple[bytes, ...]]:
    """So many as go into a transaction."""
    piece: list[bytes] = []
    size = 0
    for payload in payloads:
        if piece and size + len(payload) > PIECE_BYTES:
            yield tuple(piece)
            piece, size = [], 0
        piece.append(payload)
        size += len(payload)
    if piece:
        yield tuple(piece)
