"""Distillation: an encoder learns from texts without labels to compute what another one, the teacher, computes.

    texts --teacher--> x_TD of every layer, z_BD
          --student--> x_TD of every layer, z_BD --how far apart--> AdamW
    Distiller.tensors --write_checkpoint--> file, with the steps done and the key of the run --resume--> Distiller

    L = COSINE_WEIGHT * (1 - cos(z, z')) + mean over layers of |x_l - x_l'|^2 / var(x_l')

The second term is that of TinyBERT (Jiao et al., arXiv 1909.10351, equation 8) without a projection, as both encoders
are equally wide; the first is what answers are made of. Layers are compared one by one if both have as many, and else
the vectors alone. With `rounded`, the student computes as it is served, and its gradients pass the rounding
(`model.fakequant`).

A distillation whose process was killed goes on from its file. The key is a digest of everything that the result depends
on. A file with another key belongs to another run; it is refused, so that nobody's hours are overwritten by a slip of
an option.

Shape suffixes: T tokens, B texts, D width.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from learner.encoder.base import lower_digests
from learner.errors import StateRefused
from learner.rounds.adamw import AdamW, ParameterGroup
from model.calibration import trainable
from model.errors import WrongConfig
from model.fakequant import fake_layer
from model.grid import is_of_grid
from model.linears import Linear, full_precision
from model.ragged import RaggedBatch
from model.strata import Strata
from wire.files import atomic_write

COSINE_WEIGHT = 10.0
"""What the difference of the vectors weighs, beside that of the layers."""

SCALE_RATE = 5.0
"""The learning rate of the scales of grids (`model.grid`), relative to that of the weights."""

MAX_GRADIENT_NORM = 1.0
"""Gradients with a larger norm are clipped to this norm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillOptions:
    """How long and how fast the student learns. The learning rate decays linearly to 0."""

    steps: int
    batch: int = 32
    """Texts of a step."""
    rate: float = 5e-4
    decay: float = 0.01
    rounded: bool = False
    """Whether the student computes with the rounding of the served kernels."""
    seed: int = 0
    """Draws the order of the texts."""


class Losses(NamedTuple):
    """The two terms of the loss of a step, unweighted."""

    cosine: float
    layers: float


class LayerOutputs(NamedTuple):
    """x_TD of the embedding and of every layer, and the vectors of the texts."""

    layers: Sequence[Tensor]
    z_BD: Tensor


class Distiller:
    """Owns the student while it learns. Verbs: step, texts_of, tensors, restore.

    After `restore` of the `tensors` of another one with the same arguments, both take the same steps, bit for bit.
    """

    def __init__(
        self, student: Strata, teacher: Strata, token_ids: Sequence[list[int]], options: DistillOptions
    ) -> None:
        if student.config.d_model != teacher.config.d_model or not token_ids:
            raise WrongConfig(
                f"{len(token_ids)} texts, a student {student.config.d_model} wide and a teacher"
                f" {teacher.config.d_model} wide; expected texts, and equal widths"
            )
        self.student = student
        self.num_done = 0
        """Steps that were taken."""
        self._teacher = teacher
        self._token_ids = token_ids
        self._options = options
        parameters = trainable(student)
        self._parameters = {name: parameters[name] for name in parameters if options.rounded or not is_of_grid(name)}
        self._optimizer = AdamW(_groups(self._parameters, options), num_steps=options.steps)
        self._epoch = -1
        self._order: list[int] = []

    @property
    def is_done(self) -> bool:
        return self.num_done >= self._options.steps

    def step(self) -> Losses:
        """Takes one step. One whose gradient is not finite changes nothing, and its losses are returned as they are."""
        batch = RaggedBatch.of(self.texts_of(self.num_done))
        linear = fake_layer if self._options.rounded else full_precision
        with torch.no_grad():
            teacher = _outputs(self._teacher, batch, full_precision)
        student = _outputs(self.student, batch, linear)
        cosine = 1 - functional.cosine_similarity(student.z_BD, teacher.z_BD).mean()
        layers = _distance(student.layers, teacher.layers)
        self._optimizer.zero_grad()
        (COSINE_WEIGHT * cosine + layers).backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), MAX_GRADIENT_NORM)
        if torch.isfinite(norm):
            self._optimizer.step()
        self.num_done += 1
        return Losses(float(cosine.detach()), float(layers.detach()))

    def tensors(self) -> dict[str, Tensor]:
        """Returns what `restore` needs, by name."""
        state = {f"student.{name}": value.detach() for name, value in self._parameters.items()}
        return state | {f"optimizer.{name}": value for name, value in self._optimizer.tensors().items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], num_done: int) -> None:
        """Goes on from what `tensors` returned after `num_done` steps. Raises KeyError for another student's."""
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[f"student.{name}"])
        prefix = "optimizer."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        self._optimizer.restore(own, num_done)
        self.num_done = num_done

    def texts_of(self, step: int) -> list[list[int]]:
        """Returns the texts of a step: those of an epoch come in an order that the seed and the epoch draw."""
        size = min(self._options.batch, len(self._token_ids))
        epoch, place = divmod(step, math.ceil(len(self._token_ids) / size))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self._options.seed + epoch)
            self._order = torch.randperm(len(self._token_ids), generator=generator).tolist()
            self._epoch = epoch
        return [self._token_ids[index] for index in self._order[place * size : (place + 1) * size]]


