"""`GET /openapi.json`: describes every endpoint for machines."""

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
        "paths": {
            **{f"/api/workers/{name}": {"post": _operation(name, *what)} for name, what in _WORKERS.items()},
            **_others(),
        },
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "cron": {"type": "apiKey", "in": "header", "name": "X-CRON-SECRET"},
                "backend": {"type": "apiKey", "in": "header", "name": "X-Webhook-Secret"},
            }
        },
    }


def openapi_route() -> Route:
    """The route that serves the description."""
    described = document()

    async def endpoint(_request: Request) -> Response:
        return answer(200, described)

    return Route(PATH, endpoint, methods=["GET"])


def _others() -> dict[str, Any]:
    """Every path but those of maintenance."""
    health = _object({"status": {"enum": ["ok", "failing"]}, "checks": {"type": "object"}})
    return {
        "/healthz": {"get": _probe("healthz", "Whether the process can make progress", health)},
        "/readyz": {"get": _probe("readyz", "Whether the process is ready for work", health)},
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Metrics, as Prometheus or OpenMetrics text",
                "responses": {"200": {"description": "The page", "content": {"text/plain": {}}}},
            }
        },
        PATH: {
            "get": {
                "operationId": "openapi",
                "summary": "This description",
                "responses": {"200": _answer("The description", {"type": "object"})},
            }
        },
        "/delivery/admin/run-artifact-worker": {
            "post": {
                "operationId": "runArtifactWorker",
                "summary": "Build artifacts that are due, and answer within 25 seconds",
                "security": [{"cron": []}],
                "responses": {
                    "200": _answer(
                        "Done", _object({"success": {"const": True}, "processed": _COUNT, "recovered": _COUNT})
                    ),
                    "404": _answer("The secret is missing or wrong, or none is configured", _ERROR),
                    "429": _answer("More than 12 calls of a client within a minute", _ERROR),
                    "503": _answer("The database does not answer", _ERROR),
                },
            }
        },
        "/cron/{schedule}": {
            "post": {
                "operationId": "runSchedule",
                "summary": "Run a schedule now; two calls for one tick are one run",
                "security": [{"key": []}],
                "parameters": [{"name": "schedule", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {
                    "200": _answer("The tick", _object({"status": {"enum": ["started", "paused", "off"]}})),
                    "401": _answer("The key is missing or wrong", _ERROR),
                    "404": _answer("There is no such schedule", _ERROR),
                    "429": _answer("Too many calls of a client within a minute", _ERROR),
                    "503": _answer("The database does not answer, or nothing here can do the work", _ERROR),
                },
            }
        },
        "/webhook/settings-changed": {
            "post": {
                "operationId": "settingsChanged",
                "summary": "The backend's settings have changed: fetch them again",
                "security": [{"backend": []}],
                "requestBody": {
                    "required": False,
                    "content": {
                        "application/json": {"schema": {"properties": {"changedBy": {"type": "string"}}}},
                    },
                },
                "responses": {
                    "200": _answer(
                        "They will be fetched",
                        _object(
                            {
                                "success": {"const": True},
                                "message": {"type": "string"},
                                "timestamp": {"type": "string", "format": "date-time"},
                            }
                        ),
                    ),
                    "401": _answer("The secret is missing or wrong", _ERROR),
                    "429": _answer("Too many calls of a client within a minute", _ERROR),
                    "500": _answer("No secret is configured", _ERROR),
                    "503": _answer("The database does not answer", _ERROR),
                },
            }
        },
    }


def _probe(name: str, summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    responses = {"200": _answer("It is", schema), "503": _answer("It is not, and why", schema)}
    return {"operationId": name, "summary": summary, "responses": responses}


def _operation(name: str, summary: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "description": "One run, bounded in time; answers within 25 seconds. The body is not read for anything.",
        "security": [{"key": []}],
        "requestBody": {"required": False, "content": {"application/json": {"schema": {}}}},
        "responses": {
            "200": _answer("Done", _object({**fields, "message": {"type": "string"}})),
            "401": _answer("The key is missing or wrong", _object({"error": {"const": "Unauthorized"}})),
            "429": _answer("More than 60 calls of a client within a minute", _ERROR),
            "413": _answer("The body is larger than 64 KiB", _ERROR),
            "503": _answer("The database or the object store does not answer", _ERROR),
        },
    }


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_ERROR: Final = _object({"error": {"type": "string"}})
