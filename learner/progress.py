"""How far the learner is: the numbers that it decides by. Counters count the same for reports, and decide nothing.

labels, rounds, erasures --> LearnerProgress --> which round is due, whether there is news, where a journal ends
"""

from collections.abc import Mapping, Sequence

import msgspec

from wire.inputs import has_more, is_encoded


class LearnerProgress(msgspec.Struct, kw_only=True):
    """The learner's progress, a part of its checkpoint. The learner owns it; all its parts share the one object.

    num_labels           labels in what is known now
    num_effects          how often knowledge has changed, by a label or otherwise; it never shrinks
    num_breaks           how often it has changed other than by samples: no journal leads past that
    num_rounds           slow rounds that have begun: the number of the last one, which seeds it
    num_pseudo_rounds    rounds on pseudo-labels among them
    round_at, rehearsed_at, pseudo_labelled_at
                         `num_labels` at the last round of each kind
    published_effects    `num_effects` of the current version; -1 before there is one
    standardised_at      `num_labels` when the scales of numbers were measured last (`learner.standardisation`)
    num_featured, num_textless
                         labels of events that say more than a text, and of those of which the encoder reads nothing
    num_refused          candidates that the gate has refused since it let one pass
    """

    num_labels: int = 0
    num_effects: int = 0
    num_breaks: int = 0
    num_rounds: int = 0
    num_pseudo_rounds: int = 0
    round_at: int = 0
    rehearsed_at: int = 0
    pseudo_labelled_at: int = 0
    published_effects: int = -1
    num_refused: int = 0
    standardised_at: int = 0
    num_featured: int = 0
    num_textless: int = 0

    def learn(self, contents: Sequence[str]) -> None:
        """Takes note of labels that were learnt, of events with these contents (`wire.inputs`)."""
        self.num_labels += len(contents)
        self.num_effects += len(contents)
        self.num_featured += sum(has_more(content) for content in contents)
        self.num_textless += sum(not is_encoded(content) for content in contents)

    @property
    def has_values(self) -> bool:
        """Whether any label was that of an event that says more than a text."""
        return self.num_featured > 0

    @property
    def has_encoded(self) -> bool:
        """Whether any label was that of an event that the encoder reads: without one nothing can be trained."""
        return self.num_labels > self.num_textless or not self.num_labels

    def break_off(self) -> None:
        """Takes note that knowledge has changed other than by samples."""
        self.num_effects += 1
        self.num_breaks += 1

    def go_back(self, known: "LearnerProgress") -> int:
        """Goes back to the labels and rounds of what was `known`; returns how many labels are set aside."""
        num_set_aside = self.num_labels - known.num_labels
        self.num_labels = known.num_labels
        self.round_at = known.round_at
        self.rehearsed_at = known.rehearsed_at
        self.pseudo_labelled_at = known.pseudo_labelled_at
        self.standardised_at = known.standardised_at
        self.num_featured = known.num_featured
        self.num_textless = known.num_textless
        self.num_breaks += 1
        return num_set_aside

    def restore(self, saved: "LearnerProgress") -> None:
        """Becomes equal to `saved`."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(saved, name))


def progress_of(counts: Mapping[str, int]) -> LearnerProgress:
    """Returns the progress of a checkpoint from before it was a record: then counters of these names held it."""
    num_breaks = sum(counts.get(name, 0) for name in ("set_aside", "rounds_adopted", "erasures", "migrations"))
    num_labels = counts.get("learnt", 0)
    return LearnerProgress(
        num_labels=num_labels,
        num_effects=num_labels + num_breaks,
        num_breaks=num_breaks,
        num_rounds=counts.get("rounds", 0),
        num_pseudo_rounds=counts.get("pseudo_label_rounds", 0),
        round_at=counts.get("round_at", 0),
        rehearsed_at=counts.get("rehearsed_at", 0),
        pseudo_labelled_at=counts.get("pseudo_labelled_at", 0),
        published_effects=counts.get("published_at", -1),
        num_refused=counts.get("gate_in_a_row", 0),
    )
