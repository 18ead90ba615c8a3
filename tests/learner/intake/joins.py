"""Joins whose windows are small, and the answers and labels that the tests match in them."""

from dataclasses import dataclass

from learner.config import LearnerConfig
from learner.intake.join import Join, JoinState, LabelNames
from learner.intake.trust import LabelTrust
from learner.samples import OVERHEAD, HoldoutDraw, Sample
from tests.wire.samples import VERDICTS
from wire.config import LabelConfig, TrustConfig
from wire.label_set import LabelSet
from wire.receipts import Receipts
from wire.records import Answer, Feedback

RECEIPTS = Receipts(b"a key for tests")


def make_join(
    state: JoinState | None = None,
    trust: LabelTrust | None = None,
    *,
    pending: int = 4,
    parked: int = 3,
    remembered: int = 50,
) -> Join:
    """Returns a join whose windows hold so many small answers and labels, and which remembers so many events."""
    bounds = {"pending_bytes": pending * (OVERHEAD + 60), "parked_bytes": parked * (OVERHEAD + 162)}
    config = LearnerConfig(holdout_share=0.0, remembered_ids=remembered, **bounds)  # type: ignore[arg-type]
    return Join(config, trust or make_trust(), label_names(config), state)


@dataclass
class Known:
    """What a learner knows of labels."""

    config: LearnerConfig
    labels: LabelSet
    classes: frozenset[str] = frozenset()


def label_names(config: LearnerConfig, labels: LabelConfig | None = None) -> LabelNames:
    known = Known(config, LabelSet(labels or LabelConfig()))
    return LabelNames(lambda: known, HoldoutDraw(config.holdout_share))


def make_trust(**limits: float) -> LabelTrust:
    trust = TrustConfig(**limits)  # type: ignore[arg-type]
    return LabelTrust(LearnerConfig(max_label_chars=20, trust=trust), receipts=RECEIPTS)


def answer(
    event_id: str, text: str = "a text", label: str | None = "yes", *, source: str = "", key: str = "", time_ms: int = 0
) -> Answer:
    return Answer(
        event_id=event_id,
        text=text,
        label=label,
        score=0.5,
        weights_version=3,
        arm="stable",
        precision="int8",
        rollout_revision=1,
        source=source,
        key=key,
        time_ms=time_ms,
        receipt=RECEIPTS.of(event_id, time_ms=time_ms, entity=key if key else event_id, verdicts=VERDICTS),
    )


def label(
    event_id: str,
    value: str = "yes",
    source: str = "",
    receipt: str = "",
    event_source: str | None = None,
    text: str = "",
) -> Feedback:
    return Feedback(
        event_id=event_id,
        label=value,
        source=source,
        time_ms=17,
        receipt=receipt,
        event_source=event_source,
        text=text,
    )


def label_of(answered: Answer, value: str = "yes", *, event_source: str | None = None) -> Feedback:
    """Returns the label of an answer, with its receipt."""
    return Feedback(
        event_id=answered.event_id,
        label=value,
        key=answered.key,
        source="desk",
        time_ms=17,
        receipt=answered.receipt,
        event_source=event_source,
    )


def pairs(samples: list[Sample]) -> list[tuple[str, str]]:
    return [(sample.text, sample.label) for sample in samples]


def num_outcomes(join: Join) -> int:
    """Returns how many labels have an outcome, or are parked."""
    num_final = sum(join.counts[name] for name in ("matched", "late", "duplicate", "orphan", "correction"))
    num_distrusted = sum(num for name, num in join.counts.items() if name.startswith(("refused_", "quarantined_")))
    return num_final + num_distrusted + join.num_parked
