"""A load generator and its books: plays a stream on a running service and computes the figures of the run.

session.py    assembles the participants and runs them side by side; `play` is the door
player.py     sends the events, and waits after each stage until what was taught is served
sender.py, reader.py, asker.py    to the service and back: what is sent arrives, whatever happens to the broker
labeller.py   sends each label some seconds after its answer
watcher.py    polls the store; ledger.py records what was sent, answered and labelled; readback.py reads the topics
score.py, figures.py, curve.py    turn the records into figures
mixed.py      computes every answer again by the version that it names
oracle.py     replays the run for a learner that knows each label at once

The chaos of `bench/chaos/` sends, reads, asks and labels by the same, and has a judge of its own.
"""
