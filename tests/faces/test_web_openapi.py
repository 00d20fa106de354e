"""The OpenAPI document and the routes are the same, and a client may rely on what it says."""

import re

from geartrain.rules.readings import SlotState
from tests.faces.web_parts import brain, eyes, seen, served
from tests.rules import looks


async def test_the_document_names_exactly_the_routes_that_are_served() -> None:
    async with served() as server:
        document = (await server.ask("/api/v1/openapi.json")).json()
        routes = {route.path for route in server.gateway.routes.application().routes}  # type: ignore[attr-defined]
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == routes
    operations = [path["get"]["operationId"] for path in document["paths"].values()]
    assert len(set(operations)) == len(operations)


async def test_every_route_of_it_answers_as_it_says() -> None:
    ids = {"areas": "vision", "components": "eyes", "apps": "camera"}
    data = {"areas": "run", "components": "executor", "apps": "timing"}
    broken = seen(eyes(looks.slot(SlotState.ERROR, name="camera", errors=1)), brain())
    async with served(view=broken) as server:
        document = (await server.ask("/api/v1/openapi.json")).json()
        for path, item in document["paths"].items():
            kind = path.split("/")[3] if path.count("/") > 2 else ""
            if kind == "functions" and "{id}" in path:
                continue
            there = path.replace("{id}", ids.get(kind, "")).replace("{path}", data.get(kind, ""))
            there = there.replace("{code}", "APP_ERROR")
            (media,) = item["get"]["responses"]["200"]["content"]
            if path == "/api/v1/logs":
                there += "?process=eyes"
            if path == "/":
                continue
            method = "HEAD" if media == "text/event-stream" else "GET"
            answer = await server.ask(there, method)
            assert answer.status == 200, there
            assert answer.headers["content-type"].startswith(media.partition(";")[0]), there


async def test_every_reference_in_it_leads_somewhere() -> None:
    async with served() as server:
        answer = await server.ask("/api/v1/openapi.json")
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', answer.body.decode()))
    assert named <= set(answer.json()["components"]["schemas"])
    assert {"Live", "Graph", "Logs", "Refusal"} <= named


async def test_it_has_no_operation_that_changes_anything() -> None:
    async with served() as server:
        document = (await server.ask("/api/v1/openapi.json")).json()
    assert all(set(operations) == {"get"} for operations in document["paths"].values())
