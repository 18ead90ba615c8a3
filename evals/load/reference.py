"""Makes the frozen encoder of the instant oracle (`evals/load/oracle.py`): the service's own, before it learns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evals.continual.frozen import frozen
from learner.config import LearnerConfig


@dataclass(frozen=True, slots=True)
class ReferenceEncoder:
    """An encoder that does not learn. `encode` returns unit vectors z_ND; `digest` names its weights."""

    encode: Callable[[Sequence[str]], Tensor]
    digest: str


def frozen_reference(config: LearnerConfig, encoder: str) -> ReferenceEncoder:
    """Returns the pretrained encoder in INT8, as replicas serve the first version. It takes seconds to make.

    The process computes with the learner's threads from then on: two threads that wait for each other at each of 30,000
    small products take minutes where other work runs beside them.
    """
    torch.set_num_threads(config.threads)
    made = frozen(config, encoder)
    return ReferenceEncoder(lambda texts: made.vectors(list(texts)), made.served.key)
