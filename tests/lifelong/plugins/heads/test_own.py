"""A user's head gets the exact sums, and an invalid head is refused before anything is learnt."""

import pytest
import torch

from learner.fast.fast_head import FastHead
from learner.fast.solver import HeadSolver
from lifelong.plugins.heads.own import HeadFailed, import_head
from model.errors import WrongConfig
from model.heads import RIDGE, open_head
from tests.learner.fast.heads import Counts, FailsLater, Infinite, NoHead, Ridge, Transposed, import_path
from tests.learner.small_learner import labelled, small_served


def fast_head(found: type, arguments: str = "") -> FastHead:
    head = FastHead(small_served(), penalty=1e-4, head=open_head(import_path(found, arguments)))
    samples = labelled(0, 40)
    head.admit_all(sample.label for sample in samples)
    head.learn_many(samples)
    return head


def test_an_empty_setting_is_the_ridge_head() -> None:
    assert open_head("") is RIDGE


def test_the_weights_depend_on_the_sums_and_on_the_arguments_of_the_setting() -> None:
    head = fast_head(Ridge, "(penalty=0.1)")
    phi_NR = head.encode(labelled(0, 40))[1].double()
    phi_NR = (phi_NR * 1024).round() / 1024
    gram_RR = phi_NR.T @ phi_NR
    gram_RR += 0.1 * gram_RR.diagonal().mean() * torch.eye(len(gram_RR))
    rows = head.ridge.find_rows([sample.label for sample in labelled(0, 40)])
    expected_CR = torch.linalg.solve(gram_RR, phi_NR.T @ torch.nn.functional.one_hot(rows).double()).T
    torch.testing.assert_close(head.solve(), expected_CR.float(), rtol=1e-4, atol=1e-5)


def test_a_version_names_the_head_and_is_solved_from_the_sums_each_time() -> None:
    head = fast_head(Ridge)
    solver = HeadSolver()
    for last in (40, 60):
        head.learn_many(labelled(40, last))
        assert torch.equal(solver.solve(head, {"feedback.v1/0": last}), head.solve())
        assert solver.solution.base == {"feedback.v1/0": last} and not solver.solution.batches
    assert f"{import_path(Ridge)} " in solver.solution.arithmetic


def test_a_fast_head_that_is_derived_from_another_has_the_same_head() -> None:
    head = fast_head(Ridge)
    weights_CR = head.solve()
    classes = head.ridge.classes
    assert torch.equal(head.copy().solve(), weights_CR)
    torch.testing.assert_close(head.with_order(classes[::-1]).solve(), weights_CR.flip(0))
    torch.testing.assert_close(head.with_names(str.upper).solve(), weights_CR)
    assert head.successor(head.served).head is head.head


def test_a_head_cannot_change_the_sums_of_the_learner() -> None:
    head = fast_head(Ridge)
    before = head.export()
    head.solve()
    assert all(torch.equal(value, before[name]) for name, value in head.export().items())


def test_a_head_that_fails_says_why() -> None:
    with pytest.raises(HeadFailed, match="five are too many"):
        fast_head(FailsLater).solve()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tests.learner.fast.heads:Missing", "does not import"),
        (import_path(NoHead), r"no method weights\(sums\)"),
        (import_path(Ridge, "(penality=1.0)"), "cannot be made"),
        (import_path(Ridge, "(0.1)"), "arguments are Python literals with their names"),
        (import_path(Transposed), r"returned \[6, 3\]; expected a tensor \[3, 6\]"),
        (import_path(Infinite), "not finite"),
        (import_path(Counts), "the same sums give other weights"),
    ],
)
def test_an_invalid_head_is_refused_with_the_reason(path: str, message: str) -> None:
    with pytest.raises(WrongConfig, match=message) as refused:
        import_head(path)
    assert "learner.head" in str(refused.value)
