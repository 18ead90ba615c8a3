"""`/openapi.json` and `/docs`: generated from the operations and their records, once, at the first request.

    Operation, msgspec records --make_document--> OpenAPI 3.1 --render_page--> one HTML page without a script

The page loads no other resource, so it works offline. Its Content-Security-Policy allows only its own style.
"""

import html
import json
import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from serving.http.access import KEY_HEADER
from serving.http.api import REF, Operation
from serving.http.problems import PROBLEM_JSON, ErrorBody, ProblemDetails, V2ErrorBody, is_v2
from serving.http.requests import MAX_TIMEOUT_MS, PRIORITY_HEADER, TIMEOUT_HEADER
from serving.queue import Priority
from serving.v2 import MODEL
from wire.records.schemas import schema_components

JSON: Final = "application/json"

STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "pre{overflow:auto;padding:.7rem;border:1px solid #8886;border-radius:.3rem}"
    "h2 code{font-size:1rem}summary{cursor:pointer}"
)
POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
)
"""The Content-Security-Policy of the page."""


def make_document(operations: Sequence[Operation], elements: Sequence[type]) -> dict[str, Any]:
    """Returns the OpenAPI document of these operations.

    `elements` are the records that appear only as elements of other records' lists.
    """
    records: list[type] = [*elements, ProblemDetails, V2ErrorBody]
    for operation in operations:
        records += [*operation.body, operation.answer]
    components = schema_components(records, REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe_operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lifelong", "version": version("lifelong")},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def render_page(document: dict[str, Any]) -> str:
    """Returns the OpenAPI document as an HTML page."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=width=device-width>",
        f"<title>Lifelong</title><style>{STYLE}</style><h1>Lifelong {document['info']['version']}</h1>",
        "<p>For programs: <a href=openapi.json>openapi.json</a>.</p>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{operation['summary']}</p>")
            parts += [_details(title, operation[name]) for title, name in _SECTIONS.items() if operation.get(name)]
    parts.append("<h2>Records</h2>")
    parts += [_details(name, schema) for name, schema in document["components"]["schemas"].items()]
    return "".join(parts)


_PATH_PARAMETERS: Final = {
    "model": {"type": "string", "enum": [MODEL]},
    "version": {"type": "string", "examples": ["stable"]},
}
"""The schema of each parameter in a path."""

_SECTIONS: Final = {"Parameters": "parameters", "Body": "requestBody", "Responses": "responses"}


def _details(title: str, value: Any) -> str:
    content = html.escape(json.dumps(value, indent=2))
    return f"<details><summary>{html.escape(title)}</summary><pre>{content}</pre></details>"


def _describe_operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"summary": operation.summary, "parameters": _parameters(operation)}
    if operation.body:
        schemas = [_ref(record) for record in operation.body]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    statuses = [*operation.errors, 500]
    if operation.needs_key:
        described["security"] = [{"key": []}, {"bearer": []}, {}]
        statuses += [401, 403, 421]
    success = {"description": "OK", "content": {JSON: {"schema": _ref(operation.answer)}}}
    described["responses"] = {"200": success} | {
        str(status): _error(status, operation.path) for status in sorted({*statuses})
    }
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS[name]}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    parameters += [
        {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in operation.headers
    ]
    if operation.body:
        timeout = {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS}
        priority = {"type": "string", "enum": [priority.name.lower() for priority in Priority]}
        parameters += [
            {
                "name": TIMEOUT_HEADER,
                "in": "header",
                "description": "The client's time-out. An answer that would be later is not computed.",
                "schema": timeout,
            },
            {
                "name": PRIORITY_HEADER,
                "in": "header",
                "description": "High has a head start of one second in the queue; low has a handicap of one second.",
                "schema": priority,
            },
        ]
    return parameters


def _error(status: int, path: str) -> dict[str, Any]:
    if is_v2(path):
        content = {JSON: {"schema": _ref(V2ErrorBody)}}
    else:
        content = {JSON: {"schema": _ref(ErrorBody)}, PROBLEM_JSON: {"schema": _ref(ProblemDetails)}}
    return {"description": HTTPStatus(status).phrase, "content": content}


def _ref(record: type) -> dict[str, str]:
    return {"$ref": REF.format(name=record.__name__)}
