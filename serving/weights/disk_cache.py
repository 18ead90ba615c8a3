"""The weights that answer, in a folder beside the spool: for a replica that starts while the store is away.

    live versions, their plan --save, every SAVE_S at most--> FOLDER --load, once--> Loader, and the plan to answer by

Nothing is believed that the store would not be believed for: signatures and digests are verified as there. The age of
the plan is not, since only plans that were followed are saved. Once the store answers it alone is asked.

Rejected: a save of every version (learners publish several in a second), and files that are read although the store
answers (they save 30 ms of a start, and would be a second way to load).
"""

import time
from collections.abc import Callable
from typing import Final

import structlog

from serving.errors import VersionRefused
from serving.weights.loader import Loader
from serving.weights.refusals import refusing
from wire.errors import WireError
from wire.records import RolloutPlan
from wire.store import FolderStore

SAVE_S: Final = 5.0
"""Time between two saves, and after one that failed."""

log = structlog.get_logger("swap")


class DiskCache:
    """Belongs to the thread of one swap. Without a folder it does nothing. Verbs: load, save."""

    def __init__(self, folder: FolderStore | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._is_loaded = False
        self._saved: RolloutPlan | None = None
        self._next_save_s = clock()

    def load(self, loader: Loader) -> RolloutPlan | None:
        """Loads the versions that were saved; returns their plan, at the first call alone. Logs what is refused."""
        if self._folder is None or self._is_loaded:
            return None
        self._is_loaded = True
        try:
            with refusing():
                plan = self._folder.plans.read()
        except VersionRefused as error:
            log.warning("cache_refused", version="plan", reason=error.reason, detail=error.detail)
            return None
        with loader.reading(self._folder):
            for number in plan.needed if plan else ():
                self._load(number, loader)
        return plan

    def save(self, plan: RolloutPlan, loader: Loader) -> None:
        """Saves the loaded versions under `plan`, if they are not saved and it is time. Failures are logged."""
        if self._folder is None or plan == self._saved or self._clock() < self._next_save_s:
            return
        self._next_save_s = self._clock() + SAVE_S
        try:
            if self._folder.save(loader.manifests):
                self._saved = plan
        except (OSError, WireError) as error:
            log.warning("weights_not_cached", reason=str(error))

    def close(self) -> None:
        """Closes the connection to the store."""
        if self._folder is not None:
            self._folder.close()

    def _load(self, number: int, loader: Loader) -> None:
        try:
            loader.load(number)
        except VersionRefused as error:
            log.warning("cache_refused", version=number, reason=error.reason, detail=error.detail)
