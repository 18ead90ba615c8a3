"""Computes measures of a matrix of accuracies. Row r is measured after stage r and has the stages 0..r, in percent."""

from collections.abc import Sequence

Row = tuple[float, ...]


def final_accuracy(matrix: Sequence[Row]) -> float:
    """Computes the mean over all stages at the end.

    >>> final_accuracy([(100.0,), (75.0, 100.0)])
    87.5
    """
    return sum(matrix[-1]) / len(matrix[-1])


def forgetting(matrix: Sequence[Row]) -> float:
    """Computes the points lost on the earlier stages: best accuracy ever minus the last, averaged; never negative.

    Chaudhry et al. 2018 (arXiv:1801.10112), equation 3, with the last row among the best.

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
    """Computes what later stages did to earlier ones: the last accuracy minus that when they were learnt, averaged.

    Lopez-Paz and Ranzato 2017 (arXiv:1706.08840), equation 3.

    >>> backward_transfer([(100.0,), (75.0, 100.0)])
    -25.0
    """
    if len(matrix) < 2:
        return 0.0
    last = matrix[-1]
    gained = [last[stage] - matrix[stage][stage] for stage in range(len(last) - 1)]
    return sum(gained) / len(gained)
