"""torchao's INT4: weights are rounded in groups and trainable, and the source encoder is not changed."""

import pytest
import torch

from bench.techniques.quantization import fake_quantized
from model.ragged import RaggedBatch
from tests.model.small_encoder import small_strata
from tests.required import imported

BATCH = RaggedBatch.of([[5, 6, 7], [1], [9, 8]])


@pytest.fixture(autouse=True)
def _torchao() -> None:
    imported("torchao")


def test_weights_and_embeddings_are_rounded() -> None:
    strata = small_strata()
    before = {name: value.clone() for name, value in strata.state_dict().items()}
    fake = fake_quantized(strata)
    assert 0.9 < float((fake(BATCH) * strata(BATCH)).sum(dim=1).min()) < 0.9999
    for row_GK in fake.embed.word.weight.view(-1, 64):
        assert len(row_GK.unique()) <= 16
    assert all(torch.equal(value, before[name]) for name, value in strata.state_dict().items())


def test_a_step_reaches_the_weights_and_not_the_token_embeddings() -> None:
    fake = fake_quantized(small_strata())
    fake.requires_grad_()
    fake.embed.word.requires_grad_(False)
    torch.autograd.backward(fake(BATCH).sum())
    assert fake.get_parameter("layers.0.up.weight").grad is not None
    assert fake.get_parameter("embed.word.weight").grad is None
