import math

import torch

from learner.requantize import stored_encoder
from learner.tier import Trainer, load_top, top_state, with_own_top
from model.strata import Strata
from tests.learner.small import labelled, small_served, small_strata
from tests.learner.streams import TOPICS

SAMPLES = labelled(0, 20)
ROWS = torch.tensor([TOPICS.index(sample.label) for sample in SAMPLES])


def trainer(strata: Strata) -> Trainer:
    means = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    return Trainer(strata, means, first_layer=1, rate=1e-3, weight_decay=0.01, max_gradient_norm=1.0)


def test_steps_lower_the_loss_and_change_only_the_top() -> None:
    published, served = small_strata(), small_served()
    shadow = with_own_top(published, 1)
    it = trainer(shadow)
    x_TD, layout = served.prefix([sample.text for sample in SAMPLES], 1)
    losses = [it.step(x_TD, layout, ROWS) for _ in range(20)]
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(value, small_strata().state_dict()[name]) for name, value in published.state_dict().items())
    changed = served.with_top(stored_encoder(shadow))
    assert {name for name in served.tensors if served.tensors[name].entry != changed.tensors[name].entry} == {
        f"layers.1.{part}" for part in ("qkv", "out", "norm1", "up", "down", "norm2")
    }


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    shadow = with_own_top(small_strata(), 1)
    it, before = trainer(shadow), {name: value.clone() for name, value in top_state(shadow, 1).items()}
    x_TD, layout = small_served().prefix([sample.text for sample in SAMPLES], 1)
    assert math.isnan(it.step(x_TD * 1e30, layout, ROWS) - it.step(x_TD * 1e30, layout, ROWS))
    assert all(torch.equal(value, before[name]) for name, value in top_state(shadow, 1).items())


def test_the_top_can_be_put_back() -> None:
    shadow, other = with_own_top(small_strata(), 1), small_strata()
    trainer(shadow).step(*small_served().prefix([sample.text for sample in SAMPLES], 1), ROWS)
    load_top(other, top_state(shadow, 1))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in shadow.state_dict().items())
