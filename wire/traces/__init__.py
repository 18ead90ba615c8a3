"""The trace of an event: its answer, its label, and the first version that has learnt it (OpenTelemetry).

    traceparent of the event --record--> span of the answer --its traceparent, in the answer's message--> span of the
    label, and of the version that is published with it (learner); of the first answer that knows it (rollout)

catalogue   every span: its name, and its attributes
exporter    makes spans, and sends them by OTLP from a thread of the SDK
answers     the traces of answers, until their labels come

Where no endpoint is set, nothing here does anything, and the SDK is not loaded. Only this package imports it.
"""

from wire.traces.exporter import exported, is_on, record, require

__all__ = ["exported", "is_on", "record", "require"]
