"""A state of each kind that releases before this one wrote, with its golden bytes beside it.

A format that changes keeps its golden file, under a name that says before what it was (`tallies.before_X.json`), and
gets a new one.
"""

from pathlib import Path

from learner.state.checkpoints import Entry
from rollout.comparison import ArmCountState, PairCountState
from rollout.judged_events import JudgedEvent, JudgedLabel
from rollout.statistics import PairedTally
from rollout.tallies import PlanKey, TalliesState
from services.backups import BackupFile, BackupManifest
from tests.learner.streams import sample
from wire.receipts import Verdicts
from wire.store.dump import StoredKey

GOLDEN = Path(__file__).parent / "golden"
CHECKPOINTS = Path(__file__).parents[2] / "learner" / "golden"

TALLIES = TalliesState(
    offsets={"answers.v1/0": 40, "feedback.v1/1": 7},
    seed=3,
    frame=PlanKey(salt="s", stable=7, candidate=9, reference=4, previous=6, share=0.25),
    sources=("crm",),
    candidate=PairCountState(since=2, groups=((0, PairedTally()),), settled_ms=5, waiting=((1, PairedTally()),)),
    arms=ArmCountState(since_ms=4, first=2),
    first_newer=1,
    first_of_chain=1,
    num_answers=40,
    last_number=7,
)
JUDGED = JudgedEvent(
    number=7,
    aliases=(1, 2, 3),
    label=JudgedLabel(
        verdicts=Verdicts("stable", 7, ((7, 11), (9, 12))), name=12, source="crm", answer_ms=5, number=7, entity=4
    ),
)
ENTRY = Entry(version=9, epoch=2, samples=[sample(is_correct=True), sample(is_correct=False)])
KEYS = [
    StoredKey("manifest:9", "hash", (b"body", b"{}", b"signature", b"s")),
    StoredKey("versions", "zset", (b"9", b"9")),
    StoredKey("current", "string", (b"9",)),
    StoredKey("history", "list", (b"{}",)),
]
BACKUP = BackupManifest(
    release="0.1.0",
    created_ms=1_764_000_000_000,
    prefix="lifelong:",
    current=9,
    versions=(7, 9),
    signers=("0123456789abcdef",),
    files=(BackupFile("store/keys.msgpack", 4, "a" * 64),),
)
