"""The benchmark compares a learner with one that begins at the swap, and with one without a swap."""

from pathlib import Path

from bench import concept_change
from bench.concept_change import swap_names
from evals.continual.whole_learner import WholeLearner
from evals.streams.stream import Stage, Stream, StreamItem
from tests.learner.small_learner import save_encoder, small_config
from tests.learner.streams import label_of, make_text

ITEMS = tuple(StreamItem(make_text(number), label_of(number)) for number in range(400))
STREAM = Stream("small", (Stage("all", ITEMS[:340], ITEMS[340:]),))


def test_classes_that_swap_names_are_followed_and_stable_ones_stay(tmp_path: Path) -> None:
    swap = swap_names(STREAM, share=0.4, seed=0)
    encoder = save_encoder(tmp_path)
    config = small_config(trainable_layers=0)
    stable = swap_names(STREAM, share=0.0, seed=0)
    rows = concept_change.compare(swap, stable, lambda: WholeLearner(config, encoder, swap.classes))
    values = {row.name.removeprefix("concept_change."): row.calls[0].value for row in rows}
    assert values["false_changes"] == 0
    assert values["end.changed"] == 100 and values["end.behind_new"] == 0
    assert len(values) == 7
