import pytest
import torch

from learner.encoder.served import export_encoder, export_head
from learner.memory import Holdout, Replay, hash_key
from model.quantized import PRECISIONS
from tests.learner.small_learner import CONFIG, labelled, small_served, small_strata
from tests.learner.streams import TOPICS


def make_holdout(num_samples: int) -> Holdout:
    holdout = Holdout(Replay(100, 1 << 20, key_of=hash_key(1)))
    holdout.add(labelled(0, num_samples))
    return holdout


def test_accuracy_counts_unknown_classes_as_wrong() -> None:
    holdout = make_holdout(10)
    served = small_served()
    always_first = torch.zeros(2, 96)
    always_first[0] = 1.0
    head = served.head(export_head(CONFIG, always_first, temperature=1.0))
    assert holdout.accuracy(served, head, TOPICS[:2]) == pytest.approx(0.2)
    assert holdout.accuracy(served, head, ["something else", "again"]) == 0.0


def test_no_samples_and_no_classes_are_zero() -> None:
    served = small_served()
    head = served.head(export_head(CONFIG, torch.zeros(0, 96), temperature=1.0))
    assert make_holdout(0).accuracy(served, head, []) == 0.0
    assert make_holdout(3).accuracy(served, head, []) == 0.0


def test_vectors_that_were_encoded_elsewhere_are_not_encoded_again() -> None:
    holdout = make_holdout(25)
    served = small_served()
    for precision in PRECISIONS:
        texts = holdout.unencoded(served, precision)
        assert len(texts) == 25
        holdout.add_vectors(served, precision, texts[:10], served.z_many(texts[:10], precision))
        assert holdout.unencoded(served, precision) == texts[10:]
        holdout.vectors(served, TOPICS, precision=precision)
        assert holdout.unencoded(served, precision) == []


def test_precisions_are_measured_on_the_same_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learner.memory.SUBSET_SIZE", 6)
    holdout = make_holdout(30)
    served = small_served()
    subset = holdout.subset
    assert len(subset) == 6
    assert set(subset) < set(holdout.samples.samples())
    assert holdout.subset == subset
    int8_ND, int8_targets = holdout.vectors(served, TOPICS, precision="int8", samples=subset)
    int4_ND, int4_targets = holdout.vectors(served, TOPICS, precision="int4", samples=subset)
    assert torch.equal(int8_targets.rows_N, int4_targets.rows_N)
    assert not torch.equal(int8_ND, int4_ND)
    assert torch.equal(int4_ND, served.z_many([sample.text for sample in subset], "int4"))
    head = served.head(export_head(CONFIG, torch.randn(len(TOPICS), 96), temperature=1.0))
    num_right = sum(head.logits(int4_ND, 5).argmax(dim=1) == int4_targets.rows_N)
    assert holdout.accuracy(served, head, TOPICS, precision="int4", samples=subset) == pytest.approx(num_right / 6)


def test_two_encoders_are_kept_apart() -> None:
    holdout = make_holdout(4)
    strata = small_strata()
    first = small_served()
    with torch.no_grad():
        strata.get_parameter("layers.1.up.weight").mul_(-3)
    second = first.with_top(export_encoder(strata, first_layer=1))
    before, _ = holdout.vectors(first, TOPICS)
    after, _ = holdout.vectors(second, TOPICS)
    assert not torch.equal(before, after)
    holdout.keep([second.key])
    assert torch.equal(holdout.vectors(first, TOPICS)[0], before)


def test_features_follow_the_samples() -> None:
    """They are cached: what came is added, and what went is forgotten with the next `keep`."""
    served = small_served()
    holdout = make_holdout(20)
    phi_NR, targets = holdout.features(served, TOPICS)
    z_ND, expected = holdout.vectors(served, TOPICS)
    assert torch.equal(phi_NR, served.features(z_ND)) and torch.equal(targets.rows_N, expected.rows_N)
    assert holdout.features(served, TOPICS)[0] is phi_NR
    holdout.add(labelled(20, 30))
    z_ND, _ = holdout.vectors(served, TOPICS)
    assert torch.equal(holdout.features(served, TOPICS)[0], served.features(z_ND)) and len(z_ND) == 30
    holdout.samples.erase_class(labelled(0, 1)[0].label)
    holdout.keep([served.key])
    (cached,) = holdout._features.values()
    assert cached.texts == [sample.text for sample in holdout.samples.samples()]
    assert torch.equal(holdout.features(served, TOPICS)[0], cached.phi_NR)
    holdout.keep(["another"])
    assert not holdout._features
