from pathlib import Path

import torch

from evals.continual.texts import WholeLearner
from evals.streams.benchmark import Part
from tests.learner.small import save_encoder, small_config
from tests.learner.streams import TOPICS, label_of, text_of


def test_texts_without_a_label_are_learnt_from_in_the_silence_after_the_last_label(tmp_path: Path) -> None:
    config = small_config(rehearse_after_s=1.0, rehearsal_steps=2, slow_rate=1e-5)
    learner = WholeLearner(
        config,
        save_encoder(tmp_path),
        TOPICS,
        num_items=80,
        unlabelled=[text_of(number) for number in range(200, 320)],
    )
    labels_N = torch.tensor([TOPICS.index(label_of(number)) for number in range(80)])
    texts = [text_of(number) for number in range(80)]
    counts = learner._learner.counts
    learner.learn_many(Part(texts[:70], labels_N[:70]))
    assert (counts["rounds"], counts["rehearsals"], counts["guessing_rounds"]) == (1, 0, 0)
    learner.learn_many(Part(texts[70:], labels_N[70:]))
    assert (counts["rehearsals"], counts["guessing_rounds"]) == (1, 2) and learner._learner.is_rested
    assert len(learner._learner.replay) == learner._learner.tier.head.num_samples
    assert len(learner._learner.replay) < 90
    assert set(learner.predict_many(texts).tolist()) <= set(range(len(TOPICS)))
