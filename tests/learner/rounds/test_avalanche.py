"""Slow rounds with strategies and plugins of Avalanche: they learn, do not forget, and are repeatable."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from learner.encoder.base import top_state
from learner.errors import DataError
from learner.rounds.avalanche import SHOWN, AvalancheTrainer, try_out
from learner.rounds.plan import RoundPlan, StepPlan, draw_plan, step_sizes
from learner.rounds.round import Phase, SlowRound, TrainedEncoder
from learner.samples import Labelled
from model.ragged import RaggedLayout
from tests.learner.rounds.rounds import SAMPLES, fast_head, holdout, replay
from tests.learner.small_learner import CONFIG, SMALL, small_learner, small_served, small_strata
from tests.learner.test_learner import fed, worked

NAMES = (
    "avalanche.training.supervised:EWC(ewc_lambda=0.4)",
    "avalanche.training.plugins.LwFPlugin(alpha=1.0, temperature=2.0)",
    "avalanche-naive",
    "avalanche-er-ace(batch_size_mem=4)",
    "avalanche-der(batch_size_mem=4)",
    "avalanche.training.plugins:AGEMPlugin(patterns_per_experience=20, sample_size=8)",
    "avalanche.training.plugins:MASPlugin",
    "avalanche.training.plugins:SynapticIntelligencePlugin(si_lambda=0.1)",
)

FAILS_LATER = """
from avalanche.training.plugins import SupervisedPlugin

class FailsLater(SupervisedPlugin):
    def __init__(self, num_steps):
        super().__init__()
        self.num_left = num_steps

    def before_training_iteration(self, strategy, **kwargs):
        if not self.num_left:
            raise RuntimeError("somebody else's mistake")
        self.num_left -= 1
"""


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The import path of a plugin that fails after `num_steps` steps, in a module as an operator would write it."""
    (tmp_path / "plugins_of_somebody.py").write_text(FAILS_LATER)
    monkeypatch.syspath_prepend(tmp_path)
    return "plugins_of_somebody:FailsLater"


def plan(*, steps: int = 12) -> RoundPlan:
    return draw_plan(1, SAMPLES[:10], replay(), steps=steps, sizes=step_sizes(8, 1), seed=0)


def begun(name: str, plan: RoundPlan) -> SlowRound:
    """A round of `plan` before its first step."""
    config = replace(SMALL, slow_strategy=name, slow_rate=1e-3, slow_loss_q=0.0)
    means_CD = fast_head().means(plan.labels)
    source = TrainedEncoder(plan, means_CD, small_served(), small_strata(), config=config)
    return SlowRound(source, fast_head(), replay(), holdout(), config=config)


def trained(name: str, plan: RoundPlan) -> TrainedEncoder:
    """The trained encoder of a round of `plan` after its last step."""
    slow_round = begun(name, plan)
    while slow_round.phase is Phase.TRAIN:
        slow_round.step()
    assert slow_round.trained is not None
    return slow_round.trained


def read_top(made: TrainedEncoder) -> dict[str, Tensor]:
    return top_state(made.strata, 1)


def moved(made: TrainedEncoder) -> float:
    """The squared norm of the change of the trained blocks in a round."""
    before = top_state(small_strata(), 1)
    return sum(float((value - before[name]).square().sum()) for name, value in read_top(made).items())


@pytest.mark.parametrize("name", NAMES)
def test_a_round_is_learnt_and_can_be_repeated_bit_for_bit(name: str) -> None:
    first = trained(name, plan())
    torch.manual_seed(17)
    again = trained(name, plan())
    assert first.losses == again.losses
    assert sum(first.losses[-3:]) < 0.9 * sum(first.losses[:3])
    assert all(torch.equal(value, read_top(again)[key]) for key, value in read_top(first).items())
    state = small_strata().state_dict()
    assert all(
        torch.equal(value, state[key]) for key, value in first.strata.state_dict().items() if "layers.1" not in key
    )


def test_the_plain_loop_takes_the_steps_of_our_replay() -> None:
    theirs = read_top(trained("avalanche-naive", plan()))
    ours = read_top(trained("er", plan()))
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())


