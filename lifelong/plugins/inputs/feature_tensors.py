"""Turns the features of an event into a vector: standardised numbers and categories along random directions.

    numbers  --(x - mean) / scale, clipped--> weights of a direction for each name -----.
    categories ---------------------------> a direction for each pair of name and value -+-sum-> unit vector e_D
                                                                      a constant direction -'
    twice as many labels as at the last measurement --> features of the memory --measure_scales--> new means and scales

**Random directions** of width D are almost orthogonal, so a vector keeps its features apart as if each feature had its
own column (random projection, Johnson and Lindenstrauss 1984; feature hashing, Weinberger et al. 2009). A new name or a
new category does not change the shape of anything. The head's random features (`model.head`) represent interactions
between features. A direction depends only on the name (numpy guarantees the stream of RandomState).

**Standardisation.** The mean and the scale of each number are a stored tensor of the version. A number without an entry
adds nothing to the vector.

**When scales are measured.** New scales change all vectors, so everything has to be learnt again. This is possible only
while the memory holds all samples, and it is done rarely: each time that the number of labels has doubled. Once the
memory has dropped samples, known numbers keep their scales, and only new numbers get one. This is correct, because a
number without a scale was learnt as if it had always been at its mean.

Shape suffixes: D width, N numbers.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import torch

from model.errors import WrongShape
from model.inputs import Reader, Vector, unit
from model.qtensor import NUMBERS, QTensor

SCALES: Final = "features.scales"
"""The name of the stored tensor."""

CLIP: Final = 4.0
"""Standardised numbers are clipped to [-CLIP, CLIP], so that an outlier does not dominate the vector."""

MAX_DIRECTIONS: Final = 4_096
"""The size of the cache of directions, 3 KB each at D = 384."""

GROWTH: Final = 2.0
"""All scales are measured again when the number of labels has grown by this factor."""

Features: TypeAlias = Mapping[str, float | str]


class Scale(NamedTuple):
    """The mean and the standard deviation of a number."""

    mean: float
    scale: float


class FeatureMap:
    """Turns features into unit vectors of `width`. Immutable.

    `scales` has an entry for each number that is read. `num_labels` is the number of labels at the time when all scales
    were measured.
    """

    def __init__(self, width: int, scales: Mapping[str, Scale], *, num_labels: int = 0) -> None:
        self.scales = dict(scales)
        self.num_labels = num_labels
        self._width = width

    @classmethod
    def of(cls, width: int, stored: QTensor | None) -> "FeatureMap":
        """Reads the stored tensor; without a tensor there are no scales. Raises WrongShape."""
        if stored is None:
            return cls(width, {})
        mean_N = stored.parts["mean"].tolist()
        scale_N = stored.parts["scale"].tolist()
        names = _read_names(stored)
        if not len(names) == len(mean_N) == len(scale_N):
            raise WrongShape(f"{SCALES}: {len(names)} names, {len(mean_N)} means and {len(scale_N)} scales")
        scales = {name: Scale(*values) for name, *values in zip(names, mean_N, scale_N, strict=True)}
        return cls(width, scales, num_labels=int(stored.parts["count"][0]))

    def to_tensor(self) -> QTensor:
        """Returns the stored form. There must be at least one number."""
        names = sorted(self.scales)
        encoded = json.dumps(names).encode()
        parts = {
            "names": torch.frombuffer(bytearray(encoded), dtype=torch.uint8),
            "mean": torch.tensor([self.scales[name].mean for name in names], dtype=torch.float32),
            "scale": torch.tensor([self.scales[name].scale for name in names], dtype=torch.float32),
            "count": torch.tensor([self.num_labels], dtype=torch.int32),
        }
        return QTensor(SCALES, NUMBERS, parts)

    def vector(self, values: Features) -> Vector:
        """Returns the unit vector e_D of features."""
        directions = [_direction("constant", self._width)]
        weights = [1.0]
        for name in sorted(values):
            value = values[name]
            if isinstance(value, str):
                directions.append(_direction(f"category\0{name}\0{value}", self._width))
                weights.append(1.0)
            elif scale := self.scales.get(name):
                directions.append(_direction(f"number\0{name}", self._width))
                weights.append(min(max((value - scale.mean) / scale.scale, -CLIP), CLIP))
        return unit(np.asarray(weights) @ np.stack(directions))


class FeatureTensors:
    """The tensors of features: see `model.inputs.InputTensors`."""

    state = SCALES

    def tokens(self, value: Features, reader: Reader, max_tokens: int) -> list[int]:
        return []

    def open(self, width: int, stored: QTensor | None) -> Callable[[Features], Vector]:
        return FeatureMap.of(width, stored).vector

    def fit(
        self, values: Sequence[Features], old: QTensor | None, *, num_labels: int, is_complete: bool
    ) -> QTensor | None:
        # Scales do not depend on the width.
        known = FeatureMap.of(1, old)
        measured = measure_scales(values)
        replaces_all = is_complete and num_labels >= GROWTH * known.num_labels
        scales = measured if replaces_all else measured | known.scales
        if scales == known.scales or not scales:
            return None
        return FeatureMap(1, scales, num_labels=num_labels if replaces_all else known.num_labels).to_tensor()


TENSORS: Final = FeatureTensors()


def measure_scales(samples: Sequence[Features]) -> dict[str, Scale]:
    """Returns the mean and the standard deviation of each number, rounded to float32.

    A number that has a single value, or too large values, gets no scale.

    >>> measure_scales([{"x": 1.0, "y": 5.0, "city": "a"}, {"x": 3.0, "y": 5.0}])
    {'x': Scale(mean=2.0, scale=1.0)}
    """
    columns: dict[str, list[float]] = {}
    for features in samples:
        for name, value in features.items():
            if not isinstance(value, str):
                columns.setdefault(name, []).append(value)
    scales: dict[str, Scale] = {}
    for name, values in columns.items():
        # Sums of floats depend on the order: sorted, they do not depend on the order of the samples.
        column_N = np.sort(np.asarray(values))
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(np.float32(column_N.mean()))
            scale = float(np.float32(column_N.std()))
        if np.isfinite(mean) and np.isfinite(scale) and scale > 0:
            scales[name] = Scale(mean, scale)
    return scales


@lru_cache(maxsize=MAX_DIRECTIONS)
def _direction(key: str, width: int) -> Vector:
    seed = int.from_bytes(blake2b(key.encode(), digest_size=4).digest(), "little")
    return np.random.RandomState(seed).standard_normal(width)


def _read_names(stored: QTensor) -> list[str]:
    try:
        names = json.loads(stored.parts["names"].numpy().tobytes())
    except ValueError as error:
        raise WrongShape(f"{SCALES}: its names are not JSON: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise WrongShape(f"{SCALES}: its names are not a list of strings")
    return names
