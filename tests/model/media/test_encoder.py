"""The encoder: ragged parts give the vectors of one at a time, and the packed form follows the whole one."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.errors import BadTokens, MissingWeight, WrongConfig
from model.media.encoder import MediaConfig, PackedMedia, WholeMedia
from model.media.family import MEDIA, MediaInputs
from model.packed import PackedEncoder
from model.ragged import RaggedBatch
from tests.model.media.small import CONFIG, opened, picture, sound


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[WholeMedia, MediaInputs, PackedEncoder]:
    whole, inputs = opened(tmp_path_factory.mktemp("small"))
    tensors = MEDIA.quantize_initial(whole, inputs, first_layer=1, kept=lambda make: make())
    return whole, inputs, MEDIA.pack(whole.config, tensors, inputs)


Made = tuple[WholeMedia, MediaInputs, PackedEncoder]


def events(inputs: MediaInputs) -> list[list[int]]:
    """Returns token ids of events with a picture, a sound, a text, and any two or three of them."""
    (image,), (audio,), (text,) = (
        inputs.part_tokens("image", [picture(1)]),
        inputs.part_tokens("audio", [sound(2)]),
        inputs.encode_many(["the digit seven"]),
    )
    return [image, audio, text, text + image, image + audio, text + audio, text + image + audio]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.lists(st.integers(0, 6), min_size=1, max_size=9),
    layer=st.integers(0, 2),
    precision=st.sampled_from(["int8", "int4"]),
)
def test_a_ragged_batch_gives_the_vectors_of_one_at_a_time(
    made: Made, order: list[int], layer: int, precision: str
) -> None:
    _, inputs, packed = made
    known = events(inputs)
    batch = RaggedBatch.of([known[each] for each in order])
    z_BD = packed.encode(batch, precision)
    alone = [packed.encode(RaggedBatch.of([known[each]]), precision) for each in order]
    assert torch.equal(z_BD, torch.cat(alone))
    x_TD = packed.encode_prefix(batch, layer, precision)
    assert torch.equal(packed.encode_from(layer, x_TD, batch.layout, precision), z_BD)


@torch.no_grad()
def test_the_packed_encoder_follows_the_whole_one(made: Made) -> None:
    whole, inputs, packed = made
    batch = RaggedBatch.of(events(inputs))
    assert ((packed.encode(batch) * whole(batch)).sum(dim=1) > 0.99).all()
    again = MEDIA.restored(whole.config, MEDIA.quantize_trained(whole, first_layer=None, grams={}))
    assert ((again(batch) * whole(batch)).sum(dim=1) > 0.99).all()


def test_a_missing_part_is_an_absent_token(made: Made) -> None:
    _, inputs, packed = made
    known = events(inputs)
    with_both, image, audio = packed.encode(RaggedBatch.of([known[4], known[0], known[1]]))
    assert not torch.equal(with_both, image) and not torch.equal(with_both, audio)
    # The order of the tokens of parts does not count, since their place is in the token.
    other = packed.encode(RaggedBatch.of([known[1] + known[0]]))[0]
    assert torch.allclose(with_both, other, atol=0.05)


@torch.no_grad()
def test_training_embeds_parts_as_serving_does(made: Made) -> None:
    whole, inputs, _ = made
    ids = inputs.part_tokens("image", [picture(1), picture(5)])
    from model.media.tokens import level_values

    trained = whole.embed.part("image", level_values(inputs.stems.codes("image", [picture(1), picture(5)])))
    served = whole.embed(RaggedBatch.of(ids))
    assert torch.allclose(trained.flatten(0, 1), served, atol=1e-4)


def test_unknown_places_and_long_events_are_refused(made: Made) -> None:
    _, inputs, packed = made
    (image,) = inputs.part_tokens("image", [picture(1)])
    with pytest.raises(BadTokens, match="place 90"):
        packed.encode(RaggedBatch.of([[image[0] + (90 << 44)]]))
    with pytest.raises(BadTokens, match="145 tokens; expected at most 128"):
        packed.encode(RaggedBatch.of([[1] * 128 + image]))


def test_a_version_without_a_modality_is_refused(made: Made) -> None:
    whole, _, _ = made
    tensors = dict(MEDIA.quantize_trained(whole, first_layer=None, grams={}))
    del tensors["embed.audio.weight"]
    with pytest.raises(MissingWeight, match=r"embed\.audio\.weight"):
        PackedMedia.from_tensors(whole.config, tensors)


def test_a_config_is_read_back_or_refused() -> None:
    assert MediaConfig.from_json(CONFIG.canonical_json()) == CONFIG
    for text in ("{", "[]", '{"family": "media"}', CONFIG.canonical_json().replace('"schema":1', '"schema":2')):
        with pytest.raises(WrongConfig):
            MediaConfig.from_json(text)
    with pytest.raises(WrongConfig, match="d_model is 192; expected a multiple of n_heads"):
        MediaConfig(n_heads=5)
