"""Tests that `lifelong model adopt` checks an encoder before it offers it."""

from pathlib import Path

import pytest

from learner.config import LearnerConfig
from model.errors import WrongConfig
from model.member import read_member, read_stored
from model.tokenizer import TextTokenizer
from services.members.adopt import AdoptOptions, offer, quantize, stored_weights
from tests.model.small_static import write_static
from tests.services.members.small import tokenizer_json, write_small
from wire.records import EncoderOffer
from wire.store import Store

LEARNER = LearnerConfig(trainable_layers=1)


def silent(_: str) -> None:
    """Shows nothing."""


def test_weights_of_a_folder_are_those_that_it_holds_or_are_rounded(tmp_path: Path) -> None:
    source = write_small(tmp_path / "source")
    config, rounded = stored_weights(source, silent)
    quantize(source, tmp_path / "out", say=silent)
    member = read_member(tmp_path / "out")
    assert member is not None and member.config == config
    held = read_stored(tmp_path / "out", member)
    assert {name: each.to_blob() for name, each in held.items()} == {
        name: each.to_blob() for name, each in rounded.items()
    }
    assert stored_weights(str(tmp_path / "out"), silent)[1].keys() == rounded.keys()


@pytest.mark.live
def test_an_offer_names_weights_that_are_stored(store: Store, tmp_path: Path) -> None:
    source = write_small(tmp_path / "source")
    tokenizer = TextTokenizer.from_encoder(source)
    made = offer(store, source, AdoptOptions(max_loss=0.1), learner=LEARNER, tokenizer=tokenizer, say=silent)
    offered = made.read(EncoderOffer)
    assert store.commands.open_offer() == offered and offered.name == "source" and offered.max_loss == 0.1
    digests = {entry.digest for entry in offered.tensors}
    assert store.blobs.has(digests) == digests


@pytest.mark.live
def test_a_static_encoder_is_offered_to_a_service_with_its_tokenizer(store: Store, tmp_path: Path) -> None:
    static = write_static(tmp_path / "static")
    tokenizer = TextTokenizer(tokenizer_json(), max_tokens=16)
    learner = LearnerConfig(trainable_layers=0)
    made = offer(store, static, AdoptOptions(), learner=learner, tokenizer=tokenizer, say=silent)
    offered = made.read(EncoderOffer)
    assert {entry.name for entry in offered.tensors} == {"embed.table", "embed.pairs"}
    with pytest.raises(WrongConfig, match=r"0 blocks, but learner\.trainable_layers is 1"):
        offer(store, static, AdoptOptions(), learner=LEARNER, tokenizer=tokenizer, say=silent)


@pytest.mark.live
def test_an_encoder_that_does_not_fit_is_not_offered(store: Store, tmp_path: Path) -> None:
    source = write_small(tmp_path / "source")
    tokenizer = TextTokenizer.from_encoder("minilm-l6")
    with pytest.raises(WrongConfig, match="source cannot be adopted: it has another tokenizer"):
        offer(store, source, AdoptOptions(), learner=LEARNER, tokenizer=tokenizer, say=silent)
    assert store.commands.open_offer() is None


@pytest.mark.live
def test_a_head_alone_needs_no_weights(store: Store) -> None:
    tokenizer = TextTokenizer.from_encoder("minilm-l6")
    made = offer(store, None, AdoptOptions(num_features=64), learner=LEARNER, tokenizer=tokenizer, say=silent)
    offered = made.read(EncoderOffer)
    assert not offered.tensors and offered.num_features == 64 and store.commands.open_offer() == offered
