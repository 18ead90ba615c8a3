"""Checks the scores of classifiers of long texts."""

import pytest
import torch

from bench.techniques.long_texts import held_out_scores, mean_average_precision


def test_average_precision_depends_on_the_order_of_the_scores() -> None:
    scores_BC = torch.tensor([[0.9, 1.0], [0.8, 3.0], [0.1, 2.0]])
    has_BC = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert mean_average_precision(scores_BC, has_BC) == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)


def test_a_text_is_scored_by_heads_that_were_not_shown_it() -> None:
    generator = torch.Generator().manual_seed(0)
    z_BD = torch.nn.functional.normalize(torch.randn(200, 16, generator=generator))
    known_BC = 3 * z_BD[:, :1]
    noise_BC = torch.randn(200, 1, generator=generator)
    scores_BC = held_out_scores(z_BD, torch.cat([known_BC, noise_BC], dim=1), seed=1)
    known, noise = (
        float(torch.corrcoef(pair)[0, 1])
        for pair in (torch.stack([scores_BC[:, 0], known_BC[:, 0]]), torch.stack([scores_BC[:, 1], noise_BC[:, 0]]))
    )
    assert known > 0.95
    assert abs(noise) < 0.25
