"""The blend of the heads of all labels and of the newest: when it exists, how its share moves, what changes it."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from learner.encoder.served import ServedEncoder
from learner.fast.fast_head import FastHead
from learner.fast.recency import MAX_NEWEST, MIN_HELD, RecencyBlend
from learner.fast.rows import ClassRows
from learner.fast.solver import HeadSolver
from learner.samples import Labelled
from lifelong.plugins.kinds.scores import VALUE_ROW, scaled_label
from lifelong.plugins.kinds.sets import join_names
from model.heads import open_head
from model.kinds import Entries
from tests.learner.fast.heads import Ridge, import_path
from tests.learner.small_learner import small_served

WIDTH = 8
NUM_FEATURES = 48
PENALTY = 1.0
PROJ_RD = torch.randn(NUM_FEATURES, WIDTH, generator=torch.Generator().manual_seed(0))
NUM = 4 * MIN_HELD


def features(z_BD: Tensor) -> Tensor:
    return torch.relu(z_BD @ PROJ_RD.T)


def vectors(num: int, seed: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(num, WIDTH, generator=torch.Generator().manual_seed(seed)), dim=1)


def recency_blend(num_classes: int = 2, *, num_recent: int = 8) -> RecencyBlend:
    made = RecencyBlend(WIDTH, num_recent)
    made.grow(num_classes, num_classes)
    return made


def learn(it: RecencyBlend, z_ND: Tensor, rows_N: Tensor, *, first_ms: int = 0) -> None:
    it.update_losses(features(z_ND), Entries(rows_N))
    it.add(z_ND, Entries(rows_N), range(first_ms, first_ms + len(z_ND)))


def old(z_ND: Tensor) -> Tensor:
    """Returns the class of each vector, by the sign of its first number."""
    return (z_ND[:, 0] > 0).long()


def compute_weights(z_ND: Tensor, rows_N: Tensor) -> Tensor:
    """Returns the head of these labels, which is the head of all labels in these tests."""
    phi_NR = features(z_ND)
    targets_NC = torch.nn.functional.one_hot(rows_N, 2).float()
    gram_RR = phi_NR.T @ phi_NR + PENALTY * torch.eye(NUM_FEATURES)
    weights_RC: Tensor = torch.linalg.solve(gram_RR, phi_NR.T @ targets_NC)
    return weights_RC.T


ALL_CR = compute_weights(vectors(4_000, 1), old(vectors(4_000, 1)))


def share_after(rows_N: Tensor, *, num_solutions: int = 8) -> tuple[RecencyBlend, float]:
    """Returns the blend and its share after labels of the vectors of seed 2, solved `num_solutions` times."""
    it = recency_blend()
    share = 0.0
    z_ND = vectors(len(rows_N), 2)
    num = len(rows_N) // num_solutions
    for first in range(0, len(rows_N), num):
        learn(it, z_ND[first : first + num], rows_N[first : first + num], first_ms=first)
        _, share = it.blended(ALL_CR, features, PENALTY)
    return it, share


def test_without_drift_the_head_of_all_labels_decides() -> None:
    _, share = share_after(old(vectors(NUM, 2)))
    assert 0 < share < 0.25


def test_after_a_change_of_the_classes_the_newest_labels_decide() -> None:
    _, share = share_after(1 - old(vectors(NUM, 2)))
    assert share > 0.9


def test_the_blend_predicts_by_the_newest_labels() -> None:
    it, _ = share_after(1 - old(vectors(NUM, 2)))
    blended_CR, share = it.blended(ALL_CR, features, PENALTY)
    z_ND = vectors(200, 3)
    is_right_N = (features(z_ND) @ blended_CR.T).argmax(dim=1) == 1 - old(z_ND)
    assert float(is_right_N.float().mean()) > 0.85
    half_CR, half = it.blended(ALL_CR, features, PENALTY, share=share / 2)
    assert half == share / 2
    torch.testing.assert_close(half_CR, (ALL_CR + blended_CR) / 2)


def test_with_few_labels_of_a_class_there_is_no_second_head() -> None:
    it = recency_blend()
    z_ND = vectors(NUM, 2)
    rows_N = (torch.arange(NUM) >= MIN_HELD - 1).long()
    learn(it, z_ND, rows_N)
    weights_CR, share = it.blended(ALL_CR, features, PENALTY)
    assert weights_CR is ALL_CR and share == 0
    learn(it, z_ND[:1], rows_N[:1], first_ms=NUM)
    assert it.blended(ALL_CR, features, PENALTY)[1] > 0


def test_many_classes_have_none_and_nobody_pays_for_it() -> None:
    num_classes = MAX_NEWEST // MIN_HELD + 1
    it = recency_blend(num_classes)
    rows_N = torch.arange(100 * num_classes) % num_classes
    learn(it, vectors(len(rows_N), 2), rows_N)
    weights_CR = torch.zeros(num_classes, NUM_FEATURES)
    assert it.blended(weights_CR, features, PENALTY) == (weights_CR, 0.0)
    assert it.update_losses(features(vectors(2, 3)), Entries(rows_N[:2])) == [False, False]
    unused = recency_blend(num_recent=0)
    learn(unused, vectors(NUM, 2), old(vectors(NUM, 2)))
    assert unused.newest.num_held == 0 and unused.blended(ALL_CR, features, PENALTY) == (ALL_CR, 0.0)


@settings(max_examples=20)
@given(st.permutations(range(NUM)))
def test_the_order_of_the_labels_changes_no_bit(order: list[int]) -> None:
    z_ND = vectors(NUM, 2)
    rows_N = old(z_ND)
    one = recency_blend()
    other = recency_blend()
    one.add(z_ND, Entries(rows_N), range(NUM))
    other.add(z_ND[order], Entries(rows_N[order]), order)
    first_CR, _ = one.blended(ALL_CR, features, PENALTY, share=0.5)
    second_CR, _ = other.blended(ALL_CR, features, PENALTY, share=0.5)
    assert torch.equal(first_CR, second_CR)


def test_an_exported_state_continues_unchanged() -> None:
    it, share = share_after(1 - old(vectors(NUM, 2)))
    restored = recency_blend()
    restored.restore(it.export(2))
    assert restored.share == share == it.copy().share
    assert torch.equal(restored.blended(ALL_CR, features, PENALTY)[0], it.copy().blended(ALL_CR, features, PENALTY)[0])
    anew = recency_blend()
    anew.adopt_losses(it)
    assert anew.share == share and not anew.newest.held(2)[0].numel()
    restored.restore({})
    assert restored.share == 0.5 and not restored.newest.held(2)[0].numel()


def test_a_class_that_is_new_to_both_heads_is_no_loss_of_either() -> None:
    it, share = share_after(old(vectors(NUM, 2)))
    it.update_losses(features(vectors(50, 4)), Entries(torch.full((50,), 2)))
    assert it.share == share


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_without_drift_pays_a_tenth_of_a_point_at_most(seed: int) -> None:
    """Two classes overlap, and 3 of 20 labels are wrong; the mean over a version every 100 labels."""
    rng = torch.Generator().manual_seed(seed)
    means_CD = torch.randn(2, WIDTH, generator=rng)

    def draw(num: int) -> tuple[Tensor, Tensor]:
        rows_N = torch.randint(2, (num,), generator=rng)
        z_ND = torch.nn.functional.normalize(means_CD[rows_N] + torch.randn(num, WIDTH, generator=rng), dim=1)
        return z_ND, rows_N ^ (torch.rand(num, generator=rng) < 0.15).long()

    z_ND, rows_N = draw(2_000)
    test_MD, test_M = draw(20_000)
    it = recency_blend()
    lost = list[float]()
    for first in range(0, len(z_ND), 100):
        learn(it, z_ND[first : first + 100], rows_N[first : first + 100], first_ms=first)
        all_CR = compute_weights(z_ND[: first + 100], rows_N[: first + 100])
        blended_CR, share = it.blended(all_CR, features, PENALTY)
        if first >= 300:
            assert share > 0
            right_2 = [(features(test_MD) @ head_CR.T).argmax(dim=1) == test_M for head_CR in (all_CR, blended_CR)]
            lost.append(float(right_2[0].float().mean() - right_2[1].float().mean()))
    assert sum(lost) / len(lost) <= 0.001


def test_sets_of_labels_and_scores_have_none() -> None:
    rows = ClassRows(8, ("a", "b", VALUE_ROW))
    z_ND = vectors(NUM, 2)
    for labels in ([join_names(["a", "b"])] * NUM, [scaled_label(0.5)] * NUM):
        it = recency_blend(3)
        entries = rows.entries(labels)
        it.add(entries.of(z_ND), entries, range(len(entries.rows_E)))
        assert len(it.recent.held(3)[0]) and not len(it.newest.held(3)[0])
        assert it.update_losses(features(z_ND), entries) == [False] * NUM


def solved(head: FastHead, num_classes: int) -> tuple[Tensor, float]:
    """Returns the weights of a version, and the share, in the middle of a stream whose classes swap."""
    solver = HeadSolver()
    weights_CR = torch.empty(0)
    for first in range(0, 160 * num_classes, 40):
        samples = [
            Labelled(f"word{number % num_classes}", f"class {(number + (first > 500)) % num_classes}", time_ms=number)
            for number in range(first, first + 40)
        ]
        head.admit_all(sample.label for sample in samples)
        z_BD, phi_BR = head.encode(samples)
        head.recency.update_losses(phi_BR, head.ridge.entries([sample.label for sample in samples]))
        head.learn_encoded(z_BD, phi_BR, samples)
        weights_CR = solver.solve(head, {"feedback.v1/0": first + 40})
    return weights_CR, solver.solution.fading_share or 0.0


@pytest.mark.parametrize(("num_classes", "is_blended"), [(4, True), (9, False)])
def test_a_version_of_many_classes_has_the_weights_that_it_had_without_this(num_classes: int, is_blended: bool) -> None:
    served = small_served()
    served = ServedEncoder(replace(served.config, label_capacity=16), served.tokenizer, served.tensors)
    with_newest, share = solved(FastHead(served, penalty=0.01, num_recent=8), num_classes)
    without, none = solved(FastHead(served, penalty=0.01), num_classes)
    assert none == 0 and (share > 0) == is_blended
    assert torch.equal(with_newest, without) == (not is_blended)


def test_a_head_of_the_user_is_not_blended() -> None:
    head = FastHead(small_served(), penalty=0.01, num_recent=8, head=open_head(import_path(Ridge)))
    weights_CR, share = solved(head, 2)
    assert share == 0 and torch.equal(weights_CR, head.solve()) and head.recency.recent.num_held == 8
