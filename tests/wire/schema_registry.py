"""A schema registry as a small HTTP server that follows the public REST API: schemas by id, or subject and version."""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from pydantic import SecretStr

from wire.registry import RegistryConfig

USER, PASSWORD = "reader", "a password of the registry"

TICKET = {
    "type": "record",
    "name": "Ticket",
    "fields": [
        {"name": "ticket_id", "type": "long"},
        {"name": "subject", "type": ["null", "string"], "default": None},
        {"name": "body", "type": "string"},
        {"name": "customer", "type": "Customer"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}
CUSTOMER = {"type": "record", "name": "Customer", "fields": [{"name": "name", "type": "string"}]}


@dataclass
class Registry:
    """The server's responses by path, and the number of requests."""

    port: int = 0
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    failures: int = 0

    def add(self, number: int, schema: Any, **more: Any) -> None:
        self.bodies[f"/schemas/ids/{number}"] = {"schema": json.dumps(schema), **more}

    def add_tickets(self, number: int) -> None:
        """Adds the schema of tickets, which references the schema of customers."""
        reference = {"name": "Customer", "subject": "crm/customer", "version": 2}
        self.add(number, TICKET, schemaType="AVRO", references=[reference])
        self.bodies["/subjects/crm%2Fcustomer/versions/2"] = {"schema": json.dumps(CUSTOMER), "id": 3, "version": 2}

    @property
    def config(self) -> RegistryConfig:
        return RegistryConfig(url=f"http://127.0.0.1:{self.port}", username=USER, password=SecretStr(PASSWORD))


@contextmanager
def serving() -> Iterator[Registry]:
    """Serves a registry that requires a password, while the block runs."""
    registry = Registry()
    expected = f"Basic {b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked[self.path] += 1
            body = registry.bodies.get(self.path)
            status = 200 if body else 404
            if registry.failures:
                registry.failures -= 1
                status = 503
            if self.headers["authorization"] != expected:
                status = 401
            said = json.dumps(body if status == 200 else {"error_code": status}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.port = server.server_port
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
