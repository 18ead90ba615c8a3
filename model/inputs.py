"""Converts the values of an event (numbers, series, ...) to tokens of the encoder, or to a part of the event's vector.

    contents of events --tokenize_contents--> token ids for the encoder --encoder--> z_BD --InputMap.joined--> z_BD

A kind of input is described by a codec (`wire.inputs`), which reads the values of events. Its tensor half, which is
here, is the part that needs tensors. It can use a value in two ways, or in both:

- as tokens, which the encoder reads after the tokens of the text;
- as a vector of the encoder's width D. The event's vector is then the direction of the sum of the encoder's vector and
  these vectors (late fusion). If the event has nothing for the encoder, its vector is left out of the sum.

A codec can measure statistics of the values of the stream, for example their mean. These are a stored tensor of the
version, with a digest like every weight. So replicas compute with the same bits as the learner. If an event has only a
text, its vector is exactly the encoder's vector.

A codec names the import path of its tensor half. It is imported once and tried on the codec's examples. If the tensor
half fails on a value, the event is unreadable.

Shape suffixes: B events, D width.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from model.errors import UnreadableInput, WrongConfig
from model.qtensor import QTensor
from wire.plugins import TorchFreeHalf, TorchHalves

STATES: Final = ("features.", "inputs.")
"""The prefixes of the names of the stored tensors of inputs. No weight of an encoder has such a name."""

PROBE_WIDTH: Final = 8
"""The width D with which the tensor half of an input is tried on the codec's examples."""

Vector: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]
"""The vector of a value, float64 [D]."""


