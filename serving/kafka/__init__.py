"""Reads events from Kafka and sends answers and dead letters to it.

`intake` owns the subscription, and `dedupe` admits each event once. Results leave through the `outbox`, which has its
own thread, or in a transaction (`exactly_once`). The `spool` keeps HTTP answers on disk until the broker has them.
"""
