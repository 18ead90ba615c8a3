"""The benchmark of many labels learns all of them through a real store, and its rows report each tenth."""

from pathlib import Path

from bench import million
from bench.harness.texts import joined_pairs
from bench.million import Extent, ManyLabels
from evals.streams.stream import Stage, Stream, StreamItem
from tests.learner.small_learner import save_encoder, small_config
from tests.learner.streams import label_of, make_text
from wire.store import Store

ITEMS = tuple(StreamItem(make_text(number), label_of(number)) for number in range(200))
STREAM = Stream("small", (Stage("all", ITEMS, ()),))


def test_every_tenth_is_learnt_published_and_written_down(store: Store, tmp_path: Path) -> None:
    size = Extent(labels=400, classes=8, texts=6, batch=20)
    items = joined_pairs(STREAM, size.classes, per_class=size.texts)
    assert len({item.label for item in items}) == 8 and len(items) <= 48
    folder = tmp_path / "learner"
    config = small_config(trainable_layers=0, checkpoint_interval_s=0.01)
    run = ManyLabels(store, folder, items, config, save_encoder(tmp_path))
    readings = list(run.learn(size, lambda: 5_000_000, lambda line: None))
    assert [reading.num_labels for reading in readings] == list(range(40, 440, 40))
    assert store.versions.current() >= sum(reading.num_versions for reading in readings) > 0
    assert readings[-1].accuracy > readings[0].accuracy
    rows = {row.name.removeprefix("million."): row.calls[0].value for row in million.rows(iter(readings))}
    assert rows["redis"] == 5 and rows["pace.last_tenth"] == readings[-1].thread_ms
    assert rows["accuracy.400_labels"] == readings[-1].accuracy
