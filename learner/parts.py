"""The windows and memories of a learner by its settings: empty, or as a checkpoint left them."""

from learner.config import LearnerConfig
from learner.drift import DriftState, DriftWatch
from learner.held_back import HeldBack
from learner.replay import Labelled, Replay, ReplayState

HELD_BACK_BYTES = 4 << 20
"""Bytes of text in the held-back samples."""


def drift_of(config: LearnerConfig, state: DriftState | None = None) -> DriftWatch:
    return DriftWatch(delta=config.drift_delta, state=state)


def replay_of(config: LearnerConfig, state: ReplayState[Labelled] | None = None) -> Replay[Labelled]:
    return Replay(
        config.replay_samples, config.replay_bytes, seed=config.seed, policy=config.replay_policy, state=state
    )


def held_back_of(config: LearnerConfig, state: ReplayState[Labelled] | None = None) -> HeldBack:
    return HeldBack(Replay(config.held_back_samples, HELD_BACK_BYTES, seed=config.seed + 1, state=state))
