"""Row E17: degraded parts have the energy that the row says; `tests/bench/harness/test_cases.py` runs the row."""

import numpy as np

from bench.techniques.modalities import KEPT_ENERGY, leading_components, samples, with_noise
from tests.evals.streams.fsdd_files import tone


def test_degraded_pictures_keep_at_most_a_quarter_of_their_energy() -> None:
    rng = np.random.default_rng(0)
    x_NP = rng.normal(size=(500, 60)) * np.linspace(1, 5, 60)
    mean_P, basis_PK = leading_components(x_NP)
    centred = x_NP - mean_P
    share = np.square(centred @ basis_PK).sum() / np.square(centred).sum()
    assert KEPT_ENERGY - 0.1 < share <= KEPT_ENERGY
    assert np.allclose(basis_PK.T @ basis_PK, np.eye(basis_PK.shape[1]))


def test_noise_has_the_power_of_the_sound() -> None:
    x_N = samples(tone(3, "ann", 1))
    noise_N = with_noise(x_N, np.random.default_rng(1)).astype(float) - x_N
    assert len(x_N) == 800
    assert abs(np.square(noise_N).mean() / np.square(x_N.astype(float)).mean() - 1) < 0.2
