"""How the learner is bounded: windows, memory, pace, and what it refuses to publish."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

SlowStrategy: TypeAlias = Literal["naive", "er", "er-ace", "der++", "der-ace", "a-gem", "lwf"]
ReplayPolicy: TypeAlias = Literal["reservoir", "class-balanced", "experience-balanced"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardConfig:
    """Which labels are believed. By default whoever can write to the feedback topic is; forged receipts never are."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    require_receipts: bool = False
    """Whether a label without the receipt of its answer is refused."""
    receipt_max_age_s: float = 604_800.0
    """How long after its answer a label with a receipt may be said; as long as answers are kept."""
    source_labels_per_s: float = 0.0
    """Labels a second that one source may say, by the time of the answers that it labels. 0: no limit."""
    source_burst: int = 1_000
    """Labels that a source may say at once under that limit."""
    source_share: float = 1.0
    """Largest share of what is learnt that a source gets while it floods: set it where labels come from many. 1: all"""
    source_window: int = 2_000
    """Labels over which shares are taken."""
    max_sources: int = 1_000
    """Sources whose rate is remembered; the longest silent is forgotten first."""
    flip_alarm: bool = True
    """Whether labels that pile up against one class, or from one source as one class, are held."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerConfig:
    """The learner. Whatever grows with the stream has its bound here."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    state_dir: str = ".lifelong/learner"
    """Folder of the checkpoints. A standby on another machine needs the same folder."""
    seed: int = 0
    """Seed of the random features, of the replay memory and of the mini-batches."""
    threads: int = 1
    """CPU threads of the tensor library."""
    niceness: int = 10
    """Added to the priority number of the process: where both share a processor, answers go before learning."""

    lease_name: str = "learner"
    """Name of the lease in the store: one learner at a time holds it."""
    lease_ttl_ms: int = 5_000
    """A leader not heard of for this long loses the lease; it renews three times as often."""
    poll_timeout_ms: int = 50
    """How long an idle learner waits for records before it looks at the clock again."""
    retry_backoff_ms: int = 500
    """Pause after a failed write of a checkpoint or an unreachable store before it is tried again."""

    pending_answers: int = 20_000
    """Answers that wait for their label; the oldest expires first, and its label is then `late`."""
    pending_bytes: int = 16 << 20
    """Bytes of text, and of the keys of events, in the answers that wait."""
    parked_feedback: int = 10_000
    """Labels that wait for their answer; the oldest expires first, as an `orphan`."""
    remembered_ids: int = 100_000
    """Event ids remembered as already labelled, and as many as expired."""
    max_label_chars: int = 200
    """Longest label, in characters."""
    guard: GuardConfig = GuardConfig()
    """Labels that cannot be trusted."""
    label_capacity: int = 256
    """Rows of the head: a new class beyond it is refused."""

    learn_names: bool = True
    """Whether the words of a class's name are its first sample. Off where names are codes."""
    held_back_share: float = 0.04
    """Share of the labelled events that is never learnt, only measured on; chosen by the hash of the event id."""
    held_back_samples: int = 1_000
    """Held-back samples that are kept, the same number of every class."""
    replay_samples: int = 20_000
    """Samples of the replay memory."""
    replay_policy: ReplayPolicy = "class-balanced"
    """What has equal shares of it: every sample seen (`reservoir`), every class, or every stage between slow rounds."""
    replay_bytes: int = 16 << 20
    """Bytes of text, and of the keys of events, in the replay memory."""

    num_features: int = 2_048
    """Random features of the fast head (R): 94.3 % on CLINC150; 1024 gives 93.3 %, 4096 gives 95.0 %."""
    ridge: float = 0.01
    """Ridge penalty as a share of the mean diagonal of the feature sums of 30,000 samples or more."""

    trainable_layers: int = 2
    """Top blocks of the encoder that the slow tier trains. 0: the encoder stands still."""
    slow_every_labels: int = 500
    """Labels learnt between the starts of two slow rounds; a tenth of the replay memory where that is more."""
    slow_labels_per_step: int = 32
    """Labels for each gradient step of a round. Fewer cost more: a step of 32 samples takes about 60 ms of one core."""
    slow_batch: int = 32
    """Samples of a gradient step: half from the labels since the last round, half from the replay memory, or all from
    the labels under a strategy that does without the memory."""
    slow_strategy: SlowStrategy = "er"
    """How a step learns the new labels and does not forget the old; see learner/strategies/."""
    slow_loss_q: float = 0.5
    """0: cross-entropy. Towards 1, wrong labels pull less, and rare classes are learnt more slowly. CLINC150 with every
    fifth label wrong: see docs/benchmarks.md."""
    slow_token_dropout: float = 0.15
    """Share of its tokens that a text is trained without, others in every step."""
    slow_rate: float = 3e-4
    """Learning rate of the trainable blocks at the start of a round; the auxiliary head learns ten times as fast."""
    slow_weight_decay: float = 0.01
    """Decoupled weight decay of the trainable blocks."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    rehearse_after_s: float = 5.0
    """Time without a label after which the slow tier goes over its memory, if there are new labels. 0: never."""
    rehearsal_passes: int = 2
    """How often a rehearsal goes over the memory, and a round on texts without a label over these."""
    rehearsal_steps: int = 200
    """Fewest gradient steps of a rehearsal: a small memory is gone over more often."""
    learn_unlabelled: bool = True
    """Whether two more rounds train the encoder on answered texts that wait for a label, by guesses, where there are
    more of these than samples in memory. Few labels then go further: see docs/benchmarks.md."""
    rebuild_batch: int = 64
    """Texts that are encoded anew in one unit of work while the fast head is rebuilt."""

    drift_delta: float = 0.01
    """Significance at which ADWIN calls a rise of errors or distances drift. 0: drift is not looked for."""
    drift_min_labels: int = 100
    """Labels that a slow round needs after drift, where `slow_every_labels` would need more."""

    publish_interval_s: float = 1.0
    """Shortest time between two versions, but for the first after drift. Without new labels there is no new version."""
    probes: int = 4
    """Probe texts in a manifest."""
    parity_texts: int = 64
    """Texts on which the served precision is compared with full precision."""
    min_held_back: int = 50
    """Held-back samples without which accuracy refuses nothing."""
    accuracy_tolerance: float = 0.02
    """How much lower than its parent's or the anchor's the held-back accuracy of a version may be, in [0, 1]."""
    max_negative_flips: float = 0.05
    """Largest share of held-back samples that the parent named rightly and a version does not. CLINC150: up to 0.01."""
    max_head_update: float = 5.0
    """How far the head may move in one version, relative to its norm before. CLINC150: up to 0.9."""
    max_top_update: float = 0.5
    """How far the trained blocks may move in one version, relative to their norm before. CLINC150: up to 0.04."""
    max_refusals: int = 50
    """Refusals in a row after which the learner goes back to the published version and sets aside what it learnt."""
    min_parity_cosine: float = 0.98
    """Lowest mean cosine between the embeddings of the served precision and of full precision."""
    min_parity_agreement: float = 0.9
    """Lowest share of texts on which both precisions name the same class."""

    checkpoint_interval_s: float = 10.0
    """Time between two checkpoints where nothing is published; every version has one of its own."""
    checkpoints: int = 3
    """Newest checkpoints that are kept besides those of the versions that the rollout may return to."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.slow_loss_q <= 1.0:
            raise ValueError(f"slow_loss_q must be in [0, 1], not {self.slow_loss_q}")
        if not 0.0 <= self.slow_token_dropout < 1.0:
            raise ValueError(f"slow_token_dropout must be in [0, 1), not {self.slow_token_dropout}")
