"""What crosses a process boundary (records, messages, the Kafka and Redis clients), and parts that processes share.

Imports no other room, torch or ray.

    client -> envelope (record <-> message) <-> bus (Kafka)       records -> signed -> store (Redis)

records/     every record that crosses a process, with its topic or key
bus/         the Kafka client: topics, publisher, consumer groups, followers       store/   the Redis client
envelope     records as messages, and what is refused of them       message   a message, its place and its value
letters      dead letters of what is refused                        timestamps   times of records, and the clock
mapping      foreign messages as our records                        registry   messages whose schema lies in a registry
features     numbers and categories of an event                     tasks   which tasks an event is for
events       which answer a label is about                          receipts   proof that an answer was given
kinds        a label as one string, whatever its kind               label_set   what labels mean now, and their settings
plugins      the implementations of a door, by name                 recent   which names occurred recently
draws        which arm answers an entity, which events are drawn    rate_limits   token buckets, bounds on label sources
keyring      the keys of a program, and keyed digests of subjects
config       the settings of the clients                            sections   what all settings are made with
metrics      what Prometheus is told                                traces   spans of an event, its answer, its label
errors, logs                       exceptions, and the logging of every process
files, threads, backoff            atomic writes and owners of folders, background threads, pauses between attempts

Other rooms use `wire.bus`, `wire.store`, `wire.records` and the modules of this folder. They import neither kafka nor
redis, and nothing from inside `wire/bus` or `wire/store` besides what those two export and `wire.store.signed`.
"""
