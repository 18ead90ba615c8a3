"""Trains an encoder of pictures, sounds and texts from nothing, by contrastive learning.

    parts --two augmented views--> Stem --> projector --InfoNCE--> stems, quantized and frozen
    parts --two augmented views--> codes of the stems --> trunk --> z_BD --InfoNCE within each modality--> encoder
    with labels: pairs of a picture and a sound, and of a picture and a text of one class --InfoNCE across them-->

Within a modality, the two views of a part are a pair, and all other views of the batch are its negatives (SimCLR: Chen
et al., arXiv 2002.05709, equation 1). Labels are only used to draw pairs of modalities. Sounds and texts are never
paired: pictures bind them (ImageBind: Girdhar et al., arXiv 2305.05665). The shared trunk learns modalities from data
that are not aligned (Omni-C: arXiv 2603.05528). Pairs of a picture and a sound are also encoded together as one event,
which must be close to another view of one of its parts, drawn at random (modality dropout: Neverova et al., arXiv
1501.00102).

A step depends on the seed and its number alone, so a training that was killed goes on from its last checkpoint
(`lifelong.compress.distillation.resume`) with the same bits.

Shape suffixes: B parts, P places, C numbers of a code, D width, T tokens.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from learner.rounds.adamw import AdamW, ParameterGroup
from model.linears import linear_at
from model.media.encoder import MediaConfig, WholeMedia
from model.media.family import word_ids
from model.media.stem import MAX_INPUT, IntegerStem, MediaData, Stem, quantized
from model.media.tokens import AUDIO, CODE, IMAGE, MODALITIES, Modality, level_values
from model.ragged import RaggedBatch, RaggedLayout

TEMPERATURE: Final = 0.2
"""Divides the cosines of two views of one modality."""

PAIR_TEMPERATURE: Final = 0.1
"""Divides the cosines of two modalities."""

PROJECTED: Final = 64
"""Width of the projections that views are compared in; the encoder keeps the vectors before them."""

STEM_RATE: Final = 3e-3
TRUNK_RATE: Final = 1e-3
DECAY: Final = 1e-4

MEASURED: Final = 2_048
"""Parts on which the ranges of a stem's activations are measured."""

MAX_GRADIENT_NORM: Final = 1.0

FIRST_SCALE: Final = 0.1
"""Scales the initial matrices whose outputs are added to a block's input."""

PAIRS: Final = ((IMAGE.name, AUDIO.name), (IMAGE.name, "text"))
"""Sounds and texts are never paired."""

KEPT: Final = 0.5
"""The share of the tokens of a part that its second view keeps."""

TEXT: Final = "text"

