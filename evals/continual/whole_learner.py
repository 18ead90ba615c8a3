"""Adapts the service's learner as a contender: it gets answers and labels, and predicts as it would in the service.

    text, label --> Answer, Feedback --Learner--> a unit of slow work at a time --> Candidate --INT8--> class ids

Nothing depends on wall-clock time: a slow round that is due is finished before the next labels come, and the rehearsal
runs after the stream.
"""

import torch
from torch import Tensor

from evals.continual.contender import Contender, EncoderUse, Traits, Usage
from evals.streams.benchmark import Part, Texts
from learner.config import LearnerConfig
from learner.learner import Learner
from learner.release.candidate import Candidate, CandidateMaker
from learner.rounds.next_head import num_spliced
from learner.stopwatch import Stopwatch
from model.bert import load_encoder
from model.quantized import INT8
from rollout.publication_rule import verdict
from wire.inputs import decode_content
from wire.records import Answer, Feedback

BATCH = 32
"""The number of labels that the learner gets at once, as from one poll of the service."""

NUM_SOURCES = 5
"""The number of sources from which labels come in turn. It is enough for the learner to believe a concept change."""


class WholeLearner(Contender[Texts]):
    """The service's learner. Before the stream it gets answers to the `unlabelled` texts, which never get a label.

    It publishes a version after each part. By default the temperature and the precisions of the version are measured.
    If `in_fast_lane`, only the head is updated since the last version, as the service does between two full reviews.
    """

    def __init__(
        self,
        config: LearnerConfig,
        encoder: str,
        classes: tuple[str, ...],
        *,
        unlabelled: Texts | None = None,
        in_fast_lane: bool = False,
    ) -> None:
        is_trained = config.trainable_layers > 0
        encoder_use: EncoderUse = "trained" if is_trained else "frozen"
        self.traits = Traits(precision=INT8, encoder=encoder_use, uses_names=config.learn_names)
        self._learner = Learner(config, *load_encoder(encoder), rule=verdict)
        self._maker = CandidateMaker(config)
        self._classes = classes
        self._ids = {name: class_id for class_id, name in enumerate(classes)}
        self._is_full_review = not in_fast_lane
        self._num_events = 0
        self._last_round = 0
        self._gradients = 0
        self._forwards = 0
        self._live: Candidate | None = None
        self._learner.learn_many(
            [_answer(f"unlabelled-{number}", text) for number, text in enumerate(unlabelled or ())], {}
        )

    def learn_many(self, part: Part[Texts]) -> None:
        for batch in part.batches(BATCH):
            self._learner.learn_many(self._records(batch), {})
            self._forwards += len(batch)
            self._tick(is_idle=False)
            while self._learner.has_work:
                self._tick(is_idle=False)
        self._publish()

    def do_idle_work(self) -> bool:
        """Rehearses, and learns from unlabelled texts if the settings say so. Returns whether there was a round."""
        last_round = self._last_round
        while not self._learner.is_rested:
            self._tick(is_idle=True)
        if self._last_round == last_round:
            return False
        self._publish()
        return True

    def predict_many(self, inputs: Texts) -> Tensor:
        live = self._live
        if live is None or not live.version.classes:
            return torch.full((len(inputs),), -1)
        rows_N = live.version.head.logits(live.version.served.z_many(inputs), len(live.version.classes)).argmax(dim=1)
        return torch.tensor([self._ids[name] for name in live.version.classes])[rows_N]

    @property
    def usage(self) -> Usage:
        """Counts the samples in the replay memory and in the holdout, and the learner's work except on the holdout."""
        replay = self._learner.replay
        holdout = self._learner.knowledge.holdout.samples
        return Usage(
            samples=len(replay) + len(holdout),
            num_bytes=replay.num_bytes + holdout.num_bytes,
            gradients=self._gradients,
            forwards=self._forwards,
        )

    @property
    def num_concept_changes(self) -> int:
        """The number of concept changes that the learner has found."""
        return self._learner.counts["concept_changes"]

    def _tick(self, *, is_idle: bool) -> None:
        """Does one unit of slow work. When a round begins, its gradient steps and later encodings are counted.

        Raises DataError if the slow strategy fails, because the run would then measure another strategy.
        """
        learner = self._learner
        learner.tick(is_idle=is_idle)
        if learner.schedule.error is not None:
            raise learner.schedule.error
        begun = learner.knowledge.round
        if begun is not None and begun.trained is not None and begun.number != self._last_round:
            plan = begun.trained.plan
            self._last_round = plan.number
            self._gradients += sum(len(step.samples) for step in plan.steps)
            num_memory = len(learner.replay)
            num_encoded = num_memory
            # If the memory has dropped samples, the old and the new encoder encode the memory and spliced texts.
            if learner.fast_head.ridge.num_samples > num_memory:
                num_encoded = 2 * (num_memory + num_spliced(num_memory, learner.fast_head.served.config.head_features))
            self._forwards += len(plan.unlabelled) + num_encoded

    def _publish(self) -> None:
        self._live = self._maker.make(self._learner.knowledge, Stopwatch(), anew=self._is_full_review)
        self._maker.adopt(self._live, self._learner)

    def _records(self, batch: Part[Texts]) -> list[Answer | Feedback]:
        records: list[Answer | Feedback] = []
        for text, label in zip(batch.inputs, batch.labels_N.tolist(), strict=True):
            event_id = f"{self._num_events}"
            source = f"source {self._num_events % NUM_SOURCES}"
            self._num_events += 1
            records.append(_answer(event_id, text, time_ms=self._num_events))
            records.append(Feedback(event_id=event_id, label=self._classes[label], source=source))
        return records


def _answer(event_id: str, content: str, *, time_ms: int = 0) -> Answer:
    return Answer(
        event_id=event_id,
        **decode_content(content),
        label=None,
        score=0.0,
        weights_version=0,
        arm="stable",
        precision=INT8,
        rollout_revision=0,
        time_ms=time_ms,
    )
