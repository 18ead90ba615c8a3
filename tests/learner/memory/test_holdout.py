import pytest
import torch

from learner.export import stored_encoder, stored_head
from learner.memory.holdout import Holdout
from learner.memory.replay import Replay, hashed
from tests.learner.small import CONFIG, labelled, small_served, small_strata
from tests.learner.streams import TOPICS


def holdout(num_samples: int) -> Holdout:
    it = Holdout(Replay(100, 1 << 20, key_of=hashed(1)))
    it.add(labelled(0, num_samples))
    return it


def test_accuracy_counts_unknown_classes_as_wrong() -> None:
    it = holdout(10)
    served = small_served()
    always_first = torch.zeros(2, 96)
    always_first[0] = 1.0
    head = served.head(stored_head(CONFIG, always_first, temperature=1.0))
    assert it.accuracy(served, head, TOPICS[:2]) == pytest.approx(0.2)
    assert it.accuracy(served, head, ["something else", "again"]) == 0.0


def test_no_samples_and_no_classes_are_zero() -> None:
    served = small_served()
    head = served.head(stored_head(CONFIG, torch.zeros(0, 96), temperature=1.0))
    assert holdout(0).accuracy(served, head, []) == holdout(3).accuracy(served, head, []) == 0.0


def test_warming_up_is_done_in_units_and_in_every_precision() -> None:
    it = holdout(25)
    served = small_served()
    assert [it.warm(served, 10) for _ in range(6)] == [False, False, False, False, True, True]


def test_precisions_are_measured_on_the_same_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learner.memory.holdout.NUM_FEW", 6)
    it = holdout(30)
    served = small_served()
    few = it.few
    assert len(few) == 6 and set(few) < set(it.samples.samples()) and it.few == few
    int8, int4 = (it.vectors(served, TOPICS, precision=name, samples=few) for name in ("int8", "int4"))
    assert torch.equal(int8[1], int4[1]) and not torch.equal(int8[0], int4[0])
    assert torch.equal(int4[0], served.z_many([sample.text for sample in few], "int4"))
    head = served.head(stored_head(CONFIG, torch.randn(len(TOPICS), 96), temperature=1.0))
    right = sum(head.logits(int4[0], 5).argmax(dim=1) == int4[1])
    assert it.accuracy(served, head, TOPICS, precision="int4", samples=few) == pytest.approx(right / 6)


def test_two_encoders_are_kept_apart() -> None:
    it = holdout(4)
    strata = small_strata()
    first = small_served()
    with torch.no_grad():
        strata.get_parameter("layers.1.up.weight").mul_(-3)
    second = first.with_top(stored_encoder(strata, first_layer=1))
    before, after = (it.vectors(served, TOPICS)[0] for served in (first, second))
    assert not torch.equal(before, after)
    it.keep([second.key])
    assert torch.equal(it.vectors(first, TOPICS)[0], before)
