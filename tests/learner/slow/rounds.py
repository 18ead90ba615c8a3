"""A memory, a tier and a holdout of the small stream, for the tests of slow rounds."""

from learner.fast.fast_head import FastHead
from learner.memory.holdout import Holdout
from learner.memory.replay import Labelled, Replay, hash_key
from tests.learner.small_learner import labelled, small_served
from tests.learner.streams import TOPICS

SAMPLES = labelled(0, 90)


def tier() -> FastHead:
    tier = FastHead(small_served(), ridge=0.01)
    tier.admit_all(TOPICS)
    tier.learn_many(SAMPLES)
    return tier


def replay() -> Replay[Labelled]:
    memory = Replay[Labelled](1_000, 1 << 20, key_of=hash_key(0))
    memory.add(SAMPLES)
    return memory


def holdout() -> Holdout:
    memory = Holdout(Replay(100, 1 << 20, key_of=hash_key(1)))
    memory.add(labelled(100, 130))
    return memory
