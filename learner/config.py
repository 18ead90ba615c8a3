"""The settings of the learner: its windows and memories, its pace, and the limits of the gate."""

import re
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeAlias, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from wire.config import SECTION, TrustConfig, require
from wire.sections import INTERNAL, parse_json_setting

SlowStrategy: TypeAlias = Literal["naive", "er", "er-ace", "der++", "der-ace", "a-gem", "lwf"]

IMPORT_PATH = re.compile(
    r"(?P<path>avalanche-[\w-]+|[^\W\d]\w*(?:\.\w+)*(?::\w+|\.[A-Z]\w*))(?:\((?P<arguments>.*)\))?"
)
"""The path of a strategy or plugin of Avalanche, with its arguments; see `learner.rounds.avalanche`.

After a dot, the name of the class must begin with a capital letter. So `er.ace`, a misspelling of `er-ace`, is refused.
"""


def is_import_path(strategy: str) -> bool:
    """Returns whether the setting `slow_strategy` is an import path, not the name of a built-in strategy.

    >>> is_import_path("der++"), is_import_path("avalanche-replay"), is_import_path("my.own:Strategy")
    (False, True, True)
    """
    return "avalanche-" in strategy or ":" in strategy or "." in strategy


def _check_strategy(name: str) -> str:
    """Returns `name`. Raises ValueError if it is neither a built-in strategy nor an import path."""
    if name not in get_args(SlowStrategy) and not (is_import_path(name) and IMPORT_PATH.fullmatch(name)):
        names = ", ".join(get_args(SlowStrategy))
        raise ValueError(f"it is none of {names}, and no path such as avalanche.training.plugins:LwFPlugin(alpha=1.0)")
    return name


StrategyName: TypeAlias = Annotated[
    str,
    AfterValidator(_check_strategy),
    WithJsonSchema({"anyOf": [{"type": "string", "enum": [*get_args(SlowStrategy)]}, {"type": "string"}]}),
]
ReplayPolicy: TypeAlias = Literal["reservoir", "class-balanced", "experience-balanced"]

MIN_FEATURES, MAX_FEATURES = 16, 16_384
"""The bounds of `learner.num_features`, and of the number of features in an operator's offer of an encoder."""
MAX_SEED = (1 << 32) - 1
"""The largest seed that every random generator here accepts."""
Seed: TypeAlias = Annotated[int, Ge(0), Le(MAX_SEED)]
MIN_REPLAY_BYTES = 16 << 20
SAMPLE_BYTES = 838
"""The bytes of text and keys that the replay buffer may hold for each sample. In all it may hold at least
MIN_REPLAY_BYTES."""

