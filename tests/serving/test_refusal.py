"""Answers of which a version is not certain enough have the fallback label; what it named stays known."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.head import free_energies
from serving.config import RefusalConfig
from serving.predict import predict_many
from serving.refusal import NO_REFUSALS, Refusal, share_below
from tests.serving.versions import RECEIPTS, label_of, live_versions, tokenizer
from wire.kinds import name_hash
from wire.receipts import parse_verdicts
from wire.records import Answer, Certainty, Event

MEASURED = Certainty(temperature=1.0, quantiles=(0.0, 1.0, 2.0), risks=(0.3, 0.1, 0.2), samples=90)


def answered(config: RefusalConfig, certainty: Certainty) -> Answer:
    """The answer of a version that was measured so, under these settings."""
    live = live_versions([1])
    versions = {1: replace(live.versions[1], refusal=Refusal(config, certainty) if config.is_on else None)}
    tokens = tokenizer().encode_many(["hi"])
    (answer,) = predict_many(
        [Event(id="e", text="hi")],
        tokens,
        replace(live, versions=versions),
        {1: "int8"},
        top_scores=3,
        receipts=RECEIPTS,
        now_ms=lambda: 0,
    )
    return answer


def certain_from(energy: float) -> Certainty:
    """The certainty of a version whose holdout samples all have this free energy."""
    return Certainty(temperature=1.0, quantiles=(energy, energy + 1e-3), risks=(0.1, 0.1), samples=90)


def test_what_is_less_certain_than_known_texts_is_refused_and_stays_in_the_scores() -> None:
    rule = RefusalConfig(known_share=0.05, label="none")
    refused = answered(rule, certain_from(1_000.0))
    assert (refused.label, refused.refused, refused.certainty) == ("none", True, 0.0)
    assert refused.prediction == refused.scores[0][0] == label_of(1, "hi")
    verdicts = parse_verdicts(refused.receipt)
    assert verdicts is not None and verdicts.names == ((1, name_hash(refused.prediction)),)
    given_ = answered(rule, certain_from(-1_000.0))
    assert (given_.label, given_.refused, given_.certainty) == (label_of(1, "hi"), False, 1.0)


def test_nothing_is_refused_without_a_setting_or_a_measurement() -> None:
    for answer in (answered(NO_REFUSALS, certain_from(1_000.0)), answered(NO_REFUSALS, Certainty())):
        assert not answer.refused and answer.certainty is None
    assert not answered(RefusalConfig(known_share=0.5), Certainty()).refused


def test_the_probability_may_be_bounded_as_well() -> None:
    assert answered(RefusalConfig(min_score=1.0), certain_from(-1_000.0)).refused


@pytest.mark.parametrize(
    ("known_share", "max_risk", "threshold"),
    [(0.0, 0.0, 0.0), (0.05, 0.0, 0.05), (0.0, 0.3, 0.0), (0.0, 0.1, 0.5), (0.7, 0.1, 0.7), (0.0, 0.01, 0.5)],
)
def test_the_threshold_follows_from_the_manifest(known_share: float, max_risk: float, threshold: float) -> None:
    config = RefusalConfig(known_share=known_share, max_risk=max_risk)
    assert Refusal(config, MEASURED).threshold == threshold
    assert Refusal(config).threshold == 0.0


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9).map(sorted), st.floats(-6, 6), st.floats(0, 1))
def test_more_energy_is_never_less_certain(quantiles: list[float], value: float, more: float) -> None:
    low = share_below(quantiles, value)
    assert 0.0 <= low <= share_below(quantiles, value + more) <= 1.0


def test_the_certainty_is_the_share_of_the_holdout_below() -> None:
    logits_BC = torch.tensor([[0.3, -0.2], [2.0, 0.5]])
    energies = free_energies(logits_BC, 1.0).tolist()
    refusal = Refusal(RefusalConfig(known_share=0.1), MEASURED)
    found = refusal.certainties(logits_BC)
    assert found == [share_below(MEASURED.quantiles, energy) for energy in energies] and energies[0] < energies[1]
    assert refusal.certainties(torch.empty(2, 0)) == [None, None]
    assert Refusal(RefusalConfig(known_share=0.1)).certainties(logits_BC) == [None, None]
