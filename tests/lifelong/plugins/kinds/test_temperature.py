import torch

from lifelong.plugins.kinds.class_tensors import TENSORS as CLASS
from lifelong.plugins.kinds.class_tensors import ClassTargets
from lifelong.plugins.kinds.set_tensors import DEFAULT_THRESHOLD, SetTargets, fit_threshold
from lifelong.plugins.kinds.set_tensors import TENSORS as MULTILABEL
from model.kinds import DEFAULT_TEMPERATURE


def test_the_temperature_of_sampled_labels_is_found() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.rand(4_000, 10, generator=rng)
    rows = torch.multinomial((logits / 0.1).softmax(1), 1, generator=rng)[:, 0]
    assert abs(CLASS.calibrate(logits, ClassTargets(rows)).temperature - 0.1) < 0.01


def test_perfect_logits_stop_at_the_lowest() -> None:
    temperature = CLASS.calibrate(torch.eye(100), ClassTargets(torch.arange(100))).temperature
    assert temperature > 0.009
    assert temperature < 0.02


def test_few_samples_give_the_default_temperature() -> None:
    assert CLASS.calibrate(torch.eye(9), ClassTargets(torch.arange(9))).temperature == DEFAULT_TEMPERATURE


def micro_f1(outputs: torch.Tensor, has: torch.Tensor, threshold: float) -> float:
    named = outputs > threshold
    return float(2 * (named & has).sum() / (named.sum() + has.sum()))


def test_no_other_threshold_has_a_higher_micro_f1() -> None:
    rng = torch.Generator().manual_seed(0)
    has = torch.rand(300, 7, generator=rng) < torch.linspace(0.02, 0.5, 7)
    outputs = 0.6 * has + 0.5 * torch.randn(300, 7, generator=rng)
    best = micro_f1(outputs, has, fit_threshold(outputs, has))
    assert best >= max(micro_f1(outputs, has, threshold / 50) for threshold in range(-50, 100))
    ties = (4 * outputs).round() / 4
    assert micro_f1(ties, has, fit_threshold(ties, has)) >= max(
        micro_f1(ties, has, threshold / 50) for threshold in range(-50, 100)
    )


def test_few_samples_or_no_sample_with_a_class_give_the_default_threshold() -> None:
    assert fit_threshold(torch.rand(9, 3), torch.ones(9, 3, dtype=torch.bool)) == DEFAULT_THRESHOLD
    assert fit_threshold(torch.rand(90, 3), torch.zeros(90, 3, dtype=torch.bool)) == DEFAULT_THRESHOLD


def test_the_temperature_of_sampled_sets_is_found() -> None:
    rng = torch.Generator().manual_seed(0)
    outputs = torch.rand(4_000, 10, generator=rng) - 0.5
    has = torch.rand(4_000, 10, generator=rng) < (outputs / 0.1).sigmoid()
    targets = SetTargets(torch.zeros(4_000), has, has.sum(dim=1), torch.zeros(4_000))
    assert abs(MULTILABEL.calibrate(outputs, targets).temperature - 0.1) < 0.01
