"""Keys say what is wrong with them, and never what is secret."""

from typing import Any

import msgspec
import pytest

from geartrain.errors import BadType, BadValue
from geartrain.rules.keys import Curve, Keys

# From ZeroMQ's manual.
PUBLIC, SECRET = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
OTHER = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


def test_a_secret_key_is_in_no_repr_of_what_holds_it() -> None:
    keys = Keys(PUBLIC, SECRET)
    curve = Curve(keys, OTHER)
    for shown in (keys, curve, [curve], keys.__rich_repr__()):
        assert SECRET not in f"{shown!r} {shown!s} {shown}"
        assert PUBLIC in repr(shown)


@pytest.mark.parametrize(
    ("public", "secret", "said"),
    [
        (PUBLIC[:-1], SECRET, "a public key must be 40 characters of Z85, got 39"),
        (PUBLIC, SECRET + "0", "a secret key must be 40 characters of Z85, got 41"),
        (PUBLIC, "", "a secret key must be 40 characters of Z85, got 0"),
        (PUBLIC, "~" + SECRET[1:], "a secret key must be .* not Z85"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}" + PUBLIC[1:], SECRET, "a public key must be .* not Z85"),
        ("#####" + PUBLIC[5:], SECRET, "a public key must be .* not Z85"),
        (SECRET, SECRET, "the same"),
    ],
)
def test_keys_that_cannot_be_are_refused_and_not_shown(public: str, secret: str, said: str) -> None:
    with pytest.raises(BadValue, match=said) as caught:
        Keys(public, secret)
    assert SECRET[1:] not in str(caught.value)


@pytest.mark.parametrize("five", ["00000", "%nSc0"])
def test_the_smallest_and_the_largest_group_of_z85_are_of_it(five: str) -> None:
    Keys(five + PUBLIC[5:], SECRET)


def test_the_group_after_the_largest_is_not_of_z85() -> None:
    with pytest.raises(BadValue, match="not Z85"):
        Keys("%nSc1" + PUBLIC[5:], SECRET)


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        (PUBLIC, "this end's own public key"),
        (SECRET, "this end's own secret key"),
        (OTHER[1:], "the other end, must be 40 characters of Z85, got 39"),
    ],
)
def test_a_peer_that_cannot_be_is_refused_and_not_shown(peer: str, said: str) -> None:
    with pytest.raises(BadValue, match=said) as caught:
        Curve(Keys(PUBLIC, SECRET), peer)
    assert SECRET not in str(caught.value)


def test_keys_of_another_kind_are_refused_with_the_kind_that_is_meant() -> None:
    wrong: Any = PUBLIC.encode()
    with pytest.raises(BadType, match="a public key must be text, got bytes"):
        Keys(wrong, SECRET)
    with pytest.raises(BadType, match="keys must be this end's own Keys, got bytes"):
        Curve(wrong, OTHER)
    keys: Any = Keys(PUBLIC, SECRET)
    with pytest.raises(BadType, match="the other end, must be text, got Keys"):
        Curve(keys, keys)


def test_keys_come_back_from_a_file_as_they_were() -> None:
    keys = Keys(PUBLIC, SECRET)
    assert msgspec.json.decode(msgspec.json.encode(keys), type=Keys) == keys
