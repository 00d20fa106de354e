"""Daemons in the place of services, and what is wrong with services."""

from typing import Any

import pytest

from geartrain.rules import service_places
from geartrain.rules.pipeline import PipelineSpec, ServiceSpec
from geartrain.rules.pipeline_file import read, tables_of
from geartrain.rules.service_places import planned, served
from geartrain.rules.services import Service

BARE = {"run": "books:report", "every": "5s"}
DAEMONS = {"camera": {"run": "a:B", "process": "eyes"}, "ffmpeg": {"command": ["ffmpeg"]}}


def spec(**services: dict[str, Any]) -> PipelineSpec:
    reading = read({"pipeline": {"name": "p"}, "services": services, "daemons": DAEMONS})
    assert reading.faults == ()
    return reading.spec


def faults(**services: dict[str, Any]) -> list[str]:
    return [str(fault) for fault in service_places.faults(spec(**services))]


def refused(**keys: Any) -> list[str]:
    tables = {"pipeline": {"name": "p"}, "services": {"report": {**BARE, **keys}}}
    return [f"{fault.key} {fault.said}" for fault in read(tables).faults]


def test_each_replica_is_a_daemon_and_one_keeper_keeps_all_services() -> None:
    whole = served(spec(report=BARE, tidy={**BARE, "replicas": ["eyes"]}))
    assert whole.services == ()
    assert [(one.name, one.process) for one in whole.daemons[2:]] == [
        ("report-1", "report-1"), ("report-2", "report-2"), ("tidy-1", "eyes"), ("services", "services")
    ]  # fmt: skip
    assert all(one.on_error == "restart" for one in whole.daemons[2:])
    asks = [str(channel.writer) for channel in whole.channels if str(channel.reader) == "services.asks"]
    told = [str(channel.reader) for channel in whole.channels if str(channel.writer) == "services.tells"]
    assert asks == ["report-1.asks", "report-2.asks", "tidy-1.asks"]
    assert told == ["report-1.told", "report-2.told", "tidy-1.told"]
    assert {channel.policy for channel in whole.channels} == {"latest"}


def test_a_pipeline_without_services_stays_as_it_is() -> None:
    assert served(spec()) == spec()


def test_the_keeper_has_a_name_that_nobody_else_has() -> None:
    whole = served(spec(services={**BARE, "replicas": ["eyes"]}))
    assert whole.daemons[-1].name == "services"
    taken = read({"pipeline": {"name": "p"}, "services": {"a": BARE}, "daemons": {"services": {"run": "a:B"}}}).spec
    assert served(taken).daemons[-1].name == "services-2"


def test_what_is_planned_is_what_is_said() -> None:
    (said,) = spec(a={**BARE, "overlap": "wait", "missed": "run_once", "grace": "1s", "silent_after": "2s"}).services
    assert planned(said) == Service(
        name="a", every_ns=5 * 10**9, overlap="wait", missed="run_once", silent_after_ns=2 * 10**9, grace_ns=10**9
    )


def test_what_is_read_is_written_and_read_again() -> None:
    full = {**BARE, "replicas": ["eyes"], "overlap": "allow", "missed": "catch_up", "grace": "1s", "silent_after": "2s"}
    first = spec(report=full, tidy={**BARE, "replicas": 3})
    assert read(tables_of(first)).spec == first
    assert first.services[0] == ServiceSpec(
        name="report",
        run="books:report",
        every=5,
        replicas=("eyes",),
        overlap="allow",
        missed="catch_up",
        grace=1,
        silent_after=2,
    )


def test_everything_that_is_wrong_with_the_keys_is_said_at_once() -> None:
    met = refused(
        run=3, every="0s", replicas=0, overlap="queue", missed="later", grace=-1, silent_after="0s", jitter="1s"
    )
    assert sorted(said.split()[0] for said in met) == [
        f"services.report.{key}"
        for key in ("every", "grace", "jitter", "missed", "overlap", "replicas", "run", "silent_after")
    ]


@pytest.mark.parametrize("replicas", [0, -1, True, 1.5, "2", [], [""], [3], ["a", None], None])
def test_replicas_are_a_number_or_names(replicas: object) -> None:
    (said,) = refused(replicas=replicas)
    assert said.startswith("services.report.replicas must be a whole number, at least 1, or a list of processes")


def test_what_runs_and_how_often_must_be_said() -> None:
    read_bare = read({"pipeline": {"name": "p"}, "services": {"report": {}}})
    assert [fault.key for fault in read_bare.faults] == ["services.report.run", "services.report.every"]
    # It is good enough to look for other faults.
    assert served(read_bare.spec).daemons == ()


def test_replicas_that_cannot_be_where_they_are_to_be_are_told() -> None:
    (unknown,) = faults(report={**BARE, "replicas": ["eye"]})
    assert "services.report.replicas: no daemon runs in a process 'eye'; did you mean 'eyes'?" in unknown
    (command,) = faults(report={**BARE, "replicas": ["ffmpeg"]})
    assert "process 'ffmpeg' is a command" in command
    (twice,) = faults(report={**BARE, "replicas": ["eyes", "eyes"]})
    assert "names process 'eyes' twice" in twice


def test_names_that_are_taken_are_told() -> None:
    tables = {
        "pipeline": {"name": "p"},
        "daemons": {"report-2": {"run": "a:B"}, "other": {"run": "a:B", "process": "tidy-1"}},
        "channels": {"count-1-asks": {"from": "other.a", "to": "report-2.b"}},
        "services": {"report": BARE, "tidy": BARE, "count": BARE},
    }
    said = [(fault.key, fault.said.split(",")[0]) for fault in service_places.faults(read(tables).spec)]
    assert said == [
        ("services.report", "has a replica 'report-2'"),
        ("services.tidy", "has a replica 'tidy-1'"),
        ("services.count", "needs channels called 'count-1-asks' and 'count-1-told'; give yours another name"),
    ]
