"""Two sessions and a bad link: nothing is lost, nothing comes twice without a mark, never more than the window."""

from collections import deque

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from geartrain.errors import ChannelClosed, PeerLost, PeerRefused, WireError
from geartrain.rules import frames
from geartrain.rules.frames import Data, Life, Settings
from geartrain.rules.meeting import End, Self
from geartrain.rules.pipeline import Mark
from geartrain.rules.session import Loss, Reader, Writer

SECOND = 1_000_000_000
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[int])


def agreed(maxsize: int = 4, **changes: str) -> Settings:
    words = {"channel": "numbers", "shape": "int", "policy": "block", "ack": "batch", "keep": "stable"} | changes
    return Settings(maxsize=maxsize, max_bytes=1 << 20, **words)


class Net:
    """A reader that binds, a writer that connects, and the frames between them."""

    def __init__(self, maxsize: int = 4, *, deliveries: int | None = 1000, **changes: str) -> None:
        self.now_ns = 0
        self.deliveries = deliveries
        self.agreed = agreed(maxsize, **changes)
        self.lives = 0
        self.connections = 0
        self.address = b"peer-0"
        self.to_reader: deque[tuple[bytes, bytes]] = deque()
        self.to_writer: deque[tuple[bytes, bytes]] = deque()
        self.writer = self.new_writer()
        self.reader = self.new_reader()

    def _me(self, *, binds: bool) -> Self:
        self.lives += 1
        return Self(
            "channel 'numbers'",
            self.agreed,
            "int",
            incarnation=self.lives,
            epoch=self.lives,
            binds=binds,
            lost_after_ns=None,
        )

    def new_writer(self, *lives: Life) -> Writer:
        return Writer(
            self._me(binds=False),
            self.now_ns,
            max_bytes=1 << 20,
            retain=64,
            max_deliveries=self.deliveries,
            lives=lives,
        )

    def new_reader(self) -> Reader:
        return Reader(self._me(binds=True), self.now_ns)

    def say(self) -> None:
        for saying in self.writer.words():
            self.to_reader.append((self.address, bytes(saying.frame)))
        for saying in self.reader.words():
            self.to_writer.append((saying.peer, bytes(saying.frame)))

    def cut(self) -> None:
        """What is on its way is gone. The writer comes back from another address, with a transport's empty frame."""
        self.to_reader.clear()
        self.to_writer.clear()
        self.connections += 1
        self.address = f"peer-{self.connections}".encode()
        self.writer.lose_link()
        self.to_reader.append((self.address, b""))

    def deliver_to_reader(self) -> None:
        address, frame = self.to_reader.popleft()
        word = frames.decode(frame) if frame else None
        reachable = self.reader.peer == self.address
        if isinstance(word, Data) and address == self.reader.peer and self.reader.connected:
            self.reader.hear(address, None, self.now_ns)
            if self.reader.wants(word):
                self.reader.arrived(word, frames.items_of(word, _decoder))
        else:
            self.reader.hear(address, word, self.now_ns, present_is_reachable=reachable)
        self.say()

    def deliver_to_writer(self) -> None:
        address, frame = self.to_writer.popleft()
        if address == self.address:
            self.writer.hear(b"", frames.decode(frame), self.now_ns)
        self.say()

    def tick(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)
        self.writer.tick(self.now_ns)
        self.reader.tick(self.now_ns)
        self.say()

    def send(self, item: int) -> bool:
        if not self.writer.has_room():
            return False
        _encoder.encode_into(item, self.writer.batch, -1)
        self.writer.accept()
        return True

    def settle(self) -> None:
        """The link is good from now on: let everything arrive."""
        for _ in range(200):
            self.writer.flush()
            self.say()
            while self.to_reader or self.to_writer:
                if self.to_reader:
                    self.deliver_to_reader()
                if self.to_writer:
                    self.deliver_to_writer()
            self.tick(2)


