"""Encoders of other shapes than the small learner's, and their offers."""

from dataclasses import replace
from functools import cache

import torch

from learner.encoder.served import export_encoder
from model.bert import fold_norm_biases
from model.config import LayerSpec, StrataConfig
from model.packed import WholeEncoder
from model.strata import Strata
from tests.learner.small_learner import CONFIG, tokenizer
from wire.records import EncoderOffer
from wire.store import Store

PRUNED = replace(CONFIG, head_width=32, layers=(LayerSpec(), LayerSpec(heads=1, d_ff=64)))
"""The small encoder's shape with fewer heads and a narrower block on top."""

NARROW = replace(CONFIG, d_model=48, n_heads=2, n_layers=3)
"""Vectors of another width."""


@cache
def make_strata(config: StrataConfig, seed: int = 3) -> Strata:
    """An encoder of this shape with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return fold_norm_biases(Strata(config)).eval()


def make_offer(
    store: Store,
    config: StrataConfig = PRUNED,
    *,
    strata: WholeEncoder | None = None,
    id: str = "one",
    num_features: int = 0,
    label_capacity: int = 0,
    max_loss: float | None = None,
) -> EncoderOffer:
    """Puts the blobs of an encoder, by default one with random weights; returns the offer, which is not made yet."""
    whole = strata or make_strata(config)
    stored = export_encoder(whole)
    for each in stored.values():
        store.blobs.put(each.tensor.to_blob())
    return EncoderOffer(
        id=id,
        name="other",
        time_ms=1,
        tokenizer=tokenizer().digest,
        config=whole.config.canonical_json(),
        tensors=tuple(each.entry for each in stored.values()),
        num_features=num_features,
        label_capacity=label_capacity,
        max_loss=max_loss,
    )


def offer_of_head(*, num_features: int, label_capacity: int) -> EncoderOffer:
    """An offer that leaves the encoder as it is."""
    return EncoderOffer(id="head", name="head", time_ms=1, num_features=num_features, label_capacity=label_capacity)
