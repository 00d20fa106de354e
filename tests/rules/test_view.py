"""A run is shown as entities, of which everything that is shown is true of them and of what is below them."""

import pytest

from geartrain.rules.faults import FaultCode, FaultStatus
from geartrain.rules.health import Condition, Health
from geartrain.rules.lookout import EntityKind, Lookout
from geartrain.rules.pipeline import PipelineSpec
from geartrain.rules.readings import Poll, SlotState
from geartrain.rules.view import ID_MOST, Executor, Relation, RunData, Timing, View, asked_for, fit_id
from tests.rules.looks import NOW, WALL, S, end, pipeline, poll, reading, slot

SPEC = pipeline("frames: camera -> finder", "marks: finder -> sink", finder="work", sink="work")


def well() -> tuple[Poll, Poll]:
    return (
        poll(slot(name="camera"), name="camera"),
        poll(slot(name="finder"), slot(name="sink"), name="work"),
    )


def view_of(spec: PipelineSpec, *polls: Poll) -> View:
    return View(Lookout(spec).look(reading(spec, *polls))[0])


def test_a_pipeline_is_an_area_of_components_that_host_apps() -> None:
    view = view_of(SPEC, *well())
    assert [(entity.kind, entity.id, entity.parent) for entity in view.entities] == [
        ("area", "vision", None),
        ("component", "camera", "vision"),
        ("component", "work", "vision"),
        ("app", "camera", "camera"),
        ("app", "finder", "work"),
        ("app", "sink", "work"),
    ]
    assert all(entity.is_online and entity.health is Health.OK for entity in view.entities)


@pytest.mark.parametrize(
    ("kind", "id_", "relation", "expected"),
    [
        ("area", "vision", "contains", ["camera", "work"]),
        ("area", "vision", "hosts", None),
        ("component", "work", "hosts", ["finder", "sink"]),
        ("component", "work", "subcomponents", []),
        ("component", "work", "depends-on", ["camera"]),
        ("component", "camera", "belongs-to", ["vision"]),
        ("app", "sink", "is-located-on", ["work"]),
        ("app", "sink", "depends-on", ["finder"]),
        ("app", "finder", "depends-on", ["camera"]),
        ("app", "camera", "depends-on", []),
        ("app", "camera", "hosts", None),
    ],
)
def test_relations_follow_processes_and_channels(
    kind: EntityKind, id_: str, relation: Relation, expected: list[str] | None
) -> None:
    view = view_of(SPEC, *well())
    entity = view.find(kind, id_)
    assert entity is not None
    related = view.related(entity, relation)
    assert (None if related is None else [other.id for other in related]) == expected


def test_of_what_is_not_there_nothing_can_be_asked() -> None:
    view = view_of(SPEC, *well())
    assert view.find("app", "work") is None
    assert view.find("function", "camera") is None
    assert view.of_kind("function") == ()


def test_health_is_the_worst_of_all_that_is_below_and_ends_with_its_fault() -> None:
    lookout = Lookout(SPEC)
    camera = well()[0]
    broken = poll(slot(SlotState.ERROR, name="finder", errors=1), slot(name="sink"), name="work")
    late = poll(slot(name="camera"), name="camera", heartbeat_ns=NOW - 5 * S)
    view = View(lookout.look(reading(SPEC, late, broken))[0])
    healths = {(entity.kind, entity.id): view.health(entity) for entity in view.entities}
    assert healths["component", "camera"] is healths["app", "camera"] is Health.WARNING
    assert healths["component", "work"] is healths["area", "vision"] is Health.ERROR
    assert healths["app", "sink"] is Health.OK
    mended = poll(slot(name="finder", errors=1), slot(name="sink"), name="work")
    for _ in range(3):
        view = View(lookout.look(reading(SPEC, camera, mended))[0])
    assert {entity.health for entity in view.entities} == {Health.OK}


def test_who_has_failed_once_is_ill_until_three_looks_were_clean() -> None:
    lookout = Lookout(SPEC)
    camera, work = well()
    lookout.look(reading(SPEC, camera, work))
    mended = poll(slot(name="finder", errors=1), slot(name="sink"), name="work")
    seen = []
    for _ in range(4):
        view = View(lookout.look(reading(SPEC, camera, mended))[0])
        finder = view.find("app", "finder")
        assert finder is not None
        seen.append((finder.condition, finder.health))
    ill, well_again = (Condition.IDLE, Health.ERROR), (Condition.IDLE, Health.OK)
    assert seen == [ill, ill, ill, well_again]
    assert [fault.fault.occurrences for fault in view.faults] == [1]


def test_the_same_code_of_two_apps_is_two_faults_each_with_its_own_entity() -> None:
    bad = SlotState.ERROR
    view = view_of(
        SPEC,
        poll(slot(name="camera"), name="camera"),
        poll(slot(bad, name="finder", errors=1), slot(bad, name="sink", errors=2), name="work"),
    )
    assert [(found.entity.id, found.summary.fault_code) for found in view.faults] == [
        ("finder", "APP_ERROR"),
        ("sink", "APP_ERROR"),
    ]
    work = view.find("component", "work")
    sink = view.find("app", "sink")
    assert work is not None
    assert sink is not None
    assert len(view.faults_of(work)) == 2
    assert [found.summary.reporting_sources for found in view.faults_of(sink)] == [("sink",)]
    of_sink = view.fault(sink, FaultCode.APP_ERROR)
    assert of_sink is not None
    assert of_sink.frames[0].seen == slot(bad, name="sink", errors=2)
    assert view.fault(sink, "APP_HUNG") is None


