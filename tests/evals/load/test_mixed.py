"""Answers are recomputed with the versions that they name."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch

from evals.load.mixed import Recomputed, recompute
from tests.learner.publish_rig import PublishRig
from tests.learner.streams import make_text
from wire.records import Answer
from wire.store import Store

pytestmark = pytest.mark.live


def answers(rig: PublishRig) -> Iterator[Answer]:
    """Returns answers of the version that was published last, as a replica computes them."""
    last = rig.publisher.last
    assert last is not None
    version = last.version
    for number in range(20):
        z_BD = version.served.z_many([make_text(number)])
        values = torch.softmax(version.head.logits(z_BD, len(version.classes)), dim=1)[0].tolist()
        scores = sorted(zip(version.classes, values, strict=True), key=lambda each: -each[1])[:3]
        label, score = scores[0]
        yield Answer(
            event_id=str(number),
            text=make_text(number),
            label=label,
            score=score,
            weights_version=rig.learner.version,
            arm="stable",
            precision="int8",
            rollout_revision=1,
            scores=tuple(scores),
        )


def test_an_answer_of_two_versions_is_found(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path)
    rig.learn(0, 100)
    rig.publish()
    first = list(answers(rig))
    rig.learn(100, 300)
    rig.publish()
    second = list(answers(rig))
    tokenizer = rig.learner.fast_head.served.tokenizer
    found = recompute([*first, *second], store, tokenizer)
    assert found == Recomputed(answers=40, mixed=0, gone=0, encoders=(40,))
    mixed = [msgspec.structs.replace(answer, weights_version=1) for answer in second]
    assert recompute([*first, *mixed], store, tokenizer).mixed > 10


def test_a_version_that_is_gone_is_counted(store: Store, tmp_path: Path) -> None:
    rig = PublishRig(store, tmp_path)
    rig.learn(0, 100)
    rig.publish()
    gone = [msgspec.structs.replace(answer, weights_version=9) for answer in answers(rig)]
    tokenizer = rig.learner.fast_head.served.tokenizer
    assert recompute(gone, store, tokenizer) == Recomputed(answers=0, mixed=0, gone=20, encoders=())
