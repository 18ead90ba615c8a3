"""A short stream, and what every run is told."""

import torch
from torch import Tensor

from evals.continual.runner import RunChoice
from evals.streams.stage import Benchmark, Part, Stage
from learner.config import LearnerConfig

CHOICE = RunChoice(seed=0, buffer=None, learner=LearnerConfig(), encoder="minilm-l6")


def stream_of(*spans: list[int]) -> Benchmark[Tensor]:
    """A stream with these labels; its one input says nothing."""
    parts = [Part(torch.zeros(len(labels), 1), torch.tensor(labels)) for labels in spans]
    stages = tuple(Stage(f"span {number}", part, part) for number, part in enumerate(parts))
    return Benchmark("labels", ("a", "b"), stages, is_ordered=True)