def test_knowledge_from_before_the_round_restrains_the_weights() -> None:
    free = trained("avalanche-naive", plan())
    distilled = trained("avalanche-lwf(alpha=10.0, temperature=2.0)", plan())
    elastic = trained("avalanche-ewc(ewc_lambda=1e4)", plan())
    for held in (distilled, elastic):
        # No weight has changed yet.
        assert held.losses[0] == pytest.approx(free.losses[0], rel=1e-5)
    assert moved(distilled) < 0.8 * moved(free)
    # The second loss includes the penalty for the first step.
    assert elastic.losses[1] > 2 * free.losses[1]


def test_a_strategy_sees_a_bounded_number_of_samples_the_buffer_first() -> None:
    shown = list[list[Labelled]]()
    texts = [Labelled(f"text {number}", "ab"[number % 2]) for number in range(2 * SHOWN + 2)]
    many = RoundPlan(number=1, steps=[StepPlan(fresh=texts[: SHOWN + 1], draws=[texts[SHOWN + 1 :]])])

    def inputs(samples: Sequence[Labelled]) -> tuple[Tensor, RaggedLayout, Tensor]:
        shown.append(list(samples))
        rows_B = torch.tensor(["ab".index(sample.label) for sample in samples])
        return torch.ones(len(samples), CONFIG.d_model), RaggedLayout.of([1] * len(samples)), rows_B

    means_CD = torch.eye(2, CONFIG.d_model)
    config = replace(SMALL, slow_strategy="avalanche-naive")
    trainer = AvalancheTrainer(
        small_strata(), means_CD, first_layer=1, plan=many, inputs=inputs, max_tokens=1, config=config
    )
    trainer.step(*inputs(texts[:2]), (1, 1))
    assert shown[1:] == [texts[SHOWN + 1 : -1], texts[:SHOWN]]


@pytest.mark.parametrize(
    "name, message",
    [
        ("avalanche-ewc", r"avalanche-ewc needs ewc_lambda: say avalanche-ewc\(ewc_lambda=...\)"),
        ("avalanche-icarl(memory_size=10, fixed_memory=True)", "needs feature_extractor"),
        ("collections:Counter", "neither a strategy nor a plugin"),
        ("avalanche.training.nowhere:Nothing", "does not import"),
        ("avalanche.training.plugins:LFLPlugin(lambda_e=0.1)", "cannot learn a slow round: .*"),
    ],
)
def test_a_strategy_that_cannot_learn_a_round_is_refused(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        try_out(replace(SMALL, slow_strategy=name))


def test_every_exception_of_a_strategy_becomes_a_data_error(failing: str) -> None:
    name = f"{failing}(num_steps=3)"
    try_out(replace(SMALL, slow_strategy=name))
    slow_round = begun(name, plan())
    for _ in range(3):
        slow_round.step()
    with pytest.raises(DataError, match=r"FailsLater.* cannot learn a slow round: .*somebody else's mistake"):
        slow_round.step()


def test_a_strategy_that_fails_is_set_aside_and_labels_are_learnt_on(failing: str) -> None:
    """A strategy that passes `try_out` and fails in a later round once ended the learner, at each of its starts."""
    it = fed(small_learner(slow_strategy=f"{failing}(num_steps=5)", slow_labels_per_step=2), 0, 80)
    with capture_logs() as logs:
        worked(it)
    assert [entry["event"] for entry in logs] == ["slow_strategy_set_aside"]
    assert "somebody else's mistake" in logs[0]["reason"] and logs[0]["log_level"] == "error"
    served = it.fast_head.served
    before = it.counts["learnt"]
    worked(fed(it, 80, 160))
    assert it.counts["learnt"] > before and it.fast_head.ridge.num_samples == len(it.replay)
    assert (it.counts["rounds"], it.counts["strategies_failed"]) == (1, 1)
    assert it.is_rested and it.fast_head.served is served


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_that_learns_a_round_is_accepted(name: str) -> None:
    try_out(replace(SMALL, slow_strategy=name))