class BadLink(RuleBasedStateMachine):
    """Every fault that a link and a pair of processes can have, in any order."""

    @initialize(maxsize=st.integers(0, 5), ack=st.sampled_from(["batch", "each"]))
    def begin(self, maxsize: int, ack: str) -> None:
        self.net = met(maxsize, ack=ack)
        self.got: list[Mark] = []
        self.values: dict[tuple[int, int], int] = {}
        self.expected: dict[int, int] = {}
        self.asked = False
        self.reader_died_in: set[int] = set()
        self.lives: tuple[Life, ...] = ()

    @rule(count=st.integers(1, 4), freely=st.integers(0, 2))
    def send(self, count: int, freely: int) -> None:
        for _ in range(count):
            number = self.net.writer.accepted + 1
            if self.net.send(number * 7):
                self.expected[self.net.writer.me.epoch] = number
                if self.net.writer.ripe:
                    self.net.writer.flush()
                self.send_freely(freely)

    def send_freely(self, most: int) -> None:
        """As an owner does who does not look: it only counts."""
        writer = self.net.writer
        writer.allow(most)
        while writer.free:
            assert writer.accepted < writer.limit
            _encoder.encode_into((writer.accepted + 1) * 7, writer.batch, -1)
            writer.size = len(writer.batch)
            writer.free -= 1
            self.expected[writer.me.epoch] = writer.accepted

    @rule()
    def flush(self) -> None:
        self.net.writer.flush()
        self.net.say()

    @rule(most=st.integers(0, 3))
    def receive(self, most: int = 0) -> None:
        reader = self.net.reader
        if not self.asked:
            reader.ask()
            self.asked = True
        if reader.items:
            item = reader.take()
            assert item == reader.mark.sequence * 7
            self.got.append(reader.mark)
            self.asked = False
            reader.flow()
            reader.allow(most)
            assert reader.mark == self.got[-1]
            self.take_freely()
        else:
            reader.flow(at_once=True)
        self.net.say()

    def take_freely(self) -> None:
        """As an owner does who does not look: it only counts."""
        reader = self.net.reader
        while reader.free:
            reader.free -= 1
            assert reader.items.popleft() == reader.mark.sequence * 7
            self.got.append(reader.mark)

    @rule(count=st.integers(1, 6))
    def frames_to_reader(self, count: int) -> None:
        self.net.writer.flush()
        self.net.say()
        for _ in range(min(count, len(self.net.to_reader))):
            self.net.deliver_to_reader()

    @rule(count=st.integers(1, 6))
    def frames_to_writer(self, count: int) -> None:
        for _ in range(min(count, len(self.net.to_writer))):
            self.net.deliver_to_writer()

    @rule()
    def frames_to_both(self) -> None:
        for _ in range(4):
            self.frames_to_reader(9)
            self.frames_to_writer(9)

    @precondition(lambda self: self.net.to_reader)
    @rule()
    def lose_a_frame(self) -> None:
        self.net.to_reader.popleft()

    @precondition(lambda self: self.net.to_writer)
    @rule()
    def lose_an_answer(self) -> None:
        self.net.to_writer.popleft()

    @precondition(lambda self: self.net.to_reader)
    @rule()
    def repeat_a_frame(self) -> None:
        self.net.to_reader.appendleft(self.net.to_reader[0])

    @precondition(lambda self: self.net.to_writer)
    @rule()
    def repeat_an_answer(self) -> None:
        self.net.to_writer.append(self.net.to_writer[0])

    @rule(seconds=st.floats(0.05, 6))
    def time_passes(self, seconds: float) -> None:
        self.net.tick(seconds)

    @rule()
    def cut_the_link(self) -> None:
        self.net.cut()

    @rule()
    def kill_the_reader(self) -> None:
        self.reader_died_in.add(self.net.writer.me.epoch)
        self.net.reader = self.net.new_reader()
        self.net.cut()
        self.asked = False

    @precondition(lambda self: self.net.reader.epoch in (0, self.net.writer.me.epoch))
    @rule()
    def kill_the_writer(self) -> None:
        """Its counter outlives it. Its unread items live on in the reader, so the reader lives for now."""
        died = self.net.writer
        self.lives = (*self.lives, Life(died.me.epoch, died.accepted))
        self.net.writer = self.net.new_writer(*self.lives)
        self.net.cut()

    @invariant()
    def never_more_than_the_window(self) -> None:
        if not hasattr(self, "net"):
            return
        maxsize = max(1, self.net.agreed.maxsize)
        reader = self.net.reader
        runs = [run for run in reader._runs if run.epoch == reader.epoch]
        assert sum(run.left for run in runs) + reader.free * (reader.mark.epoch == reader.epoch) <= maxsize
        assert self.net.writer.accepted - self.net.writer.stable <= 64

    @invariant()
    def with_repeats_taken_out_numbers_only_rise(self) -> None:
        if not hasattr(self, "net"):
            return
        once = [(mark.epoch, mark.sequence) for mark in self.got if not mark.redelivered]
        assert once == sorted(set(once))

    def teardown(self) -> None:
        if not hasattr(self, "net"):
            return
        while True:
            self.net.settle()
            before = len(self.got)
            for _ in range(100):
                self.receive()
            self.net.settle()
            if len(self.got) == before and not self.net.reader.items:
                break
        writer, reader = self.net.writer, self.net.reader
        epoch = writer.me.epoch
        numbers = {mark.sequence for mark in self.got if mark.epoch == epoch}
        assert numbers == set(range(1, writer.accepted + 1)), "an item of the living writer was lost"
        for loss in reader.losses:
            arrived = max((mark.sequence for mark in self.got if mark.epoch == loss.epoch), default=0)
            missing = self.expected.get(loss.epoch, 0) - arrived
            # What a reader had in hand when it died, and the writer after it, may be counted although it arrived.
            assert loss.lost is not None
            assert loss.lost >= missing if loss.epoch in self.reader_died_in else loss.lost == missing


