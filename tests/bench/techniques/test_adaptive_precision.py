"""Checks the policies of row E12; `tests/bench/harness/test_cases.py` runs the row."""

import pytest

from bench.techniques.adaptive_precision import FLOAT, RULE_ABOVE, Adaptive, by_length
from bench.techniques.virtual_time import Text
from model.quantized import INT4, INT8
from serving.models import LatencyTable, Version
from tests.serving.versions import make_model
from wire.records import PrecisionEvaluation


def text(num_tokens: int) -> Text:
    return Text(token_ids=[1] * num_tokens, label="x")


def test_the_rule_of_the_article_knows_the_longest_text_alone() -> None:
    assert by_length([text(3), text(RULE_ABOVE)], 0.0) == INT8
    assert by_length([text(3), text(RULE_ABOVE + 1)], 0.0) == FLOAT


@pytest.mark.parametrize(("accuracy", "small"), [(0.9, INT4), (0.8, INT8)])
def test_our_policy_takes_the_fastest_precision_that_is_accurate_enough(accuracy: float, small: str) -> None:
    table = LatencyTable((10, 100), {INT8: (2.0, 4.0), INT4: (1.0, 8.0)})
    evaluated = (PrecisionEvaluation(name=INT8, accuracy=0.9), PrecisionEvaluation(name=INT4, accuracy=accuracy))
    version = Version(number=1, model=make_model(1), precisions=evaluated, num_bytes=0, latency=table)
    policy = Adaptive(version)
    assert policy([text(10)], 0.0) == small
    assert policy([text(50), text(50)], 0.0) == INT8
