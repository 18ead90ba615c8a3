"""Warms the learner up: the first batch that is learnt and the first solve take ten times as long as the next ones.

    made-up samples of two classes --> a knowledge of its own --solve, requantize--> a candidate, which nobody gets

Libraries choose their kernels and allocate their memory at the first call. On two cores that time is taken from the
answers of the first seconds.

Rejected: warming up with the learner's own knowledge (what was learnt would have to be taken out again).
"""

from learner.config import LearnerConfig
from learner.labels.sample import Sample
from learner.learner import Learner
from learner.release.candidate import CandidateMaker
from learner.state.parts import drift_of
from learner.state.persistence import empty_knowledge
from learner.stopwatch import Stopwatch

NUM_ROUNDS = 2
"""Versions that are made: the first head is solved, the second one is updated."""

MOST_FEATURES = 4_096
"""A first solve of more takes seconds, warm or not."""

NUM_SAMPLES = 8
"""Samples of each round; one of them is in the holdout."""


def warm_up(config: LearnerConfig, learner: Learner) -> None:
    """Learns made-up texts beside what `learner` knows, which stays as it is.

    A learner whose encoder reads no text stays cold, and so does one of more than MOST_FEATURES.
    """
    base = learner.knowledge.base
    if not base.served.tokenizer.reads(_sample(0).text) or base.config.num_features > MOST_FEATURES:
        return
    known = empty_knowledge(base)
    drift = drift_of(config)
    maker = CandidateMaker(config)
    for number in range(NUM_ROUNDS):
        first = number * NUM_SAMPLES
        known.learn_many([_sample(first + offset) for offset in range(NUM_SAMPLES)], drift)
        maker.parent = maker.make(known, Stopwatch(), anew=False)
    base.served.forget_texts()


def _sample(number: int) -> Sample:
    return Sample(
        event_id=f"warm-up {number}",
        text=f"warm-up {number}",
        label=f"class {number % 2}",
        predicted_label=None,
        arm="",
        weights_version=0,
        feedback_time_ms=0,
        subject="",
        is_in_holdout=number % NUM_SAMPLES == 0,
    )
