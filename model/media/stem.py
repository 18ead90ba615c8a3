"""Stems: three 3 x 3 convolutions of stride 2 make a code for each place of a picture or a sound.

    pixels, log-mel --prepare--> 0..127 --conv, ReLU x 3--> 128 channels --1 x 1--> a code: 11 numbers of 16 levels

`Stem` is trained in float32, with batch normalisation and straight-through rounding (Bengio et al., arXiv 1308.3432).
`IntegerStem` is served: INT8 weights on 7-bit activations. Its convolutions run in float32 on integers below 2^24, so
every partial sum is exact, whatever the order of the additions. The rest are single operations of IEEE 754. So all
machines make the same codes, and codes do not depend on the batch.

Sounds of any length are resized to 32 frames. Their level is relative to the loudest value, so loudness does not count.

Shape suffixes: B parts, P places, C numbers of a code, O outputs, I inputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.errors import MissingWeight, UnreadableInput
from model.media.tokens import AUDIO, CODE, IMAGE, LEVELS, MODALITIES, Modality, level_values

CHANNELS: Final = (1, 32, 64, 128)

MAX_INPUT: Final = 127
"""The largest value of a prepared input and of an activation."""

MAX_WEIGHT: Final = 127

STEP: Final = 3.5
"""Levels of a standard deviation of a stem's output."""

CENTRE: Final = (LEVELS - 1) / 2

RANGE: Final = 16 * 256
"""Log-mel energies are read down to 16 octaves (48 dB) below the loudest, in units of 1/256 octave of energy."""

MIN_LOUDEST: Final = 16 * 256
"""A sound is compared with this energy if its loudest one is below, so that silence is not amplified."""

_MAX_BIAS: Final = 1 << 22
"""Convolutions add at most 576 * 127 * 127 < 2^24 - 2^22 to it."""

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def prepare(modality: Modality, values: Array) -> Array:
    """Returns the input of a stem, uint8 [height, width] from 0 to 127.

    `values` are grey pixels uint8 [28, 28], or log-mel energies int16 [F, 40] with F >= 1. Raises UnreadableInput.
    """
    if modality is AUDIO:
        return _prepared_sound(values)
    if values.shape != (IMAGE.height, IMAGE.width) or values.dtype != np.uint8:
        raise UnreadableInput(f"a picture is {values.dtype} {list(values.shape)}; expected uint8 [28, 28]")
    halved: Array = values >> 1
    return halved


