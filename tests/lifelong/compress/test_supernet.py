"""The supernet: its encoders are those of the arithmetic of compression, and its training resumes bit for bit."""

import random
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from lifelong.compress.distillation import Distiller, DistillOptions, key_of, resume, write_checkpoint
from lifelong.compress.heads import prune
from lifelong.compress.reshape import factorise_embedding, pool_kv_heads
from lifelong.compress.share import share
from lifelong.compress.space import Space
from lifelong.compress.supernet import SandwichDistiller, Supernet
from model.linears import linear_at
from model.plan import build_plan
from model.ragged import RaggedBatch
from model.strata import Strata
from tests.lifelong.compress.members import TOKEN_IDS, dense_strata, largest_difference
from tests.services.members.small import CONFIG

SPACE = Space(dense=CONFIG, stored=0.8)

COUNTS: Tensor = torch.arange(CONFIG.vocab)

OPTIONS = DistillOptions(steps=6, batch=3, rate=1e-3)


def supernet() -> Supernet:
    moments = {matrix.name: torch.ones(matrix.columns) for matrix in build_plan(CONFIG).banks}
    importance = [torch.tensor([1.0, 2.0, 4.0, 3.0])] * CONFIG.n_layers
    return Supernet(dense_strata(CONFIG), SPACE, counts_V=COUNTS, moments=moments, importance=importance)


def training() -> SandwichDistiller:
    return SandwichDistiller(supernet(), dense_strata(CONFIG), TOKEN_IDS, OPTIONS)


def narrow(embed_dim: int) -> Strata:
    return factorise_embedding(dense_strata(CONFIG), embed_dim, counts_V=COUNTS)


def test_the_largest_is_the_supernet_itself() -> None:
    whole = supernet()
    assert largest_difference(whole.extract(SPACE.largest), whole) < 1e-6
    assert largest_difference(whole, narrow(SPACE.embed_dims[0])) < 1e-6


@pytest.mark.parametrize("rank", [0, 4, 16])
def test_tied_layers_are_those_of_share(rank: int) -> None:
    genes = replace(SPACE.largest, attention=(0, 0, 2, 2), ffn=(0, 0, 0, 3), rank=rank, embed_dim=32)
    expected = share(narrow(32), genes.attention, genes.ffn, rank=rank)
    found = supernet().extract(genes)
    assert found.config == SPACE.config(genes)
    assert largest_difference(found, expected) < 1e-4


def test_heads_are_pooled_and_pruned_as_by_their_modules() -> None:
    genes = replace(SPACE.largest, kv_heads=2, kept=(0.5,) * 4)
    pooled = pool_kv_heads(narrow(genes.embed_dim), 2)
    expected = prune(pooled, {layer: [2, 3] for layer in range(4)})
    assert largest_difference(supernet().extract(genes), expected) < 1e-5


def test_the_share_of_zero_blocks_is_the_genes() -> None:
    found = supernet().extract(replace(SPACE.largest, sparsity=0.75))
    for name in ("layers.0.up", "layers.3.down"):
        weight = linear_at(found, name).weight
        assert float((weight == 0).float().mean()) == pytest.approx(0.75, abs=0.01)


def test_gradients_reach_the_matrices_and_pairs_that_an_encoder_uses() -> None:
    whole = supernet().requires_grad_(True)
    genes = replace(SPACE.smallest, rank=4)
    loss = whole.layer_outputs(genes, RaggedBatch.of(TOKEN_IDS)).z_BD[:, 0].sum()
    loss.backward()  # type: ignore[no-untyped-call]
    reached = {name for name, value in whole.named_parameters() if value.grad is not None and value.grad.any()}
    banks = {name for name in reached if name.endswith("up.weight") and name.startswith("layers")}
    assert len(banks) == 1
    assert sum(name.startswith("pairs.") for name in reached) >= 4 * 4
    narrow_gradient = whole.embed.word.weight.grad
    assert narrow_gradient is not None
    assert not narrow_gradient[:, genes.embed_dim :].any()


def test_the_smaller_encoders_come_nearer_to_the_teacher() -> None:
    distiller = SandwichDistiller(
        supernet(), dense_strata(CONFIG), TOKEN_IDS, DistillOptions(steps=30, batch=6, rate=3e-3)
    )
    genes = SPACE.draw(random.Random(3))

    def cosine() -> float:
        batch = RaggedBatch.of(TOKEN_IDS)
        with torch.no_grad():
            vectors = [distiller.student.extract(genes)(batch), distiller.teacher(batch)]
        return float((vectors[0] * vectors[1]).sum(dim=1).mean())

    before = cosine()
    while not distiller.is_done:
        distiller.step()
    assert cosine() > before + 0.02


def test_a_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    def key(distiller: Distiller) -> str:
        return key_of(distiller.student, distiller.teacher, TOKEN_IDS, OPTIONS)

    path = tmp_path / "checkpoint"
    whole = training()
    name = key(whole)
    for _ in range(3):
        whole.step()
    write_checkpoint(path, whole, name)
    again = training()
    assert resume(path, again, key(again))
    while not whole.is_done:
        assert again.step() == whole.step()
    for tensor, value in whole.tensors().items():
        assert torch.equal(value, again.tensors()[tensor]), tensor
