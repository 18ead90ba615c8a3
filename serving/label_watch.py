"""The set of labels as a replica knows it: the settings, and what operators did to it, as the store has it.

    LabelCommand, in the store --follow, in the swap's thread--> LabelSet --> labels by HTTP are refused, or taken

While the store is away, the set stays as it was: the learner refuses what it must not learn in any case.

Rejected: asking the store for each label (an outage of the store would end the labels by HTTP).
"""

import structlog

from wire.config import LabelConfig
from wire.errors import WireError
from wire.label_set import LabelSet
from wire.store import Store

log = structlog.get_logger("http")


class LabelWatch:
    """`labels` is replaced as a whole, so any thread may read it. One thread calls `follow`."""

    def __init__(self, store: Store, config: LabelConfig) -> None:
        self._store = store
        self._trouble = ""
        self.labels = LabelSet(config)

    def follow(self) -> None:
        """Reads the commands that are new. What cannot be read is logged once."""
        trouble = ""
        try:
            self.labels = self.labels.after_all(self._store.labels.requested(self.labels.number))
        except WireError as error:
            trouble = str(error)
        if trouble and trouble != self._trouble:
            log.warning("labels_not_read", error=trouble)
        self._trouble = trouble