def _prepared_sound(mel_FM: Array) -> Array:
    if mel_FM.ndim != 2 or mel_FM.shape[0] < 1 or mel_FM.shape[1] != AUDIO.width or mel_FM.dtype != np.int16:
        raise UnreadableInput(f"a sound is {mel_FM.dtype} {list(mel_FM.shape)}; expected int16 [frames, 40]")
    num_frames = len(mel_FM)
    # Linear interpolation between the middles of frames, in units of 1 / (2 * height) of a frame.
    unit = 2 * AUDIO.height
    middles = (2 * np.arange(AUDIO.height) + 1) * num_frames - AUDIO.height
    middles = np.clip(middles, 0, (num_frames - 1) * unit)
    lower, weight = middles // unit, (middles % unit)[:, None]
    upper = np.minimum(lower + 1, num_frames - 1)
    mel = mel_FM.astype(np.int64)
    resized = (mel[lower] * (unit - weight) + mel[upper] * weight) // unit
    loudest = max(int(resized.max()), MIN_LOUDEST)
    prepared: Array = np.clip(MAX_INPUT + (resized - loudest) * MAX_INPUT // RANGE, 0, MAX_INPUT).astype(np.uint8)
    return prepared


class Stem(nn.Module):
    """The trainable stem. Its inputs are float32 [B, 1, height, width] from 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1, bias=False) for i, o in pairwise(CHANNELS))
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for o in CHANNELS[1:])
        self.out = nn.Conv2d(CHANNELS[-1], CODE, 1, bias=False)
        self.out_norm = nn.BatchNorm2d(CODE, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the values of codes, float32 [B, P, C] from -1 to 1. Gradients pass through the rounding."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = functional.relu(norm(conv(x)))
        scaled = self.out_norm(self.out(x)).flatten(2).transpose(1, 2) * STEP + CENTRE
        levels = scaled.round().clamp(0, LEVELS - 1)
        return level_values(scaled + (levels - scaled).detach())


class Layer(NamedTuple):
    """A convolution on integers: round((conv(q) + bias) * scale), clamped to [0, largest]."""

    weight: Tensor
    """int8 [O, I, k, k]"""
    bias: Tensor
    """int32 [O]"""
    scale: Tensor
    """float32 [O]"""


class IntegerStem:
    """The stem as it is served. It is immutable, and threads may share it."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = tuple(layers)
        self._floats = [(layer.weight.float(), layer.bias.float(), layer.scale) for layer in layers]

    @torch.no_grad()
    def codes(self, q: Tensor) -> Tensor:
        """Returns the code of each place, uint8 [B, P, C] with levels from 0 to LEVELS - 1.

        `q` are prepared inputs, uint8 [B, height, width].
        """
        x = q[:, None].float()
        for weight, bias, scale in self._floats[:-1]:
            sums = functional.conv2d(x, weight, bias, stride=2, padding=1)
            x = (sums * scale[:, None, None]).round().clamp(0, MAX_INPUT)
        weight, bias, scale = self._floats[-1]
        levels = (functional.conv2d(x, weight, bias) * scale[:, None, None]).round().clamp(0, LEVELS - 1)
        return levels.flatten(2).transpose(1, 2).to(torch.uint8)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Returns the stored tensors by name."""
        found: dict[str, Tensor] = {}
        for place, layer in enumerate(self.layers):
            found |= {f"{prefix}.{place}.{name}": value for name, value in layer._asdict().items()}
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str) -> "IntegerStem":
        """Reads `tensors` back. Raises MissingWeight."""
        try:
            layers = [
                Layer(*(tensors[f"{prefix}.{place}.{name}"] for name in Layer._fields))
                for place in range(len(CHANNELS))
            ]
        except KeyError as error:
            raise MissingWeight(f"the stem lacks {error}") from error
        return cls(layers)


@torch.no_grad()
def quantized(stem: Stem, q: Tensor) -> IntegerStem:
    """Returns the stem in integers. The ranges of activations are measured on prepared inputs uint8 [B, h, w]."""
    stem.eval()
    x = q[:, None].float() / MAX_INPUT
    step = 1 / MAX_INPUT
    layers: list[Layer] = []
    for conv, norm in zip(stem.convs, stem.norms, strict=True):
        weight, bias = _folded(conv, norm)
        x = functional.relu(functional.conv2d(x, weight, bias, stride=2, padding=1))
        next_step = float(x.max()) / MAX_INPUT
        layers.append(_layer(weight, bias, step, next_step))
        step = next_step
    weight, bias = _folded(stem.out, stem.out_norm)
    layers.append(_layer(weight, bias + CENTRE / STEP, step, 1 / STEP))
    return IntegerStem(layers)


def _folded(conv: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Returns weight and bias of a convolution with its normalisation."""
    gain_O = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
    shift_O = -norm.running_mean * gain_O + (0 if norm.bias is None else norm.bias)
    return conv.weight * gain_O[:, None, None, None], shift_O


def _layer(weight: Tensor, bias: Tensor, step: float, next_step: float) -> Layer:
    scale_O = weight.abs().amax(dim=(1, 2, 3)).clamp(min=1e-8) / MAX_WEIGHT
    integers = (weight / scale_O[:, None, None, None]).round().clamp(-MAX_WEIGHT, MAX_WEIGHT).to(torch.int8)
    bias_O = (bias / (scale_O * step)).round().clamp(-_MAX_BIAS, _MAX_BIAS).to(torch.int32)
    return Layer(integers, bias_O, (scale_O * step / next_step).float())


class Stems:
    """The frozen stems of an encoder, by the name of their modality."""

    def __init__(self, stems: Mapping[str, IntegerStem], digest: str) -> None:
        self.digest = digest
        """Identifies the stems: equal digests make equal codes."""
        self._stems = dict(stems)

    def codes(self, name: str, values: Sequence[Array]) -> Tensor:
        """Returns the codes of parts of one modality, uint8 [B, P, C]. Raises UnreadableInput."""
        if name not in self._stems:
            known = ", ".join(self._stems) or "texts"
            raise UnreadableInput(f"the encoder has no stem for {name!r}, it reads {known}")
        prepared = np.stack([prepare(MODALITIES[name], each) for each in values])
        return self._stems[name].codes(torch.from_numpy(prepared))


@dataclass(frozen=True, slots=True)
class MediaData:
    """Training data. `parts` has prepared inputs of stems, uint8 [N, height, width], by the name of their modality.

    `labels` has the class of each part and of each text, int64 [N], by name; "text" names the texts.
    """

    parts: Mapping[str, Tensor]
    texts: Sequence[str]
    labels: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Identifies the data."""
        digest = sha256("\n".join(self.texts).encode())
        for values in (*self.parts.values(), *self.labels.values()):
            digest.update(values.contiguous().numpy().tobytes())
        return digest.hexdigest()
