"""The learner's state on disk, and how a learner continues from it.

    snapshot     the learner's whole state as one value, and its encoding
    checkpoints  the files of snapshots (atomic, fenced by epochs, pruned), and journals of the samples since a snapshot
    shared       copies the newest checkpoint, sealed, to an address where a standby on another machine can read it
    lineage      records what a version was made from: rounds and changes of labels, from which it can be rebuilt
    parts        makes the parts of the state from the settings, empty or restored from a checkpoint

Entry points: `Learner.export`, `Learner.restore` and `Checkpoints`. Later releases must be able to read a checkpoint
file.
"""
