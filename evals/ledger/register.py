"""Lists the experiments of the ledger."""

from evals.ledger import (
    adaptive_precision,
    batching,
    head_pruning,
    layered_tuning,
    profiles,
    quantization,
    sharing,
    sparse_attention,
)

EXPERIMENTS = (
    sparse_attention.EXPERIMENT,
    sharing.EXPERIMENT,
    layered_tuning.EXPERIMENT,
    batching.EXPERIMENT,
    quantization.EXPERIMENT,
    profiles.EXPERIMENT,
    adaptive_precision.EXPERIMENT,
    head_pruning.EXPERIMENT,
)
