"""The bytes of a delta: none for equal tensors, and fewer on grids."""

from bench.techniques.quantization import delta_bytes, round_delta_bytes
from evals.streams.stream import StreamItem
from learner.encoder.served import export_encoder
from tests.learner.small_learner import labelled, small_config, small_strata, tokenizer

ITEMS = [StreamItem(sample.text, sample.label) for sample in labelled(0, 64)]


def test_equal_tensors_have_no_delta_worth_its_bytes() -> None:
    tensors = export_encoder(small_strata())
    total = sum(stored.entry.num_bytes for stored in tensors.values())
    assert delta_bytes(tensors, tensors) < 0.02 * total
    assert delta_bytes(tensors, export_encoder(small_strata(8))) > 0.5 * total


def test_a_round_on_grids_changes_fewer_bytes() -> None:
    config = small_config(trainable_layers=1, slow_rate=1e-4)
    strata = small_strata()
    on_grids, without = round_delta_bytes(strata, tokenizer(), ITEMS, config)
    assert 0 < on_grids < without
    assert all((value == small_strata().state_dict()[name]).all() for name, value in strata.state_dict().items())
