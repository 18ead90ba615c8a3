from functools import partial

import pytest
import torch

from learner.encoder.served import export_head
from learner.quality import calibration as parities
from learner.quality.calibration import Parity
from lifelong.plugins.kinds.class_tensors import TENSORS
from model.tokenizer import PROBE_TEXTS
from tests.learner.small_learner import CONFIG, labelled, small_served, small_strata


def parity(max_texts: int = 10) -> Parity:
    return Parity(small_served(), small_strata(), max_texts=max_texts, seed=0)


def test_the_precisions_are_close() -> None:
    measured = parity()
    assert measured.texts == list(PROBE_TEXTS)
    assert measured.cosine("int8") <= 1.0
    assert measured.cosine("int8") > 0.99
    assert measured.cosine("int8") > measured.cosine("int4")
    assert measured.cosine("int4") > 0.9


def test_another_encoder_is_not() -> None:
    strata = small_strata()
    with torch.no_grad():
        strata.get_parameter("layers.1.up.weight").mul_(-3)
    assert Parity(small_served(), strata, max_texts=4, seed=0).cosine("int8") < 0.99


def test_texts_are_taken_once_and_bounded() -> None:
    measured = parity(max_texts=6)
    measured.add([*PROBE_TEXTS, "new", "new", "newer", "newest"])
    assert measured.texts == [*PROBE_TEXTS, "new", "newer"] and measured.room == 0


def test_few_long_texts_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parities, "MAX_TOKENS", 200)
    measured = parity(max_texts=30)
    long = ["one " * 98, "two " * 98, "three " * 98]
    measured.add(long[:1])
    assert measured.room == 25
    measured.add(long[1:])
    assert measured.texts == [*PROBE_TEXTS, long[0]] and measured.room == 0


def test_agreement_compares_the_predicted_classes() -> None:
    measured = parity(max_texts=40)
    served = small_served()
    weights_CR = torch.randn(4, 96, generator=torch.Generator().manual_seed(0))
    head = served.head(export_head(CONFIG, weights_CR, temperature=0.1))
    agreement = partial(measured.agreement, tensors=TENSORS)
    # There are too few texts for a measurement.
    assert agreement("int8", head, -weights_CR) == 1.0
    measured.add(sample.text for sample in labelled(0, 20))
    assert agreement("int8", head, weights_CR) > 0.7
    assert agreement("int8", head, -weights_CR) < 0.3
    assert agreement("int8", head, weights_CR[:0]) == 1.0
    assert agreement("int4", head, weights_CR) > 0.5
    assert agreement("int4", head, weights_CR) <= agreement("int8", head, weights_CR)


def test_probes_have_the_logits_of_the_served_bytes() -> None:
    measured = parity()
    served = small_served()
    head = served.head(export_head(CONFIG, torch.ones(3, 96), temperature=1.0))
    (text, logits_C), *_ = measured.logits(head, 3, 2)
    assert torch.equal(logits_C, head.logits(served.z_many([text]), 3)[0])
