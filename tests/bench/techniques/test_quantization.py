"""Row E7: finer scales are more accurate, and progressive training ends in INT4."""

import torch

from bench.techniques.quantization import Case, _rounded, served
from bench.techniques.tasks import head_accuracy, ridge_head
from evals.streams.stream import StreamItem
from evals.streams.text_sets import TextSet
from lifelong.compress.distillation import DistillOptions
from model.grid import find_grid
from model.ragged import RaggedBatch
from tests.learner.small_learner import labelled, small_strata, tokenizer

ITEMS = [StreamItem(sample.text, sample.label) for sample in labelled(0, 40)]
BATCH = RaggedBatch.of(tokenizer().encode_many([item.text for item in ITEMS]))


def test_finer_scales_are_nearer_to_full_precision() -> None:
    strata = small_strata().requires_grad_(False)
    z_BD = strata(BATCH)
    cosines = [float((served(each)(BATCH) * z_BD).sum(dim=1).mean()) for _, each in _rounded(strata)]
    assert cosines == sorted(cosines)


def test_progressive_training_ends_in_int4() -> None:
    case = Case(
        teacher=small_strata().requires_grad_(False),
        tokenizer=tokenizer(),
        task=TextSet("small", ITEMS, ITEMS),
        options=DistillOptions(steps=4, batch=4, rate=1e-4, rounded=True),
        say=lambda text: None,
    )
    strata = case.progressive()
    grid = find_grid(strata.get_submodule("layers.0.up"))
    assert grid is not None
    assert grid.scheme == "w4g64"
    train_NR, test_NR = case.vectors(served(strata))
    assert torch.equal(train_NR, test_NR)
    assert head_accuracy(ridge_head(train_NR, case.task.train), test_NR, case.task.test) > 25
