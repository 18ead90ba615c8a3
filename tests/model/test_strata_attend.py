"""The attention of a layer calls a kernel with rotated queries and keys."""

import torch

from model.plan import build_plan
from model.ragged import RaggedLayout
from model.strata import attend
from tests.model.small_encoder import FAMILY

LAYOUT = RaggedLayout.of([3, 9])


def test_the_kernel_gets_what_the_plan_says() -> None:
    asked: list[tuple[int, int, int]] = []

    def kernel(x_TW: torch.Tensor, _: object, num_heads: int, num_kv_heads: int, spans: tuple[object]) -> torch.Tensor:
        asked.append((num_heads, num_kv_heads, len(spans)))
        return x_TW

    for name in ("plain", "rope", "pruned", "groups", "spans"):
        block = build_plan(FAMILY[name]).blocks[0]
        attend(torch.ones(12, block.qkv.rows), LAYOUT, block, kernel)
    assert asked == [(4, 4, 0), (2, 2, 0), (3, 3, 0), (4, 2, 0), (4, 4, 2)]


def test_rows_are_as_wide_as_the_heads() -> None:
    for config in FAMILY.values():
        for block in build_plan(config).blocks:
            assert attend(torch.ones(12, block.qkv.rows), LAYOUT, block).shape == (12, block.out.columns)


def test_positions_are_rotated_before_the_kernel_sees_them() -> None:
    block = build_plan(FAMILY["rope"]).blocks[0]
    qkv_TW = torch.randn(12, block.qkv.rows, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []

    def kernel(rotated_TW: torch.Tensor, _: object, **shape: object) -> torch.Tensor:
        seen.append(rotated_TW)
        return rotated_TW

    attend(qkv_TW, LAYOUT, block, kernel)
    # The first tokens of both texts are at position 0, where the rotation changes nothing.
    assert torch.equal(seen[0][[0, 3]], qkv_TW[[0, 3]])
    assert not torch.equal(seen[0], qkv_TW)
