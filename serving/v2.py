"""The Open Inference Protocol, version 2: what REST (`serving/http/v2.py`) and gRPC (`serving/grpc/`) have in common.

    bytes --unpack_texts--> Tensor --events_of--> Event ... Answer --columns_of--> Tensor --pack--> bytes
    text? [n], features? [n], parts? [n], id? [n], key? [n], all BYTES --> events of the source "http"
    answers --> label, score, version, arm, receipt, event_id, can_be_labelled, each [n]

A BYTES tensor is a 4-byte length, little-endian, before each element; other tensors are their values in a row.

There is one model. A version is an arm of the plan (`stable`, `candidate`) or the number of weights that are loaded.
Without one the plan says who answers, and the answer is traffic like any other: published, and evidence. What a named
version answers is neither, and has no receipt.
"""

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import msgspec

from serving.http.problems import Problem, RequestRefused
from serving.http.schemas import UNREADABLE, Reply, Unpublished, event_of
from serving.models import ActiveVersions
from wire.inputs import NOTHING_SAID, Features, Part
from wire.kinds import kind_of
from wire.records import Answer, Event

BYTES: Final = "BYTES"
FORMATS: Final = {"FP32": "f", "INT64": "q", "BOOL": "?"}
"""The format of `struct` of each datatype of ours but BYTES."""

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """`values` are those of all elements in row-major order: texts, numbers or truth values, as `datatype` says."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]


def wrong_tensor(message: str) -> RequestRefused:
    """Returns what a request with a wrong tensor is refused with, which the protocol demands to be a 400."""
    return RequestRefused(Problem(status=HTTPStatus.BAD_REQUEST, code="wrong_tensor", message=message))


def pack(tensor: Tensor) -> bytes:
    """Returns the bytes of its values.

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
    """Returns the elements of a BYTES tensor, which are UTF-8. Raises RequestRefused where they are not, or too many.

    >>> unpack_texts("text", b"\\x01\\x00\\x00\\x00a\\x00\\x00\\x00\\x00", at_most=2)
    ['a', '']
    """
    texts: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + _LENGTH.size
        if end > len(data) or len(texts) == at_most:
            raise wrong_tensor(f"the bytes of `{name}` are more than its shape says, or cut off")
        at = end + _LENGTH.unpack_from(data, at)[0]
        if at > len(data):
            raise wrong_tensor(f"an element of `{name}` is longer than its bytes")
        texts.append(data[end:at])
    return decoded(name, texts)


def decoded(name: str, elements: Sequence[bytes]) -> list[str]:
    """Returns the texts of these elements. Raises RequestRefused where one is not UTF-8."""
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError:
        raise wrong_tensor(f"an element of `{name}` is not UTF-8") from None


def num_elements(name: str, shape: Sequence[int], *, at_most: int) -> int:
    """Returns the number of events that a tensor of this shape is of: [n], or [n, 1]. Raises RequestRefused."""
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
MAX_TYPE_CHARS: Final = 20
"""How much of a name, and of a datatype, an error repeats."""

INPUTS: Final = {"text": BYTES, "features": BYTES, "parts": BYTES, "id": BYTES, "key": BYTES}
"""The datatype of each input, by its name; `text`, `features`, a JSON object for each event, or `parts`, a list of
them, is required."""

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
"""The datatype of each output, by its name."""


