"""Makes everything fail that can fail, under load, while a judge of its own counts what is lost.

    seed --draw--> faults --> a scene (`lifelong up`, or the three programs behind Toxiproxy)
    load (events by Kafka and HTTP, labels some seconds later) --> the scene --> topics, reports, checkpoint
    ledger, topics, learner's counters --judge--> verdict --> rows

The judge trusts no component: every event and every label has a number, and when all is over the topics are read from
their beginning. Each event must be answered, or be in a dead letter; each label must be in exactly one of the learner's
counters; and the weights must equal, bit for bit, those of a learner that was not disturbed (recomputed.py).

    play.py       one scene from start to verdict; rows.py plays all, as programs (__main__.py), and makes the rows
    up.py, apart.py    the scenes (protocol, and API keys: scene.py) with programs.py, sandbox.py, toxiproxy.py
    faults.py     what goes wrong     injection.py    draws it, one fault after the other     size.py    how much of it
    power.py      the power of a scene's machine; synced.c, synced.py    what a cut leaves, and what it takes
    maintenance.py, attacker.py    what an operator does amid it; a client with one API key that tries what it may not
    running.py    the load (evals/load) beside the scene, with the heartbeats in the store; ledger.py records it
    judge.py      what is wrong with what the topics hold
    recomputed.py    whether the version that an answer names gives it, and whether weights are those of a learner that
                     was not disturbed

`bench.chaos.rows` is the door; tests of other rooms also use toxiproxy.py, faults.py, programs.py and sandbox.py.
"""
