"""Rounds with an offered encoder as their source. `test_round.py` tests trained encoders."""

import pytest

from learner.encoder.base import BaseEncoder, BaseEncoders
from learner.encoder.served import export_encoder
from learner.errors import OfferRefused
from learner.rounds.round import OfferedEncoder, Phase, SlowRound
from model.strata_family import built_in
from tests.learner.offers import PRUNED, make_strata
from tests.learner.rounds.rounds import fast_head, holdout, replay
from tests.learner.small_learner import SMALL, small_strata, tokenizer
from wire.records import EncoderOffer


def offered(max_loss: float | None = 1.0) -> OfferedEncoder:
    bases = BaseEncoders(SMALL, small_strata(), tokenizer())
    offer = EncoderOffer(id="a", name="a", time_ms=1, config=PRUNED.canonical_json(), max_loss=max_loss)
    weights = {name: stored.tensor for name, stored in export_encoder(make_strata(PRUNED)).items()}
    return OfferedEncoder(offer=offer, take=lambda: bases.take(offer, weights, bases.of_settings))


def test_an_offer_goes_through_the_phases_of_a_round_from_store_on() -> None:
    source = offered()
    slow_round = SlowRound(source, fast_head(), replay(), holdout(), config=SMALL)
    phases = [slow_round.phase]
    while slow_round.step() is not Phase.DONE:
        phases.append(slow_round.phase)
    assert list(dict.fromkeys(phases)) == [Phase.STORE, Phase.READ, Phase.REBUILD, Phase.MEASURE, Phase.COMPARE]
    assert slow_round.trained is None and slow_round.number == 0
    assert slow_round.next_fast_head.ridge.num_samples == 90
    assert built_in(source.strata.config).layers == PRUNED.layers
    assert slow_round.holdout_result.num == 30 and source.refusals is None


def test_the_accepted_loss_is_a_limit_of_the_offer() -> None:
    source = offered(max_loss=0.3)
    unit = source.units()
    take = next(unit)
    with pytest.raises(StopIteration):
        unit.send(take())
    assert source.limits.accuracy_tolerance == 0.3
    assert source.limits.max_negative_flips == pytest.approx(0.3 + SMALL.max_negative_flips)


def test_an_offer_that_cannot_be_taken_ends_the_round() -> None:
    def take() -> BaseEncoder:
        raise OfferRefused("it is gone")

    source = OfferedEncoder(offer=EncoderOffer(id="a", name="a", time_ms=1), take=take)
    slow_round = SlowRound(source, fast_head(), replay(), holdout(), config=SMALL)
    with pytest.raises(OfferRefused, match="it is gone"):
        slow_round.step()
