"""Compares learners by `lifelong bench learn`, and their results with the goals of the cases in this file.

COMPARISONS --lifelong bench learn --json--> a line for each strategy and seed --> rows whose calls are the seeds

A case takes minutes to half an hour. `--set cases="all no_memory"` measures some of them.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.harness.case import BadOption, Run
from bench.harness.process import module_output
from evals.continual.outcome import RunOutcome
from evals.results.row import Call, Goal, Row

LIMIT_S = 7200.0


@dataclass(frozen=True, slots=True)
class LearningCase:
    """A data set with the options of its command, and goals by strategy: the least accuracy and the most forgetting."""

    data: str
    options: tuple[str, ...]
    strategies: tuple[str, ...]
    accuracy: dict[str, float]
    forgetting: dict[str, float]


def _clinc150_case(*options: str, accuracy: float, forgetting: float) -> LearningCase:
    """Returns a case of CLINC150, domain by domain, compared with the exact head, which trains no encoder."""
    goals = ({"lifelong": accuracy}, {"lifelong": forgetting})
    return LearningCase("clinc150", options, ("lifelong", "ridge"), *goals)


def _split_mnist_case(buffer: int, *, published: float) -> LearningCase:
    """Returns a case of Split MNIST. DER++ must be within a point of the published accuracy, ours a point above it."""
    goals = {"der++": published - 1, "der-ace": published + 1}
    return LearningCase("split-mnist", ("--buffer", str(buffer)), tuple(goals), goals, {})


COMPARISONS = {
    "all": _clinc150_case(accuracy=96.3, forgetting=0.3),
    "no_memory": _clinc150_case("--buffer", "0", accuracy=94.9, forgetting=0.8),
    "3_of_each": _clinc150_case("--buffer", "450", accuracy=95.3, forgetting=0.8),
    "10_of_each": _clinc150_case("--buffer", "1500", accuracy=95.8, forgetting=0.8),
    "fifth_wrong": _clinc150_case("--flip", "0.2", accuracy=92.3, forgetting=0.8),
    "5_shots": LearningCase("clinc150-5-shot", (), ("lifelong", "ridge"), {"lifelong": 92.4}, {}),
    "10_shots": LearningCase("clinc150-10-shot", (), ("lifelong", "ridge"), {"lifelong": 94.2}, {}),
    "images_200": _split_mnist_case(200, published=85.61),
    "images_500": _split_mnist_case(500, published=91.0),
    "elec2": LearningCase("elec2", (), ("hedged-ridge", "arf", "no-change"), {"hedged-ridge": 90.0}, {}),
}
"""The cases by name. Without `--buffer` the memory has `learner.replay_samples`, which is all texts of CLINC150."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningSize:
    """The size of the benchmark."""

    cases: str = " ".join(COMPARISONS)
    seeds: int = 3


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(LearningSize())
    names = size.cases.split()
    if unknown := sorted(set(names) - COMPARISONS.keys()):
        raise BadOption(f"unknown cases {', '.join(unknown)}; the cases are {', '.join(COMPARISONS)}")
    for name in names:
        run.say(f"{name}: {', '.join(COMPARISONS[name].strategies)} ...")
        yield from rows(name, COMPARISONS[name], outcomes(COMPARISONS[name], size.seeds))


def outcomes(case: LearningCase, seeds: int) -> list[RunOutcome]:
    """Runs the command of a case; returns the outcome of each strategy and seed. Raises NoResult if it fails."""
    strategies = [word for name in case.strategies for word in ("--strategy", name)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.jsonl"
        command = ["bench", "learn", "--data", case.data, *case.options, *strategies, "--seeds", str(seeds)]
        module_output("services.cli", *command, "--json", str(path), limit_s=LIMIT_S)
        return msgspec.json.Decoder(RunOutcome).decode_lines(path.read_bytes())


def rows(name: str, case: LearningCase, runs: Sequence[RunOutcome]) -> Iterator[Row]:
    """Yields the rows of a case: the accuracy of each strategy, and its forgetting if there are several stages."""
    for strategy in case.strategies:
        own = [run for run in runs if run.strategy == strategy]
        accuracy = case.accuracy.get(strategy)
        goal = None if accuracy is None else Goal(">=", accuracy)
        calls = tuple(Call(value=run.final_accuracy, goal=goal, note=_note(run)) for run in own)
        yield Row(name=f"learning.{name}.{strategy}.accuracy", unit="%", calls=calls)
        if len(own[0].accuracy_matrix) > 1:
            forgetting = case.forgetting.get(strategy)
            goal = None if forgetting is None else Goal("<=", forgetting)
            calls = tuple(Call(value=run.forgetting, goal=goal) for run in own)
            yield Row(name=f"learning.{name}.{strategy}.forgetting", unit="points", calls=calls)


def _note(run: RunOutcome) -> str:
    return (
        f"seed {run.seed}, encoder {run.encoder}, {run.buffer_samples} samples kept, "
        f"{run.gradients_per_item:g} gradients and {run.forwards_per_item:g} forwards an item, "
        f"{run.ms_per_label:g} ms a label"
    )
