"""The learner's progress: the numbers on which its decisions depend. Counters in reports decide nothing.

labels, rounds, erasures --> LearnerProgress --> which round is due, whether a version is due, where a journal ends
"""

from collections.abc import Sequence

import msgspec

from wire.inputs import has_more_than_text, is_encoded


class LearnerProgress(msgspec.Struct, kw_only=True):
    """The learner's progress, a part of its checkpoint. The learner owns it, and shares the object with its parts.

    num_labels           labels in the current knowledge
    num_effects          changes of the knowledge, by a label or otherwise; it never decreases
    num_breaks           changes other than by samples; a journal cannot express such a change, and ends before it
    num_rounds           slow rounds that have begun; it is the number of the last round, and the seed of the round
    num_pseudo_rounds    rounds on pseudo-labels among them
    round_at, rehearsed_at, pseudo_labelled_at
                         `num_labels` at the last round of each kind
    published_effects    `num_effects` of the current version; -1 before there is one
    standardised_at      `num_labels` when the scales of numbers were measured last (`learner.standardisation`)
    num_featured         labels of events that contain more than a text
    num_textless         labels of events that contain nothing that the encoder reads
    num_refused          candidates that the gate has refused since the last one passed
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
        """Counts labels that were learnt. `contents` are the contents of their events (`wire.inputs`)."""
        self.num_labels += len(contents)
        self.num_effects += len(contents)
        self.num_featured += sum(has_more_than_text(content) for content in contents)
        self.num_textless += sum(not is_encoded(content) for content in contents)

    @property
    def has_values(self) -> bool:
        """Whether any labelled event contained more than a text."""
        return self.num_featured > 0

    @property
    def has_encoded(self) -> bool:
        """Whether some labelled event has a text, or there is no label yet. Otherwise rounds have nothing to train."""
        return self.num_labels > self.num_textless or not self.num_labels

    def break_off(self) -> None:
        """Counts a change of the knowledge other than by samples."""
        self.num_effects += 1
        self.num_breaks += 1

    def go_back(self, known: "LearnerProgress") -> int:
        """Goes back to the progress `known` of an earlier state; returns the number of labels that are set aside."""
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
        """Copies all fields of `saved`."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(saved, name))
