import torch

from learner.fast.fast_head import MAX_ROWS, RowLog
from learner.samples import Labelled


def labelled(*labels: str) -> list[Labelled]:
    return [Labelled(f"about {label}", label) for label in labels]


def test_added_rows_are_taken_once() -> None:
    log = RowLog()
    log.add(torch.ones(2, 3), labelled("a", "b"))
    log.add(2 * torch.ones(1, 3), labelled("c"))
    rows = log.take(3)
    assert rows.phi_BR[:, 0].tolist() == [1, 1, 2] and rows.labels == ["a", "b", "c"] and rows.are_all
    assert rows.contents == ["about a", "about b", "about c"]
    assert log.take(3).labels == [] and log.take(3).are_all


def test_the_last_rows_are_kept_and_missing_rows_are_reported() -> None:
    log = RowLog()
    for number in range(MAX_ROWS + 40):
        log.add(torch.full((1, 3), number), labelled(str(number)))
    rows = log.take(3)
    assert not rows.are_all and rows.labels[-1] == str(MAX_ROWS + 39) and len(rows.labels) <= MAX_ROWS + 1
    log.add(torch.ones(2 * MAX_ROWS, 3), labelled("a") * 2 * MAX_ROWS)
    assert len(log.take(3).labels) == MAX_ROWS


def test_another_change_of_the_sums_clears_the_log() -> None:
    log = RowLog()
    log.add(torch.ones(2, 3), labelled("a", "b"))
    log.invalidate()
    log.add(torch.ones(1, 3), labelled("c"))
    rows = log.take(3)
    assert rows.labels == ["c"] and not rows.are_all


def test_samples_may_have_other_features_in_rebuilt_sums() -> None:
    log = RowLog()
    log.add(torch.ones(2, 3), labelled("a", "b"))
    log.add(torch.ones(1, 3), labelled("c"))
    again = log.encoded_again(lambda samples: torch.full((len(samples), 3), float(len(samples))))
    rows = again.take(3)
    assert rows.phi_BR[:, 0].tolist() == [2, 2, 1] and rows.labels == ["a", "b", "c"] and not rows.are_all
    assert log.take(3).are_all, "the log itself stays as it is"
