"""What Prometheus reads is as Prometheus wants it: parsed here by its own client."""

import re

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.faces.web_parts import WELL, app, process, served
from tests.faces.web_parts import ill as with_changes


async def families() -> dict[str, Metric]:
    late = app("camera", "eyes", executions=41, errors=2, overruns=3, lateness_s=-0.25)
    live = with_changes(daemons=(late, WELL.daemons[1]), processes=(process("eyes", restarts=10), process("brain")))
    async with served(live) as server:
        answer = await server.ask("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {family.name: family for family in text_string_to_metric_families(answer.body.decode())}


async def test_figures_are_those_of_the_last_look() -> None:
    found = await families()

    def value(family: str, sample: str, **labels: str) -> float:
        return next(one.value for one in found[family].samples if one.name == sample and one.labels == labels)

    camera = {"process": "eyes", "actor": "camera"}
    assert value("geartrain_actor_executions", "geartrain_actor_executions_total", **camera) == 41
    assert value("geartrain_actor_errors", "geartrain_actor_errors_total", **camera) == 2
    assert value("geartrain_actor_overruns", "geartrain_actor_overruns_total", **camera) == 3
    assert value("geartrain_actor_lateness_seconds", "geartrain_actor_lateness_seconds", **camera) == -0.25
    assert value("geartrain_process_restarts", "geartrain_process_restarts_total", process="eyes") == 10
    assert value("geartrain_process_up", "geartrain_process_up", process="brain") == 1
    assert value("geartrain_observer_poll_seconds", "geartrain_observer_poll_seconds") == 0.002


async def test_every_counter_ends_in_total_and_the_base_unit_is_the_second() -> None:
    found = await families()
    for family in found.values():
        assert family.type in ("counter", "gauge", "histogram"), family
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample
            assert not re.search(r"_(ms|ns|us|milliseconds)\b", sample.name)


async def test_labels_are_process_and_actor_and_nothing_that_grows() -> None:
    labels = {label for family in (await families()).values() for sample in family.samples for label in sample.labels}
    assert labels == {"process", "actor", "le"}


async def test_durations_are_a_histogram_whose_last_bucket_has_all() -> None:
    samples = (await families())["geartrain_actor_duration_seconds"].samples
    counts = [sample.value for sample in samples if sample.name.endswith("_bucket")]
    assert counts == sorted(counts)
    assert samples[-1].labels["le"] == "+Inf" or counts[-1] == 44
    assert counts[0] == 1


async def test_before_the_first_look_the_gateway_tells_of_itself_alone() -> None:
    async with served(live=None) as server:
        text = (await server.ask("/metrics")).body.decode()
    assert "geartrain_gateway_requests_total" in text
    assert "geartrain_process_up" not in text
