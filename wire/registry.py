"""Messages whose schema lies in a registry (Confluent's wire format): Avro, and JSON with a JSON Schema, as objects.

    0x00, id of the schema (4 bytes), payload --RegistryDecoder--> fastavro, or JSON --> the object that maps read
    id --Schemas.of: kept?--> Schema
                  --GET /schemas/ids/ID--> schema, its type, references --GET /subjects/...--> Schema, which is kept

A schema never changes under its id. While the registry does not answer, a schema that is not kept is asked for again
for PATIENCE_S, since its messages are good; then they are refused, and so are all others of its kind for REFUSED_S, so
that a reader is never away from its broker for long. What is refused is a dead letter, which `lifelong deadletters
replay` sends again. Answers are sent as JSON, as ever.

Rejected: confluent-kafka[schemaregistry] (a second client of Kafka in C, and six further libraries, for two requests),
validation by JSON Schema (whoever sent the message did it; a field that is missing is told by its map), Protobuf (its
messages are of generated classes), and waiting for the registry as long as it takes (a reader that does not poll loses
its partitions, and known schemas wait, too).
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
"""Most schemas that are kept, and most ids of which is known that there is none; then the oldest goes."""

MAX_REFERENCES: Final = 32
MAX_BYTES: Final = 1 << 20
TIMEOUT_S: Final = 5.0
PATIENCE_S: Final = 15.0
REFUSED_S: Final = 30.0
BACKOFF: Final = Backoff(first_s=0.1, longest_s=2.0, jitter=0.5)

log = structlog.get_logger("registry")

HEAD: Final = struct.Struct(">bI")

ReadPayload: TypeAlias = Callable[[bytes], Any]
"""Returns what a payload says; raises an error of UNREADABLE where it is not of its schema."""

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
"""What fastavro raises for bytes that are not of a schema."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryConfig:
    """Where the schemas of messages lie that were written with a schema registry."""

    __pydantic_config__ = SECTION

    url: str = ""
    """Address of the registry, such as `https://registry:8081`. Empty: messages are plain JSON."""
    username: str = ""
    """User name, or API key, for the registry (HTTP Basic)."""
    password: OrNone[SecretStr] = None
    """Password, or API secret, of `username`; without a user name it is a bearer token."""
    cafile: OrNone[Path] = None
    """Certificate authorities (PEM) for the registry's certificate. Default: those that this machine trusts."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        is_address = not self.url or (parts.scheme in ("http", "https") and bool(parts.hostname))
        require(
            (is_address, "bus.registry.url is no address such as https://registry:8081"),
            (parts.username is None, "bus.registry.url holds a user name: give it as bus.registry.username"),
            (not self.username or self.password is not None, "bus.registry.username needs bus.registry.password"),
            (
                bool(self.url) or not (self.username or self.password),
                "bus.registry.url is required: it names the registry",
            ),
        )


class SchemaReference(msgspec.Struct, frozen=True):
    """A schema that another one names."""

    name: str
    subject: str
    version: int


class Schema(msgspec.Struct, frozen=True, rename="camel"):
    """A schema as the registry has it. One without a type is of Avro."""

    schema: str
    schema_type: str = "AVRO"
    references: tuple[SchemaReference, ...] = ()


class Unreachable(Exception):
    """The registry does not answer, or not now."""


class Schemas:
    """The schemas of one registry by id. Any thread may ask; one asks the registry at a time."""

    def __init__(self, config: RegistryConfig, *, patience_s: float = PATIENCE_S, refused_s: float = REFUSED_S) -> None:
        self._url = config.url.rstrip("/")
        self._headers = {"accept": "application/vnd.schemaregistry.v1+json", **_authorization(config)}
        self._tls = ssl.create_default_context(cafile=str(config.cafile)) if config.cafile else None
        self._patience_s = patience_s
        self._refused_s = refused_s
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, tuple[Schema, ...]] = OrderedDict()
        self._refused: OrderedDict[int, tuple[float, str]] = OrderedDict()  # until when, and why
        self._away_until_s = 0.0

    def of(self, number: int) -> tuple[Schema, ...]:
        """Returns the schemas that the one with this id names, each behind those it names itself, and it as the last.

        Raises BadMessage where there is none, or the registry has not answered for long.
        """
        with self._lock:
            if (kept := self._kept.get(number)) is not None:
                return kept
            until_s, why = self._refused.get(number, (0.0, ""))
            if time.monotonic() < until_s:
                raise BadMessage("undecodable", why)
            try:
                found = self._asked(number)
            except BadMessage as error:
                _keep(self._refused, number, (time.monotonic() + self._refused_s, error.detail))
                raise
            _keep(self._kept, number, found)
            return found

    def _asked(self, number: int) -> tuple[Schema, ...]:
        schema = self._patiently(f"/schemas/ids/{number}")
        found: dict[str, Schema] = {}
        self._add_references(schema, found)
        return (*found.values(), schema)

    def _add_references(self, schema: Schema, found: dict[str, Schema]) -> None:
        for each in schema.references:
            if each.name in found:
                continue
            if len(found) >= MAX_REFERENCES:
                raise BadMessage("undecodable", f"a schema names more than {MAX_REFERENCES} others")
            path = f"/subjects/{quote(each.subject, safe='')}/versions/{each.version}"
            named = self._patiently(path)
            found[each.name] = named  # here already, so that schemas in a circle end
            self._add_references(named, found)
            found[each.name] = found.pop(each.name)  # behind those that it names

    def _patiently(self, path: str) -> Schema:
        """Asks until there is an answer, for as long as the registry may be away; once where it was away just now."""
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
        """Returns what the registry has at a path. Raises Unreachable, and BadMessage where it has nothing."""
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
            raise BadMessage("undecodable", f"{path} in the registry is no schema: {error}") from error


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
    """Reads messages by the schemas of one registry; what was made of a schema is kept as long as the schema is."""

    def __init__(self, config: RegistryConfig) -> None:
        self._schemas = Schemas(config)
        self._decoders: OrderedDict[int, ReadPayload] = OrderedDict()

    def __call__(self, value: bytes) -> dict[str, Any]:
        """Returns the object of a value that begins with REGISTRY_MAGIC. Raises BadMessage."""
        check_size(value)
        if len(value) < HEAD.size:
            raise BadMessage("undecodable", f"{len(value)} bytes are too few for the id of a schema")
        number = HEAD.unpack_from(value)[1]
        decode = self._decoders.get(number)
        if decode is None:
            decode = self._decoders[number] = decoder_of(self._schemas.of(number))
            if len(self._decoders) > MAX_KEPT:
                self._decoders.popitem(last=False)
        try:
            body = decode(value[HEAD.size :])
        except UNREADABLE as error:
            raise BadMessage(
                "undecodable", f"it is not of its schema {number}: {error or type(error).__name__}"
            ) from error
        if not isinstance(body, Mapping):
            raise BadMessage("wrong_schema", f"schema {number} is of a {type(body).__name__}, expected a record")
        return dict(body)


def decoder_of(schemas: Sequence[Schema]) -> ReadPayload:
    """Returns what reads payloads of the last of the schemas; the others are those that it names."""
    kind = schemas[-1].schema_type
    if kind == "JSON":
        return msgspec.json.decode
    if kind != "AVRO":
        raise BadMessage("undecodable", f"a schema of {kind}: send Avro, JSON with a schema, or plain JSON")
    return _avro(schemas)


def _avro(schemas: Sequence[Schema]) -> ReadPayload:
    try:
        from fastavro import parse_schema, schemaless_reader
        from fastavro.schema import SchemaParseException
    except ModuleNotFoundError as error:
        raise BadMessage("undecodable", f"Avro needs fastavro: pip install 'lifelong[registry]' ({error})") from error
    named: dict[str, Any] = {}
    try:
        for each in schemas:
            parsed = parse_schema(msgspec.json.decode(each.schema), named_schemas=named)
    except (SchemaParseException, *UNREADABLE) as error:
        raise BadMessage("undecodable", f"its schema is none of Avro: {error}") from error

    def read(payload: bytes) -> Any:
        file = BytesIO(payload)
        body = schemaless_reader(file, parsed, None)
        if file.tell() != len(payload):
            raise ValueError(f"{len(payload) - file.tell()} bytes are left")
        return msgspec.to_builtins(body)  # times, decimals and bytes become text, as JSON has them

    return read