RECIPE: Final = 1
"""Grows if the same options train another encoder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainOptions:
    """Hyperparameters. `pairs` are the modalities whose parts of one class are paired; () uses no label."""

    stem_steps: int = 300
    trunk_steps: int = 400
    stem_batch: int = 512
    batch: int = 32
    pairs: tuple[tuple[str, str], ...] = PAIRS
    seed: int = 0


class Pretraining:
    """The training of one encoder: first of its stems, then of its embeddings and its trunk.

    `tensors` returns its state, and `restore` sets it, as in `lifelong.compress.distillation.Distiller`.
    """

    def __init__(self, data: MediaData, config: MediaConfig, options: PretrainOptions) -> None:
        self.num_done = 0
        """The number of steps that were taken."""
        self.stems: dict[str, IntegerStem] = {}
        """The frozen stems, once they are trained."""
        self._data = data
        self._options = options
        self._pairs = options.pairs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.whole = WholeMedia(config)
            for block in self.whole.layers:
                # Blocks change little at first, so the vectors begin as a rotation of the codes.
                for name in ("out", "down"):
                    linear_at(block, name).weight.data.mul_(FIRST_SCALE)
            self._stems = nn.ModuleDict({name: Stem() for name in data.parts})
            sizes = {name: MODALITIES[name].places * CODE for name in data.parts}
            self._stem_projectors = _projectors(sizes)
            texts = (TEXT,) if data.texts else ()
            self._projectors = _projectors(dict.fromkeys((*data.parts, *texts), config.d_model))
        self._rows = {name: _rows_of_classes(labels) for name, labels in data.labels.items()}
        self._word_ids = [word_ids(text, config.words) for text in data.texts]
        self._stem_optimizer = _optimizer((self._stems, self._stem_projectors), STEM_RATE, options.stem_steps)
        self._optimizer = _optimizer((self.whole, self._projectors), TRUNK_RATE, options.trunk_steps)

    @property
    def num_steps(self) -> int:
        return self._options.stem_steps + self._options.trunk_steps

    @property
    def is_done(self) -> bool:
        return self.num_done >= self.num_steps

    @property
    def phase(self) -> str:
        """What is trained at the present step."""
        return "stems" if self.num_done <= self._options.stem_steps else "trunk"

    def step(self) -> float:
        """Takes one step and returns its loss. If the gradient is not finite, no weight changes."""
        rng = torch.Generator().manual_seed(self._options.seed * 1_000_003 + self.num_done)
        if self.num_done < self._options.stem_steps:
            parameters = _parameters((self._stems, self._stem_projectors))
            optimizer, loss = self._stem_optimizer, self._stem_loss(rng)
        else:
            parameters = _parameters((self.whole, self._projectors))
            optimizer, loss = self._optimizer, self._trunk_loss(rng)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for each in parameters:
            # The embeddings of a modality without data.
            each.grad = torch.zeros_like(each) if each.grad is None else each.grad
        norm = nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        if torch.isfinite(norm):
            optimizer.step()
        self.num_done += 1
        self._freeze_trained_stems()
        return float(loss.detach())

    def tensors(self) -> dict[str, Tensor]:
        """Returns the state of all weights and both optimizers, by name."""
        state = {f"module.{name}": value.detach() for name, value in self._state().items()}
        state |= {f"stem optimizer.{name}": value for name, value in self._stem_optimizer.tensors().items()}
        return state | {f"optimizer.{name}": value for name, value in self._optimizer.tensors().items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], num_done: int) -> None:
        """Sets the state that `tensors` returned after `num_done` steps. Raises KeyError if a tensor is missing."""
        for name, value in self._state().items():
            value.copy_(tensors[f"module.{name}"])
        num_stem_steps = min(num_done, self._options.stem_steps)
        self._stem_optimizer.restore(_below(tensors, "stem optimizer."), num_stem_steps)
        self._optimizer.restore(_below(tensors, "optimizer."), num_done - num_stem_steps)
        self.num_done = num_done
        self._freeze_trained_stems()

    def _state(self) -> dict[str, Tensor]:
        modules = nn.ModuleList([self._stems, self._stem_projectors, self.whole, self._projectors])
        return modules.state_dict()

    def _freeze_trained_stems(self) -> None:
        if self.num_done >= self._options.stem_steps and not self.stems:
            rng = torch.Generator().manual_seed(self._options.seed)
            for name, stem in self._stems.items():
                assert isinstance(stem, Stem), "only stems were put there"
                q = self._data.parts[name]
                self.stems[name] = quantized(stem, q[torch.randperm(len(q), generator=rng)[:MEASURED]])

    def _stem_loss(self, rng: torch.Generator) -> Tensor:
        rows = self._drawn(self._options.stem_batch, rng)
        losses: list[Tensor] = []
        firsts: dict[str, Tensor] = {}
        for name, stem in self._stems.items():
            q = self._data.parts[name][rows[name]]
            views = torch.cat([augmented(MODALITIES[name], q, rng) for _ in range(2)])
            first_BD, second_BD = self._stem_projectors[name](stem(views / MAX_INPUT).flatten(1)).chunk(2)
            losses.append(info_nce(first_BD, second_BD))
            firsts[name] = functional.normalize(first_BD, dim=1)
        losses += [paired_nce(firsts[one], firsts[other]) for one, other in self._pairs if TEXT not in (one, other)]
        return torch.stack(losses).sum()

    def _trunk_loss(self, rng: torch.Generator) -> Tensor:
        rows = self._drawn(self._options.batch, rng)
        views = [self._views(rows, rng), self._views(rows, rng, keeps=KEPT)]
        firsts, seconds = ({name: self._encoded(x) for name, x in view.items()} for view in views)
        losses = [
            info_nce(self._projectors[name](firsts[name]), self._projectors[name](seconds[name])) for name in firsts
        ]
        losses += [paired_nce(firsts[one], firsts[other]) for one, other in self._pairs]
        if (IMAGE.name, AUDIO.name) in self._pairs:
            both = [torch.cat(each) for each in zip(views[1][IMAGE.name], views[1][AUDIO.name], strict=True)]
            is_image_B1 = torch.rand(len(both), 1, generator=rng) < 0.5
            other = torch.where(is_image_B1, firsts[IMAGE.name], firsts[AUDIO.name])
            losses.append(paired_nce(self._encoded(both), other))
        return torch.stack(losses).sum()

    def _drawn(self, size: int, rng: torch.Generator) -> dict[str, Tensor]:
        """Returns the rows of a batch by modality. With pairs, the same place of each batch has the same class."""
        sizes = {name: len(q) for name, q in self._data.parts.items()} | {TEXT: len(self._data.texts)}
        drawn = {name: torch.randint(num, (size,), generator=rng) for name, num in sizes.items() if num}
        if self._pairs:
            labels = self._data.labels[IMAGE.name][drawn[IMAGE.name]].tolist()
            for name in (AUDIO.name, TEXT):
                groups = [self._rows[name][label] for label in labels]
                picks = torch.rand(size, generator=rng).tolist()
                drawn[name] = torch.stack(
                    [rows[int(pick * len(rows))] for rows, pick in zip(groups, picks, strict=True)]
                )
        return drawn

    def _views(
        self, rows: Mapping[str, Tensor], rng: torch.Generator, *, keeps: float = 1.0
    ) -> dict[str, list[Tensor]]:
        """Returns the embeddings x_TD of an augmented view of each part and text, by modality.

        Of the tokens of parts, a random share `keeps` is kept, and the bottleneck token (FLIP: arXiv 2212.00794).
        """
        views: dict[str, list[Tensor]] = {}
        for name, stem in self.stems.items():
            q = augmented(MODALITIES[name], self._data.parts[name][rows[name]], rng).round().to(torch.uint8)[:, 0]
            x_BPD = self.whole.embed.part(name, level_values(stem.codes(q)))
            num_places = x_BPD.shape[1] - 1
            order_BP = torch.rand(len(x_BPD), num_places, generator=rng).argsort(dim=1)[:, : round(keeps * num_places)]
            places_BP = functional.pad(1 + order_BP, (1, 0))
            views[name] = list(x_BPD[torch.arange(len(x_BPD))[:, None], places_BP])
        if TEXT not in rows:
            return views
        ids = [_without_a_word(self._word_ids[row], rng) for row in rows[TEXT].tolist()]
        batch = RaggedBatch.of(ids)
        views[TEXT] = batch.layout.split(self.whole.embed.words(batch))
        return views

    def _encoded(self, pieces: Sequence[Tensor]) -> Tensor:
        layout = RaggedLayout.of([len(x_TD) for x_TD in pieces])
        return self.whole.forward_from(0, layout.join(pieces), layout, linear=half_precision)


def info_nce(a_BD: Tensor, b_BD: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """Returns the loss of two views of B parts: each view has to find the other among 2 B - 1 (NT-Xent)."""
    p = functional.normalize(torch.cat([a_BD, b_BD]), dim=1)
    logits = (p @ p.T / temperature).masked_fill(torch.eye(len(p), dtype=torch.bool), -torch.inf)
    return functional.cross_entropy(logits, torch.arange(len(p)).roll(len(a_BD)))


def paired_nce(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """Returns the loss of B pairs of unit vectors: each has to find the other among B (CLIP: arXiv 2103.00020)."""
    logits = a_BD @ b_BD.T / PAIR_TEMPERATURE
    target_B = torch.arange(len(logits))
    return (functional.cross_entropy(logits, target_B) + functional.cross_entropy(logits.T, target_B)) / 2


def half_precision(x_MK: Tensor, layer: nn.Linear) -> Tensor:
    """Returns y_MN float32 of a product in bfloat16, which takes half the time."""
    half = torch.bfloat16
    bias = layer.bias.to(half) if layer.bias is not None else None
    return functional.linear(x_MK.to(half), layer.weight.to(half), bias).float()


@dataclass(frozen=True, slots=True)
class _Ranges:
    """The ranges of the random changes of a view. Rows of a sound are time, and columns are frequency.

    `noise` and `curve` are relative to the range of values: of each value, and of a smooth curve over the columns.
    """

    turn: float
    shear: float
    scale: tuple[float, float]
    shift: float
    bend: float
    noise: float
    curve: float
    mask: int


_RANGES: Final = {
    IMAGE.name: _Ranges(turn=0.3, shear=0.3, scale=(0.8, 1.25), shift=0.2, bend=0.08, noise=0.0, curve=0.0, mask=0),
    AUDIO.name: _Ranges(turn=0.0, shear=0.0, scale=(0.8, 1.25), shift=0.15, bend=0.06, noise=0.08, curve=0.1, mask=6),
}


@torch.no_grad()
def augmented(modality: Modality, q: Tensor, rng: torch.Generator) -> Tensor:
    """Returns a random view of prepared inputs uint8 [B, h, w]: float32 [B, 1, h, w] from 0 to 127.

    Views are moved, scaled, turned and bent (elastic distortion: Simard et al. 2003). Strokes get thicker or thinner
    by a power of their values; sounds get noise, another colour, and masks (SpecAugment: arXiv 1904.08779).
    """
    size, height, width = q.shape
    ranges = _RANGES[modality.name]

    def drawn(lowest: float, highest: float) -> Tensor:
        return torch.rand(size, generator=rng) * (highest - lowest) + lowest

    angle, shear = drawn(-ranges.turn, ranges.turn), drawn(-ranges.shear, ranges.shear)
    across, down = drawn(*ranges.scale), drawn(*ranges.scale)
    rows = [
        torch.stack([angle.cos() * across, shear - angle.sin() * down, drawn(-ranges.shift, ranges.shift)], dim=1),
        torch.stack([angle.sin() * across, angle.cos() * down, drawn(-ranges.shift, ranges.shift)], dim=1),
    ]
    grid = functional.affine_grid(torch.stack(rows, dim=1), [size, 1, height, width], align_corners=False)
    coarse = torch.randn(size, 2, 5, 5, generator=rng) * ranges.bend
    bent = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    x = functional.grid_sample(q[:, None].float() / MAX_INPUT, grid + bent, align_corners=False)
    if modality is IMAGE:
        x = (x * drawn(0.7, 1.4)[:, None, None, None]).clamp(0, 1) ** drawn(0.6, 1.6)[:, None, None, None]
    if ranges.curve:
        knots = torch.randn(size, 1, 6, generator=rng) * ranges.curve
        x = x + functional.interpolate(knots, width, mode="linear")[:, :, None]
    if ranges.noise:
        x = x + torch.randn(x.shape, generator=rng) * drawn(0, ranges.noise)[:, None, None, None]
    for length, shape in ((height, (size, 1, height, 1)), (width, (size, 1, 1, width))) if ranges.mask else ():
        start, run = drawn(0, length - ranges.mask)[:, None], drawn(0, ranges.mask)[:, None]
        place = torch.arange(length)
        x = x.masked_fill(((place >= start) & (place < start + run)).view(shape), 0.3)
    return x.clamp(0, 1) * MAX_INPUT


def _without_a_word(ids: list[int], rng: torch.Generator) -> list[int]:
    """Returns the ids without a random one that is not the first, in half of the cases."""
    place = int(torch.randint(1, 2 * len(ids), (1,), generator=rng))
    return ids[:place] + ids[place + 1 :] if len(ids) > 2 else ids


def _projectors(sizes: Mapping[str, int]) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            name: nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, PROJECTED))
            for name, size in sizes.items()
        }
    )


def _parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    return [each for module in modules for each in module.parameters()]


def _optimizer(modules: Sequence[nn.Module], rate: float, num_steps: int) -> AdamW:
    return AdamW([ParameterGroup(_parameters(modules), rate, DECAY)], num_steps=num_steps)


def _rows_of_classes(labels_N: Tensor) -> dict[int, Tensor]:
    return {label: (labels_N == label).nonzero()[:, 0] for label in {*labels_N.tolist()}}


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def pretraining_key(data: MediaData, config: MediaConfig, options: PretrainOptions) -> str:
    """Returns the key of a training: equal keys have equal results."""
    return sha256(f"{config.canonical_json()}\n{options}\n{data.digest}\n{RECIPE}".encode()).hexdigest()