NumLayers: TypeAlias = Annotated[int, Ge(0), Le(1_000)]
DeeperLayers: TypeAlias = Annotated[tuple[NumLayers, NumLayers], BeforeValidator(parse_json_setting)]
LeaseTtlMs: TypeAlias = Annotated[int, Ge(300), Le(600_000)]


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerConfig:
    """The settings of the learner. Everything that grows with the stream has its bound here."""

    __pydantic_config__ = SECTION

    state_dir: str = ""
    """Folder of the checkpoints. Default: `learner` in the state folder."""
    checkpoint_url: str = ""
    """Address to which the newest checkpoint is copied, so that a standby on another machine can continue from it:
    `file:///mnt/shared/learner`, or an address of any fsspec package, such as `s3://bucket/learner` (with s3fs), which
    takes its credentials from the environment. Empty: a standby needs the same `state_dir`."""
    seed: Annotated[Seed, INTERNAL] = 0
    """Seed of the random features, of the replay buffer and of the mini-batches."""
    threads: Annotated[int, Ge(1), Le(1_024)] = 1
    """Number of CPU threads with which the tensor library learns labels. Slow rounds use as many more. So does the
    helper thread, which encodes texts while many labels wait."""
    niceness: Annotated[int, Ge(0), Le(19), INTERNAL] = 10
    """Added to the nice value of the threads of slow rounds and of the helper thread, so that answers and labels have
    priority on a shared processor."""

    lease_name: Annotated[str, INTERNAL] = "learner"
    """Name of the lease in the store; one learner at a time holds it."""
    lease_ttl_ms: Annotated[LeaseTtlMs, INTERNAL] = 5_000
    """Lifetime of the lease. The leader renews the lease three times in this time. A leader that cannot renew it in
    time loses it."""
    poll_timeout_ms: Annotated[int, Ge(1), Le(1_000), INTERNAL] = 50
    """Longest time that one poll waits for records. An idle learner checks its timers after each poll."""
    retry_backoff_ms: Annotated[int, Ge(1), Le(60_000), INTERNAL] = 500
    """Pause before the learner retries a failed checkpoint or an unreachable store."""

    pending_bytes: Annotated[int, Ge(1 << 20), Le(1 << 40)] = 128 << 20
    """Bytes of memory for answers that wait for their label: texts, ids and keys, plus 400 for each answer. The oldest
    expires first, and its label is then `late`."""
    parked_bytes: Annotated[int, Ge(1 << 20), Le(1 << 40)] = 64 << 20
    """Bytes of memory for labels that wait for their answer, counted like `pending_bytes`. The oldest label expires
    first and is then an `orphan`."""
    remembered_ids: Annotated[int, Ge(1), Le(100_000_000), INTERNAL] = 100_000
    """Number of labelled events whose ids are remembered as hashes, and the number of expired events."""
    max_label_chars: Annotated[int, Ge(1), Le(10_000), INTERNAL] = 200
    """Longest label, in characters."""
    trust: TrustConfig = TrustConfig()
    """The checks that decide whether a label is trusted."""
    label_capacity: Annotated[int, Ge(2), Le(65_536)] = 16_384
    """Most classes. Memory, checkpoints and heads grow with the known classes only. At the limit, a new class replaces
    the provisional class with the fewest labels, once it has more labels than that class."""
    class_min_labels: Annotated[int, Ge(1), Le(100_000), INTERNAL] = 10
    """Number of labels from which on a class is never evicted from its row. With fewer labels it is provisional."""

    learn_names: bool = True
    """Whether the words of a class's name are learnt as the first sample of the class. Switch it off if the names are
    codes."""
    holdout_share: Annotated[float, Ge(0), Le(0.5)] = 0.08
    """Share of the labelled events that go to the holdout, which is only used for evaluation and never learnt. With a
    smaller holdout, fewer improvements of the encoder are large enough to be detected."""
    holdout_samples: Annotated[int, Ge(1), Le(1_000_000)] = 2_000
    """Number of holdout samples, balanced by class."""
    replay_samples: Annotated[int, Ge(0), Le(10_000_000)] = 20_000
    """Number of samples in the replay buffer. 0: no slow rounds. Texts and keys are bounded to 838 bytes for each
    sample, and to 16 MiB at least."""
    replay_policy: ReplayPolicy = "class-balanced"
    """The unit that gets an equal share of the replay buffer: every sample seen (`reservoir`), every class, or every
    experience, which lasts from one slow round to the next."""

    num_features: Annotated[int, Ge(MIN_FEATURES), Le(MAX_FEATURES)] = 2_048
    """Number of random features of the fast head (R). 2,048 give 94.3 % on CLINC150, 1,024 give 93.3 %, 4,096 give
    95.0 %."""
    ridge: Annotated[float, Gt(0), Le(1_000), INTERNAL] = 0.01
    """Ridge penalty as a share of the mean diagonal of the feature sums of 30,000 samples or more."""

    head: str = ""
    """Import path of your own head class, which makes weights from the sums of the samples, with its arguments:
    `mine:NearestMean(shrink=0.1)` (docs/own-model.md). Empty: the ridge head, which every label updates."""
    recent_labels: Annotated[int, Ge(0), Le(64)] = 8
    """Number of newest labels of each class that are kept to detect concept changes: if their mean predicts better than
    the mean of all labels, the concept of the class has changed. 0: no detection. All classes together keep at most
    16,384."""

    trainable_layers: Annotated[int, Ge(0), Le(1_000)] = 2
    """Number of top blocks of the encoder that slow rounds train: the task tier. 0: the encoder is frozen."""
    deeper_layers: DeeperLayers = (0, 0)
    """Numbers of top blocks that a round trains after a shift of the texts (the domain tier), and after a large shift
    (the base tier). 0: as many as the tier before."""
    slow_every_labels: Annotated[int, Ge(1), Le(100_000_000)] = 500
    """Number of labels between the starts of two slow rounds. The number is larger if a tenth of the replay buffer is
    larger, or if the buffer has dropped more samples from before the last round than this."""
    slow_labels_per_step: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 32
    """Number of labels for each gradient step of a round. Fewer labels cost more: a step of 32 samples takes about
    60 ms of one core."""
    slow_batch: Annotated[int, Ge(8), Le(65_536), INTERNAL] = 32
    """Batch size of a gradient step: half of the batch are labels since the last round, half are samples from the
    replay buffer. If the strategy does not use the buffer, all are labels since the last round."""
    slow_strategy: StrategyName = "er"
    """The continual-learning strategy of a gradient step (see learner/rounds/strategies.py), or the import path of your
    own `lifelong.Strategy`, or of a strategy or plugin of Avalanche, with its arguments:
    `avalanche.training.supervised:EWC(ewc_lambda=0.4)`."""
    slow_loss_q: Annotated[float, Ge(0), Le(1), INTERNAL] = 0.5
    """Exponent q of the generalized cross-entropy; 0 is cross-entropy. The closer it is to 1, the less influence have
    wrong labels, and the more slowly are rare classes learnt. docs/benchmarks.md has the accuracy on CLINC150 with
    every fifth label wrong."""
    slow_token_dropout: Annotated[float, Ge(0), Lt(1), INTERNAL] = 0.15
    """Share of the tokens of a text that each gradient step leaves out (token dropout)."""
    slow_rate: Annotated[float, Gt(0), Le(1)] = 3e-4
    """Learning rate of the trainable blocks at the start of a round; the auxiliary head learns ten times as fast."""
    slow_weight_decay: Annotated[float, Ge(0), Le(1), INTERNAL] = 0.01
    """Decoupled weight decay of the trainable blocks."""
    max_gradient_norm: Annotated[float, Gt(0), Le(1_000_000), INTERNAL] = 1.0
    """Gradients with a larger norm are clipped to this norm."""
    rehearse_after_s: Annotated[float, Ge(0), Le(86_400)] = 5.0
    """Time without a label after which a slow round rehearses the replay buffer, if there are new labels. 0: never."""
    rehearsal_passes: Annotated[int, Ge(1), Le(1_000), INTERNAL] = 2
    """Number of passes of a rehearsal over the replay buffer, and of a round on pseudo-labels over its texts."""
    rehearsal_steps: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 200
    """Smallest number of gradient steps of a rehearsal. A rehearsal passes over a small replay buffer more often to
    reach it."""
    learn_unlabelled: bool = True
    """Whether up to two slow rounds train the encoder on pseudo-labels: the model's own predictions for answered texts
    that wait for a label. Such a round needs at least twice as many of these texts as there are samples in the replay
    buffer. Improves accuracy with few labels: docs/benchmarks.md."""
    pseudo_label_texts: Annotated[int, Ge(1), Le(10_000_000), INTERNAL] = 20_000
    """Most texts of a round on pseudo-labels. The round takes the newest texts that wait for a label."""
    trial_labels: Annotated[int, Ge(0), Le(100_000_000), INTERNAL] = 1_000
    """Most labels of a trial. If the holdout is too small to decide, a trial compares the new encoder of a round with
    the current one on the next labels. An encoder that is not better after this many labels is dropped. 0: no trials.
    """
    rebuild_batch: Annotated[int, Ge(1), Le(65_536), INTERNAL] = 64
    """Number of texts that are encoded in one unit of work while the fast head is learnt again under a new encoder."""

    drift_delta: Annotated[float, Ge(0), Lt(1)] = 0.01
    """Significance at which ADWIN reports a rise of errors or distances as drift. 0: drift is not detected."""
    drift_min_labels: Annotated[int, Ge(1), Le(100_000_000), INTERNAL] = 100
    """Number of labels between two slow rounds if drift was detected. It then replaces `slow_every_labels`."""

    publish_interval_s: Annotated[float, Ge(0), Le(86_400)] = 0.2
    """Shortest time between two versions, except for the first one after drift. Without new labels there is no new
    version. Making a version takes about 30 ms of one core, or seconds with thousands of classes. The pause is longer
    if versions would otherwise take more than a third of the learner's time."""
    verify_blobs_every_s: Annotated[float, Ge(0), Le(31_536_000), INTERNAL] = 3_600.0
    """Time between two checks that read all weights of the current version back from the store and rewrite damaged
    ones. 0: only weights that a replica reports as damaged are checked."""
    probes: Annotated[int, Ge(1), Le(1_000), INTERNAL] = 4
    """Number of probe texts in a manifest. A replica answers them, and compares the answers, before it serves a
    version."""
    parity_texts: Annotated[int, Ge(1), Le(100_000), INTERNAL] = 64
    """Number of texts on which the served precision is compared with full precision."""
    min_holdout: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 50
    """Smallest number of holdout samples with which the gate may refuse a version because of its accuracy."""
    accuracy_tolerance: Annotated[float, Ge(0), Le(1)] = 0.02
    """Largest loss of holdout accuracy of a version against its parent and against the anchor, in [0, 1]."""
    max_negative_flips: Annotated[float, Ge(0), Le(1)] = 0.05
    """Largest share of negative flips: holdout samples that the parent predicts rightly and the version does not. As
    many flips as a quarter of the parent's errors are always allowed. On CLINC150 the share is up to 0.01."""
    max_head_update: Annotated[float, Gt(0), Le(1_000_000), INTERNAL] = 5.0
    """Largest change of the head in one version, relative to its norm before. On CLINC150 the change is up to 0.9."""
    max_top_update: Annotated[float, Gt(0), Le(1_000_000), INTERNAL] = 0.5
    """Largest change of the trained blocks in one version, relative to their norm before. On CLINC150 the change is up
    to 0.04."""
    max_refusals: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 50
    """Refusals in a row after which the learner rolls back to the published version and sets aside the labels since."""
    min_parity_cosine: Annotated[float, Ge(-1), Le(1), INTERNAL] = 0.98
    """Lowest mean cosine between the embeddings of the served precision and of full precision."""
    min_parity_agreement: Annotated[float, Ge(0), Le(1), INTERNAL] = 0.9
    """Lowest share of texts on which both precisions predict the same class."""

    checkpoint_interval_s: Annotated[float, Gt(0), Le(86_400)] = 10.0
    """Time between two checkpoints, and between two syncs to the disk. A version with a new encoder has a checkpoint of
    its own. After a kill, the labels of this time are learnt again from the topics."""
    checkpoints: Annotated[int, Ge(1), Le(1_000), INTERNAL] = 3
    """Number of newest checkpoints to keep, in addition to those of versions that the rollout may return to."""

    def __post_init__(self) -> None:
        domain, base = self.deeper_layers
        require(
            (self.lease_name != "", "learner.lease_name must have a name"),
            (
                self.holdout_samples >= self.min_holdout,
                f"learner.holdout_samples must be at least {self.min_holdout}, or accuracy would never refuse",
            ),
            (
                domain == 0 or domain > self.trainable_layers > 0,
                "the first of learner.deeper_layers must be more than learner.trainable_layers, which must be at least "
                "1; or 0",
            ),
            (
                base == 0 or base > max(self.trainable_layers, domain) > 0,
                "the second of learner.deeper_layers must be more than the first one and more than "
                "learner.trainable_layers, which must be at least 1; or 0",
            ),
            (
                self.drift_delta > 0 or not any(self.deeper_layers),
                "learner.deeper_layers needs drift detection: set learner.drift_delta above 0, or both numbers to 0",
            ),
        )

    @property
    def tiers(self) -> tuple[int, int, int]:
        """The numbers of top blocks that a slow round trains in the tiers task, domain and base."""
        domain = max(self.trainable_layers, self.deeper_layers[0])
        return self.trainable_layers, domain, max(domain, self.deeper_layers[1])

    @property
    def replay_bytes(self) -> int:
        """The most bytes of texts and keys in the replay buffer."""
        return max(MIN_REPLAY_BYTES, SAMPLE_BYTES * self.replay_samples)

    @property
    def deepest_layers(self) -> int:
        """The number of top blocks that any slow round may train; all others are frozen."""
        return self.tiers[-1]

    def limited_to(self, max_layers: int | None) -> "LearnerConfig":
        """Returns the settings for an encoder whose slow rounds train at most `max_layers` top blocks (None: any)."""
        if max_layers is None:
            return self
        return replace(self, trainable_layers=min(self.trainable_layers, max_layers), deeper_layers=(0, 0))

    @property
    def deepest_setting(self) -> str:
        """The setting behind `deepest_layers`, for error messages: `learner.trainable_layers is 4`."""
        name = "trainable" if self.deepest_layers == self.trainable_layers else "deeper"
        return f"learner.{name}_layers is {self.deepest_layers}"
