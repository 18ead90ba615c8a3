"""Intake: turns two Kafka topics without a common order into one sequence of trusted samples.

    broker --consumer: pauses the topic that is far ahead--> records --erasures: drops erased subjects-->
        --join: answer and label, in two windows bounded in bytes--> samples --trust, flips--> samples to learn
                 '--the answer has left its window--> late_labels <--answer_finder: finds it, sends the label again
                 '--refused, quarantined--> outbox: sent at least once

`Consumer.poll` reads records; `Join.match` makes samples of them and asks `LabelTrust`. The learner owns one object of
each class, and its checkpoint holds the state of each.
"""