TestBadLink = BadLink.TestCase
TestBadLink.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


class BadLinkForLong(BadLink):
    """The same, until one is tired of it."""


TestBadLinkForLong = pytest.mark.soak(BadLinkForLong.TestCase)
TestBadLinkForLong.settings = settings(max_examples=10_000, stateful_step_count=80, deadline=None)


# -- one thing at a time --------------------------------------------------------------------------------------------


def met(maxsize: int = 4, *, deliveries: int | None = 1000, **changes: str) -> Net:
    net = Net(maxsize, deliveries=deliveries, **changes)
    net.cut()
    net.settle()
    assert net.writer.connected
    assert net.reader.connected
    return net


def receive_all(net: Net) -> list[int]:
    got: list[int] = []
    for _ in range(1000):
        net.reader.ask()
        if not net.reader.items:
            net.reader.flow(at_once=True)
            net.settle()
            if not net.reader.items:
                return got
        got.append(net.reader.take())
        net.reader.flow()
        net.say()
    raise AssertionError("there is no end to it")


def test_what_was_not_stable_is_sent_again_to_a_new_reader_and_marked() -> None:
    net = met(8)
    for item in (1, 2, 3, 4):
        assert net.send(item)
    net.settle()
    for _ in range(3):
        net.reader.ask()
        net.reader.take()
    net.reader.flow(at_once=True)
    net.say()
    net.settle()
    assert net.writer.stable == 2
    net.reader = net.new_reader()
    net.cut()
    net.settle()
    assert receive_all(net) == [3, 4]
    assert net.reader.redelivered == 2


def test_a_new_reader_whose_first_answer_is_lost_still_gets_repeats_with_a_mark() -> None:
    """It has heard the writer's Hello, so it knows where to go on; that does not make it the reader of before."""
    net = met(4)
    net.send(1)
    net.settle()
    net.reader.ask()
    net.reader.take()
    net.reader = net.new_reader()
    net.cut()
    while net.reader.epoch == 0:
        net.tick(1)
        while net.to_reader:
            net.deliver_to_reader()
        net.to_writer.clear()
    net.cut()
    net.settle()
    assert receive_all(net) == [1]
    assert net.reader.mark.redelivered


