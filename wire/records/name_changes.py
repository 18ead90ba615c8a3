"""What a version of the weights names differently from the reference of the rollout: a part of its manifest."""

from typing import Final

from wire.records.record import Record

MAX_NEW_CLASSES: Final = 64
"""The most new classes that a manifest names."""


class NewClass(Record, frozen=True, kw_only=True):
    """A class that the reference lacks: how many recent texts the version names so, and how many labels say so."""

    label: str
    texts: int
    labels: int


class NameChanges(Record, frozen=True, kw_only=True):
    """Recent texts as the version and the reference name them.

    `reference` is the version compared with (0: nothing was measured), and `texts` the number of texts. `between_old`
    counts changes between two classes that the reference knows, `to_new` those to a class that it lacks. `forgotten`
    counts the texts whose label the reference names, and the version does not; `lost` those whose label the version
    published before names, and it does not. `wins`, `ties` and `losses` compare the line of the version, the version
    published last at each time, with the reference on the labelled events since the reference was set, each before it
    was learnt: only the line was right, both alike, only the reference was right. `new_classes` are the classes that
    the reference lacks, those of most texts first, at most MAX_NEW_CLASSES. `labels` counts all labels of the time in
    which theirs were counted.

    A version with another encoder than the reference is compared with it on the holdout: `held_wins`, `held_ties` and
    `held_losses` count the holdout samples that only the version names rightly, both alike, and only the reference,
    each text once. Samples of classes that the reference lacks are left out: it names none of them, and the holdout has
    as many of each class, so with them a version that adds classes would be better whatever it forgets. `trial_wins`,
    `trial_ties` and `trial_losses` compare the encoder of the version with that of the reference on new labels, each
    before the head of either had learnt it. Then every other field but `reference` is 0. With the same encoder these
    fields are 0.
    """

    reference: int = 0
    texts: int = 0
    between_old: int = 0
    to_new: int = 0
    wins: int = 0
    ties: int = 0
    losses: int = 0
    new_classes: tuple[NewClass, ...] = ()
    labels: int = 0
    forgotten: int = 0
    lost: int = 0
    held_wins: int = 0
    held_ties: int = 0
    held_losses: int = 0
    trial_wins: int = 0
    trial_ties: int = 0
    trial_losses: int = 0
