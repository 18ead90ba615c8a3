import torch
from torch.nn import functional

from learner.rounds.strategies import ExperienceReplay
from tests.learner.rounds.outputs import LABELS_B, X_BD, outputs, weights


def test_fresh_and_replayed_samples_count_alike() -> None:
    w_CD = weights()
    loss = ExperienceReplay().loss(outputs(w_CD, 0), [outputs(w_CD, 1, 2, 3)])
    assert torch.allclose(loss, functional.cross_entropy(X_BD @ w_CD.T, LABELS_B))


def test_without_a_buffer_the_fresh_samples_are_learnt() -> None:
    w_CD = weights()
    assert torch.allclose(
        ExperienceReplay().loss(outputs(w_CD, 0, 1, 2, 3), []), functional.cross_entropy(X_BD @ w_CD.T, LABELS_B)
    )
