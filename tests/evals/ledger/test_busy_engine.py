"""Checks that every text is answered while the engine's time is measured."""

from evals.ledger.busy_engine import busy_share
from tests.serving.versions import model_of, tokenizer


def test_the_share_is_one_of_the_time() -> None:
    share = busy_share(model_of(1), tokenizer(), ["where is my card", "close it"], seconds=0.05)
    assert 0 < share <= 1
