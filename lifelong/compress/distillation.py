"""Knowledge distillation: a student encoder learns to compute the teacher's vectors, from texts without labels.

    texts --teacher--> x_TD of every layer, z_BD --.
          --student--> x_TD of every layer, z_BD --+--> loss --> AdamW
    Distiller.tensors --write_checkpoint--> file, with the steps done and the key of the run --resume--> Distiller

    L = COSINE_WEIGHT * (1 - cos(z, z')) + mean over layers of |x_l - x_l'|^2 / var(x_l')

The first term compares the vectors, from which answers are computed. The second term compares the outputs of the
layers, as in TinyBERT (Jiao et al., arXiv 1909.10351, equation 8). It needs no projection, because both encoders have
the same width. If they have different numbers of layers, the second term is 0. With `rounded`, the student computes as
it is served, and gradients pass through the rounding (`model.fakequant`, quantization-aware training).

A killed distillation resumes from its checkpoint file. The key of a run is a digest of everything on which the result
depends. A file with another key belongs to another run. It is refused, so that a wrong option does not overwrite hours
of work.

Shape suffixes: T tokens, B texts, D width.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Protocol

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
from model.grid import is_grid_part
from model.linears import Linear, full_precision
from model.ragged import RaggedBatch
from model.strata import Strata
from wire.files import atomic_write

COSINE_WEIGHT = 10.0
"""The weight of the vectors' term in the loss. The layers' term has the weight 1."""

SCALE_RATE = 5.0
"""The learning rate of the scales of grids (`model.grid`), as a multiple of the learning rate of the weights."""

MAX_GRADIENT_NORM = 1.0
"""Gradients with a larger norm are clipped to this norm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillOptions:
    """Hyperparameters of a distillation. `rate` is the initial learning rate, which decays linearly to 0."""

    steps: int
    batch: int = 32
    """The number of texts in a step."""
    rate: float = 5e-4
    decay: float = 0.01
    """The weight decay."""
    rounded: bool = False
    """Whether the student computes with the rounding of the served kernels."""
    seed: int = 0
    """The seed of the order of the texts."""


class Losses(NamedTuple):
    """The two terms of a step's loss, unweighted."""

    cosine: float
    layers: float


class LayerOutputs(NamedTuple):
    """The outputs x_TD of the embedding and of every layer, and the vectors of the texts."""

    layers: Sequence[Tensor]
    z_BD: Tensor


class Resumable(Protocol):
    """A training whose state can be written to a checkpoint. `num_done` is the number of steps that were taken."""

    @property
    def num_done(self) -> int: ...

    def tensors(self) -> dict[str, Tensor]:
        """Returns the state by name."""

    def restore(self, tensors: Mapping[str, Tensor], num_done: int) -> None:
        """Sets the state that `tensors` returned after `num_done` steps. Raises KeyError if a tensor is missing."""


