"""Intake: from two Kafka topics without a common order to trusted samples in one order.

    broker --consumer: the topic that is far ahead is paused--> records --erasures: erased subjects out-->
        --join: each answer with its label, in two windows bounded in bytes--> samples --trust, flips--> what is learnt
                 '--answer waits no longer--> late_labels <--answer_finder reads the topic, sends the label again
                 '--refused, quarantined--> outbox: sent at least once

`Consumer.poll` reads records, `Join.match` makes samples of them and asks `LabelTrust`. From outside, the learner owns
one object of each kind, and the checkpoint holds the state of each.
"""
