"""The OpenAPI document of the routes, made from the same table as the application."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

_REFUSALS = {
    "400": "A parameter that makes no sense, or that there is not.",
    "401": "No token, or another one.",
    "403": "A host or an origin that is not allowed.",
    "404": "No such entity, fault or data.",
    "503": "All places are taken, or nothing has been seen yet: come again.",
}
_REF = "#/components/schemas/{name}"


class _Query(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def said(self) -> str: ...
    @property
    def shape(self) -> Mapping[str, Any]: ...


class _Served(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def said(self) -> str: ...
    @property
    def query(self) -> tuple[Any, ...]: ...
    @property
    def answers(self) -> type | None: ...
    @property
    def media(self) -> str: ...


class Refusal(msgspec.Struct, frozen=True):
    """Why a request is not answered as wished."""

    error_code: str
    message: str
    parameters: dict[str, Any]


def document(routes: Iterable[_Served], version: str) -> dict[str, Any]:
    rows = tuple(routes)
    types = [Refusal, *dict.fromkeys(row.answers for row in rows if row.answers is not None)]
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "geartrain executor observer",
            "version": version,
            "description": "A run of a pipeline, read from what its processes write down. Nothing here changes it.",
        },
        "paths": {row.path: {"get": _operation(row)} for row in rows},
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


def _operation(row: _Served) -> dict[str, Any]:
    inside = [part[1:-1] for part in row.path.split("/") if part.startswith("{")]
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in inside]
    parameters += [{"name": it.name, "in": "query", "description": it.said, "schema": it.shape} for it in row.query]
    refusals = {
        status: {
            "description": said,
            "content": {"application/json": {"schema": {"$ref": _REF.format(name="Refusal")}}},
        }
        for status, said in _REFUSALS.items()
    }
    return {
        "summary": row.said,
        "operationId": "get" + row.path.replace("/", "_").replace("{", "").replace("}", ""),
        "parameters": parameters,
        "responses": {"200": {"description": row.said, "content": {row.media: {"schema": _schema(row)}}}, **refusals},
    }


def _schema(row: _Served) -> dict[str, Any]:
    if row.answers is not None:
        return {"$ref": _REF.format(name=row.answers.__name__)}
    return {"type": "object"} if row.media == "application/json" else {"type": "string"}
