"""`GET /openapi.json`: describes the three endpoints of maintenance for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.routing import Route

from jobqueue.version import __version__
from jobqueue.web.exchange import answer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

PATH: Final = "/openapi.json"

_COUNT: Final = {"type": "integer", "minimum": 0}

# For each endpoint: what it does, and the fields of its answer beside the message.
_WORKERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "webhookRetry": ("Hand webhook deliveries that are past their time to the workers", {"retried": _COUNT}),
    "notificationExpiry": ("Expire notifications that are past their time", {"expired": _COUNT}),
    "dataArchival": (
        "Archive events and notifications that are older than the retention",
        {
            "archived_events": _COUNT,
            "archived_notifications": _COUNT,
            "retention_days": {"type": "integer", "minimum": 1},
        },
    ),
}


def document() -> dict[str, Any]:
    """The description, in OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "jobqueue", "version": __version__},
        "paths": {f"/api/workers/{name}": {"post": _operation(name, *what)} for name, what in _WORKERS.items()},
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def openapi_route() -> Route:
    """The route that serves the description."""
    described = document()

    async def endpoint(_request: Request) -> Response:
        return answer(200, described)

    return Route(PATH, endpoint, methods=["GET"])


def _operation(name: str, summary: str, fields: dict[str, Any]) -> dict[str, Any]:
    error = _object({"error": {"type": "string"}})
    return {
        "operationId": name,
        "summary": summary,
        "description": "One run, bounded in time; answers within 25 seconds. The body is not read for anything.",
        "security": [{"key": []}],
        "requestBody": {"required": False, "content": {"application/json": {"schema": {}}}},
        "responses": {
            "200": _answer("Done", _object({**fields, "message": {"type": "string"}})),
            "401": _answer("The key is missing or wrong", _object({"error": {"const": "Unauthorized"}})),
            "413": _answer("The body is larger than 64 KiB", error),
            "503": _answer("The database or the object store does not answer", error),
        },
    }


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
