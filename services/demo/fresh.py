"""The settings of a service that has learnt nothing, in a folder and under prefixes of its own, which go in the end.

settings --fresh--> those of a run in STATE_DIR/demo-..., until its end --> the folder, its topics and keys are gone
"""

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from learner.errors import DataError
from services.demo.shared_servers import DEMO, FILE, note_servers, remove_abandoned, remove_from_servers, tell
from services.local.stack import LOGS
from services.running import LOCK
from services.settings import Settings, replaced
from wire.timestamps import now_ms


@contextmanager
def fresh(settings: Settings, *, say: Callable[[str], None] = print) -> Iterator[Settings]:
    """Yields settings under which nothing was learnt yet; removes their state folder, topics and keys in the end.

    The logs of a run that failed are retained. The next run removes everything of a run that was killed, and what could
    not be removed from servers, which is said.

    Test items are events without a label, so the learner must not learn from unlabelled events here.
    """
    remove_abandoned(settings, say=say)
    run = f"{DEMO}{now_ms():x}"
    folder = settings.state_dir / run
    changes = {
        "state_dir": folder,
        "serving.spool_dir": str(folder / "spool"),
        "learner.state_dir": str(folder / "learner"),
        "learner.checkpoint_url": "",
        "learner.learn_unlabelled": False,
        "bus.prefix": f"{settings.bus.prefix}{run}.",
        "store.prefix": f"{settings.store.prefix}{run}:",
    }
    own = replaced(settings, changes)
    note_servers(own)
    kept = {LOGS}
    try:
        yield own
        kept = set()
    except (KeyboardInterrupt, DataError):
        kept = set()
        raise
    finally:
        left = remove_from_servers(folder, own)
        _clear(folder, keep=kept | {LOCK, FILE} if left else kept)
        tell(left, say)


def _clear(folder: Path, *, keep: Collection[str]) -> None:
    """Removes the folder; where anything is to be kept, all else in it."""
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.glob("*"):
        if path.name in keep:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
