"""Everything that crosses a process boundary (records, messages, the Kafka and Redis clients), and shared parts.

This package imports no other room, neither torch nor ray.

    client -> envelope (record <-> message) <-> bus (Kafka)       records -> signed -> store (Redis)

records/     every record that crosses a process boundary, with its topic or key
bus/         the Kafka client: topics, publisher, consumer groups, followers       store/   the Redis client
envelope     records as messages, and reasons to refuse messages    message   a message, its place and its value
letters      makes dead-letter records of refused messages          timestamps   times of records, and the clock
mapping      foreign messages as our records                        registry   messages with a registered schema
inputs       the content of an event: text, features, parts         tasks   the tasks of a service
events       finds the answer that a label is about                 receipts   proof that the service gave an answer
kinds        labels of any kind, each as one string                 label_set   the classes: renamed, merged, retired
plugins      the registry of plug-ins, by group and name            recent   a bounded set of recent names
draws        traffic split, and random samples of events            rate_limits   token buckets, bounds on label sources
keyring      the keys of a program, and keyed digests of subjects
config       the settings of the clients                            sections   helpers for all sections of settings
metrics      metrics for Prometheus                                 traces   spans of an event, its answer, its label
errors, logs                       exceptions, and the logging of every process
files, threads, backoff            atomic writes and owners of folders, background threads, pauses between attempts

Other rooms import `wire.bus`, `wire.store`, `wire.records` and the modules of this folder. They import neither kafka
nor redis. Of `wire/bus` and `wire/store` they use only the exported names, and `wire.store.signed`.
"""
