"""Reads events from Kafka and sends answers and dead letters to it.

`intake` owns the subscription, `dedupe` admits each event once. A result leaves by the `outbox`, in a thread of its
own, or in a transaction (`exactly_once`). The `spool` keeps answers by HTTP on disk until the broker has them.
"""
