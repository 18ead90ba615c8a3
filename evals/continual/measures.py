"""Computes measures of a matrix of accuracies in percent. Row r has the accuracies on stages 0..r after stage r."""

from collections.abc import Sequence

Row = tuple[float, ...]


def final_accuracy(matrix: Sequence[Row]) -> float:
    """Computes the mean over all stages at the end.

    >>> final_accuracy([(100.0,), (75.0, 100.0)])
    87.5
    """
    return sum(matrix[-1]) / len(matrix[-1])


def forgetting(matrix: Sequence[Row]) -> float:
    """Computes the mean loss on earlier stages: the best accuracy minus the last one. It is never negative.

    Chaudhry et al. 2018 (arXiv:1801.10112), equation 3, but the best accuracy may also be in the last row.

    >>> forgetting([(100.0,), (75.0, 100.0)])
    25.0
    """
    if len(matrix) < 2:
        return 0.0
    last = matrix[-1]
    lost = []
    for stage in range(len(last) - 1):
        best = max(row[stage] for row in matrix[stage:])
        lost.append(best - last[stage])
    return sum(lost) / len(lost)


def backward_transfer(matrix: Sequence[Row]) -> float:
    """Computes the mean change on earlier stages: the last accuracy minus the accuracy right after the stage.

    Lopez-Paz and Ranzato 2017 (arXiv:1706.08840), equation 3.

    >>> backward_transfer([(100.0,), (75.0, 100.0)])
    -25.0
    """
    if len(matrix) < 2:
        return 0.0
    last = matrix[-1]
    gained = [last[stage] - matrix[stage][stage] for stage in range(len(last) - 1)]
    return sum(gained) / len(gained)
