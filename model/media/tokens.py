"""Token ids of the encoder of pictures, sounds and texts. Each id is one integer below 2^53, which JSON keeps exactly.

    bits   52..51      50..44    43..0
           modality    place     code: 11 numbers of 4 bits, from the stem (finite scalar quantization)
           0: text               the row of a word, modulo the rows of the embedding

Each number of a code is one of 16 levels (Mentzer et al., "Finite Scalar Quantization", arXiv 2309.15505), without the
bound by tanh: the stem normalises its outputs, and clamps them. Place 0 of a part is its bottleneck token, which has no
code: it stands for the whole part (after the bottleneck tokens of Nagrani et al., arXiv 2107.00135).

Shape suffixes: B parts, P places of a part without place 0, C numbers of a code, T tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

CODE: Final = 11
"""Numbers of a code."""

LEVELS: Final = 16
"""Levels of each number of a code."""

_LEVEL_BITS: Final = 4
_PLACE_SHIFT: Final = _LEVEL_BITS * CODE
_MODALITY_SHIFT: Final = 51

MAX_PLACES: Final = 1 << (_MODALITY_SHIFT - _PLACE_SHIFT)


@dataclass(frozen=True, slots=True)
class Modality:
    """A kind of parts that has a stem. The stem reads [height, width] and makes tokens of `places` places."""

    name: str
    number: int
    height: int
    width: int

    @property
    def places(self) -> int:
        """The places on the stem's grid, which is an eighth as high and wide, rounded up."""
        return -(-self.height // 8) * -(-self.width // 8)


IMAGE: Final = Modality("image", 1, 28, 28)
AUDIO: Final = Modality("audio", 2, 32, 40)

MODALITIES: Final[Mapping[str, Modality]] = MappingProxyType({each.name: each for each in (IMAGE, AUDIO)})

VOCAB: Final = 3 << _MODALITY_SHIFT
"""Token ids lie in [0, VOCAB). Every one of them has a meaning, except for places that a modality does not have."""


def pack(modality: Modality, codes_BPC: Tensor) -> Tensor:
    """Returns the token ids of parts, int64 [B, 1 + P]: the bottleneck token, then a token for each place.

    `codes_BPC` are levels, from 0 to 15.
    """
    shifts_C = _LEVEL_BITS * torch.arange(CODE)
    packed_BP = (codes_BPC.long() << shifts_C).sum(dim=2)
    with_first = torch.nn.functional.pad(packed_BP, (1, 0))
    places = torch.arange(with_first.shape[1]) << _PLACE_SHIFT
    return with_first + places + (modality.number << _MODALITY_SHIFT)


def token_modalities(ids_T: Tensor) -> Tensor:
    """Returns the number of each token's modality: 0 for a text."""
    return ids_T >> _MODALITY_SHIFT


def token_places(ids_T: Tensor) -> Tensor:
    """Returns the place of each token of a part."""
    return (ids_T >> _PLACE_SHIFT) % MAX_PLACES


def token_codes(ids_T: Tensor) -> Tensor:
    """Returns the codes of tokens of parts, int64 [T, C]: levels from 0 to 15."""
    return (ids_T[:, None] >> (_LEVEL_BITS * torch.arange(CODE))) % LEVELS


def level_values(codes: Tensor) -> Tensor:
    """Returns the numbers that levels stand for: float32 from -1 to 1, of any shape."""
    return codes.float() * (2 / (LEVELS - 1)) - 1
