"""A replay buffer, a fast head and a holdout of the small stream, for the tests of slow rounds."""

from learner.fast.fast_head import FastHead
from learner.memory import Holdout, Replay, hash_key
from learner.samples import Labelled
from tests.learner.small_learner import labelled, small_served
from tests.learner.streams import TOPICS

SAMPLES = labelled(0, 90)


def fast_head() -> FastHead:
    fast_head = FastHead(small_served(), penalty=0.01)
    fast_head.admit_all(TOPICS)
    fast_head.learn_many(SAMPLES)
    return fast_head


def replay() -> Replay[Labelled]:
    memory = Replay[Labelled](1_000, 1 << 20, key_of=hash_key(0))
    memory.add(SAMPLES)
    return memory


def holdout() -> Holdout:
    memory = Holdout(Replay(100, 1 << 20, key_of=hash_key(1)))
    memory.add(labelled(100, 130))
    return memory
