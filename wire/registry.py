"""Decodes messages whose schema is in a schema registry (Confluent's wire format): Avro, and JSON with a JSON Schema.

    0x00, id of the schema (4 bytes), payload --RegistryDecoder--> fastavro, or JSON --> a JSON object
    id --Schemas.get: cached?--> Schema
                  --GET /schemas/ids/ID--> schema, its type, references --GET /subjects/...--> Schema, which is cached

The schema with an id never changes, so schemas are cached. If the registry does not answer, a request is repeated for
PATIENCE_S. After that, messages with this schema are refused for REFUSED_S. During that time, requests for other
schemas are not repeated either, so that a reader always polls its broker soon again. Refused messages are dead letters,
which `lifelong deadletters replay` sends again. Answers are sent as plain JSON.

Rejected:

- confluent-kafka[schemaregistry]: a second Kafka client in C and six more libraries, for two requests.
- Validation by JSON Schema: the sender has validated the message, and a map reports missing fields.
- Protobuf: its messages need generated classes.
- Waiting for the registry without a limit: a reader that does not poll loses its partitions, and messages with known
  schemas would wait, too.
"""

import ssl
import struct
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlsplit

import msgspec
import structlog
from pydantic import SecretStr

from wire.backoff import Backoff
from wire.errors import BadMessage
from wire.message import check_size
from wire.sections import SECTION, OrNone, require

MAX_KEPT: Final = 1_000
"""Size of the cache of schemas, and of the cache of refused ids. The oldest entry is evicted."""

MAX_REFERENCES: Final = 32
MAX_BYTES: Final = 1 << 20
TIMEOUT_S: Final = 5.0

PATIENCE_S: Final = 15.0
"""How long a request is repeated while the registry does not answer."""

REFUSED_S: Final = 30.0
"""How long a schema that could not be fetched is refused without another request."""

BACKOFF: Final = Backoff(first_s=0.1, longest_s=2.0, jitter=0.5)

log = structlog.get_logger("registry")

HEAD: Final = struct.Struct(">bI")

ReadPayload: TypeAlias = Callable[[bytes], Any]
"""Decodes a payload. Raises an error of UNREADABLE if the payload does not match its schema."""

UNREADABLE: Final = (
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    msgspec.MsgspecError,
    struct.error,
)
"""The exceptions that fastavro raises for bytes that do not match a schema."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryConfig:
    """The schema registry of messages in Avro, or in JSON with a JSON Schema."""

    __pydantic_config__ = SECTION

    url: str = ""
    """Address of the registry, such as `https://registry:8081`. Empty: messages are plain JSON."""
    username: str = ""
    """User name or API key for the registry (HTTP Basic)."""
    password: OrNone[SecretStr] = None
    """Password or API secret of `username`. Without a user name, it is a bearer token."""
    cafile: OrNone[Path] = None
    """Certificate authorities (PEM) for the registry's certificate. Default: the authorities that this machine
    trusts."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        is_address = not self.url or (parts.scheme in ("http", "https") and bool(parts.hostname))
        require(
            (is_address, "bus.registry.url must be an address such as https://registry:8081"),
            (parts.username is None, "bus.registry.url holds a user name: give it as bus.registry.username"),
            (not self.username or self.password is not None, "bus.registry.username needs bus.registry.password"),
            (
                bool(self.url) or not (self.username or self.password),
                "bus.registry.url is required: it names the registry",
            ),
        )


class SchemaReference(msgspec.Struct, frozen=True):
    """A reference from one schema to another."""

    name: str
    subject: str
    version: int


class Schema(msgspec.Struct, frozen=True, rename="camel"):
    """A schema as the registry returns it. The default type is Avro."""

    schema: str
    schema_type: str = "AVRO"
    references: tuple[SchemaReference, ...] = ()


class Unreachable(Exception):
    """The registry does not answer, or cannot answer now."""


