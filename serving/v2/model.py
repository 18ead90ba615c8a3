"""The one model, as the Open Inference Protocol sees it: its names, tensors and versions.

    text? [n], features? [n], id? [n], key? [n], all BYTES --events_of--> events of the source "http"
    answers --columns_of--> label, score, version, arm, receipt, event_id, can_be_labelled, each [n]

A version is an arm of the plan (`stable`, `candidate`) or the number of weights that are loaded. Without one the plan
says who answers, and the answer is traffic like any other: published, and evidence. What a named version answers is
neither, and has no receipt.

Rejected: the best classes of each text as a tensor [n, k] (their number differs while few classes are known, and
clients of this protocol expect a label), and versions as paths of their own models (an arm is no model).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from importlib.metadata import version
from typing import Final

import msgspec

from serving.http.problems import Problem, RequestRefused
from serving.http.schemas import UNREADABLE, Reply, Unpublished, event_of
from serving.v2.tensors import BYTES, Tensor, num_elements, wrong_tensor
from serving.weights.active import ActiveVersions
from wire.features import Features
from wire.records import Answer, Event

SERVER: Final = "lifelong"
MODEL: Final = "lifelong"
PLATFORM: Final = "lifelong"
EXTENSIONS: Final = ("binary_tensor_data",)
MAX_VERSION_DIGITS: Final = 18
MAX_SHOWN_CHARS: Final = 100
MAX_TYPE_CHARS: Final = 20
"""How much of a name, and of a datatype, an error repeats."""

INPUTS: Final = {"text": BYTES, "features": BYTES, "id": BYTES, "key": BYTES}
"""The datatype of each input, by its name; `text` or `features`, a JSON object for each event, is required."""

_FEATURES: Final = msgspec.json.Decoder(Features)

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
    said = "text" if "text" in columns else "features"
    if said not in columns:
        raise wrong_tensor("`text` and `features` are both missing")
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
    text, event_id, key = (row.get(name, "") for name in ("text", "id", "key"))
    event = event_of(text, event_id, key, features, now_ms=now_ms, new_id=new_id)
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
        "label": answer.label or ", ".join(answer.labels or ()),
        "score": answer.score,
        "version": answer.weights_version,
        "arm": answer.arm,
        "receipt": answer.receipt,
        "event_id": answer.event_id,
        "can_be_labelled": not isinstance(reply, Unpublished),
    }


def _tensors(datatypes: Mapping[str, str]) -> tuple[TensorMetadata, ...]:
    return tuple(TensorMetadata(name, datatype, (-1,)) for name, datatype in datatypes.items())


def _unknown(message: str) -> RequestRefused:
    return RequestRefused(Problem(status=HTTPStatus.NOT_FOUND, code="unknown_model", message=message))
