"""A family of encoders of another package goes the whole way, and what no family may be is one clear error.

event --Words--> AFFINE --> answer -> label -> version -> swap -> slow round -> swap -> rollback -> restore
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from learner.learner import Learner
from learner.rounds.worker import INLINE
from lifelong.plugins.encoders.module_encoder import MODULE
from model.encoders import FAMILIES, config_from_json, find_family, open_encoder, open_inputs, packed
from model.errors import WrongConfig, WrongShape
from model.packed import EncoderFamily
from model.ragged import RaggedBatch
from model.strata_family import STRATA
from serving.encodings import Health
from tests.doors.affine import AFFINE, PATH, AffineConfig, AffineFamily, PackedAffine, WholeAffine
from tests.doors.others import fails
from tests.flow.test_in_memory import MIN_RIGHT, NUM_EVENTS, Service, events, share_right
from tests.learner.publish_rig import PublishRig, withdraw
from tests.learner.small_learner import Setting, build_learner
from tests.learner.streams import label_of, make_text
from wire.plugins import Families, PluginError
from wire.receipts import Receipts
from wire.store import Store

LABELS = [label_of(number) for number in range(NUM_EVENTS)]


class AffineRig(PublishRig):
    """A learner under the family, and its publisher."""

    def make_learner(self, receipts: Receipts | None, folder: Path, **changed: Setting) -> Learner:
        return build_learner(*open_encoder(PATH), receipts, INLINE, folder, **changed)


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Iterator[Service]:
    started = Service(
        store, tmp_path, rig=AffineRig, inputs=open_inputs(PATH), changed={"trainable_layers": 1, "max_top_update": 5.0}
    )
    started.start()
    yield started
    started.close()


def test_a_family_is_learnt_under_trained_published_swapped_and_rolled_back(service: Service, store: Store) -> None:
    assert service.publish() == 1
    service.label(service.answer(events("first")), LABELS)
    assert service.publish() == 2
    after = service.answer(events("second"))
    assert {(answer.weights_version, answer.precision) for answer in after} == {(2, "fp32")}
    assert share_right(after, LABELS) >= MIN_RIGHT

    service.learner.train()
    version = service.publish()
    manifest = store.versions.manifest(version)
    assert config_from_json(manifest.config) == AffineConfig() and len(manifest.lineage.rounds) == 1
    first = store.versions.manifest(2)
    changed = {each.name for each in manifest.tensors} - {each.name for each in {*manifest.tensors} & {*first.tensors}}
    assert changed == {"layers.0.weight", "layers.0.bias", "head.out"}
    both = service.answer(events("third"))
    assert {(answer.weights_version, answer.arm) for answer in both} == {(2, "stable"), (version, "candidate")}
    trained = [(answer, label) for answer, label in zip(both, LABELS, strict=True) if answer.arm == "candidate"]
    assert share_right(*zip(*trained, strict=True)) >= MIN_RIGHT

    withdraw(store, to=2)
    service.await_swap()
    assert {answer.weights_version for answer in service.answer(events("fourth"))} == {2}


@pytest.mark.live
def test_a_checkpoint_brings_the_trained_blocks_back(store: Store, tmp_path: Path) -> None:
    rig = AffineRig(store, tmp_path, trainable_layers=1, max_top_update=5.0)
    rig.learn(0, 60)
    rig.publish()
    rig.train()
    version = rig.publish()
    vectors = rig.learner.fast_head.served.z_many([make_text(5)])
    rig.publisher.checkpoint()
    rig.start()
    assert rig.learner.version == version
    assert torch.equal(rig.learner.fast_head.served.z_many([make_text(5)]), vectors)


def test_a_setting_finds_its_family() -> None:
    assert FAMILIES.claiming("minilm-l6") is STRATA
    assert FAMILIES.claiming("nowhere.at.all:Module") is MODULE
    assert FAMILIES.claiming(PATH) is AFFINE is FAMILIES.claiming("affine")
    assert find_family(AffineConfig()) is AFFINE


def test_the_config_of_a_version_makes_no_process_import_anything() -> None:
    for name in (PATH, "os:system", "unheard", "", 7):
        with pytest.raises(WrongConfig):
            config_from_json(AffineConfig(family=name).canonical_json())  # type: ignore[arg-type]


class Other(AffineFamily):
    """Another family, but for what a test changes."""

    def __init__(self, **changed: Any) -> None:
        self.__dict__ |= changed


LACKING = object()


def test_a_name_that_another_family_has_is_refused() -> None:
    FAMILIES.claiming(PATH)
    for name in ("strata", "affine"):
        with pytest.raises(PluginError, match=f"are both called '{name}': rename one of them"):
            FAMILIES.register(Other(name=name))


@pytest.mark.parametrize(
    ("family", "said"),
    [
        (LACKING, "lacks name, claims, open, .*, pack"),
        (Other(name="failing", open=fails, open_inputs=fails), "cannot be opened: RuntimeError: not today"),
        (
            Other(name="unreading", open=lambda *_, **__: (None, "text"), open_inputs=lambda *_, **__: "text"),
            "its tokenizer lacks name, digest, .*, encode_many, reads",
        ),
    ],
)
def test_a_family_that_cannot_be_used_is_one_error_at_the_start(
    family: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = getattr(family, "name", "lacking")
    monkeypatch.setattr(f"tests.doors.affine.{name}", family, raising=False)
    for opening in (open_encoder, open_inputs):
        with pytest.raises(WrongConfig, match=f"encoder 'tests.doors.affine:{name}'.*{said}"):
            opening(f"tests.doors.affine:{name}")


def test_a_family_that_fails_on_a_setting_is_named() -> None:
    families = Families[EncoderFamily[Any, Any]]("encoders", EncoderFamily)
    families.register(Other(name="failing", claims=fails))
    with pytest.raises(PluginError, match="Other fails on 'minilm-l6': RuntimeError: not today"):
        families.claiming("minilm-l6")


def test_an_encoder_that_lacks_a_member_is_an_error_of_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    open_inputs(PATH)
    monkeypatch.setattr(AffineFamily, "pack", lambda *_: LACKING)
    with pytest.raises(WrongConfig, match=r"a version of affine lacks config, precisions, .*, encode"):
        packed(AffineConfig(), stored(), open_inputs(PATH))


class Narrow(PackedAffine):
    """Gives vectors of another width."""

    def encode(self, batch: RaggedBatch, precision: str | None = None) -> torch.Tensor:
        return super().encode(batch, precision)[:, 1:]


def test_vectors_of_another_width_are_an_error_of_their_batch() -> None:
    narrow = Narrow(WholeAffine(AffineConfig()), AFFINE.pack(AffineConfig(), stored(), open_inputs(PATH)).inputs)
    with pytest.raises(WrongShape, match=r"affine gives vectors \[2, 15\]; expected \[2, 16\]"):
        Health().encode(narrow, RaggedBatch.of([[1], [2, 3]]), "fp32")


def stored() -> Any:
    return AFFINE.quantize_trained(WholeAffine(AffineConfig()), first_layer=None, grams={})
