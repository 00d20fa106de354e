"""What is asked of the API is answered from the last look, or refused in words; on both loops, over real sockets."""

from typing import get_args

import pytest

from geartrain.faces.web_entities import FAMILIES, RELATIONS
from geartrain.rules.faults import Debounce
from geartrain.rules.lookout import EntityKind
from geartrain.rules.readings import Held, SlotState
from geartrain.rules.view import Relation
from tests.faces.web_parts import VIEW, brain, eyes, ill, seen, served
from tests.rules import looks

BROKEN_CAMERA = looks.slot(SlotState.ERROR, name="camera", errors=1)
BROKEN_DETECTOR = looks.slot(SlotState.ERROR, name="detector", errors=1)
LATE_CAMERA = looks.slot(
    name="camera", overruns=1, held=Held.OVER_BUDGET, held_since_ns=1, held_took_ns=3_000_000, budget_ns=1_000_000
)  # fmt: skip


async def test_the_root_says_what_is_served_and_what_is_not() -> None:
    async with served() as server:
        root = (await server.ask("/api/v1")).json()
    assert all(root["capabilities"][kind] for kind in FAMILIES)
    assert not root["capabilities"]["triggers"]
    assert not root["capabilities"]["operations"]
    assert "GET /api/v1/faults/stream" in root["endpoints"]


@pytest.mark.parametrize(("kind", "ids"), [("areas", ["vision"]), ("components", ["eyes", "brain"]),
                                           ("apps", ["camera", "detector"]), ("functions", [])])  # fmt: skip
async def test_every_kind_lists_its_entities_and_how_many(kind: str, ids: list[str]) -> None:
    async with served() as server:
        found = (await server.ask(f"/api/v1/{kind}")).json()
        assert [entity["id"] for entity in found["items"]] == ids
        assert found["x-medkit"]["total_count"] == len(ids)
        for entity in found["items"]:
            assert (await server.ask(entity["href"])).json() == entity


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("areas/vision/components", ["eyes", "brain"]),
        ("areas/vision/contains", ["eyes", "brain"]),
        ("components/eyes/hosts", ["camera"]),
        ("components/eyes/subcomponents", []),
        ("components/brain/depends-on", ["eyes"]),
        ("components/eyes/depends-on", []),
        ("components/eyes/belongs-to", ["vision"]),
        ("apps/camera/is-located-on", ["eyes"]),
        ("apps/detector/depends-on", ["camera"]),
        ("apps/detector/belongs-to", ["vision"]),
    ],
)
async def test_relations_are_those_of_the_pipeline(path: str, ids: list[str]) -> None:
    async with served() as server:
        found = (await server.ask(f"/api/v1/{path}")).json()
    assert [entity["id"] for entity in found["items"]] == ids
    assert found["_links"]["self"] == f"/api/v1/{path}"


@pytest.mark.parametrize("path", ["apps/nobody", "apps/nobody/data", "apps/nobody/status", "apps/nobody/faults",
                                  "apps/nobody/depends-on", "components/camera", "areas/none", "functions/any",
                                  "apps/nobody/faults/APP_ERROR", "apps/nobody/data/timing"])  # fmt: skip
async def test_an_entity_that_there_is_not_is_not_found_and_never_well(path: str) -> None:
    async with served() as server:
        answer = await server.ask(f"/api/v1/{path}")
    assert (answer.status, answer.json()["error_code"]) == (404, "entity-not-found")
    assert answer.json()["message"].startswith("there is no")


@pytest.mark.parametrize(
    ("method", "path", "family"),
    [
        ("GET", "apps/camera/triggers", "triggers"),
        ("PUT", "apps/camera/operations/calibrate/executions", "operations"),
        ("PUT", "apps/camera/configurations", "configurations"),
        ("POST", "auth/token", "auth"),
        ("GET", "nonsense", "nonsense"),
        ("DELETE", "components/eyes/locks/1", "locks"),
    ],
)
async def test_a_family_that_is_not_served_says_so_by_name(method: str, path: str, family: str) -> None:
    async with served() as server:
        answer = await server.ask(f"/api/v1/{path}", method)
    assert (answer.status, answer.json()["parameters"]) == (501, {"family": family})


@pytest.mark.parametrize(("method", "path"), [("PUT", "apps/camera/data"), ("DELETE", "apps/camera/faults/APP_ERROR"),
                                              ("POST", "faults")])  # fmt: skip
