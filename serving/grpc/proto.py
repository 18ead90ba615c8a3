"""Makes message classes from a `.proto` file at the start, without generated code and without a compiler.

    inference.proto --parse--> FileDescriptorProto --pool--> message classes, and the answers of server reflection

The parser supports only the part of the language that the file needs, with one statement a line: nested messages,
`repeated`, `map<string, ...>`, `oneof`, and services. The descriptors are in our own pool, so that a client library of
the same protocol can be loaded in the same process.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

FILE: Final = Path(__file__).with_name("inference.proto")
SERVICE: Final = "inference.GRPCInferenceService"

FIELD: Final = re.compile(r"(repeated )?(?:map<string, (\w+)>|(\w+)) (\w+) = (\d+);")
RPC: Final = re.compile(r"rpc (\w+)\((\w+)\) returns \((\w+)\) {}")
BLOCK: Final = re.compile(r"(message|oneof|service) (\w+) {")
IGNORED: Final = re.compile(r"|syntax = .*")


class BadProto(ValueError):
    """A line that the parser does not support."""


@cache
def pool() -> DescriptorPool:
    """Returns the descriptors of our services, including the health service."""
    descriptors = DescriptorPool()
    descriptors.Add(parse(FILE.read_text(), FILE.name))
    descriptors.AddSerializedFile(health_pb2.DESCRIPTOR.serialized_pb)
    return descriptors


@cache
def message(name: str) -> Any:
    """Returns the class of a message by its name, such as `ModelInferRequest`."""
    return GetMessageClass(pool().FindMessageTypeByName(f"inference.{name}"))


def parse(text: str, name: str) -> FileDescriptorProto:
    """Returns the descriptor of a `.proto` file with this text. Raises BadProto.

    >>> parse("package p;\\nmessage M {\\n  repeated string names = 1;\\n}", "m.proto").message_type[0].field[0].name
    'names'
    """
    file = FileDescriptorProto(name=name, syntax="proto3")
    blocks: list[Any] = []
    for number, line in enumerate(text.splitlines(), start=1):
        statement = line.partition("//")[0].strip()
        if statement == "}":
            blocks.pop()
        elif match := BLOCK.fullmatch(statement):
            blocks.append(_open_block(file, blocks, *match.groups()))
        elif match := FIELD.fullmatch(statement):
            _add_field(file, blocks, match)
        elif match := RPC.fullmatch(statement):
            method, request, response = match.groups()
            types = {"input_type": f".{file.package}.{request}", "output_type": f".{file.package}.{response}"}
            blocks[-1].method.add(name=method, **types)
        elif statement.startswith("package "):
            file.package = statement.removeprefix("package ").rstrip(";")
        elif not IGNORED.fullmatch(statement):
            raise BadProto(f"{name}, line {number}: {statement!r}")
    return file


def _open_block(file: FileDescriptorProto, blocks: list[Any], kind: str, name: str) -> Any:
    """Adds the block that begins to its parent, and returns its descriptor: a message, a service, or a oneof."""
    if kind == "service":
        return file.service.add(name=name)
    if kind == "oneof":
        return blocks[-1].oneof_decl.add(name=name)
    return blocks[-1].nested_type.add(name=name) if blocks else file.message_type.add(name=name)


def _add_field(file: FileDescriptorProto, blocks: list[Any], match: re.Match[str]) -> None:
    repeated, map_type, type_name, name, number = match.groups()
    is_choice = not isinstance(blocks[-1], DescriptorProto)
    owner: DescriptorProto = blocks[-2] if is_choice else blocks[-1]
    field = owner.field.add(name=name, number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL)
    if is_choice:
        field.oneof_index = 0
    if repeated or map_type:
        field.label = FieldDescriptorProto.LABEL_REPEATED
    if map_type:
        entry = owner.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        key = entry.field.add(name="key", number=1, label=FieldDescriptorProto.LABEL_OPTIONAL)
        key.type = FieldDescriptorProto.TYPE_STRING
        value = entry.field.add(name="value", number=2, label=FieldDescriptorProto.LABEL_OPTIONAL)
        _set_type(file, value, map_type)
        type_name = entry.name
    _set_type(file, field, type_name)


def _set_type(file: FileDescriptorProto, field: FieldDescriptorProto, name: str) -> None:
    """Sets the type of a field: a scalar type, or a message. The name of a message is looked up in the inner scopes
    first."""
    scalar = FieldDescriptorProto.Type.keys()
    if f"TYPE_{name.upper()}" in scalar:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{name.upper()}")
        return
    field.type = FieldDescriptorProto.TYPE_MESSAGE
    top_level = {message_type.name for message_type in file.message_type}
    field.type_name = f".{file.package}.{name}" if name in top_level else name
