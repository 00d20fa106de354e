"""Which item kills its readers: found one at a time, and set aside when it has killed enough of them."""

import msgspec
import pytest

from tests.rules.test_session import Net, met

ITEMS = (10, 11, 12, 13)


def sent_four(*, deliveries: int | None = 3, ack: str = "batch") -> Net:
    net = met(8, deliveries=deliveries, ack=ack)
    for item in ITEMS:
        assert net.send(item)
    net.settle()
    return net


def next_item(net: Net) -> int | None:
    """What the reader gets when it waits."""
    net.reader.ask()
    net.reader.flow()
    net.settle()
    if not net.reader.items:
        return None
    item: int = net.reader.take()
    net.reader.flow()
    net.say()
    return item


def kill_the_reader(net: Net) -> None:
    net.reader = net.new_reader()
    net.cut()
    net.settle()


def read_until(net: Net, item: int) -> None:
    while next_item(net) != item:
        pass


def kill_readers_with(net: Net, item: int, times: int) -> None:
    for _ in range(times):
        read_until(net, item)
        kill_the_reader(net)


@pytest.mark.parametrize("most", [2, 3, 5])
def test_an_item_is_delivered_as_often_as_allowed_and_then_set_aside(most: int) -> None:
    net = sent_four(deliveries=most)
    kill_readers_with(net, 12, most - 1)
    assert not net.writer.poison
    kill_readers_with(net, 12, 1)
    (poison,) = net.writer.poison
    assert (poison.number, poison.deaths) == (3, most)
    assert msgspec.msgpack.decode(poison.item) == 12
    assert [next_item(net), next_item(net)] == [13, None]
    assert net.reader.skipped == net.writer.set_aside == 1


def test_what_was_set_aside_is_stable_so_that_a_writer_can_end() -> None:
    net = sent_four()
    kill_readers_with(net, 13, 3)
    net.writer.close()
    net.say()
    assert next_item(net) is None
    assert net.reader.ended
    assert next_item(net) is None
    net.settle()
    assert net.writer.settled


def test_an_item_is_not_blamed_for_deaths_before_or_after_it_was_in_hand() -> None:
    """Only the first death is everybody's; from then on the one that was sent is meant, and only if it was."""
    net = sent_four()
    kill_the_reader(net)
    for item in ITEMS:
        read_until(net, item)
        kill_the_reader(net)
    assert not net.writer.poison
    kill_the_reader(net)
    kill_the_reader(net)
    assert not net.writer.poison


def test_a_reader_that_dies_while_it_waits_had_nothing_in_hand() -> None:
    net = sent_four()
    kill_the_reader(net)
    for _ in range(5):
        read_until(net, 10)
        net.reader.ask()
        net.reader.flow()
        net.say()
        while net.to_writer:
            net.deliver_to_writer()
        net.to_reader.clear()
        kill_the_reader(net)
        if net.writer.stable:
            break
    assert not net.writer.poison


def test_where_nothing_may_be_set_aside_everything_comes_again_at_once() -> None:
    net = sent_four(deliveries=None)
    for _ in range(10):
        read_until(net, 11)
        kill_the_reader(net)
        assert list(net.reader.items)[-1] == 13
    assert not net.writer.poison


def test_suspects_go_one_at_a_time_and_the_others_after_them_together() -> None:
    net = sent_four()
    kill_the_reader(net)
    assert not net.reader.items
    for item in (14, 15, 16, 17):
        net.send(item)
    for item in ITEMS:
        net.reader.ask()
        net.reader.flow()
        net.settle()
        assert list(net.reader.items) == [item]
        net.reader.take()
    assert [next_item(net) for _ in range(4)] == [14, 15, 16, 17]
    assert not net.reader.mark.redelivered


def test_what_was_set_aside_does_not_settle_what_the_owner_has_not_declared_done() -> None:
    net = sent_four(ack="manual")
    for _ in range(3):
        read_until(net, 12)
        kill_the_reader(net)
    read_until(net, 10)
    first = net.reader.mark
    read_until(net, 13)
    assert net.reader.stable == 0
    net.reader.settle(first)
    assert net.reader.stable == 1
    net.reader.settle(net.reader.mark)
    assert net.reader.stable == 4
