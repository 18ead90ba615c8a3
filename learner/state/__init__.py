"""What a learner writes down, and how it goes on from that.

    snapshot     everything that a learner knows as one value, and its bytes
    checkpoints  the files: atomic, fenced by epochs, pruned; their journals, of what was learnt since
    shared       the newest of them, sealed, at an address where a standby on another machine finds it
    lineage      the rounds that the knowledge came from
    parts        the memories by the settings, empty or restored

From outside: `Learner.export` and `restore`, and `Checkpoints`. A checkpoint file is read by later releases.
"""
