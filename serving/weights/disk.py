"""Copies on disk, in the spool's folder: the age of the last plan of a task, and its live weights.

    plan in the store --check--> refused if it is older than the last one --note--> last, FOLDER/plan-TASK.json
    live versions, their plan --save, every SAVE_S at most--> FOLDER/weights-TASK --load, once--> Loader, and the plan

**Age of the plan.** An attacker who can write to the store could replace the plan by an old one with a valid signature.
So the age of the last plan is noted on the disk, also for the next process. All replicas of a machine share the folder,
as they share the spool. A replica without a folder knows only the plans that it has followed itself.

**Weights.** A replica that starts while the store is unreachable uses the copies. Their signatures and digests are
verified as in the store. The age of the plan is not checked, because only plans that were followed are saved. As soon
as the store answers, the copies are no longer read.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from serving.errors import VersionRefused
from serving.models import is_older
from serving.weights.loader import Loader
from serving.weights.refusals import map_load_errors
from wire.errors import WireError
from wire.files import atomic_write
from wire.records import RolloutPlan
from wire.store.folder import FolderStore
from wire.tasks import DEFAULT

SAVE_S: Final = 5.0
"""Shortest time in seconds between two saves, and after a failed save."""

log = structlog.get_logger("swap")


class DiskCache:
    """The copy of a task's live weights on disk. Only the swap's thread calls it. Without a folder it does nothing."""

    def __init__(self, folder: FolderStore | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._is_loaded = False
        self._saved: RolloutPlan | None = None
        self._next_save_s = clock()

    def load(self, loader: Loader) -> RolloutPlan | None:
        """Loads the saved versions, and returns their plan. Later calls return None. Logs refused versions."""
        if self._folder is None or self._is_loaded:
            return None
        self._is_loaded = True
        try:
            with map_load_errors():
                plan = self._folder.plans.read()
        except VersionRefused as error:
            log.warning("cache_refused", version="plan", reason=error.reason, detail=error.detail)
            return None
        with loader.reading(self._folder):
            for number in plan.needed if plan else ():
                self._load(number, loader)
        return plan

    def save(self, plan: RolloutPlan, loader: Loader) -> None:
        """Saves the loaded versions under `plan`, unless they are saved already, or SAVE_S has not passed.

        Logs failures.
        """
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


MODE: Final = 0o600


class FollowedPlan:
    """The last plan of a task that this machine has followed. Only the swap's thread calls it."""

    def __init__(self, folder: str = "", task: str = DEFAULT, *, cache: DiskCache | None = None) -> None:
        """Reads the note in `folder` ("": nothing is read or written). `cache` has copies of the plan's versions."""
        self.task = task
        self.cache = cache or DiskCache()
        self._path = Path(folder) / f"plan-{task}.json" if folder else None
        self.last: RolloutPlan | None = self._read_note()
        """The last plan. A plan that an earlier process noted has no arms."""

    def check(self, plan: RolloutPlan) -> None:
        """Raises VersionRefused if `plan` is older than the last one."""
        if self.last is not None and is_older(plan, self.last):
            raise VersionRefused("old_plan", f"revision {plan.revision}, after {self.last.revision} was in force")

    def note(self, plan: RolloutPlan) -> None:
        """Notes that `plan` is followed. Logs a failure of the disk, and continues."""
        if plan == self.last:
            return
        self.last = plan
        noted = self._read_note()
        # Another replica of the machine may be ahead.
        if self._path is None or (noted is not None and is_older(plan, noted)):
            return
        # Without arms, the note has only the age of the plan, so it can never be followed itself.
        age = RolloutPlan(revision=plan.revision, salt=plan.salt, time_ms=plan.time_ms, arms=())
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._path, mode=MODE) as file:
                file.write(msgspec.json.encode(age))
        except OSError as error:
            log.warning("plan_not_noted", path=str(self._path), reason=str(error))

    def _read_note(self) -> RolloutPlan | None:
        """Returns the plan's age from the file; None if the file does not exist or cannot be decoded."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=RolloutPlan) if self._path else None
        except (OSError, msgspec.DecodeError):
            return None
