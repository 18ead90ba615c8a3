"""Computes again what the service has computed, and compares to the bit: sampled answers, and the published weights.

    answers.v1 --one in SAMPLE_EVERY--> queue --manifest, blobs of the named version, by the store--> the same answer?
    topics, lineage of the last version --rebuild--> a candidate in this process --differences--> names of tensors

A version that is no longer stored says nothing of its answers: it was dropped, or lay in the tail that Redis lost.

The weights are those of a learner that read the same topics and was not disturbed. All of a version is compared: the
head, and the blocks that slow rounds have trained. The rounds begin at the offsets that the version names. Its windows
are as large as the topics, since it reads one partition after the other.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import torch

from learner.config import LearnerConfig
from learner.learner import Learner
from learner.release.rebuild import NotRebuilt, ReadTo, differences, rebuild
from model.bert import load_encoder
from model.encoders import open_inputs
from model.packed import Inputs
from services.keys import ring_of
from services.programs import open_store
from services.settings import Settings
from serving.errors import VersionRefused
from serving.models import ActiveVersions
from serving.predict import predict_many
from serving.weights.loader import Loader
from wire.errors import WireError
from wire.keyring import subject_digest
from wire.receipts import Receipts
from wire.records import STABLE, Answer, Arm, Event, Feedback, RolloutPlan, WeightManifest

SAMPLE_EVERY = 100
"""One answer in so many is computed again."""

MAX_WAITING = 16
POLL_S = 0.2

UNUSED = Receipts(b"attribution compares no receipts")


class Attribution:
    """Owns what was compared. The reader of the answers offers; a thread of its own compares."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._waiting = queue.Queue[Answer](MAX_WAITING)
        self._closed = threading.Event()
        self.num_same = 0
        self.differing: list[str] = []
        """The answers that the version which they name does not give."""

    def offer(self, number: int, answer: Answer) -> None:
        """Takes the answer to an event of a number, if it is one of the sample and there is room."""
        if number % SAMPLE_EVERY == 0 and not self._waiting.full():
            self._waiting.put_nowait(answer)

    def run(self) -> None:
        """Compares.

        consumes: sampled answers, stored versions; produces: counts; waits for: an answer; unblocked by: it, `close`
        """
        torch.set_num_threads(1)
        while not self._closed.is_set():
            settings = self._settings()
            with closing(open_store(settings)) as store:
                inputs = open_inputs(settings.encoder, max_tokens=settings.serving.max_tokens)
                loader = Loader(
                    store,
                    inputs,
                    precision=settings.serving.precision,
                    probe_tolerance=settings.serving.probe_tolerance,
                    names_encodings=False,
                    refusal=settings.serving.refusal,
                )
                while self._settings().store == settings.store and not self._closed.is_set():
                    try:
                        answer = self._waiting.get(timeout=POLL_S)
                    except queue.Empty:
                        continue
                    self._compare(answer, loader, inputs, settings.serving.top_scores)

    def close(self) -> None:
        self._closed.set()

    def _compare(self, answer: Answer, loader: Loader, inputs: Inputs, top_scores: int) -> None:
        try:
            again = answered_again(answer, loader, inputs, top_scores)
        except (VersionRefused, WireError):
            return
        if (again.label, again.scores) == (answer.label, answer.scores):
            self.num_same += 1
        else:
            was = f"{answer.event_id} by version {answer.weights_version}: {answer.scores[:1]}"
            self.differing.append(f"{was}, and not {again.scores[:1]}")


def answered_again(answer: Answer, loader: Loader, inputs: Inputs, top_scores: int) -> Answer:
    """Returns the answer that the version gives which is stored now under the number that `answer` names.

    Raises VersionRefused where there is none, StoreUnavailable.
    """
    number = answer.weights_version
    version = loader.load(number)
    loader.keep([number])
    arms = (Arm(name=STABLE, version=number, share=1.0),)
    plan = RolloutPlan(revision=1, salt="", arms=arms)
    live = ActiveVersions(number=1, plan=plan, versions={number: version}, task=answer.task)
    event = Event(id=answer.event_id, text=answer.text, key=answer.key, features=answer.features)
    tokens = inputs.encode_many([answer.text], max_tokens=live.max_tokens)
    precisions = {number: answer.precision}
    (again,) = predict_many([event], tokens, live, precisions, top_scores=top_scores, receipts=UNUSED, now_ms=lambda: 0)
    return again


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