def test_a_link_that_was_lost_and_is_back_repeats_nothing() -> None:
    net = met(8)
    for item in range(6):
        net.send(item)
    net.settle()
    net.reader.ask()
    assert net.reader.take() == 0
    net.cut()
    net.settle()
    assert receive_all(net) == [1, 2, 3, 4, 5]
    assert net.reader.redelivered == 0


def test_a_rendezvous_has_room_for_as_many_as_are_asked_for() -> None:
    net = met(0)
    assert not net.send(1)
    net.reader.ask()
    net.reader.flow(at_once=True)
    net.settle()
    assert net.send(1)
    assert not net.send(2)


def test_the_end_comes_after_the_last_item_and_is_stable_when_it_was_heard() -> None:
    net = met()
    net.send(5)
    net.writer.close()
    net.say()
    net.settle()
    assert not net.reader.ended
    assert receive_all(net) == [5]
    assert net.reader.ended
    assert not net.reader.aborted
    net.settle()
    assert net.writer.settled


def test_a_writer_that_left_by_an_error_is_known_to_have_aborted() -> None:
    net = met()
    net.writer.close(aborted=True)
    net.settle()
    assert net.reader.ended
    assert net.reader.aborted


def test_a_reader_that_has_closed_ends_the_writer() -> None:
    net = met()
    net.reader.close()
    net.say()
    net.settle()
    assert net.reader.bye_heard
    with pytest.raises(ChannelClosed, match="reader of channel 'numbers' has closed"):
        net.writer.has_room()


def test_a_writer_whose_reader_will_never_come_again_has_nothing_to_wait_for() -> None:
    net = met()
    net.send(1)
    net.writer.lose_reader(discards=False)
    assert net.writer.settled
    with pytest.raises(ChannelClosed, match="reader of channel 'numbers' has closed"):
        net.writer.has_room()


def test_a_writer_whose_reader_died_and_is_ignored_discards_and_counts() -> None:
    net = met()
    net.writer.lose_reader(discards=True)
    net.writer.has_room()
    net.writer.overflow(b"1")
    net.writer.overflow(b"2")
    assert net.writer.dropped == 2
    assert net.writer.settled


def test_a_reader_whose_writer_will_never_come_again_takes_what_has_come_and_ends() -> None:
    net = met()
    net.send(5)
    net.settle()
    net.reader.lose_writer()
    assert not net.reader.ended
    net.reader.ask()
    assert net.reader.take() == 5
    assert net.reader.ended
    assert not net.reader.aborted


def test_what_a_writer_had_sent_before_it_died_arrives_also_when_its_death_is_known_first() -> None:
    net = met(8)
    for item in range(2):
        net.send(item)
        net.writer.flush()
    net.say()
    net.reader.lose_writer((Life(net.writer.me.epoch, 3),))
    assert net.reader.losses == (Loss(1, 3),)
    while net.to_reader:
        net.deliver_to_reader()
    assert [net.reader.take(), net.reader.take()] == [0, 1]
    assert net.reader.ended
    assert net.reader.handed_over == 2


def test_what_died_with_a_writer_that_never_came_is_counted_too() -> None:
    net = Net(8)
    net.reader.lose_writer((Life(1, 3), Life(2, 4)))
    assert net.reader.losses == (Loss(1, 3), Loss(2, 4))
    assert net.reader.ended


def test_a_new_life_of_the_writer_tells_what_died_with_the_old_one() -> None:
    net = met(8)
    for item in range(5):
        net.send(item)
    net.writer.flush()
    net.say()
    net.deliver_to_reader()
    for item in range(3):
        net.send(item)
    net.writer = net.new_writer(Life(net.writer.me.epoch, net.writer.accepted))
    net.cut()
    net.settle()
    assert net.reader.losses == (Loss(1, 3),)
    assert receive_all(net) == [0, 1, 2, 3, 4]
    unknown = net.new_writer()
    net.writer = unknown
    net.cut()
    net.settle()
    assert net.reader.losses[-1].lost is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shape": "str"}, "writer sends int, reader expects int"),
        ({"channel": "words"}, "channel is 'words' here and 'numbers' there"),
        ({"policy": "latest"}, "policy is 'latest' here and 'block' there"),
        ({"ack": "each"}, "ack is 'each' here and 'batch' there"),
    ],
)
def test_two_ends_that_do_not_fit_are_refused_on_both_sides(changes: dict[str, str], said: str) -> None:
    net = Net()
    net.reader = Reader(Self("channel 'numbers'", agreed(4, **changes), "int", incarnation=9, epoch=9, binds=True), 0)
    net.cut()
    net.settle()
    for end in (net.reader, net.writer):
        assert isinstance(end.failure, PeerRefused)
        assert said in str(end.failure)


