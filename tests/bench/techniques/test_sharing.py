"""Checks the encoders of row E2; `tests/bench/harness/test_cases.py` runs the row."""

from bench.techniques.sharing import further_task_cost, tied_encoder
from lifelong.compress.cost import parameters
from lifelong.compress.share import parse_ties
from model.plan import build_plan
from tests.lifelong.compress.members import TOKEN_IDS, dense_strata
from tests.services.members.small import CONFIG


def test_the_tied_encoder_has_banks_groups_and_a_narrow_embedding() -> None:
    dense = dense_strata(CONFIG)
    tied = tied_encoder(dense, TOKEN_IDS, ties="aabb", embed_dim=16, kv_heads=2, rank=4)
    assert [tied.config.layer(index).ffn for index in range(4)] == list(parse_ties("aabb", 4))
    assert tied.config.embed_dim == 16
    assert all(block.kv_heads == 2 for block in build_plan(tied.config).blocks)
    assert parameters(tied.config).total < 0.6 * parameters(dense.config).total


def test_a_further_task_costs_the_layers_above_the_trunk() -> None:
    dense = dense_strata(CONFIG)
    assert 0 < further_task_cost(dense, TOKEN_IDS, depth=4) < further_task_cost(dense, TOKEN_IDS, depth=1) <= 1
