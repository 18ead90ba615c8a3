"""What an overloaded replica may do that others may not."""

from serving.config import PrecisionConfig


def test_an_overloaded_replica_may_not_be_more_accurate_than_others() -> None:
    assert PrecisionConfig(max_accuracy_loss=0.01, brown_out_accuracy_loss=0.03).overloaded_accuracy_loss == 0.03
    assert PrecisionConfig(max_accuracy_loss=0.1, brown_out_accuracy_loss=0.03).overloaded_accuracy_loss == 0.1
