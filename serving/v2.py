"""The Open Inference Protocol, version 2: the code that REST (`serving/http/v2.py`) and gRPC (`serving/grpc/`) share.

    bytes --unpack_texts--> Tensor --decode_events--> Event ... Answer --build_columns--> Tensor --pack--> bytes
    text? [n], features? [n], parts? [n], id? [n], key? [n], all BYTES --> events of the source "http"
    answers --> label, score, version, arm, receipt, event_id, can_be_labelled, each [n]

In a BYTES tensor, each element comes after its length, which has 4 bytes, little-endian. In other tensors, there is
nothing between the values.

There is one model. The names of its versions are the arms of the plan (`stable`, `candidate`) and the numbers of the
loaded versions. If a request names no version, the plan chooses the version, and the answer is published and counts as
evidence for its arm. If a request names a version, the answer is not published, does not count as evidence, and has no
receipt.
"""

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import msgspec

from serving.http.problems import Problem, RequestRefused
from serving.http.schemas import UNREADABLE, Reply, Unpublished, make_event
from serving.models import ActiveVersions
from wire.inputs import EMPTY_CONTENT, Features, Part
from wire.kinds import find_kind
from wire.records import Answer, Event

BYTES: Final = "BYTES"
FORMATS: Final = {"FP32": "f", "INT64": "q", "BOOL": "?"}
"""The `struct` format of each datatype that we use, except BYTES."""

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named tensor. `values` are its elements in row-major order: texts, numbers or booleans, by `datatype`."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]


def wrong_tensor(message: str) -> RequestRefused:
    """Returns the error of an invalid tensor. The protocol requires the status 400."""
    return RequestRefused(Problem(status=HTTPStatus.BAD_REQUEST, code="wrong_tensor", message=message))


def pack(tensor: Tensor) -> bytes:
    """Returns the tensor's values as bytes.

    >>> pack(Tensor("label", "BYTES", (2,), ["a", ""]))
    b'\\x01\\x00\\x00\\x00a\\x00\\x00\\x00\\x00'
    """
    if tensor.datatype != BYTES:
        return struct.pack(f"<{len(tensor.values)}{FORMATS[tensor.datatype]}", *tensor.values)
    parts: list[bytes] = []
    for value in tensor.values:
        data = value.encode()
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def unpack_texts(name: str, data: bytes, *, at_most: int) -> list[str]:
    """Returns the elements of a BYTES tensor as texts.

    Raises RequestRefused if an element is not UTF-8, or if there are more than `at_most`.

    >>> unpack_texts("text", b"\\x01\\x00\\x00\\x00a\\x00\\x00\\x00\\x00", at_most=2)
    ['a', '']
    """
    texts: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + _LENGTH.size
        if end > len(data) or len(texts) == at_most:
            raise wrong_tensor(f"the bytes of `{name}` are truncated, or are more than its shape states")
        at = end + _LENGTH.unpack_from(data, at)[0]
        if at > len(data):
            raise wrong_tensor(f"an element of `{name}` is truncated")
        texts.append(data[end:at])
    return decode_texts(name, texts)


def decode_texts(name: str, elements: Sequence[bytes]) -> list[str]:
    """Returns the elements as texts. Raises RequestRefused if one is not UTF-8."""
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError:
        raise wrong_tensor(f"an element of `{name}` is not UTF-8") from None


def num_elements(name: str, shape: Sequence[int], *, at_most: int) -> int:
    """Returns the number of events n for the shapes [n] and [n, 1]. Raises RequestRefused for other shapes."""
    if len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise wrong_tensor(f"`{name}` has the shape {list(shape)[:9]}; give [n] or [n, 1]")
    if not 0 < shape[0] <= at_most:
        raise wrong_tensor(f"`{name}` has {shape[0]} elements; give 1 to {at_most}")
    return shape[0]


