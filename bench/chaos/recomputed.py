"""Recomputes sampled answers and the published weights, and compares them with the service's, bit for bit.

    answers.v1 --one in SAMPLE_EVERY--> queue --manifest and blobs of the named version, from the store--> same answer?
    topics, lineage of the last version --rebuild--> a candidate in this process --differences--> names of tensors

Answers of a version that is no longer stored are not compared. The version was dropped, or it was in a tail that Redis
lost.

The weights are rebuilt by an undisturbed learner that reads the same topics. All tensors of a version are compared: the
head, and the blocks that slow rounds have trained. The rounds begin at the offsets that the version names. The
learner's windows are as large as the topics, because it reads one partition after the other.
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
from services.keys import key_ring
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

SAMPLE_EVERY = 101
"""One answer in this many is recomputed. The number is prime, so that answers over Kafka and over HTTP are sampled."""

MAX_WAITING = 16
POLL_S = 0.2

UNUSED = Receipts(b"attribution compares no receipts")


class Attribution:
    """Compares sampled answers with recomputed ones. The reader thread calls `offer`; a thread of its own compares."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._waiting = queue.Queue[Answer](MAX_WAITING)
        self._closed = threading.Event()
        self.num_same = 0
        self.differing: list[str] = []
        """The sampled answers that differ from the recomputed answer of the version that they name."""

    def offer(self, number: int, answer: Answer) -> None:
        """Takes the answer to event `number` if the event is in the sample and the queue has room."""
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
            again = recompute_answer(answer, loader, inputs, top_scores)
        except (VersionRefused, WireError):
            return
        if (again.label, again.scores) == (answer.label, answer.scores):
            self.num_same += 1
        else:
            answered = f"{answer.event_id} by version {answer.weights_version}: {answer.scores[:1]}"
            self.differing.append(f"{answered}, recomputed {again.scores[:1]}")


def recompute_answer(answer: Answer, loader: Loader, inputs: Inputs, top_scores: int) -> Answer:
    """Returns the answer of the stored version whose number `answer` names.

    Raises VersionRefused if the version is not stored, and StoreUnavailable.
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
    """Returns the names of the tensors of `published` that the undisturbed learner does not reproduce.

    If it cannot rebuild the version, returns the reason instead.
    """
    torch.set_num_threads(1)
    config = _with_unbounded_windows(settings.learner, sum(len(records) for records in topics.values()))
    ring = key_ring(settings)
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


def _with_unbounded_windows(config: LearnerConfig, num_records: int) -> LearnerConfig:
    return replace(config, pending_bytes=1 << 40, parked_bytes=1 << 40, remembered_ids=num_records)


def _reader(topics: Mapping[str, Partition]) -> ReadTo:
    """Returns a function that yields the new records of each partition up to given offsets, answers first."""
    read = dict.fromkeys(topics, 0)

    def read_to(offsets: Mapping[str, int]) -> Iterator[Sequence[Answer | Feedback]]:
        for name in sorted(topics):
            records = [record for offset, record in topics[name] if read[name] <= offset < offsets.get(name, 0)]
            read[name] = max(read[name], offsets.get(name, 0))
            yield records

    return read_to
