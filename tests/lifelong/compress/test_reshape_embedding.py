"""Factorised token embeddings."""

import pytest
import torch

from lifelong.compress.cost import parameters
from lifelong.compress.reshape import factorise_embedding
from model.errors import WrongConfig
from tests.lifelong.compress.members import DENSE, TOKEN_IDS, changed, dense_strata, largest_difference, num_stored


def test_a_table_of_low_rank_is_factorised_without_loss() -> None:
    strata = dense_strata()
    table_VD = torch.randn(DENSE.vocab, 8) @ torch.randn(8, DENSE.d_model)
    strata = changed(strata, embed__word__weight=table_VD)
    narrow = factorise_embedding(strata, 8)
    assert largest_difference(strata, narrow) < 1e-5
    assert num_stored(narrow) == parameters(narrow.config).total < num_stored(strata)


def test_frequent_tokens_have_the_least_error() -> None:
    strata = dense_strata()
    counts_V = torch.bincount(torch.cat(list(map(torch.tensor, TOKEN_IDS))), minlength=DENSE.vocab) * 1_000
    plain = factorise_embedding(strata, 24)
    weighted = factorise_embedding(strata, 24, counts_V=counts_V)
    assert largest_difference(strata, weighted) < largest_difference(strata, plain) / 2


@pytest.mark.parametrize("embed_dim", [0, DENSE.d_model])
def test_an_invalid_width_is_refused(embed_dim: int) -> None:
    with pytest.raises(WrongConfig, match="expected 1 to 63"):
        factorise_embedding(dense_strata(), embed_dim)


def test_a_factorised_embedding_is_refused() -> None:
    with pytest.raises(WrongConfig, match="16 wide already"):
        factorise_embedding(factorise_embedding(dense_strata(), 16), 8)
