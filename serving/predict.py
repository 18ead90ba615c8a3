"""Events and their token ids to answers, under one plan: a pure function of the weights.

    events --arm_for--> arm of each row --one forward for each encoder--> z_BD --each version's head--> Answer

Arms whose versions share the encoder object (only the head differs) and the precision share a forward: two arms cost as
much as one.

Shape suffixes: B texts of one encoder, D width, C classes, K best classes.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from torch import Tensor

from model.ragged import RaggedBatch
from serving.weights.active import ActiveVersions, Version
from wire.receipts import Receipts, Verdicts, name_hash
from wire.records import Answer, Arm, Event
from wire.rollout import arm_for

Scores = tuple[tuple[str, float], ...]


def predict_many(
    events: Sequence[Event],
    token_ids: Sequence[list[int]],
    live: ActiveVersions,
    precisions: Mapping[int, str],
    *,
    top_scores: int,
    receipts: Receipts,
    now_ms: Callable[[], int],
) -> list[Answer]:
    """Returns an answer for each event, in order, with its receipt. `token_ids[i]` are the tokens of `events[i]`, at
    least one.

    `precisions` has the precision of each version of `live`, by the version's number. `now_ms` is called when the
    scores are computed: that is the time of the answers.

    Raises BadTokens, and ValueError where the model returns a value that is not finite.
    """
    arms = [arm_for(event.entity, live.plan) for event in events]
    versions = [live.versions[arm.version] for arm in arms]
    scores: dict[int, Scores] = {}
    for rows in _grouped([(id(version.model.encoder), precisions[version.number]) for version in versions]):
        batch = RaggedBatch.of([token_ids[row] for row in rows])
        first = versions[rows[0]]
        z_BD = first.model.encoder.encode(batch, precisions[first.number])
        for indices in _grouped([versions[row].number for row in rows]):
            version_scores = _scores(z_BD[indices], versions[rows[indices[0]]], top_scores)
            scores.update(zip([rows[index] for index in indices], version_scores, strict=True))
    time_ms = now_ms()
    return [
        _answer(
            event,
            scores[row],
            live,
            arm=arms[row],
            precision=precisions[arms[row].version],
            receipts=receipts,
            time_ms=time_ms,
        )
        for row, event in enumerate(events)
    ]


def _grouped(keys: Sequence[Hashable]) -> list[list[int]]:
    """Returns the indices of equal keys, one list for each key."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return list(groups.values())


def _scores(z_BD: Tensor, version: Version, top_scores: int) -> list[Scores]:
    """Returns the best classes of each row with their probabilities, best first; none while no class is known."""
    labels = version.model.labels
    if not labels:
        return [()] * len(z_BD)
    probabilities_BC = torch.softmax(version.model.head.logits(z_BD, len(labels)), dim=1)
    values_BK, classes_BK = probabilities_BC.topk(min(top_scores, len(labels)), dim=1)
    if not torch.isfinite(values_BK).all():
        raise ValueError(f"version {version.number} gives a score that is not finite")
    scores: list[Scores] = []
    for classes, values in zip(classes_BK.tolist(), values_BK.tolist(), strict=True):
        names = [labels[index] for index in classes]
        scores.append(tuple(zip(names, values, strict=True)))
    return scores


def _answer(
    event: Event, scores: Scores, live: ActiveVersions, *, arm: Arm, precision: str, receipts: Receipts, time_ms: int
) -> Answer:
    label, score = scores[0] if scores else (None, 0.0)
    verdicts = Verdicts(arm.name, arm.version, ((arm.version, name_hash(label)),))
    return Answer(
        event_id=event.id,
        text=event.text,
        label=label,
        score=score,
        scores=scores,
        weights_version=arm.version,
        arm=arm.name,
        precision=precision,
        rollout_revision=live.plan.revision,
        key=event.key,
        source=event.source,
        event_time_ms=event.time_ms,
        time_ms=time_ms,
        receipt=receipts.of(event.id, time_ms=time_ms, entity=event.entity, verdicts=verdicts),
    )
