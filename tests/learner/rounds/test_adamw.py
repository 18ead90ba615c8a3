"""Our AdamW gives the same bits as torch's own class, without importing torch's compiler."""

import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from learner.rounds.adamw import AdamW, ParameterGroup

IMPORTS = """
import sys
import torch
from learner.rounds.round import SlowRound
from learner.encoder.base import with_own_top
from learner.rounds.trainer import Trainer
from model.ragged import RaggedBatch
from tests.learner.small_learner import small_config, small_strata
strata = small_strata()
batch = RaggedBatch.of([[1, 2, 3], [4, 5]])
means = torch.eye(2, strata.config.d_model)
config = small_config(trainable_layers=1)
trainer = Trainer(with_own_top(strata, 1), means, parent=strata, first_layer=1, num_steps=2, config=config)
print(trainer.step(strata.encode_prefix(batch, 1), batch.layout, torch.tensor([0, 1]), [2]) > 0)
print("torch._dynamo" in sys.modules)
"""


@given(seed=st.integers(0, 1_000), num_steps=st.integers(1, 6), num_more=st.integers(0, 2))
def test_the_steps_are_those_of_torch(seed: int, num_steps: int, num_more: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((5, 3), (4,), (2, 2))]
    theirs = [nn.Parameter(each.detach().clone()) for each in ours]
    own_optimizer = AdamW(
        [ParameterGroup(ours[:2], rate=1e-2, decay=0.1), ParameterGroup(ours[2:], rate=1e-1, decay=0.0)],
        num_steps=num_steps,
    )
    groups = [
        {"params": theirs[:2], "lr": 1e-2, "weight_decay": 0.1},
        {"params": theirs[2:], "lr": 1e-1, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=num_steps)
    for _ in range(num_steps + num_more):
        own_optimizer.zero_grad()
        for own, other in zip(ours, theirs, strict=True):
            own.grad = torch.randn(own.shape, generator=generator)
            other.grad = own.grad.clone()
        own_optimizer.step()
        optimizer.step()
        schedule.step()
        assert all(torch.equal(own, other) for own, other in zip(ours, theirs, strict=True))
    own_optimizer.zero_grad()
    assert all(each.grad is None for each in ours)


def test_a_slow_step_does_not_import_the_compiler_of_torch() -> None:
    """The import took two seconds of each start of a learner."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "False"], done.stderr
