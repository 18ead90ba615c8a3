"""A load generator: plays a stream on a running service, records the run, and computes its figures.

session.py    creates the participants and runs them in parallel; `play` is the entry point
player.py     sends the events, and waits after each stage until its labels are learnt and served
sender.py     sends records to Kafka, reader.py reads them; both survive outages of the broker
asker.py      asks for answers by HTTP
labeller.py   sends each label some seconds after its answer
watcher.py    polls the store
ledger.py     records which events were sent, answered and labelled
readback.py   reads the topics from their beginning after the run
score.py, figures.py, curve.py    compute the figures from these records
mixed.py      recomputes every answer with the version that it names
oracle.py     replays the run for a learner that knows each label immediately

The chaos tests in `bench/chaos/` use the same senders, readers, askers and labellers, with a judge of their own.
"""
