"""Reads events from Kafka and sends answers and dead letters to it.

`intake` owns the subscription, `dedupe` admits each event once, and `delivery` chooses the way of its result: by
transactions (`exactly_once`), or by the outbox. `outbox` sends in a thread of its own: `sending` says when, in which
order and after which back-off. `http_answers` keeps answers by HTTP in a `spool`, a queue in files, of which a
`segment` is one file.
"""
