"""What the learner says of itself: for the page, the command line and the demo."""

from wire.records import Evaluation, Record


class LearnerReport(Record, frozen=True, kw_only=True):
    """Where the learner stands. `state`: standby, learning or stopped; `version` is the one it learns on from.

    `counts` holds the ends of labels by name (labels = matched + late + duplicate + orphan + refused_* + parked, and
    matched = learnt + held_back + over_capacity + set_aside), refusals of the gate (`gate_*`), slow rounds
    (`rounds_*`) and failures. `accuracy` is prequential: of given answers, before their label was learnt.
    `publish_ms` is the last publication, step by step.
    """

    learner: str
    state: str
    time_ms: int
    epoch: int = 0
    version: int = 0
    num_classes: int = 0
    num_published: int = 0
    counts: dict[str, int] = {}
    lag: int = 0
    accuracy: float = 0.0
    recent_accuracy: float = 0.0
    evaluation: Evaluation = Evaluation()
    replay_samples: int = 0
    held_back_samples: int = 0
    encoder_number: int = 0
    round_phase: str = ""
    round_progress: float = 0.0
    publish_ms: dict[str, float] = {}
    learn_ms_per_label: float = 0.0
