"""Every record that crosses a process boundary, with its topic or key.

    client --Event--> serving --Answer--> client, learner
    client --Feedback--> learner --WeightManifest + blobs--> serving --ReplicaReport--> rollout
    rollout --RolloutPlan--> serving          any process that refuses a message --DeadLetter--> operator
    learner --LearnerReport, Quarantined--> operator          rollout --ControllerReport--> operator
    operator --Command: Erase, LabelCommand, EncoderOffer, Repair--> learner --CommandOutcome--> operator
    operator --LabelCommand--> replicas, rollout                                   page --AdminAction--> operator

topics      the records of Kafka topics, the bounds of their texts, and a reader's position in a log
weights     versions of the weights, and encoders that operators offer to the learner
commands    the commands of operators, and their outcomes
plans       the rollout plan, and the decisions about it
reports     the reports of replicas, learner and controller
schemas     the JSON Schemas of the records that clients read and write
record      the base class

Other rooms import all records from here. Only `schemas` is imported by its own name, because clients do not need it.

Schema evolution: a new field must have a default value, and needs no new topic. If the meaning or the type of a field
changes, this makes a new record under a new topic (`events.v2`). Readers of topics ignore unknown fields. The reader of
manifests refuses an unknown `format`, `format_version` or `model_spec`, because wrong weights are worse than none.

Rejected: a schema registry for our own records (the names of topics have versions, and a single machine needs no
registry).
"""

from wire.inputs import MAX_EVENT_BYTES
from wire.records.commands import (
    Command,
    CommandBody,
    CommandEntry,
    CommandOutcome,
    Erase,
    LabelAction,
    LabelChange,
    LabelCommand,
    Repair,
)
from wire.records.plans import (
    ADDITIVE,
    CANDIDATE,
    NEWEST,
    NOT_WORSE,
    STABLE,
    STAND_IN,
    SUPERIOR,
    Action,
    Arm,
    Decision,
    RolloutPlan,
)
from wire.records.record import ArmName, Record, key_name
from wire.records.reports import (
    LABEL_TO_LIVE_BOUNDS_MS,
    LATENCY_BOUNDS_MS,
    TOLERATED_SLOWDOWN,
    ArmAccuracy,
    Confusion,
    ControllerReport,
    Drift,
    LabelRate,
    LearnerReport,
    Promise,
    ReplicaReport,
    VersionHealth,
)
from wire.records.topics import (
    MAX_TEXT_CHARS,
    MAX_TEXT_TOKENS,
    TOPIC_RECORDS,
    AdminAction,
    Answer,
    DeadLetter,
    Event,
    Feedback,
    LogMark,
    LogMarks,
    Quarantined,
    TaskAnswer,
    TextVector,
    TopicRecord,
    text_chars,
    topic_name,
)
from wire.records.weights import (
    CLASSES,
    MAX_NEW_CLASSES,
    PSEUDO_LABELS,
    TIERS,
    Certainty,
    CohortEvaluation,
    ConceptChange,
    EncoderOffer,
    Evaluation,
    HeadSolution,
    LabelSpace,
    Lineage,
    NameChanges,
    NewClass,
    PrecisionEvaluation,
    Probe,
    Round,
    RoundKind,
    TensorEntry,
    TensorPart,
    VersionEntry,
    WeightManifest,
)

__all__ = [
    "ADDITIVE",
    "CANDIDATE",
    "CLASSES",
    "LABEL_TO_LIVE_BOUNDS_MS",
    "LATENCY_BOUNDS_MS",
    "MAX_EVENT_BYTES",
    "MAX_NEW_CLASSES",
    "MAX_TEXT_CHARS",
    "MAX_TEXT_TOKENS",
    "NEWEST",
    "NOT_WORSE",
    "PSEUDO_LABELS",
    "STABLE",
    "STAND_IN",
    "SUPERIOR",
    "TIERS",
    "TOLERATED_SLOWDOWN",
    "TOPIC_RECORDS",
    "Action",
    "AdminAction",
    "Answer",
    "Arm",
    "ArmAccuracy",
    "ArmName",
    "Certainty",
    "CohortEvaluation",
    "Command",
    "CommandBody",
    "CommandEntry",
    "CommandOutcome",
    "ConceptChange",
    "Confusion",
    "ControllerReport",
    "DeadLetter",
    "Decision",
    "Drift",
    "EncoderOffer",
    "Erase",
    "Evaluation",
    "Event",
    "Feedback",
    "HeadSolution",
    "LabelAction",
    "LabelChange",
    "LabelCommand",
    "LabelRate",
    "LabelSpace",
    "LearnerReport",
    "Lineage",
    "LogMark",
    "LogMarks",
    "NameChanges",
    "NewClass",
    "PrecisionEvaluation",
    "Probe",
    "Promise",
    "Quarantined",
    "Record",
    "Repair",
    "ReplicaReport",
    "RolloutPlan",
    "Round",
    "RoundKind",
    "TaskAnswer",
    "TensorEntry",
    "TensorPart",
    "TextVector",
    "TopicRecord",
    "VersionEntry",
    "VersionHealth",
    "WeightManifest",
    "key_name",
    "text_chars",
    "topic_name",
]