def test_a_fault_is_listed_with_its_severity_and_the_times_of_day() -> None:
    broken = poll(slot(SlotState.ERROR, name="finder", errors=3), slot(name="sink"), name="work")
    (found,) = view_of(SPEC, well()[0], broken).faults
    summary = found.summary
    assert (summary.severity, summary.severity_label, summary.status) == (2, "ERROR", "CONFIRMED")
    assert summary.first_occurred == summary.last_occurred == (WALL + NOW) / 1e9
    assert summary.occurrence_count == 3
    assert "3 times" in summary.description


def test_faults_that_are_over_are_shown_when_they_are_asked_for() -> None:
    lookout = Lookout(SPEC)
    camera, work = well()
    lookout.look(reading(SPEC, camera, poll(slot(name="finder", errors=1), slot(name="sink"), name="work")))
    for _ in range(3):
        lookout.look(reading(SPEC, camera, poll(slot(name="finder", errors=1), slot(name="sink"), name="work")))
    dead = poll(slot(name="camera"), name="camera", alive=False, exit_code=-9)
    view = View(lookout.look(reading(SPEC, dead, work))[0])
    assert [found.fault.key.code for found in asked_for(view.faults, None)] == [FaultCode.PROCESS_DEAD]
    assert [found.fault.status for found in asked_for(view.faults, "healed")] == [FaultStatus.HEALED]
    assert len(asked_for(view.faults, "all")) == 2
    assert asked_for(view.faults, "pending") == asked_for(view.faults, "cleared") == ()


def test_a_dead_process_is_not_online_and_its_last_counts_are_still_shown() -> None:
    dead = poll(slot(name="camera", executions=41), name="camera", alive=False, exit_code=-9)
    view = view_of(SPEC, dead, well()[1])
    camera = view.find("app", "camera")
    assert camera is not None
    assert (camera.is_online, camera.condition, camera.health) == (False, Condition.DEAD, Health.CRITICAL)
    assert not view.is_ready(camera)
    timing = view.snapshot(camera)["timing"]
    assert isinstance(timing, Timing)
    assert timing.executions == 41


def test_what_is_not_known_is_not_shown_as_zero() -> None:
    view = view_of(SPEC, *well())
    camera = view.find("app", "camera")
    component = view.find("component", "camera")
    assert camera is not None
    assert component is not None
    timing, executor = view.snapshot(camera)["timing"], view.snapshot(component)["executor"]
    assert isinstance(timing, Timing)
    assert isinstance(executor, Executor)
    assert (timing.min_ns, timing.rate_hz, timing.period_ns, timing.budget_ns) == (None, None, None, None)
    assert executor.exit_code is None


def test_channels_are_shown_with_their_lag_their_rates_and_who_waits_in_them() -> None:
    lookout = Lookout(SPEC)

    def look(accepted: int, taken: int, now_ns: int) -> View:
        writer = end("frames", "camera", sends=True, accepted=accepted, taken=taken, waits=1, still_since_ns=now_ns)
        reader = end("frames", "finder", sends=False, taken=taken)
        polls = (
            poll(slot(name="camera"), name="camera", ends=(writer,), heartbeat_ns=now_ns),
            poll(slot(name="finder"), slot(name="sink"), name="work", ends=(reader,), heartbeat_ns=now_ns),
        )
        return View(lookout.look(reading(SPEC, *polls, now_ns=now_ns))[0])

    look(10, 8, NOW)
    view = look(30, 22, NOW + 2 * S)
    area = view.of_kind("area")[0]
    channels = view.snapshot(area)["channels"]
    assert isinstance(channels, dict)
    frames = channels["frames"]
    assert (frames.accepted, frames.taken, frames.fill) == (30, 22, 8)
    assert (frames.accepted_hz, frames.taken_hz, frames.dropped_hz) == (10.0, 7.0, 0.0)
    assert frames.waits == ("camera",)
    assert channels["marks"].waits == ()


def test_a_run_of_which_something_cannot_be_read_is_not_called_well() -> None:
    seen = reading(SPEC, *well(), unreadable=("work.1.slots is not read: it is no slot file",))
    view = View(Lookout(SPEC).look(seen)[0])
    (area,) = view.of_kind("area")
    assert view.health(area) is Health.WARNING
    run = view.snapshot(area)["run"]
    assert isinstance(run, RunData)
    assert run.unreadable == seen.unreadable


def test_a_daemon_that_is_planned_and_has_no_slot_yet_is_shown() -> None:
    view = view_of(SPEC, well()[0], poll(name="work", pid=0, alive=False))
    finder = view.find("app", "finder")
    assert finder is not None
    assert (finder.condition, finder.is_online) == (Condition.NEVER, False)


@pytest.mark.parametrize(("name", "expected"), [("camera-1_b", "camera-1_b"), ("a.b:c", "a_2e_b_3a_c"), ("ü", "_fc_")])
def test_an_id_has_letters_digits_and_two_signs(name: str, expected: str) -> None:
    assert fit_id(name) == expected


def test_two_names_never_have_one_id() -> None:
    long = "x" * 300
    late = [slot(name=name) for name in ("a.b", "a_2e_b", long, long + "y")]
    spec = pipeline("c: a.b -> e", **{"a.b": "p", "e": "p"})
    ids = [app.id for app in view_of(spec, poll(*late)).of_kind("app")]
    assert len(set(ids)) == len(ids) == 5
    assert all(len(id_) <= ID_MOST for id_ in ids)