class Schemas:
    """The schemas of one registry by id, cached. Thread-safe; there is one request at a time."""

    def __init__(self, config: RegistryConfig, *, patience_s: float = PATIENCE_S, refused_s: float = REFUSED_S) -> None:
        self._url = config.url.rstrip("/")
        self._headers = {"accept": "application/vnd.schemaregistry.v1+json", **_authorization(config)}
        self._tls = ssl.create_default_context(cafile=str(config.cafile)) if config.cafile else None
        self._patience_s = patience_s
        self._refused_s = refused_s
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, tuple[Schema, ...]] = OrderedDict()
        # Id -> (the time until which the schema is refused, the reason).
        self._refused: OrderedDict[int, tuple[float, str]] = OrderedDict()
        self._away_until_s = 0.0

    def get(self, number: int) -> tuple[Schema, ...]:
        """Returns the schema with this id as the last item, after all schemas that it references.

        Each schema comes after the schemas that it references itself. Raises BadMessage if there is no such schema, or
        the registry has not answered for PATIENCE_S.
        """
        with self._lock:
            if (kept := self._kept.get(number)) is not None:
                return kept
            until_s, reason = self._refused.get(number, (0.0, ""))
            if time.monotonic() < until_s:
                raise BadMessage("undecodable", reason)
            try:
                schemas = self._fetch(number)
            except BadMessage as error:
                _keep(self._refused, number, (time.monotonic() + self._refused_s, error.detail))
                raise
            _keep(self._kept, number, schemas)
            return schemas

    def _fetch(self, number: int) -> tuple[Schema, ...]:
        schema = self._get_with_retries(f"/schemas/ids/{number}")
        by_name: dict[str, Schema] = {}
        self._add_references(schema, by_name)
        return (*by_name.values(), schema)

    def _add_references(self, schema: Schema, by_name: dict[str, Schema]) -> None:
        """Adds the schemas that `schema` references to `by_name`, in topological order (depth first)."""
        for reference in schema.references:
            if reference.name in by_name:
                continue
            if len(by_name) >= MAX_REFERENCES:
                raise BadMessage("undecodable", f"a schema references more than {MAX_REFERENCES} others")
            path = f"/subjects/{quote(reference.subject, safe='')}/versions/{reference.version}"
            referenced = self._get_with_retries(path)
            # It is added before its references, so that the recursion ends if references form a cycle.
            by_name[reference.name] = referenced
            self._add_references(referenced, by_name)
            # Then it is moved behind its references.
            by_name[reference.name] = by_name.pop(reference.name)

    def _get_with_retries(self, path: str) -> Schema:
        """Repeats the request for PATIENCE_S while the registry does not answer.

        If the registry did not answer shortly before, there is only one request. Raises BadMessage.
        """
        now_s = time.monotonic()
        until_s = now_s + self._patience_s if now_s >= self._away_until_s else now_s
        failures = 0
        while True:
            try:
                return self._get(path)
            except Unreachable as error:
                failures += 1
                pause_s = BACKOFF.pause_s(failures)
                if time.monotonic() + pause_s > until_s:
                    self._away_until_s = time.monotonic() + self._refused_s
                    log.error("registry_unreachable", url=self._url, path=path, error=str(error))
                    raise BadMessage("undecodable", f"{path}: the registry does not answer: {error}") from error
                time.sleep(pause_s)

    def _get(self, path: str) -> Schema:
        """Returns the schema at a path of the registry. Raises Unreachable, or BadMessage if there is no schema."""
        request = urllib.request.Request(self._url + path, headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self._tls) as response:
                body = response.read(MAX_BYTES + 1)
            if len(body) > MAX_BYTES:
                raise BadMessage("undecodable", f"{path} in the registry has more than {MAX_BYTES} bytes")
            return msgspec.json.decode(body, type=Schema)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == HTTPStatus.NOT_FOUND:
                raise BadMessage("undecodable", f"the registry has no {path}: is bus.registry.url right?") from error
            if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise Unreachable(f"{error.code}: correct bus.registry.username and bus.registry.password") from error
            raise Unreachable(str(error)) from error
        except OSError as error:
            raise Unreachable(str(error)) from error
        except msgspec.MsgspecError as error:
            raise BadMessage("undecodable", f"{path} in the registry is not a schema: {error}") from error


def _authorization(config: RegistryConfig) -> dict[str, str]:
    if config.password is None:
        return {}
    secret = config.password.get_secret_value()
    if not config.username:
        return {"authorization": f"Bearer {secret}"}
    return {"authorization": f"Basic {b64encode(f'{config.username}:{secret}'.encode()).decode()}"}


def _keep(kept: OrderedDict[int, Any], number: int, value: Any) -> None:
    kept[number] = value
    if len(kept) > MAX_KEPT:
        kept.popitem(last=False)


class RegistryDecoder:
    """Decodes messages by the schemas of one registry. It caches a decoder for each schema."""

    def __init__(self, config: RegistryConfig) -> None:
        self._schemas = Schemas(config)
        self._decoders: OrderedDict[int, ReadPayload] = OrderedDict()

    def __call__(self, value: bytes) -> dict[str, Any]:
        """Decodes a value that begins with REGISTRY_MAGIC. Raises BadMessage."""
        check_size(value)
        if len(value) < HEAD.size:
            raise BadMessage("undecodable", f"{len(value)} bytes are too few for the id of a schema")
        _, number = HEAD.unpack_from(value)
        decode = self._decoders.get(number)
        if decode is None:
            decode = payload_decoder(self._schemas.get(number))
            _keep(self._decoders, number, decode)
        try:
            body = decode(value[HEAD.size :])
        except UNREADABLE as error:
            reason = str(error) or type(error).__name__
            raise BadMessage("undecodable", f"it does not match its schema {number}: {reason}") from error
        if not isinstance(body, Mapping):
            raise BadMessage("wrong_schema", f"schema {number} is of a {type(body).__name__}, expected a record")
        return dict(body)


def payload_decoder(schemas: Sequence[Schema]) -> ReadPayload:
    """Returns a decoder for payloads of the last schema, which references the other schemas. Raises BadMessage."""
    schema_type = schemas[-1].schema_type
    if schema_type == "JSON":
        return msgspec.json.decode
    if schema_type != "AVRO":
        raise BadMessage("undecodable", f"a schema of {schema_type}: send Avro, JSON with a schema, or plain JSON")
    return _avro_decoder(schemas)


def _avro_decoder(schemas: Sequence[Schema]) -> ReadPayload:
    try:
        from fastavro import parse_schema, schemaless_reader
        from fastavro.schema import SchemaParseException
    except ModuleNotFoundError as error:
        raise BadMessage("undecodable", f"Avro needs fastavro: pip install 'lifelong[registry]' ({error})") from error
    named: dict[str, Any] = {}
    try:
        for schema in schemas:
            parsed = parse_schema(msgspec.json.decode(schema.schema), named_schemas=named)
    except (SchemaParseException, *UNREADABLE) as error:
        raise BadMessage("undecodable", f"its schema is not an Avro schema: {error}") from error

    def read(payload: bytes) -> Any:
        file = BytesIO(payload)
        body = schemaless_reader(file, parsed, None)
        if file.tell() != len(payload):
            raise ValueError(f"{len(payload) - file.tell()} bytes are left")
        # Times, decimals and bytes become texts, as in JSON.
        return msgspec.to_builtins(body)

    return read
