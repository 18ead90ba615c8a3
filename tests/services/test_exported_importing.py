"""Tests that another service imports an exported version under a new number, and answers with the same bits."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

from model.ragged import RaggedBatch
from model.tokenizer import TextTokenizer
from rollout.config import RolloutConfig
from rollout.controller import Controller
from rollout.judge import Judge
from rollout.operator import Operator
from services.exported import BadExport, export_version, import_version, read_version
from serving.config import PrecisionConfig
from serving.weights.loader import Loader
from tests.learner.publish_rig import PublishRig
from tests.model.small_encoder import model_logits
from tests.serving.versions import TinyPublisher, tokenizer
from tests.stores import KEYS
from wire.config import StoreConfig
from wire.errors import ParentMoved
from wire.store import GAP, Store

pytestmark = pytest.mark.live

TEXTS = ["where is my card", "a second, somewhat longer text", "?"]


@pytest.fixture
def folder(learner: TinyPublisher, tmp_path: Path) -> Path:
    learner.publish(1)
    export_version(learner.store, 1, tmp_path / "out", b"{}", with_onnx=False, say=lambda text: None)
    return tmp_path / "out"


@pytest.fixture
def learner(store: Store) -> TinyPublisher:
    return TinyPublisher(store)


@pytest.fixture
def other_store(store_config: StoreConfig) -> Iterator[Store]:
    """The empty store of another service."""
    with closing(Store(replace(store_config, prefix=f"other-{store_config.prefix}"), KEYS)) as other:
        yield other


def no_judge() -> Judge:
    raise AssertionError("the test follows by itself")


def logits(store: Store, number: int) -> torch.Tensor:
    loader = Loader(store, tokenizer(), precision=PrecisionConfig(), probe_tolerance=0.05)
    return model_logits(loader.load(number).model, RaggedBatch.of(tokenizer().encode_many(TEXTS)))


def test_the_same_bits_answer(learner: TinyPublisher, folder: Path) -> None:
    learner.publish(2)
    learner.plan(2)
    manifest = import_version(learner.store, folder, tokenizer(), now_ms=5)
    assert (manifest.version, manifest.parent, manifest.epoch, manifest.created_ms) == (3, 0, 0, 5)
    assert manifest.lineage.gap == "it was imported from out, version 1 there"
    assert torch.equal(logits(learner.store, 3), logits(learner.store, 1))
    assert learner.store.versions.current() == 2
    assert learner.store.versions.history(1)[0].detail == "imported from out"
    plan = Operator(learner.store, name="eve").start(3, now_ms=6)
    assert (plan.stable, plan.candidate) == (2, 3)
    learner.publish(4)
    assert learner.store.versions.current() == 4


def test_an_import_into_an_empty_store_is_version_1(learner: TinyPublisher, folder: Path, other_store: Store) -> None:
    manifest = import_version(other_store, folder, tokenizer(), now_ms=5)
    assert manifest.version == 1 and other_store.versions.current() == 0
    assert torch.equal(logits(other_store, 1), logits(learner.store, 1))


def test_a_number_is_taken_once(learner: TinyPublisher, folder: Path) -> None:
    manifest = import_version(learner.store, folder, tokenizer(), now_ms=5)
    with pytest.raises(ParentMoved, match="2 is the highest number"):
        learner.store.versions.add(msgspec.structs.replace(manifest, created_ms=6), detail="")
    # The call is repeated, as after a lost reply.
    learner.store.versions.add(manifest, detail="")


def test_another_tokenizer_is_refused(learner: TinyPublisher, folder: Path) -> None:
    other = TextTokenizer.from_encoder("minilm-l6")
    other.digest = "another"
    with pytest.raises(BadExport, match="was made for another tokenizer or class"):
        import_version(learner.store, folder, other, now_ms=5)
    assert learner.store.versions.next_number() == 2


def test_what_was_changed_is_refused(folder: Path) -> None:
    weights = folder / "version" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(BadExport, match="was changed since the export"):
        read_version(folder)
    weights.write_bytes(b"")
    with pytest.raises(BadExport, match="is not a version that `lifelong export` has written"):
        read_version(folder)


def test_a_learner_that_starts_again_goes_on_from_its_own_version(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path / "state")
    rig.learn(0, 40)
    assert rig.publish() == 1
    export_version(store, 1, tmp_path / "out", b"{}", with_onnx=False, say=lambda text: None)
    inputs = rig.learner.fast_head.served.tokenizer
    assert import_version(store, tmp_path / "out", inputs, now_ms=1).version == 2
    rig.publisher.checkpoint()
    rig.start()
    assert (rig.learner.version, rig.learner.counts["set_aside"]) == (1, 0)
    rig.learn(40, 60)
    assert rig.publish() == 3 + GAP, "a leader that begins leaves a gap"


def test_the_learner_goes_on_beside_a_version_that_was_promoted(store: Store, tmp_path: Path) -> None:
    """The learner's later versions are compared with the imported version, which is the reference."""
    rig = PublishRig(store, tmp_path / "state")
    controller = Controller(store, no_judge, config=RolloutConfig(), holder="test", now_ms=lambda: 1)
    rig.learn(0, 40)
    rig.publish()
    controller.follow_current()
    export_version(store, 1, tmp_path / "out", b"{}", with_onnx=False, say=lambda text: None)
    import_version(store, tmp_path / "out", rig.learner.fast_head.served.tokenizer, now_ms=1)
    Operator(store, name="eve").promote(2, now_ms=2)
    controller.collect()
    rig.learn(40, 120)
    assert rig.publish() == 3
    assert store.versions.manifest(3).name_changes.reference == 2
    controller.follow_current()
    plan = store.plans.read()
    assert plan is not None and 3 in plan.versions and {2, 3} <= {*store.versions.stored()}


def test_the_learner_s_versions_wait_while_an_import_is_judged(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path / "state")
    controller = Controller(store, no_judge, config=RolloutConfig(), holder="test", now_ms=lambda: 1)
    rig.learn(0, 40)
    rig.publish()
    controller.follow_current()
    export_version(store, 1, tmp_path / "out", b"{}", with_onnx=False, say=lambda text: None)
    import_version(store, tmp_path / "out", rig.learner.fast_head.served.tokenizer, now_ms=1)
    Operator(store, name="eve").start(2, now_ms=2)
    rig.learn(40, 120)
    assert rig.publish() == 3
    controller.follow_current()
    plan = store.plans.read()
    assert plan is not None and (plan.stable, plan.candidate, plan.newest) == (1, 2, 3)