SERVER: Final = "lifelong"
MODEL: Final = "lifelong"
PLATFORM: Final = "lifelong"
EXTENSIONS: Final = ("binary_tensor_data",)
MAX_VERSION_DIGITS: Final = 18
MAX_SHOWN_CHARS: Final = 100
"""Characters of a name that an error message repeats."""

MAX_TYPE_CHARS: Final = 20
"""Characters of a datatype that an error message repeats."""

INPUTS: Final = {"text": BYTES, "features": BYTES, "parts": BYTES, "id": BYTES, "key": BYTES}
"""The datatype of each input by name.

At least one of `text`, `features` (a JSON object for each event) and `parts` (a JSON list of objects) is required.
"""

_FEATURES: Final = msgspec.json.Decoder(Features)
_PARTS: Final = msgspec.json.Decoder(tuple[Part, ...])

OUTPUTS: Final = {
    "label": BYTES,
    "score": "FP32",
    "version": "INT64",
    "arm": BYTES,
    "receipt": BYTES,
    "event_id": BYTES,
    "can_be_labelled": "BOOL",
}
"""The datatype of each output by name."""


class TensorMetadata(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The model, and the versions that requests may name now. In a shape, -1 is any number."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class ServerMetadata(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: str
    extensions: tuple[str, ...]


def server_metadata() -> ServerMetadata:
    return ServerMetadata(name=SERVER, version=version(SERVER), extensions=EXTENSIONS)


def build_metadata(live: ActiveVersions | None) -> ModelMetadata:
    return ModelMetadata(
        name=MODEL,
        versions=list_versions(live),
        platform=PLATFORM,
        inputs=_tensors(INPUTS),
        outputs=_tensors(OUTPUTS),
    )


def list_versions(live: ActiveVersions | None) -> tuple[str, ...]:
    """Returns the names of versions that a request may use: first the arms, then the numbers."""
    if live is None:
        return ()
    return (*(arm.name for arm in live.plan.arms), *(str(number) for number in sorted(live.versions)))


def find_version(model: str, name: str, live: ActiveVersions | None) -> int:
    """Returns the number of the version with this name; 0 if `name` is empty.

    Raises RequestRefused if the model or the version is unknown.
    """
    if model != MODEL:
        raise _unknown(f"there is no model of that name: use {MODEL!r}")
    if not name:
        return 0
    arms = {arm.name: arm.version for arm in live.plan.arms} if live else {}
    is_number = name.isascii() and name.isdecimal() and len(name) <= MAX_VERSION_DIGITS
    number = arms.get(name, int(name) if is_number else 0)
    if live is None or number not in live.versions:
        raise _unknown(f"there is no such version now; the versions are: {', '.join(list_versions(live)) or 'none'}")
    return number


@dataclass(frozen=True, slots=True)
class InputHead:
    """The name, datatype and number of elements of an input, without the elements."""

    name: str
    datatype: str
    num: int

    @property
    def shown(self) -> str:
        """The name, truncated for error messages."""
        return self.name[:MAX_SHOWN_CHARS]

    def tensor(self, texts: Sequence[str]) -> Tensor:
        """Returns the input with these elements. Raises RequestRefused if there are not `num` of them."""
        if len(texts) != self.num:
            raise wrong_tensor(f"`{self.shown}` has {len(texts)} elements, but its shape states {self.num}")
        return Tensor(self.name, self.datatype, (self.num,), texts)


def input_head(name: str, datatype: str, shape: Sequence[int], *, at_most: int) -> InputHead:
    """Returns the head of an input. Raises RequestRefused if its datatype or its shape is wrong.

    An unknown input may have any datatype here: `decode_events` refuses it by its name.
    """
    shown = name[:MAX_SHOWN_CHARS]
    expected = INPUTS.get(name, datatype)
    if datatype != expected:
        raise wrong_tensor(f"`{shown}` has the datatype {datatype[:MAX_TYPE_CHARS]}, not {expected}")
    return InputHead(name, datatype, num_elements(shown, shape, at_most=at_most))


def decode_events(tensors: Sequence[Tensor], *, now_ms: int, new_id: Callable[[], str]) -> list[Event]:
    """Returns the events of a request, one for each row. Raises RequestRefused."""
    columns: dict[str, Sequence[str]] = {}
    for tensor in tensors:
        if tensor.name not in INPUTS:
            raise wrong_tensor(f"there is no such input; the inputs are: {', '.join(INPUTS)}")
        if tensor.name in columns:
            raise wrong_tensor(f"`{tensor.name}` is there twice")
        columns[tensor.name] = tensor.values
    first = next((name for name in EMPTY_CONTENT if name in columns), "")
    if not first:
        raise wrong_tensor("`text`, `features` and `parts` are all missing")
    num = len(columns[first])
    for name, values in columns.items():
        if len(values) != num:
            raise wrong_tensor(f"`{name}` has {len(values)} elements, but `{first}` has {num}")
    rows = [{name: values[row] for name, values in columns.items()} for row in range(num)]
    return [_row_to_event(number, row, now_ms=now_ms, new_id=new_id) for number, row in enumerate(rows)]


def _row_to_event(number: int, row: Mapping[str, str], *, now_ms: int, new_id: Callable[[], str]) -> Event:
    try:
        features = _FEATURES.decode(row.get("features") or "{}")
    except UNREADABLE as error:
        problem = f"`features` is not a JSON object of numbers and texts: {error}"
        raise wrong_tensor(f"element {number}: {problem}") from error
    try:
        parts = _PARTS.decode(row.get("parts") or "[]")
    except UNREADABLE as error:
        raise wrong_tensor(f"element {number}: `parts` is not a JSON list of objects: {error}") from error
    text, event_id, key = (row.get(name, "") for name in ("text", "id", "key"))
    content = {"text": text, "features": features, "parts": parts}
    event = make_event(content, event_id, key, now_ms=now_ms, new_id=new_id)
    if isinstance(event, Problem):
        raise wrong_tensor(f"element {number}: {event.message}")
    return event


def build_columns(replies: Sequence[Reply], names: Collection[str]) -> list[Tensor]:
    """Returns the outputs with these names, or all outputs if `names` is empty. Each has one element for each reply.

    Raises RequestRefused if an event has no answer, or an output is unknown.
    """
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown:
        raise wrong_tensor(f"there is no such output; the outputs are: {', '.join(OUTPUTS)}")
    rows = [_row(reply) for reply in replies]
    shape = (len(rows),)
    return [
        Tensor(name, datatype, shape, [row[name] for row in rows])
        for name, datatype in OUTPUTS.items()
        if not names or name in names
    ]


def _row(reply: Reply) -> dict[str, str | float | int | bool]:
    if isinstance(reply, Problem):
        is_server_error = reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        raise RequestRefused(reply if is_server_error else replace(reply, status=HTTPStatus.BAD_REQUEST))
    answer = reply.answer if isinstance(reply, Unpublished) else reply
    assert isinstance(answer, Answer), "this protocol never requests vectors"
    return {
        "label": answer.label or _render_label(answer.prediction),
        "score": answer.score,
        "version": answer.weights_version,
        "arm": answer.arm,
        "receipt": answer.receipt,
        "event_id": answer.event_id,
        "can_be_labelled": not isinstance(reply, Unpublished),
    }


def _render_label(label: str | None) -> str:
    """Returns the text of an answer whose `label` is null: the names of its classes, or the text that its kind
    renders."""
    if label is None:
        return ""
    kind = find_kind(label)
    return ", ".join(kind.class_names(label)) if kind.has_classes else kind.render(label)


def _tensors(datatypes: Mapping[str, str]) -> tuple[TensorMetadata, ...]:
    return tuple(TensorMetadata(name, datatype, (-1,)) for name, datatype in datatypes.items())


def _unknown(message: str) -> RequestRefused:
    return RequestRefused(Problem(status=HTTPStatus.NOT_FOUND, code="unknown_model", message=message))
