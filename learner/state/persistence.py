"""Turns a learner into its snapshot, and a snapshot into what a learner knows, under the settings of now.

    learner --snapshot_of--> Snapshot --restore_knowledge--> Knowledge, and what is different from the settings of then

Both are each other's inverse, but for a slow round under way: it is begun again from its plan.
"""

from collections import Counter
from copy import copy
from typing import TYPE_CHECKING

from learner.export import ServedEncoder
from learner.fast.concept_changes import ConceptChanges
from learner.knowledge import Knowledge
from learner.labels.classes import backfill
from learner.progress import LearnerProgress
from learner.state.base_encoder import BaseEncoder
from learner.state.checkpoint import VersionState
from learner.state.lineage import end_round
from learner.state.origin import OriginDiff
from learner.state.parts import classes_of, drift_of, fast_head_of, fresh_of, hold_newest, holdout_of, replay_of
from learner.state.snapshot import MEANS, Facts, Snapshot
from model.features import SCALES
from wire.config import LabelConfig
from wire.label_set import LabelSet
from wire.records import Lineage, WeightManifest

if TYPE_CHECKING:
    from learner.learner import Learner


def empty_knowledge(base: BaseEncoder) -> Knowledge:
    """Returns what a learner knows before the first label."""
    config = base.config
    return Knowledge(
        config=config,
        base=base,
        progress=LearnerProgress(),
        counts=Counter(),
        strata=base.strata,
        fast_head=fast_head_of(config, base.served),
        classes=classes_of(config),
        replay=replay_of(config),
        holdout=holdout_of(config),
        fresh=fresh_of(config),
        concept_changes=ConceptChanges(config.trust.change_sources),
        labels=LabelSet(),
        lineage=Lineage(),
    )


def restore_knowledge(
    state: VersionState, base: BaseEncoder, labels: LabelConfig, *, like: ServedEncoder
) -> tuple[Knowledge, OriginDiff]:
    """Returns what was known in `state`, and what is different from the settings under which that was made.

    `base` is the encoder that the state stands on, under the settings of now. The result has its own progress and
    counts. `like` is served on where its weights are the same. A round under way is dropped where it trained another
    encoder. Raises StateRefused.
    """
    config = base.config
    snapshot = state.snapshot
    facts = snapshot.facts
    replay = replay_of(config, facts.replay)
    strata, fast_head, change = base.restore(snapshot, replay.samples(), like=like)
    known = Knowledge(
        config=config,
        base=base,
        progress=snapshot.progress,
        counts=Counter(facts.counts),
        strata=strata,
        fast_head=fast_head,
        classes=classes_of(config, backfill(facts.support, fast_head.ridge.num_by_class)),
        replay=replay,
        holdout=holdout_of(config, facts.holdout),
        fresh=fresh_of(config, facts.since_round),
        concept_changes=ConceptChanges(config.trust.change_sources, facts.concept_changes),
        labels=LabelSet.of(labels, facts.label_commands[: facts.labels_followed]),
        temperature=facts.temperature,
        anchor=None if change.is_rebuilt else facts.anchor,
        lineage=facts.lineage,
    )
    known.check_kind(labels.kind)
    held_none = "newest_z" not in snapshot.sums or not snapshot.sums["newest_z"].numel()
    is_filled = held_none and labels.kind == "class" and hold_newest(fast_head, replay)
    if is_filled and fast_head.ridge.num_samples > len(replay):
        known.break_lineage("the newest labels were taken from a memory that did not hold everything")
    if facts.round_plan is not None and (change.is_rebuilt or not config.trainable_layers):
        known.lineage = end_round(facts.lineage, is_adopted=False)
    elif facts.round_plan is not None:
        known.resume(facts.round_plan, snapshot.tensors[MEANS])
    known.learn_many(state.samples, drift_of(config))
    return known, change


def snapshot_of(learner: "Learner", pending: WeightManifest | None, *, epoch: int) -> Snapshot:
    """Returns everything that `learner` knows. `pending`: the version that it is about to be published as."""
    known = learner.knowledge
    trained = known.round.trained if known.round else None
    facts = Facts(
        epoch=epoch,
        version=learner.version,
        last_version=learner.last_version,
        pending=pending,
        origin=known.base.origin,
        adopted=known.base.adopted,
        offsets=learner.offsets,
        marks=dict(learner.marks),
        read_first=learner.read_first,
        classes=list(known.fast_head.ridge.classes),
        progress=copy(learner.progress),
        counts=dict(learner.counts),
        num_scored=learner.prequential.num_scored,
        num_correct=learner.prequential.num_correct,
        recent=list(learner.prequential.recent),
        temperature=known.temperature,
        anchor=known.anchor,
        join=learner.join.export(),
        trust=learner.trust.export(),
        letters=learner.letters.export(),
        support=known.classes.export(),
        replay=known.replay.export(),
        holdout=known.holdout.samples.export(),
        since_round=known.fresh.export(),
        concept_changes=known.concept_changes.export(),
        label_commands=learner.label_commands,
        labels_followed=known.labels.number,
        lineage=known.lineage,
        round_plan=trained.plan if trained else None,
        drift=learner.drift.export(),
        erased=learner.erased.export(),
    )
    means_CD = trained.means_CD if trained else None
    stored = known.fast_head.served.tensors.get(SCALES)
    scales = stored.tensor.parts if stored else {}
    return Snapshot.of(facts, sums=known.fast_head.export(), top=known.top, means_CD=means_CD, scales=scales)
