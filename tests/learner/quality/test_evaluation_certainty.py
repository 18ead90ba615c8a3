"""The certainty of a version: quantiles of the free energies of its holdout, and the risk above each of them."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.quality.evaluation import (
    ENERGY_TEMPERATURE,
    MIN_CERTAINTY_SAMPLES,
    NUM_QUANTILES,
    fit_certainty,
    risk_bounds,
)
from model.head import free_energies
from rollout.statistics import exact_upper_bound
from wire.records import Certainty


def scored(num: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits_NC = 8 * torch.rand(num, 5, generator=generator)
    is_right_N = torch.rand(num, generator=generator) < free_energies(logits_NC, ENERGY_TEMPERATURE) / 4
    return logits_NC, is_right_N


def test_the_quantiles_are_those_of_the_samples_of_known_classes() -> None:
    logits_NC, is_right_N = scored(400)
    is_known_N = torch.arange(400) % 4 > 0
    found = fit_certainty(logits_NC, is_right_N, is_known_N)
    energies = free_energies(logits_NC[is_known_N], ENERGY_TEMPERATURE).sort().values
    assert (found.samples, found.temperature, len(found.quantiles)) == (300, ENERGY_TEMPERATURE, NUM_QUANTILES)
    assert found.quantiles[0] == round(float(energies[0]), 4) and found.quantiles[-1] == round(float(energies[-1]), 4)
    share = float((energies < found.quantiles[5]).float().mean())
    assert abs(share - 0.05) < 0.005


def test_the_risk_bounds_the_errors_above_and_falls_where_only_uncertain_answers_are_wrong() -> None:
    logits_NC, _ = scored(1_000)
    energies_N = free_energies(logits_NC, ENERGY_TEMPERATURE)
    is_right_N = energies_N > energies_N.quantile(0.2)
    found = fit_certainty(logits_NC, is_right_N, torch.ones(1_000, dtype=torch.bool))
    assert 0.2 < found.risks[0] < 0.25 and found.risks[25] < 0.01
    # A single sample gives a weak bound.
    assert found.risks[-1] > 0.9


@given(st.integers(1, 400), st.floats(0, 1), st.floats(0.001, 0.2))
def test_the_bound_is_no_lower_than_the_exact_one(num: int, share: float, error: float) -> None:
    wrong = int(share * num)
    bound = float(risk_bounds(torch.tensor([float(wrong)]), torch.tensor([num]), error))
    assert exact_upper_bound(wrong, num, error) - 1e-6 <= bound <= 1.0


def test_few_samples_say_nothing() -> None:
    logits_NC, is_right_N = scored(MIN_CERTAINTY_SAMPLES)
    is_known_N = torch.ones(MIN_CERTAINTY_SAMPLES, dtype=torch.bool)
    assert fit_certainty(logits_NC, is_right_N, is_known_N).samples == MIN_CERTAINTY_SAMPLES
    is_known_N[0] = False
    assert fit_certainty(logits_NC, is_right_N, is_known_N) == Certainty()
