"""Cached activations are bounded, and change nothing but the time."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.encoder.served import ActivationCache, export_encoder
from learner.state.checkpoints import VersionState
from tests.learner.small_learner import small_learner, small_served, small_strata
from tests.learner.streams import stream

TEXTS = ["where is my card", "a refund please", "where is my card", "close it"]


def rows(num_rows: int) -> torch.Tensor:
    return torch.ones(num_rows, 4)


def test_the_oldest_go_beyond_the_bound() -> None:
    kept = ActivationCache(max_bytes=10 * 4 * 2)
    for text, num_rows in (("a", 4), ("b", 4), ("c", 3)):
        kept.add("below", text, rows(num_rows))
    assert list(kept.of("below", ["a", "b", "c"])) == ["b", "c"]
    assert kept.of("another bottom", ["b"]) == {}
    # Replaces the shorter activations of the same text.
    kept.add("below", "b", rows(7))
    assert list(kept.of("below", ["b", "c"])) == ["b", "c"]
    kept.add("below", "d", rows(11))
    assert len(kept) == 0
    kept.add("below", "b", rows(1))
    kept.clear()
    assert len(kept) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("tuvw"), st.integers(1, 9)), max_size=40))
def test_all_boundaries_share_one_bound(added: list[tuple[str, str, int]]) -> None:
    kept = ActivationCache(max_bytes=10 * 4 * 2)
    for below, text, num_rows in added:
        kept.add(below, text, rows(num_rows))
        held = [x_TD for below in "abc" for x_TD in kept.of(below, "tuvw").values()]
        assert kept.num_bytes == sum(x_TD.nbytes for x_TD in held) <= 10 * 4 * 2
        assert len(kept) == len(held) and len(kept.of(below, text)[text]) == num_rows


def test_each_boundary_keeps_its_own() -> None:
    served = small_served()
    bottom_TD, _ = served.prefix(TEXTS, 0)
    upper_TD, _ = served.prefix(TEXTS, 1)
    assert len(served.activations) == 6
    assert torch.equal(served.prefix(TEXTS, 0)[0], bottom_TD) and torch.equal(served.prefix(TEXTS, 1)[0], upper_TD)
    assert not torch.equal(bottom_TD, upper_TD)


def test_cached_activations_change_no_bit() -> None:
    served = small_served()
    first_TD, layout = served.prefix(TEXTS, 1)
    assert len(served.activations) == 3
    served.prefix(["please"], 1)
    again_TD, same = served.prefix(TEXTS, 1)
    assert torch.equal(first_TD, again_TD) and layout == same
    assert torch.equal(first_TD, small_served().prefix(TEXTS, 1)[0])


def test_another_top_has_the_same_activations_and_another_bottom_has_none() -> None:
    served = small_served()
    served.prefix(TEXTS, 1)
    strata = small_strata()
    with torch.no_grad():
        strata.get_parameter("layers.1.up.weight").mul_(1.5)
    new_top = served.with_top(export_encoder(strata, first_layer=1))
    new_top.prefix(TEXTS, 1)
    assert len(served.activations) == 3
    with torch.no_grad():
        strata.get_parameter("layers.0.up.weight").mul_(1.5)
    served.with_top(export_encoder(strata)).prefix(TEXTS, 1)
    assert len(served.activations) == 6
    new_top.forget_texts()
    assert len(served.activations) == 0


def test_an_erasure_forgets_the_activations_of_a_round_also_of_one_that_was_set_aside() -> None:
    it = small_learner()
    before = VersionState(it.export(None))
    it.learn_many(stream(0, 140), {})
    while len(it.fast_head.served.activations) == 0:
        it.tick()
    it.go_back(before, 1)
    assert len(it.fast_head.served.activations) > 0
    it.erase(keep_alive=lambda: None)
    assert len(it.fast_head.served.activations) == 0
