"""The second domain of `lifelong demo --pretrain`: unlabelled texts move away, and the encoder is pretrained on them.

    the first stage of the stream, learnt and tested
    fillers of it                  --> latencies without a stage
    UNLABELLED clauses of contracts --> the program `domain` detects that the texts have moved, and trains a stage
    fillers until the decision     --> latencies while the stage trains
    labelled events of the first domain, by which the rollout judges the pretrained encoder
    SHOTS labels a class           --> the last stage of the stream, learnt and tested like the first
    the same labels, learnt by a head on the frozen encoder --> the accuracy without the stage

The clauses come from CUAD (`evals.streams.text_sets`). The fillers are the same texts at the same rate before and
during the stage, so the two latencies can be compared.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import torch

from evals.continual.frozen import ridge_on_frozen
from evals.load.ledger import FILLER, Ledger
from evals.load.player import MAX_OUTSTANDING, Player
from evals.load.score import percentiles
from evals.load.session import Participants, SessionOutcome
from evals.load.watcher import Watcher
from evals.streams.benchmark import Part, Texts
from evals.streams.stream import Arrival, Stage, Stream, StreamItem
from evals.streams.text_sets import CUAD, text_set
from learner.config import LearnerConfig
from services.demo.change import POLL_S
from services.members.domain import SOURCE, STATE, StageOptions
from services.members.texts import FOLDER
from services.settings import Settings
from wire.records import STABLE, CommandOutcome, EncoderOffer, WeightManifest
from wire.store import Store
from wire.timestamps import now_ms

UNLABELLED: Final = 5_000
UNLABELLED_RATE: Final = 100.0
"""Clauses a second."""

SHOTS: Final = 5
"""Labels of each class of the second domain."""

FILLER_RATE: Final = 50.0
QUIET_S: Final = 30.0
"""The seconds over which the latency is measured before the clauses come."""

JUDGED: Final = 2_000
"""Labelled events of the first domain after the decision."""

EXPECTED_S: Final = 900.0
"""Estimate: the second domain, from the first clause to the last test."""

REST_WITHIN_S: Final = 300.0
"""The longest wait until the learner is at rest after the first domain."""

STAGE_WITHIN_S: Final = 2_400.0
"""The longest wait for the learner's decision."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """The result of the second domain. Accuracies are in percent of test items, latencies in milliseconds.

    - `decision`: the state of the learner's decision about the encoder of the stage; None if there was none in time
    - `is_stable`: whether the stable version at the end has that encoder, so that it has answered the last test
    """

    decision: str | None
    is_stable: bool
    took_s: float
    """From the last clause until the decision."""
    accuracy: float
    """Of the second domain, at the end."""
    accuracy_frozen: float
    """The same, with the published encoder, which is never trained, and a head that has learnt the labels."""
    first_domain: float
    first_domain_before: float
    """Of the first domain, at the end, and before the clauses came."""
    latency_p99: float | None
    latency_p99_before: float | None

    @property
    def gain(self) -> float:
        return self.accuracy - self.accuracy_frozen

    @property
    def forgotten(self) -> float:
        return self.first_domain_before - self.first_domain

    def fields(self) -> dict[str, Any]:
        return asdict(self) | {"gain": round(self.gain, 2), "forgotten": round(self.forgotten, 2)}

    @property
    def lines(self) -> str:
        """The result for people."""
        return (
            f"the domain stage: {self.decision or 'not decided'} after {self.took_s:.0f} s; "
            f"{self.accuracy:.2f} % of the second domain right, {self.accuracy_frozen:.2f} % with the published "
            f"encoder ({self.gain:+.2f}); the first {self.first_domain_before:.2f} -> {self.first_domain:.2f} %; "
            f"the stable version {'has' if self.is_stable else 'does not have'} its encoder; "
            f"p99 {_shown(self.latency_p99_before)} ms before, {_shown(self.latency_p99)} ms while it trained"
        )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def two_domains(stream: Stream, data: Path | None, seed: int) -> Stream:
    """Returns a stream of two stages: all classes of `stream`, then at most SHOTS clauses of each class of CUAD.

    The items of each stage come in random order. `data` is the folder of data sets. Raises DataError.
    """
    contracts = text_set(CUAD, data)
    few = contracts.cut(train=SHOTS * len(contracts.labels), test=len(contracts.test), seed=seed)
    first = Stage(stream.name, tuple(stream.train_items), tuple(stream.test_items))
    second = Stage(contracts.name, tuple(few.train), tuple(few.test))
    return replace(stream, stages=(first, second), arrivals=()).shuffled(seed)


class SecondDomain:
    """Sends the unlabelled texts between the two stages of `stream` (`two_domains`), and measures what they bring.

    Verbs: during, result. Raises DataError if CUAD is missing.
    """

    def __init__(self, stream: Stream, settings: Settings, store: Store, *, say: Say) -> None:
        # Many clauses stand in several contracts.
        clauses = list({item.text: item for item in text_set(CUAD, settings.data).train}.values())
        self._stream = stream
        self._unlabelled = random.Random(settings.seed).sample(clauses, min(UNLABELLED, len(clauses)))
        self._fillers = cycle(stream.stages[0].train)
        self._store = store
        self._settings = settings
        self._say = say
        self._ledger: Ledger | None = None
        self._outcome: CommandOutcome | None = None
        # The lowest layer that the stage has trained, in the version that the learner made of it.
        self._layer: dict[str, str] = {}
        self._took_s = 0.0
        # Spans of the run, in seconds since its first event.
        self._quiet = self._training = (0.0, 0.0)

    @contextmanager
    def during(self, participants: Participants) -> Iterator[None]:
        """Sends the texts before the second stage of the run."""
        player = participants.player
        ledger = self._ledger = participants.ledger
        watcher = participants.watcher
        player.before_stage = lambda number: self._move(player, ledger, watcher) if number == 1 else None
        yield

    def result(self, outcome: SessionOutcome) -> Moved:
        """Returns the result of a run that has ended. This takes seconds: the frozen encoder learns the labels."""
        assert self._ledger is not None, "`during` comes first"
        ledger, settings = self._ledger, self._settings
        rows = outcome.figures.accuracy_by_stage
        quiet, training = (
            percentiles(ledger.latencies_ms(round=FILLER, since_s=since_s, until_s=until_s), 99)["p99"]
            for since_s, until_s in (self._quiet, self._training)
        )
        return Moved(
            decision=self._outcome.state if self._outcome else None,
            is_stable=bool(self._layer) and self._layer == self._stable_layer(),
            took_s=round(self._took_s, 1),
            accuracy=rows[1][1],
            accuracy_frozen=round(100 * frozen_accuracy(self._stream, settings.learner, settings.encoder), 2),
            first_domain=rows[1][0],
            first_domain_before=rows[0][0],
            latency_p99=training,
            latency_p99_before=quiet,
        )

    def _stable_layer(self) -> dict[str, str]:
        """Returns the digests of the lowest layer that a stage trains, in the stable version; {} if there is none."""
        plan = self._store.plans.read()
        stable = plan.arm(STABLE) if plan else None
        return lowest_trained(self._store.versions.manifest(stable.version)) if stable else {}

    def _move(self, player: Player, ledger: Ledger, watcher: Watcher) -> None:
        self._await_rest(player, watcher)
        began_s = _second(ledger)
        self._send(player, islice(self._fillers, int(QUIET_S * FILLER_RATE)), FILLER_RATE, stage=0)
        self._quiet = (began_s, _second(ledger))
        self._say(f"{len(self._unlabelled)} texts of another domain, without labels")
        self._send(player, self._unlabelled, UNLABELLED_RATE, stage=1)
        sent_s = _second(ledger)
        player.await_answers(at_most=0)
        self._training = self._await_decision(player, ledger)
        self._took_s = _second(ledger) - sent_s
        first = self._stream.stages[0]
        player.play(first.name, [Arrival(item, 0) for item in first.train[:JUDGED]], UNLABELLED_RATE)

    def _await_rest(self, player: Player, watcher: Watcher) -> None:
        """Sends fillers until the learner is at rest: a slow round would raise the latency of the quiet span."""
        deadline_s = time.monotonic() + REST_WITHIN_S
        while not watcher.snapshot().is_rested and time.monotonic() < deadline_s:
            self._send(player, islice(self._fillers, int(FILLER_RATE * POLL_S)), FILLER_RATE, stage=0)

    def _send(self, player: Player, items: Iterable[StreamItem], rate: float, *, stage: int) -> None:
        """Sends items as fillers, which have no labels and no scores, each at its time."""
        start_s = time.monotonic()
        start_ms = now_ms()
        for number, item in enumerate(items):
            time.sleep(max(0.0, start_s + number / rate - time.monotonic()))
            # If the sender falls behind, the delay is part of the latency.
            player.send(item, stage=stage, time_ms=start_ms + round(1000 * number / rate), round=FILLER)
        # Waits, and raises the errors of a service that has ended, only if too many events are unanswered.
        player.await_answers(at_most=MAX_OUTSTANDING)

    def _await_decision(self, player: Player, ledger: Ledger) -> tuple[float, float]:
        """Sends fillers until the learner has decided about the encoder of the stage. Returns the span of the stage."""
        begun = self._settings.state_dir / FOLDER / STATE
        deadline_s = time.monotonic() + STAGE_WITHIN_S
        begun_s: float | None = None
        per_poll = int(FILLER_RATE * POLL_S)
        while time.monotonic() < deadline_s:
            if begun_s is None and begun.exists():
                begun_s = _second(ledger)
                self._say("The texts have moved: the encoder is pretrained on them while it answers.")
            self._send(player, islice(self._fillers, per_poll), FILLER_RATE, stage=0)
            self._outcome = self._decision()
            if self._outcome is not None:
                if self._outcome.version:
                    self._layer = lowest_trained(self._store.versions.manifest(self._outcome.version))
                self._say(f"The learner has decided about the pretrained encoder: {self._outcome.state}.")
                return (0.0, 0.0) if begun_s is None else (begun_s, _second(ledger))
        self._say(f"No decision about a pretrained encoder in {STAGE_WITHIN_S:g} s; the run goes on.")
        return 0.0, 0.0

    def _decision(self) -> CommandOutcome | None:
        """Returns the final outcome of the offer of a stage; None while there is none."""
        for command in self._store.commands.read():
            if command.verb == EncoderOffer.VERB and command.source == SOURCE:
                outcome = self._store.commands.outcome(command)
                if outcome is not None and outcome.is_final:
                    return outcome
        return None


def lowest_trained(manifest: WeightManifest) -> dict[str, str]:
    """Returns the digests of the lowest layer that a stage trains. Slow rounds train only layers above it."""
    prefix = f"layers.{StageOptions().first_layer}."
    return {name: digest for name, digest in manifest.encoder_digests.items() if name.startswith(prefix)}


def _second(ledger: Ledger) -> float:
    """Returns the seconds since the first event of the run."""
    return (now_ms() - ledger.started_ms) / 1000


def frozen_accuracy(stream: Stream, config: LearnerConfig, encoder: str) -> float:
    """Returns the share of the last stage's test items that a head on the frozen encoder answers right.

    It has learnt all training items, also those that the service holds out.
    """
    number_of = {label: number for number, label in enumerate(sorted({item.label for item in stream.train_items}))}
    head = ridge_on_frozen(config, encoder, num_classes=len(number_of))

    def part(items: Sequence[StreamItem]) -> Part[Texts]:
        # A test item of an unknown class is never right.
        labels = [number_of.get(item.label, -1) for item in items]
        return Part([item.text for item in items], torch.tensor(labels))

    for stage in stream.stages:
        head.learn_many(part(stage.train))
    test = part(stream.stages[-1].test)
    return float((head.predict_many(test.inputs) == test.labels_N).double().mean())
