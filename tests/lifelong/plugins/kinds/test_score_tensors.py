"""The kind `score`: a prediction is judged like an answer, and errors are reported in the unit of the scores."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from lifelong.plugins.kinds.score_tensors import TENSORS
from lifelong.plugins.kinds.scores import VALUE_ROW, parse_score, scaled_label
from wire.kinds import event_uniform_hash, is_right


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-0.5, 1.5)), min_size=1, max_size=20))
def test_a_predicted_score_is_judged_like_an_answer(pairs: list[tuple[float, float]]) -> None:
    labels = [scaled_label(unit) for unit, _ in pairs]
    draws = [f"text {number}" for number in range(len(pairs))]
    logits_NC = torch.tensor([[logit] for _, logit in pairs], dtype=torch.float64)
    targets = TENSORS.targets(labels, draws, (VALUE_ROW,))
    for place, (label, draw) in enumerate(zip(labels, draws, strict=True)):
        expected = scaled_label(min(max(pairs[place][1], 0.0), 1.0))
        agreement = 1 - abs(parse_score(expected) - parse_score(label))
        # Closer than that, the rounding of float32 decides.
        if abs(event_uniform_hash(draw.encode()) - agreement) > 1e-6:
            assert bool(targets.right(logits_NC)[place]) == is_right(expected, label, draw.encode())
    assert targets.rows_N.tolist() == [0] * len(pairs)
    assert TENSORS.targets(labels, draws, ()).rows_N.tolist() == [-1] * len(pairs)


def test_all_scores_are_new_if_the_reference_knows_none() -> None:
    targets = TENSORS.targets([scaled_label(0.5)] * 3, ["1", "2", "3"], (VALUE_ROW,))
    logits_NC = torch.tensor([[0.1], [0.5], [0.9]])
    assert targets.changes(logits_NC, torch.zeros(3, 0), (VALUE_ROW,), (), frozenset())[:2] == (0, 3)
    assert targets.changes(logits_NC, logits_NC, (VALUE_ROW,), (VALUE_ROW,), frozenset())[:2] == (0, 0)