async def test_nothing_can_be_changed(method: str, path: str) -> None:
    async with served(view=seen(eyes(BROKEN_CAMERA), brain())) as server:
        answer = await server.ask(f"/api/v1/{path}", method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
        assert len((await server.ask("/api/v1/faults")).json()["items"]) == 1


@pytest.mark.parametrize(
    "path",
    ["faults?status=bogus", "faults?stauts=all", "live?every=never", "live?every=-1", "live?every=nan", "live?once=1",
     "apps?page=2", "logs", "logs?process=eyes&tail=0", "logs?process=eyes&tail=1e9", "faults/stream?last_event_id=x"],
)  # fmt: skip
async def test_a_parameter_that_makes_no_sense_is_refused_in_words(path: str) -> None:
    async with served() as server:
        answer = await server.ask(f"/api/v1/{path}")
    assert (answer.status, answer.json()["error_code"]) == (400, "invalid-parameter")
    assert set(answer.json()) == {"error_code", "message", "parameters"}


async def test_a_last_event_id_that_is_no_number_is_refused() -> None:
    async with served() as server:
        answer = await server.ask("/api/v1/faults/stream", headers={"last-event-id": "seven"})
    assert answer.status == 400


async def test_faults_are_those_that_are_present_unless_one_says_otherwise() -> None:
    mended = brain(looks.slot(name="detector", errors=1))
    was_broken = ((eyes(), brain(BROKEN_DETECTOR)), *[(eyes(), mended)] * 3)
    async with served(view=seen(eyes(BROKEN_CAMERA), mended, before=was_broken)) as server:
        for asked, entities in [("", ["camera"]), ("?status=all", ["camera", "detector"]), ("?status=pending", []),
                                ("?status=confirmed", ["camera"]), ("?status=healed", ["detector"]),
                                ("?status=cleared", [])]:  # fmt: skip
            found = (await server.ask(f"/api/v1/faults{asked}")).json()
            assert [one["reporting_sources"][0] for one in found["items"]] == entities
            assert found["x-medkit"]["count"] == len(entities)


async def test_a_fault_that_is_not_confirmed_yet_is_pending() -> None:
    pending = seen(eyes(BROKEN_CAMERA), brain(), debounce=Debounce(confirm=3))
    async with served(view=pending) as server:
        for asked, count in [("", 1), ("?status=pending", 1), ("?status=confirmed", 0)]:
            assert len((await server.ask(f"/api/v1/faults{asked}")).json()["items"]) == count
        one = (await server.ask("/api/v1/apps/camera/faults/APP_ERROR")).json()
    assert one["item"]["status"]["pendingDTC"] == "1"
    assert one["item"]["status"]["confirmedDTC"] == "0"


async def test_one_code_on_two_apps_is_two_faults_each_with_its_own_entity() -> None:
    async with served(view=seen(eyes(BROKEN_CAMERA), brain(BROKEN_DETECTOR))) as server:
        found = (await server.ask("/api/v1/faults")).json()
        assert [one["x-medkit"]["entity_id"] for one in found["items"]] == ["camera", "detector"]
        assert {one["fault_code"] for one in found["items"]} == {"APP_ERROR"}
        assert found["x-medkit"]["count"] == 2
        of_one = (await server.ask("/api/v1/apps/camera/faults")).json()
        assert [one["reporting_sources"] for one in of_one["items"]] == [["camera"]]


async def test_a_component_has_the_faults_of_its_apps_and_an_area_has_all() -> None:
    async with served(view=seen(eyes(BROKEN_CAMERA), brain(alive=False))) as server:
        for path, codes in [("components/eyes", ["APP_ERROR"]), ("components/brain", ["PROCESS_DEAD"]),
                            ("areas/vision", ["PROCESS_DEAD", "APP_ERROR"]), ("apps/detector", [])]:  # fmt: skip
            found = (await server.ask(f"/api/v1/{path}/faults")).json()
            assert [one["fault_code"] for one in found["items"]] == codes, path


async def test_a_body_that_took_too_long_reads_as_an_error_and_not_ready() -> None:
    async with served(view=seen(eyes(LATE_CAMERA), brain())) as server:
        entity = (await server.ask("/api/v1/apps/camera")).json()
        status = (await server.ask("/api/v1/apps/camera/status")).json()
        code = (await server.ask("/api/v1/apps/camera/faults/TASK_BUDGET_EXCEEDED")).json()
    assert entity["x-medkit"]["health"] == "error"
    assert status["status"] == "notReady"
    assert "3" in code["item"]["fault_name"]
    assert code["item"]["status"]["confirmedDTC"] == "1"
    (frame,) = code["environment_data"]["snapshots"]
    assert (frame["type"], frame["data"]["held_took_ns"], frame["data"]["budget_ns"]) == (
        "freeze_frame", 3_000_000, 1_000_000,
    )  # fmt: skip
    assert code["environment_data"]["extended_data_records"]["first_occurrence"] == "2023-11-14T22:13:30.000Z"


async def test_a_fault_that_an_app_does_not_have_is_not_found() -> None:
    async with served() as server:
        answer = await server.ask("/api/v1/apps/camera/faults/APP_HUNG")
    assert (answer.status, answer.json()["error_code"]) == (404, "fault-not-found")


async def test_who_is_well_is_ready_and_who_is_dead_is_not() -> None:
    async with served(view=seen(eyes(), brain(alive=False))) as server:
        for path, ready in [("apps/camera", "ready"), ("components/eyes", "ready"), ("apps/detector", "notReady"),
                            ("components/brain", "notReady"), ("areas/vision", "notReady")]:  # fmt: skip
            assert (await server.ask(f"/api/v1/{path}/status")).json()["status"] == ready, path


async def test_what_a_dead_process_did_can_still_be_read() -> None:
    async with served(view=seen(eyes(alive=False, exit_code=-9), brain())) as server:
        assert (await server.ask("/api/v1/apps/camera/data/timing")).json()["data"]["executions"] == 41
        assert (await server.ask("/api/v1/components/eyes/data/executor")).json()["data"]["exit_code"] == -9
        entity = (await server.ask("/api/v1/components/eyes")).json()
    assert (entity["x-medkit"]["is_online"], entity["x-medkit"]["health"]) == (False, "critical")


@pytest.mark.parametrize(("kind", "id_"), [("area", "vision"), ("component", "eyes"), ("app", "camera")])
def test_every_relation_that_a_kind_has_is_served_and_no_other(kind: EntityKind, id_: str) -> None:
    entity = VIEW.find(kind, id_)
    assert entity is not None
    known = {relation for relation in get_args(Relation) if VIEW.related(entity, relation) is not None}
    assert set(RELATIONS[kind]) == known


async def test_data_are_listed_by_name_and_read_one_by_one() -> None:
    async with served() as server:
        found = (await server.ask("/api/v1/apps/camera/data")).json()
        assert [one["id"] for one in found["items"]] == ["liveness", "timing", "channels"]
        one = (await server.ask("/api/v1/apps/camera/data/channels")).json()
        assert list(one["data"]) == ["frames"]
        missing = await server.ask("/api/v1/apps/camera/data/weather")
    assert (missing.status, missing.json()["error_code"]) == (404, "resource-not-found")


async def test_the_page_reads_everything_at_once_the_graph_and_the_logs() -> None:
    async with served() as server:
        live = (await server.ask("/api/v1/live?once=true")).json()
        graph = (await server.ask("/api/v1/graph")).json()
        logs = (await server.ask("/api/v1/logs?process=eyes&tail=2")).json()
        nobody = await server.ask("/api/v1/logs?process=nobody")
    assert [channel["name"] for channel in live["channels"]] == ["frames"]
    assert [edge["source"] for edge in graph["edges"]] == ["camera"]
    assert [line["text"] for line in logs["lines"]] == ["line 498", "line 499"]
    assert nobody.status == 404


async def test_before_the_first_look_nothing_is_said_to_be_well() -> None:
    async with served(live=None) as server:
        answer = await server.ask("/api/v1/apps")
        health = (await server.ask("/api/v1/health")).json()
    assert (answer.status, answer.json()["error_code"]) == (503, "nothing-seen-yet")
    assert (health["status"], health["warnings"]) == ("starting", ["nothing-seen-yet"])


async def test_health_tells_what_the_gateway_has_met() -> None:
    async with served(ill(warnings=("eyes.3.slots is cut",))) as server:
        async with server.stream("/api/v1/faults/stream"):
            health = (await server.ask("/api/v1/health")).json()
        denied = await server.ask("/api/v1/apps", headers={"host": "evil.example"})
        after = (await server.ask("/api/v1/health")).json()
    assert health["warnings"] == ["eyes.3.slots is cut"]
    assert health["x-medkit"]["streams"] == 1
    assert denied.status == 403
    assert after["x-medkit"]["denied_total"] == 1


async def test_a_head_is_answered_without_a_body_also_where_a_stream_would_be() -> None:
    async with served() as server, server.line() as line:
        for path in ("/api/v1/apps", "/api/v1/live"):
            answer = await line.ask(path, "HEAD")
            assert (answer.status, answer.body) == (200, b"")
        await server.until(lambda: server.gateway.routes.places.taken, 0)


async def test_outside_of_the_api_there_is_nothing_but_the_page() -> None:
    async with served() as server:
        answer = await server.ask("/etc/passwd")
    assert (answer.status, answer.json()["error_code"]) == (404, "not-found")
