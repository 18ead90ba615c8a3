"""The newest labels of each class are kept, in any order of arrival."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.fast.recency import DECAY, MAX_VECTORS, RecentLabels

Z_ND = torch.nn.functional.normalize(torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), dim=1)


def recent(num_recent: int = 3) -> RecentLabels:
    return RecentLabels(2, 4, num_recent)


def held(it: RecentLabels) -> list[torch.Tensor]:
    return list(it.export(2).values())


@given(st.permutations(range(12)), st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_the_order_of_labels_does_not_matter(order: list[int], times_ms: list[int]) -> None:
    """Some events have the same time."""
    rows_N = torch.arange(12) % 2
    one = recent()
    one.add(Z_ND, rows_N, times_ms)
    other = recent()
    other.add(Z_ND[order], rows_N[order], [times_ms[place] for place in order])
    assert all(map(torch.equal, held(one), held(other)))


def test_the_mean_is_that_of_the_newest_labels_and_the_newest_weighs_most() -> None:
    it = recent()
    it.add(Z_ND[:5], torch.zeros(5, dtype=torch.int64), [50, 10, 30, 40, 20])
    mean_D = Z_ND[0] + DECAY * Z_ND[3] + DECAY**2 * Z_ND[2]
    torch.testing.assert_close(it.means(2)[0], torch.nn.functional.normalize(mean_D, dim=0))
    assert not it.means(2)[1].any()


def test_the_mean_since_a_time_leaves_out_older_labels() -> None:
    it = recent()
    it.add(Z_ND[:4], torch.tensor([0, 0, 0, 1]), [10, 20, 30, 10])
    means_CD, counts_C = it.means_since(20, 2)
    torch.testing.assert_close(means_CD[0], torch.nn.functional.normalize(Z_ND[1] + Z_ND[2], dim=0))
    assert not means_CD[1].any()
    assert counts_C.tolist() == [2, 0]


def test_unlearning_removes_one_equal_label() -> None:
    it = recent()
    it.add(Z_ND[[0, 0, 1]], torch.tensor([1, 1, 1]), [1, 2, 3])
    it.remove(Z_ND[[0, 5]], torch.tensor([1, 1]))
    assert torch.equal(it.keep_since(1, 0), Z_ND[[1, 0]])


def test_older_labels_are_removed() -> None:
    it = recent()
    it.add(Z_ND[:3], torch.tensor([0, 0, 0]), [10, 20, 30])
    assert torch.equal(it.keep_since(0, 20), Z_ND[[2, 1]])
    it.add(Z_ND[3:4], torch.tensor([0]), [25])
    assert torch.equal(it.keep_since(0, 0), Z_ND[[2, 3, 1]])


@pytest.mark.parametrize("num_recent", [2, 3, 5])
def test_it_is_restored_with_another_number_of_places(num_recent: int) -> None:
    it = recent()
    it.add(Z_ND[:4], torch.zeros(4, dtype=torch.int64), [1, 2, 3, 4])
    restored = recent(num_recent)
    restored.restore(it.export(1))
    assert torch.equal(restored.keep_since(0, 0), Z_ND[[3, 2, 1]][:num_recent])


def test_a_checkpoint_of_an_older_program_has_none() -> None:
    it = recent()
    it.add(Z_ND[:1], torch.tensor([0]), [1])
    it.restore({})
    assert not it.means(2).any()


def test_a_copy_has_its_own_labels() -> None:
    it = recent()
    copied = it.copy()
    it.add(Z_ND[:1], torch.tensor([0]), [1])
    assert not copied.means(2).any() and it.means(2).any()


def test_the_vectors_of_many_classes_are_bounded() -> None:
    assert RecentLabels(MAX_VECTORS, 4, 8).num_held == 1
    it = RecentLabels(MAX_VECTORS + 1, 4, 8)
    it.add(Z_ND[:1], torch.tensor([0]), [1])
    assert it.num_held == 0 and not it.means(1).any()


def test_with_more_classes_the_newest_labels_of_each_are_kept() -> None:
    """The kept labels are the same as if all classes had been there from the start."""
    early = recent(8)
    late = RecentLabels(MAX_VECTORS // 3, 4, 8)
    early.add(Z_ND, torch.arange(12) % 2, range(12))
    early.grow(MAX_VECTORS // 3)
    late.add(Z_ND, torch.arange(12) % 2, range(12))
    assert early.num_held == late.num_held == 3
    assert all(map(torch.equal, held(early), held(late)))
    assert torch.equal(early.means(5), late.means(5))


def test_with_too_many_classes_no_labels_are_kept() -> None:
    it = RecentLabels(2, 4, 8, max_vectors=8, min_held=3)
    it.add(Z_ND[:5], torch.tensor([0, 0, 0, 0, 1]), range(5))
    z_ND, rows_N = it.held(2)
    assert torch.equal(z_ND, Z_ND[[3, 2, 1, 0, 4]]) and rows_N.tolist() == [0, 0, 0, 0, 1] and it.is_any_full
    it.grow(3)
    it.add(Z_ND[:5], torch.tensor([0, 0, 0, 0, 1]), range(5))
    assert it.num_held == 0 and not len(it.held(3)[0]) and not it.is_any_full
