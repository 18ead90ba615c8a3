import torch

from bench.concept_change import SwappedNames, swap_names
from evals.streams.data import SUPPORT, load

STREAM = load(SUPPORT, None)


def names(swap: SwappedNames) -> dict[str, set[str]]:
    """The texts of each class after the swap."""
    found: dict[str, set[str]] = {}
    for text, row in zip(swap.after.inputs, swap.after.labels_N.tolist(), strict=True):
        found.setdefault(swap.classes[row], set()).add(text)
    return found


def test_some_classes_have_the_texts_of_others_after_the_swap() -> None:
    swap = swap_names(STREAM, share=0.5, seed=1)
    same = swap_names(STREAM, share=0.0, seed=1)
    after = names(swap)
    before = names(same)
    changed = {label for label in swap.classes if after[label] != before[label]}
    assert len(changed) == round(0.5 * len(swap.classes))
    assert {frozenset(after[label]) for label in changed} == {frozenset(before[label]) for label in changed}
    assert swap.before.inputs == same.before.inputs
    assert torch.equal(swap.before.labels_N, same.before.labels_N)


def test_test_texts_are_named_as_after_the_swap() -> None:
    swap = swap_names(STREAM, share=0.5, seed=1)
    changed = {swap.classes[row] for row in swap.changed.labels_N.tolist()}
    other = {swap.classes[row] for row in swap.other.labels_N.tolist()}
    assert changed.isdisjoint(other) and changed | other == set(swap.classes)
    assert len(swap.changed) + len(swap.other) == sum(len(stage.test) for stage in STREAM.stages)