class Distiller:
    """Trains a student to compute like a teacher. It owns the student during the training.

    `tensors` returns its state and `restore` sets it. A distiller that was restored from another one with the same
    arguments takes the same steps, bit for bit. Raises WrongConfig if the widths differ or there are no texts.
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
        """The number of steps that were taken."""
        self.num_steps = options.steps
        self.teacher = teacher
        self._token_ids = token_ids
        self._options = options
        parameters = trainable(student)
        self._parameters = {name: parameters[name] for name in parameters if options.rounded or not is_grid_part(name)}
        self._optimizer = AdamW(_groups(self._parameters, options), num_steps=options.steps)
        self._epoch = -1
        self._order: list[int] = []

    @property
    def is_done(self) -> bool:
        return self.num_done >= self.num_steps

    def step(self) -> Losses:
        """Takes one step and returns its losses. If the gradient is not finite, no weight changes."""
        batch = RaggedBatch.of(self.step_texts(self.num_done))
        linear = fake_layer if self._options.rounded else full_precision
        with torch.no_grad():
            teacher = outputs(self.teacher, batch, full_precision)
        self._optimizer.zero_grad()
        losses = add_gradients(outputs(self.student, batch, linear), teacher)
        self._optimize()
        return losses

    def _optimize(self) -> None:
        """Clips the gradients, changes the weights unless a gradient is not finite, and counts the step."""
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), MAX_GRADIENT_NORM)
        if torch.isfinite(norm):
            self._optimizer.step()
        self.num_done += 1

    def tensors(self) -> dict[str, Tensor]:
        """Returns the state of the student and the optimizer, by name."""
        state = {f"student.{name}": value.detach() for name, value in self._parameters.items()}
        return state | {f"optimizer.{name}": value for name, value in self._optimizer.tensors().items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], num_done: int) -> None:
        """Sets the state that `tensors` returned after `num_done` steps. Raises KeyError if a tensor is missing."""
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[f"student.{name}"])
        prefix = "optimizer."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        self._optimizer.restore(own, num_done)
        self.num_done = num_done

    def step_texts(self, step: int) -> list[list[int]]:
        """Returns the texts of a step. Every epoch has its own random order, which depends on the seed."""
        size = min(self._options.batch, len(self._token_ids))
        epoch, place = divmod(step, math.ceil(len(self._token_ids) / size))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self._options.seed + epoch)
            self._order = torch.randperm(len(self._token_ids), generator=generator).tolist()
            self._epoch = epoch
        return [self._token_ids[index] for index in self._order[place * size : (place + 1) * size]]


def _groups(parameters: Mapping[str, nn.Parameter], options: DistillOptions) -> list[ParameterGroup]:
    scales = [value for name, value in parameters.items() if is_grid_part(name)]
    others = [value for name, value in parameters.items() if not is_grid_part(name)]
    groups = [ParameterGroup(others, rate=options.rate, decay=options.decay)]
    if scales:
        groups.append(ParameterGroup(scales, rate=SCALE_RATE * options.rate, decay=0.0))
    return groups


def add_gradients(student: LayerOutputs, teacher: LayerOutputs) -> Losses:
    """Adds the gradients of the loss L to the parameters of the student; returns the terms of the loss."""
    cosine = 1 - functional.cosine_similarity(student.z_BD, teacher.z_BD).mean()
    layers = _distance(student.layers, teacher.layers)
    (COSINE_WEIGHT * cosine + layers).backward()  # type: ignore[no-untyped-call]
    return Losses(float(cosine.detach()), float(layers.detach()))


def outputs(strata: Strata, batch: RaggedBatch, linear: Linear) -> LayerOutputs:
    """Returns the outputs of all layers of an encoder, and the vectors of the texts."""
    x_TD = strata.encode_prefix(batch, 0)
    layers = [x_TD]
    for block in strata.layers:
        x_TD = block(x_TD, batch.layout, linear)
        layers.append(x_TD)
    return LayerOutputs(layers, strata.forward_from(strata.config.n_layers, x_TD, batch.layout))


def _distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Returns the mean squared distance of the layers' outputs, each divided by the variance of the teacher's output.

    Returns 0 if the numbers of layers differ.
    """
    if len(student) != len(teacher):
        return torch.zeros(())
    distances = [(x_TD - y_TD).square().mean() / y_TD.var() for x_TD, y_TD in zip(student, teacher, strict=True)]
    return torch.stack(distances).mean()


def key_of(student: Strata, teacher: Strata, token_ids: Sequence[list[int]], options: DistillOptions) -> str:
    """Returns the key of a run, a digest of the untrained student, the teacher, the texts and the options.

    Runs with equal keys have equal results.
    """
    digest = sha256()
    for strata in (student, teacher):
        digest.update(f"{strata.config.canonical_json()}\n{lower_digests(strata)[-1]}\n".encode())
    digest.update(f"{options}\n{json.dumps(list(token_ids))}".encode())
    return digest.hexdigest()


def write_checkpoint(path: Path, training: Resumable, key: str) -> None:
    """Writes the state of a training atomically. It replaces an earlier file."""
    metadata = {"key": key, "num_done": str(training.num_done)}
    tensors = {name: value.contiguous() for name, value in training.tensors().items()}
    with atomic_write(path, is_synced=True) as file:
        file.write(save(tensors, metadata))


def resume(path: Path, training: Resumable, key: str) -> bool:
    """Restores the state in the file `path`, and returns whether the file exists.

    Raises StateRefused if the file belongs to another run or is damaged.
    """
    if not path.exists():
        return False
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                raise StateRefused(f"{path} belongs to a training with other options or data; move it away first")
            # A safetensors file is not a mapping, so it cannot be iterated without keys().
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            training.restore(tensors, int(metadata["num_done"]))
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise StateRefused(f"{path} is not a complete checkpoint ({error}); move it away first") from error
    return True
