"""A table of token vectors answers as a precision: label -> version, measured in it -> its answers -> a slow round."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from learner.learner import Learner
from learner.quality.calibration import REVIEW_S
from learner.rounds.worker import INLINE
from lifelong.compress.static import StaticOptions
from model.encoders import open_encoder, open_inputs
from model.rung import STATIC_PRECISION
from services.members.rung import add_rung
from serving.models import LatencyTable
from tests.flow.test_in_memory import MIN_RIGHT, NUM_EVENTS, Service, events, share_right
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import Setting, build_learner, save_encoder
from tests.learner.streams import label_of, make_text
from wire.receipts import Receipts
from wire.store import Store

LABELS = [label_of(number) for number in range(NUM_EVENTS)]

NUM_UNITS = 10
"""The steps of a review, and some more."""

MS = {"int8": 8.0, "int4": 6.0, STATIC_PRECISION: 0.1}
"""The time of a batch of any size, as if the encoder were large."""


@pytest.fixture(scope="module")
def rung(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An encoder with a table that imitates it on the texts of the stream."""
    folder = tmp_path_factory.mktemp("rung")
    (folder / "main").mkdir()
    (folder / "texts.txt").write_text("".join(f"{make_text(number)}\n" for number in range(600)))
    made = add_rung(
        save_encoder(folder / "main"),
        folder / "out",
        [str(folder / "texts.txt")],
        StaticOptions(steps=150, rate=0.01),
        data=None,
        folder=folder / "tables",
        say=lambda _: None,
    )
    assert made.cosine > 0
    return made.path


def always(encoder: object, precisions: Sequence[str], inputs: object) -> LatencyTable:
    """The times of an encoder, in place of a measurement: the small encoder of the tests is as fast as its table."""
    return LatencyTable((16, 512), {name: (MS[name], MS[name]) for name in precisions})


def test_the_table_answers_once_it_is_measured_and_slow_rounds_keep_it(
    store: Store, tmp_path: Path, rung: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class RungRig(PublishRig):
        """A learner under the family, and its publisher."""

        def make_learner(self, receipts: Receipts | None, folder: Path, **changed: Setting) -> Learner:
            return build_learner(*open_encoder(rung, max_tokens=16), receipts, INLINE, folder, **changed)

    monkeypatch.setattr("serving.weights.in_use.measure_encoder", always)
    changed: dict[str, Setting] = {"trainable_layers": 1, "max_top_update": 5.0}
    service = Service(store, tmp_path, rig=RungRig, inputs=open_inputs(rung, max_tokens=16), changed=changed)
    service.start()
    try:
        service.publish()
        for name in ("first", "second"):
            service.label(service.answer(events(name)), LABELS)
            service.publish()
        service.learner.now_s += REVIEW_S
        for _ in range(NUM_UNITS):
            service.learner.publisher.review()
        service.label(service.answer(events("third")), LABELS)
        version = service.publish()
        measured = {each.name: each.accuracy for each in store.versions.manifest(version).precisions}
        assert measured.keys() == MS.keys() and measured[STATIC_PRECISION] >= measured["int8"] - 0.03
        # On these texts the table is as accurate as the encoder, and it is the fastest precision.
        after = service.answer(events("fourth"))
        assert {answer.precision for answer in after} == {STATIC_PRECISION}
        assert share_right(after, LABELS) >= MIN_RIGHT

        service.learner.train()
        trained = store.versions.manifest(service.publish())
        assert len(trained.lineage.rounds) == 1
        tables = [
            [each.digest for each in manifest.tensors if each.name.startswith("rung.")]
            for manifest in (trained, store.versions.manifest(version))
        ]
        assert len(tables[0]) == 2 and tables[0] == tables[1]
    finally:
        service.close()
