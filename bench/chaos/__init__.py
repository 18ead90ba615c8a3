"""Injects every fault that the service must survive, under load, and counts lost and duplicated records.

    seed --draw--> faults --> a scene (`lifelong up`, or the three programs behind Toxiproxy)
    load (events by Kafka and HTTP, labels some seconds later) --> the scene --> topics, reports, checkpoint
    ledger, topics, learner's counters --judge--> verdict --> rows

The judge trusts no component. Every event and every label has a number, and at the end the topics are read from their
beginning. It checks that

- each event has an answer or a dead-letter record,
- each label is in exactly one of the learner's counters, and
- the weights equal, bit for bit, the weights of an undisturbed learner (recomputed.py).

    play.py       plays one scene from start to verdict
    rows.py       plays all scenes as programs (__main__.py), and makes the rows
    scene.py      the protocol of a scene, and its API keys; up.py and apart.py are the two scenes
    programs.py, sandbox.py, toxiproxy.py    the processes, disk, clocks and connections of a scene
    faults.py     the kinds of faults; injection.py draws and injects them; size.py sets their number
    power.py      cuts the power of a scene's machine; synced.c and synced.py compute what the disk would keep
    maintenance.py    faults that an operator causes by commands
    attacker.py   a client with one API key that attempts forbidden requests
    running.py    runs the load (evals/load) against the scene and watches heartbeats in the store
    ledger.py     records what the load sends and receives
    judge.py      finds lost and duplicated events and labels from the contents of the topics
    recomputed.py    recomputes sampled answers from the versions that they name, and the weights of an undisturbed
                     learner

Other code uses `bench.chaos.rows`; tests of other rooms also use toxiproxy.py, faults.py, programs.py and sandbox.py.
"""
