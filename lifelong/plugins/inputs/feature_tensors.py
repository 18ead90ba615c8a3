"""The features of an event as a vector: standardised numbers and hashed categories in random directions.

    numbers  --(x - mean) / scale, clipped--> weights of a direction for each name -----.
    categories ---------------------------> a direction for each pair of name and value -+-sum-> unit vector e_D
                                                                      a constant direction -'
    labels doubled since the last time --> features of the memory --scales_of--> other means and scales

Random directions of the width D are almost orthogonal, so a vector keeps its features apart as if each had a column of
its own (random projection, Johnson and Lindenstrauss 1984; feature hashing, Weinberger et al. 2009), and a new name, or
a new category, changes no shape. The head's random features (`model.head`) make the interactions of all of them.

The directions follow from the names alone (numpy guarantees the stream of RandomState). Mean and scale of each number
are the stored tensor of the version. A number without an entry, one never seen, adds nothing.

Scales are measured seldom: whenever there are twice as many labels, while the memory holds everything that was learnt,
as then everything can be learnt again. If it does not, a number keeps its scale, and only those without one get theirs:
what the memory has dropped was learnt as if they had their mean.

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
"""The largest standardised value: a number may lie any number of deviations off."""

MAX_DIRECTIONS: Final = 4_096
"""The most directions that are kept, 3 KB each at D = 384; others are drawn again."""

GROWTH: Final = 2.0
"""The factor of the number of labels from one measurement of all scales to the next."""

Features: TypeAlias = Mapping[str, float | str]


class Scale(NamedTuple):
    """The mean of a number, and its standard deviation."""

    mean: float
    scale: float


class FeatureMap:
    """Makes vectors of features. Immutable. `scales` has an entry for each number that is read.

    `num_labels` is the number of labels after which the scales were measured.
    """

    def __init__(self, width: int, scales: Mapping[str, Scale], *, num_labels: int = 0) -> None:
        self.scales = dict(scales)
        self.num_labels = num_labels
        self._width = width

    @classmethod
    def of(cls, width: int, stored: QTensor | None) -> "FeatureMap":
        """Reads the stored tensor; without one no number is read. Raises WrongShape."""
        if stored is None:
            return cls(width, {})
        mean_N, scale_N = (stored.parts[name].tolist() for name in ("mean", "scale"))
        names = _names_of(stored)
        if not len(names) == len(mean_N) == len(scale_N):
            raise WrongShape(f"{SCALES}: {len(names)} names, {len(mean_N)} means and {len(scale_N)} scales")
        scales = {name: Scale(*values) for name, *values in zip(names, mean_N, scale_N, strict=True)}
        return cls(width, scales, num_labels=int(stored.parts["count"][0]))

    def to_tensor(self) -> QTensor:
        """Returns the stored form. There is at least one number."""
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
    """The functions of features: see `model.inputs`."""

    state = SCALES

    def tokens(self, value: Features, reader: Reader, max_tokens: int) -> list[int]:
        return []

    def open(self, width: int, stored: QTensor | None) -> Callable[[Features], Vector]:
        return FeatureMap.of(width, stored).vector

    def fit(
        self, values: Sequence[Features], old: QTensor | None, *, num_labels: int, is_complete: bool
    ) -> QTensor | None:
        known = FeatureMap.of(1, old)
        measured = scales_of(values)
        is_full = is_complete and num_labels >= GROWTH * known.num_labels
        scales = measured if is_full else measured | known.scales
        if scales == known.scales or not scales:
            return None
        return FeatureMap(1, scales, num_labels=num_labels if is_full else known.num_labels).to_tensor()


TENSORS: Final = FeatureTensors()


def scales_of(samples: Sequence[Features]) -> dict[str, Scale]:
    """Returns mean and standard deviation of each number, rounded to float32; a number of one value has none.

    >>> scales_of([{"x": 1.0, "y": 5.0, "city": "a"}, {"x": 3.0, "y": 5.0}])
    {'x': Scale(mean=2.0, scale=1.0)}
    """
    columns: dict[str, list[float]] = {}
    for features in samples:
        for name, value in features.items():
            if not isinstance(value, str):
                columns.setdefault(name, []).append(value)
    scales: dict[str, Scale] = {}
    for name, values in columns.items():
        column_N = np.sort(np.asarray(values))  # so that the order of the samples is nothing
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


def _names_of(stored: QTensor) -> list[str]:
    try:
        names = json.loads(stored.parts["names"].numpy().tobytes())
    except ValueError as error:
        raise WrongShape(f"{SCALES}: its names are no JSON: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise WrongShape(f"{SCALES}: its names are no list of texts")
    return names
