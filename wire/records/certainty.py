"""How certain a version is of texts of the classes that it knows: a part of its manifest."""

from wire.records.record import Record


class Certainty(Record, frozen=True, kw_only=True):
    """The free energies of `samples` holdout samples, none of which was learnt, and how often answers are wrong.

    The free energy of a text is the log of the sum of exp(logit / `temperature`) over the classes (0: nothing was
    measured). `quantiles[i]` is the one that a share of i / (n - 1) of the samples is below, where there are n of them.
    `risks[i]` is the upper 95 % bound of the share of wrong answers among texts at or above `quantiles[i]`.
    """

    temperature: float = 0.0
    quantiles: tuple[float, ...] = ()
    risks: tuple[float, ...] = ()
    samples: int = 0
