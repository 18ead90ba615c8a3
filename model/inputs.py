"""The other half of the inputs of events: what the encoder reads of a value, and what is added to an event's vector.

    contents, taken apart --tokens_of--> the numbers that the encoder reads --encoder--> z_BD --InputMap.joined--> z_BD

A value reaches the head in one of two ways, or both. Its codec may make tokens of it, which the encoder reads behind
those of the text. And it may make a vector of it, of the encoder's width: the event's vector is then the direction of
the sum of all of them (late fusion), without that of the encoder if that reads nothing of the event. What a codec has
measured of the values of the stream is a stored tensor of the version, under its digest as every weight: replicas
compute with the bits that the learner computed with. An event that says nothing but a text has the encoder's vector, to
the last bit.

The tensors are imported by the path that a codec names (`wire.inputs`), once, and tried on its examples. One that fails
on a value makes that event unreadable.

Shapes: B events, D width.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from model.errors import UnreadableInput, WrongConfig
from model.qtensor import QTensor
from wire.plugins import Halves, Symbols

STATES: Final = ("features.", "inputs.")
"""What the names of the stored tensors of inputs begin with; no weight of an encoder has such a name."""

PROBE_WIDTH: Final = 8
"""The width at which the tensors of an input are tried."""

Vector: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]
"""What a value adds to the vector of its event, [D]."""


class Reader(Protocol):
    """What is needed of whatever reads texts for the encoder (`model.packed.Inputs`)."""

    @property
    def max_tokens(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...

    def encode_many(self, texts: Sequence[str], *, max_tokens: int | None = None) -> list[list[int]]: ...


class InputTensors(Protocol):
    """The functions of an input. `state` is the name of its stored tensor, which begins with one of STATES; "" if it
    has none. Each value has no problem, and is as `InputCodec.cut` has made it."""

    @property
    def state(self) -> str: ...

    def tokens(self, value: Any, reader: Reader, max_tokens: int) -> list[int]:
        """Returns the numbers that the encoder reads of a value; none if its codec has no tokens. `reader` makes those
        of texts."""

    def open(self, width: int, stored: QTensor | None) -> Callable[[Any], Vector | None]:
        """Returns what makes a vector of a value by the stored tensor of a version, None if it has none. A value of a
        codec without tokens has a vector. Raises WrongShape."""

    def fit(self, values: Sequence[Any], old: QTensor | None, *, num_labels: int, is_complete: bool) -> QTensor | None:
        """Returns the tensor that is measured on the values of the memory after `num_labels`; None if `old` stays.

        `is_complete`: the memory holds everything that was learnt. If not, a value that the memory has dropped must
        have the same vector as under `old`.
        """


class Codec(Symbols, Protocol):
    """What is needed of the half of symbols (`wire.inputs.InputCodec`)."""

    @property
    def has_tokens(self) -> bool: ...
    @property
    def examples(self) -> tuple[Any, ...]: ...


class Content(Protocol):
    """What an event says, taken apart (`wire.inputs.Said`)."""

    @property
    def text(self) -> str: ...
    @property
    def values(self) -> Sequence[tuple[Codec, Any]]: ...
    @property
    def is_encoded(self) -> bool: ...


def is_state(name: str) -> bool:
    """Whether a stored tensor is that of an input, and no weight of an encoder."""
    return name.startswith(STATES)


def tokens_of(contents: Sequence[Content], reader: Reader, max_tokens: int | None = None) -> list[list[int]]:
    """Returns what the encoder reads of events, of each at most `max_tokens`. Raises UnreadableInput."""
    found = reader.encode_many([each.text for each in contents], max_tokens=max_tokens)
    at_most = reader.max_tokens if max_tokens is None else max_tokens
    for row, each in enumerate(contents):
        if any(codec.has_tokens for codec, _ in each.values):
            own = found[row] if each.text.strip() else []
            for codec, value in each.values:
                own = own + _tokens(codec, value, reader, at_most)
            if not own:
                raise UnreadableInput("the encoder reads nothing of it")
            found[row] = own[:at_most]
    return found


def fitted(
    codec: Codec, values: Sequence[Any], old: QTensor | None, *, num_labels: int, is_complete: bool
) -> QTensor | None:
    """Returns what an input has measured of the values of the memory; None if that is as before.

    Raises WrongConfig, which names the input, if it fails.
    """
    tensors = tensors_of(codec)
    try:
        found = tensors.fit(values, old, num_labels=num_labels, is_complete=is_complete) if tensors.state else None
        if found is not None:
            tensors.open(PROBE_WIDTH, found)
    except Exception as error:
        # The codec may be another's: whatever it raises has to name it.
        raise WrongConfig(f"the input {codec.name} cannot be measured: {type(error).__name__}: {error}") from error
    if found is not None and found.name != tensors.state:
        raise WrongConfig(f"the input {codec.name} gives the tensor {found.name!r}, and its state is {tensors.state!r}")
    return found


class InputMap:
    """Adds to the vectors of a version what does not come from its encoder. `states` are its stored tensors of inputs.

    Threads may share it.
    """

    def __init__(self, width: int, tensors: Mapping[str, QTensor] = MappingProxyType({})) -> None:
        self.states = {name: tensor for name, tensor in tensors.items() if is_state(name)}
        self._width = width
        self._opened: dict[str, Callable[[Any], Vector | None]] = {}

    def state_of(self, codec: Codec) -> QTensor | None:
        """Returns the stored tensor of an input; None if it has none."""
        return self.states.get(tensors_of(codec).state)

    def open(self, codecs: Iterable[Codec]) -> None:
        """Opens inputs before the first event has them. Raises WrongConfig, and WrongShape for a stored tensor."""
        for codec in codecs:
            self._opened[codec.name] = tensors_of(codec).open(self._width, self.state_of(codec))

    def joined(self, z_BD: Tensor, contents: Sequence[Content]) -> Tensor:
        """Returns the vectors of events. `z_BD` are those of the encoder; a row of which it reads nothing is not read.

        An event's vector depends on that event alone, to the last bit. Raises UnreadableInput.
        """
        if not any(each.values for each in contents):
            return z_BD
        joined_BD = z_BD.clone()
        for row, each in enumerate(contents):
            vectors = self._vectors(each)
            if vectors:
                if each.is_encoded:
                    vectors.insert(0, z_BD[row].double().numpy())
                joined_D = vectors[0] if len(vectors) == 1 else unit(sum(vectors[1:], start=vectors[0]))
                joined_BD[row] = torch.from_numpy(joined_D).float()
        return joined_BD

    def is_same(self, other: "InputMap", content: Content) -> bool:
        """Whether an event gets the same from another map."""
        mine, theirs = self._vectors(content), other._vectors(content)
        return len(mine) == len(theirs) and all(map(np.array_equal, mine, theirs))

    def _vectors(self, content: Content) -> list[Vector]:
        found = [self._vector(codec, value) for codec, value in content.values]
        return [each_D for each_D in found if each_D is not None]

    def _vector(self, codec: Codec, value: Any) -> Vector | None:
        if codec.name not in self._opened:
            self.open([codec])
        try:
            x_D = self._opened[codec.name](value)
            problem = _problem_of_vector(x_D, codec, self._width)
        except Exception as error:
            raise _failed(codec, error) from error
        if problem:
            raise UnreadableInput(f"the input {codec.name} makes {problem}")
        return x_D


def unit(x_D: Vector) -> Vector:
    """Returns the direction of a vector."""
    unit_D: Vector = x_D / np.sqrt(np.square(x_D).sum())
    return unit_D


def _tokens(codec: Codec, value: Any, reader: Reader, max_tokens: int) -> list[int]:
    if not codec.has_tokens:
        return []
    try:
        found = tensors_of(codec).tokens(value, reader, max_tokens)
        highest = reader.vocab_size or 1 << 31
        is_whole = isinstance(found, list) and all(isinstance(each, int) and 0 <= each < highest for each in found)
    except Exception as error:
        raise _failed(codec, error) from error
    if not is_whole:
        raise UnreadableInput(f"the input {codec.name} makes tokens that are no list of numbers below {highest}")
    return found


def _failed(codec: Codec, error: Exception) -> UnreadableInput:
    """The codec may be another's: whatever it raises is about this event."""
    return UnreadableInput(f"the input {codec.name} fails on it: {type(error).__name__}: {error}")


