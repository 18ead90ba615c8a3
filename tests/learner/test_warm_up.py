"""Tests that the warm-up learns nothing that stays, and leaves an encoder alone that reads no texts."""

import pytest

from learner.learner import Learner
from learner.release.candidate import CandidateMaker
from learner.state.snapshot import encode
from learner.stopwatch import Stopwatch
from learner.warm_up import warm_up
from model.head import OUT
from model.tokenizer import TextTokenizer
from tests.learner.small_learner import small_config, small_learner
from tests.learner.streams import stream


def learnt(learner: Learner) -> Learner:
    learner.learn_many(stream(0, 30), {"feedback.v1/0": 30})
    return learner


def test_a_learner_knows_nothing_more_after_its_warm_up() -> None:
    it = small_learner()
    before = encode(it.export(None))
    warm_up(small_config(), it)
    assert encode(it.export(None)) == before
    assert not it.fast_head.served.known.of(["warm-up 1"])


def test_what_is_learnt_after_a_warm_up_is_what_is_learnt_without_one() -> None:
    cold = small_learner()
    warm = small_learner()
    warm_up(small_config(), warm)
    heads = []
    for it in (learnt(cold), learnt(warm)):
        candidate = CandidateMaker(small_config()).make(it.knowledge, Stopwatch())
        heads.append(candidate.tensors[OUT].entry)
    assert heads[0] == heads[1]


def test_an_encoder_that_reads_no_text_stays_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    it = small_learner()
    monkeypatch.setattr(TextTokenizer, "reads", lambda self, text: False)
    monkeypatch.setattr(CandidateMaker, "make", lambda *args, **more: pytest.fail("it was warmed up"))
    warm_up(small_config(), it)
