"""etcd, asked through its JSON gateway: a request, an answer, within a time.

    etcd://10.0.0.1:2379,10.0.0.2:2379/factory/left      its members, and the prefix of all keys that are ours

Whoever gets no answer does not know whether it was done: what is asked must bear to be asked again. Needs the extra
`geartrain[etcd]`, which is imported when the first one is opened.
"""

import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from geartrain.errors import BadValue, EtcdAway

SCHEME = "etcd:"
# One question; a member that takes longer is one that is away, and the next one is asked.
ANSWER_WITHIN_S = 0.7
_BETWEEN_S = 0.02


class Address(Struct, frozen=True):
    """Who is asked, and below which prefix."""

    members: tuple[str, ...]
    prefix: str

    def __str__(self) -> str:
        return f"{SCHEME}//{','.join(self.members)}/{self.prefix}"


def address_of(place: Path | str) -> Address | None:
    """The address in this place, None of a folder. As a path it has lost one of its slashes, which is no matter."""
    scheme, *rest = [part for part in str(place).split("/") if part] or [""]
    if scheme != SCHEME:
        return None
    members = tuple(rest[0].split(",")) if rest else ()
    if len(rest) < 2 or not all(_is_member(member) for member in members):
        raise BadValue(f"{place} is no place in etcd; expected {SCHEME}//HOST:PORT/PREFIX")
    return Address(members, "/".join(rest[1:]))


def _is_member(member: str) -> bool:
    host, _, port = member.rpartition(":")
    return bool(host) and port.isascii() and port.isdecimal() and 0 < int(port) < 65536


class Etcd:
    """A client, of one thread at a time."""

    def __init__(self, address: Address) -> None:
        try:
            import httpx
        except ImportError as error:
            raise BadValue(
                f"to keep leases in {address}, httpx is needed and not installed: pip install 'geartrain[etcd]'"
            ) from error
        self.address = address
        # Nothing of the surroundings, as a proxy, comes between.
        self._client = httpx.Client(timeout=ANSWER_WITHIN_S, trust_env=False)
        self._failure = httpx.HTTPError
        self._members = list(address.members)

    def ask(self, path: str, question: dict[str, Any], within_s: float) -> dict[str, Any]:
        """Asked again, of each member in turn, until there is an answer or the time is over: then `EtcdAway`."""
        until_s = time.monotonic() + within_s
        while True:
            try:
                return self._ask(path, question)
            except EtcdAway:
                if time.monotonic() + _BETWEEN_S >= until_s:
                    raise
            self._members.append(self._members.pop(0))
            time.sleep(_BETWEEN_S)

    def _ask(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        member = self._members[0]
        try:
            answer = self._client.post(f"http://{member}/v3/{path}", json=question)
            told = answer.json()
        except (self._failure, ValueError) as error:
            raise EtcdAway(str(self.address), f"{member} has not answered ({_in_words(error)})") from error
        if answer.is_success and isinstance(told, dict):
            return told
        said = told.get("message") if isinstance(told, dict) else None
        raise EtcdAway(str(self.address), f"{member} says: {said or answer.status_code}")

    def close(self) -> None:
        self._client.close()


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__


# -- what is asked, as the gateway wants it ----------------------------------------------------------------------------


def coded(data: bytes) -> str:
    return b64encode(data).decode()


def put(key: str, value: bytes, lease: str = "0") -> dict[str, Any]:
    return {"request_put": {"key": coded(key.encode()), "value": coded(value), "lease": lease}}


def get(key: str) -> dict[str, Any]:
    return {"request_range": {"key": coded(key.encode())}}


def get_all(prefix: str) -> dict[str, Any]:
    return {"request_range": {"key": coded(prefix.encode()), "range_end": coded(_after(prefix))}}


def delete(first: str, end: str | None = None) -> dict[str, Any]:
    """One key, or all from it up to before the other."""
    span = {"key": coded(first.encode())}
    return {"request_delete_range": span if end is None else span | {"range_end": coded(end.encode())}}


def is_value(key: str, value: bytes) -> dict[str, Any]:
    return {"key": coded(key.encode()), "target": "VALUE", "result": "EQUAL", "value": coded(value)}


def is_absent(key: str) -> dict[str, Any]:
    return {"key": coded(key.encode()), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}


def transaction(
    compare: Sequence[dict[str, Any]], then: Sequence[dict[str, Any]], otherwise: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    return {"compare": list(compare), "success": list(then), "failure": list(otherwise)}


def found_in(response: dict[str, Any]) -> dict[str, bytes]:
    """The keys and values of an answer to `get` or `get_all`."""
    pairs = response.get("response_range", response).get("kvs", ())
    return {b64decode(pair["key"]).decode(): b64decode(pair.get("value", "")) for pair in pairs}


def _after(prefix: str) -> bytes:
    """The first key that does not begin so."""
    data = prefix.encode()
    return data[:-1] + bytes([data[-1] + 1])
