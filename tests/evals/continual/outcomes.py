"""Outcomes of runs, for tests of tables and plots."""

import msgspec

from evals.continual.outcome import RunOutcome

OUTCOME = RunOutcome(
    data="made",
    split="test",
    strategy="er",
    seed=0,
    final_accuracy=90.0,
    final_accuracy_before_idle=88.0,
    forgetting=2.0,
    forgetting_before_idle=4.0,
    backward_transfer=-2.0,
    accuracy_matrix=((95.0,), (91.0, 89.0)),
    encoder="trained",
    precision="int8",
    uses_names=True,
    buffer_samples=1_200,
    buffer_bytes=2_048,
    gradients_per_item=1.5,
    forwards_per_item=3.25,
    ms_per_label=0.5,
    commit="abc",
)


def changed(**fields: object) -> RunOutcome:
    return msgspec.structs.replace(OUTCOME, **fields)
