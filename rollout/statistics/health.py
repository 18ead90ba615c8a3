"""Tests errors and latency of one version, whatever its accuracy.

After Lindon, Sanden and Shirikian, Rapid regression detection in software deployments through sequential testing (KDD
2022, arXiv 2205.14762): both tests may be looked at after every answer. Errors are tested by the likelihood ratio of
Wald's sequential probability ratio test (1945), latency by the sign test of `rollout.statistics.paired`.

Replicas count both (`VersionHealth`). Answers of one forward share its latency, so one of them is counted for all.
"""

import math
from typing import Final

from rollout.statistics.paired import PairedTally, log_e_above

TOLERATED_ERROR_RATE: Final = 0.0005
"""Share of answers that may fail. The share of 0.1 % would let 5 % of versions that fail in 1 % of answers through the
first 1,000 at an error probability of 1 %, and 11 % at one of 0.1 %."""

BAD_ERROR_RATE: Final = 0.01
"""Share of failing answers at which the test is aimed."""


def log_e_errors(errors: int, answers: int) -> float:
    """Returns the logarithm of E against "an answer fails with a chance of `TOLERATED_ERROR_RATE` at most"."""
    log_error = math.log(BAD_ERROR_RATE / TOLERATED_ERROR_RATE)
    log_success = math.log((1 - BAD_ERROR_RATE) / (1 - TOLERATED_ERROR_RATE))
    return errors * log_error + (answers - errors) * log_success


def log_e_slow(slow: int, answers: int) -> float:
    """Returns the logarithm of E against "an answer is slow with a chance of a half at most"."""
    return log_e_above(PairedTally(wins=slow, losses=answers - slow), 0.0)