def _problem_of_vector(x_D: Any, codec: Codec, width: int) -> str:
    if x_D is None:
        return "" if codec.has_tokens else "no vector, and it has no tokens"
    if not isinstance(x_D, np.ndarray) or x_D.shape != (width,) or x_D.dtype != np.float64:
        return f"a vector that is no float64 [{width}]"
    return "" if np.isfinite(x_D).all() else "a vector that is not finite"


def _broken_laws(tensors: InputTensors, codec: Codec) -> Iterator[str]:
    """Yields which laws of the protocol the tensors break for the examples of a codec."""
    if tensors.state and not is_state(tensors.state):
        yield f"its state is {tensors.state!r}: call it inputs.{codec.name}"
    if missing := [name for name in ("tokens", "fit") if not callable(getattr(tensors, name, None))]:
        yield f"it lacks {', '.join(missing)}"
    vector_of = tensors.open(PROBE_WIDTH, None)
    for value in codec.examples:
        if problem := _problem_of_vector(vector_of(value), codec, PROBE_WIDTH):
            yield f"of the value {value!r}, it makes {problem}"
    tensors.fit(codec.examples, None, num_labels=len(codec.examples), is_complete=True)


tensors_of = Halves[Codec, InputTensors]("the input", _broken_laws, WrongConfig).of
"""Returns the tensors of an input. Raises WrongConfig."""
