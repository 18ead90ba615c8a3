"""Settings of the model's thread that contradict each other are refused."""

import pytest

from serving.config import PrecisionConfig


def test_an_overloaded_replica_may_not_be_more_accurate_than_others() -> None:
    assert PrecisionConfig(max_accuracy_loss=0.01, brown_out_accuracy_loss=0.01).mode == "auto"
    with pytest.raises(ValueError, match=r"brown_out_accuracy_loss must not be below serving\.precision"):
        PrecisionConfig(max_accuracy_loss=0.02, brown_out_accuracy_loss=0.01)
