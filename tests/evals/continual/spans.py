"""Short streams, and the options of the runs on them."""

import torch
from torch import Tensor

from evals.continual.runner import RunChoice
from evals.streams.benchmark import Benchmark, Part
from evals.streams.stream import Stage
from learner.config import LearnerConfig

CHOICE = RunChoice(seed=0, buffer=0, passes=0.0, learner=LearnerConfig(), encoder="minilm-l6")


def make_stream(*spans: list[int]) -> Benchmark[Tensor]:
    """Returns a stream with these labels. Its only input carries no information."""
    parts = [Part(torch.zeros(len(labels), 1), torch.tensor(labels)) for labels in spans]
    stages = tuple(Stage(f"span {number}", part, part) for number, part in enumerate(parts))
    return Benchmark("labels", ("a", "b"), stages, is_ordered=True)
