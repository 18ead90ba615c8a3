"""Reads a message in the wire format of a registry as a JSON object, whatever its schema is of."""

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, Final, TypeAlias

import msgspec

from wire.errors import BadMessage
from wire.registry.client import MAX_KEPT, Schema, Schemas
from wire.registry.config import RegistryConfig
from wire.values import check_size

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
