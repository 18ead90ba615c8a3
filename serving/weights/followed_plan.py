"""The plan of a task that was followed last: also, in a file beside the spool, by a replica that has ended since.

    plan in the store --check--> older than the last one? refused : followed --note--> last, FOLDER/plan-TASK.json

Whoever may write to the store can put an old signed plan back. All replicas of a machine share the folder, as they
share the spool. A replica without one knows only the plans that it has followed itself.

Rejected: the revision alone (after a wipe of the store it begins anew, under another salt), and the whole plan (only
what tells its age is asked for).
"""

from pathlib import Path
from typing import Final

import msgspec
import structlog

from serving.errors import VersionRefused
from serving.weights.active import is_older
from serving.weights.disk_cache import DiskCache
from wire.files import atomic_write
from wire.records import RolloutPlan
from wire.tasks import DEFAULT

log = structlog.get_logger("swap")

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
