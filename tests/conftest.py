"""Loads the fixtures: real servers, one file per system. Property tests have no deadline.

Triton's interpreter must be asked for before any test imports Triton: libraries of the benchmarks do, too.
"""

import os

import hypothesis
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

pytest_plugins = ["tests.brokers", "tests.secure_brokers", "tests.stores", "tests.proxies"]
