"""The learner's state on disk, and how a learner continues from it.

    snapshot     the learner's whole state as one value, and its encoding
    checkpoints  the files of snapshots: atomic, fenced by epochs, pruned; and their journals of the samples since
    shared       copies the newest checkpoint, sealed, to an address where a standby on another machine finds it
    lineage      the slow rounds that the knowledge came from
    parts        makes the memories and windows, empty or restored

From outside: `Learner.export` and `restore`, and `Checkpoints`. Later releases must be able to read a checkpoint file.
"""
