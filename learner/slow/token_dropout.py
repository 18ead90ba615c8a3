"""Leaves tokens out of training texts, others in every step, so that no class hangs on a single word.

Token dropout (Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods", section 2.3). By tokens and not
by words: not every language puts spaces between them.
"""

from collections.abc import Sequence

import numpy as np


def token_dropout(ids: Sequence[int], share: float, rng: np.random.Generator) -> list[int]:
    """The ids without about a `share` of those between the first and the last, each as likely to go.

    >>> token_dropout([101, 5, 6, 102], 1.0, np.random.default_rng(0))
    [101, 102]
    """
    stays_N = rng.random(len(ids)) >= share
    stays_N[[0, -1]] = True
    return [token for token, stays in zip(ids, stays_N.tolist(), strict=True) if stays]
