"""Everything that can fail, fails, under load; and an oracle of its own counts what was lost.

    seed --draw--> faults --> a scene (`lifelong up`, or the three programs behind Toxiproxy)
    load (events by Kafka and HTTP, labels some seconds later) --> the scene --> topics, reports, checkpoint
    ledger, topics, learner's counts --oracle--> verdict --> rows

The oracle believes nobody: every event and every label has a number, and when all is over the topics are read from
their beginning. Each event must be answered, or be in a dead letter; each label must have met one end that the learner
counts; and the weights must be those, to the bit, of a learner that nobody disturbed.
"""