def _groups(parameters: Mapping[str, nn.Parameter], options: DistillOptions) -> list[ParameterGroup]:
    scales = [value for name, value in parameters.items() if is_of_grid(name)]
    others = [value for name, value in parameters.items() if not is_of_grid(name)]
    groups = [ParameterGroup(others, rate=options.rate, decay=options.decay)]
    if scales:
        groups.append(ParameterGroup(scales, rate=SCALE_RATE * options.rate, decay=0.0))
    return groups


def _outputs(strata: Strata, batch: RaggedBatch, linear: Linear) -> LayerOutputs:
    x_TD = strata.encode_prefix(batch, 0)
    layers = [x_TD]
    for block in strata.layers:
        x_TD = block(x_TD, batch.layout, linear)
        layers.append(x_TD)
    return LayerOutputs(layers, strata.forward_from(strata.config.n_layers, x_TD, batch.layout))


def _distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Returns the mean squared distance of the layers' outputs, each relative to the teacher's variance."""
    if len(student) != len(teacher):
        return torch.zeros(())
    distances = [(x_TD - y_TD).square().mean() / y_TD.var() for x_TD, y_TD in zip(student, teacher, strict=True)]
    return torch.stack(distances).mean()


def key_of(student: Strata, teacher: Strata, token_ids: Sequence[list[int]], options: DistillOptions) -> str:
    """Returns the key of a run: equal keys give equal results, from the untrained student on."""
    digest = sha256()
    for strata in (student, teacher):
        digest.update(f"{strata.config.canonical_json()}\n{lower_digests(strata)[-1]}\n".encode())
    digest.update(f"{options}\n{json.dumps(list(token_ids))}".encode())
    return digest.hexdigest()


def write_checkpoint(path: Path, distiller: Distiller, key: str) -> None:
    """Writes the state of the distillation in place of an earlier one."""
    metadata = {"key": key, "num_done": str(distiller.num_done)}
    tensors = {name: value.contiguous() for name, value in distiller.tensors().items()}
    with atomic_write(path, is_synced=True) as file:
        file.write(save(tensors, metadata))


def resume(path: Path, distiller: Distiller, key: str) -> bool:
    """Restores the state that `path` holds, if there is such a file. Raises StateRefused for a file of another run."""
    if not path.exists():
        return False
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                raise StateRefused(f"{path} belongs to a distillation with other options or texts; move it away first")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            distiller.restore(tensors, int(metadata["num_done"]))
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise StateRefused(f"{path} is no whole checkpoint ({error}); move it away first") from error
    return True
