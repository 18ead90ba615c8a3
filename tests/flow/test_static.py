"""A static encoder goes the whole way: event -> answer -> label -> version -> swap, and a rollback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.learner import Learner
from learner.rounds.worker import INLINE
from model.config import StaticConfig
from model.encoders import config_from_json, open_encoder, open_inputs
from model.source import encoder_folder
from model.static import encoder_files
from tests.flow.test_in_memory import MIN_RIGHT, NUM_EVENTS, Service, events, share_right
from tests.learner.publish_rig import PublishRig, withdraw
from tests.learner.small_learner import Setting, build_learner
from tests.learner.streams import label_of
from tests.model.small_static import small_static
from wire.receipts import Receipts
from wire.store import Store

LABELS = [label_of(number) for number in range(NUM_EVENTS)]

CONFIG = StaticConfig(vocab=30_522, pairs=4, d_model=64, max_sequence=64)


def write_minilm_words(folder: Path) -> str:
    """Writes an encoder with random rows for MiniLM's tokens; returns its path."""
    folder.mkdir(exist_ok=True)
    tokenizer_json = (encoder_folder("minilm-l6") / "tokenizer.json").read_bytes()
    for name, content in encoder_files(small_static(CONFIG), tokenizer_json, []).items():
        (folder / name).write_bytes(content)
    return str(folder)


class StaticRig(PublishRig):
    """A learner under the family, and its publisher."""

    def make_learner(self, receipts: Receipts | None, folder: Path, **changed: Setting) -> Learner:
        return build_learner(
            *open_encoder(write_minilm_words(folder / "encoder"), max_tokens=16), receipts, INLINE, folder, **changed
        )


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Iterator[Service]:
    inputs = open_inputs(write_minilm_words(tmp_path / "inputs"), max_tokens=16)
    started = Service(store, tmp_path, rig=StaticRig, inputs=inputs)
    started.start()
    yield started
    started.close()


def test_a_static_encoder_answers_learns_and_is_rolled_back(service: Service, store: Store) -> None:
    assert service.publish() == 1
    service.label(service.answer(events("first")), LABELS)
    assert service.publish() == 2
    after = service.answer(events("second"))
    assert {(answer.weights_version, answer.precision) for answer in after} == {(2, "int8")}
    assert share_right(after, LABELS) >= MIN_RIGHT
    manifest = store.versions.manifest(2)
    assert config_from_json(manifest.config).without_labels == StaticConfig.from_json(manifest.config).without_labels
    withdraw(store, to=1)
    service.await_swap()
    assert {answer.weights_version for answer in service.answer(events("third"))} == {1}
