"""The tasks of the rows that compare encoders, and the head on top of each."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from bench.techniques.tasks import (
    FineTuning,
    TuningRecipe,
    fine_tune,
    labelled,
    load_tasks,
    served_encoder,
    task_accuracy,
)
from evals.results.row import Skip
from evals.streams.stream import StreamItem
from evals.streams.text_sets import TextSet
from lifelong.compress.heads import LabelledTexts, class_means
from model.bert import load_encoder
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Strata, encode_many
from model.tokenizer import TextTokenizer
from tests.bench.harness.two import make_run, two
from tests.lifelong.compress.members import TOKEN_IDS, dense_strata
from tests.services.members.small import CONFIG, tokenizer_json, write_small

TEXTS = LabelledTexts(TOKEN_IDS, torch.tensor([0, 1, 0, 1, 0, 1]))


def test_a_quick_run_has_the_carried_set_alone() -> None:
    (task,) = load_tasks(make_run(two(), is_quick=True), ("clinc150", "sst2"), train=10_000, test=10_000)
    assert task.name == "support"
    assert len(task.train) == 200


def test_a_run_without_the_data_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFELONG_DATA", str(tmp_path))
    with pytest.raises(Skip, match="snips"):
        load_tasks(make_run(two()), ("snips",), train=10, test=10)


def test_the_head_predicts_the_labels_that_it_learnt(tmp_path: Path) -> None:
    served = served_encoder(*load_encoder(write_small(tmp_path / "small")))
    items = [StreamItem("play the song", "music"), StreamItem("rain today", "weather")]
    assert task_accuracy(served, TextSet("x", items, items)) == 100
    assert task_accuracy(served, TextSet("x", items, [StreamItem("rain today", "music")])) == 0


def test_classes_have_the_rows_of_their_names_in_order() -> None:
    items = [StreamItem("play", "b"), StreamItem("stop", "a"), StreamItem("rain", "b")]
    texts = labelled(TextSet("x", items, items), TextTokenizer(tokenizer_json()), 2)
    assert texts.labels_B.tolist() == [1, 0]
    assert len(texts.token_ids) == 2


@torch.no_grad()
def margin(strata: Strata) -> float:
    """Returns the mean of a text's cosine to its own class minus its cosine to the other class."""
    z_BD = encode_many(strata, TOKEN_IDS, batch_size=8)
    cosines_BC = z_BD @ class_means(strata, TEXTS).t()
    own_B = cosines_BC.gather(1, TEXTS.labels_B[:, None]).squeeze(1)
    return float((2 * own_B - cosines_BC.sum(dim=1)).mean())


@pytest.mark.parametrize("first_layer", [None, 2])
def test_tuning_moves_the_chosen_layers_and_no_others(first_layer: int | None) -> None:
    strata = dense_strata(CONFIG)
    tuned = fine_tune(strata, TEXTS, TuningRecipe(first_layer=first_layer, num_passes=8, seed=0, rate=1e-3))
    assert margin(tuned) > margin(strata) + 0.01
    below = "layers.1.up.weight"
    assert torch.equal(tuned.get_parameter(below), strata.get_parameter(below)) == (first_layer == 2)


def test_frozen_modules_stay_and_inputs_may_come_from_elsewhere() -> None:
    strata = dense_strata(CONFIG)
    recipe = TuningRecipe(first_layer=2, num_passes=2, seed=0, rate=1e-3, frozen=("layers.2.qkv",), is_rounded=True)
    asked: list[int] = []

    def inputs(tuned: Strata, places: Sequence[int]) -> tuple[torch.Tensor, RaggedLayout]:
        asked.extend(places)
        batch = RaggedBatch.of([TOKEN_IDS[place] for place in places])
        return tuned.encode_prefix(batch, 2), batch.layout

    tuning = FineTuning(strata, TEXTS, recipe, inputs=inputs)
    for places in tuning.steps:
        tuning.step(places)
    assert sorted(asked) == sorted(2 * list(range(len(TOKEN_IDS))))
    before = strata.state_dict()
    moved = {name for name, value in tuning.strata.state_dict().items() if not value.equal(before[name])}
    assert "layers.2.up.weight" in moved
    assert not [name for name in moved if name.startswith(("embed.", "layers.0.", "layers.1.", "layers.2.qkv."))]
