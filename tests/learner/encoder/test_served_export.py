import pytest
import torch

from learner.encoder.served import ServedEncoder, export_encoder, export_head, export_tensor
from model.errors import NonFinite
from model.head import OUT
from model.quantize import plain
from model.tokenizer import TextTokenizer
from tests.learner.small_learner import CONFIG, labelled, small_served, small_strata

TEXTS = [sample.text for sample in labelled(0, 70)]


def test_a_replica_reads_the_stored_tensors() -> None:
    norm = export_tensor(plain("a.norm", torch.arange(6.0).view(2, 3)))
    assert norm.entry.num_bytes == len(norm.tensor.to_blob())
    assert [(part.name, part.dtype, part.shape) for part in norm.entry.parts] == [("value", "F32", (2, 3))]
    assert export_tensor(norm.tensor).entry == norm.entry


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(NonFinite):
        export_head(CONFIG, torch.full((2, 96), float("nan")), temperature=0.1)


def test_a_head_without_classes_can_be_stored() -> None:
    served = small_served()
    head = served.head(export_head(CONFIG, torch.zeros(0, 96), temperature=0.1))
    assert head.logits(served.z_many(["text"]), 0).shape == (1, 0)


def test_vectors_do_not_depend_on_which_texts_are_encoded_together() -> None:
    served = small_served()
    assert torch.equal(served.z_many(TEXTS)[69], served.z_many(TEXTS[69:])[0])
    assert served.z_many([]).shape == (0, 64)


def test_texts_are_cut_at_the_tokenizers_limit() -> None:
    short = TextTokenizer.from_encoder("minilm-l6", max_tokens=5)
    served = ServedEncoder(CONFIG, short, small_served().tensors)
    one = served.z_many(["where is my card"])
    other = served.z_many(["where is my parcel, please"])
    assert torch.equal(one, other)
    assert not torch.equal(one, small_served().z_many(["where is my card"]))


def test_a_new_top_changes_its_tensors_and_the_key_and_nothing_else() -> None:
    strata = small_strata()
    served = small_served()
    with torch.no_grad():
        strata.get_parameter("layers.1.up.weight").mul_(1.5)
    after = served.with_top(export_encoder(strata, first_layer=1))
    changed = [name for name in served.tensors if served.tensors[name].entry != after.tensors[name].entry]
    assert changed == ["layers.1.up"] and after.key != served.key
    assert small_served().key == served.key and OUT not in served.tensors


def test_the_prefix_is_the_whole_without_the_top() -> None:
    served = small_served()
    strata = small_strata()
    x_TD, layout = served.prefix(TEXTS[:5], 1)
    z_BD = strata.forward_from(1, x_TD, layout)
    assert torch.cosine_similarity(z_BD, served.z_many(TEXTS[:5])).min() > 0.99
    short_TD, _ = served.prefix(TEXTS[:5], 1, drop_tokens=lambda ids: ids[-2:])
    assert len(short_TD) == 10
    assert len(x_TD) > 10
