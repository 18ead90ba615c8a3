"""The messages are those of the specification: field by field those of Triton's client."""

from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from serving.grpc.proto import BadProto, message, parse, pool


def fields_of(descriptor: Any) -> dict[str, Any]:
    """Returns what is sent of a message: the number, type, repetition and choice of each field, and those below it."""
    found: dict[str, Any] = {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.message_type.full_name if field.message_type else "",
            field.containing_oneof.name if field.containing_oneof else "",
        )
        for field in descriptor.fields
    }
    return found | {nested.name: fields_of(nested) for nested in descriptor.nested_types}


def test_every_message_is_that_of_the_protocol() -> None:
    ours = pool().FindFileByName("inference.proto")
    for name, descriptor in ours.message_types_by_name.items():
        assert fields_of(descriptor) == fields_of(service_pb2.DESCRIPTOR.message_types_by_name[name]), name
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    for name, method in ours.services_by_name["GRPCInferenceService"].methods_by_name.items():
        assert method.input_type.full_name == theirs[name].input_type.full_name
        assert method.output_type.full_name == theirs[name].output_type.full_name


def test_a_message_comes_back_as_it_was() -> None:
    request = message("ModelInferRequest")(model_name="lifelong", raw_input_contents=[b"\xff"])
    request.parameters["priority"].int64_param = 1
    assert message("ModelInferRequest").FromString(request.SerializeToString()) == request


@pytest.mark.parametrize("line", ["extend M {", "  optional string a = 1;", "enum E {", "string a = x;"])
def test_a_line_that_is_not_read_is_refused(line: str) -> None:
    with pytest.raises(BadProto, match=r"m\.proto, line 1"):
        parse(line, "m.proto")
