import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch

from learner.config import SlowStrategy
from learner.encoder.base import load_top, top_state, with_own_top
from learner.encoder.served import export_encoder
from learner.rounds.strategies import draws_per_step
from learner.rounds.trainer import Trainer
from model.grid import attach_grids
from model.qtensor import QTensor
from model.quantize import quantize_n8g64, quantize_w4g64
from model.strata import Strata
from tests.learner.small_learner import labelled, small_config, small_served, small_strata
from tests.learner.streams import TOPICS

SAMPLES = labelled(0, 20)
ROWS = torch.tensor([TOPICS.index(sample.label) for sample in SAMPLES])


SIZES = (10, 5, 5)
"""The numbers of fresh samples, and of samples in two draws from the replay buffer."""

MEANS = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))


def trainer(strata: Strata, changed: dict[str, float | str] | None = None, *, num_steps: int = 40) -> Trainer:
    config = small_config(**({"slow_rate": 1e-3} | (changed or {})))
    return Trainer(strata, MEANS, parent=small_strata(), first_layer=1, num_steps=num_steps, config=config)


def moved(changes: dict[str, float | str], *, first: int) -> float:
    """The mean squared change of the vectors of the samples from `first` on in twenty steps."""
    shadow = with_own_top(small_strata(), 1)
    served = small_served()
    it = trainer(shadow, changes)
    x_TD, layout = served.prefix([sample.text for sample in SAMPLES], 1)
    for _ in range(20):
        it.step(x_TD, layout, ROWS, SIZES)
    with torch.no_grad():
        before_BD = small_strata().forward_from(1, x_TD, layout)
        after_BD = shadow.forward_from(1, x_TD, layout)
    return float((after_BD - before_BD)[first:].square().mean())


@pytest.mark.parametrize("name", get_args(SlowStrategy))
def test_steps_lower_the_loss_and_change_only_the_top(name: SlowStrategy) -> None:
    published = small_strata()
    served = small_served()
    shadow = with_own_top(published, 1)
    it = trainer(shadow, {"slow_strategy": name, "slow_loss_q": 0.0})
    x_TD, layout = served.prefix([sample.text for sample in SAMPLES], 1)
    losses = [it.step(x_TD, layout, ROWS, SIZES) for _ in range(20)]
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(value, small_strata().state_dict()[name]) for name, value in published.state_dict().items())
    changed = served.with_top(export_encoder(shadow))
    assert {name for name in served.tensors if served.tensors[name].entry != changed.tensors[name].entry} == {
        f"layers.1.{part}" for part in ("qkv", "out", "up", "down", "vectors")
    }


@pytest.mark.parametrize("name", get_args(SlowStrategy))
def test_a_draw_from_an_empty_buffer_is_none(name: SlowStrategy) -> None:
    x_TD, layout = small_served().prefix([sample.text for sample in SAMPLES], 1)
    losses = []
    for num_draws in (0, draws_per_step(name)):
        it = trainer(with_own_top(small_strata(), 1), {"slow_strategy": name})
        losses.append(it.step(x_TD, layout, ROWS, (len(SAMPLES), *[0] * num_draws)))
    assert math.isfinite(losses[0])
    assert losses[0] == losses[1]


def test_the_rates_decay_to_zero() -> None:
    shadow = with_own_top(small_strata(), 1)
    it = trainer(shadow, num_steps=2)
    x_TD, layout = small_served().prefix([sample.text for sample in SAMPLES], 1)
    states = []
    for _ in range(3):
        it.step(x_TD, layout, ROWS, SIZES)
        states.append({name: value.clone() for name, value in top_state(shadow, 1).items()})
    assert any(not torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert all(torch.equal(value, states[2][name]) for name, value in states[1].items())


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    shadow = with_own_top(small_strata(), 1)
    it = trainer(shadow)
    before = {name: value.clone() for name, value in top_state(shadow, 1).items()}
    x_TD, layout = small_served().prefix([sample.text for sample in SAMPLES], 1)
    assert math.isnan(it.step(x_TD * 1e30, layout, ROWS, SIZES) - it.step(x_TD * 1e30, layout, ROWS, SIZES))
    assert all(torch.equal(value, before[name]) for name, value in top_state(shadow, 1).items())


def test_the_top_can_be_put_back() -> None:
    shadow = with_own_top(small_strata(), 1)
    other = small_strata()
    trainer(shadow).step(*small_served().prefix([sample.text for sample in SAMPLES], 1), ROWS, SIZES)
    load_top(other, top_state(shadow, 1))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in shadow.state_dict().items())


@pytest.mark.parametrize("quantize", [quantize_n8g64, quantize_w4g64], ids=["n8g64", "w4g64"])
def test_scales_are_trained_and_put_back(quantize: Callable[..., QTensor]) -> None:
    """The multipliers are kept, and the published weights are the trained weights: integers on the grid."""
    published = small_strata()
    names = [f"layers.1.{part}" for part in ("qkv", "out", "up", "down")]
    attach_grids(published, {name: quantize(name, published.get_parameter(f"{name}.weight")) for name in names})
    shadow = with_own_top(published, 1)
    it = trainer(shadow)
    for _ in range(3):
        it.step(*small_served().prefix([sample.text for sample in SAMPLES], 1), ROWS, SIZES)
    before, after = (export_encoder(each, first_layer=1) for each in (published, shadow))
    for name in names:
        old, new = (each[name].tensor.parts for each in (before, after))
        assert torch.equal(old["m"], new["m"])
        assert not torch.equal(old["hi"], new["hi"])
        assert shadow.get_submodule(name).get_parameter("grid.shift_N").abs().max() > 0
    restored = small_strata()
    load_top(restored, top_state(shadow, 1))
    assert {name: each.entry for name, each in export_encoder(restored, first_layer=1).items()} == {
        name: each.entry for name, each in after.items()
    }


def test_outputs_of_the_parent_keep_replayed_samples_in_place() -> None:
    assert moved({"slow_strategy": "der++"}, first=10) < moved({"slow_strategy": "naive"}, first=10)
    assert moved({"slow_strategy": "lwf"}, first=0) < 0.9 * moved({"slow_strategy": "naive"}, first=0)


def test_a_loss_that_is_robust_is_another_loss() -> None:
    losses = []
    for q in (0.0, 0.5):
        x_TD, layout = small_served().prefix([sample.text for sample in SAMPLES], 1)
        losses.append(trainer(with_own_top(small_strata(), 1), {"slow_loss_q": q}).step(x_TD, layout, ROWS, SIZES))
    assert losses[1] > 0
    assert losses[1] < losses[0]
    # The bound of the loss at q = 0.5.
    assert losses[1] <= 1 / 0.5
