import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from learner.fast.ridge import GRID, RidgeHead, narrowed, on_grid, ridge_penalty
from lifelong.plugins.kinds.scores import VALUE_ROW, scaled_label
from lifelong.plugins.kinds.sets import join_names

R = 24
CLASSES = ("a", "b", "c")


def features(num: int, seed: int = 0) -> Tensor:
    return torch.relu(torch.randn(num, R, generator=torch.Generator().manual_seed(seed)))


def make_head(capacity: int = 8) -> RidgeHead:
    head = RidgeHead(R, capacity, penalty=0.01)
    assert all(head.admit(label) for label in CLASSES)
    return head


PHI = features(90)
LABELS = [CLASSES[i % 7 % 3] for i in range(90)]


@settings(max_examples=50)
@given(st.permutations(range(90)), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_any_order_and_any_batches_give_the_same_head_bit_for_bit(order: list[int], sizes: list[int]) -> None:
    whole = make_head()
    parts = make_head()
    whole.learn_many(PHI, LABELS)
    while order:
        batch = order[: sizes[-1]]
        order = order[sizes[-1] :]
        sizes = [sizes[-1], *sizes[:-1]]
        parts.learn_many(PHI[batch], [LABELS[i] for i in batch])
    assert all(torch.equal(sums, whole.export()[name]) for name, sums in parts.export().items())
    assert torch.equal(parts.solve(), whole.solve())


@settings(max_examples=50)
@given(st.lists(st.booleans(), min_size=90, max_size=90))
def test_unlearning_equals_never_having_learnt_bit_for_bit(is_gone: list[bool]) -> None:
    head = make_head()
    other = make_head()
    head.learn_many(PHI, LABELS)
    gone = [i for i in range(90) if is_gone[i]]
    left = [i for i in range(90) if not is_gone[i]]
    head.unlearn_many(PHI[gone], [LABELS[i] for i in gone])
    other.learn_many(PHI[left], [LABELS[i] for i in left])
    assert all(torch.equal(sums, other.export()[name]) for name, sums in head.export().items())


def test_the_solution_is_ridge_regression() -> None:
    head = make_head()
    head.learn_many(PHI, LABELS)
    phi = on_grid(PHI)
    gram = phi.T @ phi
    rows = torch.tensor([CLASSES.index(label) for label in LABELS])
    one_hot = torch.nn.functional.one_hot(rows, len(CLASSES)).double()
    scale = (one_hot.sum(0).mean().sqrt() / one_hot.sum(0).sqrt()).clamp(min=1)
    expected = torch.linalg.solve(gram + ridge_penalty(90, ridge=0.01) * torch.eye(R), phi.T @ (one_hot * scale))
    torch.testing.assert_close(head.solve().double(), expected.T, rtol=1e-3, atol=1e-4)


def test_a_learnt_class_is_predicted() -> None:
    head = make_head()
    centres = features(3, seed=1) * 3
    labels = [CLASSES[i % 3] for i in range(60)]
    head.learn_many(centres[[i % 3 for i in range(60)]] + 0.1 * features(60), labels)
    assert head.predict_many(centres).argmax(1).tolist() == [0, 1, 2]


def test_a_class_with_one_label_is_recognised_next_to_a_large_one() -> None:
    head = make_head()
    (large, small) = features(2, seed=5)
    head.learn_many(large + 0.1 * features(400, seed=6), ["a"] * 400)
    head.learn_many(small[None], ["b"])
    assert int(head.predict_many(small[None] + 0.1 * features(1, seed=7)).argmax()) == 1


def test_classes_come_while_it_runs_until_the_rows_are_taken() -> None:
    head = make_head(capacity=4)
    assert head.admit("d")
    assert head.admit("a")
    assert not head.admit("e")
    assert head.classes == (*CLASSES, "d")
    head.learn_many(PHI[:1], ["d"])
    assert head.solve().shape == (4, R)
    with pytest.raises(KeyError):
        head.learn_many(PHI[:1], ["e"])


def test_a_row_without_samples_is_given_to_another_class() -> None:
    """The head then equals one that never knew the removed class, bit for bit."""
    head = make_head(capacity=3)
    other = RidgeHead(R, 3, penalty=0.01)
    head.learn_many(PHI, LABELS)
    gone = [i for i, label in enumerate(LABELS) if label == "b"]
    with pytest.raises(AssertionError, match="still has samples"):
        head.replace("b", "d")
    head.unlearn_many(PHI[gone], [LABELS[i] for i in gone])
    head.replace("b", "d")
    assert head.classes == ("a", "d", "c") and head.count_samples("d") == 0
    for name in head.classes:
        other.admit(name)
    left = [i for i, label in enumerate(LABELS) if label != "b"]
    other.learn_many(PHI[left], [LABELS[i] for i in left])
    for each in (head, other):
        each.learn_many(PHI[:1], ["d"])
    assert all(torch.equal(sums, other.export()[name]) for name, sums in head.export().items())


def test_nothing_learnt_means_zero_weights() -> None:
    assert not make_head().solve().any()


def test_restored_sums_go_on_bit_for_bit() -> None:
    whole = make_head()
    first = make_head()
    second = make_head()
    whole.learn_many(PHI, LABELS)
    first.learn_many(PHI[:33], LABELS[:33])
    second.learn_many(PHI[:7], LABELS[:7])
    second.restore(first.export(), first.classes)
    second.learn_many(PHI[33:], LABELS[33:])
    assert torch.equal(second.solve(), whole.solve()) and second.num_samples == 90


def test_the_tables_grow_with_the_classes_and_no_bit_depends_on_when() -> None:
    labels = [f"class {number}" for number in range(300)]
    phi = features(300)
    one_by_one = RidgeHead(R, 1_000, penalty=0.01)
    at_once = RidgeHead(R, 1_000, penalty=0.01)
    sizes = set()
    for label in labels:
        at_once.admit(label)
    for place, label in enumerate(labels):
        one_by_one.admit(label)
        one_by_one.learn_many(phi[place : place + 1], [label])
        sizes.add(len(one_by_one.sums.counts_C))
    at_once.learn_many(phi, labels)
    assert sizes == {256, 320}
    assert all(torch.equal(sums, at_once.export()[name]) for name, sums in one_by_one.export().items())
    restored = RidgeHead(R, 1_000, penalty=0.01)
    restored.restore(one_by_one.export(), labels)
    assert torch.equal(restored.solve(), one_by_one.solve()) and torch.equal(at_once.solve(), one_by_one.solve())
    assert len(restored.sums.counts_C) == 320


def test_sums_are_exported_in_half_the_bytes_if_no_bit_is_lost() -> None:
    sums = torch.tensor([[2**24 - 1, 1], [0, 5]], dtype=torch.float64) / GRID
    assert narrowed(sums).dtype == torch.float32 and torch.equal(narrowed(sums).double(), sums)
    sums[0, 0] += 2 / GRID
    assert narrowed(sums).dtype == torch.float64 and torch.equal(narrowed(sums), sums)
    assert narrowed(torch.empty(0, 2, dtype=torch.float64)).shape == (0, 2)


SETS = [*map(join_names, ("", "a", "b", "ab", "c", "ac", "bc", "abc"))] * 8


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(60)), st.integers(1, 60))
def test_sets_of_labels_in_any_order_and_batches_give_the_same_sums_and_can_be_unlearnt(
    order: list[int], size: int
) -> None:
    whole = RidgeHead(R, 8, penalty=0.01)
    parts = RidgeHead(R, 8, penalty=0.01)
    for head in (whole, parts):
        for label in "abc":
            head.admit(label)
    whole.learn_many(PHI[:40], SETS[:40])
    for first in range(0, 60, size):
        batch = order[first : first + size]
        parts.learn_many(PHI[batch], [SETS[place] for place in batch])
    parts.unlearn_many(PHI[40:60], SETS[40:60])
    for name, values in whole.export().items():
        assert torch.equal(values, parts.export()[name]), name
    assert parts.num_samples == 40 != int(parts.counts_C.sum())
    restored = RidgeHead(R, 8, penalty=0.01)
    restored.restore(parts.export(), parts.classes)
    assert restored.num_samples == 40


