"""The settings of the learner: its windows, memory and pace, and what it refuses to publish."""

import re
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeAlias, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from wire.config import SECTION, TrustConfig, require
from wire.sections import INTERNAL, decoded

SlowStrategy: TypeAlias = Literal["naive", "er", "er-ace", "der++", "der-ace", "a-gem", "lwf"]

IMPORT_PATH = re.compile(
    r"(?P<path>avalanche-[\w-]+|[^\W\d]\w*(?:\.\w+)*(?::\w+|\.[A-Z]\w*))(?:\((?P<arguments>.*)\))?"
)
"""The path of a strategy or plugin of Avalanche, with its arguments; see `learner.rounds.avalanche`.

After a dot, the name of the class begins with a capital: so `er.ace`, a misspelt `er-ace`, is no path.
"""


def is_import_path(strategy: str) -> bool:
    """Whether a strategy is named by its import path.

    >>> is_import_path("der++"), is_import_path("avalanche-replay"), is_import_path("my.own:Strategy")
    (False, True, True)
    """
    return "avalanche-" in strategy or ":" in strategy or "." in strategy


def _is_strategy(name: str) -> str:
    if name not in get_args(SlowStrategy) and not (is_import_path(name) and IMPORT_PATH.fullmatch(name)):
        names = ", ".join(get_args(SlowStrategy))
        raise ValueError(f"it is none of {names}, and no path such as avalanche.training.plugins:LwFPlugin(alpha=1.0)")
    return name


StrategyName: TypeAlias = Annotated[
    str,
    AfterValidator(_is_strategy),
    WithJsonSchema({"anyOf": [{"type": "string", "enum": [*get_args(SlowStrategy)]}, {"type": "string"}]}),
]
ReplayPolicy: TypeAlias = Literal["reservoir", "class-balanced", "experience-balanced"]

MIN_FEATURES, MAX_FEATURES = 16, 16_384  # the bounds of `learner.num_features`, also where an encoder is offered
MAX_SEED = (1 << 32) - 1
"""The largest seed that every random generator here accepts."""
Seed: TypeAlias = Annotated[int, Ge(0), Le(MAX_SEED)]
MIN_REPLAY_BYTES = 16 << 20
SAMPLE_BYTES = 838
"""The replay memory has so many bytes for each sample, and MIN_REPLAY_BYTES at least."""

