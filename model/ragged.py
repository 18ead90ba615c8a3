"""Ragged batches: texts of different lengths as one long row of tokens, without padding.

    token_ids [[..], [..]] --RaggedBatch.of--> ids_T, positions_T + layout --encoder--> x_TD --layout--> caller's order

Inside a batch, sequences are sorted by length. So sequences of equal length are neighbours, and attention computes them
as one dense batch. The layout restores the caller's order, in which the model returns every result.

Rejected:

- Padding to the longest text: every short text would take as long as the longest.
- Nested tensors: attention would have to split them again.

Shape suffixes: T tokens of all sequences, B sequences, D width.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.attention import EqualLengths, group_equal
from model.errors import BadTokens


@dataclass(frozen=True)
class RaggedLayout:
    """The order of the sequences in a batch: the caller's sequence `order[i]` is rows offsets[i]:offsets[i + 1].

    `groups`, `inverse_order` and `positions_T` are computed at their first use, since the native forward does not need
    them.
    """

    offsets: tuple[int, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, lengths: Sequence[int]) -> "RaggedLayout":
        """Makes the layout for sequences of these lengths, in tokens.

        Raises BadTokens if there is no sequence, or a sequence without tokens.
        """
        if not lengths or min(lengths) < 1:
            raise BadTokens(f"lengths are {list(lengths)[:8]}; expected at least one sequence, of at least one token")
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        return cls((0, *accumulate(lengths[index] for index in order)), tuple(order))

    @cached_property
    def groups(self) -> tuple[EqualLengths, ...]:
        """The runs of sequences of equal length."""
        return group_equal(self.offsets)

    @cached_property
    def inverse_order(self) -> tuple[int, ...]:
        """The inverse of `order`: the caller's sequence b is sequence `inverse_order[b]` of the layout."""
        return tuple(sorted(range(len(self.order)), key=self.order.__getitem__))

    @cached_property
    def positions_T(self) -> Tensor:
        """Each token's position in its sequence, int64."""
        return torch.cat([torch.arange(group.length).repeat(group.count) for group in self.groups])

    @property
    def num_sequences(self) -> int:
        return len(self.order)

    @property
    def num_tokens(self) -> int:
        return self.offsets[-1]

    def pooled(self, x_TD: Tensor, pooling: str) -> Tensor:
        """Pools the rows of each sequence to one row; returns [B, D] in the layout's order.

        `pooling` is `mean` (the mean of the sequence's rows) or `cls` (its first row).
        """
        if pooling == "cls":
            return x_TD[list(self.offsets[:-1])]
        means: list[Tensor] = []
        for group in self.groups:
            x_RD = x_TD[group.start : group.start + group.num_rows]
            means.append(x_RD.view(group.count, group.length, -1).mean(dim=1))
        return torch.cat(means)

    def restore(self, z_BD: Tensor) -> Tensor:
        """Puts rows, one for each sequence, from the layout's order into the caller's order."""
        if self.num_sequences == 1:
            return z_BD
        return z_BD.index_select(0, torch.tensor(self.inverse_order))

    def pieces(self, max_tokens: int) -> list["Piece"]:
        """Cuts the layout into runs of whole sequences, each with at most `max_tokens` tokens, in order.

        A longer sequence is a piece of its own.
        """
        cut: list[Piece] = []
        for first, end in runs(self.offsets, max_tokens):
            lengths = [self.offsets[row + 1] - self.offsets[row] for row in range(first, end)]
            cut.append(Piece(self.offsets[first], self.offsets[end], RaggedLayout.of(lengths)))
        return cut

    def split(self, x_TD: Tensor) -> list[Tensor]:
        """Returns views of the rows of each sequence, in the caller's order."""
        bounds = [(self.offsets[row], self.offsets[row + 1]) for row in self.inverse_order]
        return [x_TD[start:end] for start, end in bounds]

    def join(self, pieces: Sequence[Tensor]) -> Tensor:
        """Returns x_TD from the rows of each sequence, in the caller's order: the inverse of `split`."""
        return torch.cat([pieces[index] for index in self.order])


class Piece(NamedTuple):
    """A run of sequences of a layout. They are the rows start:stop of the layout, and have the layout `layout`."""

    start: int
    stop: int
    layout: RaggedLayout


@dataclass(frozen=True, slots=True)
class RaggedBatch:
    """The token ids of all sequences, int64 in the layout's order, and their layout."""

    ids_T: Tensor
    layout: RaggedLayout

    @classmethod
    def of(cls, token_ids: Sequence[Sequence[int]]) -> "RaggedBatch":
        """Returns the batch of these sequences of token ids. Raises BadTokens like `RaggedLayout.of`."""
        layout = RaggedLayout.of([len(ids) for ids in token_ids])
        # An array takes a third of the time of torch.tensor.
        ids = array("q")
        for index in layout.order:
            ids.extend(token_ids[index])
        return cls(torch.frombuffer(ids, dtype=torch.int64), layout)

    @property
    def positions_T(self) -> Tensor:
        return self.layout.positions_T

    @property
    def offsets(self) -> tuple[int, ...]:
        return self.layout.offsets

    def pieces(self, max_tokens: int) -> list["RaggedBatch"]:
        """Cuts the batch into batches of at most `max_tokens` tokens, in the layout's order.

        A longer sequence is a batch of its own. The concatenated results of the pieces are the results of the whole
        batch, in the layout's order.
        """
        if self.layout.num_tokens <= max_tokens:
            return [self]
        pieces = self.layout.pieces(max_tokens)
        return [RaggedBatch(self.ids_T[piece.start : piece.stop], piece.layout) for piece in pieces]

    def check(self, vocab: int, max_sequence: int) -> None:
        """Raises BadTokens for a token id outside [0, vocab) or a sequence of more than `max_sequence` tokens."""
        lowest, highest = (int(value) for value in torch.aminmax(self.ids_T))
        if lowest < 0 or highest >= vocab:
            raise BadTokens(f"token ids lie in [{lowest}, {highest}]; expected [0, {vocab - 1}]")
        # Sequences are sorted by length, so the last one is the longest.
        longest = self.offsets[-1] - self.offsets[-2]
        if longest > max_sequence:
            raise BadTokens(f"a sequence has {longest} tokens; expected at most {max_sequence}")


def runs(offsets: Sequence[int], max_tokens: int) -> list[tuple[int, int]]:
    """Cuts sequences into runs [first, end) with at most `max_tokens` tokens. A longer sequence is its own run."""
    spans: list[tuple[int, int]] = []
    first = 0
    for end in range(1, len(offsets)):
        if offsets[end] - offsets[first] > max_tokens and end - 1 > first:
            spans.append((first, end - 1))
            first = end - 1
    return [*spans, (first, len(offsets) - 1)]