def test_scores_are_fitted_by_ridge_regression_exactly_in_any_order() -> None:
    steps = torch.randint(0, 2**16 + 1, (90,), generator=torch.Generator().manual_seed(4))
    labels = [scaled_label(step / 2**16) for step in steps.tolist()]
    heads = [RidgeHead(R, 8, penalty=0.01) for _ in range(2)]
    for head in heads:
        assert head.admit(VALUE_ROW)
    heads[0].learn_many(PHI, labels)
    for place in reversed(range(90)):
        heads[1].learn_many(PHI[place : place + 1], labels[place : place + 1])
    heads[1].learn_many(PHI[:7], labels[:7])
    heads[1].unlearn_many(PHI[:7], labels[:7])
    for name, values in heads[0].export().items():
        assert torch.equal(values, heads[1].export()[name]), name
    restored = RidgeHead(R, 8, penalty=0.01)
    restored.restore(heads[0].export(), (VALUE_ROW,))
    assert torch.equal(restored.sums.class_CR[:1], heads[0].sums.class_CR[:1])
    phi = on_grid(PHI)
    penalty = ridge_penalty(90, ridge=0.01) * torch.eye(R, dtype=torch.float64)
    expected_R = torch.linalg.solve(phi.T @ phi + penalty, phi.T @ (steps.double() / 2**16))
    torch.testing.assert_close(heads[0].solve()[0].double(), expected_R, rtol=1e-3, atol=1e-5)