class TensorMetadata(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The model, and the versions that can be asked now; a shape of -1 is any number."""

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


def metadata_of(live: ActiveVersions | None) -> ModelMetadata:
    return ModelMetadata(
        name=MODEL,
        versions=versions_of(live),
        platform=PLATFORM,
        inputs=_tensors(INPUTS),
        outputs=_tensors(OUTPUTS),
    )


def versions_of(live: ActiveVersions | None) -> tuple[str, ...]:
    """Returns the names by which a version can be asked: arms first, then numbers."""
    if live is None:
        return ()
    return (*(arm.name for arm in live.plan.arms), *(str(number) for number in sorted(live.versions)))


def version_of(model: str, name: str, live: ActiveVersions | None) -> int:
    """Returns the number of the version that is meant; 0 where none is named. Raises RequestRefused for others."""
    if model != MODEL:
        raise _unknown(f"there is no model of that name; there is {MODEL!r}")
    if not name:
        return 0
    arms = {arm.name: arm.version for arm in live.plan.arms} if live else {}
    is_number = name.isascii() and name.isdecimal() and len(name) <= MAX_VERSION_DIGITS
    number = arms.get(name, int(name) if is_number else 0)
    if live is None or number not in live.versions:
        raise _unknown(f"there is no such version now; there are {', '.join(versions_of(live)) or 'none'}")
    return number


@dataclass(frozen=True, slots=True)
class InputHead:
    """What a request says of an input besides its elements, of which there are to be `num`."""

    name: str
    datatype: str
    num: int

    @property
    def shown(self) -> str:
        """The name, as much of it as an error repeats."""
        return self.name[:MAX_SHOWN_CHARS]

    def tensor(self, texts: Sequence[str]) -> Tensor:
        """Returns the input with these elements. Raises RequestRefused where they are not as many as it says."""
        if len(texts) != self.num:
            raise wrong_tensor(f"`{self.shown}` has {len(texts)} elements, its shape says {self.num}")
        return Tensor(self.name, self.datatype, (self.num,), texts)


def input_head(name: str, datatype: str, shape: Sequence[int], *, at_most: int) -> InputHead:
    """Returns the head of an input. Raises RequestRefused for another datatype than it has, and a shape that is none.

    An input that there is not has any datatype: `events_of` refuses it by its name.
    """
    shown = name[:MAX_SHOWN_CHARS]
    expected = INPUTS.get(name, datatype)
    if datatype != expected:
        raise wrong_tensor(f"`{shown}` has the datatype {datatype[:MAX_TYPE_CHARS]}, not {expected}")
    return InputHead(name, datatype, num_elements(shown, shape, at_most=at_most))


def events_of(tensors: Sequence[Tensor], *, now_ms: int, new_id: Callable[[], str]) -> list[Event]:
    """Returns the events of a request, one for each row. Raises RequestRefused."""
    columns: dict[str, Sequence[str]] = {}
    for tensor in tensors:
        if tensor.name not in INPUTS:
            raise wrong_tensor(f"there is no such input; there are {', '.join(INPUTS)}")
        if tensor.name in columns:
            raise wrong_tensor(f"`{tensor.name}` is there twice")
        columns[tensor.name] = tensor.values
    said = next((name for name in NOTHING_SAID if name in columns), "")
    if not said:
        raise wrong_tensor("`text`, `features` and `parts` are all missing")
    num = len(columns[said])
    for name, values in columns.items():
        if len(values) != num:
            raise wrong_tensor(f"`{name}` has {len(values)} elements, `{said}` {num}")
    rows = [{name: values[row] for name, values in columns.items()} for row in range(num)]
    return [_event_of(number, row, now_ms=now_ms, new_id=new_id) for number, row in enumerate(rows)]


def _event_of(number: int, row: Mapping[str, str], *, now_ms: int, new_id: Callable[[], str]) -> Event:
    try:
        features = _FEATURES.decode(row.get("features") or "{}")
    except UNREADABLE as error:
        raise wrong_tensor(f"element {number}: `features` is no JSON object of numbers and texts: {error}") from error
    try:
        parts = _PARTS.decode(row.get("parts") or "[]")
    except UNREADABLE as error:
        raise wrong_tensor(f"element {number}: `parts` is no JSON list of objects: {error}") from error
    text, event_id, key = (row.get(name, "") for name in ("text", "id", "key"))
    said = {"text": text, "features": features, "parts": parts}
    event = event_of(said, event_id, key, now_ms=now_ms, new_id=new_id)
    if isinstance(event, Problem):
        raise wrong_tensor(f"element {number}: {event.message}")
    return event


def columns_of(replies: Sequence[Reply], names: Collection[str]) -> list[Tensor]:
    """Returns the outputs of these names (none: all).

    Raises RequestRefused where an event has no answer, or no such output is known.
    """
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown:
        raise wrong_tensor(f"there is no such output; there are {', '.join(OUTPUTS)}")
    rows = [_row(reply) for reply in replies]
    shape = (len(rows),)
    return [
        Tensor(name, datatype, shape, [row[name] for row in rows])
        for name, datatype in OUTPUTS.items()
        if not names or name in names
    ]


def _row(reply: Reply) -> dict[str, str | float | int | bool]:
    if isinstance(reply, Problem):
        is_ours = reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        raise RequestRefused(reply if is_ours else replace(reply, status=HTTPStatus.BAD_REQUEST))
    answer = reply.answer if isinstance(reply, Unpublished) else reply
    assert isinstance(answer, Answer), "no vector was asked for"
    return {
        "label": answer.label or _shown(answer.named),
        "score": answer.score,
        "version": answer.weights_version,
        "arm": answer.arm,
        "receipt": answer.receipt,
        "event_id": answer.event_id,
        "can_be_labelled": not isinstance(reply, Unpublished),
    }


def _shown(label: str | None) -> str:
    """Returns what an answer without `label` says: the names of its classes, or what its kind renders."""
    if label is None:
        return ""
    kind = kind_of(label)
    return ", ".join(kind.class_names(label)) if kind.has_classes else kind.render(label)


def _tensors(datatypes: Mapping[str, str]) -> tuple[TensorMetadata, ...]:
    return tuple(TensorMetadata(name, datatype, (-1,)) for name, datatype in datatypes.items())


def _unknown(message: str) -> RequestRefused:
    return RequestRefused(Problem(status=HTTPStatus.NOT_FOUND, code="unknown_model", message=message))
