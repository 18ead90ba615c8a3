"""Compares the published weights with those of a learner that read the same topics and was not disturbed.

topics, lineage of the last version --rebuild--> a candidate in this process --differences--> names of tensors

The weights must be equal bit for bit. All of a version is compared: the head, and the blocks that slow rounds have
trained. The rounds begin at the offsets that the version names. Its windows are as large as the
topics, since it reads one partition after the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from learner.config import LearnerConfig
from learner.learner import Learner
from learner.release.rebuild import NotRebuilt, ReadTo, differences, rebuild
from model.bert import load_encoder
from services.keys import ring_of
from services.settings import Settings
from wire.receipts import Receipts
from wire.records import Answer, Feedback, WeightManifest
from wire.subjects import subject_digest

Partition = Sequence[tuple[int, Answer | Feedback]]
"""The records of one partition with their offsets, in order."""


def differing_tensors(settings: Settings, topics: Mapping[str, Partition], published: WeightManifest) -> list[str]:
    """Returns the tensors of `published` that the undisturbed learner does not reproduce, or why it has no weights."""
    torch.set_num_threads(1)
    config = _wide(settings.learner, sum(len(records) for records in topics.values()))
    ring = ring_of(settings)
    learner = Learner(
        config,
        *load_encoder(settings.encoder, max_tokens=settings.serving.max_tokens),
        receipts=Receipts(*ring.receipts),
        subject_digest=partial(subject_digest, ring.subject),
    )
    learner.names.draw_holdout_by(ring.holdout)
    try:
        candidate = rebuild(published, learner, config, _reader(topics))
    except NotRebuilt as error:
        return [str(error)]
    return differences(published, candidate)


def _wide(config: LearnerConfig, num_records: int) -> LearnerConfig:
    return replace(config, pending_bytes=1 << 40, parked_bytes=1 << 40, remembered_ids=num_records)


def _reader(topics: Mapping[str, Partition]) -> ReadTo:
    """Returns a function that yields the records of each partition up to given offsets, answers first."""
    read = dict.fromkeys(topics, 0)

    def read_to(offsets: Mapping[str, int]) -> Iterator[Sequence[Answer | Feedback]]:
        for name in sorted(topics):
            records = [record for offset, record in topics[name] if read[name] <= offset < offsets.get(name, 0)]
            read[name] = max(read[name], offsets.get(name, 0))
            yield records

    return read_to
