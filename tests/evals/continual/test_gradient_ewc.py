import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from evals.continual.gradient import ElasticWeights
from learner.rounds.strategies import Outputs
from tests.learner.rounds.checks import PLACES, Places, check_strategy
from tests.learner.rounds.outputs import outputs, weights


def nothing(w: Tensor) -> Outputs:
    """Returns a sample whose loss is 0 for any weights."""
    return Outputs(torch.tensor([[0.0]]) * w.sum(), torch.tensor([0]))


def gradient_at(learner: ElasticWeights, value: float) -> list[float]:
    w = torch.full((2,), value, requires_grad=True)
    learner.backward([w], nothing(w), [])
    assert w.grad is not None
    return [round(value, 4) for value in w.grad.tolist()]


def test_important_weights_are_held_in_place() -> None:
    learner = ElasticWeights(strength=3.0, decay=0.5)
    w = torch.tensor([1.0, 1.0], requires_grad=True)
    # F is the mean of 1 and 9, for the first weight only.
    learner.end_stage([w], (x * w[0] for x in (1.0, 3.0)))
    assert gradient_at(learner, 1.5) == [3.0 * 5.0 * 0.5, 0.0]
    learner.end_stage([torch.zeros(2, requires_grad=True)], [])
    assert gradient_at(learner, 1.0) == [3.0 * 2.5 * 1.0, 0.0]


def test_the_first_stage_has_no_penalty() -> None:
    assert gradient_at(ElasticWeights(strength=3.0, decay=1.0), 1.5) == [0.0, 0.0]


@given(st.data(), PLACES, st.sampled_from([1.0, 20.0]))
def test_a_step_is_finite_and_independent_of_the_order_of_its_samples(
    data: st.DataObject, fresh: Places, scale: float
) -> None:
    def make() -> ElasticWeights:
        strategy = ElasticWeights(strength=3.0, decay=0.5)
        earlier_CD = weights()
        strategy.end_stage([earlier_CD], [strategy.class_loss(outputs(earlier_CD, 0, 3))])
        return strategy

    check_strategy(make, data, fresh, [], scale)
