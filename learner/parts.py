"""The windows and memories of a learner by its settings: empty, or as a checkpoint left them."""

from learner.config import LearnerConfig
from learner.drift import DriftState, DriftWatch
from learner.guard import Guard, GuardState
from learner.held_back import HeldBack
from learner.join import Join, JoinState
from learner.replay import Labelled, Replay, ReplayState
from wire.receipts import Receipts

HELD_BACK_BYTES = 4 << 20
"""Bytes of text in the held-back samples."""


def guard_of(config: LearnerConfig, receipts: Receipts | None, state: GuardState | None = None) -> Guard:
    return Guard(config.guard, max_label_chars=config.max_label_chars, receipts=receipts, state=state)


def join_of(config: LearnerConfig, guard: Guard, state: JoinState | None = None) -> Join:
    return Join(
        pending_answers=config.pending_answers,
        pending_bytes=config.pending_bytes,
        parked_feedback=config.parked_feedback,
        remembered_ids=config.remembered_ids,
        held_back_share=config.held_back_share,
        guard=guard,
        state=state,
    )


def drift_of(config: LearnerConfig, state: DriftState | None = None) -> DriftWatch:
    return DriftWatch(delta=config.drift_delta, state=state)


def replay_of(config: LearnerConfig, state: ReplayState[Labelled] | None = None) -> Replay[Labelled]:
    return Replay(
        config.replay_samples, config.replay_bytes, seed=config.seed, policy=config.replay_policy, state=state
    )


def held_back_of(config: LearnerConfig, state: ReplayState[Labelled] | None = None) -> HeldBack:
    return HeldBack(Replay(config.held_back_samples, HELD_BACK_BYTES, seed=config.seed + 1, state=state))
