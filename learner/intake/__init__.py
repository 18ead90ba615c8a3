"""Intake: turns two Kafka topics without a common order into one sequence of trusted samples.

    broker --consumer: pauses the topic that is far ahead--> records --erasures: drops records of erased subjects-->
        --join: matches answers and labels in two windows--> samples --trust, flips--> samples to learn
                 '--label whose answer has left its window--> late_labels <--answer_finder: finds the answer, and sends
                 |                                                          the label again
                 '--refused or quarantined label--> outbox: sent at least once

`Consumer.poll` reads records. `Join.match` makes samples of them, and asks `LabelTrust` about each. The learner owns
one object of each class. Its checkpoint contains their states.
"""
