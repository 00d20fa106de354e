"""What a transport is told of the channel it carries."""

from typing import Any

import pytest

from geartrain.errors import BadType, BadValue
from geartrain.ports.transport import LinkSettings
from geartrain.rules.keys import Curve, Keys

# From ZeroMQ's manual.
KEYS = Keys("Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs")
CURVE = Curve(KEYS, "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")


def test_to_have_keys_and_to_be_open_to_everybody_at_once_is_refused() -> None:
    with pytest.raises(BadValue, match="insecure=True and curve= contradict each other"):
        LinkSettings(1, insecure=True, curve=CURVE)


def test_keys_without_a_peer_are_no_curve() -> None:
    wrong: Any = KEYS
    with pytest.raises(BadType, match=r"curve must be a Curve\(keys, peer\), got Keys"):
        LinkSettings(1, curve=wrong)


def test_what_a_link_is_told_does_not_show_the_secret() -> None:
    assert KEYS.secret not in repr(LinkSettings(1, curve=CURVE))
