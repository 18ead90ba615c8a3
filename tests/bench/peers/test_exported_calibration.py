"""The texts on which static quantization measures ranges."""

from bench.peers.exported import LONG, NUM_BATCHES, NUM_NATURAL, calibration_batches


def test_every_batch_is_one_text_and_the_long_lengths_are_there() -> None:
    shapes = [ids_BT.shape for ids_BT, _ in calibration_batches()]
    assert len(shapes) == NUM_BATCHES
    assert all(shape[0] == 1 for shape in shapes)
    assert [shape[1] for shape in shapes[NUM_NATURAL:]] == list(LONG)