class Reader(Protocol):
    """The part of `model.packed.Inputs` that tensor halves use: it converts texts to token ids."""

    @property
    def max_tokens(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...

    def encode_many(self, texts: Sequence[str], *, max_tokens: int | None = None) -> list[list[int]]: ...


class InputTensors(Protocol):
    """The tensor half of an input codec: makes tokens and vectors of its values.

    It only gets values that `InputCodec` has checked and truncated (`cut`). `state` is the name of the stored tensor of
    the input, which begins with one of STATES; "" if it has none.
    """

    @property
    def state(self) -> str: ...

    def tokens(self, value: Any, reader: Reader, max_tokens: int) -> list[int]:
        """Returns the token ids of a value, of which the encoder reads at most `max_tokens`.

        They are [] if the codec has no tokens. `reader` converts texts to token ids.
        """

    def open(self, width: int, stored: QTensor | None) -> Callable[[Any], Vector | None]:
        """Returns a function that makes the vector [width] of a value, with the statistics of a version.

        `stored` is the stored tensor of the version; None if it has none. The function returns None for a value without
        a vector. A codec without tokens must give every value a vector. Raises WrongShape.
        """

    def fit(self, values: Sequence[Any], old: QTensor | None, *, num_labels: int, is_complete: bool) -> QTensor | None:
        """Measures the statistics of the values in the replay buffer. Returns them as a stored tensor, or None to keep
        the tensor `old`.

        - `num_labels`: the number of labels so far.
        - `is_complete`: whether the buffer still has all values that were learnt. If it has dropped some, their vectors
          under the new tensor must be the same as under `old`, because they cannot be learnt again.
        """


class Codec(TorchFreeHalf, Protocol):
    """The part of `wire.inputs.InputCodec` that this file uses."""

    @property
    def has_tokens(self) -> bool: ...
    @property
    def examples(self) -> tuple[Any, ...]: ...


class Content(Protocol):
    """The contents of an event: its text, and its other values, each with its codec (`wire.inputs.ParsedContent`).

    `is_encoded` says whether the event has something that the encoder reads: a text or a value with tokens.
    """

    @property
    def text(self) -> str: ...
    @property
    def values(self) -> Sequence[tuple[Codec, Any]]: ...
    @property
    def is_encoded(self) -> bool: ...


def is_state(name: str) -> bool:
    """Returns whether a stored tensor belongs to an input codec, and not to an encoder or a head."""
    return name.startswith(STATES)


def tokenize_contents(contents: Sequence[Content], reader: Reader, max_tokens: int | None = None) -> list[list[int]]:
    """Tokenizes events: their texts and their other values. Returns at most `max_tokens` token ids of each event.

    Raises UnreadableInput.
    """
    token_ids = reader.encode_many([content.text for content in contents], max_tokens=max_tokens)
    limit = reader.max_tokens if max_tokens is None else max_tokens
    for row, content in enumerate(contents):
        if any(codec.has_tokens for codec, _ in content.values):
            # A tokenizer also makes tokens of an empty text. An event without a text only has its values' tokens.
            ids = token_ids[row] if content.text.strip() else []
            for codec, value in content.values:
                ids = ids + _tokens(codec, value, reader, limit)
            if not ids:
                raise UnreadableInput("the encoder reads nothing of it")
            token_ids[row] = ids[:limit]
    return token_ids


def fitted(
    codec: Codec, values: Sequence[Any], old: QTensor | None, *, num_labels: int, is_complete: bool
) -> QTensor | None:
    """Measures the statistics of an input by `InputTensors.fit`, and checks the result; None if `old` is kept.

    Raises WrongConfig, which names the input, if the input fails.
    """
    tensors = tensors_of(codec)
    try:
        new = tensors.fit(values, old, num_labels=num_labels, is_complete=is_complete) if tensors.state else None
        if new is not None:
            tensors.open(PROBE_WIDTH, new)
    except Exception as error:
        # The codec may be a plug-in, which can raise any exception; the message must name the codec.
        raise WrongConfig(f"the input {codec.name} cannot be measured: {type(error).__name__}: {error}") from error
    if new is not None and new.name != tensors.state:
        raise WrongConfig(f"the input {codec.name} gives the tensor {new.name!r}, and its state is {tensors.state!r}")
    return new


class InputMap:
    """Adds the vectors of events' values to the vectors of the encoder, for one version. Threads may share it.

    `states` has the version's stored tensors of inputs, by name.
    """

    def __init__(self, width: int, tensors: Mapping[str, QTensor] = MappingProxyType({})) -> None:
        self.states = {name: tensor for name, tensor in tensors.items() if is_state(name)}
        self._width = width
        self._opened: dict[str, Callable[[Any], Vector | None]] = {}

    def state_of(self, codec: Codec) -> QTensor | None:
        """Returns the stored tensor of an input; None if it has none."""
        return self.states.get(tensors_of(codec).state)

    def open(self, codecs: Iterable[Codec]) -> None:
        """Prepares inputs before an event needs them. Raises WrongConfig, or WrongShape for a stored tensor."""
        for codec in codecs:
            self._opened[codec.name] = tensors_of(codec).open(self._width, self.state_of(codec))

    def joined(self, z_BD: Tensor, contents: Sequence[Content]) -> Tensor:
        """Returns the vectors of events, float32 [B, D], from the encoder's vectors `z_BD` and the values of events.

        If the encoder reads nothing of an event, its row of `z_BD` is ignored. An event's vector depends only on this
        event, to the last bit. Raises UnreadableInput.
        """
        if not any(content.values for content in contents):
            return z_BD
        joined_BD = z_BD.clone()
        for row, content in enumerate(contents):
            vectors = self._vectors(content)
            if vectors:
                if content.is_encoded:
                    vectors.insert(0, z_BD[row].double().numpy())
                # A single vector keeps its bits; a sum of several is scaled to length 1.
                joined_D = vectors[0] if len(vectors) == 1 else unit(sum(vectors[1:], start=vectors[0]))
                joined_BD[row] = torch.from_numpy(joined_D).float()
        return joined_BD

    def is_same(self, other: "InputMap", content: Content) -> bool:
        """Returns whether this map and `other` add the same vectors to an event."""
        mine = self._vectors(content)
        theirs = other._vectors(content)
        return len(mine) == len(theirs) and all(map(np.array_equal, mine, theirs))

    def _vectors(self, content: Content) -> list[Vector]:
        vectors = [self._vector(codec, value) for codec, value in content.values]
        return [x_D for x_D in vectors if x_D is not None]

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
    """Returns a vector of length 1 in the same direction."""
    unit_D: Vector = x_D / np.sqrt(np.square(x_D).sum())
    return unit_D


def _tokens(codec: Codec, value: Any, reader: Reader, max_tokens: int) -> list[int]:
    if not codec.has_tokens:
        return []
    try:
        ids = tensors_of(codec).tokens(value, reader, max_tokens)
        highest = reader.vocab_size or 1 << 31
        are_valid = isinstance(ids, list) and all(isinstance(token, int) and 0 <= token < highest for token in ids)
    except Exception as error:
        raise _failed(codec, error) from error
    if not are_valid:
        raise UnreadableInput(f"the input {codec.name} makes tokens that are not a list of numbers below {highest}")
    return ids


def _failed(codec: Codec, error: Exception) -> UnreadableInput:
    """Converts any exception of a codec, which may be a plug-in, to the error of this event, so that only it fails."""
    return UnreadableInput(f"the input {codec.name} fails on it: {type(error).__name__}: {error}")


def _problem_of_vector(x_D: Any, codec: Codec, width: int) -> str:
    """Returns why `x_D` is not a vector of the codec; "" if it is one."""
    if x_D is None:
        return "" if codec.has_tokens else "no vector, and it has no tokens"
    if not isinstance(x_D, np.ndarray) or x_D.shape != (width,) or x_D.dtype != np.float64:
        return f"a vector that is not float64 [{width}]"
    return "" if np.isfinite(x_D).all() else "a vector that is not finite"


def _broken_laws(tensors: InputTensors, codec: Codec) -> Iterator[str]:
    """Tries a tensor half on the examples of its codec; yields the requirements of the protocol that it violates."""
    if tensors.state and not is_state(tensors.state):
        yield f"its state is {tensors.state!r}: call it inputs.{codec.name}"
    if missing := [name for name in ("tokens", "fit") if not callable(getattr(tensors, name, None))]:
        yield f"it lacks {', '.join(missing)}"
    make_vector = tensors.open(PROBE_WIDTH, None)
    for value in codec.examples:
        if problem := _problem_of_vector(make_vector(value), codec, PROBE_WIDTH):
            yield f"of the value {value!r}, it makes {problem}"
    tensors.fit(codec.examples, None, num_labels=len(codec.examples), is_complete=True)


tensors_of = TorchHalves[Codec, InputTensors]("the input", _broken_laws, WrongConfig).of
"""Returns the tensor half of an input, imported and tried once. Raises WrongConfig."""
