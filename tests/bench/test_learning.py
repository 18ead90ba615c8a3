"""The command's outcomes become rows whose calls are the seeds."""

from itertools import product

import pytest
from msgspec.structs import replace

from bench.harness.case import BadOption, Case, Run
from bench.learning import COMPARISONS, LearningCase, measure, outcomes, rows
from evals.continual.outcome import RunOutcome

RUN = RunOutcome(
    data="clinc150",
    split="test",
    strategy="lifelong",
    seed=0,
    final_accuracy=96.4,
    final_accuracy_before_idle=95.0,
    forgetting=0.4,
    forgetting_before_idle=0.9,
    backward_transfer=0.0,
    accuracy_matrix=((97.0,), (96.0, 97.0)),
    encoder="trained",
    precision="int8",
    uses_names=True,
    buffer_samples=15_000,
    buffer_bytes=600_000,
    gradients_per_item=2.7,
    forwards_per_item=9.8,
    ms_per_label=20.0,
    commit="b24c41f",
)


NAMES = ("lifelong", "ridge")


def runs(**changes: object) -> list[RunOutcome]:
    return [replace(RUN, strategy=name, seed=seed, **changes) for name, seed in product(NAMES, (0, 1))]


def test_a_row_has_a_call_for_each_seed_and_the_goal_of_its_strategy() -> None:
    found = {row.name: row for row in rows("all", COMPARISONS["all"], runs())}
    names = product(NAMES, ("accuracy", "forgetting"))
    assert list(found) == [f"learning.all.{strategy}.{measure}" for strategy, measure in names]
    accuracy = found["learning.all.lifelong.accuracy"]
    assert [call.value for call in accuracy.calls] == [96.4, 96.4]
    assert (accuracy.goal, accuracy.met) == (">= 96.3", True)
    assert "15000 samples kept" in accuracy.calls[0].note
    forgetting = found["learning.all.lifelong.forgetting"]
    assert (forgetting.goal, forgetting.met) == ("<= 0.3", False)
    assert found["learning.all.ridge.forgetting"].goal is None


def test_an_unknown_case_is_refused_with_the_names_of_all_cases() -> None:
    run = Run(case=Case("learning", measure), say=print, options={"cases": "all most"})
    with pytest.raises(BadOption, match="unknown cases most; the cases are all, "):
        next(measure(run))


def test_nothing_is_forgotten_in_a_single_stage() -> None:
    found = rows("5_shots", COMPARISONS["5_shots"], runs(accuracy_matrix=((90.0,),)))
    assert [row.name for row in found] == ["learning.5_shots.lifelong.accuracy", "learning.5_shots.ridge.accuracy"]


def test_the_command_is_run_with_the_options_of_the_case() -> None:
    support = LearningCase("support", ("--buffer", "0"), ("ncm",), {}, {})
    (found,) = outcomes(support, seeds=1)
    assert (found.data, found.strategy, found.seed) == ("support", "ncm", 0)
    assert found.final_accuracy > 50
