"""A refusal needs a label to answer with."""

import pytest

from serving.config import RefusalConfig


def test_the_fallback_label_has_a_name() -> None:
    assert RefusalConfig().label == "none of these"
    with pytest.raises(ValueError, match=r"serving\.refusal\.label must have a name"):
        RefusalConfig(label=" ")
