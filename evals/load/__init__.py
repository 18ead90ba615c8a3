"""A load generator and its books: plays a stream on a running service and computes the figures of the run.

session.py    assembles the participants and runs them side by side; `play` is the door
player.py     sends the events, and waits after each stage until what was taught is served
labeller.py   sends each label some seconds after its answer; outbox.py notices what the broker refuses
watcher.py    polls the store; ledger.py records what was sent, answered and labelled
score.py, figures.py, curve.py    turn the records into figures
mixed.py      computes every answer again by the version that it names
oracle.py     replays the run for a learner that knows each label at once
"""
