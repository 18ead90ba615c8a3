"""The records of which the embedding of an `EncoderKernel` is made: words, positions, and what takes their place.

Shape suffixes: T tokens, V vocabulary, E width of a word, G its groups, P positions, D width, C half the width of a
head.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.encoder.checks import check, check_packed
from kernels.encoder.weights import NormWeights
from kernels.linear_i4.reference import GROUP, high_plane
from kernels.native import address, binding


@dataclass(frozen=True, slots=True)
class RotaryWeights:
    """The cosines and sines by which queries and keys are rotated: float32, C half the width of a head.

    See `kernels.attention.rotary`.
    """

    cos_PC: Tensor
    sin_PC: Tensor

    def native(self, head_widths: Iterable[int]) -> binding.Rotations:
        """Returns the addresses. Raises ValueError for a dtype or shape that does not fit heads of these widths."""
        for width in head_widths:
            check("cos_PC", self.cos_PC, torch.float32, (len(self.cos_PC), width // 2))
            check("sin_PC", self.sin_PC, torch.float32, (len(self.cos_PC), width // 2))
        return binding.Rotations(address(self.cos_PC), address(self.sin_PC))


@dataclass(frozen=True, slots=True)
class EmbeddingWeights:
    """int8 word_VE with a float32 scale_V for each row; float32 position_PD, which includes the segment's embedding.

    With `multiplier_VG`, uint8 for groups of 64 columns, word_VE is INT4: nibbles, uint8 [V, E / 2], as in
    `kernels.linear_i4`. `expand` is a packed matrix [D, E] that widens the words; without one E is D. With `rotary`,
    position_PD has the one row that all positions have.
    """

    word_VE: Tensor
    scale_V: Tensor
    position_PD: Tensor
    norm: NormWeights
    expand: Tensor | None = None
    rotary: RotaryWeights | None = None
    multiplier_VG: Tensor | None = None

    @property
    def width(self) -> int:
        return self.position_PD.shape[1]

    @property
    def word_width(self) -> int:
        return self.word_VE.shape[1] * (1 if self.multiplier_VG is None else 2)

    def integers(self, ids_T: Tensor) -> Tensor:
        """Returns the rows of these words without their scales, float32 [T, E]."""
        word_TE = self.word_VE.index_select(0, ids_T)
        if self.multiplier_VG is not None:
            word_TE = high_plane(word_TE, self.multiplier_VG.index_select(0, ids_T))
        return word_TE.float()

    @property
    def num_positions(self) -> int:
        return len(self.rotary.cos_PC if self.rotary else self.position_PD)

    def native(self) -> binding.NativeEmbedding:
        """Returns the addresses. Raises like `NormWeights.native`."""
        num_words = len(self.word_VE)
        word_width = self.word_width if self.expand is not None else self.width
        if self.multiplier_VG is None:
            check("word_VE", self.word_VE, torch.int8, (num_words, word_width))
        else:
            check("word_VE", self.word_VE, torch.uint8, (num_words, word_width // 2))
            check("multiplier_VG", self.multiplier_VG, torch.uint8, (num_words, word_width // GROUP))
        check("scale_V", self.scale_V, torch.float32, (num_words,))
        num_rows = 1 if self.rotary else len(self.position_PD)
        check("position_PD", self.position_PD, torch.float32, (num_rows, self.width))
        if self.expand is not None:
            check_packed("expand", self.expand, (self.width, word_width))
        return binding.NativeEmbedding(
            num_words,
            address(self.word_VE),
            None if self.multiplier_VG is None else address(self.multiplier_VG),
            address(self.scale_V),
            address(self.position_PD),
            None if self.expand is None else address(self.expand),
            word_width,
            0 if self.rotary else self.width,
            self.norm.native("norm", self.width),
        )