def strangers_hello(net: Net, *, issued: bool = False, epoch: int = 1) -> bytes:
    me = Self("channel 'numbers'", net.agreed, "int", incarnation=77, epoch=epoch, issued=issued)
    return frames.encode(Writer(me, 0, max_bytes=1, retain=1).hello())


def answer_to(net: Net, hello: bytes, *, reachable: bool = True) -> object:
    net.reader.hear(b"stranger", frames.decode(hello), net.now_ns, present_is_reachable=reachable)
    (*_, saying) = net.reader.words()
    return frames.decode(saying.frame)


def test_a_second_writer_beside_a_live_one_is_told_that_the_place_is_taken() -> None:
    net = met()
    answer = answer_to(net, strangers_hello(net))
    assert answer == frames.Refused("channel 'numbers' has a live writer already", final=False)
    assert net.send(1)
    assert receive_all(net) == [1]


@pytest.mark.parametrize("why", ["unreachable", "silent", "issued"])
def test_a_newcomer_takes_over_when_the_present_peer_is_gone_or_a_supervisor_says_so(why: str) -> None:
    net = met()
    if why == "silent":
        net.now_ns += 16 * SECOND
    if why == "issued":
        net.reader.me = msgspec.structs.replace(net.reader.me, issued=True)
    hello = strangers_hello(net, issued=why == "issued", epoch=9)
    assert isinstance(answer_to(net, hello, reachable=why != "unreachable"), frames.Flow)
    assert net.reader.peer == b"stranger"


def test_a_connecting_end_that_is_always_busy_gives_up_and_says_why() -> None:
    me = Self("channel 'numbers'", agreed(), "int", incarnation=1, epoch=1, connect_within_ns=SECOND)
    writer = Writer(me, 0, max_bytes=1, retain=1)
    writer.tick(0)
    writer.hear(b"", frames.Refused("taken", final=False), 10)
    writer.tick(2 * SECOND)
    assert isinstance(writer.failure, PeerRefused)
    alone = Writer(me, 0, max_bytes=1, retain=1)
    alone.tick(2 * SECOND)
    assert isinstance(alone.failure, PeerLost)
    assert "no reader came within 1 s" in str(alone.failure)


def test_a_peer_that_is_silent_for_too_long_is_lost() -> None:
    net = met()
    ends: list[End] = [net.writer, net.reader]
    for end in ends:
        end.me = msgspec.structs.replace(end.me, lost_after_ns=30 * SECOND)
        end.tick(end._heard_ns + 29 * SECOND)
        assert end.failure is None
        end.tick(end._heard_ns + 30 * SECOND)
        assert isinstance(end.failure, PeerLost)
    with pytest.raises(PeerLost, match="reader was silent for 30 s"):
        net.writer.has_room()


def test_idle_ends_beat_so_that_they_are_not_taken_for_lost() -> None:
    net = met()
    for _ in range(100):
        net.tick(5)
        while net.to_reader or net.to_writer:
            if net.to_reader:
                net.deliver_to_reader()
            if net.to_writer:
                net.deliver_to_writer()
    assert net.now_ns - net.reader._heard_ns <= 10 * SECOND


