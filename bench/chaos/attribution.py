"""Computes sampled answers again from the stored blobs of the version that they name, and compares them to the bit.

    answers.v1 --one in SAMPLE_EVERY--> queue --manifest, blobs of the named version, by the store--> the same answer?

A version that is no longer stored says nothing: it was dropped, or lay in the tail that Redis lost.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import closing

import torch

from model.encoders import open_inputs
from model.packed import Inputs
from services.programs import open_store
from services.settings import Settings
from serving.errors import VersionRefused
from serving.predict import predict_many
from serving.refusal import Refusal
from serving.weights.active import ActiveVersions
from serving.weights.loader import Loader
from wire.errors import WireError
from wire.receipts import Receipts
from wire.records import STABLE, Answer, Arm, Event, RolloutPlan

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
                    refusal=Refusal(settings.serving.refusal),
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
