"""An encoder of the user goes the whole way: learnt under, trained, published, refused elsewhere, restored, served.

images --GreyImages--> learner --version, Redis--> replica --> answers, by the class that the settings name alone
"""

from pathlib import Path

import msgspec
import pytest
import torch

from learner.config import LearnerConfig
from learner.learner import Learner
from model.encoders import open_encoder, open_inputs
from model.ragged import RaggedBatch
from services.exported import export_version, import_version
from serving.config import PrecisionConfig
from serving.errors import VersionRefused
from serving.pipeline import make_encode, make_items
from serving.queue import DEFAULT
from serving.weights.loader import Loader
from tests.flow.images import make_image, make_shape
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import SUBJECT_DIGEST, Setting, small_config
from tests.learner.streams import answer, feedback
from tests.model.module_encoders import PATH
from tests.model.small_encoder import model_logits
from wire.receipts import Receipts
from wire.records import Answer, Event, Feedback
from wire.store import Store

pytestmark = pytest.mark.live

PIXELS = "services.templates.encoder:GreyImages"


class ImageRig(PublishRig):
    """A learner of images under the encoder of the template."""

    def make_learner(self, receipts: Receipts | None, folder: Path, **changed: Setting) -> Learner:
        whole, inputs = open_encoder(PIXELS)
        config = small_config(**changed)
        return Learner(config, whole, inputs, receipts=receipts, subject_digest=SUBJECT_DIGEST, cache_dir=folder)

    def learn(self, first: int, last: int) -> None:
        records: list[Answer | Feedback] = []
        for number in range(first, last):
            records.append(msgspec.structs.replace(answer(number), text=make_image(number)))
            records.append(feedback(number, label=make_shape(number)))
        self.learner.learn_many(records, {"feedback.v1/0": last})

    def named(self, loader: Loader, numbers: range) -> float:
        """Returns the share of images that the published version names rightly, as a replica does."""
        model = loader.load(self.learner.version).model
        tokens = open_inputs(PIXELS).encode_many([make_image(number) for number in numbers])
        rows = model_logits(model, RaggedBatch.of(tokens), "fp32").argmax(dim=1).tolist()
        right = [model.labels[row] == make_shape(number) for number, row in zip(numbers, rows, strict=True)]
        return float(sum(right) / len(right))


def make_loader(store: Store, encoder: str) -> Loader:
    return Loader(store, open_inputs(encoder), precision=PrecisionConfig(), probe_tolerance=0.05)


def test_images_are_learnt_trained_on_published_and_restored(store: Store, tmp_path: Path) -> None:
    rig = ImageRig(store, tmp_path, trainable_layers=1, slow_rate=1e-3, num_features=512, max_top_update=5.0)
    rig.learn(0, 300)
    rig.publish()
    loader = make_loader(store, PIXELS)
    before = rig.named(loader, range(1_000, 1_200))
    assert before > 0.5
    rig.train()
    rig.publish()
    after = rig.named(loader, range(1_000, 1_200))
    assert after > before and after > 0.8
    manifest = store.versions.manifest(rig.learner.version)
    assert [each.name for each in manifest.precisions] == ["fp32"] and len(manifest.lineage.rounds) == 1
    vectors = rig.learner.fast_head.served.z_many([make_image(5)])
    rig.publisher.checkpoint()
    rig.start()
    assert (rig.learner.fast_head.served.z_many([make_image(5)]) == vectors).all()
    assert rig.learner.version == manifest.version


def test_a_replica_whose_settings_name_other_code_refuses_the_version_by_name(store: Store, tmp_path: Path) -> None:
    rig = ImageRig(store, tmp_path)
    rig.learn(0, 40)
    rig.publish()
    for encoder, named in ((f"{PATH}:Letters", "Letters, whose source"), ("minilm-l6", "a tokenizer with the digest")):
        with pytest.raises(
            VersionRefused, match=rf"made for {PIXELS}, whose source .* `encoder` names .*{named}"
        ) as found:
            make_loader(store, encoder).load(1)
        assert found.value.reason == "wrong_spec"


def test_a_version_is_exported_and_imported_with_the_same_bits(store: Store, tmp_path: Path) -> None:
    rig = ImageRig(store, tmp_path / "state")
    rig.learn(0, 60)
    rig.publish()
    made = export_version(store, 1, tmp_path / "out", b"", with_onnx=False, say=lambda text: None)
    assert made.lacks.startswith(f"its encoder is {PIXELS}")
    assert import_version(store, tmp_path / "out", open_inputs(PIXELS), now_ms=1).version == 2
    loader = make_loader(store, PIXELS)
    batch = RaggedBatch.of(open_inputs(PIXELS).encode_many([make_image(1), make_image(2)]))
    both = [model_logits(loader.load(number).model, batch, "fp32") for number in (1, 2)]
    assert torch.equal(*both)


def test_a_label_of_a_text_that_cannot_be_read_is_quarantined(store: Store, tmp_path: Path) -> None:
    rig = ImageRig(store, tmp_path)
    label = Feedback(event_id="e", label="bar", text="no image", time_ms=1)
    (held,) = rig.learner.learn_many([label], {"feedback.v1/0": 1})
    assert (held.reason, held.text) == ("unreadable", "no image")
    assert rig.learner.fast_head.ridge.num_samples == 0


def test_an_event_that_cannot_be_read_says_why_and_stops_no_other() -> None:
    inputs = open_inputs(PIXELS)
    events = [Event(id="1", text=make_image(1)), Event(id="2", text="AAAA"), Event(id="3", text="?")]
    items = make_items(
        events, [lambda outcome: None] * 3, make_encode(inputs, lambda: inputs.max_tokens), DEFAULT, inputs.max_tokens
    )
    assert [item.num_tokens for item in items] == [784, 0, 0]
    assert items[0].unreadable == "" and "an image has 784 bytes, but these are 3" in items[1].unreadable
    assert items[2].unreadable


def test_a_module_is_one_block() -> None:
    config = LearnerConfig(trainable_layers=2, deeper_layers=(3, 0))
    assert config.limited_to(1).tiers == (1, 1, 1)
    assert config.limited_to(0).tiers == (0, 0, 0)
