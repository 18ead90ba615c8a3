import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.rounds.strategies import AveragedGradient, project
from tests.learner.rounds.outputs import outputs, weights

VECTORS = st.lists(st.floats(-5, 5).filter(lambda value: abs(value) > 1e-2), min_size=4, max_size=4)


def test_a_gradient_against_the_reference_is_projected_as_in_the_paper() -> None:
    g = torch.tensor([3.0, -1.0, 0.0])
    r = torch.tensor([-1.0, 1.0, 1.0])  # g.r = -4, r.r = 3
    (golden,) = project([g], [r])
    assert torch.allclose(golden, torch.tensor([5.0, 1.0, 4.0]) / 3)


def test_parameters_are_projected_as_one_vector() -> None:
    g = [torch.tensor([3.0]), torch.tensor([[-1.0, 0.0]])]
    r = [torch.tensor([-1.0]), torch.tensor([[1.0, 1.0]])]
    first, second = project(g, r)
    assert torch.allclose(first, torch.tensor([5 / 3])) and torch.allclose(second, torch.tensor([[1 / 3, 4 / 3]]))


@given(VECTORS, VECTORS)
def test_the_step_is_never_against_the_reference(gradient: list[float], reference: list[float]) -> None:
    g = torch.tensor(gradient, dtype=torch.float64)
    r = torch.tensor(reference, dtype=torch.float64)
    (after,) = project([g], [r])
    assert after @ r >= -1e-9
    assert torch.equal(after, g) == bool(g @ r >= 0)


def test_the_gradient_is_unchanged_without_a_buffer_or_if_both_agree() -> None:
    alone = weights()
    agreeing = weights()
    fresh = weights()
    AveragedGradient().backward([alone], outputs(alone, 0, 1), [])
    AveragedGradient().backward([agreeing], outputs(agreeing, 0, 1), [outputs(agreeing, 0, 1)])
    outputs_of = outputs(fresh, 0, 1)
    torch.nn.functional.cross_entropy(outputs_of.logits_BC, outputs_of.labels_B).backward()  # type: ignore[no-untyped-call]
    assert all(torch.equal(w_CD.grad, fresh.grad) for w_CD in (alone, agreeing))  # type: ignore[arg-type]