NumLayers: TypeAlias = Annotated[int, Ge(0), Le(1_000)]
DeeperLayers: TypeAlias = Annotated[tuple[NumLayers, NumLayers], BeforeValidator(decoded)]
LeaseTtlMs: TypeAlias = Annotated[int, Ge(300), Le(600_000)]


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerConfig:
    """Holds the settings of the learner. Whatever grows with the stream has its bound here."""

    __pydantic_config__ = SECTION

    state_dir: str = ""
    """Folder of the checkpoints. Default: `learner` in the state folder."""
    checkpoint_url: str = ""
    """Address at which the newest checkpoint is kept, too, so that a standby on another machine goes on from it:
    `file:///mnt/shared/learner`, or what fsspec has a package for, such as `s3://bucket/learner` (with s3fs), whose
    account comes from its environment. Empty: a standby needs the same `state_dir`."""
    seed: Annotated[Seed, INTERNAL] = 0
    """Seed of the random features, of the replay memory and of the mini-batches."""
    threads: Annotated[int, Ge(1), Le(1_024)] = 1
    """Number of CPU threads of the tensor library for labels; as many for slow work, and to help with a backlog."""
    niceness: Annotated[int, Ge(0), Le(19), INTERNAL] = 10
    """Added to the nice value of the threads that do slow work and help with a backlog: where they share a processor,
    answering and learning from labels have priority over them."""

    lease_name: Annotated[str, INTERNAL] = "learner"
    """Name of the lease in the store; one learner at a time holds it."""
    lease_ttl_ms: Annotated[LeaseTtlMs, INTERNAL] = 5_000
    """A leader that does not renew the lease for this long loses it. It renews three times in this time."""
    poll_timeout_ms: Annotated[int, Ge(1), Le(1_000), INTERNAL] = 50
    """Longest time that one poll waits for records. An idle learner checks its timers after each poll."""
    retry_backoff_ms: Annotated[int, Ge(1), Le(60_000), INTERNAL] = 500
    """Pause before a failed write of a checkpoint, or an unreachable store, is tried again."""

    pending_bytes: Annotated[int, Ge(1 << 20), Le(1 << 40)] = 128 << 20
    """Bytes of memory for answers that wait for their label: texts, ids and keys, and 400 for each answer. The oldest
    expires first, and its label is then `late`."""
    parked_bytes: Annotated[int, Ge(1 << 20), Le(1 << 40)] = 64 << 20
    """Bytes of memory for labels that wait for their answer, counted likewise. The oldest expires as an `orphan`."""
    remembered_ids: Annotated[int, Ge(1), Le(100_000_000), INTERNAL] = 100_000
    """Number of events remembered as already labelled, and as many remembered as expired, by hashes."""
    max_label_chars: Annotated[int, Ge(1), Le(10_000), INTERNAL] = 200
    """Longest label, in characters."""
    trust: TrustConfig = TrustConfig()
    """The checks that decide whether a label is trusted."""
    label_capacity: Annotated[int, Ge(2), Le(65_536)] = 16_384
    """Most classes. Memory, checkpoints and heads grow with the classes that are known. When there are so many, a new
    class replaces the provisional class that has the fewest labels, once it has more labels than that class."""
    class_min_labels: Annotated[int, Ge(1), Le(100_000), INTERNAL] = 10
    """A class with this many labels keeps its row whatever comes; with fewer it is provisional."""

    learn_names: bool = True
    """Whether the words of a class's name are its first sample. Switch it off where names are codes."""
    holdout_share: Annotated[float, Ge(0), Le(0.5)] = 0.08
    """Share of the labelled events that is the holdout: never learnt, only measured on, chosen by its hash. With fewer
    samples, fewer encoders that are better are shown to be."""
    holdout_samples: Annotated[int, Ge(1), Le(1_000_000)] = 2_000
    """Number of holdout samples that are kept, the same of every class."""
    replay_samples: Annotated[int, Ge(0), Le(10_000_000)] = 20_000
    """Number of samples in the replay memory. 0: no slow round is ever due. Their texts, and the keys of their events,
    have 838 bytes for each, and 16 MiB at least."""
    replay_policy: ReplayPolicy = "class-balanced"
    """What has an equal share of the memory: every sample seen (`reservoir`), every class, or every
    experience, which lasts from one slow round to the next."""

    num_features: Annotated[int, Ge(MIN_FEATURES), Le(MAX_FEATURES)] = 2_048
    """Number of random features of the fast head (R). 2,048 give 94.3 % on CLINC150, 1,024 give 93.3 %, 4,096 give
    95.0 %."""
    ridge: Annotated[float, Gt(0), Le(1_000), INTERNAL] = 0.01
    """Ridge penalty as a share of the mean diagonal of the feature sums of 30,000 samples or more."""

    head: str = ""
    """Import path of a class of yours that makes weights of the sums of what was learnt, with its arguments, as
    `mine:NearestMean(shrink=0.1)` (docs/own-model.md). Empty: the ridge head, which every label updates."""
    recent_labels: Annotated[int, Ge(0), Le(64)] = 8
    """Number of newest labels of a class whose mean is compared with that of all its labels: where it names texts
    better, the class means something else now. 0: concepts do not change. At most 16,384 of all classes are held."""

    trainable_layers: Annotated[int, Ge(0), Le(1_000)] = 2
    """Number of top blocks of the encoder that slow rounds train: the task tier. 0: the encoder is frozen."""
    deeper_layers: DeeperLayers = (0, 0)
    """Numbers of top blocks that a round trains after texts came from elsewhere, the domain tier, and from far away,
    the base tier. 0: no more than the tier before."""
    slow_every_labels: Annotated[int, Ge(1), Le(100_000_000)] = 500
    """Number of labels between the starts of two slow rounds; a tenth of the replay memory where that is more, or as
    many as came before the last round and are not in the memory."""
    slow_labels_per_step: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 32
    """Number of labels for each gradient step of a round. Fewer labels cost more: a step of 32 samples takes about
    60 ms of one core."""
    slow_batch: Annotated[int, Ge(8), Le(65_536), INTERNAL] = 32
    """Batch size of a gradient step: half from the labels since the last round, half from the replay memory, or all
    from the labels under a strategy that does not use the memory."""
    slow_strategy: StrategyName = "er"
    """The continual-learning strategy of a gradient step (see learner/rounds/strategies.py), or the import path of a
    `lifelong.Strategy` of yours, or of a strategy or plugin of Avalanche, with its arguments:
    `avalanche.training.supervised:EWC(ewc_lambda=0.4)`."""
    slow_loss_q: Annotated[float, Ge(0), Le(1), INTERNAL] = 0.5
    """Exponent q of the generalized cross-entropy. 0 is cross-entropy. Towards 1, wrong labels pull less, and rare
    classes are learnt more slowly. CLINC150 with every fifth label wrong: see docs/benchmarks.md."""
    slow_token_dropout: Annotated[float, Ge(0), Lt(1), INTERNAL] = 0.15
    """Share of its tokens that a text is trained without (token dropout), drawn anew in every step."""
    slow_rate: Annotated[float, Gt(0), Le(1)] = 3e-4
    """Learning rate of the trainable blocks at the start of a round; the auxiliary head learns ten times as fast."""
    slow_weight_decay: Annotated[float, Ge(0), Le(1), INTERNAL] = 0.01
    """Decoupled weight decay of the trainable blocks."""
    max_gradient_norm: Annotated[float, Gt(0), Le(1_000_000), INTERNAL] = 1.0
    """Gradients with a larger norm are clipped to this norm."""
    rehearse_after_s: Annotated[float, Ge(0), Le(86_400)] = 5.0
    """Time without a label after which a slow round rehearses the memory, if there are new labels. 0: never."""
    rehearsal_passes: Annotated[int, Ge(1), Le(1_000), INTERNAL] = 2
    """Number of passes of a rehearsal over the memory, and of a round on unlabelled texts over these."""
    rehearsal_steps: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 200
    """Smallest number of gradient steps of a rehearsal; a small memory gets more passes."""
    learn_unlabelled: bool = True
    """Whether two more rounds train the encoder on pseudo-labels of answered texts that wait for a label, where there
    are at least twice as many such texts as samples in memory. A few labels then go further: see docs/benchmarks.md."""
    pseudo_label_texts: Annotated[int, Ge(1), Le(10_000_000), INTERNAL] = 20_000
    """Number of texts of such a round; they are the newest that wait for a label."""
    trial_labels: Annotated[int, Ge(0), Le(100_000_000), INTERNAL] = 1_000
    """Most labels for which an encoder that a round has made is tried beside the one in use, where the holdout is too
    small to tell. An encoder that is not better then is dropped. 0: there is no trial."""
    rebuild_batch: Annotated[int, Ge(1), Le(65_536), INTERNAL] = 64
    """Number of texts that are encoded in one unit of work while the fast head is rebuilt."""

    drift_delta: Annotated[float, Ge(0), Lt(1)] = 0.01
    """Significance at which ADWIN reports a rise of errors or distances as drift. 0: drift is not detected."""
    drift_min_labels: Annotated[int, Ge(1), Le(100_000_000), INTERNAL] = 100
    """Number of labels that a slow round needs after drift, where `slow_every_labels` would need more."""

    publish_interval_s: Annotated[float, Ge(0), Le(86_400)] = 0.2
    """Shortest time between two versions, except for the first after drift. No new version comes without new labels.
    One takes some 30 ms of a core; with thousands of classes seconds, and twice as long labels are learnt alone."""
    verify_blobs_every_s: Annotated[float, Ge(0), Le(31_536_000), INTERNAL] = 3_600.0
    """Time between two checks that read all weights of the current version back from the store. Damaged ones are
    written again. 0: only those that a replica reports."""
    probes: Annotated[int, Ge(1), Le(1_000), INTERNAL] = 4
    """Number of probe texts in a manifest."""
    parity_texts: Annotated[int, Ge(1), Le(100_000), INTERNAL] = 64
    """Number of texts on which the served precision is compared with full precision."""
    min_holdout: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 50
    """Smallest number of holdout samples on which accuracy may refuse a version."""
    accuracy_tolerance: Annotated[float, Ge(0), Le(1)] = 0.02
    """How much lower than its parent's or the anchor's the holdout accuracy of a version may be, in [0, 1]."""
    max_negative_flips: Annotated[float, Ge(0), Le(1)] = 0.05
    """Largest share of negative flips: holdout samples that the parent named rightly and a version does not, or a
    quarter of its wrong ones, where that is more. CLINC150: up to 0.01."""
    max_head_update: Annotated[float, Gt(0), Le(1_000_000), INTERNAL] = 5.0
    """Largest change of the head in one version, relative to its norm before. CLINC150: up to 0.9."""
    max_top_update: Annotated[float, Gt(0), Le(1_000_000), INTERNAL] = 0.5
    """Largest change of the trained blocks in one version, relative to their norm before. CLINC150: up to 0.04."""
    max_refusals: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 50
    """Refusals in a row after which the learner rolls back to the published version and sets aside what it learnt."""
    min_parity_cosine: Annotated[float, Ge(-1), Le(1), INTERNAL] = 0.98
    """Lowest mean cosine between the embeddings of the served precision and of full precision."""
    min_parity_agreement: Annotated[float, Ge(0), Le(1), INTERNAL] = 0.9
    """Lowest share of texts on which both precisions name the same class."""

    checkpoint_interval_s: Annotated[float, Gt(0), Le(86_400)] = 10.0
    """Time between two checkpoints, and between two that are synced to the disk. A version with a new encoder has a
    checkpoint of its own. After a kill, what was learnt in this time is learnt again from the topics."""
    checkpoints: Annotated[int, Ge(1), Le(1_000), INTERNAL] = 3
    """Number of newest checkpoints that are kept, besides those of the versions that the rollout may return to."""

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
        """Number of top blocks that a slow round trains in the tiers task, domain and base."""
        domain = max(self.trainable_layers, self.deeper_layers[0])
        return self.trainable_layers, domain, max(domain, self.deeper_layers[1])

    @property
    def replay_bytes(self) -> int:
        """Most bytes of text, and of the keys of events, in the replay memory."""
        return max(MIN_REPLAY_BYTES, SAMPLE_BYTES * self.replay_samples)

    @property
    def deepest_layers(self) -> int:
        """Number of top blocks that any slow round may train; all others are never trained."""
        return self.tiers[-1]

    def limited_to(self, max_layers: int | None) -> "LearnerConfig":
        """Returns the settings for an encoder whose slow rounds train at most `max_layers` top blocks (None: any)."""
        if max_layers is None:
            return self
        return replace(self, trainable_layers=min(self.trainable_layers, max_layers), deeper_layers=(0, 0))

    @property
    def deepest_setting(self) -> str:
        """The setting that says so, as in an error message: `learner.trainable_layers is 4`."""
        name = "trainable" if self.deepest_layers == self.trainable_layers else "deeper"
        return f"learner.{name}_layers is {self.deepest_layers}"
