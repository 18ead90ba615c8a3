"""Makes the parts of a learner's state from its settings: empty, or restored from a checkpoint."""

from heapq import nlargest
from itertools import chain
from operator import attrgetter

from learner.config import LearnerConfig
from learner.drift import DriftState, DriftWatch
from learner.encoder.served import ServedEncoder
from learner.fast.fast_head import FastHead
from learner.fast.rows import Classes, ClassesState
from learner.memory import Holdout, Replay, ReplayState, hash_key
from learner.rounds.schedule import GROWTH
from learner.samples import Labelled
from model.heads import open_head

HOLDOUT_BYTES = 16 << 20
"""The most bytes of text in the holdout. 128 of the longest ASCII texts fit, more than `learner.min_holdout`."""


def make_fast_head(config: LearnerConfig, served: ServedEncoder) -> FastHead:
    """Returns an empty fast head. Raises WrongConfig if `learner.head` names no head."""
    return FastHead(served, penalty=config.ridge, num_recent=config.recent_labels, head=open_head(config.head))


def backfill_newest(head: FastHead, memory: Replay[Labelled]) -> bool:
    """Adds the newest labels of the replay buffer to a head that lacks them, after a restore from an older release.

    Returns whether any were added.
    """
    newest = head.recency.newest
    if len(newest.held(len(head.ridge.classes))[0]):
        return False
    by_class = [nlargest(newest.num_held, memory.of(label), key=attrgetter("time_ms")) for label in head.ridge.classes]
    samples = list(chain.from_iterable(by_class))
    if samples:
        rows_N = head.ridge.find_rows([sample.label for sample in samples])
        z_ND, _ = head.encode(samples)
        newest.add(z_ND, rows_N, [sample.time_ms for sample in samples])
    return bool(samples)


def make_classes(config: LearnerConfig, state: ClassesState | None = None) -> Classes:
    return Classes(config.label_capacity, min_labels=config.class_min_labels, state=state)


def make_drift_watch(config: LearnerConfig, state: DriftState | None = None) -> DriftWatch:
    return DriftWatch(delta=config.drift_delta, state=state)


def make_replay_buffer(config: LearnerConfig, state: ReplayState[Labelled] | None = None) -> Replay[Labelled]:
    return Replay(
        config.replay_samples,
        config.replay_bytes,
        key_of=hash_key(config.seed),
        policy=config.replay_policy,
        state=state,
    )


def make_holdout(config: LearnerConfig, state: ReplayState[Labelled] | None = None) -> Holdout:
    key_of = hash_key(config.seed + 1)
    return Holdout(Replay(config.holdout_samples, HOLDOUT_BYTES, key_of=key_of, state=state))


def make_fresh_buffer(config: LearnerConfig, state: ReplayState[Labelled] | None = None) -> Replay[Labelled]:
    """Makes the buffer of the samples since the last slow round. It has room for all samples until the next is due."""
    num = int(max(config.slow_every_labels, GROWTH * config.replay_samples))
    return Replay(num, config.replay_bytes, key_of=hash_key(config.seed + 2), policy="reservoir", state=state)
