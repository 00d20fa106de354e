"""From look to look rates, lives and changes are added up as they were."""

from geartrain.rules.faults import Change, FaultCode, FaultStatus
from geartrain.rules.frames import Life
from geartrain.rules.lookout import Lookout, as_it_runs
from geartrain.rules.pipeline import Policy
from geartrain.rules.planes import snapshot
from geartrain.rules.readings import Poll
from tests.rules.looks import NOW, S, end, pipeline, poll, reading, slot

SPEC = pipeline("frames: camera -> sink")


def looked(accepted: int = 0, taken: int = 0, executions: int = 0, now_ns: int = NOW, **writer: int) -> list[Poll]:
    sends = end("frames", "camera", sends=True, accepted=accepted, taken=taken, **writer)
    gets = end("frames", "sink", sends=False, taken=taken, incarnation=2)
    return [
        poll(slot(name="camera", executions=executions), name="camera", ends=(sends,), heartbeat_ns=now_ns),
        poll(slot(name="sink"), name="sink", ends=(gets,), heartbeat_ns=now_ns),
    ]


def test_a_rate_is_of_a_whole_second_and_unknown_before_the_second_look() -> None:
    lookout = Lookout(SPEC)
    first, _ = lookout.look(reading(SPEC, *looked()))
    assert (first.rates, first.body_hz) == ({}, {})
    for tenths in range(1, 31):
        now_ns = NOW + tenths * S // 10
        seen = looked(accepted=tenths * 10, taken=tenths * 5, executions=tenths * 100, now_ns=now_ns)
        moment, _ = lookout.look(reading(SPEC, *seen, now_ns=now_ns))
    rate = moment.rates["frames"]
    assert (rate.accepted_hz, rate.taken_hz, rate.interval_s) == (100.0, 50.0, 1.0)
    assert moment.body_hz == {"camera": 1000.0, "sink": 0.0}
    assert moment.look == 31


def test_the_counter_of_a_writer_tells_of_earlier_lives_and_up_to_this_moment() -> None:
    lookout = Lookout(SPEC)
    lives = (Life(1, 100), Life(2, 30))
    seen = looked(accepted=25, taken=20, epoch=2)
    moment, _ = lookout.look(reading(SPEC, *seen, lives={"frames": lives}))
    (frames,) = moment.channels
    assert frames.accepted == 130


def test_a_channel_that_may_go_stale_is_told_of_with_its_age() -> None:
    plane = snapshot(name="frames", seq=3, last_ns=NOW - 2 * S, budget_ns=S, regressions=0, now_ns=NOW, is_over=False)
    lookout = Lookout(SPEC)
    moment, _ = lookout.look(reading(SPEC, *looked(), planes=(plane,)))
    assert [(counts.stale, counts.age_s) for counts in moment.channels] == [(True, 2.0)]
    moment, _ = lookout.look(reading(SPEC, *looked()))
    assert [(counts.stale, counts.age_s) for counts in moment.channels] == [(None, None)]


def test_an_end_that_was_never_written_counts_nothing() -> None:
    lookout = Lookout(SPEC)
    moment, _ = lookout.look(reading(SPEC, *looked(accepted=5, incarnation=0)))
    (frames,) = moment.channels
    assert frames.accepted == 0


def test_the_way_back_of_a_call_is_a_channel_of_its_own() -> None:
    spec = pipeline("svc: client -> server")
    back = end("svc.replies", "server", sends=True)
    seen = reading(spec, poll(slot(name="server"), name="server", ends=(back,)))
    runs = as_it_runs(spec, seen)
    assert [(channel.name, channel.writer and channel.writer.daemon) for channel in runs.channels] == [
        ("svc", "client"),
        ("svc.replies", "server"),
    ]
    policies: list[Policy] = [channel.policy for channel in runs.channels]
    assert policies == ["block", "block"]
    assert as_it_runs(spec, reading(spec)) == spec
    moment, _ = Lookout(spec).look(seen)
    assert [counts.channel for counts in moment.channels] == ["svc", "svc.replies"]


def test_what_went_through_a_channel_is_known_also_when_its_ends_are_gone() -> None:
    spec = pipeline("svc: client -> server")
    lookout = Lookout(spec)
    back = end("svc.replies", "server", sends=True, accepted=9)
    lookout.look(reading(spec, poll(slot(name="server"), name="server", ends=(back,))))
    moment, _ = lookout.look(reading(spec, poll(slot(name="server"), name="server")))
    assert [(counts.channel, counts.accepted) for counts in moment.channels] == [("svc", 0), ("svc.replies", 9)]


def test_changes_are_numbered_without_a_gap_and_go_on_in_the_next_life() -> None:
    lookout = Lookout(SPEC)
    well = looked()
    ill = [poll(slot(name="camera", errors=1), name="camera"), poll(slot(name="sink", errors=2), name="sink")]
    changes: list[Change] = []
    for seen in (well, ill, ill, ill, ill):
        changes += lookout.look(reading(SPEC, *seen))[1]
    assert [(change.number, change.fault.key.entity, change.fault.status) for change in changes] == [
        (1, "camera", FaultStatus.CONFIRMED),
        (2, "sink", FaultStatus.CONFIRMED),
        (3, "camera", FaultStatus.HEALED),
        (4, "sink", FaultStatus.HEALED),
    ]
    assert changes[0].frame is not None
    assert changes[2].frame is None
    again = Lookout(SPEC)
    for change in changes:
        again.go_on_from(change)
    assert again.book.faults == lookout.book.faults
    worse = [poll(slot(name="camera", errors=2), name="camera"), poll(slot(name="sink", errors=2), name="sink")]
    ((new),) = again.look(reading(SPEC, *worse))[1]
    assert (new.number, new.fault.key.code, new.fault.occurrences) == (5, FaultCode.APP_ERROR, 2)
    cleared = again.clear(new.fault.key)
    assert cleared is not None
    assert cleared.number == 6
