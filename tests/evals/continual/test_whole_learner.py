from pathlib import Path

import torch

from evals.continual.contender import Traits
from evals.continual.whole_learner import WholeLearner
from evals.streams.benchmark import Part, Texts
from learner.config import LearnerConfig
from tests.learner.small_learner import save_encoder, small_config
from tests.learner.streams import TOPICS, label_of, make_text


def whole(config: LearnerConfig, folder: Path, *, unlabelled: Texts | None = None) -> WholeLearner:
    return WholeLearner(config, save_encoder(folder), TOPICS, unlabelled=unlabelled)


def part(first: int, end: int) -> Part[Texts]:
    labels_N = torch.tensor([TOPICS.index(label_of(number)) for number in range(first, end)])
    return Part([make_text(number) for number in range(first, end)], labels_N)


def test_unlabelled_texts_are_learnt_when_idle_after_the_last_label(tmp_path: Path) -> None:
    config = small_config(rehearse_after_s=1.0, rehearsal_steps=2, slow_rate=1e-5)
    learner = whole(config, tmp_path, unlabelled=[make_text(number) for number in range(200, 380)])
    counts = learner._learner.counts
    learner.learn_many(part(0, 70))
    learner.learn_many(part(70, 80))
    assert (counts["rounds"], counts["rehearsals"], counts["pseudo_label_rounds"]) == (1, 0, 0)
    assert learner.do_idle_work()
    assert (counts["rehearsals"], counts["pseudo_label_rounds"]) == (1, 2) and learner._learner.is_rested
    assert len(learner._learner.replay) == learner._learner.fast_head.ridge.num_samples
    assert len(learner._learner.replay) < 90
    assert set(learner.predict_many(part(0, 80).inputs).tolist()) <= set(range(len(TOPICS)))


def test_without_a_rehearsal_there_is_no_idle_work(tmp_path: Path) -> None:
    learner = whole(small_config(), tmp_path)
    learner.learn_many(part(0, 80))
    assert not learner.do_idle_work()


def test_gradients_and_encodings_of_the_rounds_are_counted(tmp_path: Path) -> None:
    """The round after 64 labels takes 60 // 20 steps of 8, and encodes its memory again; then comes the rehearsal."""
    learner = whole(small_config(rehearse_after_s=1.0, rehearsal_steps=50, learn_names=False), tmp_path)
    assert learner.traits == Traits(precision="int8", encoder="trained", uses_names=False)
    learner.learn_many(part(0, 80))
    num_rounds = learner._learner.counts["rounds"]
    usage = learner.usage
    assert num_rounds == 1 and usage.gradients % 8 == 0 and 0 < usage.gradients < 80
    assert 80 < usage.forwards < 160
    learner.do_idle_work()
    assert learner.usage.gradients == usage.gradients + 50 * 8
    assert learner.usage.forwards == usage.forwards + len(learner._learner.replay)
