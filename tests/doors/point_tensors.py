"""The tensors of points: both numbers in standard deviations, in two random directions beside a constant one.

Shapes: D width.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch

from model.inputs import Reader, Vector, unit
from model.qtensor import FP32, QTensor
from wire.inputs import Part

STATE: Final = "inputs.point"


class PointTensors:
    state = STATE

    def tokens(self, value: Part, reader: Reader, max_tokens: int) -> list[int]:
        return []

    def open(self, width: int, stored: QTensor | None) -> Callable[[Part], Vector]:
        directions_3D = np.random.RandomState(5).standard_normal((3, width))
        mean_2, scale_2 = np.array([[0.0, 0.0], [1.0, 1.0]])
        if stored is not None:
            mean_2, scale_2 = stored.parts["value"].double().numpy()

        def vector(value: Part) -> Vector:
            x, y = (np.array([value["x"], value["y"]]) - mean_2) / scale_2
            return unit(np.array([1.0, x, y]) @ directions_3D)

        return vector

    def fit(self, values: Sequence[Part], old: QTensor | None, *, num_labels: int, is_complete: bool) -> QTensor | None:
        if old is not None or not is_complete:
            return None
        points_N2 = np.sort(np.array([[value["x"], value["y"]] for value in values], dtype=np.float64), axis=0)
        measured_22 = np.stack([points_N2.mean(axis=0), points_N2.std(axis=0)])
        if not (measured_22[1] > 0).all():
            return None
        return QTensor(STATE, FP32, {"value": torch.from_numpy(measured_22).float()})


TENSORS: Final = PointTensors()
