import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.encoder.served import export_encoder
from learner.fast.fast_head import Z_GRID, FastHead
from learner.fast.ridge import GRID
from learner.rounds import next_head as carrying
from learner.rounds.next_head import CarryOver, DriftMap, num_spliced, splice
from learner.samples import Labelled
from tests.learner.rounds.rounds import SAMPLES, fast_head
from tests.learner.small_learner import small_served, small_strata

MEMORY = SAMPLES[::3]


def next_head(old: FastHead, change: float = 0.02) -> FastHead:
    """The empty head of an encoder whose top block differs a little."""
    strata = small_strata()
    with torch.no_grad():
        for weight in strata.layers[1].parameters():
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
            weight.add_(change * weight.std() * noise)
    return old.successor(small_served().with_top(export_encoder(strata, first_layer=1)))


def finish(carry_over: CarryOver, memory: list[Labelled], *, unit: int = 7) -> None:
    for first in range(0, len(memory), unit):
        carry_over.relearn(memory[first : first + unit])
    while not carry_over.step():
        pass


def carried(old: FastHead, new: FastHead, memory: list[Labelled]) -> FastHead:
    finish(CarryOver(old.copy(), new), memory)
    return new


def relearnt(new: FastHead, samples: list[Labelled]) -> FastHead:
    new.learn_many(samples)
    return new


def solved(drift: DriftMap) -> torch.Tensor:
    work = drift.solve()
    while True:
        try:
            next(work)
        except StopIteration as end:
            assert isinstance(end.value, torch.Tensor)
            return end.value


def test_an_encoder_that_did_not_change_keeps_all_sums() -> None:
    old = fast_head()
    new = carried(old, old.successor(old.served), MEMORY)
    assert torch.equal(new.ridge.sums.counts_C, old.ridge.sums.counts_C)
    assert torch.allclose(new.ridge.sums.gram_RR, old.ridge.sums.gram_RR, rtol=1e-5)
    assert torch.allclose(new.ridge.sums.class_CR, old.ridge.sums.class_CR, rtol=1e-5)
    assert torch.allclose(new.z_sums_CD, old.z_sums_CD, atol=1e-5)


def test_carried_sums_are_nearer_to_the_exact_sums_than_unmapped_ones_or_the_buffers() -> None:
    old = fast_head()
    wanted = relearnt(next_head(old), SAMPLES).ridge.sums.class_CR
    memory_alone = relearnt(next_head(old), MEMORY).ridge.sums.class_CR
    unmapped = memory_alone + old.ridge.sums.class_CR - relearnt(old.successor(old.served), MEMORY).ridge.sums.class_CR
    error = (carried(old, next_head(old), MEMORY).ridge.sums.class_CR - wanted).norm()
    assert error < 0.7 * (unmapped - wanted).norm()
    assert error < 0.1 * (memory_alone - wanted).norm()


def test_spliced_texts_bring_the_carried_sums_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    old = fast_head()
    memory = SAMPLES[:12]
    wanted = relearnt(next_head(old), SAMPLES).ridge.sums.class_CR
    with_spliced = (carried(old, next_head(old), memory).ridge.sums.class_CR - wanted).norm()
    monkeypatch.setattr(carrying, "PAIRS_PER_FEATURE", 0)
    without = (carried(old, next_head(old), memory).ridge.sums.class_CR - wanted).norm()
    assert with_spliced < 0.9 * without


def test_a_spliced_text_begins_as_one_and_ends_as_the_other() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        words = splice("a b c", "d e", rng).split()
        assert words[0] == "a" and words[-1] == "e" and words == sorted(words)
    assert splice("", "", rng) == "" and splice("one", "", rng) == "one"
    assert num_spliced(2 * 96, 96) == 0


def test_samples_of_the_buffer_are_exact_and_can_be_unlearnt() -> None:
    old = fast_head()
    new = carried(old, next_head(old), MEMORY)
    before = {name: value.clone() for name, value in new.export().items()}
    new.learn_many(SAMPLES)
    new.unlearn_many(SAMPLES)
    assert all(torch.equal(value, before[name]) for name, value in new.export().items())


def test_all_sums_are_on_the_grid_and_the_gram_is_symmetric() -> None:
    old = fast_head()
    new = carried(old, next_head(old), MEMORY)
    sums = new.ridge.sums
    for value, grid in ((sums.gram_RR, GRID**2), (sums.class_CR, GRID), (new.z_sums_CD, Z_GRID)):
        assert torch.equal(value * grid, (value * grid).round())
    assert torch.equal(sums.gram_RR, sums.gram_RR.T)


def test_the_same_buffer_gives_the_same_bits() -> None:
    old = fast_head()
    first = carried(old, next_head(old), MEMORY).export()
    second = carried(old, next_head(old), MEMORY).export()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_old_head_may_learn_on_meanwhile() -> None:
    old = fast_head()
    alone = carried(old, next_head(old), MEMORY).export()
    carry_over = CarryOver(old.copy(), new := next_head(old))
    old.learn_many(SAMPLES[:5])
    finish(carry_over, MEMORY)
    assert all(torch.equal(value, new.export()[name]) for name, value in alone.items())


def test_a_class_that_loses_its_row_meanwhile_leaves_nothing_behind() -> None:
    old = fast_head()
    label = MEMORY[0].label
    memory = [sample for sample in SAMPLES if sample.label == label] + [s for s in MEMORY if s.label != label]
    new = next_head(old)
    carry_over = CarryOver(old.copy(), new)
    carry_over.relearn(memory[:3])
    carry_over.evict([sample for sample in memory[3:] if sample.label == label], label, "another")
    new.evict([sample for sample in memory[:3] if sample.label == label], label, "another")
    finish(carry_over, [sample for sample in memory[3:] if sample.label != label])
    assert new.ridge.count_samples("another") == 0
    assert new.ridge.num_samples == sum(sample.label != label for sample in SAMPLES)
    row = int(new.ridge.find_rows(["another"]))
    assert not new.ridge.sums.class_CR[row].any()


@given(st.integers(0, 1_000), st.integers(1, 8))
def test_a_drift_is_mapped_where_it_was_observed_and_nowhere_else(seed: int, num_seen: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    seen_BR = torch.zeros(64, 16)
    seen_BR[:, :num_seen] = torch.randn(64, num_seen, generator=rng)
    change_RR = 0.1 * torch.randn(16, 16, generator=rng)
    drift = DriftMap(16, 16)
    drift.add(seen_BR, seen_BR + seen_BR @ change_RR)
    map_RR = solved(drift)
    assert torch.allclose(map_RR[:num_seen] - torch.eye(16)[:num_seen], change_RR[:num_seen], atol=0.1)
    assert torch.equal(map_RR[num_seen:], torch.eye(16)[num_seen:])


def test_unlearning_in_a_copy_does_not_change_the_head() -> None:
    """A round unlearns from its copy in another thread, while the head is solved by its own log."""
    old = fast_head()
    old.log.take(old.served.config.head_features)
    old.learn_many(SAMPLES[:2])
    old.copy().unlearn_many(SAMPLES[:5])
    rows = old.log.take(old.served.config.head_features)
    assert (len(rows.labels), rows.are_all) == (2, True)
