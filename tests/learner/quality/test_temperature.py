import torch

from learner.quality.temperature import DEFAULT, fit_temperature


def test_the_temperature_of_sampled_labels_is_found() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.rand(4_000, 10, generator=rng)
    rows = torch.multinomial((logits / 0.1).softmax(1), 1, generator=rng)[:, 0]
    assert abs(fit_temperature(logits, rows) - 0.1) < 0.01


def test_perfect_logits_stop_at_the_lowest() -> None:
    temperature = fit_temperature(torch.eye(100), torch.arange(100))
    assert temperature > 0.009
    assert temperature < 0.02


def test_few_samples_say_nothing() -> None:
    assert fit_temperature(torch.eye(9), torch.arange(9)) == DEFAULT
