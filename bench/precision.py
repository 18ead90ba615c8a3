"""Measures the cost of quantization: the served encoder against full precision, on CLINC150's test texts.

    python -m bench.precision

Prints the accuracy under every precision, and the mean and the lowest cosine to the embeddings of full precision. Full
precision has a ridge head of its own. The served precisions share a head that was learnt in INT8, as in the service.
"""

import json
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bench.harness.case import Run
from bench.harness.process import run_module
from bench.harness.texts import clinc150, first_items_per_class
from bench.techniques.tasks import head_accuracy, ridge_head
from evals.results.row import Row
from evals.streams.stream import StreamItem
from learner.config import LearnerConfig
from learner.learner import Learner
from model.bert import load_encoder
from model.head import features, projection
from model.quantized import INT8, PRECISIONS
from model.strata import encode_many

MAX_LOSS = {"int8": 0.2, "int4": 0.5}
"""Precision -> the points of accuracy that it may lose against full precision."""


def measure(run: Run) -> Iterator[Row]:
    # Without data this raises Skip. The program below would fail instead.
    clinc150()
    measured = run_module("bench.precision")
    int8 = measured["int8"]
    int4 = measured["int4"]
    yield Row.of("precision.int8_cosine_mean", round(int8["mean"], 5), "", goal=">= 0.998")
    yield Row.of("precision.int8_cosine_min", round(int8["min"], 4), "", goal=">= 0.99")
    yield Row.of("precision.int4_cosine_mean", round(int4["mean"], 5), "")
    yield Row.of("precision.fp32_accuracy", round(measured["fp32"]["accuracy"], 2), "%")
    for name, most in MAX_LOSS.items():
        loss = round(measured["fp32"]["accuracy"] - measured[name]["accuracy"], 2)
        yield Row.of(f"precision.{name}_accuracy_loss", loss, "points", goal=f"<= {most}")


PER_LABEL = 30
"""The number of training texts of each label."""

BATCH = 64


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    config = LearnerConfig()
    learner = Learner(config, *load_encoder("minilm-l6"))
    stream = clinc150()
    train = first_items_per_class(stream, PER_LABEL).train
    test = stream.test_items
    served = learner.fast_head.served
    proj_RD = projection(learner.fast_head.served.config, seed=config.seed)

    def encode_full(items: Sequence[StreamItem]) -> Tensor:
        tokens = served.tokenizer.encode_many([item.text for item in items])
        return encode_many(learner.knowledge.strata, tokens, batch_size=BATCH)

    full_z_ND = encode_full(test)
    head = ridge_head(features(encode_full(train), proj_RD), train)
    measured = {"fp32": {"accuracy": head_accuracy(head, features(full_z_ND, proj_RD), test)}}
    head = ridge_head(served.features(served.z_many([item.text for item in train], INT8)), train)
    for name in PRECISIONS:
        z_ND = served.z_many([item.text for item in test], name)
        cosine_N = (z_ND * full_z_ND).sum(dim=1)
        accuracy = head_accuracy(head, served.features(z_ND), test)
        measured[name] = {"accuracy": accuracy, "mean": float(cosine_N.mean()), "min": float(cosine_N.min())}
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
