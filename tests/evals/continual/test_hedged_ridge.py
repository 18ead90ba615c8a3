import pytest
import torch
from torch import Tensor

from evals.continual.hedged_ridge import CLIP, HedgedRidge, StandardScaler
from evals.continual.runner import prequential
from evals.streams.benchmark import Benchmark, Part
from evals.streams.stream import Stage
from tests.evals.continual.spans import CHOICE

NUM_INPUTS = 4


def concept(num: int, seed: int) -> Part[Tensor]:
    """Returns rows whose label depends on a random direction, which depends on `seed`."""
    rng = torch.Generator().manual_seed(seed)
    direction_F = torch.randn(NUM_INPUTS, generator=rng)
    inputs_NF = torch.randn(num, NUM_INPUTS, generator=rng)
    return Part(inputs_NF, (inputs_NF @ direction_F > 0).long())


def by_span(*spans: Part[Tensor]) -> tuple[float, ...]:
    stages = tuple(Stage(str(number), span, span) for number, span in enumerate(spans))
    contender = HedgedRidge(NUM_INPUTS, 2, seed=0)
    benchmark = Benchmark("concepts", ("no", "yes"), stages, is_ordered=True)
    return prequential(benchmark, contender, CHOICE, lambda name, row: None).matrix[0]


def test_a_concept_is_learnt() -> None:
    early, late = by_span(*(Part(*part) for part in _halves(concept(600, seed=1))))
    assert late > 90 and late > early


def test_a_changed_concept_is_learnt_again() -> None:
    opposite = concept(900, seed=1)
    opposite = Part(opposite.inputs, 1 - opposite.labels_N)
    before, after, later = by_span(concept(900, seed=1), *(Part(*part) for part in _halves(opposite)))
    assert before > 90 and after > 60 and later > 90


def test_constant_labels_need_no_inputs() -> None:
    rng = torch.Generator().manual_seed(3)
    runs = Part(torch.randn(800, NUM_INPUTS, generator=rng), torch.arange(800) // 40 % 2)
    assert by_span(runs)[0] > 90


def test_predicting_changes_nothing() -> None:
    first = HedgedRidge(NUM_INPUTS, 2, seed=0)
    second = HedgedRidge(NUM_INPUTS, 2, seed=0)
    part = concept(80, seed=2)
    for row in part.batches(1):
        first.predict_many(part.inputs[:7])
        first.learn_many(row)
    second.learn_many(part)
    assert torch.equal(first.predict_many(part.inputs), second.predict_many(part.inputs))


def test_the_same_seed_gives_the_same_learner() -> None:
    part = concept(100, seed=4)
    scores = []
    for seed in (0, 0, 1):
        learner = HedgedRidge(NUM_INPUTS, 2, seed=seed)
        learner.learn_many(part)
        scores.append(learner._expert_scores(learner._features(part.inputs[0])))
    assert torch.equal(scores[0], scores[1]) and not torch.equal(scores[0], scores[2])


def test_inputs_are_standardised_by_earlier_rows() -> None:
    scaler = StandardScaler(1)
    rng = torch.Generator().manual_seed(0)
    for value in 100 + 5 * torch.randn(3_000, 1, generator=rng):
        scaler.learn(value)
    assert scaler(torch.tensor([105.0])).item() == pytest.approx(1.0, abs=0.1)
    assert scaler(torch.tensor([1e9])).item() == CLIP


def _halves(part: Part[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(part.inputs.chunk(2), part.labels_N.chunk(2), strict=True))
