"""What a replica keeps of a task on disk, beside the spool: the plan that it followed last, and weights that answer.

    plan in the store --check--> older than the last one? refused : followed --note--> last, FOLDER/plan-TASK.json
    live versions, their plan --save, every SAVE_S at most--> FOLDER/weights-TASK --load, once--> Loader, and the plan

Whoever may write to the store can put an old signed plan back, so the age of the last plan is noted, also for the next
process. All replicas of a machine share the folder, as they share the spool. A replica without one knows only the plans
that it has followed itself.

The weights are for a replica that starts while the store is away. Nothing is believed that the store would not be
believed for: signatures and digests are verified as there. The age of the plan is not, since only plans that were
followed are saved. Once the store answers it alone is asked.
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
from serving.weights.refusals import refusing
from wire.errors import WireError
from wire.files import atomic_write
from wire.records import RolloutPlan
from wire.store.folder import FolderStore
from wire.tasks import DEFAULT

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


MODE: Final = 0o600


class FollowedPlan:
    """Belongs to the thread of one swap. Verbs: check, note."""

    def __init__(self, folder: str = "", task: str = DEFAULT, *, cache: DiskCache | None = None) -> None:
        """Reads what was noted in `folder`; without one nothing is read or written. `cache` has its versions."""
        self.task = task
        self.cache = cache or DiskCache()
        self._path = Path(folder) / f"plan-{task}.json" if folder else None
        self.last: RolloutPlan | None = self._noted()
        """The last plan; that of a process before has no arms."""

    def check(self, plan: RolloutPlan) -> None:
        """Raises VersionRefused where `plan` was in force before the last one."""
        if self.last is not None and is_older(plan, self.last):
            raise VersionRefused("old_plan", f"revision {plan.revision}, after {self.last.revision} was in force")

    def note(self, plan: RolloutPlan) -> None:
        """Takes note that `plan` is followed. A disk that fails is logged, and the replica goes on."""
        if plan == self.last:
            return
        self.last = plan
        noted = self._noted()
        # Another replica of the machine may be ahead.
        if self._path is None or (noted is not None and is_older(plan, noted)):
            return
        age = RolloutPlan(revision=plan.revision, salt=plan.salt, time_ms=plan.time_ms, arms=())
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._path, mode=MODE) as file:
                file.write(msgspec.json.encode(age))
        except OSError as error:
            log.warning("plan_not_noted", path=str(self._path), reason=str(error))

    def _noted(self) -> RolloutPlan | None:
        """Returns what the file says; None where there is none, or none that can be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=RolloutPlan) if self._path else None
        except (OSError, msgspec.DecodeError):
            return None
