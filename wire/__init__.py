"""What crosses a process boundary (records, messages, the Kafka and Redis clients), and parts that processes share.

Imports no other room, torch or ray.

    client -> envelope (record <-> message) <-> bus (Kafka)       records -> signed -> store (Redis)

records/     every record that crosses a process, with its topic or key
bus/         the Kafka client: topics, publisher, consumer groups, followers       store/   the Redis client
envelope     records as messages (`message`, `timestamps`, `structured`)   letters   dead letters of what is refused
mapping/     foreign messages as our records                       registry/   messages whose schema lies in a registry
values       values of messages as JSON objects
features     numbers and categories of an event                  field_checks   what is refused of a record
finished     which offsets may be committed                        events    which answer a label is about
keyring/     the keys of a program: what it signs with, and what it accepts
receipts     proof that an answer was given                        subjects  keyed digests of data subjects
admin_log    the chain of what operators did
tasks        which tasks an event is for, and what of the topics a task reads
label_set    what labels mean now, and which may be learnt (label_config: its settings)
targets      a label as one string, a class or a set of them   agreement whether an answer that names a set is right
sources      rate limit and share cap of label sources             rollout   which arm answers an entity
config, bus_config, sections  settings, and what their sections are made with
errors, clock, logs           exceptions, the clock and the logging of every process
printable                     strings of others as they are shown
metrics/     what Prometheus is told                       traces/    the spans of an event, its answer and its label
files, threads, token_bucket, backoff   atomic writes, background threads, rate limits, pauses between attempts
recent       which names occurred recently                       folder_owner   whose state is in a folder

Other rooms use `wire.bus`, `wire.store`, `wire.records` and the modules of this folder. They import neither kafka nor
redis, and nothing from inside `wire/bus` or `wire/store` besides what those two export and `wire.bus.scan`.
"""
