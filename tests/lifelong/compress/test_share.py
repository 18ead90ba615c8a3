"""Depth tying."""

import pytest
import torch
from torch import Tensor

from lifelong.compress.cost import parameters
from lifelong.compress.share import Start, nearest_to_mean, parse_ties, share
from model.errors import WrongConfig
from model.strata import Strata
from tests.lifelong.compress.members import DENSE, dense_strata, largest_difference, num_stored

OWN = (0, 1, 2, 3)
PAIRS = (0, 0, 2, 2)


def test_layers_that_share_nothing_compute_the_same() -> None:
    strata = dense_strata()
    assert largest_difference(strata, share(strata, OWN, OWN, rank=8)) == 0


@pytest.mark.parametrize("start", ["mean", "pick"])
@pytest.mark.parametrize("ties", [PAIRS, (0, 0, 0, 0), (0, 1, 0, 1)])
def test_at_full_rank_the_tied_encoder_computes_the_same(start: Start, ties: tuple[int, ...]) -> None:
    strata = dense_strata()
    assert largest_difference(strata, share(strata, ties, ties, rank=DENSE.d_model, start=start)) < 1e-5


def test_a_higher_rank_is_nearer() -> None:
    strata = dense_strata()
    differences = [largest_difference(strata, share(strata, OWN, PAIRS, rank=rank)) for rank in (2, 16, 48)]
    assert differences == sorted(differences, reverse=True)
    assert differences[-1] < differences[0] / 2


def test_attention_alone_can_be_tied() -> None:
    shared = share(dense_strata(), PAIRS, OWN, rank=4)
    before = parameters(DENSE)
    after = parameters(shared.config)
    assert after.attention == before.attention / 2
    assert after.feed_forward == before.feed_forward
    assert after.total == num_stored(shared)


def test_a_training_step_updates_a_bank_once_for_all_its_layers() -> None:
    shared = share(dense_strata(), PAIRS, PAIRS)
    bank = shared.get_parameter("layers.0.up.weight")
    names = [name for name, parameter in shared.named_parameters() if parameter is bank]
    assert names == ["layers.0.up.weight"]
    assert torch.equal(shared.get_submodule("layers.1.up").weight, bank)  # type: ignore[arg-type]


def test_layers_that_already_share_matrices_are_refused() -> None:
    with pytest.raises(WrongConfig, match="share matrices already"):
        share(share(dense_strata(), PAIRS, PAIRS), PAIRS, PAIRS)


def test_ties_need_a_letter_for_each_layer() -> None:
    assert parse_ties("abab", 4) == (0, 1, 0, 1)
    with pytest.raises(WrongConfig, match="expected 4 letters"):
        parse_ties("aabbcc", 4)


def test_the_matrices_of_a_bank_are_of_one_layer() -> None:
    """The rows of `up` and the columns of `down` belong to the same inner units, and so do heads."""
    strata = dense_strata()
    tied = share(strata, (0, 0, 0, 0), (0, 0, 0, 0))
    for parts in (("qkv", "out"), ("up", "down")):
        picks = [
            {layer for layer in OWN if torch.equal(read_weight(tied, 0, part), read_weight(strata, layer, part))}
            for part in parts
        ]
        assert picks[0] == picks[1] != set()


def test_the_picked_layer_is_nearest_to_the_mean_over_all_parts() -> None:
    near, far = torch.ones(2, 2), torch.zeros(2, 2)
    assert nearest_to_mean([[near, near, far]]) == 0
    assert nearest_to_mean([[far, near, near], [near, far, near]]) == 2


def read_weight(strata: Strata, layer: int, part: str) -> Tensor:
    return strata.get_parameter(f"layers.{layer}.{part}.weight")
