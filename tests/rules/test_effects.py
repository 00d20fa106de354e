"""What the ends of a channel say to each other can be sent as it is."""

import msgspec
import pytest

from geartrain.rules.effects import BACKWARD, FORWARD, Answer, Closed, Effect, End, Item, Said, Taken, Withdrawal

SAID = [
    (FORWARD, Item(1, b"\x00payload")),
    (FORWARD, Withdrawal(3)),
    (FORWARD, End()),
    (BACKWARD, Taken(4, 1, 3)),
    (BACKWARD, Answer(3, withdrawn=True)),
    (BACKWARD, Closed()),
]


@pytest.mark.parametrize(("direction", "said"), SAID, ids=lambda value: type(value).__name__)
def test_a_word_comes_back_from_its_encoding(direction: int, said: Said) -> None:
    effect = Effect("frames", direction, 7, said)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(effect), type=Effect) == effect


def test_effects_are_heard_by_channel_then_direction_then_order() -> None:
    turns = [(name, direction, order) for name in "ab" for direction in (FORWARD, BACKWARD) for order in (1, 2)]
    effects = [Effect(name, direction, order, End()) for name, direction, order in reversed(turns)]
    assert [effect.turn for effect in sorted(effects, key=lambda effect: effect.turn)] == turns