@pytest.mark.parametrize("binds", [True, False])
@pytest.mark.parametrize("state", ["alone", "connected", "cut", "failed"])
def test_after_a_tick_there_is_nothing_to_do_before_the_time_it_says(binds: bool, state: str) -> None:
    """An end that wants to be ticked at once, again and again, would keep its process busy."""
    net = Net() if state == "alone" else met()
    end: End = net.reader if binds else net.writer
    end.me = msgspec.structs.replace(end.me, lost_after_ns=30 * SECOND, connect_within_ns=60 * SECOND)
    if state == "cut":
        end.lose_link()
    if state == "failed":
        end.fail(PeerLost("gone"))
    for _ in range(200):
        end.tick(net.now_ns)
        assert end.next_tick_ns(net.now_ns) > net.now_ns
        net.now_ns = end.next_tick_ns(net.now_ns)


@pytest.mark.parametrize(("policy", "kept"), [("latest", [9]), ("drop_oldest", [7, 8, 9]), ("drop_newest", [0, 1, 2])])
def test_a_lossy_reader_never_stops_the_writer_and_counts_what_it_drops(policy: str, kept: list[int]) -> None:
    net = met(1 if policy == "latest" else 3, policy=policy)
    for item in range(10):
        assert net.send(item)
        net.settle()
    assert receive_all(net) == kept
    assert net.reader.dropped == 10 - len(kept)


@pytest.mark.parametrize(
    ("policy", "kept"), [("latest", [0, 9]), ("drop_oldest", [0, 1, 2, 7, 8, 9]), ("drop_newest", [0, 1, 2, 3, 4, 5])]
)
def test_a_lossy_writer_without_credit_keeps_what_its_policy_says(policy: str, kept: list[int]) -> None:
    maxsize = 1 if policy == "latest" else 3
    net = Net(maxsize, policy=policy)
    for item in range(10):
        if not net.send(item):
            net.writer.overflow(_encoder.encode(item))
    assert net.writer.dropped == 10 - len(kept)
    net.writer.close()
    got: list[int] = []
    net.cut()
    while not net.reader.ended:
        net.tick(1)
        while net.to_reader or net.to_writer:
            if net.to_reader:
                net.deliver_to_reader()
            if net.reader.items:
                got.append(net.reader.take())
            if net.to_writer:
                net.deliver_to_writer()
    assert sorted(set(got)) == got
    assert set(got) <= set(kept)
    assert net.reader.dropped + len(got) == len(kept)


def test_with_manual_acknowledgement_an_item_is_stable_when_the_owner_says_so() -> None:
    net = met(4, ack="manual")
    net.send(1)
    net.send(2)
    net.settle()
    for _ in range(2):
        net.reader.ask()
        net.reader.take()
    net.reader.ask()
    assert net.reader.stable == 0
    net.reader.settle(Mark(net.reader.epoch, 1))
    assert net.reader.stable == 1


def test_with_manual_acknowledgement_the_end_is_stable_when_all_before_it_is() -> None:
    net = met(4, ack="manual")
    net.send(1)
    net.settle()
    net.reader.take()
    net.reader.settle(Mark(net.reader.epoch, 1))
    net.writer.close()
    net.settle()
    net.reader.ask()
    net.reader.flow(at_once=True)
    net.settle()
    assert net.writer.settled


def test_what_is_taken_is_stable_where_the_channel_says_so() -> None:
    net = met(4, keep="taken")
    net.send(1)
    net.settle()
    net.reader.take()
    assert net.reader.stable == 1


# -- frames ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff",
        b"hello",
        b"\x91\x63",
        b"\xc1\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 50_000,
        b"\xa1\xff",
        bytes(70_000),
    ],
)
def test_what_is_no_frame_is_a_typed_error(frame: bytes) -> None:
    with pytest.raises(WireError):
        frames.decode(frame)


def test_items_of_another_type_are_a_typed_error_that_says_which() -> None:
    batch = frames.new_batch()
    _encoder.encode_into("word", batch, -1)
    frames.seal(batch, flags=0, epoch=1, first=5, count=1)
    data = frames.decode(batch)
    assert isinstance(data, Data)
    with pytest.raises(WireError, match="from number 5 on do not decode: ValidationError: Expected `int`, got `str`"):
        frames.items_of(data, _decoder)
