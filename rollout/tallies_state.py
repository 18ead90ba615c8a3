"""What is kept of the tallies in the store, so that a controller that starts goes on from it.

Rejected: the records of their owners one by one (offsets and tallies are of one moment, or labels count twice).
"""

from rollout.arm_count import ArmCountState
from rollout.comparison import PairCountState, PairWatchState
from wire.records import CANDIDATE, LogMark, Record, RolloutPlan


class Frame(Record, frozen=True, kw_only=True):
    """The versions that are compared (0: none), and the candidate's share. After a wipe of the store `salt` differs."""

    salt: str = ""
    stable: int = 0
    candidate: int = 0
    reference: int = 0
    previous: int = 0
    share: float = 0.0

    @classmethod
    def of(cls, plan: RolloutPlan) -> "Frame":
        arm = plan.arm(CANDIDATE)
        names = ("salt", "stable", "candidate", "reference", "previous")
        return cls(share=arm.share if arm else 0.0, **{name: getattr(plan, name) for name in names})


class TalliesState(Record, frozen=True, kw_only=True):
    """All tallies, and the offsets below which every record is in them, with the marks of the logs there.

    `last_number` is that of the last label, and `seed` keys the hashes of the events that were judged.
    """

    offsets: dict[str, int] = {}
    marks: dict[str, LogMark] = {}
    seed: int = 0
    frame: Frame = Frame()
    sources: tuple[str, ...] = ()
    candidate: PairCountState = PairCountState()
    candidate_to_reference: PairCountState = PairCountState()
    audited: PairCountState = PairCountState()
    newest: PairCountState = PairCountState()
    overtaking: PairCountState = PairCountState()
    chain: PairCountState = PairCountState()
    chain_watch: PairWatchState = PairWatchState()
    stable_watch: PairWatchState = PairWatchState()
    arms: ArmCountState = ArmCountState()
    first_newer: int = 0
    first_of_chain: int = 0
    num_answers: int = 0
    last_number: int = 0
