"""Measures the learner's speed: labels into the fast head on one core, and samples of slow steps on two.

    python -m bench.learner_pace

Prints, as JSON, on texts of CLINC150:

- the milliseconds to encode a label and add it to the sums of a fast head of 150 classes (batches of 16, one thread)
- the milliseconds to solve the head
- the samples a second of gradient steps on 32 samples (two threads), with the blocks that the settings train and with
  all blocks; steps of both kinds take turns
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median

import torch

from bench.harness.case import Run
from bench.harness.process import run_module
from bench.harness.texts import clinc150, first_items_per_class
from bench.harness.timing import elapsed_s
from evals.results.row import Peer, Row
from learner.config import LearnerConfig
from learner.encoder.base import with_own_top
from learner.learner import Learner
from learner.rounds.trainer import Trainer
from learner.samples import Labelled
from model.bert import load_encoder


def measure(run: Run) -> Iterator[Row]:
    # Without data this raises Skip. The program below would fail instead.
    clinc150()
    measured = run_module("bench.learner_pace")
    yield Row.of("learner_pace.fast_update", measured["fast_ms"], "ms/label", goal="<= 2")
    yield Row.of("learner_pace.solve", measured["solve_ms"], "ms/version")
    yield Row.of("learner_pace.slow_update", measured["slow_per_s"], "samples/s", goal=">= 150")
    yield Row.of(
        "learner_pace.slow_step",
        measured["slow_per_s"],
        "samples/s",
        peers=(Peer("all blocks trained", measured["full_per_s"]),),
        goal=">= 2x",
    )


PER_LABEL = 10
FAST_BATCH = 16
SLOW_BATCH = 32
ROUNDS = 12


def main() -> None:
    torch.set_num_threads(1)
    learner = Learner(LearnerConfig(), *load_encoder("minilm-l6"))
    known = [Labelled(item.text, item.label) for item in first_items_per_class(clinc150(), PER_LABEL).train]
    fast_head = learner.fast_head
    fast_head.admit_all([sample.label for sample in known])
    fast_head.learn_many(known)
    batches = [known[start : start + FAST_BATCH] for start in range(0, ROUNDS * FAST_BATCH, FAST_BATCH)]
    fast_s = median(elapsed_s(partial(fast_head.learn_many, batch)) for batch in batches)
    solve_s = median(elapsed_s(fast_head.ridge.solve) for _ in range(5))
    torch.set_num_threads(2)
    ours = _steps(learner, known, LearnerConfig().trainable_layers)
    full = _steps(learner, known, learner.knowledge.strata.config.n_layers)
    ours_times_s: list[float] = []
    full_times_s: list[float] = []
    for number in range(ROUNDS):
        ours_times_s.append(elapsed_s(partial(ours, number)))
        full_times_s.append(elapsed_s(partial(full, number)))
    ours_s = median(ours_times_s)
    full_s = median(full_times_s)
    measured = {
        "fast_ms": round(1e3 * fast_s / FAST_BATCH, 3),
        "solve_ms": round(1e3 * solve_s, 1),
        "slow_per_s": round(SLOW_BATCH / ours_s, 1),
        "full_per_s": round(SLOW_BATCH / full_s, 1),
    }
    print(json.dumps(measured))


def _steps(learner: Learner, known: Sequence[Labelled], layers: int) -> Callable[[int], object]:
    """Returns a function that runs step `number` of training the top `layers` blocks.

    A step runs the lower blocks in INT8, then forward, backward and update of the trained blocks.
    """
    first_layer = learner.knowledge.strata.config.n_layers - layers
    rows = {label: row for row, label in enumerate(learner.fast_head.ridge.classes)}
    trainer = Trainer(
        with_own_top(learner.knowledge.strata, first_layer),
        learner.fast_head.means(learner.fast_head.ridge.classes),
        parent=learner.knowledge.strata,
        first_layer=first_layer,
        num_steps=1_000,
        config=LearnerConfig(),
    )

    def step(number: int) -> object:
        batch = [known[(number * SLOW_BATCH + place * 7) % len(known)] for place in range(SLOW_BATCH)]
        x_TD, layout = learner.fast_head.served.prefix([sample.text for sample in batch], first_layer)
        rows_B = torch.tensor([rows[sample.label] for sample in batch])
        return trainer.step(x_TD, layout, rows_B, (SLOW_BATCH // 2, SLOW_BATCH - SLOW_BATCH // 2))

    step(0)
    return step


if __name__ == "__main__":
    main()
