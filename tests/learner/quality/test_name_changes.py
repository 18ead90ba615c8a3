"""Versions with different classes are compared by the rows that they predict."""

import torch

from learner.quality.evaluation import ScoredVersion
from learner.quality.name_changes import is_right, predicted_rows
from tests.learner.small_learner import small_learner
from tests.learner.streams import stream


def version(*classes: str) -> ScoredVersion:
    it = small_learner()
    it.learn_many(stream(0, 20), {})
    head = it.fast_head
    weights_CR = head.solve()
    from learner.encoder.served import export_head

    out = export_head(head.served.config, weights_CR, temperature=0.1)
    return ScoredVersion(head.served, head.served.head(out), classes or head.ridge.classes, weights_CR, {})


def test_two_rows_of_one_name_are_one_class() -> None:
    it = version()
    phi_BR = it.served.features(it.served.z_many([text for text in ("refund 1", "delivery 2", "password 3")]))
    rows_B = predicted_rows(it, phi_BR)
    merged = it._replace(classes=("a", "a", *it.classes[2:]))
    assert predicted_rows(merged, phi_BR).tolist() == [0 if row == 1 else row for row in rows_B.tolist()]
    assert is_right(torch.tensor([0, -1]), merged, ["a", "none"]).tolist() == [True, False]
